package log

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/segment"
)

// AdvanceStart raises the log start offset (DeleteRecords, retention); offset is
// at most the high watermark. Below the start it changes nothing. The caller has
// made the new start durable, in the checkpoint of its log directory, before
// segments below it are removed.
func (l *Log) AdvanceStart(offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	start, hw := l.start.Load(), l.highWatermark.Load()
	switch {
	case offset > hw:
		return fmt.Errorf("advance log start beyond the high watermark %d: %w", hw, &OutOfRangeError{offset, start, l.end.Load()})
	case offset <= start:
		return nil
	}
	if err := l.latch("truncate epochs", l.epochs.truncateStart(offset)); err != nil {
		return err
	}
	l.moveStart(offset)
	return nil
}

// Retain takes out the oldest segments that nothing has to be kept of: their
// records are below the log start offset, or all older than Retention at now, or
// there are RetentionBytes without them (LogManager.cleanupLogs). It takes out
// whole segments below the high watermark; the active one is rolled first if it
// is due too. It returns how many. Their files are removed later.
//
// now should be a time that has passed evenly: a clock that jumped ahead makes
// everything look old.
func (l *Log) Retain(now time.Time) (int, error) {
	list, err := l.expired(now)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	l.shape.Lock()
	defer l.shape.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return 0, err
	}
	if have := l.list(); len(have) < len(list) || !slices.Equal(have[:len(list)], list) {
		return 0, nil // truncated or compacted meanwhile: the next call looks again
	}
	if last := list[len(list)-1]; last == l.active() {
		if last.Next() != l.end.Load() || l.highWatermark.Load() < l.end.Load() {
			return 0, nil // appended to meanwhile
		}
		if err := l.roll(l.end.Load()); err != nil {
			return 0, l.latch("roll", err)
		}
	}
	return len(list), l.latch("remove old segments", l.takeOut(list))
}

// takeOut removes the segments of a prefix of the log. The caller holds mu.
func (l *Log) takeOut(old []*segment.Segment) error {
	rest := slices.Clone(l.list()[len(old):])
	if rest[0].Size() == 0 { // without its file the log would begin at 0 again
		if err := rest[0].Materialize(); err != nil {
			return err
		}
	}
	if start := rest[0].Base(); start > l.start.Load() {
		// Nobody reads below the start from here on. It need not be written down:
		// the segments that are left say it.
		if err := l.epochs.truncateStart(start); err != nil {
			return err
		}
		l.moveStart(start)
	}
	l.setList(rest)
	for _, s := range old { // oldest first, so that a crash leaves no hole
		l.o.Logger.Info("removed old segment", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition),
			zap.Int64("offset", s.Base()), zap.Int64("bytes", s.Size()))
		if err := l.retire(s); err != nil {
			return err
		}
		if err := l.removeTxns(s.Base()); err != nil {
			return err
		}
	}
	if err := l.dropSnapshots(func(at int64) bool { return at < rest[0].Base() }); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}

// retire takes a segment's files away, at once or later (file.delete.delay.ms).
// Readers keep what they hold.
func (l *Log) retire(s *segment.Segment) error {
	if l.o.Discard == nil {
		return s.Delete()
	}
	names, err := s.Retire()
	l.o.Discard(names, l.config.Load().FileDeleteDelay)
	return err
}

// expired returns the oldest segments that can go. One of which compaction has left
// nothing goes with the next.
func (l *Log) expired(now time.Time) ([]*segment.Segment, error) {
	cfg, list := l.config.Load(), l.list()
	high, start := l.highWatermark.Load(), l.start.Load()
	size, old := l.Size(), 0 // of list[:old] nothing has to be kept
	for i, s := range list {
		last := i+1 == len(list)
		end := s.Next()
		if !last {
			end = list[i+1].Base()
		}
		switch empty := s.Size() == 0; {
		case end > high, empty && last:
			return list[:old], nil
		case !last && end <= start:
		case empty:
			continue
		case cfg.Delete && cfg.RetentionBytes > 0 && (size-s.Size() >= cfg.RetentionBytes || cfg.RetentionBytes == 1):
		case cfg.Delete && cfg.Retention > 0:
			written, err := l.lastWritten(s, now)
			if err != nil {
				return nil, err
			}
			if now.Sub(written) <= cfg.Retention {
				return list[:old], nil
			}
		default:
			return list[:old], nil
		}
		size -= s.Size()
		old = i + 1
	}
	return list[:old], nil
}

// lastWritten returns the time of a segment's newest record. Where records have
// none, or one that is still to come, it is when the file was written to.
func (l *Log) lastWritten(s *segment.Segment, now time.Time) (time.Time, error) {
	largest, err := s.Largest()
	if err == segment.ErrClosed {
		return now, nil // gone already
	}
	if err != nil {
		return now, l.readError(err)
	}
	if at := time.UnixMilli(largest); largest >= 0 && !at.After(now) {
		return at, nil
	}
	info, err := l.fs.Stat(segment.FileName(l.dir, s.Base(), segment.LogSuffix))
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return now, nil // gone already
	case err != nil:
		return now, l.readError(err)
	}
	return info.ModTime(), nil
}
