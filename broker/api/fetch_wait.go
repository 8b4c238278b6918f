package api

import (
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication"
)

// fetchWait is a fetch that waits for records. It is told by the partitions
// that it watches, and by a timer.
type fetchWait struct {
	moved   chan struct{} // holds one: something happened since the last look
	expired atomic.Bool
	timer   clock.Timer
	watched []replication.Watch
}

// Moved implements replication.Watcher.
func (w *fetchWait) Moved(*replication.Partition) { w.nudge() }

func (w *fetchWait) nudge() {
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// prepare starts a wait of at most d.
func (w *fetchWait) prepare(h *Handlers, d time.Duration) {
	if w.moved == nil {
		w.moved = make(chan struct{}, 1)
	}
	select {
	case <-w.moved:
	default:
	}
	w.expired.Store(false)
	if w.timer == nil {
		w.timer = h.Clock.AfterFunc(d, w.expire)
	} else {
		w.timer.Reset(d)
	}
}

func (w *fetchWait) expire() {
	w.expired.Store(true)
	w.nudge()
}

// wait returns when something moved, time is up, or the call ends.
func (w *fetchWait) wait(c *Call) {
	select {
	case <-w.moved:
	case <-c.Context.Done():
	}
}

// watch has the wait be told of every partition that was read.
func (w *fetchWait) watch(reads []read) {
	w.watched = resize(w.watched, len(reads))
	for i := range reads {
		if p := reads[i].p; p != nil {
			p.Watch(&w.watched[i], w)
		}
	}
}

// finish ends the wait.
func (w *fetchWait) finish() {
	w.timer.Stop()
	for i := range w.watched {
		w.watched[i].End()
	}
	w.watched = w.watched[:0]
}
