package log

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// Fault is the first storage error of a log directory. From then on nothing in
// the directory is written or served: what is on disk is unknown until it is
// opened again, and after an error of fsync a later success proves nothing. The
// zero value is a directory that is well. It is safe for concurrent use.
type Fault struct {
	err atomic.Pointer[error]

	mu    sync.Mutex // guards watch
	watch []func(error)
}

// Err returns the error, nil while the directory is well.
func (f *Fault) Err() error {
	if e := f.err.Load(); e != nil {
		return *e
	}
	return nil
}

// Set makes err the error, unless there is one already, and notifies those that watch.
func (f *Fault) Set(err error) {
	f.mu.Lock()
	first := f.err.CompareAndSwap(nil, &err)
	watch := f.watch
	f.mu.Unlock()
	if !first {
		return
	}
	for _, w := range watch {
		w(err)
	}
}

// Watch has w called with the error once there is one. w must not block.
func (f *Fault) Watch(w func(error)) {
	f.mu.Lock()
	f.watch = append(f.watch, w)
	err := f.Err()
	f.mu.Unlock()
	if err != nil {
		w(err)
	}
}

// Err returns the storage error that latched the log or its directory, or nil.
func (l *Log) Err() error {
	if e := l.failure.Load(); e != nil {
		return *e
	}
	return l.fault.Err()
}

// latch makes err, if it is one, the error of the log and of its directory for
// ever.
func (l *Log) latch(what string, err error) error {
	if err == nil {
		return nil
	}
	return l.latchFailure(what, err)
}

// latchFailure is latch of what is an error.
func (l *Log) latchFailure(what string, err error) error {
	if errors.Is(err, segment.ErrClosed) {
		return ErrClosed
	}
	err = l.fail(what, err)
	l.fault.Set(err)
	return err
}

// fail makes err a storage error, and that of the log unless it has one already.
func (l *Log) fail(what string, err error) error {
	err = fmt.Errorf("%w: %s-%d: %s: %w", ErrStorage, l.o.Topic, l.o.Partition, what, err)
	if l.failure.CompareAndSwap(nil, &err) {
		l.o.Logger.Error("latched log after storage error", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Error(err))
	}
	return err
}

// writable reports why the log cannot be changed. The caller holds mu.
func (l *Log) writable() error {
	if l.closed.Load() || l.finished {
		return ErrClosed
	}
	return l.Err()
}

// ReadFailed latches the log after an error of reading a region of it.
func (l *Log) ReadFailed(err error) { l.readError(err) }

// readError makes what a reader met into an error of the log. One of the disk
// stops this log, not the others: reading harms nobody else.
func (l *Log) readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, segment.ErrClosed):
		if l.closed.Load() {
			return ErrClosed
		}
		return err
	case errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrShort):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return l.fail("read", err)
}
