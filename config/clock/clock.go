// Package clock is the one source of time of a broker: what time it is, and
// functions to run later.
//
// [System] is package time, which a testing/synctest bubble makes virtual by
// itself. [Offset] runs ahead of another clock and can be moved on while
// timers wait. [Virtual] stands still until it is advanced.
package clock

import (
	"context"
	"time"
)

// Clock has the time and runs functions later. Implementations are safe for
// concurrent use.
type Clock interface {
	// Now returns the current time.
	Now() time.Time
	// AfterFunc runs f once d has passed, on a goroutine of the clock's choice.
	// f must not block: later timers may wait for it.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a function that waits to be run.
type Timer interface {
	// Stop keeps the function from running and reports whether it was waiting.
	// It does not wait for a function that runs already.
	Stop() bool
	// Reset makes the function run d from now, again if it has run, and
	// reports whether it was waiting.
	Reset(d time.Duration) bool
}

// System returns the clock of package time.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now() }

func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// After returns a channel on which the time is sent once d has passed, and the
// timer, which the caller stops when it has no more use for the channel.
func After(c Clock, d time.Duration) (<-chan time.Time, Timer) {
	ch := make(chan time.Time, 1)
	return ch, c.AfterFunc(d, func() {
		select {
		case ch <- c.Now():
		default:
		}
	})
}

// Sleep waits until d has passed on c and returns nil, or until ctx ends and
// returns its error.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	ch, t := After(c, d)
	defer t.Stop()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
