package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/client"
)

// What ends a command before its time is the cause of its context: one of these
// errors, or a *timeoutError.
var (
	errInterrupted = errors.New("interrupted")
	errReaderGone  = errors.New("the reader of the output has gone")
)

// timeoutError says what a command waited for, how long, and what went wrong
// last.
type timeoutError struct {
	after time.Duration
	what  string // "" if there is nothing to say
	last  error  // may be nil
}

func (e *timeoutError) Error() string {
	s := fmt.Sprintf("timed out after %v", e.after)
	if e.what != "" {
		s += ", waiting for " + e.what
	}
	if last := plain(e.last); last != "" {
		s += ": " + last
	}
	return s
}

// endings are the words for a context that has ended. They tell a reader
// nothing.
var endings = []string{context.DeadlineExceeded.Error(), context.Canceled.Error()}

// plain returns the text of an error without the words for contexts that have
// ended: that of its last part that has none of them, "" if there is none.
func plain(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	clean := true
	for _, words := range endings {
		clean = clean && !strings.Contains(text, words)
	}
	if clean {
		return text
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return plain(e.Unwrap())
	case interface{ Unwrap() []error }:
		parts := e.Unwrap()
		for i := len(parts) - 1; i >= 0; i-- {
			if s := plain(parts[i]); s != "" {
				return s
			}
		}
	}
	return ""
}

// waited returns err, or if ctx ended because the time was over, a *timeoutError
// that says what was waited for, and what went wrong last.
func (g *globals) waited(ctx context.Context, err error, what string) error {
	var t *timeoutError
	if err == nil || !errors.As(context.Cause(ctx), &t) || errors.As(err, &t) && t.what != "" {
		return err
	}
	// Whether the client knew why nothing came when the time was over is chance.
	last := g.reach.last()
	var own *saidError
	switch {
	case errors.As(err, &own) && last != nil:
		last = said(err, "%s: %s", own, plain(last))
	case errors.As(err, &own):
		last = own
	case last == nil && plain(err) != client.ErrNoBroker.Error():
		if plain(err) != t.Error() {
			last = err
		}
	}
	return &timeoutError{after: t.after, what: what, last: last}
}

// closingGrace is how long a command that is stopped may take to flush what it
// has sent, to commit, and to leave its group; endingGrace is how long one may
// that has come to its end.
const (
	closingGrace = time.Second
	endingGrace  = 5 * time.Second
)

// closing returns a context for what a command does last. It goes on for a while
// after ctx has ended.
func closing(ctx context.Context) (context.Context, context.CancelFunc) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingGrace)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(closingGrace, cancel) })
	return last, func() {
		stop()
		cancel()
	}
}

// abandonAfter is how long a command may go on after it was asked to stop. It is
// the last resort against calls that nothing can interrupt, such as opening a
// FIFO that nobody writes to.
const abandonAfter = 2 * closingGrace

// signalled cancels with errInterrupted at the first SIGINT or SIGTERM and ends
// the process at the second, until stop is called. A write to a pipe without a
// reader fails, rather than to end the process.
func signalled(cancel context.CancelCauseFunc) (stop func()) {
	signals, pipes, stopped := make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Notify(pipes, syscall.SIGPIPE)
	go func() {
		for {
			select {
			case <-signals:
			case <-stopped:
				return
			}
			if cancel == nil {
				os.Exit(exitInterrupted)
			}
			cancel(errInterrupted)
			cancel = nil
		}
	}()
	return func() {
		signal.Stop(signals)
		signal.Stop(pipes)
		close(stopped)
	}
}

// readerGone reports whether err is of a write to a pipe that nobody reads any
// more. A connection to a broker that breaks is something else.
func readerGone(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && errors.Is(path, syscall.EPIPE)
}

// await returns f's results, or the cause of ctx once that has ended; f may run
// on then.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// interruptible reads from a reader that may block for ever, such as a terminal,
// until a context ends, whose cause it returns then. One goroutine may use it.
type interruptible struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	left []byte // of buf
	err  error  // of the last read
}

func newInterruptible(ctx context.Context, r io.Reader) *interruptible {
	return &interruptible{ctx: ctx, r: r, buf: make([]byte, 64<<10)}
}

// Read implements io.Reader. After it has returned the context's cause, a read
// may still be under way, and nothing more can be read.
func (r *interruptible) Read(p []byte) (int, error) {
	if len(r.left) == 0 && r.err == nil {
		n, err := await(r.ctx, func() (int, error) {
			n, err := r.r.Read(r.buf)
			if n > 0 {
				return n, nil // an error comes again
			}
			return n, err
		})
		r.left, r.err = r.buf[:n], err
	}
	if len(r.left) > 0 {
		n := copy(p, r.left)
		r.left = r.left[n:]
		return n, nil
	}
	return 0, r.err
}

// outlet writes to a pipe or a terminal whose reader may have stopped reading.
// Once the context has ended it does not wait for that reader. One goroutine at a
// time may use it.
type outlet struct {
	ctx   context.Context
	f     *os.File
	buf   []byte // what is being written: not the caller's, who may go on
	stuck error
}

// unread is how long an outlet waits for its reader after the context has ended.
const unread = 200 * time.Millisecond

// Write implements io.Writer.
func (o *outlet) Write(p []byte) (int, error) {
	if o.stuck != nil {
		return 0, o.stuck
	}
	o.buf = append(o.buf[:0], p...)
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(o.ctx))
	defer cancel(nil)
	defer context.AfterFunc(o.ctx, func() {
		time.AfterFunc(unread, func() { cancel(context.Cause(o.ctx)) })
	})()
	n, err := await(ctx, func() (int, error) { return o.f.Write(o.buf) })
	if ctx.Err() != nil {
		o.stuck = err
	}
	return n, err
}

// file returns the file behind a standard stream, nil if there is none.
func file(w any) *os.File {
	switch x := w.(type) {
	case *os.File:
		return x
	case *outlet:
		return x.f
	}
	return nil
}
