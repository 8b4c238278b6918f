package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockForOthers locks f also for those who lock with fcntl, as the JVM does: flock
// knows nothing of them. A lock of an open file description, unlike one of the
// process, does not end when another file of that name is closed.
func lockForOthers(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}
