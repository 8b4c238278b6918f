package clock

import (
	"sync"
	"time"
)

// Virtual is a clock that stands still until Advance moves it. Functions run
// inside Advance, on the goroutine that called it.
type Virtual struct {
	mu  sync.Mutex // guards the fields below; not held while functions run
	now time.Time
	q   queue
}

// NewVirtual returns a clock that stands at start.
func NewVirtual(start time.Time) *Virtual { return &Virtual{now: start} }

// Now implements Clock.
func (v *Virtual) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// AfterFunc implements Clock. A function that is due at once, with d <= 0, runs
// in the next Advance, be it of 0.
func (v *Virtual) AfterFunc(d time.Duration, f func()) Timer {
	t := &timer{host: v, f: f, at: -1}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.q.set(t, v.now.Add(max(d, 0)))
	return t
}

// Advance moves the clock by d and runs what gets due on the way: in order of
// due time, each with the clock at that time, including what those functions
// set in turn.
func (v *Virtual) Advance(d time.Duration) {
	v.mu.Lock()
	end := v.now.Add(max(d, 0))
	for {
		t := v.q.next(end)
		if t == nil {
			break
		}
		if t.due.After(v.now) {
			v.now = t.due
		}
		v.mu.Unlock()
		t.f()
		v.mu.Lock()
	}
	if end.After(v.now) {
		v.now = end
	}
	v.mu.Unlock()
}

// Next returns when the earliest waiting function is due.
func (v *Virtual) Next() (due time.Time, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.q.heap) == 0 {
		return time.Time{}, false
	}
	return v.q.heap[0].due, true
}

func (v *Virtual) stop(t *timer) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.q.remove(t)
}

func (v *Virtual) reset(t *timer, d time.Duration) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	was := t.at >= 0
	v.q.set(t, v.now.Add(max(d, 0)))
	return was
}
