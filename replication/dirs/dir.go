// Package dirs holds the log directories of a broker: who they belong to, whether they
// are well, what their checkpoint files say, and the files in them that wait to be
// removed.
package dirs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/prim"
)

// Dir is one log directory (log.dirs), locked by this broker.
type Dir struct {
	Path string
	ID   prim.UUID // directory.id

	fs     vfs.FS
	lock   io.Closer
	syncer vfs.Syncer // nil where there is none
	clean  bool       // the last shutdown was a clean one
	epoch  int64      // of the broker's registration then; -1 if it is not known
	fault  log.Fault

	unreadable []string // checkpoint files that were not as they are written

	writing sync.Mutex // held while a checkpoint file is written

	mu          sync.Mutex                  // guards what follows
	found       map[string]map[string]int64 // by checkpoint file: offsets by partition directory, as they were found; the cleaner's changes
	quarantined map[string]bool             // partition directories that did not open and are left as they are
	gone        map[string]bool             // partition directories of topics that were deleted, which checkpoint files may still have
	replicas    int                         // partitions in here
}

// Open locks a log directory and reads who it belongs to, making both on the
// first start. want.ClusterID may be empty, and then the directory's own, or a
// new one, is taken.
func Open(fs vfs.FS, dir string, want Identity) (_ *Dir, got Identity, err error) {
	return openDir(fs, dir, want, (*Dir).claim)
}

// OpenNew is Open of a directory that nobody has claimed, for the first start of a broker. It
// stays unclaimed until [Dir.Claim], and what is left in it of a first start that did not
// get there is given up: the metadata log is set aside.
func OpenNew(fs vfs.FS, dir string, want Identity) (*Dir, Identity, error) {
	return openDir(fs, dir, want, (*Dir).begin)
}

func openDir(fs vfs.FS, dir string, want Identity, claim func(*Dir, Identity) (Identity, error)) (_ *Dir, got Identity, err error) {
	d := &Dir{Path: dir, fs: fs, found: make(map[string]map[string]int64)}
	if err := Make(fs, dir); err != nil {
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
	if got, err = claim(d, want); err != nil {
		return nil, got, err
	}
	d.epoch = -1
	if text, err := vfs.ReadFile(fs, d.File(log.CleanFile)); err == nil {
		d.clean = true
		var mark cleanMark
		if json.Unmarshal(text, &mark) == nil { // an empty one is Kafka's of old
			d.epoch = mark.BrokerEpoch
		}
		// The mark must not come back after a power cut.
		if err := fs.Remove(d.File(log.CleanFile)); err != nil {
			return nil, got, err
		}
		if err := fs.SyncDir(dir); err != nil {
			return nil, got, err
		}
	}
	for _, name := range checkpointFiles {
		offsets, whole, err := readCheckpoint(fs, d.File(name))
		if err != nil {
			return nil, got, err
		}
		if !whole {
			d.unreadable = append(d.unreadable, name)
		}
		d.found[name] = offsets
	}
	return d, got, nil
}

// Make makes a directory, and those above it, whose entries are durable.
func Make(fs vfs.FS, dir string) error {
	// The directory's own entry is synced even if it is there: its maker
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

// File returns the path of a file or directory in d.
func (d *Dir) File(name string) string { return path.Join(d.Path, name) }

// cleanMark is what the mark of a clean shutdown says.
type cleanMark struct {
	Version     int   `json:"version"`
	BrokerEpoch int64 `json:"brokerEpoch"`
}

// MarkClean writes the mark that the directory was shut down cleanly: every log
// in it is synced to its end.
func (d *Dir) MarkClean(brokerEpoch int64) error {
	text, err := json.Marshal(cleanMark{0, brokerEpoch})
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(d.fs, d.File(log.CleanFile), text)
}

// Close unlocks the directory.
func (d *Dir) Close() error {
	err := d.lock.Close()
	if d.syncer != nil {
		err = errors.Join(err, d.syncer.Close())
	}
	return err
}

// Space returns the size of the volume that the directory is on and what is free
// of it, in bytes; -1 where that is not known.
func (d *Dir) Space() (total, usable int64) { return space(d.Path) }

// Fault is where every log of the directory notes the error that takes all of them
// offline.
func (d *Dir) Fault() *log.Fault { return &d.fault }

// Unreadable returns the checkpoint files that were not as they are written, when
// the directory was opened.
func (d *Dir) Unreadable() []string { return d.unreadable }

// SyncsAll reports whether SyncAll can sync what is in the directory with one call.
func (d *Dir) SyncsAll() bool { return d.syncer != nil }

// SyncAll syncs the file system that the directory is on. A failure takes the
// directory offline.
func (d *Dir) SyncAll() error {
	if err := d.syncer.Sync(); err != nil {
		d.Fail(err)
		return d.Err()
	}
	return nil
}

// Err returns the storage error that took the directory offline, nil if it is
// well.
func (d *Dir) Err() error { return d.fault.Err() }

// Fail makes err a storage error, and that of the directory unless it has one
// already.
func (d *Dir) Fail(err error) error {
	err = fmt.Errorf("%w: %w", log.ErrStorage, err)
	d.fault.Set(err)
	return err
}

// Clean reports whether the last shutdown was a clean one, in which every log
// was synced to its end.
func (d *Dir) Clean() bool { return d.clean }

// CleanEpoch returns the epoch of the broker's registration at the last clean shutdown, -1
// if there was none or it is not known.
func (d *Dir) CleanEpoch() int64 { return d.epoch }

// Gain counts a partition that the directory gets, lose one that it no longer
// has.
func (d *Dir) Gain() {
	d.mu.Lock()
	d.replicas++
	d.mu.Unlock()
}

// Lose counts a partition that the directory no longer has.
func (d *Dir) Lose() {
	d.mu.Lock()
	d.replicas--
	d.mu.Unlock()
}

// Count returns how many partitions the directory has.
func (d *Dir) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replicas
}
