package coordinator

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

var simSeeds = flag.Uint64("sim.seeds", 100, "seeds of TestCoreSimulation")

// partition is a storage of which the simulation decides what is written, what is
// committed, and what a new leader cuts off.
type partition struct {
	r         *rand.Rand
	batches   []record.Batch
	waits     []chan struct{} // of each batch; nil where it was committed at once
	committed int             // batches
	failed    error           // of the commits that were under way
	full      bool            // every append fails
}

const simBatch = 400

func (p *partition) MaxBatch() int { return simBatch }

func (p *partition) Append(b []byte) (Appended, error) {
	switch {
	case len(b) > simBatch:
		return Appended{}, kerr.RecordListTooLarge
	case p.full || p.r.IntN(8) == 0:
		return Appended{}, kerr.NotEnoughReplicas
	}
	batch := record.Batch(bytes.Clone(b))
	batch.SetBaseOffset(p.end())
	base := p.end()
	p.batches = append(p.batches, batch)
	if p.committed == len(p.batches)-1 && p.r.IntN(2) == 0 {
		p.committed++
		p.waits = append(p.waits, nil)
		return Appended{Base: base}, nil
	}
	done := make(chan struct{})
	p.waits = append(p.waits, done)
	return Appended{Base: base, Done: done, Result: func() error { return p.failed }}, nil
}

func (p *partition) end() (n int64) {
	for _, b := range p.batches {
		n += int64(b.Count())
	}
	return n
}

// advance commits some of what is not.
func (p *partition) advance(n int) {
	for ; n > 0 && p.committed < len(p.batches); n-- {
		if p.waits[p.committed] != nil {
			close(p.waits[p.committed])
		}
		p.committed++
	}
}

// cut has a new leader take over that has the committed batches only.
func (p *partition) cut() {
	p.failed = kerr.NotLeaderOrFollower
	for _, done := range p.waits[p.committed:] {
		close(done)
	}
	p.batches, p.waits = p.batches[:p.committed], p.waits[:p.committed]
}

func (p *partition) Load(_ context.Context, f func(record.Batch) error) error {
	p.advance(len(p.batches))
	p.failed = nil
	for _, b := range p.batches {
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

func (p *partition) values(batches int) (out []string) {
	for _, b := range p.batches[:batches] {
		it := b.Iterate(maxLoad)
		for it.Next() {
			out = append(out, string(it.Record().Value[:6]))
		}
		it.Close()
	}
	return out
}

// listing is a machine whose state is the values that were replayed. It may panic
// wherever it is called.
type listing struct {
	s      *simulation
	values []string
	due    time.Time
	panics string
}

func (l *listing) boom(where string) {
	if l.panics == where {
		l.panics = ""
		panic(where)
	}
}

func (l *listing) Replay(r Record, _ Origin) error {
	l.boom("replay")
	l.values = append(l.values, string(r.Value[:6]))
	return nil
}

func (l *listing) Ended(Marker) error { return nil }

func (l *listing) Loaded(time.Time) Decision { return Decision{} }

func (l *listing) Next() time.Time { return l.due }

func (l *listing) Tick(time.Time) Decision {
	l.boom("tick")
	l.due = time.Time{}
	return l.s.decision(1+l.s.r.IntN(3), false)
}

func (l *listing) Unload(error) { l.boom("unload") }

// told is what became of a command.
type told struct {
	values []string // that it wrote
	seen   int      // values that it saw
	times  int
	err    error
}

type simulation struct {
	t      *testing.T
	r      *rand.Rand
	p      *partition
	c      *core[*listing]
	now    time.Time
	number int
	told   []*told
	owing  map[string]bool // values that nobody waits for, and that are not lost
	order  []int           // commands with records, as they are answered
}

// decision returns records with new numbers.
func (s *simulation) decision(n int, large bool) Decision {
	d := Decision{Divisible: true}
	for range n {
		s.number++
		size := 6 + s.r.IntN(60)
		if large && s.r.IntN(4) == 0 {
			size = 2 * simBatch
		}
		v := fmt.Appendf(nil, "%06d", s.number)
		d.Records = append(d.Records, Record{Key: bytes.Clone(v), Value: append(v, bytes.Repeat([]byte("x"), size-6)...)})
		if size < simBatch {
			s.owing[string(v[:6])] = true
		}
	}
	return d
}

// command has the core decide something.
func (s *simulation) command() {
	id, waited, panics := len(s.told), s.r.IntN(3) > 0, s.r.IntN(30) == 0
	t := new(told)
	s.told = append(s.told, t)
	if !waited {
		t.times = 1 // only a failure is told
	}
	answered := func(err error) {
		if t.times++; t.times > 1 && (waited || err == nil) {
			s.t.Fatalf("command %d is answered twice, now with %v", id, err)
		}
		t.err = err
		if err == nil {
			s.visible(id, t)
		}
	}
	s.c.decide(s.now, func(m *listing, _ time.Time) Decision {
		t.seen = len(m.values)
		if panics && s.r.IntN(2) == 0 {
			panic("decide")
		}
		if s.r.IntN(40) == 0 {
			m.panics = []string{"replay", "tick", "unload"}[s.r.IntN(3)]
		}
		if s.r.IntN(5) == 0 {
			m.due = s.now.Add(time.Duration(s.r.IntN(500)) * time.Millisecond)
		}
		n := s.r.IntN(4) * s.r.IntN(6)
		d := s.decision(n, !waited)
		if waited {
			for _, r := range d.Records {
				t.values = append(t.values, string(r.Value[:6]))
				delete(s.owing, string(r.Value[:6]))
			}
			d.Divisible = s.r.IntN(2) == 0
			d.Then = func(err error) {
				answered(err)
				if panics {
					panic("answer")
				}
			}
		}
		return d
	}, answered)
}

// visible holds that what a command wrote and what it saw is committed.
func (s *simulation) visible(id int, t *told) {
	have := s.p.values(s.p.committed)
	if t.seen > len(have) {
		s.t.Fatalf("command %d saw %d values and was answered when %d were committed", id, t.seen, len(have))
	}
	for _, v := range t.values {
		if !slices.Contains(have, v) {
			s.t.Fatalf("command %d was answered, and %s is not committed", id, v)
		}
	}
	if len(t.values) > 0 {
		if n := len(s.order); n > 0 && s.order[n-1] > id {
			s.t.Fatalf("command %d is answered after %d", id, s.order[n-1])
		}
		s.order = append(s.order, id)
	}
}

// revive loads the machine where it was lost.
func (s *simulation) revive() {
	if s.c.live {
		return
	}
	s.c.begin()
	if err := s.p.Load(context.Background(), s.c.load); err != nil {
		s.t.Fatal(err)
	}
	if err := s.c.loaded(s.now); err != nil {
		s.t.Fatal(err)
	}
}

// check holds the core against what was written.
func (s *simulation) check() {
	got := s.p.values(len(s.p.batches))
	if s.c.live && !slices.Equal(s.c.machine.values, got) {
		s.t.Fatalf("the state is %v, the log has %v", s.c.machine.values, got)
	}
	if !slices.IsSorted(got) {
		s.t.Fatalf("written out of order: %v", got)
	}
}

// Whatever is written, committed, cut off or panics, in whatever order: the state is
// that of the log, each command is answered once, with success only when all that it
// wrote and saw is committed, and nothing is lost that nobody waits for.
func TestCoreSimulation(t *testing.T) {
	for seed := range *simSeeds {
		r := rand.New(rand.NewPCG(seed, 7))
		s := &simulation{t: t, r: r, p: &partition{r: r}, now: time.UnixMilli(1), owing: make(map[string]bool)}
		s.c = newCore(Options[*listing]{New: func() *listing { return &listing{s: s} }, Storage: s.p, Logger: zap.NewNop()})
		for range 200 {
			s.revive()
			switch s.r.IntN(12) {
			case 0:
				s.p.full = !s.p.full && s.r.IntN(3) == 0
			case 1, 2, 3:
				s.p.advance(1 + s.r.IntN(2))
				if s.r.IntN(2) == 0 {
					s.c.settle()
				}
			case 4:
				if len(s.p.batches) > s.p.committed && s.r.IntN(4) == 0 {
					for _, v := range s.p.values(len(s.p.batches))[len(s.p.values(s.p.committed)):] {
						delete(s.owing, v) // what was written in time and not committed is decided anew
					}
					s.p.cut()
					s.c.settle()
				}
			case 5, 6:
				s.now = s.now.Add(time.Duration(s.r.IntN(1000)) * time.Millisecond)
				s.c.tick(s.now)
			default:
				s.command()
			}
			s.check()
			if next := s.c.next(); s.c.live && s.c.owed.any() && next.IsZero() {
				t.Fatalf("seed %d: records are owed, and nobody is to write them", seed)
			}
		}
		s.p.full = false
		for tries := 0; s.c.owed.any() || len(s.c.pending) > 0 || !s.c.live; tries++ {
			if tries > 1000 {
				t.Fatalf("seed %d: %d records are owed for ever", seed, len(s.c.owed.records))
			}
			s.revive()
			s.now = s.now.Add(lastRetry)
			s.c.tick(s.now)
			s.p.advance(len(s.p.batches))
			s.c.settle()
		}
		s.check()
		have := s.p.values(s.p.committed)
		for v := range s.owing {
			if !slices.Contains(have, v) {
				t.Fatalf("seed %d: %s was decided and is lost", seed, v)
			}
		}
		s.c.end(kerr.NotCoordinator)
		for id, x := range s.told {
			if x.times == 0 {
				t.Fatalf("seed %d: command %d is never answered", seed, id)
			}
		}
	}
}

// A shard that ends tells whoever waits, and drops what is owed.
func TestCoreEnds(t *testing.T) {
	p := &partition{r: rand.New(rand.NewPCG(1, 1))}
	s := &simulation{t: t, r: p.r, p: p, owing: make(map[string]bool)}
	c := newCore(Options[*listing]{New: func() *listing { return &listing{s: s} }, Storage: p, Logger: zap.NewNop()})
	c.begin()
	var got error
	for c.committing() == nil {
		c.decide(s.now, func(*listing, time.Time) Decision {
			d := s.decision(1, false)
			d.Then = func(err error) { got = err }
			return d
		}, func(error) {})
	}
	p.full = true
	c.decide(s.now, func(*listing, time.Time) Decision { return s.decision(1, false) }, func(error) {})
	if got = nil; !c.owed.any() {
		t.Fatal("nothing is owed")
	}
	if c.end(kerr.NotCoordinator); !errors.Is(got, kerr.NotCoordinator) || c.owed.any() || c.live || !c.next().IsZero() || c.committing() != nil {
		t.Errorf("told %v, owed %v, live %v", got, c.owed.any(), c.live)
	}
}
