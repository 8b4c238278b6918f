package replication

import (
	"errors"

	"github.com/klamm-io/klamm/log"
)

// Checkpoint writes the checkpoint files of every directory that is well:
// recovery points, high watermarks, and log start offsets.
func (r *Replicas) Checkpoint() error {
	type files struct{ recovery, high, start map[string]int64 }
	byDir := make(map[*Dir]*files)
	for _, d := range r.o.Dirs {
		byDir[d] = &files{make(map[string]int64), make(map[string]int64), make(map[string]int64)}
	}
	r.Each(func(p *Partition) bool {
		f, name := byDir[p.Dir], dirName(p.Topic, p.Index)
		f.recovery[name] = p.log.RecoveryCheckpoint()
		f.high[name] = p.log.HighWatermark()
		if start, moved := startToKeep(p.log); moved {
			f.start[name] = start
		}
		return true
	})
	var err error
	for d, f := range byDir {
		if d.Err() != nil {
			continue
		}
		err = errors.Join(err, d.writeCheckpoint(log.RecoveryPointFile, f.recovery), d.writeCheckpoint(log.HighWatermarkFile, f.high), d.writeCheckpoint(log.LogStartFile, f.start))
	}
	return err
}

// startToKeep returns the log start offset where the names of the segments do
// not tell it.
func startToKeep(l *log.Log) (offset int64, moved bool) {
	offset = l.StartOffset()
	return offset, offset > l.FirstSegmentOffset()
}

// checkpointStart makes the log start offset of a partition durable, and those of
// the others in its directory.
func (r *Replicas) checkpointStart(p *Partition) error {
	starts := make(map[string]int64)
	r.Each(func(other *Partition) bool {
		if other.Dir == p.Dir {
			if start, moved := startToKeep(other.log); moved {
				starts[dirName(other.Topic, other.Index)] = start
			}
		}
		return true
	})
	return p.Dir.writeCheckpoint(log.LogStartFile, starts)
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
