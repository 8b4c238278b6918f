package scrub

import (
	"errors"
	"path"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
)

// Held reports whether somebody has locked a log directory. It writes nothing.
func Held(fs vfs.FS, dir string) bool { return held(fs, path.Join(dir, log.LockFile)) }

// held reports whether somebody holds a lock file. It makes none where there is
// none, and asks for no lock where the operating system tells without.
func held(fs vfs.FS, name string) bool {
	f, err := fs.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	os, release := f.OSFile()
	defer release()
	if os != nil {
		return locked(os)
	}
	l, err := fs.Lock(name)
	if err == nil {
		l.Close()
	}
	return errors.Is(err, vfs.ErrLocked)
}
