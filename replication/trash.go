package replication

import (
	"container/heap"
	"errors"
	iofs "io/fs"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
)

// trash removes files and directories some time after they were set aside
// (file.delete.delay.ms), for the sake of those who still read them. What is
// left when the broker stops is removed when it starts again.
//
// However much is due at once, one timer waits and a few goroutines remove.
type trash struct {
	fs    vfs.FS
	clock clock.Clock
	lg    *zap.Logger

	mu      sync.Mutex  // guards the fields below
	waiting discards    // a heap
	timer   clock.Timer // of the first that waits; nil if none does
	closed  bool

	removers background
}

// removers is how many files or directories are removed at once.
const removers = 4

// discarded are names that are removed together.
type discarded struct {
	names []string
	due   time.Time
}

// discards is a heap of what is to be removed, by when.
type discards []discarded

func (h discards) Len() int           { return len(h) }
func (h discards) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h discards) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *discards) Push(x any)        { *h = append(*h, x.(discarded)) }

func (h *discards) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = discarded{}
	*h = (*h)[:last]
	return x
}

func newTrash(fs vfs.FS, c clock.Clock, lg *zap.Logger) *trash {
	return &trash{fs: fs, clock: c, lg: lg, removers: background{threads: removers, lg: lg}}
}

// later removes names once delay has passed.
func (t *trash) later(names []string, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	due := t.clock.Now().Add(delay)
	first := len(t.waiting) == 0 || due.Before(t.waiting[0].due)
	heap.Push(&t.waiting, discarded{names, due})
	if first {
		t.arm()
	}
}

// arm sets the timer to the first that waits. t.mu is held.
func (t *trash) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if len(t.waiting) > 0 {
		t.timer = t.clock.AfterFunc(max(t.waiting[0].due.Sub(t.clock.Now()), 0), t.due)
	}
}

// due hands over what is due.
func (t *trash) due() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for now := t.clock.Now(); !t.closed && len(t.waiting) > 0 && !t.waiting[0].due.After(now); {
		x := heap.Pop(&t.waiting).(discarded)
		t.removers.do(func() { t.remove(x.names) })
	}
	if !t.closed {
		t.arm()
	}
}

func (t *trash) remove(names []string) {
	for _, name := range names {
		if err := t.fs.RemoveAll(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.lg.Error("cannot remove what was deleted", zap.String("file", name), zap.Error(err))
		}
	}
}

// close forgets what waits.
func (t *trash) close() {
	t.mu.Lock()
	t.closed, t.waiting = true, nil
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.removers.close()
}

// background runs functions on a few goroutines (background.threads).
type background struct {
	lg *zap.Logger

	mu      sync.Mutex // guards the fields below
	queue   []func()
	threads int // that may run
	running int
	closed  bool
	done    sync.WaitGroup
}

// do runs f soon, unless close was called.
func (b *background) do(f func()) {
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

func (b *background) run() {
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
		Contain(b.lg, "background", f)
	}
}

// close drops what has not begun and waits for what has.
func (b *background) close() {
	b.mu.Lock()
	b.closed, b.queue = true, nil
	b.mu.Unlock()
	b.done.Wait()
}
