package vfs

import (
	"errors"
	"slices"
)

// Syncer makes durable, with one call, all that was written to the file system
// that a directory is on, directories too, and by others as well.
type Syncer interface {
	// Sync returns an error of writing back if there was one since the Syncer was
	// made or since its last Sync, also of what the system wrote back by itself.
	Sync() error
	Close() error
}

// syncable is a file system that has Syncers, at least of some directories.
type syncable interface {
	newSyncer(dir string) (Syncer, error)
}

// NewSyncer returns a Syncer. The error is errors.ErrUnsupported where there is
// none: then each file is to be synced by itself.
func NewSyncer(fs FS, dir string) (Syncer, error) {
	from, ok := fs.(syncable)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	s, err := from.newSyncer(dir)
	if err != nil {
		return nil, err // and no wrapper of nothing
	}
	return s, nil
}

type memSyncer struct{ m *Mem }

func (m *Mem) newSyncer(string) (Syncer, error) { return memSyncer{m}, nil }

func (s memSyncer) Sync() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.root.sync()
	return nil
}

func (s memSyncer) Close() error { return nil }

// sync makes a directory durable with all below it. The caller holds the mutex of
// the file system.
func (d *memDir) sync() {
	d.undo = nil
	for _, node := range d.entries {
		switch node := node.(type) {
		case *memDir:
			node.sync()
		case *inode:
			node.sync()
		}
	}
}

type boundedSyncer struct {
	Syncer
	b *bounded
}

func (b *bounded) newSyncer(dir string) (Syncer, error) {
	s, err := NewSyncer(b.FS, dir)
	return boundedSyncer{s, b}, err
}

// Sync spares the files that were written to before the call a sync of their own
// when their descriptors are closed.
func (s boundedSyncer) Sync() error {
	written := s.b.written()
	err := s.Syncer.Sync()
	if err != nil {
		for _, f := range written {
			f.mu.Lock()
			f.setDirty(true)
			f.mu.Unlock()
		}
	}
	return err
}

// written returns the handles that have unsynced writes, and counts those writes
// as synced.
func (b *bounded) written() (list []*boundedFile) {
	b.mu.Lock()
	all := slices.Clone(b.dirty.files)
	b.mu.Unlock()
	for _, f := range all {
		f.mu.Lock()
		if f.dirty && f.users == 0 {
			f.setDirty(false)
			list = append(list, f)
		}
		f.mu.Unlock()
	}
	return list
}

type injectedSyncer struct {
	Syncer
	f   *injected
	dir string
}

func (f *injected) newSyncer(dir string) (Syncer, error) {
	s, err := NewSyncer(f.FS, dir)
	return injectedSyncer{s, f, dir}, err
}

func (s injectedSyncer) Sync() error { return s.f.do(OpSync, s.dir, s.Syncer.Sync) }
