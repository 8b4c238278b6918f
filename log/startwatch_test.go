package log

import (
	"testing"
	"time"
)

// starts counts what it is notified of.
type starts int

func (s *starts) StartMoved() { *s++ }

// TestStartWatch: who watches the log start is notified of the next time that it
// moves up, and no more, by whatever it is moved.
func TestStartWatch(t *testing.T) {
	l := &Log{}
	var a, b starts
	var x, y StartWatch
	x.End() // it watches nothing
	l.WatchStart(&x, &a)
	l.WatchStart(&y, &b)
	l.WatchStart(&y, &b) // already
	x.End()
	x.End()
	l.moveStart(1)
	if a != 0 || b != 1 || l.StartOffset() != 1 {
		t.Errorf("the one that has ended was notified %d times, the other %d, want 0 and 1; start %d", a, b, l.StartOffset())
	}
	l.moveStart(2)
	y.End()
	l.WatchStart(&x, &a)
	l.moveStart(3)
	if a != 1 || b != 1 || len(l.starts.list) != 0 {
		t.Errorf("notified %d and %d times, want 1 and 1; %d watch", a, b, len(l.starts.list))
	}
}

// TestStartWatchOfALog: deleted records, retention and a truncation move the start.
func TestStartWatchOfALog(t *testing.T) {
	l, _ := retained(t, Config{Delete: true, Retention: 3 * time.Minute})
	var a starts
	var x StartWatch
	for i, move := range []func() error{
		func() error { return l.AdvanceStart(1) },
		func() error { _, err := l.Retain(time.UnixMilli(t0 + 5*60_000)); return err },
		func() error { return l.TruncateFullyAndStartAt(9) },
	} {
		l.WatchStart(&x, &a)
		before := l.StartOffset()
		check(t, move())
		if l.StartOffset() <= before || int(a) != i+1 {
			t.Errorf("move %d: from %d to %d, notified %d times", i, before, l.StartOffset(), a)
		}
	}
}
