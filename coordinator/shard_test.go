package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// maxBatch is the size of the largest batch that a tape takes.
const maxBatch = 1000

// tape is a storage whose commits the test decides on.
type tape struct {
	mu      sync.Mutex
	batches []record.Batch
	fail    error // of the next append
	broken  error // of every append, if not nil
	hold    bool  // commits wait for release
	held    []*commit
	end     int64
	slow    chan struct{} // Load waits for it, if not nil
}

type commit struct {
	done chan struct{}
	err  error
}

func (s *tape) Append(b []byte) (coordinator.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail; err != nil {
		s.fail = nil
		return coordinator.Appended{}, err
	}
	if s.broken != nil {
		return coordinator.Appended{}, s.broken
	}
	if len(b) > maxBatch {
		return coordinator.Appended{}, kerr.RecordListTooLarge
	}
	base := s.end
	s.end += int64(record.Batch(b).Count())
	s.batches = append(s.batches, record.Batch(bytes.Clone(b)))
	s.batches[len(s.batches)-1].SetBaseOffset(base)
	if !s.hold {
		return coordinator.Appended{Base: base}, nil
	}
	c := &commit{done: make(chan struct{})}
	s.held = append(s.held, c)
	return coordinator.Appended{Base: base, Done: c.done, Result: func() error { return c.err }}, nil
}

func (s *tape) MaxBatch() int { return maxBatch }

func (s *tape) Load(ctx context.Context, f func(record.Batch) error) error {
	if s.slow != nil {
		<-s.slow
	}
	for {
		s.mu.Lock()
		held, batches := s.held, s.batches
		s.mu.Unlock()
		if len(held) == 0 {
			return s.each(batches, f)
		}
		select {
		case <-held[0].done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *tape) each(batches []record.Batch, f func(record.Batch) error) error {
	for _, b := range batches {
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// release lets the oldest held commit end.
func (s *tape) release(err error) {
	s.mu.Lock()
	c := s.held[0]
	s.held = s.held[1:]
	s.mu.Unlock()
	c.err = err
	close(c.done)
}

// list is a machine whose state is the values that were replayed.
type list struct {
	values   []string
	loaded   int
	next     time.Time
	ticks    []time.Time
	unloaded error
	broken   bool // panics
}

func (m *list) Replay(r coordinator.Record, _ coordinator.Origin) error {
	if m.broken {
		panic("boom")
	}
	if string(r.Value) == "poison" {
		return errors.New("cannot be read")
	}
	m.values = append(m.values, string(r.Value))
	return nil
}

func (m *list) Ended(coordinator.Marker) error { return nil }

func (m *list) Loaded(time.Time) coordinator.Decision {
	m.loaded = len(m.values)
	return coordinator.Decision{}
}

func (m *list) Next() time.Time { return m.next }

func (m *list) Tick(now time.Time) coordinator.Decision {
	if m.broken {
		panic("boom")
	}
	m.ticks = append(m.ticks, now)
	m.next = time.Time{}
	return coordinator.Decision{Records: []coordinator.Record{{Key: []byte("k"), Value: []byte("tick")}}}
}

func (m *list) Unload(err error) { m.unloaded = err }

// start starts a shard whose first machine is m.
func start(m *list, s *tape, codec record.Codec) *coordinator.Shard[coordinator.Machine] {
	next := m
	return coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine {
		m := next
		next = new(list)
		return m
	}, Storage: s, Clock: clock.System(), Codec: codec})
}

func put(values ...string) coordinator.Command[coordinator.Machine] {
	return func(coordinator.Machine, time.Time) coordinator.Decision {
		var d coordinator.Decision
		for _, v := range values {
			d.Records = append(d.Records, coordinator.Record{Key: []byte("k"), Value: []byte(v)})
		}
		return d
	}
}

func TestWhatWasWrittenIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		sh := start(m, s, record.LZ4)
		synctest.Wait()
		for i := range 10 {
			if err := sh.Do(t.Context(), put(fmt.Sprint(i), "x")); err != nil {
				t.Fatal(err)
			}
		}
		sh.Stop()
		if !errors.Is(m.unloaded, kerr.NotCoordinator) {
			t.Errorf("unloaded with %v", m.unloaded)
		}
		if err := sh.Do(t.Context(), put("late")); !errors.Is(err, kerr.NotCoordinator) {
			t.Errorf("a command after the end: %v", err)
		}
		again := new(list)
		sh = start(again, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		if !slices.Equal(again.values, m.values) || again.loaded != 20 {
			t.Errorf("loaded %v, written %v", again.values, m.values)
		}
	})
}

func TestCommandsWaitForTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tape{slow: make(chan struct{})}
		sh := start(new(list), s, record.None)
		defer sh.Stop()
		if err := sh.Do(t.Context(), put("early")); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Errorf("a command while loading: %v", err)
		}
		close(s.slow)
		synctest.Wait()
		if err := sh.Do(t.Context(), put("now")); err != nil || sh.Ready() != nil {
			t.Errorf("after loading: %v, %v", err, sh.Ready())
		}
	})
}

func TestALogThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(tape)
		b := record.NewBuilder(record.None, 0)
		b.Append(0, []byte("k"), []byte("poison"), nil)
		batch, err := b.Finish(record.NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		s.batches = []record.Batch{batch}
		sh := start(new(list), s, record.None)
		defer sh.Stop()
		synctest.Wait()
		if err := sh.Do(t.Context(), put("x")); !errors.Is(err, kerr.CoordinatorNotAvailable) {
			t.Errorf("a command: %v", err)
		}
	})
}

func TestAFailedAppendChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		s.fail = kerr.NotEnoughReplicas
		if err := sh.Do(t.Context(), put("lost")); !errors.Is(err, kerr.NotEnoughReplicas) {
			t.Errorf("told %v", err)
		}
		if err := sh.Do(t.Context(), put("kept")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.values, []string{"kept"}) {
			t.Errorf("state %v", m.values)
		}
	})
}

// TestAnswersWaitForCommits: nobody is told of what is not committed, neither
// who wrote it nor who looked after him.
func TestAnswersWaitForCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := &tape{hold: true}, new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		answers := make(chan string, 4)
		do := func(name string, f coordinator.Command[coordinator.Machine]) {
			go func() {
				err := sh.Do(context.Background(), f)
				answers <- fmt.Sprint(name, " ", err)
			}()
			synctest.Wait()
		}
		do("write", put("a"))
		do("read", put())
		do("write again", put("b"))
		if len(answers) != 0 {
			t.Fatalf("answered before the commit: %s", <-answers)
		}
		s.release(nil)
		synctest.Wait()
		if len(answers) != 2 {
			t.Fatalf("%d answers after the first commit, want the write's and the read's", len(answers))
		}
		s.release(nil)
		synctest.Wait()
		got := []string{<-answers, <-answers, <-answers}
		slices.Sort(got)
		if !slices.Equal(got, []string{"read <nil>", "write <nil>", "write again <nil>"}) {
			t.Errorf("answers %q", got)
		}
	})
}

// TestALostCommitReloads: where records are not committed, the state holds what the
// log may not. Whoever waits is told, and the state is loaded again from what is
// committed; then the shard goes on.
func TestALostCommitReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := &tape{hold: true}, new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		answers := make(chan error, 2)
		for _, v := range []string{"a", "b"} {
			go func() { answers <- sh.Do(context.Background(), put(v)) }()
			synctest.Wait()
		}
		s.mu.Lock()
		s.batches = s.batches[1:] // the log has lost it
		s.mu.Unlock()
		s.release(kerr.NotLeaderOrFollower)
		synctest.Wait()
		for range 2 {
			if err := <-answers; err == nil {
				t.Error("answered as committed")
			}
		}
		if !errors.Is(m.unloaded, kerr.NotCoordinator) {
			t.Errorf("unloaded with %v", m.unloaded)
		}
		// Whether the second batch is committed is not known yet.
		if err := sh.Do(t.Context(), put("c")); !errors.Is(err, kerr.CoordinatorLoadInProgress) {
			t.Errorf("a command while it is loaded again: %v", err)
		}
		s.mu.Lock()
		s.hold = false
		s.mu.Unlock()
		s.release(nil)
		synctest.Wait()
		if err := sh.Do(t.Context(), put("d")); err != nil {
			t.Errorf("a command after it was loaded again: %v", err)
		}
		var state []string
		if err := sh.Do(t.Context(), func(m coordinator.Machine, _ time.Time) coordinator.Decision {
			state = m.(*list).values
			return coordinator.Decision{}
		}); err != nil || fmt.Sprint(state) != "[b d]" {
			t.Errorf("the state is %v, %v; the log has b and d", state, err)
		}
	})
}

func TestTicksAreInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		begin := time.Now()
		err := sh.Do(t.Context(), func(_ coordinator.Machine, now time.Time) coordinator.Decision {
			m.next = now.Add(time.Hour)
			return coordinator.Decision{}
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(m.ticks) != 1 || m.ticks[0].Sub(begin) != time.Hour {
			t.Errorf("ticks at %v, want one an hour after %v", m.ticks, begin)
		}
		if !slices.Equal(m.values, []string{"tick"}) {
			t.Errorf("state %v", m.values)
		}
	})
}
