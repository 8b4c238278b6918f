package crash_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

// stores are the topics that a broker is killed with: one whose every record is
// synced before it is acknowledged, one that is compacted all the time and one
// that loses old segments all the time.
var stores = map[string]map[string]string{
	"synced":    {"flush.messages": "1", "internal.segment.bytes": "65536"},
	"compacted": {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "300", "internal.segment.bytes": "32768", "file.delete.delay.ms": "50"},
	"retained":  {"retention.bytes": "300000", "internal.segment.bytes": "32768", "file.delete.delay.ms": "50"},
}

// storeOverrides make the background work all the time.
var storeOverrides = []string{"log.cleaner.backoff.ms=20", "log.retention.check.interval.ms=50", "log.flush.offset.checkpoint.interval.ms=200",
	"log.flush.start.offset.checkpoint.interval.ms=200", "replica.high.watermark.checkpoint.interval.ms=200"}

const (
	storeRounds = 9
	storeKeys   = 101
)

// written is a record that was acknowledged.
type written struct {
	number    uint64
	key       string
	tombstone bool
}

// store is what a topic must hold.
type store struct {
	topic string

	mu    sync.Mutex
	next  uint64            // guarded by mu: number of the next record
	gone  map[string]uint64 // guarded by mu: number of the last tombstone of each key
	acked map[int64]written // guarded by mu: by offset

	start int64 // log start offset when it was looked at last
}

func newStores() (out []*store) {
	for _, topic := range []string{"synced", "compacted", "retained"} {
		out = append(out, &store{topic: topic, gone: make(map[string]uint64), acked: make(map[int64]written)})
	}
	return out
}

// TestKillStorage kills the broker with SIGKILL at random moments, often in the
// middle of a compaction, while producers write to all stores, and starts it on
// the same directory. Before each start the directory has no damage, and after it
// every acknowledged record is there that compaction and retention must leave.
func TestKillStorage(t *testing.T) {
	built(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	list := newStores()
	inside := 0 // kills in the middle of a compaction
	for round := range storeRounds {
		b := startStores(t, dir, list, round)
		wait := time.Duration(300+r.IntN(700)) * time.Millisecond
		during := r.IntN(3) > 0
		produceWhile(t, b, list, func() {
			time.Sleep(wait)
			if during {
				if name := awaitFile(dir, 500*time.Millisecond, ".cleaned", ".swap"); name != "" {
					inside++
				}
			}
			b.Kill()
		})
		verify(t, dir)
	}
	b := startStores(t, dir, list, storeRounds)
	if err := b.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, b.Output())
	}
	verify(t, dir)
	for _, s := range list {
		t.Logf("%s: %d records were acknowledged, the log starts at %d", s.topic, len(s.acked), s.start)
	}
	t.Logf("%d of %d kills were in the middle of a compaction", inside, storeRounds)
	if list[2].start == 0 {
		t.Error("retention has removed nothing")
	}
}

// TestStopCompacting stops the broker in order in the middle of a compaction that
// is slow.
func TestStopCompacting(t *testing.T) {
	built(t)
	dir := t.TempDir()
	list := newStores()
	b := startStores(t, dir, list, 0, "log.cleaner.io.max.bytes.per.second=300000")
	produceWhile(t, b, list, func() {
		time.Sleep(time.Second)
		if awaitFile(dir, 10*time.Second, ".cleaned") == "" {
			t.Error("no compaction was seen")
		}
		began := time.Now()
		if err := b.Stop(); err != nil {
			t.Errorf("stop: %v\n%s", err, b.Output())
		}
		t.Logf("stopped after %v", time.Since(began))
	})
	verify(t, dir)
	b = startStores(t, dir, list, 1)
	if err := b.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, b.Output())
	}
	verify(t, dir)
}

// startStores starts the broker and checks what it holds; in round 0 it makes the
// topics.
func startStores(t *testing.T, dir string, list []*store, round int, more ...string) *systems.Process {
	t.Helper()
	b, err := systems.Klamm(dir, append(more, storeOverrides...)...)
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	t.Cleanup(b.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, s := range list {
		if round == 0 {
			configs := make(map[string]*string)
			for k, v := range stores[s.topic] {
				configs[k] = &v
			}
			if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, configs, s.topic); err != nil {
				t.Fatalf("create %s: %v", s.topic, err)
			}
		} else {
			s.check(ctx, t, cl, b, round)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return b
}

// verify runs klamm log verify over a directory that no broker has open.
func verify(t *testing.T, dir string) {
	t.Helper()
	path, err := systems.KlammBinary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "log", "verify", dir).CombinedOutput(); err != nil {
		t.Fatalf("klamm log verify: %v\n%s", err, out)
	}
}

// awaitFile waits until a file of the compacted topic has one of the suffixes,
// and returns its name; none if there was none in time.
func awaitFile(dir string, limit time.Duration, suffixes ...string) string {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		for _, suffix := range suffixes {
			if names, _ := filepath.Glob(filepath.Join(dir, "compacted-0", "*"+suffix)); len(names) > 0 {
				return names[0]
			}
		}
	}
	return ""
}

// produceWhile writes to all stores until f returns.
func produceWhile(t *testing.T, b *systems.Process, list []*store, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	for _, s := range list {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(500),
			kgo.ProducerBatchMaxBytes(4<<10), kgo.ProducerLinger(time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		producing.Go(func() {
			for ctx.Err() == nil {
				for range 20 {
					r := s.record()
					cl.Produce(ctx, r, func(r *kgo.Record, err error) {
						if err == nil { // else nothing is promised
							s.note(r)
						}
					})
				}
				time.Sleep(2 * time.Millisecond) // so that logs stay small enough to be read in each round
			}
		})
	}
	f()
	cancel()
	producing.Wait()
}

// record returns the next record: its number is in its header, as a tombstone has
// no value.
func (s *store) record() *kgo.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.next
	s.next++
	r := &kgo.Record{Topic: s.topic, Key: fmt.Appendf(nil, "key-%d", n*7%storeKeys), Headers: []kgo.RecordHeader{{Key: "n", Value: binary.BigEndian.AppendUint64(nil, n)}}}
	if n%13 == 0 {
		s.gone[string(r.Key)] = n
	} else {
		r.Value = []byte(strings.Repeat("v", int(50+n%50)))
	}
	return r
}

func describe(r *kgo.Record) written {
	return written{binary.BigEndian.Uint64(r.Headers[0].Value), string(r.Key), r.Value == nil}
}

func (s *store) note(r *kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked[r.Offset] = describe(r)
}

// check reads the topic from its start and compares it with what was acknowledged.
func (s *store) check(ctx context.Context, t *testing.T, cl *kgo.Client, b *systems.Process, round int) {
	t.Helper()
	probe := s.record() // whose offset is where to read to
	probe.Key, probe.Value = fmt.Appendf(nil, "probe-%d", round), []byte("probe")
	if err := cl.ProduceSync(ctx, probe).FirstErr(); err != nil {
		t.Fatalf("round %d: %s: %v\n%s", round, s.topic, err, b.Output())
	}
	s.note(probe)
	s.mu.Lock() // a client that was closed may still tell of records
	acked := maps.Clone(s.acked)
	s.mu.Unlock()
	there := s.read(ctx, t, b, acked, probe.Offset, round)
	if s.topic == "compacted" {
		s.checkCompacted(t, acked, there, round)
		return
	}
	for offset, w := range acked {
		if _, ok := there[offset]; !ok && offset >= s.start {
			t.Errorf("round %d: %s: record %d, acknowledged at offset %d, is not there; the log starts at %d", round, s.topic, w.number, offset, s.start)
			return
		}
	}
}

// read returns the records up to offset end. Those that were acknowledged must be
// as they were, and all in order.
func (s *store) read(ctx context.Context, t *testing.T, b *systems.Process, acked map[int64]written, end int64, round int) map[int64]written {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	start := s.settled(ctx, t, cl)
	if start < s.start || start > 0 && s.topic != "retained" {
		t.Errorf("round %d: %s starts at %d, and was at %d", round, s.topic, start, s.start)
	}
	s.start = start
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: {0: kgo.NewOffset().At(start)}})
	there := make(map[int64]written)
	at, last := start-1, int64(-1)
	for at < end {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("round %d: %s: read to offset %d of %d: %v", round, s.topic, at, end, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			w := describe(r)
			if r.Offset != at+1 && s.topic != "compacted" || r.Offset <= at || int64(w.number) <= last {
				t.Errorf("round %d: %s goes from record %d at offset %d to record %d at offset %d", round, s.topic, last, at, w.number, r.Offset)
			}
			if was, ok := acked[r.Offset]; ok && was != w {
				t.Errorf("round %d: %s has %+v at offset %d, where %+v was acknowledged", round, s.topic, w, r.Offset, was)
			}
			there[r.Offset], at, last = w, r.Offset, int64(w.number)
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	return there
}

// settled returns the log start offset, once retention has done what was left to
// do.
func (s *store) settled(ctx context.Context, t *testing.T, cl *kgo.Client) int64 {
	t.Helper()
	for last := int64(-1); ; time.Sleep(150 * time.Millisecond) { // a few checks
		starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, s.topic)
		if err == nil {
			err = starts.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _ := starts.Lookup(s.topic, 0)
		if o.Offset == last || s.topic != "retained" {
			return o.Offset
		}
		last = o.Offset
	}
}

// checkCompacted checks that of each key the last record is there, unless it is a
// tombstone, and none before a tombstone that has gone.
func (s *store) checkCompacted(t *testing.T, acked, there map[int64]written, round int) {
	t.Helper()
	newest := make(map[string]int64) // offset by key, of what is there
	for offset, w := range there {
		if at, ok := newest[w.key]; !ok || offset > at {
			newest[w.key] = offset
		}
	}
	for offset, w := range acked {
		at, ok := newest[w.key]
		// A tombstone that was not acknowledged may have been written too.
		if ok && at < offset || !ok && s.gone[w.key] < w.number {
			t.Errorf("round %d: key %s was written at offset %d, %+v, and the last that is there is %d, %v", round, w.key, offset, w, at, ok)
			return
		}
	}
}
