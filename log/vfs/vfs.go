// Package vfs is the seam between the log and the file system. [OS] is the
// operating system; [Mem] is memory, which can make crash clones of itself: the
// file system as it might be found after a power cut; [Inject] wraps either and
// makes chosen operations fail.
//
// Names are slash-separated paths. All implementations are safe for concurrent
// use.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
)

// ErrLocked means that another owner holds a lock file.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. Errors for a missing or existing file satisfy
// errors.Is with fs.ErrNotExist or fs.ErrExist.
type FS interface {
	// Create opens a file for reading and writing, empty.
	Create(name string) (File, error)
	// OpenFile opens a file with the flags of the os package.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a file, or a directory with all in it, if it exists.
	RemoveAll(name string) error
	// Rename moves a file or directory, and replaces a file that is there.
	Rename(old, new string) error
	// MkdirAll makes a directory and those above it.
	MkdirAll(dir string, perm os.FileMode) error
	// List returns the sorted names in a directory.
	List(dir string) ([]string, error)
	// Stat describes a file or directory.
	Stat(name string) (os.FileInfo, error)
	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock that ends with Close or with the process.
	// The error wraps ErrLocked if another holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Reads and writes at positions may run concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the content durable.
	Sync() error
	// Truncate changes the size in bytes.
	Truncate(size int64) error
	// Size returns the size in bytes.
	Size() (int64, error)
	// OSFile returns the file of the operating system, for sendfile; nil if it
	// is not one. It stays open until release is called.
	OSFile() (f *os.File, release func())
}

// fileReader is a file system that can read a small file in fewer calls than
// opening it takes.
type fileReader interface {
	readFile(name string) ([]byte, error)
}

// ReadFile returns the content of a file.
func ReadFile(fs FS, name string) ([]byte, error) {
	if r, ok := fs.(fileReader); ok {
		return r.readFile(name)
	}
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b[:n], nil
}

// WriteFileAtomic makes name hold data, durably: after a crash at any point it
// holds either the old content or the new. It writes name.tmp, syncs it, renames
// it and syncs the directory.
func WriteFileAtomic(fs FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(fs, tmp, data); err != nil {
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(name))
}

// WriteFileRenamed makes name hold data, without making it durable: a process
// that dies leaves the old content or the new, and a power cut may leave the
// file missing or empty. It is for what can be found again elsewhere.
func WriteFileRenamed(fs FS, name string, data []byte) error {
	tmp := name + ".tmp"
	if err := write(fs, tmp, data, false); err != nil {
		return err
	}
	return fs.Rename(tmp, name)
}

func writeSynced(fs FS, name string, data []byte) error { return write(fs, name, data, true) }

func write(fs FS, name string, data []byte, sync bool) (err error) {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err := f.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if !sync {
		return nil
	}
	return f.Sync()
}
