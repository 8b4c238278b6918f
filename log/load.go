package log

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Open opens the log in a directory, or begins an empty one there. After an
// unclean stop it checks all batches from the recovery point on, cuts a torn
// tail off and rebuilds indexes, epochs and producer state from what is left. A
// *segment.DamagedError means that a batch in the middle is damaged; nothing is
// cut then, as a replica must not silently lose what it acknowledged. A
// *HoleError means that offsets between two segments are missing.
func Open(o Options) (*Log, error) {
	o = o.withDefaults()
	l := &Log{fs: o.FS, dir: o.Dir, o: &o, now: o.Now, fault: o.Fault, open: -1}
	l.SetConfig(o.Config)
	l.unstable.Store(noUnstable)
	l.unsealed.Store(nothingUnsealed)
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
	l.noteSnapshots(names)
	recovered, err := l.openSegments(bases)
	if err != nil {
		return err
	}
	if err := l.placeOffsets(); err != nil {
		return err
	}
	epochsFrom := recovered
	switch list := l.epochs.entries(); {
	case !hadEpochs, len(list) == 0:
		epochsFrom = 0 // the first epoch may not have been durable, see persist
	case !l.o.CleanShutdown && list[0].start > l.start.Load():
		epochsFrom = 0 // a log start offset was not durable yet up to which epochs were dropped
	}
	if err := l.loadEpochs(epochsFrom); err != nil {
		return err
	}
	dropped, err := l.distrustSnapshots(recovered)
	if err != nil {
		return err
	}
	if err := l.checkTxnIndexes(names); err != nil {
		return err
	}
	if err := l.rebuildProducers(min(recovered, l.end.Load()), l.o.HighWatermark); err != nil {
		return err
	}
	if dropped && l.Size() > 0 { // the next start need not read everything
		if err := l.writeSnapshot(l.end.Load()); err != nil {
			return err
		}
	}
	if err := l.dropOldSnapshots(); err != nil {
		return err
	}
	if !l.o.CleanShutdown && l.config.Load().FlushMessages > 0 {
		return l.syncSegments(l.end.Load()) // what is served must be on disk
	}
	return nil
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
		return vfs.WriteFileRenamed(l.fs, path.Join(l.dir, MetadataFile), []byte("version: 0\ntopic_id: "+l.o.TopicID.String()))
	case id != l.o.TopicID && !bugs.Planted(bugs.StrayKept):
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
	err := l.syncFile(path.Join(l.dir, MetadataFile))
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	l.idSynced = err == nil
	return err
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
