package quorum

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/klamm-io/klamm/log/vfs"
)

// disk is what the stores of a node share: its first storage error, after which it does
// nothing more for them. Who uses it goes on then even if the disk does not answer, so that
// raft steps down and the node closes: what returns later counts for nothing.
//
// It is safe for concurrent use.
type disk struct {
	dog    *vfs.Watchdog
	failed chan struct{} // closed once it has failed
	hung   chan struct{} // closed once it has failed since it does not answer

	mu    sync.Mutex // guards the fields below. It is not held over I/O
	first error
	told  func(error) // called with the first error; may be nil
}

func newDisk(dog *vfs.Watchdog) *disk {
	return &disk{dog: dog, failed: make(chan struct{}), hung: make(chan struct{})}
}

// failing has f called, once, with the first error. f must not block.
func (d *disk) failing(f func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = f
}

// err returns the first error, nil if there is none.
func (d *disk) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first
}

// fail notes an error, and returns the first one.
func (d *disk) fail(err error) error {
	d.mu.Lock()
	if d.first != nil {
		defer d.mu.Unlock()
		return d.first
	}
	d.first = err
	told := d.told
	d.mu.Unlock()
	if told != nil {
		told(err) // before others act on it
	}
	if errors.Is(err, vfs.ErrHung) {
		close(d.hung)
	}
	close(d.failed)
	return err
}

// write has act change what is on the disk. It does not wait for it longer than until the
// disk has failed: act must not use then what its caller goes on to change.
func (d *disk) write(act func() error) error {
	_, err := answer(d, d.failed, func() (struct{}, error) { return struct{}{}, act() })
	if failed := d.err(); failed != nil {
		return failed
	}
	return err
}

// read has act use a disk that may have failed before, unless that does not answer.
func (d *disk) read(act func() error) error {
	_, err := answer(d, d.hung, func() (struct{}, error) { return struct{}{}, act() })
	return err
}

// answer returns what act does, or the error of the disk once end is closed.
func answer[T any](d *disk, end <-chan struct{}, act func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	select {
	case <-end:
		return none, d.err()
	default:
	}
	done := make(chan result, 1)
	go func() {
		value, err := act()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-end:
		return none, d.err()
	}
}

// diskFS is a file system that nobody waits for longer than until the disk does not answer.
// It is for files that one goroutine uses at a time.
type diskFS struct {
	vfs.FS
	disk *disk
}

func (f diskFS) file(open func() (vfs.File, error)) (vfs.File, error) {
	file, err := answer(f.disk, f.disk.hung, open)
	if err != nil {
		return nil, err
	}
	return diskFile{file, f.disk}, nil
}

// Create implements vfs.FS.
func (f diskFS) Create(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name) })
}

// OpenFile implements vfs.FS.
func (f diskFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenFile(name, flag, perm) })
}

// Open implements vfs.FS.
func (f diskFS) Open(name string) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Open(name) })
}

// Remove implements vfs.FS.
func (f diskFS) Remove(name string) error {
	return f.disk.read(func() error { return f.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f diskFS) RemoveAll(name string) error {
	return f.disk.read(func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f diskFS) Rename(old, new string) error {
	return f.disk.read(func() error { return f.FS.Rename(old, new) })
}

// MkdirAll implements vfs.FS.
func (f diskFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.disk.read(func() error { return f.FS.MkdirAll(dir, perm) })
}

// SyncDir implements vfs.FS.
func (f diskFS) SyncDir(dir string) error {
	return f.disk.read(func() error { return f.FS.SyncDir(dir) })
}

// List implements vfs.FS.
func (f diskFS) List(dir string) ([]string, error) {
	return answer(f.disk, f.disk.hung, func() ([]string, error) { return f.FS.List(dir) })
}

// Stat implements vfs.FS.
func (f diskFS) Stat(name string) (os.FileInfo, error) {
	return answer(f.disk, f.disk.hung, func() (os.FileInfo, error) { return f.FS.Stat(name) })
}

// Lock implements vfs.FS.
func (f diskFS) Lock(name string) (io.Closer, error) {
	return answer(f.disk, f.disk.hung, func() (io.Closer, error) { return f.FS.Lock(name) })
}

type diskFile struct {
	vfs.File
	disk *disk
}

// ReadAt implements vfs.File. What comes late is put where nobody reads it.
func (f diskFile) ReadAt(p []byte, off int64) (int, error) {
	into := make([]byte, len(p))
	n, err := answer(f.disk, f.disk.hung, func() (int, error) { return f.File.ReadAt(into, off) })
	return copy(p, into[:n]), err
}

// WriteAt implements vfs.File.
func (f diskFile) WriteAt(p []byte, off int64) (int, error) {
	from := slices.Clone(p)
	return answer(f.disk, f.disk.hung, func() (int, error) { return f.File.WriteAt(from, off) })
}

// Sync implements vfs.File.
func (f diskFile) Sync() error { return f.disk.read(f.File.Sync) }

// Truncate implements vfs.File.
func (f diskFile) Truncate(size int64) error {
	return f.disk.read(func() error { return f.File.Truncate(size) })
}

// Size implements vfs.File.
func (f diskFile) Size() (int64, error) { return answer(f.disk, f.disk.hung, f.File.Size) }

// OSFile implements vfs.File: there is none, so that nobody goes around the disk.
func (f diskFile) OSFile() (*os.File, func()) { return nil, func() {} }

// Close implements vfs.File.
func (f diskFile) Close() error { return f.disk.read(f.File.Close) }
