package vfs

import (
	"io"
	"os"
)

type osFS struct{}

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

type osFile struct{ *os.File }

func (f osFile) OSFile() (*os.File, func()) { return f.File, func() {} }

func (f osFile) Size() (int64, error) {
	i, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

func openOS(name string, flag int, perm os.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
}

func (osFS) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	return openOS(name, flag, perm)
}

func (osFS) Open(name string) (File, error)              { return openOS(name, os.O_RDONLY, 0) }
func (osFS) Remove(name string) error                    { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                 { return os.RemoveAll(name) }
func (osFS) Rename(old, new string) error                { return os.Rename(old, new) }
func (osFS) MkdirAll(dir string, perm os.FileMode) error { return os.MkdirAll(dir, perm) }
func (osFS) Stat(name string) (os.FileInfo, error)       { return os.Stat(name) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) SyncDir(dir string) (err error) {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	return f.Sync()
}

func (osFS) Lock(name string) (io.Closer, error) { return lockFile(name) }
