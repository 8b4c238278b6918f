package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
)

// cleaner compacts the logs of topics whose cleanup.policy says so, the dirtiest
// first (LogCleaner).
type cleaner struct {
	r *Replicas

	mu      sync.Mutex // guards the fields below
	busy    map[*Partition]bool
	given   map[*Partition]bool // up on: a round of them failed
	stopped bool
	stop    context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup
}

func newCleaner(r *Replicas) *cleaner {
	c := &cleaner{r: r, busy: make(map[*Partition]bool), given: make(map[*Partition]bool)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Clean compacts every log that is due, on as many threads as log.cleaner.threads
// says, and returns when there is nothing more to do. It is called every
// log.cleaner.backoff.ms by one goroutine at a time.
func (r *Replicas) Clean(image *meta.Image) error {
	c := r.cleaner
	if !c.begin() {
		return nil
	}
	defer c.running.Done()
	k, err := config.CleanerFrom(r.layers(image))
	if err != nil || k.Threads < 1 || c.dirtiest() == nil {
		return err
	}
	limit := &throttle{clock: r.o.Clock, rate: k.MaxBytesPerSecond}
	var wg sync.WaitGroup
	errs := make([]error, k.Threads)
	for i := range errs {
		wg.Go(func() {
			m := compact.NewMap(int(min(k.DedupeBuffer/int64(k.Threads), maxDedupe)))
			for p := c.take(); p != nil; p = c.take() {
				errs[i] = errors.Join(errs[i], log.Caught(r.lg, "compaction", func() error { return c.clean(p, m, limit) }))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// CleanEvery returns how long to wait between two calls of Clean.
func (r *Replicas) CleanEvery(image *meta.Image) time.Duration {
	k, err := config.CleanerFrom(r.layers(image))
	if err != nil {
		r.lg.Error("config of the cleaner does not resolve", zap.Error(err))
		return 15 * time.Second
	}
	return max(k.Backoff, 10*time.Millisecond)
}

// maxDedupe bounds the memory of one thread, in bytes.
const maxDedupe = 4 << 30

// layers are where broker configs come from.
func (r *Replicas) layers(image *meta.Image) config.Layers {
	return control.Layers(image, meta.Resource{Type: meta.BrokerResource, Name: fmt.Sprint(r.o.NodeID)}, r.o.Static)
}

// StopCleaning ends the rounds under way and waits for them. No more begin.
func (r *Replicas) StopCleaning() { r.cleaner.close() }

func (c *cleaner) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	c.running.Add(1)
	return true
}

// close ends the rounds under way and waits for them.
func (c *cleaner) close() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
}

// take returns the dirtiest log that is due and that nobody works on, or nil.
func (c *cleaner) take() *Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.dirtiestLocked()
	if p != nil {
		c.busy[p] = true
	}
	return p
}

func (c *cleaner) dirtiest() *Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirtiestLocked()
}

// dirtiestLocked looks at every compacted log. The caller holds mu.
func (c *cleaner) dirtiestLocked() (dirtiest *Partition) {
	if c.ctx.Err() != nil {
		return nil
	}
	most, now := -1.0, c.r.o.Clock.Now()
	c.r.Each(func(p *Partition) bool {
		if !p.log.Config().Compact || c.busy[p] || c.given[p] || p.log.Err() != nil {
			return true
		}
		d, err := p.log.Dirtiness(p.firstDirty(), now)
		if err != nil {
			c.giveUp(p, err)
		} else if d.Due && d.Ratio > most {
			dirtiest, most = p, d.Ratio
		}
		return true
	})
	return dirtiest
}

// giveUp leaves a log alone from now on. The caller holds mu.
func (c *cleaner) giveUp(p *Partition, err error) {
	if p.closed.Load() {
		return
	}
	c.given[p] = true
	c.r.lg.Error("log is not compacted any more", zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Error(err))
}

// clean does a round on one log and notes how far it came.
func (c *cleaner) clean(p *Partition, m *compact.Map, limit *throttle) error {
	defer func() {
		c.mu.Lock()
		delete(c.busy, p)
		c.mu.Unlock()
	}()
	began := c.r.o.Clock.Now()
	truncations, first := p.truncations.Load(), p.firstDirty()
	result, err := p.log.Compact(log.CompactOptions{Map: m, FirstDirty: first, Now: began, Throttle: func(n int) error { return limit.wait(c.ctx, n) }})
	switch {
	case c.ctx.Err() != nil, errors.Is(err, log.ErrReplaced), errors.Is(err, log.ErrClosed):
		return nil // another round will do it
	case err != nil:
		c.mu.Lock()
		c.giveUp(p, err)
		c.mu.Unlock()
		return nil
	}
	c.r.lg.Info("compacted log", zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Int64("from", max(first, 0)), zap.Int64("offset", result.Next),
		zap.Int("segments", result.Segments), zap.Int64("bytes", result.Filtered.BytesRead), zap.Int64("kept", result.Filtered.BytesKept),
		zap.Duration("dur", c.r.o.Clock.Now().Sub(began)))
	if result.Next == first {
		// Nothing could be done, though it is due: a single record with its key
		// does not fit, or what is due is not in whole segments yet.
		c.mu.Lock()
		c.giveUp(p, errors.New("a round of compaction got nowhere"))
		c.mu.Unlock()
		return nil
	}
	return p.compacted(result.Next, truncations)
}

// firstDirty returns where the last round of compaction ended, -1 if there was
// none.
func (p *Partition) firstDirty() int64 {
	if offset, known := p.Dir.FirstDirty(dirs.Name(p.Topic, p.Index)); known {
		return offset
	}
	return -1
}

// throttle bounds bytes per second (log.cleaner.io.max.bytes.per.second) over all
// threads.
type throttle struct {
	clock clock.Clock
	rate  float64

	mu    sync.Mutex // guards the fields below
	since time.Time
	bytes float64 // since then
}

// wait waits until n more bytes may be read or written, or ctx ends.
func (t *throttle) wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil || !(t.rate <= 1e18) { // NaN is no limit
		return err
	}
	now := t.clock.Now()
	t.mu.Lock()
	if t.since.IsZero() {
		t.since = now
	}
	t.bytes += float64(n)
	ahead := time.Duration(t.bytes/t.rate*1e9) - now.Sub(t.since)
	t.mu.Unlock()
	if ahead < 10*time.Millisecond {
		return nil
	}
	return clock.Sleep(ctx, t.clock, ahead)
}
