package replication

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/magiconair/properties"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/prim"
)

// What ends the names of partition directories that are none any more.
const (
	deleteSuffix = "-delete"
	straySuffix  = "-stray"
)

// Dir is one log directory (log.dirs), locked by this broker.
type Dir struct {
	Path string
	ID   prim.UUID // directory.id

	fs     vfs.FS
	lock   io.Closer
	syncer vfs.Syncer // nil where there is none
	clean  bool       // the last shutdown was a clean one
	fault  log.Fault

	unreadable []string // checkpoint files that were not as they are written

	writing sync.Mutex // held while a checkpoint file is written
	workers int        // logs that closeAll closes at once

	mu                    sync.Mutex       // guards what follows
	recovery, high, start map[string]int64 // checkpoints by partition directory, as they were found
	cleaned               map[string]int64 // first offset that was never compacted, by partition directory
	kept                  map[string]bool  // partition directories that did not open and are left as they are
	gone                  map[string]bool  // partition directories of topics that were deleted, which checkpoint files may still have
	replicas              int              // partitions in here
}

// Identity is what meta.properties says of a node.
type Identity struct {
	ClusterID string
	NodeID    int32
}

// OpenDir locks a log directory and reads who it belongs to, making both on the
// first start. want.ClusterID may be empty, and then the directory's own, or a
// new one, is taken.
func OpenDir(fs vfs.FS, dir string, want Identity) (_ *Dir, got Identity, err error) {
	d := &Dir{Path: dir, fs: fs}
	if err := makeDir(fs, dir); err != nil {
		return nil, got, err
	}
	if d.lock, err = fs.Lock(path.Join(dir, log.LockFile)); err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			return nil, got, fmt.Errorf("log directory %s is in use by another broker: %w", dir, err)
		}
		return nil, got, err
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.syncer, err = vfs.NewSyncer(fs, dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, got, err
	}
	if got, err = d.identity(want); err != nil {
		return nil, got, err
	}
	if _, err := fs.Stat(d.file(log.CleanFile)); err == nil {
		d.clean = true
		// The mark must not come back after a power cut.
		if err := fs.Remove(d.file(log.CleanFile)); err != nil {
			return nil, got, err
		}
		if err := fs.SyncDir(dir); err != nil {
			return nil, got, err
		}
	}
	for name, into := range map[string]*map[string]int64{log.RecoveryPointFile: &d.recovery, log.HighWatermarkFile: &d.high, log.LogStartFile: &d.start, log.CleanerFile: &d.cleaned} {
		var whole bool
		if *into, whole, err = readCheckpoint(fs, d.file(name)); err != nil {
			return nil, got, err
		}
		if !whole {
			d.unreadable = append(d.unreadable, name)
		}
	}
	return d, got, nil
}

// makeDir makes a directory, and those above it, whose entries are durable.
func makeDir(fs vfs.FS, dir string) error {
	// The directory's own entry is synced even if it is there: whoever made it
	// may have died before it did so.
	made := []string{path.Dir(dir)} // parents that get an entry
	for at := made[0]; at != path.Dir(at); at = path.Dir(at) {
		if _, err := fs.Stat(at); err == nil {
			break
		}
		made = append(made, path.Dir(at))
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, parent := range made {
		if err := fs.SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) file(name string) string { return path.Join(d.Path, name) }

// identity reads meta.properties, or writes it where there is none.
func (d *Dir) identity(want Identity) (Identity, error) {
	text, err := vfs.ReadFile(d.fs, d.file(log.PropertiesFile))
	if errors.Is(err, iofs.ErrNotExist) {
		if want.ClusterID == "" {
			want.ClusterID = prim.RandomUUID().String()
		}
		d.ID = prim.RandomUUID()
		text := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", want.ClusterID, want.NodeID, d.ID)
		return want, vfs.WriteFileAtomic(d.fs, d.file(log.PropertiesFile), []byte(text))
	}
	if err != nil {
		return want, err
	}
	loader := properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	p, err := loader.LoadBytes(text)
	if err != nil {
		return want, fmt.Errorf("%s: %w", d.file(log.PropertiesFile), err)
	}
	got := Identity{ClusterID: p.GetString("cluster.id", "")}
	node, err := strconv.ParseInt(p.GetString("node.id", p.GetString("broker.id", "")), 10, 32)
	if err != nil {
		return got, fmt.Errorf("%s: node.id: %w", d.file(log.PropertiesFile), err)
	}
	got.NodeID = int32(node)
	if d.ID, err = prim.ParseUUID(p.GetString("directory.id", "")); err != nil {
		return got, fmt.Errorf("%s: directory.id: %w", d.file(log.PropertiesFile), err)
	}
	if want.ClusterID != "" && want.ClusterID != got.ClusterID {
		return got, fmt.Errorf("%s belongs to cluster %s, not %s", d.Path, got.ClusterID, want.ClusterID)
	}
	if want.NodeID != got.NodeID {
		return got, fmt.Errorf("%s belongs to node %d, but node.id is %d", d.Path, got.NodeID, want.NodeID)
	}
	return got, nil
}

// markClean writes the mark that the directory was shut down cleanly: every log
// in it is synced to its end.
func (d *Dir) markClean(brokerEpoch int64) error {
	text, err := json.Marshal(struct {
		Version     int   `json:"version"`
		BrokerEpoch int64 `json:"brokerEpoch"`
	}{0, brokerEpoch})
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(d.fs, d.file(log.CleanFile), text)
}

// Close unlocks the directory.
func (d *Dir) Close() error {
	err := d.lock.Close()
	if d.syncer != nil {
		err = errors.Join(err, d.syncer.Close())
	}
	return err
}

// dirName returns the name of a partition's directory.
func dirName(topic string, partition int32) string {
	return topic + "-" + strconv.Itoa(int(partition))
}

// parseDirName is the inverse of dirName.
func parseDirName(name string) (topic string, partition int32, ok bool) {
	at := strings.LastIndexByte(name, '-')
	if at <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	if err != nil || n < 0 {
		return "", 0, false
	}
	return name[:at], int32(n), true
}

// deletedName returns the name that a partition's directory has while it waits
// to be removed. A long topic name is cut, since the whole must fit a file name.
func deletedName(topic string, partition int32) string {
	u := prim.RandomUUID()
	suffix := fmt.Sprintf("-%d.%s%s", partition, hex.EncodeToString(u[:]), deleteSuffix)
	return topic[:min(len(topic), 255-len(suffix))] + suffix
}

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

// writeCheckpoint writes a checkpoint file. The keys are partition directories.
func writeCheckpoint(fs vfs.FS, name string, offsets map[string]int64) error {
	b := fmt.Appendf(nil, "0\n%d\n", len(offsets))
	for dir, offset := range offsets {
		topic, partition, ok := parseDirName(dir)
		if !ok {
			return fmt.Errorf("%q is no partition directory", dir)
		}
		b = fmt.Appendf(b, "%s %d %d\n", topic, partition, offset)
	}
	return vfs.WriteFileAtomic(fs, name, b)
}

// Space returns the size of the volume that the directory is on and what is free
// of it, in bytes; -1 where that is not known.
func (d *Dir) Space() (total, usable int64) { return space(d.Path) }

// Err returns the storage error that took the directory offline, nil if it is
// well.
func (d *Dir) Err() error { return d.fault.Err() }

// fail makes err a storage error, and that of the directory unless it has one
// already.
func (d *Dir) fail(err error) error {
	err = fmt.Errorf("%w: %w", log.ErrStorage, err)
	d.fault.Set(err)
	return err
}

// gain counts a partition that the directory gets, lose one that it no longer
// has.
func (d *Dir) gain() {
	d.mu.Lock()
	d.replicas++
	d.mu.Unlock()
}

func (d *Dir) lose() {
	d.mu.Lock()
	d.replicas--
	d.mu.Unlock()
}

func (d *Dir) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replicas
}

// keep notes that a partition's directory did not open and stays as it is.
func (d *Dir) keep(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept == nil {
		d.kept = make(map[string]bool)
	}
	d.kept[name] = true
}

// ofKept returns the offsets of the partitions whose directories stay as they are.
func (d *Dir) ofKept(offsets map[string]int64) map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]int64)
	for name := range d.kept {
		if offset, ok := offsets[name]; ok {
			out[name] = offset
		}
	}
	return out
}

func (d *Dir) keepsSome() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.kept) > 0
}

// firstDirty returns the first offset of a partition that was never compacted.
func (d *Dir) firstDirty(name string) (offset int64, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	offset, known = d.cleaned[name]
	return offset, known
}

// setFirstDirty notes, durably, up to where a partition was compacted, if that is
// still so.
func (d *Dir) setFirstDirty(name string, offset int64, still func() bool) error {
	d.mu.Lock()
	ok := still()
	if ok {
		d.cleaned[name] = offset
	}
	d.mu.Unlock()
	if !ok {
		return nil
	}
	return d.writeCheckpoint(log.CleanerFile, d.firstDirties)
}

// lowerFirstDirty notes, durably, that a partition was compacted up to offset at
// most.
func (d *Dir) lowerFirstDirty(name string, offset int64) error {
	d.mu.Lock()
	lower := d.cleaned[name] > offset
	if lower {
		d.cleaned[name] = offset
	}
	d.mu.Unlock()
	if !lower {
		return nil
	}
	return d.writeCheckpoint(log.CleanerFile, d.firstDirties)
}

func (d *Dir) firstDirties() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.cleaned)
}

// forget drops what is known of a partition that is deleted. Its offsets must be
// out of the checkpoint files before another one gets the name.
func (d *Dir) forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cleaned, name)
	delete(d.kept, name)
	if d.gone == nil {
		d.gone = make(map[string]bool)
	}
	d.gone[name] = true
}

// foundIn returns what a checkpoint file said at the start.
func (d *Dir) foundIn(offsets map[string]int64, name string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return offsets[name]
}

// dropFound takes partitions out of the checkpoint files as they were found. It
// is for the start, while nothing has changed.
func (d *Dir) dropFound(drop func(name string) bool) error {
	files := map[string]map[string]int64{log.RecoveryPointFile: d.recovery, log.HighWatermarkFile: d.high, log.LogStartFile: d.start, log.CleanerFile: d.cleaned}
	var err error
	for file, offsets := range files {
		d.mu.Lock()
		before := len(offsets)
		maps.DeleteFunc(offsets, func(name string, _ int64) bool { return drop(name) })
		changed := len(offsets) < before
		d.mu.Unlock()
		if changed {
			err = errors.Join(err, d.writeCheckpoint(file, func() map[string]int64 {
				d.mu.Lock()
				defer d.mu.Unlock()
				return maps.Clone(offsets)
			}))
		}
	}
	return err
}

// forgotten returns the partition directories that checkpoint files may have
// though they were deleted.
func (d *Dir) forgotten() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.gone)
}

// forgot reports whether one of names is among those.
func (d *Dir) forgot(names []string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(names, func(name string) bool { return d.gone[name] })
}

// rewritten says that the checkpoint files no longer have names.
func (d *Dir) rewritten(names map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range names {
		delete(d.gone, name)
	}
}

// writeCheckpoint writes a checkpoint file. What goes in is collected when it is
// this call's turn to write: else another one might have written, and somebody
// have been answered for, what is newer. An error takes the directory offline:
// what it holds is unknown.
func (d *Dir) writeCheckpoint(name string, offsets func() map[string]int64) error {
	if err := d.Err(); err != nil {
		return err
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := writeCheckpoint(d.fs, d.file(name), offsets()); err != nil {
		return d.fail(err)
	}
	return nil
}

// Clean reports whether the last shutdown was a clean one, in which every log
// was synced to its end.
func (d *Dir) Clean() bool { return d.clean }
