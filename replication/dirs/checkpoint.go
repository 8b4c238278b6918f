package dirs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
)

// checkpointFiles are those of a log directory.
var checkpointFiles = []string{log.RecoveryPointFile, log.HighWatermarkFile, log.LogStartFile, log.CleanerFile}

// readCheckpoint reads a checkpoint file: a line "0", a line with the count, and
// lines "topic partition offset". A missing file is an empty one, and so is one
// that cannot be understood, for which whole is false: the logs can do without.
func readCheckpoint(fs vfs.FS, name string) (offsets map[string]int64, whole bool, err error) {
	text, err := vfs.ReadFile(fs, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return make(map[string]int64), true, nil
	}
	if err != nil {
		return nil, false, err
	}
	if offsets = parseCheckpoint(string(text)); offsets == nil {
		return make(map[string]int64), false, nil
	}
	return offsets, true, nil
}

// parseCheckpoint returns nil for what is no checkpoint. An empty file, as the
// JVM broker makes them, is one without entries.
func parseCheckpoint(text string) map[string]int64 {
	if text == "" {
		return make(map[string]int64)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" || lines[1] != strconv.Itoa(len(lines)-2) {
		return nil
	}
	out := make(map[string]int64, len(lines)-2)
	for _, l := range lines[2:] {
		f := strings.Fields(l)
		if len(f) != 3 {
			return nil
		}
		offset, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil || offset < 0 {
			return nil
		}
		out[f[0]+"-"+f[1]] = offset
	}
	return out
}

// WriteCheckpoint writes a checkpoint file. The keys are partition directories.
func writeCheckpoint(fs vfs.FS, name string, offsets map[string]int64) error {
	b := fmt.Appendf(nil, "0\n%d\n", len(offsets))
	for dir, offset := range offsets {
		topic, partition, ok := ParseName(dir)
		if !ok {
			return fmt.Errorf("%q is no partition directory", dir)
		}
		b = fmt.Appendf(b, "%s %d %d\n", topic, partition, offset)
	}
	return vfs.WriteFileAtomic(fs, name, b)
}

// Quarantine notes that a partition's directory did not open and stays as it is.
func (d *Dir) Quarantine(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quarantined == nil {
		d.quarantined = make(map[string]bool)
	}
	d.quarantined[name] = true
}

// OfQuarantined returns the offsets that a checkpoint file had of the partitions whose
// directories stay as they are.
func (d *Dir) OfQuarantined(file string) map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]int64)
	for name := range d.quarantined {
		if offset, ok := d.found[file][name]; ok {
			out[name] = offset
		}
	}
	return out
}

// HasQuarantined reports whether a partition's directory did not open.
func (d *Dir) HasQuarantined() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.quarantined) > 0
}

// FirstDirty returns the first offset of a partition that was never compacted.
func (d *Dir) FirstDirty(name string) (offset int64, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offset, known = d.found[log.CleanerFile][name]
	return offset, known
}

// SetFirstDirty notes, durably, up to where a partition was compacted, if that is
// still so.
func (d *Dir) SetFirstDirty(name string, offset int64, still func() bool) error {
	d.mu.Lock()
	ok := still()
	if ok {
		d.found[log.CleanerFile][name] = offset
	}
	d.mu.Unlock()
	if !ok {
		return nil
	}
	return d.WriteCheckpoint(log.CleanerFile, d.FirstDirties)
}

// LowerFirstDirty notes, durably, that a partition was compacted up to offset at
// most.
func (d *Dir) LowerFirstDirty(name string, offset int64) error {
	d.mu.Lock()
	lower := d.found[log.CleanerFile][name] > offset
	if lower {
		d.found[log.CleanerFile][name] = offset
	}
	d.mu.Unlock()
	if !lower {
		return nil
	}
	return d.WriteCheckpoint(log.CleanerFile, d.FirstDirties)
}

// FirstDirties returns the first offset of each partition that was never compacted.
func (d *Dir) FirstDirties() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.found[log.CleanerFile])
}

// Forget drops what is known of a partition that is deleted. Its offsets must be
// out of the checkpoint files before another one gets the name.
func (d *Dir) Forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.found[log.CleanerFile], name)
	delete(d.quarantined, name)
	if d.gone == nil {
		d.gone = make(map[string]bool)
	}
	d.gone[name] = true
}

// FoundIn returns what a checkpoint file said of a partition at the start.
func (d *Dir) FoundIn(file, name string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found[file][name]
}

// DropFound takes partitions out of the checkpoint files as they were found. It
// is for the start, while nothing has changed.
func (d *Dir) DropFound(drop func(name string) bool) error {
	var err error
	for _, file := range checkpointFiles {
		offsets := d.found[file]
		d.mu.Lock()
		before := len(offsets)
		maps.DeleteFunc(offsets, func(name string, _ int64) bool { return drop(name) })
		changed := len(offsets) < before
		d.mu.Unlock()
		if changed {
			err = errors.Join(err, d.WriteCheckpoint(file, func() map[string]int64 {
				d.mu.Lock()
				defer d.mu.Unlock()
				return maps.Clone(offsets)
			}))
		}
	}
	return err
}

// Forgotten returns the partition directories that checkpoint files may have
// though they were deleted.
func (d *Dir) Forgotten() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.gone)
}

// Forgot reports whether one of names is among those.
func (d *Dir) Forgot(names []string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(names, func(name string) bool { return d.gone[name] })
}

// Rewritten says that the checkpoint files no longer have names.
func (d *Dir) Rewritten(names map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range names {
		delete(d.gone, name)
	}
}

// WriteCheckpoint writes a checkpoint file. What goes in is collected when it is
// this call's turn to write: else another one might have written, and somebody
// have been answered for, what is newer. An error takes the directory offline:
// what it holds is unknown.
func (d *Dir) WriteCheckpoint(name string, offsets func() map[string]int64) error {
	if err := d.Err(); err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := writeCheckpoint(d.fs, d.File(name), offsets()); err != nil {
		return d.Fail(err)
	}
	return nil
}
