package replication

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire/conn"
)

// Fetching says how followers fetch.
type Fetching struct {
	// Dial connects to the listener of another broker that brokers talk on. It may be
	// nil where there are no other brokers.
	Dial func(ctx context.Context, broker int32) (*conn.Conn, error)
	// Epoch returns that of this broker's registration.
	Epoch func() int64

	Fetchers         int           // for each leader (num.replica.fetchers)
	MinBytes         int           // replica.fetch.min.bytes
	MaxBytes         int           // of a partition (replica.fetch.max.bytes)
	ResponseMaxBytes int           // replica.fetch.response.max.bytes
	Wait             time.Duration // that a leader without news waits (replica.fetch.wait.max.ms)
	Backoff          time.Duration // at most, after an error (replica.fetch.backoff.ms)
}

// source is a leader, and which of the fetchers that copy from it.
type source struct {
	leader int32
	index  uint32
}

// fetchers copy the partitions that this broker follows from their leaders.
type fetchers struct {
	r *Replicas

	mu      sync.Mutex // guards the fields below
	all     map[source]*fetcher
	of      map[*Partition]*fetcher
	closed  bool
	running sync.WaitGroup
}

func newFetchers(r *Replicas) *fetchers {
	return &fetchers{r: r, all: make(map[source]*fetcher), of: make(map[*Partition]*fetcher)}
}

// follow has a partition copied from its leader, in the role that it has now.
func (f *fetchers) follow(p *Partition) {
	leader, epoch, ok := p.follows()
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.of[p]
	if !ok || f.closed || f.r.o.Fetching.Dial == nil {
		if old != nil {
			old.drop(p)
			delete(f.of, p)
		}
		return
	}
	from := f.all[f.source(p, leader)]
	if from == nil {
		from = newFetcher(f, f.source(p, leader))
		f.all[from.source] = from
		f.running.Go(from.run)
		f.running.Go(from.runAside)
	}
	if old != nil {
		old.drop(p)
	}
	f.of[p] = from
	from.add(p, epoch)
}

func (f *fetchers) source(p *Partition, leader int32) source {
	h := fnv.New32a()
	h.Write([]byte(p.Topic))
	return source{leader, (h.Sum32() + uint32(p.Index)) % uint32(max(f.r.o.Fetching.Fetchers, 1))}
}

// leave has a partition copied no more.
func (f *fetchers) leave(p *Partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.of[p]; old != nil {
		old.drop(p)
		delete(f.of, p)
	}
}

// close ends all copying, for good.
func (f *fetchers) close() {
	f.mu.Lock()
	f.closed = true
	for _, one := range f.all {
		one.cancel()
	}
	f.mu.Unlock()
	f.running.Wait()
}
