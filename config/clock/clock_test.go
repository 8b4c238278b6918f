package clock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestVirtualRunsInOrder(t *testing.T) {
	v := NewVirtual(start)
	var got []string
	note := func(name string) func() {
		return func() { got = append(got, fmt.Sprint(name, "@", v.Now().Sub(start))) }
	}
	v.AfterFunc(3*time.Second, note("c"))
	v.AfterFunc(time.Second, func() {
		note("a")()
		v.AfterFunc(time.Second, note("from-a"))
		v.AfterFunc(time.Hour, note("never"))
	})
	v.AfterFunc(3*time.Second, note("d")) // same time as c, set later
	stopped := v.AfterFunc(2*time.Second, note("stopped"))
	moved := v.AfterFunc(time.Second, note("moved"))
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop of a waiting timer, then of a stopped one, want true, false")
	}
	if !moved.Reset(4 * time.Second) {
		t.Error("Reset of a waiting timer reported that it was not")
	}
	v.AfterFunc(-1, note("now"))
	v.Advance(0)
	v.Advance(2500 * time.Millisecond)
	v.Advance(10 * time.Second)
	want := "[now@0s a@1s from-a@2s c@3s d@3s moved@4s]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if d := v.Now().Sub(start); d != 12500*time.Millisecond {
		t.Errorf("clock at +%v", d)
	}
	if moved.Reset(time.Second) {
		t.Error("Reset of a timer that ran reported that it waited")
	}
	if due, ok := v.Next(); !ok || due != v.Now().Add(time.Second) {
		t.Errorf("next due %v, %t", due, ok)
	}
	v.Advance(-time.Hour)
	if v.Now().Before(start.Add(12 * time.Second)) {
		t.Error("the clock went back")
	}
}

func TestOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := NewOffset(System())
		began := time.Now()
		var mu sync.Mutex
		var got []string
		note := func(name string) func() {
			return func() {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(name, "@", o.Now().Sub(began)))
			}
		}
		o.AfterFunc(7*24*time.Hour, note("week"))
		o.AfterFunc(time.Hour, note("hour"))
		early := o.AfterFunc(time.Second, note("stopped"))
		late := o.AfterFunc(time.Minute, note("minute"))
		if !early.Stop() {
			t.Error("the first timer was not waiting")
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		mu.Unlock()
		time.Sleep(2 * time.Second)
		o.Advance(2 * time.Hour)
		o.Advance(-time.Hour)
		if late.Reset(30 * time.Second) {
			t.Error("a timer that ran was reported as waiting")
		}
		time.Sleep(time.Minute)
		o.Advance(7 * 24 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := "[minute@1m0s hour@2h1m1s minute@2h1m31s week@170h2m1s]"
		if fmt.Sprint(got) != want {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if o.Ahead() != 170*time.Hour {
			t.Errorf("ahead by %v", o.Ahead())
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []Clock{System(), NewOffset(System())} {
			began := time.Now()
			if err := Sleep(context.Background(), c, time.Hour); err != nil || time.Since(began) != time.Hour {
				t.Errorf("%T: slept %v, %v", c, time.Since(began), err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if err := Sleep(ctx, c, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%T: %v", c, err)
			}
			cancel()
			if err := Sleep(ctx, c, 0); err == nil {
				t.Errorf("%T: slept after the context had ended", c)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	v := NewVirtual(start)
	var mu sync.Mutex
	ran := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				v.AfterFunc(time.Duration(i)*time.Millisecond, func() { mu.Lock(); ran++; mu.Unlock() })
				v.Advance(time.Millisecond)
			}
		})
	}
	wg.Wait()
	v.Advance(time.Hour)
	if ran != 1600 {
		t.Errorf("%d of 1600 functions ran", ran)
	}
}
