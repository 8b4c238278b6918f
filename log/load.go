package log

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
	"go.uber.org/zap"
)

const metadataFile = "partition.metadata"

// Open opens the log in a directory, or begins an empty one there. After an
// unclean stop it checks all batches from the recovery point on, cuts a torn
// tail off and rebuilds indexes, epochs and producer state from what is left. A
// *segment.DamagedError means that a batch in the middle is damaged; nothing is
// cut then, as a replica must not silently lose what it acknowledged.
func Open(o Options) (*Log, error) {
	o = o.withDefaults()
	l := &Log{fs: o.FS, dir: o.Dir, o: &o, open: -1, lastFlush: o.Now()}
	l.SetConfig(o.Config)
	l.unstable.Store(noUnstable)
	if err := l.load(); err != nil {
		if list := l.segments.Load(); list != nil {
			for _, s := range *list {
				s.Abandon()
			}
		}
		return nil, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	return l, nil
}

func (l *Log) load() error {
	names, err := l.fs.List(l.dir)
	if errors.Is(err, os.ErrNotExist) {
		// The owner of the directory above makes the new entry durable, once for
		// all the logs that it opens.
		err = l.fs.MkdirAll(l.dir, 0o755)
	}
	if err != nil {
		return err
	}
	if err := l.checkTopicID(names); err != nil {
		return err
	}
	hadEpochs, err := l.epochs.load(l.fs, l.dir)
	if err != nil {
		return err
	}
	bases, err := l.sortOut(names)
	if err != nil {
		return err
	}
	recovered, err := l.openSegments(bases)
	if err != nil {
		return err
	}
	if err := l.placeOffsets(); err != nil {
		return err
	}
	if !hadEpochs {
		recovered = 0
	}
	if err := l.loadEpochs(recovered); err != nil {
		return err
	}
	if err := l.dropSnapshots(func(at int64) bool { return at > l.end.Load() }); err != nil {
		return err
	}
	if err := l.rebuildProducers(); err != nil {
		return err
	}
	return l.dropOldSnapshots()
}

// checkTopicID reads or writes partition.metadata: the lines "version: 0" and
// "topic_id: ID", without a newline at the end.
//
// The cluster's metadata has the id too, so the file is not synced when it is
// made: a sync for each would make topics slow to create. It is synced before the
// first record; what a power cut makes of it before that is written again.
func (l *Log) checkTopicID(names []string) error {
	if l.o.TopicID.IsZero() {
		return nil
	}
	id, err := ReadTopicID(l.fs, l.dir)
	l.idSynced = slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, segment.LogSuffix) })
	if errors.Is(err, ErrCorrupt) && !l.idSynced {
		id, err = prim.UUID{}, nil
	}
	switch {
	case err != nil:
		return err
	case id.IsZero():
		return vfs.WriteFileRenamed(l.fs, path.Join(l.dir, metadataFile), []byte("version: 0\ntopic_id: "+l.o.TopicID.String()))
	case id != l.o.TopicID:
		return fmt.Errorf("%w: %s has %s, want %s", ErrTopicID, l.dir, id, l.o.TopicID)
	}
	return nil
}

// syncTopicID makes partition.metadata durable, once, before there are records
// that could be taken for another topic's.
func (l *Log) syncTopicID() error {
	if l.o.TopicID.IsZero() {
		l.idSynced = true
	}
	if l.idSynced {
		return nil
	}
	f, err := l.fs.OpenFile(path.Join(l.dir, metadataFile), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	l.idSynced = err == nil
	return err
}

// sortOut removes files that a crash left over and returns the base offsets of
// the segments.
func (l *Log) sortOut(names []string) ([]int64, error) {
	var bases []int64
	for _, name := range names {
		switch ext := path.Ext(name); ext {
		case ".deleted", ".cleaned", ".tmp":
			if err := l.fs.Remove(path.Join(l.dir, name)); err != nil {
				return nil, err
			}
		case ".swap":
			return nil, fmt.Errorf("%w: %s: compaction was interrupted", ErrCorrupt, name)
		case segment.LogSuffix:
			base, err := strconv.ParseInt(strings.TrimSuffix(name, ext), 10, 64)
			if err != nil || base < 0 || len(name) != 20+len(ext) {
				return nil, fmt.Errorf("%w: %s is no segment's name", ErrCorrupt, name)
			}
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// openSegments opens all segments, and recovers those that reach beyond the
// recovery point after an unclean stop. It returns the base offset of the first
// that it recovered, or the largest number.
func (l *Log) openSegments(bases []int64) (recovered int64, err error) {
	recovered = math.MaxInt64
	var list []*segment.Segment
	defer func() { l.segments.Store(&list) }()
	for i, base := range bases {
		end := int64(-1)
		if l.o.CleanShutdown && i+1 < len(bases) {
			end = bases[i+1]
		}
		check := !l.o.CleanShutdown && (i+1 == len(bases) || bases[i+1] > l.o.RecoveryPoint)
		s, err := l.openSegment(base, end, check)
		if err != nil {
			return recovered, err
		}
		list = append(list, s)
		if check {
			recovered = min(recovered, base)
			if err := l.recover(s, i+1 == len(bases)); err != nil {
				return recovered, err
			}
		}
		if i+1 < len(bases) && s.Next() > bases[i+1] {
			return recovered, fmt.Errorf("%w: segment %d reaches to %d, the next one begins at %d", ErrCorrupt, base, s.Next(), bases[i+1])
		}
	}
	if len(list) == 0 {
		s, err := segment.Create(l.segmentOptions(l.o.StartOffset))
		if err != nil {
			return recovered, err
		}
		list = append(list, s)
	}
	return recovered, nil
}

// openSegment opens one segment. One that is checked afterwards needs no indexes
// and may have a torn tail, which no index can be made of.
func (l *Log) openSegment(base, end int64, check bool) (*segment.Segment, error) {
	o := l.segmentOptions(base)
	if check {
		return segment.OpenToRecover(o)
	}
	return segment.Open(o, end)
}

func (l *Log) recover(s *segment.Segment, last bool) error {
	size := s.Size()
	cut, err := s.Recover(func(b record.Batch) error { return nil })
	if err != nil {
		return err
	}
	if cut == 0 {
		return nil
	}
	if !last {
		// What follows is there, so this is damage and no torn tail. Cutting here
		// would leave a hole.
		return &segment.DamagedError{File: segment.FileName(l.dir, s.Base(), segment.LogSuffix), Pos: size - cut, Valid: size, Err: ErrCorrupt}
	}
	l.o.Logger.Warn("cut torn tail", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition),
		zap.Int64("offset", s.Next()), zap.Int64("bytes", cut))
	return nil
}

// placeOffsets sets start, end, high watermark and recovery point.
func (l *Log) placeOffsets() error {
	end := l.active().Next()
	if end < l.o.StartOffset { // what was kept of the log is below its start
		return l.startAt(l.o.StartOffset)
	}
	start := max(l.o.StartOffset, l.list()[0].Base())
	l.end.Store(end)
	l.start.Store(start)
	l.highWatermark.Store(start)
	l.recoveryPoint.Store(end) // a clean stop and a recovery both synced
	return nil
}

// loadEpochs makes the epoch checkpoint agree with the log: the batches of
// segments from base offset from on say what is in it.
func (l *Log) loadEpochs(from int64) error {
	if from < math.MaxInt64 && l.Size() > 0 {
		list := l.epochs.entries()
		for _, s := range l.list() {
			if s.Base() < from {
				continue
			}
			err := s.Scan(0, s.Size(), segment.HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
				if d := segment.Describe(b); d.Epoch >= 0 && !covered(list, d) {
					list = withEpoch(list, d.Epoch, d.Base)
				}
				return true, nil
			})
			if err != nil {
				return err
			}
		}
		if !slices.Equal(list, l.epochs.entries()) {
			if err := l.epochs.set(list); err != nil {
				return err
			}
		}
	}
	if err := l.epochs.truncateEnd(l.end.Load() + 1); err != nil {
		return err
	}
	return l.epochs.truncateStart(l.start.Load())
}

// covered reports whether the list already says that a batch has its epoch.
func covered(list []epochEntry, d segment.Info) bool {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].start <= d.Base {
			return list[i].epoch == d.Epoch
		}
	}
	return false
}

// snapshots returns the offsets of the producer snapshots, newest first.
func (l *Log) snapshots() ([]int64, error) {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return nil, err
	}
	var out []int64
	for _, n := range names {
		if base, ok := strings.CutSuffix(n, segment.SnapshotSuffix); ok {
			if at, err := strconv.ParseInt(base, 10, 64); err == nil {
				out = append(out, at)
			}
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func (l *Log) dropSnapshots(drop func(at int64) bool) error {
	list, err := l.snapshots()
	if err != nil {
		return err
	}
	for _, at := range list {
		if drop(at) {
			if err := l.fs.Remove(segment.FileName(l.dir, at, segment.SnapshotSuffix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropOldSnapshots keeps the newest snapshot and those that segments begin with:
// truncating goes back to one of them.
func (l *Log) dropOldSnapshots() error {
	list, err := l.snapshots()
	if err != nil || len(list) == 0 {
		return err
	}
	keep := map[int64]bool{list[0]: true}
	for _, s := range l.list() {
		keep[s.Base()] = true
	}
	return l.dropSnapshots(func(at int64) bool { return !keep[at] })
}

func (l *Log) writeSnapshot(at int64) error {
	return vfs.WriteFileAtomic(l.fs, segment.FileName(l.dir, at, segment.SnapshotSuffix), encodeSnapshot(&l.producers))
}

// rebuildProducers takes the newest producer snapshot that can be read and
// replays the batches after it.
func (l *Log) rebuildProducers() error {
	list, err := l.snapshots()
	if err != nil {
		return err
	}
	l.producers = producers{}
	from := int64(0)
	for _, at := range list {
		name := segment.FileName(l.dir, at, segment.SnapshotSuffix)
		b, err := vfs.ReadFile(l.fs, name)
		if err != nil {
			return err
		}
		s, err := decodeSnapshot(b)
		if err == nil {
			l.producers, from = *s, at
			break
		}
		l.o.Logger.Warn("dropped unreadable producer snapshot", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Error(err))
		if err := l.fs.Remove(name); err != nil {
			return err
		}
	}
	l.txnMu.Lock()
	l.ended, l.open = nil, l.producers.firstOpen()
	l.publishUnstable()
	l.txnMu.Unlock()
	if err := l.dropTxns(from); err != nil {
		return err
	}
	for _, s := range l.list() {
		if s.Next() <= from {
			continue
		}
		if err := l.replayFrom(s, from); err != nil {
			return err
		}
	}
	return nil
}

// replayFrom replays the batches of one segment that begin at or after offset.
func (l *Log) replayFrom(s *segment.Segment, offset int64) error {
	from, err := s.Position(offset)
	if err != nil {
		return err
	}
	return s.Scan(from, s.Size(), segment.HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		d := segment.Describe(b)
		if d.Base < offset || b.Magic() < record.Magic || b.ProducerID() < 0 {
			return true, nil
		}
		if b.Attributes().Control() {
			whole, err := s.Batch(pos, d.Size)
			if err != nil {
				return false, err
			}
			b = whole
		}
		return true, l.replay(b)
	})
}
