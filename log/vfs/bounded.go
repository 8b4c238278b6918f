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
// is synced before it is closed, since an error of writing back is returned to the one who
// has the file open.
//
// Files that are renamed, alone or with the directory that holds them, are
// followed; a file that is removed or replaced keeps its descriptor, beyond the
// limit if need be, until it is closed. A directory may be renamed while files
// are open in it, but not one above it.
func Bounded(inner FS, limit int) FS {
	return &bounded{FS: inner, limit: max(limit, 4), dirs: make(map[string][]*boundedFile), names: make(map[string][]*boundedFile)}
}

type bounded struct {
	FS
	limit int

	// mu guards the fields below. It is never held during I/O, and taken after
	// the mutex of a file.
	mu    sync.Mutex
	dirs  map[string][]*boundedFile // handles, by directory
	names map[string][]*boundedFile // and by full name
	clean ring                      // handles with a descriptor that may be closed as it is
	dirty ring                      // those that must be synced before that
	made  uint64                    // handles ever made
}

// ring holds handles in the order in which the search for one to close comes by:
// the clock algorithm. Adding and taking off cost the same however many there are.
type ring struct {
	files []*boundedFile
	hand  int
	steps int // of all searches
}

func (r *ring) add(f *boundedFile) {
	f.ring, f.at = r, len(r.files)
	r.files = append(r.files, f)
}

func (r *ring) drop(f *boundedFile) {
	last := len(r.files) - 1
	r.files[f.at] = r.files[last]
	r.files[f.at].at = f.at
	r.files[last] = nil
	r.files, f.ring = r.files[:last], nil
}

// victim takes the first handle off the ring that was not used since the search
// last came by, and returns it locked; nil if all are in use.
func (r *ring) victim() *boundedFile {
	for range 2 * len(r.files) {
		r.steps++
		r.hand = (r.hand + 1) % len(r.files)
		f := r.files[r.hand]
		if f.used.Swap(false) || !f.mu.TryLock() {
			continue
		}
		if f.users > 0 {
			f.mu.Unlock()
			continue
		}
		r.drop(f)
		return f
	}
	return nil
}

// boundedFile is one handle.
type boundedFile struct {
	b    *bounded
	id   uint64 // several handles are locked in the order of their ids
	flag int
	// Guarded by b.mu.
	ring  *ring // that it is in, nil for none
	at    int   // its place there
	inDir int   // its place in b.dirs

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
	b.enter(f)
	b.clean.add(f)
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
	fewer := b.open()
	fewer -= fewer/8 + 1
	b.mu.Unlock()
	b.shrink(fewer)
}

// shrink closes descriptors until no more than limit are open, or none is left
// that may be closed. An error of closing is returned to the next user of that file.
func (b *bounded) shrink(limit int) {
	for f := b.victim(limit); f != nil; f = b.victim(limit) {
		f.evict()
		f.mu.Unlock()
	}
}

// open returns how many descriptors are open that may be closed. b.mu is held.
func (b *bounded) open() int { return len(b.clean.files) + len(b.dirty.files) }

// victim picks a file to close if more than limit are open, and returns it
// locked: rather one without unsynced writes.
func (b *bounded) victim(limit int) *boundedFile {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open() <= limit {
		return nil
	}
	if f := b.clean.victim(); f != nil {
		return f
	}
	return b.dirty.victim()
}

// unlist takes f off its ring. The caller holds b.mu.
func (b *bounded) unlist(f *boundedFile) {
	if f.ring != nil {
		f.ring.drop(f)
	}
}

// setDirty notes whether f has writes that were not synced. The caller holds f.mu.
func (f *boundedFile) setDirty(dirty bool) {
	if f.dirty == dirty {
		return
	}
	f.dirty = dirty
	b := f.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.ring == nil {
		return
	}
	f.ring.drop(f)
	if dirty {
		b.dirty.add(f)
	} else {
		b.clean.add(f)
	}
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
	if write {
		f.setDirty(true)
	}
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
	f.b.clean.add(f)
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
	f.setDirty(f.users > 1) // others are under way
	f.mu.Unlock()
	if err := file.Sync(); err != nil {
		f.mu.Lock()
		f.setDirty(was || f.dirty)
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

// enter puts a handle where it is found by its name. The caller holds b.mu.
func (b *bounded) enter(f *boundedFile) {
	dir := path.Dir(f.name)
	f.inDir = len(b.dirs[dir])
	b.dirs[dir] = append(b.dirs[dir], f)
	b.names[f.name] = append(b.names[f.name], f)
}

// leave undoes enter. The caller holds f.mu and b.mu.
func (b *bounded) leave(f *boundedFile) {
	dir := path.Dir(f.name)
	list := b.dirs[dir]
	last := len(list) - 1
	list[f.inDir] = list[last]
	list[f.inDir].inDir = f.inDir
	list[last] = nil
	if b.dirs[dir] = list[:last]; last == 0 {
		delete(b.dirs, dir)
	}
	same := b.names[f.name] // few have one file open
	same = slices.Delete(same, slices.Index(same, f), slices.Index(same, f)+1)
	if b.names[f.name] = same; len(same) == 0 {
		delete(b.names, f.name)
	}
}

// lock locks the handles of the file name, or of those in the directory name.
func (b *bounded) lock(names ...string) (list []*boundedFile, unlock func()) {
	b.mu.Lock()
	for _, name := range names {
		list = append(append(list, b.dirs[name]...), b.names[name]...)
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
		b.enter(f)
	}
	return nil
}
