package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
)

// TestConvert has a JVM broker write a directory, klamm go on with it, and the JVM
// broker after that, for both kinds of KRaft quorums. Each finds every record,
// offset, configuration, group and producer as the one before left it.
func TestConvert(t *testing.T) {
	t.Parallel()
	t.Run("static voters on two directories", func(t *testing.T) {
		t.Parallel()
		thereAndBack(t, systems.JVMLogging, "more")
	})
	t.Run("standalone", func(t *testing.T) {
		t.Parallel()
		thereAndBack(t, systems.JVMStandalone)
	})
}

// thereAndBack takes a directory from a JVM broker to klamm and back. The broker
// may have more log directories than the one with the metadata.
func thereAndBack(t *testing.T, start func(string, ...string) (*systems.Process, error), more ...string) {
	configs := interchangeTopics()
	exact := []string{"i.records", "i.deleted", "i.txn"} // what no cleaner changes
	home := t.TempDir()
	logs := filepath.Join(home, "logs")
	dirs := []string{logs}
	for _, name := range more {
		dirs = append(dirs, filepath.Join(home, name))
	}
	jvmConfigs := []string{"log.dirs=" + strings.Join(dirs, ","), "log.cleaner.backoff.ms=100", "log.initial.task.delay.ms=100", "transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=3"}

	b := begin(t, start, home, jvmConfigs...)
	makeTopics(t, b, configs)
	// Every JVM takes seconds, so that the two cases share what needs one.
	if static := len(more) > 0; static {
		d := javaClient(t, b)
		for _, topic := range []string{"i.records", "i.deleted", "i.compact"} {
			javaFill(t, d, topic, 0, 20)
		}
		javaTransactions(t, d, "i.txn", 0)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		for _, topic := range topicsOf(configs) {
			fill(t, b.Addr, topic, 0, 7)
		}
		nextGeneration(t, b)
	}
	deleteTo(t, b, "i.deleted", 73)
	administer(t, b)
	commitOffsets(t, b, "i.group", 5)
	want := stateOf(t, b, exact)
	b.Stop()
	verified(t, dirs...)

	before := filesBelow(t, home)
	text := refused(t, "start", "--data-dir", strings.Join(dirs, ","), "--override", "node.id=1")
	if strings.Count(text, "\n") != 1 || !strings.Contains(text, "is a log directory of a Kafka broker (KRaft), node 1 of cluster 4L6g3nShT-eMCtK--X86sw: stop that broker, then run 'klamm storage convert --from-kafka") {
		t.Errorf("klamm refuses with %q", text)
	}
	if text := refused(t, "storage", "convert", "--from-kafka", logs); !strings.Contains(text, "it has 1 quotas, which klamm keeps but does not enforce") {
		t.Errorf("convert refuses with %q", text)
	}
	klammRuns(t, "storage", "convert", "--from-kafka", logs, "--unenforced", "quotas", "--dry-run")
	sameFiles(t, filesBelow(t, home), before)
	klammRuns(t, "storage", "convert", "--from-kafka", logs, "--unenforced", "quotas")
	sameFiles(t, filesBelow(t, home), before, "logs/__cluster_metadata-0", "logs/.lock")
	verified(t, dirs...)

	b = begin(t, systems.Klamm, strings.Join(dirs, ","))
	want.compare(t, b)
	if t.Failed() {
		return
	}
	goesOn(t, b, "i.records", want.views["i.records"])
	fill(t, b.Addr, "i.records", 1, 5)
	fill(t, b.Addr, "i.compact", 1, 5)
	fill(t, b.Addr, "i.deleted", 1, 5)
	deleteTo(t, b, "i.deleted", 120)
	makeTopics(t, b, map[string]map[string]*string{"i.born": small()})
	born := fill(t, b.Addr, "i.born", 0, 5)
	setConfig(t, b, kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: ptr("1000000")}, "i.records")
	commitOffsets(t, b, "i.group", 9)
	want = stateOf(t, b, append(exact, "i.born"))
	if err := stop(b); err != nil {
		t.Fatal(err)
	}
	verified(t, dirs...)

	if len(more) > 0 {
		jvmRefuses(t, home)
	}
	klammRuns(t, "storage", "convert", "--to-kafka", logs)
	verified(t, dirs...)
	b = begin(t, start, home, jvmConfigs...)
	for _, topic := range append(topicsOf(configs), "i.born") {
		if err := awaitTopic(t.Context(), b, topic, 1); err != nil {
			t.Fatal(err)
		}
	}
	want.quotas = true
	want.compare(t, b)
	// Its retention and its cleaner get into each other's way on a busy machine.
	quietAbout(t, b, append(topicsOf(configs), "i.born", "__consumer_offsets", "__transaction_state"), "cannot be resumed since it is not paused")
	if got := len(want.views["i.born"].batches); got == 0 || len(born) == 0 {
		t.Errorf("i.born has %d batches of %d records", got, len(born))
	}
	goesOn(t, b, "i.born", want.views["i.born"])
	if len(more) > 0 {
		d := javaClient(t, b)
		javaTransactions(t, d, "i.txn", 1) // with the transactional ids of the first round
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.Stop()
	verified(t, dirs...)
	if len(more) > 0 {
		return
	}
	dumped := kafkaDump(t, filesOf(t, filepath.Join(logs, "__cluster_metadata-0"), ".log", ".checkpoint"), "--cluster-metadata-decoder")
	for _, text := range []string{`"name":"i.born"`, "SnapshotFooter", "CLIENT_QUOTA_RECORD"} {
		if !strings.Contains(dumped, text) {
			t.Errorf("no %s in the metadata as they are dumped: %s", text, cut(dumped))
		}
	}
}

// state is all that a broker tells of topics, groups and configurations.
type state struct {
	views   map[string]view
	latest  map[string]string // of the compacted topic, by key
	about   []string          // topic ids, configurations, committed offsets, features
	quotas  bool              // the broker is asked for the quota
	aborted []string          // what a read_committed consumer reads of i.txn
}

func stateOf(t *testing.T, b *systems.Process, topics []string) *state {
	t.Helper()
	s := &state{views: views(t, b, topics), latest: latest(t, b, "i.compact"), about: about(t, b, topics)}
	s.aborted = committed(t, b, "i.txn", s.views["i.txn"])
	return s
}

func (s *state) compare(t *testing.T, b *systems.Process) {
	t.Helper()
	var topics []string
	for topic := range s.views {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	got := stateOf(t, b, topics)
	for _, topic := range topics {
		sameView(t, topic, got.views[topic], s.views[topic])
	}
	if fmt.Sprint(got.latest) != fmt.Sprint(s.latest) || len(s.latest) == 0 {
		t.Errorf("the compacted topic holds\n%v\nwant\n%v", got.latest, s.latest)
	}
	sort := func(lines []string) []string { return slices.Sorted(slices.Values(lines)) }
	if g, w := sort(got.about), sort(s.about); !slices.Equal(g, w) {
		t.Errorf("on %s there is\n%s\nwant\n%s", b.Name, strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
	if !slices.Equal(got.aborted, s.aborted) {
		t.Errorf("a read_committed consumer reads\n%q\nwant\n%q", got.aborted, s.aborted)
	}
	if s.quotas {
		hasQuota(t, b)
	}
}

// latest reads the last value of every key.
func latest(t *testing.T, b *systems.Process, topic string) map[string]string {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := make(map[string]string)
	for _, b := range fetchAll(t, c, topic, listOffset(t, c, topic, -2, 0), listOffset(t, c, topic, -1, 0), 0, nil) {
		it := b.Iterate(0)
		for it.Next() {
			if r := it.Record(); r.Value == nil {
				delete(out, string(r.Key))
			} else {
				out[string(r.Key)] = fmt.Sprintf("%d:%s", it.Offset(), r.Value)
			}
		}
		it.Close()
	}
	return out
}

// about tells the topics' ids, the dynamic configurations, the groups' offsets and
// the finalized features.
func about(t *testing.T, b *systems.Process, topics []string) (out []string) {
	t.Helper()
	adm := adminOf(t, b)
	details, err := adm.ListTopics(t.Context(), topics...)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range details.Sorted() {
		out = append(out, fmt.Sprintf("topic %s has id %s, %d partitions", d.Topic, d.ID, len(d.Partitions)))
	}
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.SetVersion(4)
	for _, topic := range topics {
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic})
	}
	req.Resources = append(req.Resources,
		kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
		kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker},
		kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeClientMetrics, ResourceName: "i.metrics"},
		kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: "i.group"})
	for _, r := range c.ok(t, req).(*kmsg.DescribeConfigsResponse).Resources {
		noError(t, "configs of "+r.ResourceName, r.ErrorCode)
		for _, e := range r.Configs {
			switch {
			case e.Source == kmsg.ConfigSourceDefaultConfig, e.Source == kmsg.ConfigSourceStaticBrokerConfig:
			case strings.HasPrefix(e.Name, "internal."): // klamm does not tell of them
			default:
				out = append(out, fmt.Sprintf("%s %q: %s=%s by %s", r.ResourceType, r.ResourceName, e.Name, *e.Value, e.Source))
			}
		}
	}
	for _, group := range []string{"i.group", "i.next"} {
		offsets, err := adm.FetchOffsets(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range offsets.Sorted() {
			out = append(out, fmt.Sprintf("group %s at %s-%d: %d of epoch %d, %q", group, o.Topic, o.Partition, o.At, o.LeaderEpoch, o.Metadata))
		}
	}
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.SetVersion(3)
	versions.ClientSoftwareName, versions.ClientSoftwareVersion = "convert", "1"
	for _, f := range c.ok(t, versions).(*kmsg.ApiVersionsResponse).FinalizedFeatures {
		if f.Name != "kraft.version" { // not a record of the metadata, but of the quorum
			out = append(out, fmt.Sprintf("feature %s at %d", f.Name, f.MaxVersionLevel))
		}
	}
	return out
}

func adminOf(t *testing.T, b *systems.Process) *kadm.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl)
}

// administer sets configurations of every type but the topics', and a quota.
func administer(t *testing.T, b *systems.Process) {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	set := func(kind kmsg.ConfigResourceType, resource, name, value string) {
		req.Resources = append(req.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: resource,
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}})
	}
	set(kmsg.ConfigResourceTypeBroker, "1", "message.max.bytes", "2000000")
	set(kmsg.ConfigResourceTypeBroker, "", "log.retention.ms", "99000000")
	set(kmsg.ConfigResourceTypeClientMetrics, "i.metrics", "interval.ms", "60000")
	set(kmsg.ConfigResourceTypeGroupConfig, "i.group", "consumer.session.timeout.ms", "50000")
	for _, r := range c.ok(t, req).(*kmsg.IncrementalAlterConfigsResponse).Resources {
		noError(t, "set config of "+r.ResourceName, r.ErrorCode)
	}
	_, err = adminOf(t, b).AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{{Entity: kadm.ClientQuotaEntity{{Type: "client-id", Name: ptr("i.client")}},
		Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1 << 30}}}})
	if err != nil {
		t.Fatal(err)
	}
}

// quota checks that the broker has the quota that administer sets.
func hasQuota(t *testing.T, b *systems.Process) {
	t.Helper()
	got, err := adminOf(t, b).DescribeClientQuotas(t.Context(), false, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchName: ptr("i.client")}})
	if err != nil || len(got) != 1 || len(got[0].Values) != 1 || got[0].Values[0].Value != 1<<30 {
		t.Errorf("the quota is %v, %v", got, err)
	}
}

func setConfig(t *testing.T, b *systems.Process, c kadm.AlterConfig, topic string) {
	t.Helper()
	if _, err := adminOf(t, b).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{c}, topic); err != nil {
		t.Fatal(err)
	}
}

// commitOffsets commits an offset for each topic of a group without members.
func commitOffsets(t *testing.T, b *systems.Process, group string, at int64) {
	t.Helper()
	offsets := make(kadm.Offsets)
	for _, topic := range []string{"i.records", "i.txn"} {
		offsets.Add(kadm.Offset{Topic: topic, At: at, LeaderEpoch: 0, Metadata: "of " + topic})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := adminOf(t, b).CommitAllOffsets(ctx, group, offsets); err != nil {
		t.Fatal(err)
	}
}

// nextGeneration has a member of a group of KIP-848 commit offsets, so that
// __consumer_offsets holds records that klamm does not know.
func nextGeneration(t *testing.T, b *systems.Process) {
	t.Helper()
	classpath, err := systems.Classpath()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", b.Addr, "--topic", "i.records", "--group", "i.next", "--from-beginning", "--max-messages", "10", "--timeout-ms", "20000",
		"--command-property", "group.protocol=consumer").CombinedOutput()
	if err != nil || bytes.Count(out, []byte("\n")) < 10 {
		t.Fatalf("console consumer: %v\n%s", err, out)
	}
}

// klammRuns runs a command of klamm's, which must succeed.
func klammRuns(t *testing.T, args ...string) {
	t.Helper()
	path, err := systems.KlammBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := command(".", path, args...); err != nil {
		t.Fatal(err)
	}
}

// refused runs a command of klamm's, which must fail, and returns its stderr.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	path, err := systems.KlammBinary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("klamm %s: %v, want exit code 1", strings.Join(args, " "), err)
	}
	return stderr.String()
}

// jvmRefuses starts a JVM broker on a directory of klamm's, as one was started
// last. It does not come up, and does no harm.
func jvmRefuses(t *testing.T, home string) {
	t.Helper()
	before := filesBelow(t, home)
	classpath, err := systems.Classpath()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classpath, "kafka.Kafka", systems.JVMProperties(home)).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("the JVM broker starts, or does not end: %v", err)
	}
	if !bytes.Contains(out, []byte("data_version (10000) is not within the min (0) and max (1) supported version")) {
		t.Errorf("the JVM broker says %s", cut(string(out)))
	}
	sameFiles(t, filesBelow(t, home), before, "logs/__cluster_metadata-0/0", "logs/__cluster_metadata-0/partition.metadata", "logs/.lock", "more/.lock")
}

// filesBelow reads every file below a directory.
func filesBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		name, _ = filepath.Rel(dir, name)
		out[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameFiles compares files, but for those whose names begin so.
func sameFiles(t *testing.T, got, want map[string]string, but ...string) {
	t.Helper()
	for name := range got {
		if _, ok := want[name]; !ok {
			want[name] = "no such file"
		}
	}
	for name, content := range want {
		if got[name] != content && !slices.ContainsFunc(but, func(b string) bool { return strings.HasPrefix(name, b) }) {
			t.Errorf("%s has changed: %d bytes, %d before", name, len(got[name]), len(content))
		}
	}
}
