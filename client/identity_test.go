package client

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// TestIdentityScripts runs the scripts in testdata/identity: one command a line, and
// below ---- what follows, and the state of the partition that was named. Batches
// have letters; p1 and p2 are partitions.
//
//	got ID EPOCH        a broker gives the id that was asked for
//	send p1 A COUNT     send a batch if that is allowed now; it keeps its place, if it has one
//	ack p1 A            the broker has appended it
//	lost p1 A           its request ended without an answer
//	refuse p1 A CODE    the broker has answered so
//	expire p1 A         it is given up, though its request may still be under way
//	split p1 A B C      the broker found it too large
func TestIdentityScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata/identity", func(t *testing.T, path string) {
		b := newIdentityBench()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			lines := strings.Split(strings.TrimSpace(d.String()), "\n")
			width := 0
			for _, line := range lines {
				width = max(width, len(line))
			}
			for _, line := range lines {
				fmt.Fprintf(&out, "%-*s  %s\n", width, line, b.run(t, strings.Fields(line)))
			}
			return out.String()
		})
	})
}

type identityBench struct {
	who     identity
	parts   map[string]*sequences
	batches map[string]*testBatch
	waiting map[string][]string // by partition, those to be sent again
}

type testBatch struct {
	place stamp
	count int32
}

func newIdentityBench() *identityBench {
	b := &identityBench{who: newIdentity(), parts: map[string]*sequences{}, batches: map[string]*testBatch{}, waiting: map[string][]string{}}
	for _, name := range []string{"p1", "p2"} {
		s := b.who.partition()
		b.parts[name] = &s
	}
	return b
}

func (b *identityBench) run(t *testing.T, words []string) (said string) {
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		return n
	}
	if words[0] == "got" {
		b.who.got(number(words[1]), int16(number(words[2])))
		return fmt.Sprintf("id %d, epoch %d", b.who.id, b.who.epoch)
	}
	p, name := words[1], words[2]
	s, x := b.parts[p], b.batches[name]
	said = "ok"
	wait := func() {
		queue := append(b.waiting[p], name)
		slices.SortStableFunc(queue, func(x, y string) int { return strings.Compare(x, y) })
		b.waiting[p] = queue
	}
	switch words[0] {
	case "send":
		if x == nil {
			x = &testBatch{noStamp, int32(number(words[3]))}
			b.batches[name] = x
		}
		first := x.place
		if q := b.waiting[p]; len(q) > 0 {
			first = b.batches[q[0]].place
		}
		ok, again := s.ready(first)
		if again {
			for _, w := range b.waiting[p] {
				b.batches[w].place = s.give(b.batches[w].count)
			}
		}
		switch {
		case !ok:
			said = "not yet"
		case !s.inWindow(x.place):
			said = "not in the window"
		case s.behind(x.place):
			said = "an earlier one is under way"
		default:
			if !x.place.given() {
				x.place = s.give(x.count)
			}
			s.took(x.place)
			b.waiting[p] = slices.DeleteFunc(b.waiting[p], func(w string) bool { return w == name })
			said = fmt.Sprintf("sent at %d", x.place.seq)
		}
	case "ack":
		s.landed(x.place)
		s.acknowledged(x.place)
		s.decided(x.place)
	case "lost":
		s.landed(x.place)
		wait()
	case "refuse":
		code := kerr.None
		for _, c := range kerr.Codes() {
			if c.Name() == words[3] {
				code = c
			}
		}
		s.landed(x.place)
		v := s.refused(x.place, code)
		said = [...]string{"as the code says", "written", "again at its place", "again at a new place", "fenced"}[v]
		wait()
	case "expire":
		s.decided(x.place)
		b.waiting[p] = slices.DeleteFunc(b.waiting[p], func(w string) bool { return w == name })
	case "split":
		s.landed(x.place)
		for i, place := range s.split(x.place, x.count/2, x.count-x.count/2) {
			name = words[3+i]
			b.batches[name] = &testBatch{place, []int32{x.count / 2, x.count - x.count/2}[i]}
			wait()
		}
	default:
		t.Fatalf("%v: no such command", words)
	}
	if b.who.ask() {
		said += "; asks for an id"
	}
	said += fmt.Sprintf(" | id %d epoch %d next %d acked %d", s.id, s.epoch, s.next, s.acked)
	if s.renew {
		said += " renew"
	}
	for _, x := range s.sent {
		state := "waits"
		switch {
		case x.flying && x.decided:
			state = "given up, under way"
		case x.flying:
			state = "under way"
		case x.decided:
			state = "done"
		}
		said += fmt.Sprintf(" [%d+%d %s]", x.seq, x.count, state)
	}
	return said
}

// TestSequencesModel sends batches to a broker that checks sequences and remembers
// five batches, over a network that loses requests and answers. Every batch is there
// once, in order, and none is refused for good.
func TestSequencesModel(t *testing.T) {
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 9))
		who := newIdentity()
		who.got(7, 0)
		s := who.partition()
		type sent struct {
			n     int // which batch
			place stamp
			count int32
		}
		var (
			queue  []sent // waiting, in order
			flying []sent // requests in order
			log    []int
			last   []placed // what the broker remembers
			made   int
			gone   = map[int]bool{} // the broker has lost the answer to it once
		)
		next := int32(0)
		if seed%3 == 0 { // near the end of the sequences
			s.id, s.epoch, s.next, next = 7, 0, 1<<31-20, 1<<31-20
		}
		requeue := func(x sent) {
			i := 0
			for i < len(queue) && queue[i].n < x.n {
				i++
			}
			queue = slices.Insert(queue, i, x)
			gone[x.n] = true
		}
		for step := 0; step < 4000 && (made < 60 || len(queue)+len(flying) > 0); step++ {
			if made < 60 && rng.IntN(3) == 0 {
				queue = append(queue, sent{made, noStamp, 1 + rng.Int32N(4)})
				made++
			}
			if len(queue) > 0 && rng.IntN(2) == 0 {
				x := queue[0]
				ok, again := s.ready(x.place)
				if again {
					t.Fatalf("seed %d: a new epoch, though the broker knows every batch", seed)
				}
				if ok && s.inWindow(x.place) && !s.behind(x.place) && !(gone[x.n] && s.flying()) {
					if !x.place.given() {
						x.place = s.give(x.count)
					}
					s.took(x.place)
					queue, flying = queue[1:], append(flying, x)
				}
			}
			if len(flying) == 0 || rng.IntN(2) == 0 {
				continue
			}
			x := flying[0]
			flying = flying[1:]
			s.landed(x.place)
			if rng.IntN(6) == 0 { // the request is lost
				requeue(x)
				continue
			}
			code := kerr.None
			known := slices.ContainsFunc(last, func(p placed) bool { return p.seq == x.place.seq && p.count == x.count })
			switch {
			case known:
			case x.place.seq != next:
				code = kerr.OutOfOrderSequenceNumber
			default:
				log = append(log, x.n)
				next = record.AddSequence(next, x.count)
				last = append(last, placed{seq: x.place.seq, count: x.count})
				last = last[max(0, len(last)-windowOfBroker):]
			}
			switch {
			case rng.IntN(6) == 0: // the answer is
				requeue(x)
			case code == kerr.None:
				s.acknowledged(x.place)
				s.decided(x.place)
			case s.refused(x.place, code) == samePlace:
				requeue(x)
			default:
				t.Fatalf("seed %d: batch %d at %d is not to be sent again at its place, the broker expects %d", seed, x.n, x.place.seq, next)
			}
		}
		if len(log) != 60 || !slices.IsSorted(log) {
			t.Fatalf("seed %d: the log has %v", seed, log)
		}
		if len(s.sent) != 0 {
			t.Fatalf("seed %d: %d places left", seed, len(s.sent))
		}
	}
}

// TestFencedProducerEnds: a broker says that another producer has taken the place of
// this one. What waits and what is sent later fails at once, with that.
func TestFencedProducerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1, 1)
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if r, ok := req.(*msg.ProduceRequest); ok {
				time.Sleep(time.Second)
				return refuse(r, kerr.ProducerFenced), ""
			}
			return nil, ""
		}
		p := newProducer(t, f, ProducerOptions{MaxInFlight: 1})
		began := time.Now()
		for i := range int32(4) {
			future := p.Send(background(t), &Record{Topic: "t", Partition: i % 2, Explicit: true, Value: []byte("v")})
			if i == 0 || i == 2 {
				time.Sleep(100 * time.Millisecond)
			}
			if i%2 == 1 {
				if _, err := future.Get(background(t)); !errors.Is(err, kerr.ProducerFenced) {
					t.Errorf("record %d: %v", i, err)
				}
			}
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("told after %v", d)
		}
		if n := f.count(wire.Produce); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}
