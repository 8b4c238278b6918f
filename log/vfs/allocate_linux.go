package vfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Allocate reserves size bytes on disk for f, whose size stays as it is. Where
// the file system cannot, it does nothing. Truncate gives back what is beyond
// the size.
func Allocate(f File, size int64) error {
	if w, ok := f.(*watchedFile); ok {
		return w.dog.do("allocate", w.name, func() error { return Allocate(w.File, size) })
	}
	file, release := f.OSFile()
	defer release()
	if file == nil {
		return nil
	}
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
