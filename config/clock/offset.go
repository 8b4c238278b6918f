package clock

import (
	"sync"
	"time"
)

// Offset runs with another clock but ahead of it, and can be moved on: what
// waits then has as much less to wait. It is how a running broker learns that
// a week has passed.
type Offset struct {
	base Clock

	mu    sync.Mutex // guards the fields below; not held while functions run
	ahead time.Duration
	q     queue
	wake  Timer // of base, set for the earliest timer; nil until the first
}

// NewOffset returns a clock that shows what base shows until it is advanced.
func NewOffset(base Clock) *Offset { return &Offset{base: base} }

// Now implements Clock.
func (o *Offset) Now() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now()
}

func (o *Offset) now() time.Time { return o.base.Now().Add(o.ahead) }

// Ahead returns how far the clock runs ahead of its base.
func (o *Offset) Ahead() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ahead
}

// Advance moves the clock on by d; a negative d is taken as 0, the clock never
// goes back. What is due then runs before Advance returns, in order of due time.
func (o *Offset) Advance(d time.Duration) {
	o.mu.Lock()
	o.ahead += max(d, 0)
	o.mu.Unlock()
	o.run()
}

// run runs what is due and sets the base's timer for the rest.
func (o *Offset) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		t := o.q.next(o.now())
		if t == nil {
			o.arm()
			return
		}
		o.mu.Unlock()
		t.f()
		o.mu.Lock()
	}
}

// arm sets the base's timer for the earliest timer. The caller holds mu.
func (o *Offset) arm() {
	if len(o.q.heap) == 0 {
		if o.wake != nil {
			o.wake.Stop()
		}
		return
	}
	d := max(o.q.heap[0].due.Sub(o.now()), 0)
	if o.wake == nil {
		o.wake = o.base.AfterFunc(d, o.run)
	} else {
		o.wake.Reset(d)
	}
}

// AfterFunc implements Clock.
func (o *Offset) AfterFunc(d time.Duration, f func()) Timer {
	t := &timer{host: o, f: f, at: -1}
	o.reset(t, d)
	return t
}

func (o *Offset) stop(t *timer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := t.at == 0
	was := o.q.remove(t)
	if first {
		o.arm()
	}
	return was
}

func (o *Offset) reset(t *timer, d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, first := t.at >= 0, t.at == 0
	o.q.set(t, o.now().Add(max(d, 0)))
	if first || t.at == 0 {
		o.arm()
	}
	return was
}
