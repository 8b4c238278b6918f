package api

import (
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication"
)

// fetchWait is a fetch that waits for records. It is notified by the partitions
// that it watches, and by a timer.
type fetchWait struct {
	*alarm
	watched []replication.Watch
}

// alarm is what wakes a wait. It serves one wait after the other as long as none
// lasts to its end.
type alarm struct {
	moved   chan struct{} // holds one: something happened since the last look
	expired atomic.Bool
	timer   clock.Timer
}

// Moved implements replication.Watcher.
func (a *alarm) Moved(*replication.Partition) { a.nudge() }

func (a *alarm) nudge() {
	select {
	case a.moved <- struct{}{}:
	default:
	}
}

// prepare starts a wait of at most d.
func (w *fetchWait) prepare(c *Call, clock clock.Clock, d time.Duration) {
	w.alarm = c.Session.alarm
	if w.alarm == nil {
		a := &alarm{moved: make(chan struct{}, 1)}
		a.timer = clock.AfterFunc(d, a.expire)
		w.alarm, c.Session.alarm = a, a
		return
	}
	select {
	case <-w.moved:
	default:
	}
	w.timer.Reset(d)
}

func (a *alarm) expire() {
	a.expired.Store(true)
	a.nudge()
}

// wait returns when something moved, time is up, or the call ends.
func (w *fetchWait) wait(c *Call) {
	select {
	case <-w.moved:
	case <-c.Context.Done():
	}
}

// watch has the wait notified of every partition that was read, when mark moves.
func (w *fetchWait) watch(reads []read, mark replication.Mark) {
	w.watched = resize(w.watched, len(reads))
	for i := range reads {
		if p := reads[i].p; p != nil {
			p.Watch(&w.watched[i], mark, w.alarm)
		}
	}
}

// finish ends the wait.
func (w *fetchWait) finish(c *Call) {
	if !w.timer.Stop() {
		c.Session.alarm = nil // it has rung, or is about to: the next wait must not hear it
	}
	w.alarm = nil
	for i := range w.watched {
		w.watched[i].End()
	}
	w.watched = w.watched[:0]
}
