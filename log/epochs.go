package log

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/klamm-io/klamm/log/vfs"
)

// epochEntry says that a leader epoch's first record is at or after start.
type epochEntry struct {
	epoch int32
	start int64
}

// epochs knows where each leader epoch began (KIP-101). Both fields rise from
// entry to entry. Every change is durable before it is seen. Changing is for one
// goroutine at a time; reading is free.
type epochs struct {
	list    atomic.Pointer[[]epochEntry]
	last    atomic.Int32 // the largest epoch, -1 none
	pending bool         // the list is not in the file yet; the writer's
	fs      vfs.FS
	name    string
}

func (e *epochs) store(list []epochEntry) {
	e.list.Store(&list)
	last := int32(-1)
	if len(list) > 0 {
		last = list[len(list)-1].epoch
	}
	e.last.Store(last)
}

// load reads the checkpoint. It is false if there is none that can be right; one
// that cannot be right is removed, as the next one may be long in coming.
func (e *epochs) load(fs vfs.FS, dir string) (ok bool, err error) {
	e.fs, e.name = fs, path.Join(dir, EpochFile)
	e.store(nil)
	b, err := vfs.ReadFile(fs, e.name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list, err := parseEpochs(b)
	if err != nil {
		return false, fs.Remove(e.name)
	}
	e.store(list)
	return true, nil
}

// parseEpochs reads the text: version 0, the number of entries, and a line
// "epoch start" for each.
func parseEpochs(b []byte) ([]epochEntry, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" {
		return nil, fmt.Errorf("epoch checkpoint: version line %q", lines[0])
	}
	if n, err := strconv.Atoi(lines[1]); err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("epoch checkpoint: count line %q, %d entries", lines[1], len(lines)-2)
	}
	var out []epochEntry
	for _, line := range lines[2:] {
		first, second, _ := strings.Cut(line, " ")
		epoch, err := strconv.ParseInt(first, 10, 32)
		start, err2 := strconv.ParseInt(second, 10, 64)
		if err != nil || err2 != nil || epoch < 0 || start < 0 {
			return nil, fmt.Errorf("epoch checkpoint: entry %q", line)
		}
		if n := len(out); n > 0 && (out[n-1].epoch >= int32(epoch) || out[n-1].start >= start) {
			return nil, fmt.Errorf("epoch checkpoint: entry %q after %+v", line, out[n-1])
		}
		out = append(out, epochEntry{int32(epoch), start})
	}
	return out, nil
}

func formatEpochs(list []epochEntry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "0\n%d\n", len(list))
	for _, e := range list {
		fmt.Fprintf(&b, "%d %d\n", e.epoch, e.start)
	}
	return b.Bytes()
}

func (e *epochs) entries() []epochEntry { return *e.list.Load() }

func (e *epochs) set(list []epochEntry) error { return e.write(list, vfs.WriteFileAtomic) }

// write is set with a function that replaces the file, durably or not.
func (e *epochs) write(list []epochEntry, write func(fs vfs.FS, name string, b []byte) error) error {
	if err := write(e.fs, e.name, formatEpochs(list)); err != nil {
		return err
	}
	e.store(list)
	e.pending = false
	return nil
}

// persist writes a first epoch that was only noted, before the first batch. It
// is not synced: without the file, or with one from before that has no epoch, it
// is found again in that batch.
func (e *epochs) persist() error {
	if !e.pending {
		return nil
	}
	e.pending = false
	return vfs.WriteFileRenamed(e.fs, e.name, formatEpochs(e.entries()))
}

func (e *epochs) latest() int32 { return e.last.Load() }

// withEpoch returns the list after epoch began at start; entries that contradict
// it are dropped. It returns the same list if it changes nothing.
func withEpoch(list []epochEntry, epoch int32, start int64) []epochEntry {
	n := len(list)
	if epoch < 0 || n > 0 && list[n-1].epoch == epoch && list[n-1].start <= start {
		return list
	}
	for n > 0 && (list[n-1].epoch >= epoch || list[n-1].start >= start) {
		n--
	}
	return append(list[:n:n], epochEntry{epoch, start})
}

func (e *epochs) assign(epoch int32, start int64, write func(fs vfs.FS, name string, b []byte) error) error {
	old := e.entries()
	list := withEpoch(old, epoch, start)
	if len(list) == len(old) && (len(list) == 0 || &list[0] == &old[0]) {
		return nil
	}
	if len(old) == 0 && start == 0 {
		// The first epoch of an empty log: a partition that is never written to
		// has no file for it, and the next leader begins its own.
		e.store(list)
		e.pending = true
		return nil
	}
	return e.write(list, write)
}

// truncateEnd drops epochs that begin at or after end.
func (e *epochs) truncateEnd(end int64) error {
	list := e.entries()
	n := len(list)
	for n > 0 && list[n-1].start >= end {
		n--
	}
	if n == len(list) {
		return nil
	}
	return e.set(list[:n:n])
}

// truncateStart makes the epoch that holds start begin there and drops those
// before it.
func (e *epochs) truncateStart(start int64) error {
	list := e.entries()
	n := 0
	for n < len(list) && list[n].start < start {
		n++
	}
	if n == 0 {
		return nil
	}
	if n == len(list) || list[n].start > start {
		n--
	}
	out := append([]epochEntry(nil), list[n:]...)
	out[0].start = max(out[0].start, start)
	return e.set(out)
}

// endOffset returns the largest epoch at or below epoch and the offset at which
// it ends, given the log's end; -1, -1 if epoch is above all that are known. Of
// an epoch below all, the end is where the first known one begins
// (OffsetsForLeaderEpoch, KIP-279).
func (e *epochs) endOffset(epoch int32, end int64) (int32, int64) {
	list := e.entries()
	if epoch == -1 || len(list) == 0 || epoch > list[len(list)-1].epoch {
		return -1, -1
	}
	if epoch == list[len(list)-1].epoch {
		return epoch, end
	}
	i := 0
	for list[i].epoch <= epoch {
		i++
	}
	if i == 0 {
		return epoch, list[0].start
	}
	return list[i-1].epoch, list[i].start
}
