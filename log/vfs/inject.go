package vfs

import (
	"errors"
	"io"
	"os"
)

// Op names an operation that can be made to fail.
type Op string

const (
	OpOpen     Op = "open" // Create, OpenFile, Open
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpMkdir    Op = "mkdir"
	OpList     Op = "list"
	OpStat     Op = "stat"
	OpSyncDir  Op = "syncdir"
	OpLock     Op = "lock"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpSize     Op = "size"
	OpClose    Op = "close" // the file is closed even if this fails
)

// ShortWrite is the error of a write that stops after N bytes.
type ShortWrite struct {
	N   int
	Err error
}

func (e *ShortWrite) Error() string { return e.Err.Error() }
func (e *ShortWrite) Unwrap() error { return e.Err }

// Inject returns a file system that asks hook before each operation of inner. An
// error of hook is that of the operation, which then does not happen, except
// that a *ShortWrite writes its first N bytes. Hook may be called concurrently.
func Inject(inner FS, hook func(op Op, name string) error) FS {
	return &injected{inner, hook}
}

type injected struct {
	FS
	hook func(Op, string) error
}

func (f *injected) open(name string, open func() (File, error)) (File, error) {
	if err := f.hook(OpOpen, name); err != nil {
		return nil, pathError("open", name, err)
	}
	file, err := open()
	if err != nil {
		return nil, err
	}
	return &injectedFile{file, name, f.hook}, nil
}

func (f *injected) do(op Op, name string, act func() error) error {
	if err := f.hook(op, name); err != nil {
		return pathError(string(op), name, err)
	}
	return act()
}

func (f *injected) Create(name string) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.Create(name) })
}

func (f *injected) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.OpenFile(name, flag, perm) })
}

func (f *injected) Open(name string) (File, error) {
	return f.open(name, func() (File, error) { return f.FS.Open(name) })
}

func (f *injected) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.FS.Remove(name) })
}

func (f *injected) RemoveAll(name string) error {
	return f.do(OpRemove, name, func() error { return f.FS.RemoveAll(name) })
}

func (f *injected) Rename(old, new string) error {
	return f.do(OpRename, new, func() error { return f.FS.Rename(old, new) })
}

func (f *injected) MkdirAll(dir string, perm os.FileMode) error {
	return f.do(OpMkdir, dir, func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *injected) SyncDir(dir string) error {
	return f.do(OpSyncDir, dir, func() error { return f.FS.SyncDir(dir) })
}

func (f *injected) List(dir string) (names []string, err error) {
	err = f.do(OpList, dir, func() error { names, err = f.FS.List(dir); return err })
	return names, err
}

func (f *injected) Stat(name string) (info os.FileInfo, err error) {
	err = f.do(OpStat, name, func() error { info, err = f.FS.Stat(name); return err })
	return info, err
}

func (f *injected) Lock(name string) (lock io.Closer, err error) {
	err = f.do(OpLock, name, func() error { lock, err = f.FS.Lock(name); return err })
	return lock, err
}

type injectedFile struct {
	File
	name string
	hook func(Op, string) error
}

func (f *injectedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.hook(OpRead, f.name); err != nil {
		return 0, pathError("read", f.name, err)
	}
	return f.File.ReadAt(p, off)
}

func (f *injectedFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.hook(OpWrite, f.name); err != nil {
		n := 0
		var short *ShortWrite
		if errors.As(err, &short) {
			n, _ = f.File.WriteAt(p[:min(short.N, len(p))], off)
		}
		return n, pathError("write", f.name, err)
	}
	return f.File.WriteAt(p, off)
}

func (f *injectedFile) Sync() error {
	if err := f.hook(OpSync, f.name); err != nil {
		return pathError("sync", f.name, err)
	}
	return f.File.Sync()
}

func (f *injectedFile) Truncate(size int64) error {
	if err := f.hook(OpTruncate, f.name); err != nil {
		return pathError("truncate", f.name, err)
	}
	return f.File.Truncate(size)
}

func (f *injectedFile) Size() (int64, error) {
	if err := f.hook(OpSize, f.name); err != nil {
		return 0, pathError("stat", f.name, err)
	}
	return f.File.Size()
}

// OSFile returns nil, so that reads cannot go around the hook.
func (f *injectedFile) OSFile() (*os.File, func()) { return nil, func() {} }

func (f *injectedFile) Close() error {
	hooked := f.hook(OpClose, f.name)
	err := f.File.Close()
	if hooked != nil {
		return pathError("close", f.name, hooked)
	}
	return err
}
