//go:build unix

package scrub

import (
	"os"

	"golang.org/x/sys/unix"
)

// locked reports whether a broker has locked the file: klamm by flock and fcntl,
// the JVM by fcntl, and on Linux neither kind sees the other.
func locked(f *os.File) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l) == nil && l.Type != unix.F_UNLCK {
		return true
	}
	err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	return err == unix.EWOULDBLOCK // the shared lock goes with the file
}
