package dirs

import (
	"sync"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
)

// Workers runs functions on a few goroutines (background.threads).
type Workers struct {
	lg *zap.Logger

	mu      sync.Mutex // guards the fields below
	queue   []func()
	threads int // that may run
	running int
	closed  bool
	done    sync.WaitGroup
}

// NewWorkers returns so many workers, one at least.
func NewWorkers(threads int, lg *zap.Logger) *Workers {
	return &Workers{threads: max(1, threads), lg: lg}
}

// Do runs f soon, unless Close was called.
func (b *Workers) Do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.queue = append(b.queue, f)
	if b.running < b.threads {
		b.running++
		b.done.Go(b.run)
	}
}

func (b *Workers) run() {
	for {
		b.mu.Lock()
		if len(b.queue) == 0 {
			b.running--
			b.mu.Unlock()
			return
		}
		f := b.queue[0]
		b.queue = b.queue[1:]
		b.mu.Unlock()
		log.Contain(b.lg, "background", f)
	}
}

// Close drops what has not begun and waits for what has.
func (b *Workers) Close() {
	b.mu.Lock()
	b.closed, b.queue = true, nil
	b.mu.Unlock()
	b.done.Wait()
}
