package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/klamm-io/klamm/log/vfs"
)

// The suffixes of the files of a segment; see [FileName].
const (
	LogSuffix      = ".log"
	IndexSuffix    = ".index"
	TimeSuffix     = ".timeindex"
	TxnSuffix      = ".txnindex"
	SnapshotSuffix = ".snapshot"
)

// What stands behind those while a file is not part of the log.
const (
	DeletedSuffix = ".deleted" // it waits to be removed
	CleanedSuffix = ".cleaned" // compaction writes it
	SwapSuffix    = ".swap"    // compaction wrote it, and it replaces what has its offsets
)

// FileName returns the name of a file of the segment with that base offset.
func FileName(dir string, base int64, suffix string) string {
	return path.Join(dir, fmt.Sprintf("%020d%s", base, suffix))
}

// RemoveFiles removes the files of a segment that is not open, with suffix behind
// their names.
func RemoveFiles(fs vfs.FS, dir string, base int64, suffix string) error {
	var first error
	for _, f := range files {
		if err := fs.Remove(FileName(dir, base, f) + suffix); err != nil && !errors.Is(err, os.ErrNotExist) && first == nil {
			first = err
		}
	}
	return first
}

// fill reads exactly len(p) bytes.
func fill(f vfs.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
}
