//go:build unix

package vfs

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile locks with flock, which the kernel gives up when the process ends.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = lockForOthers(f)
	}
	if err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK || err == unix.EACCES {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}
