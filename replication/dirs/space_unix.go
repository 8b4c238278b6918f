//go:build unix

package dirs

import "golang.org/x/sys/unix"

// space returns the size of the volume that dir is on and what is free of it for
// us, in bytes, or -1 where the system does not tell.
func space(dir string) (total, usable int64) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return -1, -1
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize)
}
