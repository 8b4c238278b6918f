package conformance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

// tempo is how long rounds may take.
type tempo struct {
	// retention is delete.retention.ms: long enough that a round can be done before
	// what the round before it marked is due.
	retention time.Duration
	// slack is how far a round keeps away from the time that a tombstone is due. A
	// round that takes longer cannot tell what should be left.
	slack time.Duration
}

// tempos are tried one after the other, until the machine is quick enough for one.
var tempos = []tempo{{8 * time.Second, 2500 * time.Millisecond}, {16 * time.Second, 5 * time.Second}, {32 * time.Second, 10 * time.Second}}

// compactedTopics are what is compacted, with what they do not share.
func compactedTopics(retention time.Duration) map[string]map[string]*string {
	one := func(more ...string) map[string]*string {
		return small(append([]string{"cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0", "min.compaction.lag.ms", "86400000",
			"delete.retention.ms", strconv.FormatInt(retention.Milliseconds(), 10)}, more...)...)
	}
	return map[string]map[string]*string{
		"c.mixed":  one(),
		"c.append": one("message.timestamp.type", "LogAppendTime"),
		"c.zstd":   one("compression.type", "zstd", "internal.segment.bytes", "3000"),
		"c.late":   one("cleanup.policy", "delete"), // is not compacted at first, and has null keys
	}
}

// twin is a partition of the JVM broker, and klamm's copy of its log.
type twin struct {
	tempo
	topic  string
	jvm    string // directory
	log    *log.Log
	keys   *compact.Map
	next   int64 // where the last round ended; -1 none
	rounds []string
}

// compaction is the JVM broker and klamm's logs, compacted side by side.
type compaction struct {
	*history
	tempo
	configs map[string]map[string]*string // of the JVM broker's topics, c.*
	source  string                        // of the JVM broker
	jvm     *systems.Process
	dir     string // of klamm's logs, k.*
	twins   []*twin
	began   time.Time // the last round
}

// jvmCleaner are the broker configs that its cleaner needs to be quick.
var jvmCleaner = []string{"log.cleaner.backoff.ms=100", "transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1"}

// TestCompaction writes a random history to compacted topics of the JVM broker
// whose cleaner is held back, copies their logs into logs of klamm, and has both
// compact them, round after round. What is left must be the same: batches and
// records, aborted transactions and producers. Then each broker gets the logs of
// both, must tell the same of them, and compacts them once more.
//
// All is done again, more slowly, where a round took too long to be compared: it
// passes only if all rounds were.
func TestCompaction(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, at := range tempos {
		compared := false
		t.Run(fmt.Sprintf("in %v", at.slack), func(t *testing.T) { compared = compareCompaction(t, seed, at) })
		if compared || t.Failed() {
			return
		}
	}
	t.Errorf("a round took longer than %v: not all rounds were compared", tempos[len(tempos)-1].slack)
}

// compareCompaction is TestCompaction at a tempo. It is false unless every round
// was compared.
func compareCompaction(t *testing.T, seed uint64, at tempo) bool {
	configs := compactedTopics(at.retention)
	c := &compaction{tempo: at, configs: configs, source: t.TempDir(), dir: t.TempDir()}
	c.history = &history{Rand: rand.New(rand.NewPCG(seed, 1)), topics: topicsOf(configs), clock: past, keyed: map[string]bool{"c.mixed": true, "c.append": true, "c.zstd": true}}
	c.jvm = begin(t, systems.JVM, c.source, jvmCleaner...)
	makeTopics(t, c.jvm, configs)
	makeTopics(t, c.jvm, c.second())
	for _, topic := range c.topics {
		w := &twin{tempo: at, topic: topic, jvm: filepath.Join(c.logs(), topic+"-0"), keys: compact.NewMap(1 << 20), next: -1}
		w.open(t, filepath.Join(c.dir, second(topic)+"-0"), configs[topic])
		c.twins = append(c.twins, w)
	}
	for round, n := range []int{150, 80, 80, 40} {
		c.last = round == 3
		c.write(t, c.jvm, n, true)
		c.keyed["c.late"] = true
		if !c.cleanBoth(t, round) || t.Failed() {
			return false
		}
	}
	want := views(t, c.jvm, c.topics)
	c.jvm.Stop()
	c.closeLogs(t)
	verifiedCompacted(t, c.logs(), c.dir)
	for _, w := range c.twins {
		kafkaDump(t, filesOf(t, w.log.Dir(), ".log", ".index", ".timeindex", ".txnindex", ".snapshot"))
		kafkaDump(t, filesOf(t, w.log.Dir(), ".index", ".timeindex"), "--index-sanity-check")
	}
	compared := true
	t.Run("klamm", func(t *testing.T) { compared = c.underKlamm(t, want) })
	if compared {
		t.Run("jvm", func(t *testing.T) { compared = c.underJVM(t, want) })
	}
	return compared
}

func (c *compaction) logs() string { return filepath.Join(c.source, "logs") }

// second names the topic that klamm's log of a topic goes under.
func second(topic string) string { return "k." + strings.TrimPrefix(topic, "c.") }

// second returns these topics with their configs.
func (c *compaction) second() map[string]map[string]*string {
	out := make(map[string]map[string]*string)
	for topic, configs := range c.configs {
		out[second(topic)] = configs
	}
	return out
}

// cleanBoth does a round on both sides and compares before and after. It is
// false where the machine was too slow to tell what should be left.
func (c *compaction) cleanBoth(t *testing.T, round int) bool {
	t.Helper()
	for _, w := range c.twins {
		w.catchUp(t)
		w.same(t, c.jvm, fmt.Sprintf("before round %d", round+1))
	}
	if t.Failed() {
		return false
	}
	var dirs []string
	for _, w := range c.twins {
		dirs = append(dirs, w.jvm, w.log.Dir())
	}
	switch round {
	case 1:
		time.Sleep(time.Until(c.began.Add(c.slack + time.Second))) // so that there is a time between those due
	case 2, 3: // what the round before the last marked is due
		time.Sleep(time.Until(c.began.Add(c.retention - c.slack - time.Second)))
	}
	awaitHorizons(t, c.slack, dirs...)
	c.began = time.Now()
	hold(t, c.jvm, c.topics, false)
	for _, w := range c.twins {
		w.compact(t)
	}
	for _, w := range c.twins {
		holds(t, filepath.Join(c.logs(), "cleaner-offset-checkpoint"), fmt.Sprintf("%s 0 %d\n", w.topic, w.next))
	}
	if took := time.Since(c.began); took > c.slack {
		t.Logf("round %d took %v: too slow to tell what is due", round+1, took)
		return false
	}
	hold(t, c.jvm, c.topics, true)
	for _, w := range c.twins {
		w.same(t, c.jvm, fmt.Sprintf("after round %d", round+1))
	}
	return true
}

// closeLogs closes klamm's logs and notes how far they are compacted.
func (c *compaction) closeLogs(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf("0\n%d\n", len(c.twins))
	for _, w := range c.twins {
		t.Logf("%s: %s", w.topic, strings.Join(w.rounds, "; "))
		if err := w.log.Close(); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s 0 %d\n", second(w.topic), w.next)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "cleaner-offset-checkpoint"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// underKlamm moves both kinds of logs under klamm. It is false where again is.
func (c *compaction) underKlamm(t *testing.T, want map[string]view) bool {
	dir := t.TempDir()
	b := begin(t, systems.Klamm, dir)
	makeTopics(t, b, c.configs)
	makeTopics(t, b, c.second())
	takeProducerIDs(t, b)
	if err := stop(b); err != nil {
		t.Fatal(err)
	}
	movedCompacted(t, c.logs(), dir, c.topics)
	movedCompacted(t, c.dir, dir, topicsOf(c.second()))
	verifiedCompacted(t, dir)
	b = begin(t, systems.Klamm, dir, "log.cleaner.backoff.ms=50")
	compared := c.again(t, b, dir, want)
	if err := stop(b); err != nil {
		t.Fatal(err)
	}
	verifiedCompacted(t, dir)
	return compared
}

// takeProducerIDs has a broker give out a producer id, so that after a restart
// it begins with others than the JVM broker gave to those whose records it gets.
func takeProducerIDs(t *testing.T, b *systems.Process) {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := kmsg.NewPtrInitProducerIDRequest()
	noError(t, "producer id", c.ok(t, req).(*kmsg.InitProducerIDResponse).ErrorCode)
}

// underJVM moves klamm's logs under the JVM broker, beside its own. It is false
// where again is.
func (c *compaction) underJVM(t *testing.T, want map[string]view) bool {
	movedCompacted(t, c.dir, c.logs(), topicsOf(c.second()))
	b := begin(t, systems.JVMLogging, c.source, jvmCleaner...)
	all := append(topicsOf(c.second()), c.topics...)
	for _, topic := range all {
		if err := awaitTopic(t.Context(), b, topic, 1); err != nil {
			t.Fatal(err)
		}
	}
	compared := c.again(t, b, c.logs(), want)
	quietAbout(t, b, all)
	b.Stop()
	verifiedCompacted(t, c.logs())
	return compared
}

// again checks what a broker tells of logs that klamm compacted, and of those
// that the JVM broker did, has it compact both once more, and compares them. It is
// false where that took too long to tell what should be left.
func (c *compaction) again(t *testing.T, b *systems.Process, dir string, want map[string]view) bool {
	t.Helper()
	for _, topic := range c.topics {
		for _, name := range []string{topic, second(topic)} {
			v := look(t, b, name)
			sameLines(t, name+" under "+b.Name, plain(t, v), plain(t, want[topic]))
			inTime(t, b, name, v)
			if got, w := committed(t, b, name, v), expectCommitted(want[topic]); !slices.Equal(got, w) {
				t.Errorf("%s under %s: a read_committed consumer reads\n%q\nwant\n%q", name, b.Name, got, w)
			}
		}
	}
	all := append(topicsOf(c.second()), c.topics...)
	alter(t, b, all, map[string]string{"message.timestamp.type": "CreateTime"})
	more := &history{Rand: rand.New(rand.NewPCG(c.Uint64(), 2)), topics: c.topics, clock: c.clock, keyed: map[string]bool{}, also: make(map[string]string)}
	for _, topic := range c.topics {
		more.keyed[topic], more.also[topic] = true, second(topic)
	}
	more.write(t, b, 40, false)
	var dirs []string
	for _, topic := range all {
		dirs = append(dirs, filepath.Join(dir, topic+"-0"))
	}
	awaitHorizons(t, c.slack, dirs...)
	began := time.Now()
	hold(t, b, all, false)
	for i, topic := range all {
		bases := basesIn(t, dirs[i])
		active, err := strconv.Atoi(strings.TrimSuffix(bases[len(bases)-1], ".log"))
		if err != nil {
			t.Fatal(err)
		}
		holds(t, filepath.Join(dir, "cleaner-offset-checkpoint"), fmt.Sprintf("%s 0 %d\n", topic, active))
	}
	if took := time.Since(began); took > c.slack {
		t.Logf("the round of %s took %v: too slow to tell what is due", b.Name, took)
		return false
	}
	for _, topic := range c.topics {
		sameLogs(t, c.slack, topic+" compacted by "+b.Name, filepath.Join(dir, second(topic)+"-0"), filepath.Join(dir, topic+"-0"))
	}
	return true
}

// inTime checks the offsets that a broker finds by time. The JVM broker looks
// into the first segment that claims a timestamp as large only, and finds nothing
// where the record that had it is compacted away.
func inTime(t *testing.T, b *systems.Process, topic string, v view) {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	type stamp struct{ offset, at int64 }
	var records []stamp
	for _, b := range v.batches {
		it := b.Iterate(0)
		for it.Next() {
			records = append(records, stamp{it.Offset(), it.Timestamp()})
		}
		it.Close()
	}
	for i := 0; i < len(records); i += 1 + len(records)/60 {
		for _, at := range []int64{records[i].at, records[i].at + 1} {
			want := int64(-1)
			if j := slices.IndexFunc(records, func(r stamp) bool { return r.at >= at }); j >= 0 {
				want = records[j].offset
			}
			if got := listOffset(t, c, topic, at, 0); got != want && !(b.Name == "jvm" && got == -1) {
				t.Errorf("%s under %s: timestamp %d is at offset %d, want %d", topic, b.Name, at, got, want)
			}
		}
	}
}

// plain is what a view says, without the bytes of batches and offsets by time.
func plain(t *testing.T, v view) []string {
	t.Helper()
	out := describeAll(t, v.batches)
	for _, line := range v.lines {
		if !strings.HasPrefix(line, "batch ") && !strings.HasPrefix(line, "timestamp ") {
			out = append(out, line)
		}
	}
	return out
}

// movedCompacted is moved, with how far the logs are compacted.
func movedCompacted(t *testing.T, from, to string, topics []string) {
	t.Helper()
	moved(t, from, to, topics...)
	mergeCheckpoint(t, filepath.Join(from, "cleaner-offset-checkpoint"), filepath.Join(to, "cleaner-offset-checkpoint"), topics)
}

// verifiedCompacted is verified, without a finding that is none: compaction takes
// markers away that raised a producer's epoch, which the snapshots before still
// know (log/scrub, partition.disagrees).
func verifiedCompacted(t *testing.T, dirs ...string) {
	t.Helper()
	r, err := scrub.Check(t.Context(), scrub.Options{}, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity == scrub.Damage && !(strings.HasSuffix(f.File, ".snapshot") && strings.Contains(f.What, " has epoch ")) {
			t.Errorf("verify: %s at byte %d, offset %d: %s", f.File, f.Byte, f.Offset, f.What)
		}
	}
}

// open makes the empty log of klamm.
func (w *twin) open(t *testing.T, dir string, configs map[string]*string) {
	t.Helper()
	size, err := strconv.Atoi(*configs["internal.segment.bytes"])
	if err != nil {
		t.Fatal(err)
	}
	w.log, err = log.Open(log.Options{Dir: dir, Topic: w.topic, Config: log.Config{SegmentBytes: int64(size), IndexIntervalBytes: 300, Compact: true,
		DirtyRatio: 1e-9, DeleteRetention: w.retention}})
	if err != nil {
		t.Fatal(err)
	}
}

// catchUp appends what the JVM broker's log has more.
func (w *twin) catchUp(t *testing.T) {
	t.Helper()
	for _, b := range batchesIn(t, w.jvm) {
		if b.BaseOffset() < w.log.EndOffset() {
			continue
		}
		if _, err := w.log.AppendAsFollower(b); err != nil {
			t.Fatalf("%s: %v", w.topic, err)
		}
	}
	w.log.SetHighWatermark(w.log.EndOffset())
}

// compact does a round of klamm.
func (w *twin) compact(t *testing.T) {
	t.Helper()
	r, err := w.log.Compact(log.CompactOptions{Map: w.keys, FirstDirty: w.next, Now: time.Now()})
	if err != nil {
		t.Fatalf("%s: %v", w.topic, err)
	}
	w.rounds = append(w.rounds, fmt.Sprintf("to %d, %d segments, batches %d of %d, records %d of %d", r.Next, r.Segments, r.Filtered.BatchesKept, r.Filtered.BatchesRead,
		r.Filtered.RecordsKept, r.Filtered.RecordsRead))
	w.next = r.Next
}

// same compares the two logs, by their files.
func (w *twin) same(t *testing.T, b *systems.Process, when string) {
	t.Helper()
	sameLogs(t, w.slack, w.topic+" "+when, w.log.Dir(), w.jvm)
	if len(w.rounds) < 2 { // from then on sizes differ, by which segments are put together
		sameLines(t, w.topic+" "+when+": segments", basesIn(t, w.log.Dir()), basesIn(t, w.jvm))
	}
	var got, want []string
	for _, p := range w.log.Producers() {
		got = append(got, fmt.Sprint(p.ProducerID, p.Epoch, p.LastSequence, p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset))
	}
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range producersOf(t, c, w.topic) {
		want = append(want, fmt.Sprint(p.ProducerID, p.ProducerEpoch, p.LastSequence, p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset))
	}
	sameLines(t, w.topic+" "+when+": producers", got, want)
	if got, want := w.log.LastStableOffset(), listOffset(t, c, w.topic, -1, 1); got != want {
		t.Errorf("%s %s: last stable offset %d, want %d", w.topic, when, got, want)
	}
}

// sameLogs compares the files of a partition directory of klamm's with those of
// the JVM broker's, where batches may go at times that lie slack apart.
func sameLogs(t *testing.T, slack time.Duration, what, klamm, jvm string) {
	t.Helper()
	got, want := batchesIn(t, klamm), batchesIn(t, jvm)
	sameLines(t, what, describeAll(t, got), describeAll(t, want))
	horizons := horizonsOf(want)
	for offset, g := range horizonsOf(got) {
		if w, ok := horizons[offset]; ok && (g-w).Abs() > slack {
			t.Errorf("%s: the batch at offset %d may go %v later", what, offset, g-w)
		}
	}
	sameLines(t, what+": aborted transactions", abortedIn(t, klamm), abortedIn(t, jvm))

}

func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: klamm has\n%.600s\nand the JVM broker\n%.600s\n(%d and %d)", what, g, w, len(got), len(want))
			return
		}
	}
}

// batchesIn reads all batches of a partition directory.
func batchesIn(t *testing.T, dir string) (out []record.Batch) {
	t.Helper()
	for _, file := range filesOf(t, dir, ".log") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for len(text) > 0 {
			b, rest, err := record.Next(text)
			if err == nil {
				err = record.Batch(b).Validate()
			}
			if err != nil {
				t.Fatalf("%s at byte %d of the end: %v", file, len(text), err)
			}
			out, text = append(out, b), rest
		}
	}
	return out
}

func describeAll(t *testing.T, batches []record.Batch) (out []string) {
	t.Helper()
	for _, b := range batches {
		out = append(out, describe(t, b))
	}
	return out
}

// describe puts a batch in words. The base timestamp is left out where there are
// records: klamm keeps that of the batch that it takes records from, the JVM
// broker takes that of the first record left, and a delete horizon is a time of
// their own.
func describe(t *testing.T, b record.Batch) string {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "batch %d to %d, attributes %x, epoch %d, producer %d epoch %d sequence %d, largest timestamp %d, %d records", b.BaseOffset(), b.LastOffset(), b.Attributes(),
		b.LeaderEpoch(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.MaxTimestamp(), b.Count())
	if b.Count() == 0 {
		fmt.Fprintf(&out, ", base timestamp %d, %d bytes", b.BaseTimestamp(), len(b))
	}
	it := b.Iterate(0)
	defer it.Close()
	for it.Next() {
		r := it.Record()
		fmt.Fprintf(&out, "\n\t%d at %d: %q %v %q %v", it.Offset(), it.Timestamp(), r.Key, r.Key == nil, r.Value, r.Value == nil)
		for _, h := range r.Headers {
			fmt.Fprintf(&out, " %s=%q %v", h.Key, h.Value, h.Value == nil)
		}
	}
	if err := it.Err(); err != nil {
		t.Error(err)
	}
	return out.String()
}

// horizonsOf returns, by base offset, the times since 1970 from which batches may go.
func horizonsOf(batches []record.Batch) map[int64]time.Duration {
	out := make(map[int64]time.Duration)
	for _, b := range batches {
		if b.Attributes().DeleteHorizon() {
			out[b.BaseOffset()] = time.Duration(b.BaseTimestamp()) * time.Millisecond
		}
	}
	return out
}

func abortedIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	for _, file := range filesOf(t, dir, ".txnindex") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := index.ParseTxns(b)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, a := range list {
			out = append(out, fmt.Sprintf("%+v", a))
		}
	}
	return out
}

func basesIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	for _, file := range filesOf(t, dir, ".log") {
		out = append(out, filepath.Base(file))
	}
	return out
}

// awaitHorizons waits until nothing in partition directories becomes due for a
// while.
func awaitHorizons(t *testing.T, slack time.Duration, dirs ...string) {
	t.Helper()
	var due []time.Time
	for _, dir := range dirs {
		for _, at := range horizonsOf(batchesIn(t, dir)) {
			due = append(due, time.UnixMilli(at.Milliseconds()))
		}
	}
	slices.SortFunc(due, time.Time.Compare)
	for _, at := range due {
		if until := time.Until(at); until > -100*time.Millisecond && until < slack {
			time.Sleep(until + 100*time.Millisecond)
		}
	}
}

// hold holds the cleaner back from topics, or lets it go.
func hold(t *testing.T, b *systems.Process, topics []string, back bool) {
	t.Helper()
	lag := "0"
	if back {
		lag = "86400000"
	}
	alter(t, b, topics, map[string]string{"min.compaction.lag.ms": lag, "cleanup.policy": "compact"})
}

// alter sets configs of topics.
func alter(t *testing.T, b *systems.Process, topics []string, configs map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var changes []kadm.AlterConfig
	for k, v := range configs {
		changes = append(changes, kadm.AlterConfig{Name: k, Value: &v})
	}
	answers, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, changes, topics...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range answers {
		if r.Err != nil {
			t.Fatalf("%s: %v %s", r.Name, r.Err, r.ErrMessage)
		}
	}
}
