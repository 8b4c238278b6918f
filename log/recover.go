package log

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/segment"
)

// HoleError means that a segment begins after the end of the one before it, in a
// log that compaction has left alone: records are missing.
type HoleError struct {
	Dir      string
	From, To int64 // offsets [From, To) are missing
}

func (e *HoleError) Error() string {
	return fmt.Sprintf("%s: offsets %d to %d are missing: %s begins after the end of the segment before it", e.Dir, e.From, e.To-1, path.Base(segment.FileName(e.Dir, e.To, segment.LogSuffix)))
}

func (e *HoleError) Unwrap() error { return ErrCorrupt }

// sortOut finishes or undoes what a crash has interrupted, and returns the base
// offsets of the segments.
func (l *Log) sortOut(names []string) ([]int64, error) {
	var bases, swaps []int64
	var cleaned []string
	for _, name := range names {
		switch ext := path.Ext(name); ext {
		case segment.CleanedSuffix:
			cleaned = append(cleaned, strings.TrimSuffix(name, ext))
		case segment.DeletedSuffix, ".tmp":
			// The topic id's may have been rewritten and renamed since names was read.
			if err := l.fs.Remove(path.Join(l.dir, name)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return nil, err
			}
		case segment.SwapSuffix:
			if data, ok := strings.CutSuffix(name, segment.LogSuffix+ext); ok {
				base, err := l.parseBase(name, data)
				if err != nil {
					return nil, err
				}
				swaps = append(swaps, base)
			}
		case segment.LogSuffix:
			base, err := l.parseBase(name, strings.TrimSuffix(name, ext))
			if err != nil {
				return nil, err
			}
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	if err := l.sortCleaned(cleaned, swaps); err != nil {
		return nil, err
	}
	for _, base := range swaps {
		var err error
		if bases, err = l.swapIn(base, bases); err != nil {
			return nil, err
		}
	}
	for _, name := range names { // what belongs to a data file that has its name
		plain, ok := strings.CutSuffix(name, segment.SwapSuffix)
		if !ok {
			continue
		}
		err := l.fs.Rename(path.Join(l.dir, name), path.Join(l.dir, plain))
		if err != nil && !errors.Is(err, iofs.ErrNotExist) { // swapIn did it
			return nil, err
		}
	}
	return bases, l.removeOrphans(names, bases)
}

// sortCleaned removes what a compaction had begun to write. The indexes of a
// segment whose data file has its next name already are complete: they follow it.
func (l *Log) sortCleaned(names []string, swaps []int64) error {
	for _, name := range names {
		full := path.Join(l.dir, name)
		follows := slices.ContainsFunc(swaps, func(base int64) bool {
			data := segment.FileName(l.dir, base, "")
			return full == data+segment.IndexSuffix || full == data+segment.TimeSuffix
		})
		var err error
		if follows {
			err = l.fs.Rename(full+segment.CleanedSuffix, full+segment.SwapSuffix)
		} else {
			err = l.fs.Remove(full + segment.CleanedSuffix)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) parseBase(name, digits string) (int64, error) {
	base, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || base < 0 || len(digits) != 20 {
		return 0, fmt.Errorf("%w: %s is no segment's name", ErrCorrupt, name)
	}
	return base, nil
}

// swapIn puts a compacted segment in the place of those that it was made of:
// it was complete and durable before it got its name. Segments that begin inside
// of it are older generations of the same offsets. It returns the base offsets
// of the segments that there are then.
func (l *Log) swapIn(base int64, bases []int64) ([]int64, error) {
	o := l.segmentOptions(base)
	o.Suffix = segment.SwapSuffix
	s, err := segment.Open(o)
	if err != nil {
		return nil, err
	}
	next := max(s.Next(), base+1)
	s.Abandon()
	kept := []int64{base}
	for _, b := range bases {
		if b < base || b >= next {
			kept = append(kept, b)
		} else if err := segment.RemoveFiles(l.fs, l.dir, b, ""); err != nil {
			return nil, err
		} else if b != base { // the new one has its place already, or none
			if err := l.removeTxns(b); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(kept)
	if err := segment.RenameFiles(l.fs, l.dir, base, segment.SwapSuffix, ""); err != nil {
		return nil, err
	}
	l.o.Logger.Info("finished an interrupted compaction", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Int64("offset", base))
	return kept, l.fs.SyncDir(l.dir)
}

// removeOrphans removes indexes whose data file is gone. bases rise.
func (l *Log) removeOrphans(names []string, bases []int64) error {
	for _, name := range names {
		base, ext, _ := strings.Cut(name, ".")
		switch "." + strings.TrimSuffix(ext, segment.SwapSuffix) {
		case segment.IndexSuffix, segment.TimeSuffix, segment.TxnSuffix:
		default:
			continue
		}
		n, err := strconv.ParseInt(base, 10, 64)
		if _, found := slices.BinarySearch(bases, n); err == nil && !found {
			if err := errors.Join(segment.RemoveFiles(l.fs, l.dir, n, ""), l.removeTxns(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openSegments opens all segments, and recovers those that reach beyond the
// recovery point after an unclean stop. It returns the base offset of the first
// that it recovered, or the largest number.
func (l *Log) openSegments(bases []int64) (recovered int64, err error) {
	recovered = math.MaxInt64
	var list []*segment.Segment
	defer func() { l.setList(list) }()
	lastData, err := l.lastWithData(bases)
	if err != nil {
		return recovered, err
	}
	for i, base := range bases {
		last := i+1 == len(bases)
		check := !l.o.CleanShutdown && !bugs.Planted(bugs.TornTailKept) && (last || bases[i+1] > l.o.RecoveryPoint)
		s, err := l.openSynced(base, check && last)
		if s != nil {
			check = false
		} else if err == nil {
			s, err = l.openSegment(base, check)
		}
		if err != nil {
			return recovered, err
		}
		if len(list) > 0 {
			empty, err := l.follows(list[len(list)-1], s, base)
			if err != nil {
				s.Abandon()
				return recovered, err
			}
			if empty {
				if err := s.Delete(); err != nil {
					return recovered, err
				}
				continue
			}
		}
		list = append(list, s)
		if !l.o.CleanShutdown && !last && !check && bases[i+1] == l.o.RecoveryPoint {
			// The roll may have been after the recovery point was written: what came
			// with it is not known to be on disk.
			if err := errors.Join(s.Incomplete(), s.Complete()); err != nil {
				return recovered, err
			}
			l.unsealed.Store(base)
		}
		if check {
			recovered = min(recovered, base)
			if err := l.recover(s, i >= lastData); err != nil {
				return recovered, err
			}
		}
	}
	if len(list) == 0 {
		list = append(list, segment.Create(l.segmentOptions(l.o.StartOffset)))
	}
	return recovered, nil
}

// lastWithData returns the index of the last segment that is not empty.
func (l *Log) lastWithData(bases []int64) (int, error) {
	for i := len(bases) - 1; i > 0; i-- {
		info, err := l.fs.Stat(segment.FileName(l.dir, bases[i], segment.LogSuffix))
		if err != nil {
			return 0, err
		}
		if info.Size() > 0 {
			return i, nil
		}
	}
	return 0, nil
}

// follows checks that a segment goes on where the one before it ends. empty
// means that it does not, but that there is nothing in it, and that it is to go: a crash
// may leave a new file and take away what was before it, as long as nothing was synced.
// After a clean stop it is where a truncation has ended a log that was compacted then.
func (l *Log) follows(before, s *segment.Segment, base int64) (empty bool, err error) {
	end := before.Next()
	switch {
	case end > base:
		return false, fmt.Errorf("%w: segment %d of %s reaches to %d, the next one begins at %d", ErrCorrupt, before.Base(), l.dir, end, base)
	case end == base || l.o.Sparse:
		return false, nil
	case s.Size() == 0:
		return !l.o.CleanShutdown, nil
	}
	return false, &HoleError{l.dir, end, base}
}

// openSynced opens the last segment after an unclean stop, if it ends at the
// recovery point: nothing of it needs checking. It returns nil if that is not
// so. What the time index lacks is found without it.
func (l *Log) openSynced(base int64, last bool) (*segment.Segment, error) {
	if !last || l.o.RecoveryPoint <= base {
		return nil, nil
	}
	s, err := segment.Open(l.segmentOptions(base))
	if err != nil {
		return nil, nil // it is torn, or whatever it is: recovery finds out
	}
	if s.Next() == l.o.RecoveryPoint { // one that ends before has lost something
		if err := s.Incomplete(); err == nil {
			return s, nil
		}
	}
	return nil, s.Close()
}

// openSegment opens one segment. One that is checked afterwards needs no indexes
// and may have a torn tail, which no index can be made of.
func (l *Log) openSegment(base int64, check bool) (*segment.Segment, error) {
	o := l.segmentOptions(base)
	if check {
		return segment.OpenToRecover(o)
	}
	return segment.Open(o)
}

func (l *Log) recover(s *segment.Segment, last bool) error {
	size := s.Size()
	cut, err := s.Recover(l.o.RecoveryPoint, l.o.Checked)
	if err != nil {
		return err
	}
	if cut > 0 && !last {
		// What follows is there, so this is damage and no torn tail. Cutting here
		// would leave a hole.
		return &segment.DamagedError{File: segment.FileName(l.dir, s.Base(), segment.LogSuffix), Pos: size - cut, Valid: size, Err: ErrCorrupt}
	}
	if cut > 0 {
		l.o.Logger.Warn("cut torn tail", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition),
			zap.Int64("offset", s.Next()), zap.Int64("bytes", cut))
	}
	if last && s.Next() < l.o.RecoveryPoint {
		l.o.Logger.Error("log ends before its recovery point: synced records are missing", zap.String("topic", l.o.Topic),
			zap.Int32("partition", l.o.Partition), zap.Int64("offset", s.Next()), zap.Int64("recovery_point", l.o.RecoveryPoint))
	}
	return nil
}

// placeOffsets sets start, end, high watermark and recovery point. After an
// unclean stop the recovery point stays where it was, if there is nothing to say
// that more is on disk: to sync every log would make the start slow.
func (l *Log) placeOffsets() error {
	end := l.active().Next()
	if end < l.o.StartOffset { // what was kept of the log is below its start
		return l.startAt(l.o.StartOffset)
	}
	start := max(l.o.StartOffset, l.list()[0].Base())
	l.end.Store(end)
	l.start.Store(start)
	l.highWatermark.Store(start)
	if l.o.CleanShutdown {
		l.recoveryPoint.Store(end)
	} else {
		l.recoveryPoint.Store(min(l.o.RecoveryPoint, end))
	}
	return nil
}
