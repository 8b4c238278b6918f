//go:build unix

package scrub

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/klamm-io/klamm/log/vfs"
)

// locked reports whether a broker has locked the file: klamm by flock, the JVM
// by fcntl, and on Linux neither sees the other's.
func locked(f *os.File) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l) == nil && l.Type != unix.F_UNLCK {
		return true
	}
	err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return err == unix.EWOULDBLOCK // the shared lock goes with the file
}

// hold locks as the JVM broker does.
func hold(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == unix.EAGAIN || err == unix.EACCES {
		return fmt.Errorf("lock %s: %w", f.Name(), vfs.ErrLocked)
	}
	return err
}
