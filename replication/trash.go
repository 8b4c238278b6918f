package replication

import (
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
type trash struct {
	fs    vfs.FS
	clock clock.Clock
	lg    *zap.Logger

	mu      sync.Mutex // guards the fields below
	waiting map[int]clock.Timer
	made    int
	closed  bool
	running sync.WaitGroup
}

func newTrash(fs vfs.FS, c clock.Clock, lg *zap.Logger) *trash {
	return &trash{fs: fs, clock: c, lg: lg, waiting: make(map[int]clock.Timer)}
}

// later removes names once delay has passed.
func (t *trash) later(names []string, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	id := t.made
	t.made++
	t.waiting[id] = t.clock.AfterFunc(delay, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting, id)
		if !t.closed {
			t.running.Go(func() { t.remove(names) }) // a clock's callback must not block
		}
	})
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
	t.closed = true
	for _, timer := range t.waiting {
		timer.Stop()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// background runs functions on a few goroutines (background.threads).
type background struct {
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
		f()
	}
}

// close drops what has not begun and waits for what has.
func (b *background) close() {
	b.mu.Lock()
	b.closed, b.queue = true, nil
	b.mu.Unlock()
	b.done.Wait()
}
