package vfs

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
)

// Deferred is a file system on which nothing is synced before Settle: Sync and SyncDir note
// what they were asked for and return nil. Settle syncs all of that, each file and directory
// once, and from then on everything is synced when it is asked for.
//
// It is for who makes several files that mean nothing without each other. Until Settle has
// returned a power cut may leave any part of them, so that nobody may act on what was made.
type Deferred struct {
	FS

	mu      sync.Mutex
	settled bool
	files   []*deferredName // of open files, and of those that wait for Settle
	dirs    []string        // that wait for Settle
}

// deferredName is what a file is called now. A rename changes it.
type deferredName struct {
	name  string
	waits bool // to be synced by Settle
	gone  bool // removed or replaced
}

// NewDeferred returns a file system on inner that is not settled.
func NewDeferred(inner FS) *Deferred { return &Deferred{FS: inner} }

// Settle makes durable what was asked for, the files before the directories, but for files
// of which rebuilt reports, by name, that they are made anew after a power cut, and for the
// directories in later, which the caller syncs afterwards.
func (d *Deferred) Settle(rebuilt func(name string) bool, later ...string) error {
	d.mu.Lock()
	d.settled = true // whoever asks from now on is not in the lists
	files, dirs := d.files, d.dirs
	d.files, d.dirs = nil, nil
	d.mu.Unlock()
	for _, f := range files {
		if !f.waits || f.gone || rebuilt(f.name) {
			continue
		}
		if err := syncFile(d.FS, f.name); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		if slices.Contains(later, dir) {
			continue
		}
		if err := d.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncFile syncs a file by its name. A descriptor that is opened after a write is told of
// its errors too, if nobody was told before.
func syncFile(fs FS, name string) error {
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// note adds a file, or returns nil if Settle was called.
func (d *Deferred) note(name string) *deferredName {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.settled {
		return nil
	}
	for _, f := range d.files {
		if f.name == name && !f.gone {
			return f
		}
	}
	f := &deferredName{name: name}
	d.files = append(d.files, f)
	return f
}

func (d *Deferred) wrap(name string, f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	if n := d.note(name); n != nil {
		return &deferredFile{f, d, n}, nil
	}
	return f, nil
}

// Create implements FS.
func (d *Deferred) Create(name string) (File, error) {
	f, err := d.FS.Create(name)
	return d.wrap(name, f, err)
}

// OpenFile implements FS.
func (d *Deferred) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	return d.wrap(name, f, err)
}

// Open implements FS.
func (d *Deferred) Open(name string) (File, error) {
	f, err := d.FS.Open(name)
	return d.wrap(name, f, err)
}

// SyncDir implements FS.
func (d *Deferred) SyncDir(dir string) error {
	d.mu.Lock()
	if d.settled {
		d.mu.Unlock()
		return d.FS.SyncDir(dir)
	}
	defer d.mu.Unlock()
	// That it is there is all that can be told now.
	if _, err := d.FS.Stat(dir); err != nil {
		return err
	}
	if !slices.Contains(d.dirs, dir) {
		d.dirs = append(d.dirs, dir)
	}
	return nil
}

// Rename implements FS.
func (d *Deferred) Rename(old, new string) error {
	d.mu.Lock() // so that Settle finds it under one name or the other
	defer d.mu.Unlock()
	if err := d.FS.Rename(old, new); err != nil {
		return err
	}
	for _, f := range d.files {
		switch {
		case f.gone:
		case f.name == new:
			f.gone = true
		default:
			f.name = moved(f.name, old, new)
		}
	}
	for i, dir := range d.dirs {
		d.dirs[i] = moved(dir, old, new)
	}
	return nil
}

// moved returns what name is after a rename.
func moved(name, old, new string) string {
	if name == old {
		return new
	}
	if rest, ok := strings.CutPrefix(name, old+"/"); ok {
		return new + "/" + rest
	}
	return name
}

// Remove implements FS.
func (d *Deferred) Remove(name string) error { return d.remove(name, d.FS.Remove) }

// RemoveAll implements FS.
func (d *Deferred) RemoveAll(name string) error { return d.remove(name, d.FS.RemoveAll) }

func (d *Deferred) remove(name string, remove func(string) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := remove(name); err != nil {
		return err
	}
	below := func(n string) bool { return n == name || strings.HasPrefix(n, name+"/") }
	for _, f := range d.files {
		f.gone = f.gone || below(f.name)
	}
	d.dirs = slices.DeleteFunc(d.dirs, below)
	return nil
}

func (d *Deferred) readFile(name string) ([]byte, error) { return ReadFile(d.FS, name) }

func (d *Deferred) newSyncer(dir string) (Syncer, error) { return NewSyncer(d.FS, dir) }

// deferredFile is a file that was opened before Settle.
type deferredFile struct {
	File
	d    *Deferred
	name *deferredName
}

// Sync implements File.
func (f *deferredFile) Sync() error {
	f.d.mu.Lock()
	if !f.d.settled {
		f.name.waits = true
		f.d.mu.Unlock()
		return nil
	}
	f.d.mu.Unlock()
	return f.File.Sync()
}
