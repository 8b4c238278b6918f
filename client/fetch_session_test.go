package client

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// modelSession is a session as a broker holds it: by partition and topic id.
type modelSession struct {
	epoch int32
	ids   bool
	parts map[modelKey]fetchWant
}

type modelKey struct {
	tp TopicPartition
	id prim.UUID
}

// take does what a broker does with a request (FetchSession, FetchManager): it
// returns the head of its answer, and all that it would read.
func (b *modelBroker) take(t *testing.T, ask fetchAsk, ids bool) (kerr.Code, int32, []modelKey) {
	s := b.sessions[ask.id]
	switch {
	case ask.epoch == sessionFinal:
		delete(b.sessions, ask.id)
		return kerr.None, 0, nil
	case ask.epoch == sessionFull:
		delete(b.sessions, ask.id)
		b.last++
		s = &modelSession{epoch: b.first, ids: ids, parts: map[modelKey]fetchWant{}}
		if b.full {
			s.parts = map[modelKey]fetchWant{}
			for _, w := range ask.send {
				s.parts[modelKey{w.tp, w.id}] = w
			}
			return kerr.None, 0, slices.Collect(maps.Keys(s.parts))
		}
		b.sessions[b.last] = s
		ask.id = b.last
	case s == nil:
		return kerr.FetchSessionIdNotFound, 0, nil
	case s.epoch != ask.epoch:
		return kerr.InvalidFetchSessionEpoch, 0, nil
	case s.ids != ids:
		return kerr.FetchSessionTopicIdError, 0, nil
	default:
		if s.epoch++; s.epoch < 0 {
			s.epoch = 1
		}
	}
	for _, w := range ask.forget {
		k := modelKey{w.tp, w.id}
		if _, held := s.parts[k]; !held {
			t.Fatalf("%v is forgotten, and not held", k)
		}
		delete(s.parts, k)
	}
	for _, w := range ask.send {
		s.parts[modelKey{w.tp, w.id}] = w
	}
	return kerr.None, ask.id, slices.Collect(maps.Keys(s.parts))
}

type modelBroker struct {
	sessions map[int32]*modelSession
	last     int32
	first    int32 // epoch of the first request of a session
	full     bool  // has no room
}

// TestFetchSessionModel has a session and a broker go through changes of what is
// wanted, lost requests, lost answers, evictions, topics made again, and topics
// without ids. Whenever an answer can be used, the broker has read exactly what is
// wanted, and after an error the next answer can be.
func TestFetchSessionModel(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 5))
		b := &modelBroker{sessions: map[int32]*modelSession{}, first: 1}
		s := new(fetchSession)
		wanted := map[TopicPartition]fetchWant{}
		ids, evicted, short, partial := true, false, 0, 0
		for range 200 {
			for range rng.IntN(4) {
				tp := TopicPartition{string(rune('a' + rng.IntN(3))), rng.Int32N(4)}
				w, have := wanted[tp]
				switch rng.IntN(4) {
				case 0:
					delete(wanted, tp)
				case 1:
					if have {
						w.id[0]++ // made again
						wanted[tp] = w
					}
				default:
					w.tp, w.offset = tp, w.offset+1
					if w.id == (prim.UUID{}) {
						w.id[0] = 1
					}
					wanted[tp] = w
				}
			}
			if rng.IntN(20) == 0 {
				ids = !ids
			}
			if rng.IntN(15) == 0 {
				clear(b.sessions) // or another broker process
				evicted = true
			}
			b.full = seed%10 == 9
			var want []fetchWant
			for _, w := range wanted {
				if !ids {
					w.id = prim.UUID{}
				}
				want = append(want, w)
			}
			ask := s.next(want, ids)
			if !ask.full {
				partial++
				if len(ask.send) < len(want) {
					short++
				}
			}
			if rng.IntN(12) == 0 { // the request is lost
				s.failed()
				continue
			}
			code, id, read := b.take(t, ask, ids)
			if rng.IntN(12) == 0 { // the answer is
				s.failed()
				continue
			}
			var named []TopicPartition
			for _, k := range read {
				if ask.full || rng.IntN(2) == 0 { // there is news of some
					named = append(named, k.tp)
				}
			}
			if !s.answered(code, id, named) {
				if !evicted || ask.full {
					t.Fatalf("seed %d: an answer to %+v cannot be used: %v", seed, ask, code)
				}
				evicted = false
				continue
			}
			evicted = evicted && !ask.full
			if len(read) != len(want) {
				t.Fatalf("seed %d: the broker read %v, wanted are %v", seed, read, want)
			}
			if held := b.sessions[id]; held != nil {
				for _, w := range want {
					if held.parts[modelKey{w.tp, w.id}] != w {
						t.Fatalf("seed %d: the broker holds %+v, wanted is %+v", seed, held.parts[modelKey{w.tp, w.id}], w)
					}
				}
			}
		}
		if !b.full && (partial < 80 || short < 40) {
			t.Fatalf("seed %d: %d requests of a session, %d of them short", seed, partial, short)
		}
		if ask, open := s.last(); open != (ask.id != 0) || ask.epoch != sessionFinal || b.full && open {
			t.Fatalf("seed %d: the last request is %+v", seed, ask)
		}
		if s.epoch != sessionFull || s.id != 0 {
			t.Fatalf("seed %d: %+v is left", seed, s)
		}
	}
}

// TestFetchSessionSteps: what an answer does to a session.
func TestFetchSessionSteps(t *testing.T) {
	a, b := fetchWant{tp: TopicPartition{"a", 0}, offset: 1}, fetchWant{tp: TopicPartition{"b", 0}}
	for _, c := range []struct {
		name   string
		epoch  int32 // of the request
		code   kerr.Code
		id     int32
		named  []TopicPartition
		usable bool
		next   int32
		nextID int32
	}{
		{"the first answer", 0, kerr.None, 7, []TopicPartition{a.tp, b.tp}, true, 1, 7},
		{"a broker without room", 0, kerr.None, 0, []TopicPartition{a.tp, b.tp}, true, 0, 0},
		{"the first answer leaves one out", 0, kerr.None, 7, []TopicPartition{a.tp}, true, 0, 0},
		{"an answer without news", 3, kerr.None, 7, nil, true, 4, 7},
		{"the last epoch", math.MaxInt32, kerr.None, 7, nil, true, 1, 7},
		{"news of what was not asked for", 3, kerr.None, 7, []TopicPartition{{"c", 0}}, false, 0, 7},
		{"another session", 3, kerr.None, 8, nil, false, 0, 7},
		{"the broker ends it", 3, kerr.None, 0, nil, true, 0, 0},
		{"it was evicted", 3, kerr.FetchSessionIdNotFound, 0, nil, false, 0, 0},
		{"an epoch too many", 3, kerr.InvalidFetchSessionEpoch, 0, nil, false, 0, 7},
		{"ids and names", 3, kerr.FetchSessionTopicIdError, 0, nil, false, 0, 7},
		{"another error", 3, kerr.UnknownServerError, 0, nil, false, 0, 7},
	} {
		s := &fetchSession{id: 7, epoch: c.epoch, parts: map[TopicPartition]fetchWant{a.tp: a}}
		if c.epoch == 0 {
			s = new(fetchSession)
		}
		ask := s.next([]fetchWant{a, b}, false)
		if want := map[bool]int{true: 2, false: 1}[c.epoch == 0]; len(ask.send) != want || ask.full != (c.epoch == 0) {
			t.Errorf("%s: asks for %v", c.name, ask.send)
		}
		if got := s.answered(c.code, c.id, c.named); got != c.usable || s.epoch != c.next || s.id != c.nextID {
			t.Errorf("%s: usable %v, then epoch %d of session %d, want %v, %d, %d", c.name, got, s.epoch, s.id, c.usable, c.next, c.nextID)
		}
	}
}

// fetches returns the heads of the fetches so far.
func (f *fake) fetches() []fakeAsk {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// TestConsumerInSession: a consumer at the end of its partitions asks for nothing anew,
// one partition moves on by itself, a broker that loses the session is told all at
// once, and a broker is told of the end when it leads nothing more, or the consumer
// closes.
func TestConsumerInSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2)
		f.topic("t", 1, 1, 1)
		f.topic("u", 2)
		o := ConsumerOptions{Options: f.options()}
		c, err := NewConsumer(o)
		if err != nil {
			t.Fatal(err)
		}
		at := map[TopicPartition]Position{{"u", 0}: AtOffset(0)}
		for i := range int32(3) {
			at[TopicPartition{"t", i}] = AtOffset(0)
		}
		c.Assign(at)
		drainErrors(c, 5*time.Second)
		at1 := func() (all []fakeAsk) {
			for _, a := range f.fetches() {
				if a.broker == 1 {
					all = append(all, a)
				}
			}
			return all
		}
		idle := at1()
		if len(idle) < 5 || idle[0].epoch != 0 || idle[0].topics != 1 {
			t.Fatalf("fetches of broker 1: %v", idle)
		}
		for i, a := range idle[1:] {
			if a.epoch != int32(i+1) || a.session != idle[1].session || a.topics+a.forgotten != 0 {
				t.Errorf("request %d of a session without news: %+v", i+1, a)
			}
		}
		f.fill("t", 1, record.None, 1, 2)
		if rs, err := c.Poll(background(t)); err != nil || len(rs) != 2 {
			t.Fatal(rs, err)
		}
		drainErrors(c, 2*time.Second)
		sent := 0
		for _, a := range at1()[len(idle):] {
			sent += int(a.topics)
			if a.epoch == 0 {
				t.Errorf("a full fetch: %+v", a)
			}
		}
		if sent != 1 {
			t.Errorf("%d topics were named after news of one partition", sent)
		}
		f.mu.Lock()
		clear(f.sessions)
		f.mu.Unlock()
		before := len(at1())
		drainErrors(c, time.Second)
		again := at1()[before:]
		if i := slices.IndexFunc(again, func(a fakeAsk) bool { return a.epoch == 0 && a.session == 0 }); i < 1 || again[i].at.Sub(again[i-1].at) > 50*time.Millisecond {
			t.Errorf("no full fetch at once: %v", again)
		}
		f.fill("t", 2, record.None, 1, 1)
		began := time.Now()
		if rs, err := c.Poll(background(t)); err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		if d := time.Since(began); d > c.o.FetchMaxWait+50*time.Millisecond {
			t.Errorf("read %v after the session was lost", d)
		}
		drainErrors(c, 2*time.Second)
		f.move("u", 0, 1)
		drainErrors(c, 10*time.Second)
		ended := func(broker int32) bool {
			return slices.ContainsFunc(f.fetches(), func(a fakeAsk) bool { return a.broker == broker && a.epoch == -1 && a.session != 0 })
		}
		if !ended(2) || ended(1) {
			t.Errorf("ended at broker 1 %v, at broker 2 %v", ended(1), ended(2))
		}
		began = time.Now()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > c.o.FetchMaxWait+50*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.sessions); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestSessionAlwaysLost: a broker that has lost the session each time is asked less
// and less often.
func TestSessionAlwaysLost(t *testing.T) {
	for _, code := range []kerr.Code{kerr.FetchSessionIdNotFound, kerr.InvalidFetchSessionEpoch, kerr.FetchSessionTopicIdError} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.topic("t", 1)
			f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
				if r, ok := req.(*msg.FetchRequest); ok && r.SessionEpoch >= 0 {
					resp := new(msg.FetchResponse)
					resp.ErrorCode = int16(code)
					return resp, ""
				}
				return nil, ""
			}
			c := newConsumer(t, f, ConsumerOptions{})
			c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
			drainErrors(c, time.Minute)
			if n := f.count(wire.Fetch); n < 20 || n > 90 {
				t.Errorf("%v: %d fetches in a minute", code, n)
			}
		})
	}
}

// TestBrokerThatDoesNotWaitLosesSessions: nor does it make the consumer ask without a
// pause that its answers come at once, too.
func TestBrokerThatDoesNotWaitLosesSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			r, ok := req.(*msg.FetchRequest)
			switch {
			case !ok || r.SessionEpoch < 0:
				return nil, ""
			case r.SessionEpoch > 0:
				return &msg.FetchResponse{ErrorCode: int16(kerr.FetchSessionIdNotFound)}, ""
			}
			time.Sleep(time.Millisecond) // time must pass in the bubble
			return f.fetch(id, r), ""
		}
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		drainErrors(c, time.Minute)
		if n := f.count(wire.Fetch); n < 20 || n > 300 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

// TestEndIsToldToEachPosition: a position that is made anew for a partition which the
// session has already hears where the partition ends, though nothing is written there.
func TestEndIsToldToEachPosition(t *testing.T) {
	tp := TopicPartition{"t", 0}
	for name, again := range map[string]func(t *testing.T, f *fake, c *Consumer){
		"assigned again": func(t *testing.T, f *fake, c *Consumer) {
			c.Assign(map[TopicPartition]Position{tp: AtOffset(3)})
			drainErrors(c, 5*time.Second)
			c.Assign(map[TopicPartition]Position{tp: AtOffset(3)})
		},
		"assigned with others": func(t *testing.T, f *fake, c *Consumer) {
			c.Assign(map[TopicPartition]Position{tp: AtOffset(3)})
			drainErrors(c, 5*time.Second)
			c.Assign(map[TopicPartition]Position{tp: AtOffset(3), {"t", 1}: AtOffset(0)})
		},
		"moved while the first fetch is under way": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.Fetch, time.Second)
			c.Assign(map[TopicPartition]Position{tp: AtOffset(3)})
			drainErrors(c, 500*time.Millisecond)
			if err := c.Seek(tp, AtEnd(0)); err != nil {
				t.Fatal(err)
			}
		},
		"kept in a rebalance": func(t *testing.T, f *fake, c *Consumer) {
			if err := c.Subscribe("t"); err != nil {
				t.Fatal(err)
			}
			pollFor(t, c, 5*time.Second)
			other := newMemberConsumer(t, f, ConsumerOptions{}, "t")
			done := make(chan struct{})
			go func() { drainErrors(other, 5*time.Second); close(done) }()
			pollFor(t, c, 5*time.Second)
			<-done
			if got := c.Assignment(); len(got) != 1 || got[0] != tp {
				t.Fatalf("assigned %v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.topic("t", 1, 1)
				f.fill("t", 0, record.None, 1, 3)
				c := newConsumer(t, f, ConsumerOptions{Group: "g", Reset: ResetEarliest})
				again(t, f, c)
				drainErrors(c, time.Minute)
				if next, end, ok := c.Position(tp); next != 3 || end != 3 || !ok {
					t.Errorf("next %d, end %d, known %v", next, end, ok)
				}
				full := 0
				for _, a := range f.fetches() {
					if a.epoch == 0 {
						full++
					}
				}
				if full > 4 {
					t.Errorf("%d full fetches", full)
				}
			})
		})
	}
}

// TestCloseDuringALongFetch: Close does not wait for as long as brokers may wait for
// records.
func TestCloseDuringALongFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		c, err := NewConsumer(ConsumerOptions{Options: f.options(), FetchMaxWait: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		f.fill("t", 0, record.None, 1, 1)
		pollN(t, c, 1)
		drainErrors(c, time.Second)
		began := time.Now()
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > endSessionsWithin {
			t.Errorf("closed after %v", d)
		}
	})
}
