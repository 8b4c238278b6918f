package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// ErrHung means that an operation on a disk has not returned in time.
var ErrHung = errors.New("the disk does not answer")

// Watchdog notices an operation on a disk that does not return. It calls Hung once, and
// cannot end the operation: whoever waits for it goes on waiting. Its zero value watches
// nothing; the fields do not change once it is used. It is safe for concurrent use.
type Watchdog struct {
	// Limit is how long an operation may take; 0 for ever.
	Limit time.Duration
	// Patience is how many times the limit a sync may take, 0 for once. What was written
	// long before goes to the disk with it.
	Patience int
	// Paused reports that the process is stopped, so that no time passes for it. It must
	// not block, and may be nil.
	Paused func() bool
	// Hung is called once, from a goroutine of its own, with an error that wraps ErrHung.
	Hung func(error)

	mu      sync.Mutex // guards the fields below
	oldest  *watch     // of those under way, a list in the order in which they began
	newest  *watch
	ticking bool
	barked  bool
}

// watch is an operation under way.
type watch struct {
	dog          *Watchdog
	older, newer *watch
	what, name   string
	ticks, most  int // that have passed since it began, and may pass
}

// ticksPerLimit is in how many steps the limit is counted. A process that is stopped and goes
// on, or a machine that is suspended, misses what it missed in one step at most.
const ticksPerLimit = 8

// Begin notes that something begins on a file, and returns what is to be called when it has
// returned.
func (d *Watchdog) Begin(what, name string) (done func()) {
	if d == nil || d.Limit <= 0 {
		return func() {}
	}
	return d.begin(what, name, ticksPerLimit).done
}

// begin notes an operation that may take a number of ticks.
func (d *Watchdog) begin(what, name string, most int) *watch {
	w := &watch{dog: d, what: what, name: name, most: most}
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.older = d.newest; w.older != nil {
		w.older.newer = w
	} else {
		d.oldest = w
	}
	d.newest = w
	if !d.ticking && !d.barked {
		d.ticking = true
		time.AfterFunc(d.Limit/ticksPerLimit, d.tick) // a disk does not go by the broker's clock
	}
	return w
}

func (w *watch) done() {
	d := w.dog
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.older != nil {
		w.older.newer = w.newer
	} else {
		d.oldest = w.newer
	}
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		d.newest = w.older
	}
}

// tick counts one step for all that is under way. While nothing is, it does not come again.
func (d *Watchdog) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ticking = d.oldest != nil && !d.barked; !d.ticking {
		return
	}
	if d.Paused == nil || !d.Paused() {
		for w := d.oldest; w != nil; w = w.newer {
			if w.ticks++; w.ticks < w.most {
				continue
			}
			d.barked, d.ticking = true, false
			after := d.Limit * time.Duration(w.most) / ticksPerLimit
			go d.Hung(fmt.Errorf("%w: %s %s has not returned for %s", ErrHung, w.what, w.name, after))
			return
		}
	}
	time.AfterFunc(d.Limit/ticksPerLimit, d.tick)
}

// Watched returns a file system that has a watchdog watch each operation of inner. What
// is read by sendfile goes unseen.
func Watched(inner FS, dog *Watchdog) FS {
	if dog == nil || dog.Limit <= 0 {
		return inner
	}
	return &watched{inner, dog}
}

type watched struct {
	FS
	dog *Watchdog
}

func (d *Watchdog) do(op Op, name string, act func() error) error {
	most := ticksPerLimit
	if op == OpSync || op == OpSyncDir {
		most *= max(d.Patience, 1)
	}
	defer d.begin(string(op), name, most).done()
	return act()
}

func (f *watched) open(name string, open func() (File, error)) (file File, err error) {
	err = f.dog.do(OpOpen, name, func() error { file, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return &watchedFile{file, name, f.dog}, nil
}

func (f *watched) Create(name string) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.Create(name) })
}

func (f *watched) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.OpenFile(name, flag, perm) })
}

func (f *watched) Open(name string) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.Open(name) })
}

func (f *watched) Remove(name string) error {
	return f.dog.do(OpRemove, name, func() error { return f.FS.Remove(name) })
}

func (f *watched) RemoveAll(name string) error {
	return f.dog.do(OpRemove, name, func() error { return f.FS.RemoveAll(name) })
}

func (f *watched) Rename(old, new string) error {
	return f.dog.do(OpRename, new, func() error { return f.FS.Rename(old, new) })
}

func (f *watched) MkdirAll(dir string, perm os.FileMode) error {
	return f.dog.do(OpMkdir, dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *watched) SyncDir(dir string) error {
	return f.dog.do(OpSyncDir, dir, func() error { return f.FS.SyncDir(dir) })
}

func (f *watched) List(dir string) (names []string, err error) {
	err = f.dog.do(OpList, dir, func() error { names, err = f.FS.List(dir); return err })
	return names, err
}

func (f *watched) Stat(name string) (info os.FileInfo, err error) {
	err = f.dog.do(OpStat, name, func() error { info, err = f.FS.Stat(name); return err })
	return info, err
}

func (f *watched) Lock(name string) (lock io.Closer, err error) {
	err = f.dog.do(OpLock, name, func() error { lock, err = f.FS.Lock(name); return err })
	return lock, err
}

func (f *watched) readFile(name string) (b []byte, err error) {
	err = f.dog.do(OpRead, name, func() error { b, err = ReadFile(f.FS, name); return err })
	return b, err
}

func (f *watched) newSyncer(dir string) (Syncer, error) {
	s, err := NewSyncer(f.FS, dir)
	if err != nil {
		return nil, err
	}
	return watchedSyncer{s, dir, f.dog}, nil
}

type watchedSyncer struct {
	Syncer
	dir string
	dog *Watchdog
}

func (s watchedSyncer) Sync() error { return s.dog.do(OpSync, s.dir, s.Syncer.Sync) }

type watchedFile struct {
	File
	name string
	dog  *Watchdog
}

func (f *watchedFile) ReadAt(p []byte, off int64) (int, error) {
	defer f.dog.begin(string(OpRead), f.name, ticksPerLimit).done()
	return f.File.ReadAt(p, off)
}

func (f *watchedFile) WriteAt(p []byte, off int64) (int, error) {
	defer f.dog.begin(string(OpWrite), f.name, ticksPerLimit).done()
	return f.File.WriteAt(p, off)
}

func (f *watchedFile) Sync() error { return f.dog.do(OpSync, f.name, f.File.Sync) }

func (f *watchedFile) Truncate(size int64) error {
	return f.dog.do(OpTruncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *watchedFile) Size() (int64, error) {
	defer f.dog.begin(string(OpSize), f.name, ticksPerLimit).done()
	return f.File.Size()
}

func (f *watchedFile) Close() error { return f.dog.do(OpClose, f.name, f.File.Close) }
