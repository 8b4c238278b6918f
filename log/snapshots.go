package log

import (
	"errors"
	iofs "io/fs"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// noteSnapshots remembers which producer snapshots there are.
func (l *Log) noteSnapshots(names []string) {
	for _, n := range names {
		if base, ok := strings.CutSuffix(n, segment.SnapshotSuffix); ok {
			if at, err := strconv.ParseInt(base, 10, 64); err == nil {
				l.snapshots = append(l.snapshots, at)
			}
		}
	}
	slices.Sort(l.snapshots)
}

// dropSnapshots removes the snapshots of some offsets.
func (l *Log) dropSnapshots(drop func(at int64) bool) error {
	kept := make([]int64, 0, len(l.snapshots))
	for i, at := range l.snapshots {
		if !drop(at) {
			kept = append(kept, at)
			continue
		}
		if err := l.fs.Remove(segment.FileName(l.dir, at, segment.SnapshotSuffix)); err != nil {
			l.snapshots = append(kept, l.snapshots[i:]...)
			return err
		}
	}
	l.snapshots = kept
	return nil
}

// distrustSnapshots removes snapshots of batches that are not there, and
// after an unclean stop torn ones and those above the offset from which on batches
// are checked: a power cut may have taken some away that they tell of. One above
// the log's end must not come back once the log has other batches.
func (l *Log) distrustSnapshots(recovered int64) (dropped bool, err error) {
	had, end := len(l.snapshots), l.end.Load()
	stale := had > 0 && l.snapshots[had-1] > end
	err = l.dropSnapshots(func(at int64) bool {
		return at > min(end, recovered) || !l.o.CleanShutdown && l.unreadableSnapshot(at)
	})
	if err == nil && stale {
		err = l.fs.SyncDir(l.dir)
	}
	return len(l.snapshots) < had, err
}

// unreadableSnapshot reports whether a power cut has torn a snapshot.
func (l *Log) unreadableSnapshot(at int64) bool {
	b, err := vfs.ReadFile(l.fs, segment.FileName(l.dir, at, segment.SnapshotSuffix))
	if err == nil {
		_, err = decodeSnapshot(b)
	}
	return err != nil
}

// dropOldSnapshots keeps the newest snapshot and those that segments begin with:
// truncating goes back to one of them.
func (l *Log) dropOldSnapshots() error {
	if len(l.snapshots) < 2 {
		return nil
	}
	keep := map[int64]bool{l.snapshots[len(l.snapshots)-1]: true}
	for _, s := range l.list() {
		keep[s.Base()] = true
	}
	return l.dropSnapshots(func(at int64) bool { return !keep[at] })
}

// writeSnapshot writes the producer state as of the log's end, without syncing it.
func (l *Log) writeSnapshot(at int64) error {
	if err := vfs.WriteFileRenamed(l.fs, segment.FileName(l.dir, at, segment.SnapshotSuffix), encodeSnapshot(&l.producers)); err != nil {
		return err
	}
	if i, found := slices.BinarySearch(l.snapshots, at); !found {
		l.snapshots = slices.Insert(l.snapshots, i, at)
	}
	return nil
}

// rebuildProducers takes the newest producer snapshot at or below offset that can
// be read and replays the batches after it, and with them the transaction
// indexes, durably: nobody syncs those of older segments again, and a snapshot of
// what they have may be written next. Transactions with markers from the high
// watermark on are not decided.
func (l *Log) rebuildProducers(offset, highWatermark int64) error {
	state, from, err := l.stateAt(offset)
	if err != nil {
		return err
	}
	ended, err := l.endedBefore(from, highWatermark)
	if err != nil {
		return err
	}
	l.producers = *state
	l.txnMu.Lock()
	l.ended, l.open = ended, l.producers.firstOpen()
	l.publishUnstable()
	l.txnMu.Unlock()
	if err := l.dropTxns(from); err != nil {
		return err
	}
	for _, s := range l.list() {
		if err := l.producerBatches(s, from, l.replay); err != nil {
			return err
		}
	}
	l.txnMu.Lock()
	l.ended.decided(highWatermark)
	l.publishUnstable()
	l.txnMu.Unlock()
	return l.syncTxns(from)
}

// endedBefore returns the transactions with markers between the high watermark and a
// snapshot, which does not have them: it has those that are open. They are read from
// an older one on. That they are not decided keeps their batches from compaction;
// of other producers it may have removed what their state came from, so that this
// is no way to their state.
func (l *Log) endedBefore(snapshot, highWatermark int64) (ended undecided, err error) {
	if highWatermark >= snapshot || bugs.Planted(bugs.DecidedAtStart) {
		return ended, nil
	}
	state, from, err := l.stateAt(highWatermark)
	if err != nil {
		return ended, err
	}
	for _, s := range l.list() {
		if s.Base() >= snapshot {
			break
		}
		if err := l.producerBatches(s, from, func(b record.Batch) error {
			if b.BaseOffset() >= snapshot {
				return nil
			}
			if t := state.replay(b, 0); t != nil {
				ended.add(*t)
			}
			return nil
		}); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// stateAt returns the newest state that a snapshot holds at or below offset, and
// as of which offset it is: nothing at the beginning if there is none.
func (l *Log) stateAt(offset int64) (*producers, int64, error) {
	for _, at := range slices.Backward(slices.Clone(l.snapshots)) {
		if at > offset {
			continue
		}
		b, err := vfs.ReadFile(l.fs, segment.FileName(l.dir, at, segment.SnapshotSuffix))
		if err != nil {
			return nil, 0, err
		}
		s, err := decodeSnapshot(b)
		if err == nil {
			return s, at, l.setSeen(s)
		}
		l.o.Logger.Warn("dropped unreadable producer snapshot", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Error(err))
		if err := l.dropSnapshots(func(x int64) bool { return x == at }); err != nil {
			return nil, 0, err
		}
	}
	return new(producers), 0, nil
}

// setSeen sets when the producers of a snapshot were seen last. A snapshot does not
// say it, but has the timestamp of their last batch, which is about the same: but
// for records that were old when they came. Of those it is when the segment that
// has the batch was written to last. So a broker that is restarted often forgets
// silent producers all the same.
func (l *Log) setSeen(s *producers) error {
	now := l.now().UnixMilli()
	written := make(map[int64]int64) // segment -> when, in ms
	for _, p := range s.m {
		if p.seen = min(p.timestamp, now); now-p.seen < l.o.ProducerExpiry.Milliseconds() {
			continue
		}
		last, _ := p.last()
		base := l.segmentOf(last.lastOffset).Base()
		at, ok := written[base]
		if !ok {
			info, err := l.fs.Stat(segment.FileName(l.dir, base, segment.LogSuffix))
			switch {
			case errors.Is(err, iofs.ErrNotExist): // nothing was written to it yet
				at = now
			case err != nil:
				return err
			default:
				at = info.ModTime().UnixMilli()
			}
			written[base] = at
		}
		p.seen = min(max(at, p.seen), now)
	}
	return nil
}

// producerBatches calls f with the batches of idempotent producers in a segment
// that begin at or after offset: their headers, and control batches whole.
func (l *Log) producerBatches(s *segment.Segment, offset int64, f func(record.Batch) error) error {
	if s.Next() <= offset {
		return nil
	}
	from, err := s.Position(offset)
	if err != nil {
		return err
	}
	return s.Scan(from, s.Size(), segment.HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		d := segment.Describe(b)
		if d.Base < offset || b.Magic() < record.Magic || b.ProducerID() < 0 {
			return true, nil
		}
		if b.Attributes().Control() && b.Count() > 0 {
			whole, err := s.Batch(pos, d.Size)
			if err != nil {
				return false, err
			}
			b = whole
		}
		return true, f(b)
	})
}
