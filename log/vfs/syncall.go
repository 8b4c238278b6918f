package vfs

import "errors"

// allSyncer is a file system that can make all that was written to it durable
// with one call.
type allSyncer interface {
	canSyncAll() bool
	syncAll(dir string) error
}

// CanSyncAll reports whether SyncAll can be called.
func CanSyncAll(fs FS) bool {
	s, ok := fs.(allSyncer)
	return ok && s.canSyncAll()
}

// SyncAll makes durable all that was written to the file system that dir is on,
// directories too, and by others as well. The error is errors.ErrUnsupported
// where there is no such call: then each file is to be synced by itself.
func SyncAll(fs FS, dir string) error {
	if !CanSyncAll(fs) {
		return errors.ErrUnsupported
	}
	return fs.(allSyncer).syncAll(dir)
}

func (m *Mem) canSyncAll() bool { return true }

func (m *Mem) syncAll(string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.sync()
	return nil
}

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

func (b *bounded) canSyncAll() bool { return CanSyncAll(b.FS) }

func (b *bounded) syncAll(dir string) error { return SyncAll(b.FS, dir) }

func (f *injected) canSyncAll() bool { return CanSyncAll(f.FS) }

func (f *injected) syncAll(dir string) error {
	return f.do(OpSync, dir, func() error { return SyncAll(f.FS, dir) })
}
