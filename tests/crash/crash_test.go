// Package crash_test kills klamm in the middle of its work, as a process of its
// own, and looks at what it holds after a restart.
package crash_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

const (
	topic      = "load"
	partitions = 3
	rounds     = 5
	perRound   = 4000 // acknowledged records before the broker is killed
)

// built builds klamm where $KLAMM does not name it, so that what is tested is
// what the checkout holds.
func built(t *testing.T) {
	if os.Getenv("KLAMM") != "" {
		return
	}
	path := filepath.Join(t.TempDir(), "klamm")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/klamm")
	cmd.Dir = systems.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Setenv("KLAMM", path)
}

// load writes records numbered from 0 in each partition and remembers which were
// acknowledged, and where.
type load struct {
	mu    sync.Mutex
	sent  [partitions]uint64           // guarded by mu
	acked [partitions]map[uint64]int64 // guarded by mu: offset by number
	count atomic.Int64                 // acknowledged in this round
}

// TestKill kills the broker with SIGKILL while an idempotent producer with
// acks=all has thousands of records in flight, several times over, and starts it
// on the same directory. Every acknowledged record is there, at the offset that
// the producer was told, in order and once. What was not acknowledged may be
// there or not, but never twice and never out of order.
func TestKill(t *testing.T) {
	built(t)
	dir := t.TempDir()
	l := new(load)
	for p := range l.acked {
		l.acked[p] = make(map[uint64]int64)
	}
	for round := range rounds {
		b, err := systems.Klamm(dir)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if round == 0 {
			create(t, b.Addr)
		} else {
			l.check(t, b.Addr, round)
		}
		l.run(t, b, round)
		if t.Failed() {
			return
		}
	}
	b, err := systems.Klamm(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.check(t, b.Addr, rounds)
	if err := b.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, b.Output())
	}
}

func create(t *testing.T, addr string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := createTopics()
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if code := resp.Topics[0].ErrorCode; code != 0 {
		t.Fatalf("create: error code %d", code)
	}
}

// run produces until perRound records were acknowledged and then kills the
// broker, with more in flight. The producer keeps going until it sees that.
func (l *load) run(t *testing.T, b *systems.Process, round int) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(2000),
		kgo.ProducerBatchMaxBytes(8<<10), kgo.ProducerLinger(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	l.count.Store(0)
	ctx, cancel := context.WithCancel(t.Context())
	enough := make(chan struct{})
	var once sync.Once
	var producing sync.WaitGroup
	producing.Go(func() {
		value := make([]byte, 100)
		for i := 0; ctx.Err() == nil; i++ {
			p := i % partitions
			l.mu.Lock()
			n := l.sent[p]
			l.sent[p]++
			l.mu.Unlock()
			v := append(binary.BigEndian.AppendUint64(nil, n), value...)
			cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: v}, func(r *kgo.Record, err error) {
				if err != nil {
					return // not acknowledged: nothing is promised
				}
				l.mu.Lock()
				l.acked[p][n] = r.Offset
				l.mu.Unlock()
				if l.count.Add(1) == perRound {
					once.Do(func() { close(enough) })
				}
			})
		}
	})
	select {
	case <-enough:
	case <-time.After(60 * time.Second):
		t.Errorf("round %d: only %d records were acknowledged\n%s", round, l.count.Load(), b.Output())
	}
	b.Kill()
	cancel()
	producing.Wait()
	cl.Close()
	t.Logf("round %d: killed after %d acknowledged records", round, l.count.Load())
}

// check reads every partition from its start and compares it with what was
// acknowledged.
func (l *load) check(t *testing.T, addr string, round int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	parts := make(map[int32]kgo.Offset)
	for p := range int32(partitions) {
		parts[p] = kgo.NewOffset().At(0)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := endOffsets(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	var next [partitions]int64
	var last [partitions]int64 // number of the last record read
	for p := range last {
		last[p] = -1
	}
	found := 0
	for next != ends {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("round %d: read up to %v of %v: %v", round, next, ends, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			p, n := r.Partition, binary.BigEndian.Uint64(r.Value)
			if r.Offset != next[p] {
				t.Errorf("round %d: partition %d goes from offset %d to %d", round, p, next[p]-1, r.Offset)
			}
			if int64(n) <= last[p] {
				t.Errorf("round %d: partition %d has record %d at offset %d after record %d", round, p, n, r.Offset, last[p])
			}
			next[p], last[p] = r.Offset+1, int64(n)
			if at, ok := l.acked[p][n]; ok {
				found++
				if at != r.Offset {
					t.Errorf("round %d: record %d of partition %d is at offset %d and was acknowledged at %d", round, n, p, r.Offset, at)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	want := 0
	for p := range l.acked {
		want += len(l.acked[p])
	}
	if found != want || want < round*perRound {
		t.Errorf("round %d: %d of %d acknowledged records are there", round, found, want)
	}
	t.Logf("round %d: %d acknowledged records, all there; partitions end at %s", round, want, fmt.Sprint(ends))
}
