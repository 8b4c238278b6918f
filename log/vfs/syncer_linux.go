package vfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

type osSyncer struct{ dir *os.File }

// newSyncer keeps the directory open: syncfs tells of errors since then.
func (osFS) newSyncer(dir string) (Syncer, error) {
	if !syncfsTellsErrors() {
		return nil, errors.ErrUnsupported
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return osSyncer{f}, nil
}

// syncfsTellsErrors reports whether the kernel is 5.8 or later. Before, syncfs
// succeeded whatever became of the data.
func syncfsTellsErrors() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

func (s osSyncer) Sync() error {
	if err := unix.Syncfs(int(s.dir.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", s.dir.Name(), err)
	}
	return nil
}

func (s osSyncer) Close() error { return s.dir.Close() }
