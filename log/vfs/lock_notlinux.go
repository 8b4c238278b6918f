//go:build unix && !linux

package vfs

import "os"

// lockForOthers does nothing: where flock and fcntl locks are one, there is no
// need to, and elsewhere no way that outlives the closing of another file.
func lockForOthers(*os.File) error { return nil }
