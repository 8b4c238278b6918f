package conformance_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

// complaint is what Kafka's dump tool prints where a file is not as it should be.
var complaint = regexp.MustCompile(`(?i)mismatch|exception|non-consecutive|is followed by|invalid bytes|isvalid: false|out of order|ignoring|error`)

// notZero is what the dump tool of 4.3.1 says of every file whose first offset is
// not 0: with --deep-iteration it expects 0 after its own -1.
var notZero = regexp.MustCompile(`Non-consecutive offsets in \S*/0*(\d+)\.log\n  -1 is followed by (\d+)\n`)

// ofEmptied is what the dump tool says of entries in time indexes that are of
// batches without records, which compaction leaves behind.
var (
	ofEmptied      = regexp.MustCompile(`  Index timestamp: \d+, log timestamp: -1\n`)
	timeMismatches = regexp.MustCompile(`Found timestamp mismatch in :\S+\n(  Index timestamp: .*\n)*`)
)

// kafkaDump runs Kafka's dump tool over files and returns what it printed.
func kafkaDump(t *testing.T, files []string, flags ...string) string {
	t.Helper()
	if len(files) == 0 {
		t.Fatalf("no files for %v", flags)
	}
	classpath, err := systems.Classpath()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "org.apache.kafka.tools.DumpLogSegments", "--files", strings.Join(files, ",")}, flags...)
	out, err := exec.Command("java", args...).CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("dump tool %v: %v\n%s", flags, err, cut(text))
	}
	text = notZero.ReplaceAllStringFunc(text, func(s string) string {
		if m := notZero.FindStringSubmatch(s); m[1] == m[2] {
			return ""
		}
		return s
	})
	text = timeMismatches.ReplaceAllStringFunc(ofEmptied.ReplaceAllString(text, ""), func(s string) string {
		if timeMismatches.FindStringSubmatch(s)[1] == "" {
			return ""
		}
		return s
	})
	for _, line := range strings.Split(text, "\n") {
		if complaint.MatchString(line) {
			t.Errorf("dump tool %v: %s", flags, line)
		}
	}
	for _, f := range files {
		if !strings.Contains(text, "Dumping "+f) {
			t.Errorf("dump tool %v did not read %s", flags, f)
		}
	}
	return text
}

func cut(s string) string { return s[:min(len(s), 4000)] }

// filesOf returns the files in a partition directory that end so.
func filesOf(t *testing.T, dir string, suffixes ...string) (out []string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(e.Name(), s) }) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// verified checks log directories with klamm's own check.
func verified(t *testing.T, dirs ...string) {
	t.Helper()
	r, err := scrub.Check(t.Context(), scrub.Options{}, dirs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity == scrub.Damage {
			t.Errorf("verify: %s %s at byte %d, offset %d: %s", f.Severity, f.File, f.Byte, f.Offset, f.What)
		} else {
			t.Logf("verify: %s %s at byte %d, offset %d: %s", f.Severity, f.File, f.Byte, f.Offset, f.What)
		}
	}
}

// begin starts a broker of its own for a test, and ends it with the test unless
// the test did.
func begin(t *testing.T, start func(string, ...string) (*systems.Process, error), dir string, more ...string) *systems.Process {
	t.Helper()
	b, err := start(dir, append(slices.Clone(overrides), more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	return b
}

// makeTopics creates topics of one partition.
func makeTopics(t *testing.T, b *systems.Process, configs map[string]map[string]*string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for topic, c := range configs {
		r, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, c, topic)
		if err != nil {
			t.Fatalf("create %s: %v %s", topic, err, r.ErrMessage)
		}
		if err := awaitTopic(ctx, b, topic, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// small makes many segments and index entries of few records.
func small(more ...string) map[string]*string {
	out := map[string]*string{"internal.segment.bytes": ptr("6000"), "index.interval.bytes": ptr("300"), "file.delete.delay.ms": ptr("100")}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = &more[i+1]
	}
	return out
}

// moved puts the partition directories of topics in place of those that another
// broker made for topics of the same names, whose ids they get. Both brokers are
// down.
func moved(t *testing.T, from, to string, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		name := topic + "-0"
		id, err := os.ReadFile(filepath.Join(to, name, "partition.metadata"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name, "partition.metadata"), id, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"log-start-offset-checkpoint", "recovery-point-offset-checkpoint", "replication-offset-checkpoint"} {
		mergeCheckpoint(t, filepath.Join(from, name), filepath.Join(to, name), topics)
	}
}

// mergeCheckpoint takes the lines of topics from one checkpoint to another.
func mergeCheckpoint(t *testing.T, from, to string, topics []string) {
	t.Helper()
	var lines []string
	for _, name := range []string{from, to} {
		text, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			topic, _, _ := strings.Cut(line, " ")
			if i >= 2 && slices.Contains(topics, topic) == (name == from) {
				lines = append(lines, line)
			}
		}
	}
	text := fmt.Sprintf("0\n%d\n", len(lines))
	for _, l := range lines {
		text += l + "\n"
	}
	if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// markUnclean makes a log directory look as after the death of its broker.
func markUnclean(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, ".kafka_cleanshutdown")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// holds waits until a file holds a text.
func holds(t *testing.T, file, text string) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), text) {
			return
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("%s holds %q and not %q", file, b, text)
		}
		time.Sleep(50 * time.Millisecond) // a file of another process
	}
}

// view is all that a broker tells of a partition.
type view struct {
	start, end, stable int64
	batches            []record.Batch
	lines              []string // all of it in words
}

// look asks a broker for everything about partition 0 of a topic: every batch,
// byte for byte, the aborted transactions, some offsets by time, the producers
// and the ends of leader epochs.
func look(t *testing.T, b *systems.Process, topic string) view {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var v view
	say := func(format string, args ...any) { v.lines = append(v.lines, fmt.Sprintf(format, args...)) }
	v.start = listOffset(t, c, topic, -2, 0)
	v.end = listOffset(t, c, topic, -1, 0)
	v.stable = listOffset(t, c, topic, -1, 1)
	say("log [%d, %d), stable to %d", v.start, v.end, v.stable)
	v.batches = fetchAll(t, c, topic, v.start, v.end, 0, nil)
	epochs := make(map[int32]bool)
	stamps := make(map[int64]bool)
	for _, b := range v.batches {
		say("batch %d to %d: %s", b.BaseOffset(), b.LastOffset(), hex.EncodeToString(b))
		epochs[b.LeaderEpoch()] = true
		it := b.Iterate(0)
		for it.Next() {
			stamps[it.Timestamp()] = true
		}
		if err := it.Err(); err != nil {
			t.Errorf("%s: %v", topic, err)
		}
		it.Close()
	}
	aborted := make(map[string]bool)
	fetchAll(t, c, topic, v.start, v.stable, 1, aborted)
	for _, a := range sortedKeys(aborted) {
		say("aborted %s", a)
	}
	for i, ts := range sortedKeys(stamps) {
		if i%max(1, len(stamps)/40) != 0 {
			continue
		}
		say("timestamp %d is at offset %d, %d at %d", ts, listOffset(t, c, topic, ts, 0), ts+1, listOffset(t, c, topic, ts+1, 0))
	}
	say("largest timestamp at offset %d", listOffset(t, c, topic, -3, 0))
	for _, p := range producersOf(t, c, topic) {
		say("producer %d epoch %d: last sequence %d, timestamp %d, coordinator epoch %d, transaction from %d", p.ProducerID, p.ProducerEpoch, p.LastSequence,
			p.LastTimestamp, p.CoordinatorEpoch, p.CurrentTxnStartOffset)
	}
	for _, e := range sortedKeys(epochs) {
		say("epoch %d ends at %d", e, epochEnd(t, c, topic, e))
	}
	return v
}

func sortedKeys[K string | int32 | int64](m map[K]bool) (out []K) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// ok asks and fails the test if there is no answer.
func (c *rawConn) ok(t *testing.T, req kmsg.Request) kmsg.Response {
	t.Helper()
	resp, err := c.ask(req)
	if err != nil {
		t.Fatalf("%s: %v", kmsg.NameForKey(req.Key()), err)
	}
	return resp
}

func noError(t *testing.T, what string, code int16) {
	t.Helper()
	if err := kerr.ErrorForCode(code); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func listOffset(t *testing.T, c *rawConn, topic string, ts int64, isolation int8) int64 {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(7)
	req.ReplicaID, req.IsolationLevel = -1, isolation
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp, p.CurrentLeaderEpoch = ts, -1
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	got := c.ok(t, req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	noError(t, fmt.Sprintf("offset of time %d in %s", ts, topic), got.ErrorCode)
	return got.Offset
}

// fetchAll reads [offset, end) and returns the batches. It adds the aborted
// transactions that come with them.
func fetchAll(t *testing.T, c *rawConn, topic string, offset, end int64, isolation int8, aborted map[string]bool) (out []record.Batch) {
	t.Helper()
	for offset < end {
		req := kmsg.NewPtrFetchRequest()
		req.SetVersion(11)
		req.ReplicaID, req.MaxWaitMillis, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = -1, 1000, 1<<20, isolation, -1
		p := kmsg.NewFetchRequestTopicPartition()
		p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = offset, 1<<20, -1
		req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
		got := c.ok(t, req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		noError(t, fmt.Sprintf("fetch of %s at %d", topic, offset), got.ErrorCode)
		for _, a := range got.AbortedTransactions {
			aborted[fmt.Sprintf("producer %d from %d", a.ProducerID, a.FirstOffset)] = true
		}
		before := offset
		for rest := got.RecordBatches; ; {
			b, after, err := record.Next(rest)
			if b == nil {
				break
			}
			if err == nil {
				err = b.Validate()
			}
			if err != nil {
				t.Fatalf("%s at %d: %v", topic, offset, err)
			}
			if b.LastOffset() >= offset {
				out = append(out, bytes.Clone(b))
				offset = b.LastOffset() + 1
			}
			rest = after
		}
		if offset == before {
			t.Fatalf("%s: nothing at offset %d, which ends at %d", topic, offset, end)
		}
	}
	return out
}

func producersOf(t *testing.T, c *rawConn, topic string) []kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	t.Helper()
	req := kmsg.NewPtrDescribeProducersRequest()
	req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	got := c.ok(t, req).(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0]
	noError(t, "producers of "+topic, got.ErrorCode)
	slices.SortFunc(got.ActiveProducers, func(a, b kmsg.DescribeProducersResponseTopicPartitionActiveProducer) int {
		return int(a.ProducerID - b.ProducerID)
	})
	return got.ActiveProducers
}

func epochEnd(t *testing.T, c *rawConn, topic string, epoch int32) int64 {
	t.Helper()
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.SetVersion(4)
	req.ReplicaID = -1
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LeaderEpoch = -1, epoch
	req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
	got := c.ok(t, req).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	noError(t, "epoch end of "+topic, got.ErrorCode)
	return got.EndOffset
}

// send produces one batch as it is and returns its offset, or the error.
func (c *rawConn) send(t *testing.T, topic string, batch []byte) (int64, error) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = -1, 10000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batch}}}}
	got := c.ok(t, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return got.BaseOffset, kerr.ErrorForCode(got.ErrorCode)
}

// sameView compares what two brokers tell.
func sameView(t *testing.T, topic string, got, want view) {
	t.Helper()
	for i := range max(len(got.lines), len(want.lines)) {
		var g, w string
		if i < len(got.lines) {
			g = got.lines[i]
		}
		if i < len(want.lines) {
			w = want.lines[i]
		}
		if g != w {
			t.Errorf("%s: after the move\n%.300s\nbefore it\n%.300s", topic, g, w)
			return
		}
	}
}

// goesOn checks that the broker remembers each idempotent producer of a
// partition: its last batch is a repetition, the next sequence is taken, and one
// that leaves some out is refused.
func goesOn(t *testing.T, b *systems.Process, topic string, v view) {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	last := make(map[int64]record.Batch)
	for _, b := range v.batches {
		if b.ProducerID() >= 0 && !b.Attributes().Transactional() {
			last[b.ProducerID()] = b
		}
	}
	if len(last) == 0 {
		t.Errorf("%s has no idempotent producer", topic)
	}
	for id, b := range last {
		at := b.BaseOffset()
		again := bytes.Clone(b)
		record.Batch(again).SetBaseOffset(0)
		record.Batch(again).SetLeaderEpoch(-1)
		if got, err := c.send(t, topic, again); got != at || err != nil {
			t.Errorf("%s: the last batch of producer %d again: offset %d, %v, want %d", topic, id, got, err, at)
		}
		next := func(sequence int32) []byte {
			bl := record.NewBuilder(record.None, 0)
			bl.Append(b.MaxTimestamp(), []byte("k"), []byte("more"), nil)
			out, err := bl.Finish(record.Producer{ID: id, Epoch: b.ProducerEpoch(), Sequence: sequence})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if _, err := c.send(t, topic, next(record.AddSequence(b.LastSequence(), 1))); err != nil {
			t.Errorf("%s: producer %d goes on: %v", topic, id, err)
		}
		if _, err := c.send(t, topic, next(record.AddSequence(b.LastSequence(), 5))); err != kerr.OutOfOrderSequenceNumber {
			t.Errorf("%s: producer %d leaves sequences out: %v", topic, id, err)
		}
	}
}

// committed returns the values that a read_committed consumer of franz-go reads.
func committed(t *testing.T, b *systems.Process, topic string, v view) (out []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(v.start)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var last int64 = -1 // offset of the last batch below the last stable offset that is not aborted, or its marker
	for _, b := range v.batches {
		if b.LastOffset() < v.stable && (b.Attributes().Control() || !b.Attributes().Transactional()) {
			last = b.LastOffset()
		}
	}
	for at := int64(-1); at < last; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: read to offset %d of %d: %v", topic, at, last, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset
			if !r.Attrs.IsControl() {
				out = append(out, fmt.Sprintf("%d:%s", r.Offset, r.Value))
			}
		})
	}
	return out
}
