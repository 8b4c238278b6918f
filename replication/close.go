package replication

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/dirs"
)

// Close syncs and closes every log and marks the directories as cleanly shut
// down. It does not unlock them. The error names each directory that it could not
// mark, with the first thing that went wrong there.
func (r *Replicas) Close(brokerEpoch int64) error {
	r.fetchers.close()
	r.proposals.close()
	r.placements.close()
	r.mu.Lock()
	live := r.live
	r.live = false
	r.mu.Unlock()
	if !live {
		return nil
	}
	r.jobs.wait()
	r.cleaner.Close()
	r.trash.Close()
	r.background.Close()
	byDir := make(map[*dirs.Dir][]*Partition)
	r.Each(func(p *Partition) bool {
		byDir[p.Dir] = append(byDir[p.Dir], p)
		return true
	})
	failed := make([]error, len(r.o.Dirs))
	inParallel(len(r.o.Dirs), r.threads(len(r.o.Dirs)), func(i int) {
		d := r.o.Dirs[i]
		failed[i] = closing{d, r.threads(max(syncers/len(r.o.Dirs), 1))}.all(byDir[d])
	})
	r.Checkpoint() // its errors are those of directories
	var err error
	for i, d := range r.o.Dirs {
		switch {
		case d.Err() != nil: // which is why its logs failed
			err = errors.Join(err, fmt.Errorf("log directory %s is offline: %w", d.Path, d.Err()))
		case failed[i] != nil:
			err = errors.Join(err, fmt.Errorf("log directory %s: %w", d.Path, failed[i]))
		case d.HasQuarantined():
			// What did not open must be looked at again at the next start.
		default:
			if e := d.MarkClean(brokerEpoch); e != nil {
				err = errors.Join(err, fmt.Errorf("log directory %s: %w", d.Path, e))
			}
		}
	}
	return err
}

// closing closes the logs of a directory, so many at once.
type closing struct {
	d       *dirs.Dir
	workers int
}

// all syncs and closes the logs of a directory. Many are synced together,
// if the system can.
func (c closing) all(partitions []*Partition) error {
	var unsynced []*Partition
	for _, p := range partitions {
		if p.log.Unsynced() {
			unsynced = append(unsynced, p)
		}
	}
	var err error
	if c.d.SyncsAll() && len(unsynced) >= manyLogs {
		err = c.together(unsynced)
	}
	if e := c.each(partitions, (*Partition).close); err == nil {
		err = e
	}
	return err
}

// closeAtOnce is how many logs are written, and then synced and closed: it bounds
// the files that are open.
const closeAtOnce = 1000

// together syncs and closes logs of the directory.
func (c closing) together(partitions []*Partition) error {
	if len(partitions) > closeAtOnce {
		// Files whose descriptors are closed to make room need no sync of their own.
		if err := c.d.SyncAll(); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(partitions, closeAtOnce) {
		err := c.each(some, func(p *Partition) error {
			p.end()
			return p.log.Finish()
		})
		if err == nil {
			err = c.d.SyncAll()
		}
		if err != nil {
			return err
		}
		err = c.each(some, func(p *Partition) error {
			p.log.Durable()
			return p.close()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls f for partitions, many at once, and returns what went wrong first.
func (c closing) each(partitions []*Partition, f func(p *Partition) error) error {
	var mu sync.Mutex // guards the two below
	var first error
	failed := 0
	inParallel(len(partitions), c.workers, func(i int) {
		p := partitions[i]
		if err := log.Caught(p.lg, "close", func() error { return f(p) }); err != nil {
			mu.Lock()
			if failed++; first == nil {
				first = fmt.Errorf("close %s-%d: %w", p.Topic, p.Index, err)
			}
			mu.Unlock()
		}
	})
	if failed > 1 {
		return fmt.Errorf("of %d logs that failed, the first: %w", failed, first)
	}
	return first
}
