//go:build unix

package broker

import "golang.org/x/sys/unix"

// openFiles returns how many files of the logs may be open at once: half of what
// the process may have, for connections need descriptors too.
func openFiles() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return minOpenFiles
	}
	return int(max(minOpenFiles, min(l.Cur/2, maxOpenFiles)))
}

const (
	minOpenFiles = 64
	maxOpenFiles = 64 << 10
)
