package replication_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/klamm-io/klamm/log/vfs"
)

// modelDisk is a file system as one broker process sees it. What outlives the
// process has this one still, not that of the next.
type modelDisk struct {
	mem    *vfs.Mem
	broken atomic.Pointer[brokenDir]
	dead   atomic.Pointer[string] // nothing is written any more, and why
	late   atomic.Pointer[string] // what was written though dead

	// A crash in the middle of an operation: before change number crashAt of a
	// file or a directory, crashed becomes what is left.
	crashAt atomic.Int64
	policy  vfs.CrashPolicy
	crashed atomic.Pointer[vfs.Mem]
}

// brokenDir is a directory that fails.
type brokenDir struct {
	path string
	mode vfs.Op // that fails, "" for all that write
	once bool   // one operation only
}

// FS is the file system as the broker sees it.
func (d *modelDisk) FS() vfs.FS {
	return vfs.Inject(d.mem, func(op vfs.Op, name string) error {
		switch op {
		case vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpRename, vfs.OpRemove, vfs.OpTruncate, vfs.OpMkdir:
		default:
			return nil
		}
		if why := d.dead.Load(); why != nil {
			late := fmt.Sprintf("%s of %s after %s", op, name, *why)
			d.late.CompareAndSwap(nil, &late)
			return syscall.EIO
		}
		if d.crashAt.Load() > 0 && d.crashAt.Add(-1) == 0 {
			d.crashed.Store(d.mem.CrashClone(d.policy))
		}
		if b := d.broken.Load(); b != nil && strings.HasPrefix(name, b.path) && (b.mode == "" || b.mode == op) {
			if b.once {
				d.broken.CompareAndSwap(b, nil)
			}
			return syscall.EIO
		}
		return nil
	})
}

// kill has nothing written any more.
func (d *modelDisk) kill(why string) { d.dead.Store(&why) }
