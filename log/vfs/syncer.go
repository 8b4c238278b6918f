package vfs

import "errors"

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
	if s, ok := fs.(syncable); ok {
		return s.newSyncer(dir)
	}
	return nil, errors.ErrUnsupported
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

func (b *bounded) newSyncer(dir string) (Syncer, error) { return NewSyncer(b.FS, dir) }

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
