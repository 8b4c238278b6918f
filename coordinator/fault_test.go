package coordinator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// keyed returns records with keys of their own and values of size bytes.
func keyed(from, to, size int) []coordinator.Record {
	var out []coordinator.Record
	for i := from; i < to; i++ {
		v := fmt.Sprint(i, " ")
		out = append(out, coordinator.Record{Key: fmt.Append(nil, "k", i), Value: []byte(v + strings.Repeat("x", size-len(v)))})
	}
	return out
}

// numbers returns the numbers that values of keyed begin with.
func numbers(values []string) []string {
	var out []string
	for _, v := range values {
		n, _, _ := strings.Cut(v, " ")
		out = append(out, n)
	}
	return out
}

func count(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

// A decision that is too large for one batch is written as several where it may
// be, and refused as a whole where not.
func TestDecisionsLargerThanABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, m := new(tape), new(list)
		sh := start(m, s, record.None)
		defer sh.Stop()
		synctest.Wait()
		large := func(divisible bool) coordinator.Command[coordinator.Machine] {
			return func(coordinator.Machine, time.Time) coordinator.Decision {
				return coordinator.Decision{Records: keyed(0, 100, 50), Divisible: divisible}
			}
		}
		if err := sh.Do(t.Context(), large(false)); !errors.Is(err, kerr.RecordListTooLarge) || len(s.batches) != 0 || len(m.values) != 0 {
			t.Errorf("what belongs together: %v, %d batches, %d replayed", err, len(s.batches), len(m.values))
		}
		s.hold = true
		done := make(chan error, 1)
		go func() { done <- sh.Do(t.Context(), large(true)) }()
		synctest.Wait()
		for len(s.held) > 0 {
			if len(done) > 0 {
				t.Fatal("answered before all batches are committed")
			}
			s.release(nil)
			synctest.Wait()
		}
		if err := <-done; err != nil || len(s.batches) < 6 || !slices.Equal(numbers(m.values), count(100)) {
			t.Errorf("%v, %d batches, replayed %v", err, len(s.batches), numbers(m.values))
		}
	})
}

// What nobody waits for is written in the end, before what is decided later, and
// a record that no batch can hold does not keep the others back. All of it is
// logged.
func TestWhatNobodyWaitsForIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		s, m := new(tape), new(list)
		sh := coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine { return m }, Storage: s, Clock: clock.System(), Logger: zap.New(core)})
		defer sh.Stop()
		synctest.Wait()
		send := func(records ...coordinator.Record) {
			err := sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision {
				return coordinator.Decision{Records: records, Divisible: true}
			}, func(err error) { t.Errorf("refused with %v", err) })
			if err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		broken := func(on bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.broken = nil
			if on {
				s.broken = kerr.NotEnoughReplicas
			}
		}
		broken(true)
		send(keyed(0, 30, 100)...)
		send(keyed(30, 31, 10)...)
		if err := sh.Do(t.Context(), put("later")); !errors.Is(err, kerr.NotEnoughReplicas) {
			t.Errorf("a command behind it: %v", err)
		}
		send(keyed(0, 1, 20)...) // of the same key: the newest counts
		if len(m.values) != 0 {
			t.Errorf("replayed %v, which is not written", numbers(m.values))
		}
		time.Sleep(time.Hour)
		if n := logs.Len(); n < 4 || n > 500 {
			t.Errorf("%d lines are logged in an hour", n)
		}
		broken(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(numbers(m.values), count(31)) || len(m.values[0]) != 20 {
			t.Errorf("written %v", numbers(m.values))
		}
		if err := sh.Do(t.Context(), put("now")); err != nil {
			t.Error(err)
		}
		logs.TakeAll()
		send(append(append(keyed(31, 32, 10), keyed(99, 100, 2*maxBatch)...), keyed(32, 40, 300)...)...)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := numbers(m.values)[32:]; !slices.Equal(got, count(40)[31:]) {
			t.Errorf("written beside a record that fits no batch: %v", got)
		}
		if logs.FilterMessage("a coordinator's records cannot be written and are dropped").Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}

// A panic of the machine costs the command that it handled: that client is told,
// the others are sent to look for the coordinator again, and the state is loaded
// from the log as it was.
func TestAPanicCostsTheCommand(t *testing.T) {
	boom := func(coordinator.Machine, time.Time) coordinator.Decision { panic("boom") }
	for _, c := range []struct {
		name string
		f    coordinator.Command[coordinator.Machine]
		want error
	}{
		{"while deciding", boom, kerr.UnknownServerError},
		{"in the answer", func(coordinator.Machine, time.Time) coordinator.Decision {
			return coordinator.Decision{Then: func(error) { panic("boom") }}
		}, nil},
		{"while replaying", func(m coordinator.Machine, _ time.Time) coordinator.Decision {
			m.(*list).broken = true
			return put("kept")(m, time.Time{})
		}, kerr.UnknownServerError},
		{"in a tick", func(m coordinator.Machine, now time.Time) coordinator.Decision {
			m.(*list).broken, m.(*list).next = true, now
			return coordinator.Decision{}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.ErrorLevel)
				s, first, second := new(tape), new(list), new(list)
				made := []*list{second, first}
				sh := coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine {
					m := made[len(made)-1]
					made = made[:len(made)-1]
					return m
				}, Storage: s, Clock: clock.System(), Logger: zap.New(core)})
				defer sh.Stop()
				synctest.Wait()
				if err := sh.Do(t.Context(), put("a", "b")); err != nil {
					t.Fatal(err)
				}
				if err := sh.Do(t.Context(), c.f); !errors.Is(err, c.want) {
					t.Errorf("its client is told %v, want %v", err, c.want)
				}
				synctest.Wait()
				if !errors.Is(first.unloaded, kerr.NotCoordinator) {
					t.Errorf("the others are told %v", first.unloaded)
				}
				if err := sh.Do(t.Context(), put("c")); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				want := []string{"a", "b", "c"}
				if c.name == "while replaying" {
					want = []string{"a", "b", "kept", "c"}
				}
				if !slices.Equal(second.values, want) {
					t.Errorf("state %v, want %v", second.values, want)
				}
				if n := logs.FilterField(zap.Any("panic", "boom")).Len(); n != 1 {
					t.Errorf("%d panics are logged: %v", n, logs.All())
				}
			})
		})
	}
}

// However a command and the end of its shard meet, its client is answered once.
func TestNoCommandIsLostAtTheEnd(t *testing.T) {
	const rounds, senders = 2000, 4
	for range rounds {
		sh := start(new(list), new(tape), record.None)
		for sh.Ready() != nil {
		}
		var wg sync.WaitGroup
		var answered atomic.Int64
		for range senders {
			wg.Go(func() {
				err := sh.Send(func(coordinator.Machine, time.Time) coordinator.Decision {
					return coordinator.Decision{Then: func(error) { answered.Add(1) }}
				}, func(error) { answered.Add(1) })
				if err != nil {
					answered.Add(1)
				}
			})
		}
		sh.Stop()
		wg.Wait()
		if n := answered.Load(); n != senders {
			t.Fatalf("%d of %d clients are answered", n, senders)
		}
	}
}
