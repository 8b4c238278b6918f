package dirs

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/compact"
)

// Cleanable is a partition whose log can be compacted.
type Cleanable interface {
	comparable
	Log() *log.Log
	// FirstDirty returns where the last round of compaction ended, -1 if there was
	// none.
	FirstDirty() int64
	// Truncations returns how many truncations there have been.
	Truncations() int64
	// Compacted notes up to where a round came that began after so many truncations.
	Compacted(next, truncations int64) error
	// Closed reports whether the partition has ended.
	Closed() bool
}

// Cleaner compacts the logs of topics whose cleanup.policy says so, the dirtiest
// first (LogCleaner). It is safe for concurrent use.
type Cleaner[P Cleanable] struct {
	each  func(func(P) bool)
	clock clock.Clock
	lg    *zap.Logger

	mu      sync.Mutex // guards the fields below
	busy    map[P]bool
	given   map[P]bool // up on: a round of them failed
	stopped bool
	stop    context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup
}

// NewCleaner returns a cleaner of the partitions that each goes through, until its
// argument returns false.
func NewCleaner[P Cleanable](each func(func(P) bool), c clock.Clock, lg *zap.Logger) *Cleaner[P] {
	k := &Cleaner[P]{each: each, clock: c, lg: lg, busy: make(map[P]bool), given: make(map[P]bool)}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// Clean compacts every log that is due, on as many threads as log.cleaner.threads
// says, and returns when there is nothing more to do. It is called every
// log.cleaner.backoff.ms by one goroutine at a time.
func (c *Cleaner[P]) Clean(k config.Cleaner) error {
	if !c.begin() {
		return nil
	}
	defer c.running.Done()
	if _, dirty := c.dirtiest(); k.Threads < 1 || !dirty {
		return nil
	}
	limit := &throttle{clock: c.clock, rate: k.MaxBytesPerSecond}
	var wg sync.WaitGroup
	errs := make([]error, k.Threads)
	for i := range errs {
		wg.Go(func() {
			m := compact.NewMap(int(min(k.DedupeBuffer/int64(k.Threads), maxDedupe)))
			for p, ok := c.take(); ok; p, ok = c.take() {
				errs[i] = errors.Join(errs[i], log.Caught(c.lg, "compaction", func() error { return c.clean(p, m, limit) }))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// maxDedupe bounds the memory of one thread, in bytes.
const maxDedupe = 4 << 30

func (c *Cleaner[P]) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	c.running.Add(1)
	return true
}

// Close ends the rounds under way and waits for them. No more begin.
func (c *Cleaner[P]) Close() {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
}

// take returns the dirtiest log that is due and that nobody works on, if there is
// one.
func (c *Cleaner[P]) take() (p P, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok = c.dirtiestLocked(); ok {
		c.busy[p] = true
	}
	return p, ok
}

func (c *Cleaner[P]) dirtiest() (P, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirtiestLocked()
}

// dirtiestLocked looks at every compacted log. The caller holds mu.
func (c *Cleaner[P]) dirtiestLocked() (dirtiest P, ok bool) {
	if c.ctx.Err() != nil {
		return dirtiest, false
	}
	most, now := -1.0, c.clock.Now()
	c.each(func(p P) bool {
		l := p.Log()
		if !l.Config().Compact || c.busy[p] || c.given[p] || l.Err() != nil {
			return true
		}
		d, err := l.Dirtiness(p.FirstDirty(), now)
		if err != nil {
			c.giveUp(p, err)
		} else if d.Due && d.Ratio > most {
			dirtiest, most, ok = p, d.Ratio, true
		}
		return true
	})
	return dirtiest, ok
}

// giveUp leaves a log alone from now on. The caller holds mu.
func (c *Cleaner[P]) giveUp(p P, err error) {
	if p.Closed() {
		return
	}
	c.given[p] = true
	c.lg.Error("log is not compacted any more", zap.String("topic", p.Log().Topic()), zap.Int32("partition", p.Log().Partition()), zap.Error(err))
}

// clean does a round on one log and notes how far it came.
func (c *Cleaner[P]) clean(p P, m *compact.Map, limit *throttle) error {
	defer func() {
		c.mu.Lock()
		delete(c.busy, p)
		c.mu.Unlock()
	}()
	began := c.clock.Now()
	truncations, first := p.Truncations(), p.FirstDirty()
	result, err := p.Log().Compact(log.CompactOptions{Map: m, FirstDirty: first, Now: began, Throttle: func(n int) error { return limit.wait(c.ctx, n) }})
	switch {
	case c.ctx.Err() != nil, errors.Is(err, log.ErrReplaced), errors.Is(err, log.ErrClosed):
		return nil // another round will do it
	case err != nil:
		c.mu.Lock()
		c.giveUp(p, err)
		c.mu.Unlock()
		return nil
	}
	c.lg.Info("compacted log", zap.String("topic", p.Log().Topic()), zap.Int32("partition", p.Log().Partition()), zap.Int64("from", max(first, 0)), zap.Int64("offset", result.Next),
		zap.Int("segments", result.Segments), zap.Int64("bytes", result.Filtered.BytesRead), zap.Int64("kept", result.Filtered.BytesKept),
		zap.Duration("dur", c.clock.Now().Sub(began)))
	if result.Next == first {
		// Nothing could be done, though it is due: a single record with its key
		// does not fit, or what is due is not in whole segments yet.
		c.mu.Lock()
		c.giveUp(p, errors.New("a round of compaction got nowhere"))
		c.mu.Unlock()
		return nil
	}
	return p.Compacted(result.Next, truncations)
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
