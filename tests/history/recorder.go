package history

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Recorder takes down the events of a run. It is safe for concurrent use.
type Recorder struct {
	began     time.Time
	processes atomic.Int64
	values    atomic.Int64

	mu     sync.Mutex
	events []*Event // guarded by mu, in the order of Begin
}

// NewRecorder returns a recorder whose clock starts now.
func NewRecorder() *Recorder { return &Recorder{began: time.Now()} }

// Process returns the number of a new process.
func (r *Recorder) Process() int { return int(r.processes.Add(1)) }

// Value returns a value that nobody has sent.
func (r *Recorder) Value() int64 { return r.values.Add(1) }

// Pending is an operation that has been invoked.
type Pending struct {
	r *Recorder
	e *Event
}

// Begin takes down that an operation is invoked now.
func (r *Recorder) Begin(e Event) Pending {
	e.Returned, e.Status = Forever, Info
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Invoked = int64(time.Since(r.began))
	r.events = append(r.events, &e)
	return Pending{r, &e}
}

// End takes down that the operation has returned now. ops, unless it is nil, is what the
// operation turned out to be.
func (p Pending) End(status Status, err error, ops []Op) {
	p.With(status, err, func(e *Event) {
		if ops != nil {
			e.Ops = ops
		}
	})
}

// With is End with any change of the event.
func (p Pending) With(status Status, err error, edit func(*Event)) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if status != Info { // what nobody knows may still happen
		p.e.Returned = int64(time.Since(p.r.began))
	}
	p.e.Status = status
	if err != nil {
		p.e.Error = err.Error()
	}
	edit(p.e)
}

// Events returns what was taken down, in the order in which it was invoked.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Event, len(r.events))
	for i, e := range r.events {
		out[i] = *e
		out[i].Ops = slices.Clone(e.Ops)
	}
	slices.SortStableFunc(out, func(a, b Event) int { return cmp.Compare(a.Invoked, b.Invoked) })
	return out
}
