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

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	// compactedRetention is delete.retention.ms: long enough that a round can be
	// done before what the round before it marked is due.
	compactedRetention = 8 * time.Second
	// slack is how far a round keeps away from the time that a tombstone is due.
	slack = 2500 * time.Millisecond
)

// compactedTopics are what is compacted, with what they do not share.
func compactedTopics() map[string]map[string]*string {
	one := func(more ...string) map[string]*string {
		return small(append([]string{"cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0", "min.compaction.lag.ms", "86400000",
			"delete.retention.ms", strconv.FormatInt(compactedRetention.Milliseconds(), 10)}, more...)...)
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
	topic  string
	jvm    string // directory
	log    *log.Log
	keys   *compact.Map
	next   int64 // where the last round ended; -1 none
	rounds []string
}

// TestCompaction writes a random history to compacted topics of the JVM broker
// whose cleaner is held back, copies their logs into logs of klamm, and has both
// compact them, round after round. What is left must be the same: batches and
// records, aborted transactions and producers.
func TestCompaction(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	source := t.TempDir()
	logs := filepath.Join(source, "logs")
	jvm := begin(t, systems.JVM, source, "log.cleaner.backoff.ms=100", "transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1")
	configs := compactedTopics()
	makeTopics(t, jvm, configs)
	topics := topicsOf(configs)
	h := &history{Rand: rand.New(rand.NewPCG(seed, 1)), topics: topics, clock: past, keyed: map[string]bool{"c.mixed": true, "c.append": true, "c.zstd": true}}
	dir := t.TempDir()
	var twins []*twin
	for _, topic := range topics {
		w := &twin{topic: topic, jvm: filepath.Join(logs, topic+"-0"), keys: compact.NewMap(1 << 20), next: -1}
		w.open(t, filepath.Join(dir, topic+"-0"), configs[topic])
		twins = append(twins, w)
	}
	var last time.Time
	for round, n := range []int{150, 80, 80, 40} {
		h.write(t, jvm, n, true)
		h.keyed["c.late"] = true
		for _, w := range twins {
			w.catchUp(t)
			w.same(t, jvm, fmt.Sprintf("before round %d", round+1))
		}
		if t.Failed() {
			return
		}
		switch round {
		case 1:
			time.Sleep(time.Until(last.Add(slack + time.Second))) // so that there is a time between those due
		case 2, 3: // what the round before the last marked is due
			time.Sleep(time.Until(last.Add(compactedRetention - slack - time.Second)))
		}
		awaitHorizons(t, twins)
		last = time.Now()
		hold(t, jvm, topics, false)
		for _, w := range twins {
			w.compact(t)
		}
		for _, w := range twins {
			holds(t, filepath.Join(logs, "cleaner-offset-checkpoint"), fmt.Sprintf("%s 0 %d\n", w.topic, w.next))
		}
		if took := time.Since(last); took > slack {
			t.Logf("round %d took %v: too slow to tell what is due", round+1, took)
			return
		}
		hold(t, jvm, topics, true)
		for _, w := range twins {
			w.same(t, jvm, fmt.Sprintf("after round %d", round+1))
		}
		if t.Failed() {
			return
		}
	}
	for _, w := range twins {
		t.Logf("%s: %s", w.topic, strings.Join(w.rounds, "; "))
		if err := w.log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	verifiedCompacted(t, dir)
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
		DirtyRatio: 1e-9, DeleteRetention: compactedRetention}})
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
	sameLogs(t, w.topic+" "+when, w.log.Dir(), w.jvm)
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
// the JVM broker's.
func sameLogs(t *testing.T, what, klamm, jvm string) {
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

// awaitHorizons waits until nothing becomes due for a while.
func awaitHorizons(t *testing.T, twins []*twin) {
	t.Helper()
	var due []time.Time
	for _, w := range twins {
		for _, batches := range [][]record.Batch{batchesIn(t, w.log.Dir()), batchesIn(t, w.jvm)} {
			for _, at := range horizonsOf(batches) {
				due = append(due, time.UnixMilli(at.Milliseconds()))
			}
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
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	lag := "0"
	if back {
		lag = "86400000"
	}
	changes := []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &lag}, {Name: "cleanup.policy", Value: ptr("compact")}}
	r, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, changes, topics...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range r {
		if r.Err != nil {
			t.Fatal(r.Name, r.Err)
		}
	}
}
