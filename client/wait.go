package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
)

// WaitError means that a context ended before what the caller waited for came.
// It wraps the context's error and the last error that kept it from coming, so
// that errors.Is and errors.As find both.
type WaitError struct {
	For  string // what was waited for
	Last error  // nil if nothing went wrong but the time
	Err  error  // the context's
}

func (e *WaitError) Error() string {
	if e.Last == nil {
		return fmt.Sprintf("%s: %v", e.For, e.Err)
	}
	return fmt.Sprintf("%s: %v; the last error: %v", e.For, e.Err, e.Last)
}

// Unwrap returns the context's error and the last one.
func (e *WaitError) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Last}
}

// waited returns the error of a wait that ctx has ended. Every wait of the
// client ends with it, so that no error says only that the time is over.
func waited(ctx context.Context, last error, format string, args ...any) error {
	return &WaitError{For: fmt.Sprintf(format, args...), Last: last, Err: ctx.Err()}
}

// ownDeadline returns the error of a wait whose deadline the client set itself:
// it must not look as if the caller's had ended.
func ownDeadline(err error, d time.Duration) error {
	var w *WaitError
	switch {
	case !errors.As(err, &w):
		return err
	case w.Last != nil:
		return fmt.Errorf("%s: not within %v: %w", w.For, d, w.Last)
	}
	return fmt.Errorf("%w: %s: not within %v", conn.ErrTimeout, w.For, d)
}

// retryFor runs f until it succeeds, fails for good, or ctx ends. Between tries
// it pauses, and refreshes what the error says. what says what f is to do.
func (c *cluster) retryFor(ctx context.Context, what string, f func() error) error {
	var last error
	for try := 1; ; try++ {
		err := f()
		switch {
		case err == nil:
			return nil
		case c.ctx.Err() != nil:
			return ErrClosed
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return waited(ctx, last, "%s: %s", what, withoutContext(err))
		case !retriable(err) || try > c.retries:
			return err
		}
		last = err
		var code kerr.Code
		if errors.As(err, &code) && code.Refresh() == kerr.RefreshMetadata || isLost(err) {
			c.stale()
		}
		c.lg.Warn("request failed, try again", zap.String("for", what), zap.Int("try", try), zap.Error(err))
		if sleep(ctx, backoff(c.o.RetryBackoff, c.o.RetryBackoffMax, try)) != nil {
			return waited(ctx, last, "%s, %d tries", what, try)
		}
	}
}

// withoutContext returns what a wait was for without saying again that the time
// is over.
func withoutContext(err error) string {
	var w *WaitError
	if errors.As(err, &w) {
		return w.For
	}
	return strings.TrimSuffix(strings.TrimSuffix(err.Error(), context.DeadlineExceeded.Error()), ": ")
}
