package replication

import (
	"errors"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/dirs"
)

// Checkpoint writes the checkpoint files of every directory that is well:
// recovery points, high watermarks, and log start offsets.
func (r *Replicas) Checkpoint() error {
	var err error
	for _, d := range r.o.Dirs {
		if d.Err() == nil {
			err = errors.Join(err, r.checkpoint(d))
		}
	}
	return err
}

// checkpoint writes the checkpoint files of a directory.
func (r *Replicas) checkpoint(d *dirs.Dir) error {
	gone := d.Forgotten()
	recovery := r.offsets(d, log.RecoveryPointFile, func(l *log.Log) (int64, bool) { return l.RecoveryCheckpoint(), true })
	high := r.offsets(d, log.HighWatermarkFile, func(l *log.Log) (int64, bool) { return l.HighWatermark(), true })
	err := errors.Join(d.WriteCheckpoint(log.RecoveryPointFile, recovery), d.WriteCheckpoint(log.HighWatermarkFile, high),
		d.WriteCheckpoint(log.LogStartFile, r.offsets(d, log.LogStartFile, startToKeep)))
	if err == nil && len(gone) > 0 {
		if err = d.WriteCheckpoint(log.CleanerFile, d.FirstDirties); err == nil {
			d.Rewritten(gone)
		}
	}
	return err
}

// checkpointGone takes the offsets of deleted partitions out of the checkpoint
// files, if one of names is among them: a partition that is created again must not be
// taken for the old one after a crash.
func (r *Replicas) checkpointGone(names []string) error {
	var err error
	for _, d := range r.o.Dirs {
		if d.Err() == nil && d.Forgot(names) {
			err = errors.Join(err, r.checkpoint(d))
		}
	}
	return err
}

// offsets returns what collects an offset of each log in a directory that has it;
// of those that did not open, the one that was found.
func (r *Replicas) offsets(d *dirs.Dir, file string, of func(*log.Log) (int64, bool)) func() map[string]int64 {
	return func() map[string]int64 {
		out := d.OfQuarantined(file)
		r.Each(func(p *Partition) bool {
			if p.Dir == d {
				if offset, ok := of(p.log); ok {
					out[dirs.Name(p.Topic, p.Index)] = offset
				}
			}
			return true
		})
		return out
	}
}

// startToKeep returns the log start offset where the names of the segments do
// not tell it: records were deleted that share a segment with others, or the
// first segment's file is not known to be on disk.
func startToKeep(l *log.Log) (offset int64, keep bool) {
	offset = l.StartOffset()
	first := l.FirstSegmentOffset()
	return offset, offset > first || offset > 0 && l.RecoveryPoint() <= first
}

// checkpointStart makes the log start offset of a partition durable, and those of
// the others in its directory.
func (r *Replicas) checkpointStart(p *Partition) error { return r.checkpointStarts(p.Dir) }

// checkpointStarts makes the log start offsets in a directory durable.
func (r *Replicas) checkpointStarts(d *dirs.Dir) error {
	return d.WriteCheckpoint(log.LogStartFile, r.offsets(d, log.LogStartFile, startToKeep))
}

// CheckpointIfMoved is Checkpoint where anything has changed since the last one.
func (r *Replicas) CheckpointIfMoved() error {
	var sum uint64
	r.Each(func(p *Partition) bool {
		// A change of any offset changes the sum but by an unlucky accident, and
		// then the next change is written.
		sum += uint64(p.log.HighWatermark())*0x9e3779b97f4a7c15 ^ uint64(p.log.StartOffset())*0xbf58476d1ce4e5b9 ^ uint64(p.log.RecoveryCheckpoint())
		return true
	})
	sum += uint64(r.Count()) << 32
	if r.sum.Swap(sum) == sum {
		return nil
	}
	return r.Checkpoint()
}
