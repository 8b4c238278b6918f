package replication

import (
	"context"
	"sync"
)

// jobs does work on partitions away from the goroutine that asks for it. Jobs that have a key in
// common run in the order in which they were added; others run side by side. It is
// safe for concurrent use.
type jobs struct {
	running sync.WaitGroup

	mu   sync.Mutex
	last map[string]*job // the newest job with a key, while it has not ended
	open map[*job]uint64 // those that have not ended, and the update they belong to
	gate <-chan struct{} // nothing begins before it is closed; nil for at once

	inline bool // add runs each job to its end
}

type job struct{ ended chan struct{} }

func newJobs() *jobs { return &jobs{last: make(map[string]*job), open: make(map[*job]uint64)} }

// hold keeps jobs that are added from now on from beginning until gate is closed.
func (j *jobs) hold(gate <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gate = gate
}

// add has f called. It belongs to the update of the metadata at index.
func (j *jobs) add(index uint64, keys []string, f func()) {
	if j.inline {
		f()
		return
	}
	own := &job{make(chan struct{})}
	j.mu.Lock()
	defer j.mu.Unlock()
	before := make(map[*job]bool)
	for _, key := range keys {
		if other := j.last[key]; other != nil {
			before[other] = true
		}
		j.last[key] = own
	}
	j.open[own] = index
	gate := j.gate
	j.running.Go(func() {
		if gate != nil {
			<-gate
		}
		for other := range before {
			<-other.ended
		}
		defer j.end(own, keys)
		f()
	})
}

func (j *jobs) end(own *job, keys []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, key := range keys {
		if j.last[key] == own {
			delete(j.last, key)
		}
	}
	delete(j.open, own)
	close(own.ended)
}

// settled waits until the jobs of the update at index have ended, or ctx has.
func (j *jobs) settled(ctx context.Context, index uint64) error {
	var all []*job
	j.mu.Lock()
	for own, of := range j.open {
		if of == index {
			all = append(all, own)
		}
	}
	j.mu.Unlock()
	for _, own := range all {
		select {
		case <-own.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wait waits until every job has ended. None may be added meanwhile.
func (j *jobs) wait() { j.running.Wait() }
