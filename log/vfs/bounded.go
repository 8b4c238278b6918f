package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// Bounded returns a file system that keeps at most limit files of inner open. A
// File of it is a place in a file: its descriptor is closed when others need
// room and opened again by the next use. A file with writes that were not synced
// is synced before it is closed, since an error of writing back is told to who
// has the file open.
//
// Files that are renamed, alone or with the directory that holds them, are
// followed; a file that is removed or replaced keeps its descriptor, beyond the
// limit if need be, until it is closed. A directory may be renamed while files
// are open in it, but not one above it.
func Bounded(inner FS, limit int) FS {
	return &bounded{FS: inner, limit: max(limit, 4), dirs: make(map[string][]*boundedFile)}
}

type bounded struct {
	FS
	limit int

	// mu guards the fields below. It is never held during I/O, and taken after
	// the mutex of a file.
	mu   sync.Mutex
	dirs map[string][]*boundedFile // handles, by directory
	open []*boundedFile            // those that hold a descriptor which may be closed
	hand int                       // where in open the search for one to close goes on
	made uint64                    // handles ever made
}

// boundedFile is one handle.
type boundedFile struct {
	b    *bounded
	id   uint64 // several handles are locked in the order of their ids
	flag int
	at   int // place in b.open, -1 none; guarded by b.mu

	used atomic.Bool // since the search for one to close came by

	// mu guards the fields below and is held while the file is opened or closed.
	// Reads and writes only count in users.
	mu      sync.Mutex
	name    string
	file    File // nil while not open
	users   int  // operations under way, and holds
	dirty   bool // has writes that were not synced
	kept    bool // cannot be opened again
	closed  bool
	failure error // of the sync before the descriptor was closed
}

func (b *bounded) Create(name string) (File, error) {
	return b.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
}

func (b *bounded) readFile(name string) ([]byte, error) {
	content, err := ReadFile(b.FS, name)
	if outOfDescriptors(err) {
		b.makeRoom()
		content, err = ReadFile(b.FS, name)
	}
	return content, err
}

func (b *bounded) Open(name string) (File, error) { return b.OpenFile(name, os.O_RDONLY, 0) }

func (b *bounded) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	inner, err := b.openInner(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f := &boundedFile{b: b, name: path.Clean(name), flag: flag &^ (os.O_CREATE | os.O_TRUNC | os.O_EXCL), file: inner}
	f.used.Store(true)
	b.mu.Lock()
	b.made++
	f.id = b.made
	b.dirs[path.Dir(f.name)] = append(b.dirs[path.Dir(f.name)], f)
	b.list(f)
	b.mu.Unlock()
	b.shrink(b.limit)
	return f, nil
}

// openInner opens a file. If the process may have no more descriptors, it closes
// some and tries again.
func (b *bounded) openInner(name string, flag int, perm os.FileMode) (File, error) {
	f, err := b.FS.OpenFile(name, flag, perm)
	if outOfDescriptors(err) {
		b.makeRoom()
		f, err = b.FS.OpenFile(name, flag, perm)
	}
	return f, err
}

func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// makeRoom closes an eighth of the descriptors.
func (b *bounded) makeRoom() {
	b.mu.Lock()
	fewer := len(b.open) - len(b.open)/8 - 1
	b.mu.Unlock()
	b.shrink(fewer)
}

// shrink closes descriptors until no more than limit are open, or none is left
// that may be closed. An error of closing is told to the next user of that file.
func (b *bounded) shrink(limit int) {
	for f := b.victim(limit); f != nil; f = b.victim(limit) {
		f.evict()
		f.mu.Unlock()
	}
}

// victim picks a file to close if more than limit are open, and returns it
// locked: the first not used since the last search (the clock algorithm), and
// rather one without unsynced writes.
func (b *bounded) victim(limit int) *boundedFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) <= limit {
		return nil
	}
	for step := range 3 * len(b.open) {
		b.hand = (b.hand + 1) % len(b.open)
		f := b.open[b.hand]
		if f.used.Swap(false) && step < 2*len(b.open) || !f.mu.TryLock() {
			continue
		}
		if f.users > 0 || f.dirty && step < 2*len(b.open) {
			f.mu.Unlock()
			continue
		}
		b.unlist(f)
		return f
	}
	return nil
}

// list enters f into the list of open files. The caller holds b.mu.
func (b *bounded) list(f *boundedFile) {
	f.at = len(b.open)
	b.open = append(b.open, f)
}

// unlist takes f off the list of open files. The caller holds b.mu.
func (b *bounded) unlist(f *boundedFile) {
	if f.at < 0 {
		return
	}
	last := len(b.open) - 1
	b.open[f.at] = b.open[last]
	b.open[f.at].at = f.at
	b.open[last] = nil
	b.open, f.at = b.open[:last], -1
}

// evict closes the descriptor. The caller holds f.mu and has taken f off the
// list.
func (f *boundedFile) evict() {
	var err error
	if f.dirty {
		err = f.file.Sync()
		f.dirty = false
	}
	if e := f.file.Close(); err == nil {
		err = e
	}
	f.file = nil
	if err != nil && f.failure == nil {
		f.failure = fmt.Errorf("close of %s to make room: %w", f.name, err)
	}
}

// acquire opens the file if it is not, and keeps it open until release.
func (f *boundedFile) acquire(write bool) (File, error) {
	f.used.Store(true)
	f.mu.Lock()
	opened, err := f.ensure()
	if err != nil {
		f.mu.Unlock()
		return nil, err
	}
	f.users++
	f.dirty = f.dirty || write
	file := f.file
	f.mu.Unlock()
	if opened {
		f.b.shrink(f.b.limit)
	}
	return file, nil
}

// ensure opens the file if it is not. The caller holds f.mu.
func (f *boundedFile) ensure() (opened bool, err error) {
	switch {
	case f.closed:
		return false, os.ErrClosed
	case f.failure != nil:
		return false, f.failure
	case f.file != nil:
		return false, nil
	}
	if f.file, err = f.b.openInner(f.name, f.flag, 0); err != nil {
		return false, err
	}
	f.b.mu.Lock()
	f.b.list(f)
	f.b.mu.Unlock()
	return true, nil
}

func (f *boundedFile) release() {
	f.mu.Lock()
	f.users--
	f.mu.Unlock()
}

func (f *boundedFile) ReadAt(p []byte, off int64) (int, error) {
	file, err := f.acquire(false)
	if err != nil {
		return 0, err
	}
	defer f.release()
	return file.ReadAt(p, off)
}

func (f *boundedFile) WriteAt(p []byte, off int64) (int, error) {
	file, err := f.acquire(true)
	if err != nil {
		return 0, err
	}
	defer f.release()
	return file.WriteAt(p, off)
}

func (f *boundedFile) Truncate(size int64) error {
	file, err := f.acquire(true)
	if err != nil {
		return err
	}
	defer f.release()
	return file.Truncate(size)
}

func (f *boundedFile) Size() (int64, error) {
	file, err := f.acquire(false)
	if err != nil {
		return 0, err
	}
	defer f.release()
	return file.Size()
}

// Sync syncs what was written before the call. A write beside it leaves the file
// dirty.
func (f *boundedFile) Sync() error {
	file, err := f.acquire(false)
	if err != nil {
		return err
	}
	defer f.release()
	f.mu.Lock()
	was := f.dirty
	f.dirty = f.users > 1 // others are under way
	f.mu.Unlock()
	if err := file.Sync(); err != nil {
		f.mu.Lock()
		f.dirty = was
		f.mu.Unlock()
		return err
	}
	return nil
}

func (f *boundedFile) OSFile() (*os.File, func()) {
	file, err := f.acquire(false)
	if err != nil {
		return nil, func() {}
	}
	inner, release := file.OSFile()
	return inner, func() {
		release()
		f.release()
	}
}

// Close closes the handle. Operations under way end with an error of the
// descriptor, as those of an os.File do.
func (f *boundedFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	f.b.drop(f)
	if f.file == nil {
		return f.failure
	}
	return f.file.Close()
}

// drop forgets a handle. The caller holds f.mu.
func (b *bounded) drop(f *boundedFile) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leave(f)
	b.unlist(f)
}

// leave takes a handle out of its directory. The caller holds f.mu and b.mu.
func (b *bounded) leave(f *boundedFile) {
	dir := path.Dir(f.name)
	list := b.dirs[dir]
	if at := slices.Index(list, f); at >= 0 {
		list[at] = list[len(list)-1]
		list[len(list)-1] = nil
		list = list[:len(list)-1]
	}
	if b.dirs[dir] = list; len(list) == 0 {
		delete(b.dirs, dir)
	}
}

// lock locks the handles of the file name, or of those in the directory name.
func (b *bounded) lock(names ...string) (list []*boundedFile, unlock func()) {
	b.mu.Lock()
	for _, name := range names {
		list = append(list, b.dirs[name]...)
		for _, f := range b.dirs[path.Dir(name)] {
			if f.name == name {
				list = append(list, f)
			}
		}
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(a, b *boundedFile) int { return cmp.Compare(a.id, b.id) })
	for _, f := range list {
		f.mu.Lock()
	}
	return list, func() {
		for _, f := range list {
			f.mu.Unlock()
		}
	}
}

// keep makes a handle hold on to its descriptor, as its name is about to go. The
// caller holds f.mu.
func (f *boundedFile) keep() error {
	if f.closed || f.kept || f.failure != nil {
		return nil
	}
	if _, err := f.ensure(); err != nil {
		return err
	}
	f.kept = true
	f.b.mu.Lock()
	f.b.unlist(f)
	f.b.mu.Unlock()
	return nil
}

func (b *bounded) Remove(name string) error { return b.remove(name, b.FS.Remove) }

func (b *bounded) RemoveAll(name string) error { return b.remove(name, b.FS.RemoveAll) }

func (b *bounded) remove(name string, remove func(string) error) error {
	list, unlock := b.lock(path.Clean(name))
	defer unlock()
	for _, f := range list {
		if err := f.keep(); err != nil {
			return err
		}
	}
	return remove(name)
}

func (b *bounded) Rename(old, new string) error {
	old, new = path.Clean(old), path.Clean(new)
	if old == new {
		return b.FS.Rename(old, new)
	}
	list, unlock := b.lock(old, new)
	defer unlock()
	for _, f := range list {
		if f.name == new { // it is about to be replaced
			if err := f.keep(); err != nil {
				return err
			}
		}
	}
	if err := b.FS.Rename(old, new); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range list {
		if f.closed || f.name != old && path.Dir(f.name) != old {
			continue
		}
		b.leave(f)
		f.name = new + f.name[len(old):]
		b.dirs[path.Dir(f.name)] = append(b.dirs[path.Dir(f.name)], f)
	}
	return nil
}
