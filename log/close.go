package log

import (
	"errors"
	iofs "io/fs"
	"path"
)

// Close completes indexes, writes the producer snapshot, makes all durable and
// closes. After it without an error the log may be opened with CleanShutdown.
func (l *Log) Close() error {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Swap(true) {
		return nil
	}
	err := l.Err()
	if err == nil {
		err = l.latch("close", l.syncAll())
	}
	for _, s := range l.list() {
		if err != nil {
			s.Abandon()
		} else if e := s.Close(); e != nil {
			err = l.latch("close", e)
		}
	}
	return err
}

// Abandon closes the log without making anything durable: it is about to be
// removed. It waits for a sync that is under way.
func (l *Log) Abandon() {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Swap(true) {
		return
	}
	for _, s := range l.list() {
		s.Abandon()
	}
}

// Unsynced reports whether Close would have something to sync.
func (l *Log) Unsynced() bool {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writable() == nil && !l.complete()
}

// Finish ends appending, and writes what Close would without syncing it. It is
// for callers that sync many logs with one call ([vfs.Syncer]), call Durable, and close them
// then.
func (l *Log) Finish() error {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	l.finished = true
	return l.latch("close", l.seal())
}

// Durable says that all was synced since Finish.
func (l *Log) Durable() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		l.raiseRecoveryPoint(l.end.Load())
		l.unsealed.Store(nothingUnsealed)
		l.active().Synced()
	}
}

// complete reports whether everything is on disk that a clean start relies on:
// nothing was appended since that was so. The caller holds shape and mu.
func (l *Log) complete() bool {
	return l.end.Load() == l.recoveryPoint.Load() && l.unsealed.Load() == nothingUnsealed && !l.active().Dirty()
}

// seal completes indexes and writes the producer snapshot. The caller holds shape
// and mu.
func (l *Log) seal() error {
	if err := l.active().Seal(); err != nil {
		return err
	}
	if l.Size() == 0 {
		return nil
	}
	// If a power cut takes it away, the one before and the batches say the same.
	return l.writeSnapshot(l.end.Load())
}

// syncAll seals and makes durable what a clean start relies on. The caller holds
// shape and mu.
func (l *Log) syncAll() error {
	if l.complete() {
		return nil
	}
	if err := l.seal(); err != nil {
		return err
	}
	active := l.active()
	if err := l.syncOlder(l.list(), l.raiseRecoveryPoint); err != nil {
		return err
	}
	if err := l.syncFile(l.txnName(active.Base())); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	if err := active.Flush(); err != nil {
		return err
	}
	l.raiseRecoveryPoint(l.end.Load())
	return nil
}

// Delete closes the log and removes its directory. Readers keep what they hold.
func (l *Log) Delete() error {
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed.Swap(true) {
		for _, s := range l.list() {
			if err := s.Delete(); err != nil {
				return l.latch("delete", err)
			}
		}
	}
	if err := l.fs.RemoveAll(l.dir); err != nil {
		return l.latch("delete", err)
	}
	return l.latch("delete", l.fs.SyncDir(path.Dir(l.dir)))
}
