package dirs

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

// Trash removes files and directories some time after they were set aside
// (file.delete.delay.ms), for the sake of those who still read them. What is
// left when the broker stops is removed when it starts again.
//
// However much is due at once, one timer waits and a few goroutines remove.
type Trash struct {
	fs    vfs.FS
	clock clock.Clock
	lg    *zap.Logger

	mu      sync.Mutex  // guards the fields below
	waiting discards    // a heap
	timer   clock.Timer // of the first that waits; nil if none does
	closed  bool

	removers *Workers
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

// NewTrash returns a Trash that is empty.
func NewTrash(fs vfs.FS, c clock.Clock, lg *zap.Logger) *Trash {
	return &Trash{fs: fs, clock: c, lg: lg, removers: NewWorkers(removers, lg)}
}

// Later removes names once delay has passed.
func (t *Trash) Later(names []string, delay time.Duration) {
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
func (t *Trash) arm() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	if len(t.waiting) > 0 {
		t.timer = t.clock.AfterFunc(max(t.waiting[0].due.Sub(t.clock.Now()), 0), t.due)
	}
}

// due hands over what is due.
func (t *Trash) due() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for now := t.clock.Now(); !t.closed && len(t.waiting) > 0 && !t.waiting[0].due.After(now); {
		x := heap.Pop(&t.waiting).(discarded)
		t.removers.Do(func() { t.remove(x.names) })
	}
	if !t.closed {
		t.arm()
	}
}

func (t *Trash) remove(names []string) {
	for _, name := range names {
		if err := t.fs.RemoveAll(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.lg.Error("cannot remove what was deleted", zap.String("file", name), zap.Error(err))
		}
	}
}

// Close forgets what waits.
func (t *Trash) Close() {
	t.mu.Lock()
	t.closed, t.waiting = true, nil
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.removers.Close()
}
