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
	err := l.syncOlder(list, func(to int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.raiseRecoveryPoint(to)
	})
	if err != nil {
		return err
	}
	if end > last.Base() {
		if err := last.Sync(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.raiseRecoveryPoint(end)
	if last.Base() < l.active().Base() { // rolled meanwhile
		l.unsealed.Store(last.Base())
	} else {
		l.unsealed.Store(nothingUnsealed)
	}
	return nil
}

// syncOlder makes durable what is not yet of all segments but the last of list.
// raise is called with the offset below which all is on disk. The caller holds
// shape.
func (l *Log) syncOlder(list []*segment.Segment, raise func(to int64)) error {
	from, unsealed := l.recoveryPoint.Load(), l.unsealed.Load()
	for i, s := range list[:len(list)-1] {
		if next := list[i+1].Base(); next > from || s.Base() >= unsealed {
			if err := l.syncSealed(s, next); err != nil {
				return err
			}
			raise(next)
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

// raiseRecoveryPoint notes that all below to is on disk. The caller holds mu.
func (l *Log) raiseRecoveryPoint(to int64) {
	if to > l.recoveryPoint.Load() {
		l.recoveryPoint.Store(to)
	}
}

// flushDue notes that an append up to end must be synced before it counts:
// flush.messages records or more are not. The caller holds mu and has not shown
// the records yet.
func (l *Log) flushDue(cfg *Config, end int64) {
	if cfg.FlushMessages == 0 {
		return
	}
	synced, due := l.recoveryPoint.Load(), l.flushTo.Load()
	if end-max(due, synced) < cfg.FlushMessages {
		return
	}
	if synced >= due {
		l.settled.Store(l.end.Load())
	}
	l.flushTo.Store(end)
}
