package client

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

var seed = flag.Uint64("seed", 0, "run only this seed of the simulations")

func seeds(n int) (all []uint64) {
	if *seed != 0 {
		return []uint64{*seed}
	}
	for i := range n {
		all = append(all, uint64(i+1))
	}
	return all
}

// TestSimulatedFaults sends through random refusals, lost connections, silence,
// latency, leader moves and partitions of the network, with a delivery timeout
// that outlives them: every record must be there once, in order, at the offset
// that it was told.
func TestSimulatedFaults(t *testing.T) {
	for _, s := range seeds(60) {
		synctest.Test(t, func(t *testing.T) { simulate(t, s, 24*time.Hour, ProducerOptions{}) })
	}
}

// TestSimulatedExpiry does the same with a short delivery timeout: records may
// fail, but what succeeded is there once, in order, and at its offset; nothing
// is told twice, and no record's bytes end up in another's place.
func TestSimulatedExpiry(t *testing.T) {
	for _, s := range seeds(60) {
		synctest.Test(t, func(t *testing.T) { simulate(t, s, 3*time.Second, ProducerOptions{}) })
	}
}

// TestSimulatedOrder does the same without idempotence, with acks 1 and all:
// what a lost answer has sent again may be there twice, but the records come in
// order, whatever was refused, split or moved.
func TestSimulatedOrder(t *testing.T) {
	for _, s := range seeds(60) {
		for _, acks := range []Acks{AcksAll, AcksLeader} {
			synctest.Test(t, func(t *testing.T) { simulate(t, s, 24*time.Hour, ProducerOptions{Acks: acks, Idempotence: Off}) })
		}
	}
}

func simulate(t *testing.T, seed uint64, delivery time.Duration, o ProducerOptions) {
	rng := rand.New(rand.NewPCG(seed, 7))
	f := newFake(t, 1, 2, 3)
	if seed%2 == 0 {
		f.n.SetBuffer(700) // large batches stay in the client's hands for long
	}
	if seed%4 == 1 {
		f.maxBatch = 600 // most batches must be split
	}
	f.topic("t", 1, 2)
	f.topic("u", 3)
	var mu sync.Mutex // guards rng
	random := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
	calm := false
	f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
		r, ok := req.(*msg.ProduceRequest)
		f.mu.Lock()
		quiet := calm
		f.mu.Unlock()
		if !ok || quiet {
			return nil, ""
		}
		switch random(12) {
		case 0:
			return nil, "before"
		case 1:
			return nil, "after"
		case 2:
			return nil, "silent"
		case 3:
			return refuse(r, []kerr.Code{kerr.NotLeaderOrFollower, kerr.NotEnoughReplicas, kerr.RequestTimedOut, kerr.CorruptMessage, kerr.KafkaStorageError}[random(5)]), ""
		case 4:
			time.Sleep(time.Duration(random(400)) * time.Millisecond)
		}
		return nil, ""
	}
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(50+random(500)) * time.Millisecond):
			}
			b := fmt.Sprintf("b%d", 1+random(3))
			switch random(7) {
			case 0:
				f.move("t", int32(random(2)), int32(1+random(3)))
			case 5:
				f.move("t", int32(random(2)), -1)
			case 1:
				f.n.Reset("client", b)
			case 2:
				f.n.Partition("client", b)
			case 3:
				f.n.HalfOpen("client", b)
			case 4:
				f.n.Latency("client", b, time.Duration(random(100))*time.Millisecond)
			default:
				f.n.Heal()
			}
		}
	})
	o.BatchSize, o.Linger, o.DeliveryTimeout = 60+random(600)*(1+int(seed%3)*4), time.Duration(1+random(20))*time.Millisecond, delivery
	o.Compression, o.MaxInFlight, o.MaxBlock, o.BufferMemory = record.Codec(random(5)), 1+random(5), 48*time.Hour, 40_000
	o.RequestTimeout = 2 * time.Second
	p := newProducer(t, f, o)
	type told struct {
		value string
		m     RecordMetadata
		err   error
	}
	outcomes := map[TopicPartition][]told{} // by the partition that was asked for
	sent := map[TopicPartition][]string{}
	var omu sync.Mutex
	for i := range 400 {
		tp := TopicPartition{"t", int32(random(2))}
		if random(4) == 0 {
			tp = TopicPartition{"u", 0}
		}
		v := fmt.Sprintf("%v/%d", tp, i) + strings.Repeat(".", random(1+int(seed%3)*200))
		sent[tp] = append(sent[tp], v)
		err := p.SendFunc(background(t), &Record{Topic: tp.Topic, Partition: tp.Partition, Explicit: true, Value: []byte(v)}, func(m RecordMetadata, err error) {
			omu.Lock()
			defer omu.Unlock()
			outcomes[tp] = append(outcomes[tp], told{v, m, err})
		})
		if err != nil {
			t.Fatalf("seed %d: record %d: %v", seed, i, err)
		}
		if random(5) == 0 {
			time.Sleep(time.Duration(random(50)) * time.Millisecond)
		}
	}
	time.Sleep(5 * time.Second)
	close(stop)
	chaos.Wait()
	f.n.Heal()
	f.mu.Lock()
	calm = true
	for _, parts := range f.topics {
		for _, x := range parts {
			if x.leader < 0 {
				x.leader = 1
				x.epoch++
			}
		}
	}
	f.mu.Unlock()
	calmed := time.Now()
	if err := p.Flush(background(t)); err != nil {
		t.Fatalf("seed %d: flush: %v", seed, err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Errorf("seed %d: close: %v", seed, err)
	}
	if d := time.Since(calmed); d > 15*time.Second {
		t.Errorf("seed %d: the last records were told %v after all was well", seed, d)
	}
	for tp, want := range sent {
		log := f.values(tp.Topic, int(tp.Partition))
		last, again := -1, 0
		for i, v := range log {
			at := slices.Index(want, v)
			if o.Idempotence == Off && slices.Contains(log[:i], v) {
				again++
				continue
			}
			if at <= last {
				t.Fatalf("seed %d: %v: %s at place %d after place %d", seed, tp, v, at, last)
			}
			last = at
		}
		failed := 0
		for i, o := range outcomes[tp] {
			if o.value != want[i] {
				t.Fatalf("seed %d: %v: told of %s, want %s next", seed, tp, o.value, want[i])
			}
			switch {
			case o.err != nil:
				failed++
			case o.m.Offset < 0 || int(o.m.Offset) >= len(log) || log[o.m.Offset] != o.value:
				t.Fatalf("seed %d: %v: %s was told offset %d, where it is not", seed, tp, o.value, o.m.Offset)
			}
		}
		if len(outcomes[tp]) != len(want) {
			t.Errorf("seed %d: %v: %d of %d records were told", seed, tp, len(outcomes[tp]), len(want))
		}
		if delivery > time.Hour && (failed > 0 || len(log) != len(want)+again) {
			t.Errorf("seed %d: %v: %d failed, %d of %d in the log", seed, tp, failed, len(log)-again, len(want))
		}
	}
	if p.used != 0 || p.open.len() != 0 {
		t.Errorf("seed %d: %d bytes and %d batches left", seed, p.used, p.open.len())
	}
}
