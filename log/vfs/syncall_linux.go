package vfs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func (osFS) canSyncAll() bool { return true }

func (osFS) syncAll(dir string) (err error) {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}
