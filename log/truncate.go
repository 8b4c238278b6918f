package log

import (
	"errors"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/segment"
)

// TruncateTo drops every batch that ends at or after offset, durably. A follower
// does so where its log diverges from the leader's (KIP-101).
func (l *Log) TruncateTo(offset int64) error {
	l.shape.Lock() // nothing is synced meanwhile
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if offset < 0 {
		return &OutOfRangeError{offset, l.start.Load(), l.end.Load()}
	}
	if offset >= l.end.Load() {
		// Epochs that were assigned but never written to may begin here
		// (KAFKA-10706).
		return l.latch("truncate epochs", l.epochs.truncateEnd(offset))
	}
	if offset <= l.list()[0].Base() {
		return l.latch("truncate", l.startAt(offset))
	}
	return l.latch("truncate", l.truncate(offset))
}

func (l *Log) truncate(offset int64) error {
	list := l.list()
	n := len(list)
	for list[n-1].Base() > offset { // the name of one that begins there tells the log's end
		n--
	}
	keep := list[:n:n]
	l.lower(offset)
	l.setList(keep)
	for i := len(list) - 1; i >= n; i-- { // last first, so that a crash leaves no hole
		if err := errors.Join(list[i].Delete(), l.removeTxns(list[i].Base())); err != nil {
			return err
		}
	}
	if n < len(list) { // they must not come back behind a segment that is cut
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
	}
	active := keep[n-1]
	// What is cut becomes durable: a power cut that took away what is before it would
	// leave a hole.
	if err := l.syncOlder(keep, l.raiseRecoveryPoint); err != nil {
		return err
	}
	l.unsealed.Store(nothingUnsealed)
	end, err := active.Truncate(offset)
	if err != nil {
		return err
	}
	l.lower(end)
	if err := l.epochs.truncateEnd(end); err != nil {
		return err
	}
	if err := l.dropSnapshots(func(at int64) bool { return at > end }); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := l.rebuildProducers(end, l.highWatermark.Load()); err != nil {
		return err
	}
	if active.Next() < end {
		// Compaction has left nothing of the records before the end: without a file
		// of that name the log would end below what is committed. And it would begin
		// above its start, were the first one not kept.
		if err := l.begin(end, active.Size() == 0 && n > 1); err != nil {
			return err
		}
		if err := l.syncOlder(l.list(), l.raiseRecoveryPoint); err != nil {
			return err
		}
		l.unsealed.Store(nothingUnsealed)
		return l.active().Materialize()
	}
	return nil
}

// lower moves what readers may see down to end.
func (l *Log) lower(end int64) {
	if !bugs.Planted(bugs.FollowerHighWatermark) {
		l.highWatermark.Store(min(l.highWatermark.Load(), end))
	}
	l.recoveryPoint.Store(min(l.recoveryPoint.Load(), end))
	l.flushTo.Store(min(l.flushTo.Load(), end))
	l.settled.Store(min(l.settled.Load(), end))
	l.start.Store(min(l.start.Load(), end))
	l.end.Store(end)
}

// TruncateFullyAndStartAt drops everything; the next offset is offset. A
// follower does so whose log end is below the leader's log start.
func (l *Log) TruncateFullyAndStartAt(offset int64) error {
	l.shape.Lock() // nothing is synced meanwhile
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if offset < 0 {
		return &OutOfRangeError{offset, l.start.Load(), l.end.Load()}
	}
	return l.latch("truncate", l.startAt(offset))
}

func (l *Log) startAt(offset int64) error {
	old := l.list()
	for i := len(old) - 1; i >= 0; i-- {
		if err := errors.Join(old[i].Delete(), l.removeTxns(old[i].Base())); err != nil {
			return err
		}
	}
	next := segment.Create(l.segmentOptions(offset))
	l.setList([]*segment.Segment{next})
	l.highWatermark.Store(offset)
	l.recoveryPoint.Store(offset)
	l.flushTo.Store(offset)
	l.settled.Store(offset)
	l.unsealed.Store(nothingUnsealed)
	l.moveStart(offset)
	l.end.Store(offset)
	if len(l.epochs.entries()) > 0 {
		if err := l.epochs.set(nil); err != nil {
			return err
		}
	}
	if err := l.dropSnapshots(func(int64) bool { return true }); err != nil {
		return err
	}
	if offset > 0 { // without its file the log would begin at 0 again
		if err := next.Materialize(); err != nil {
			return err
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	return l.rebuildProducers(offset, offset)
}
