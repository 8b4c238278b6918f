package log

import (
	"errors"
	iofs "io/fs"
	"math"
	"os"

	"github.com/klamm-io/klamm/segment"
)

// Flush makes durable all that was appended before the call, and moves the
// recovery point there. Appends go on meanwhile, and calls that come while one
// syncs share the next sync.
func (l *Log) Flush() error {
	l.mu.Lock()
	err := l.writable()
	to := l.end.Load()
	l.mu.Unlock()
	if err != nil || l.recoveryPoint.Load() >= to {
		return err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	if l.recoveryPoint.Load() >= to {
		return nil // the one that held the lock has synced these records too
	}
	l.mu.Lock()
	err = l.writable()
	end := l.end.Load()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.latch("flush", l.syncSegments(end))
}

// flushSealed makes durable the segments that are no longer appended to.
func (l *Log) flushSealed() error {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	err, base := l.writable(), l.active().Base()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return l.latch("flush", l.syncSegments(base))
}

// syncSegments syncs what is between the recovery point and end, oldest first,
// and moves the recovery point. Segments that are no longer appended to are made
// durable with what belongs to them, also where their batches are on disk
// already. end is at least the active segment's base. The caller holds shape.
func (l *Log) syncSegments(end int64) error {
	list := l.list()
	last := list[len(list)-1]
	if err := l.syncOlder(list); err != nil {
		return err
	}
	if end > last.Base() {
		if err := last.Sync(); err != nil {
			return err
		}
	}
	l.raiseRecoveryPoint(end)
	l.mu.Lock()
	defer l.mu.Unlock()
	if last.Base() < l.active().Base() { // rolled meanwhile
		l.unsealed.Store(last.Base())
	} else {
		l.unsealed.Store(nothingUnsealed)
	}
	return nil
}

// syncOlder makes durable what is not yet of all segments but the last of list.
// The caller holds shape.
func (l *Log) syncOlder(list []*segment.Segment) error {
	from, unsealed := l.recoveryPoint.Load(), l.unsealed.Load()
	for i, s := range list[:len(list)-1] {
		if next := list[i+1].Base(); next > from || s.Base() >= unsealed {
			if err := l.syncSealed(s, next); err != nil {
				return err
			}
			l.raiseRecoveryPoint(next)
		}
	}
	return nil
}

// syncSealed makes a segment durable that ends where next begins, with the
// transactions and the producer state that belong to it.
func (l *Log) syncSealed(s *segment.Segment, next int64) error {
	for _, name := range []string{l.txnName(s.Base()), segment.FileName(l.dir, next, segment.SnapshotSuffix)} {
		if err := l.syncFile(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
	}
	if err := s.Flush(); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}

// nothingUnsealed stands for a log all of whose sealed segments are durable.
const nothingUnsealed = math.MaxInt64

// syncFile makes the content of a file durable that is not open.
func (l *Log) syncFile(name string) error {
	f, err := l.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func (l *Log) raiseRecoveryPoint(to int64) {
	for {
		at := l.recoveryPoint.Load()
		if at >= to || l.recoveryPoint.CompareAndSwap(at, to) {
			return
		}
	}
}

// flushDue reports whether an append up to end must be synced before it is
// acknowledged: flush.messages records or more are not. The caller holds mu.
func (l *Log) flushDue(cfg *Config, end int64) bool {
	if cfg.FlushMessages == 0 {
		return false
	}
	if end-max(l.flushFrom, l.recoveryPoint.Load()) < cfg.FlushMessages {
		return false
	}
	l.flushFrom = end
	return true
}
