package scrub

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
)

// fix is what a repair can do about a finding.
type fix int8

const (
	fixNone        fix = iota
	fixRemove          // remove a derived file
	fixTxnIndex        // remove a transaction index and the snapshots after it
	fixLeftover        // remove a file that is left over
	fixSwap            // finish a compaction
	fixCutTail         // cut a torn tail off
	fixCutAtDamage     // cut, and lose valid batches
)

// PlanOptions allow what loses records.
type PlanOptions struct {
	// CutAtDamage cuts a partition at its first damaged batch. The bytes from
	// there on are kept in files beside the segments, which no broker reads.
	CutAtDamage bool
	// SetAside renames a partition that is damaged in the middle, so that the
	// next start begins an empty one.
	SetAside bool
}

// Step is one change that a repair makes. Every change is durable when Run
// returns, and a repair that is interrupted at any point can be planned and run
// again.
type Step struct {
	Partition string
	File      string
	Byte      int64  // -1 if that says nothing
	Do        string // what it does
	Why       string // the finding
	Needs     string // why it is not done: the flag that allows it, or what a person must do
	// What is valid and is lost.
	LostBatches, LostRecords int64

	run func() error
}

// Run takes the step.
func (s *Step) Run() error {
	if s.run == nil {
		return nil
	}
	return s.run()
}

// LogDir returns the log directory that a directory is, or that the partition in
// it belongs to.
func LogDir(fs vfs.FS, dir string) (string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(names, isPartitionFile) {
		return path.Dir(path.Clean(dir)), nil
	}
	return path.Clean(dir), nil
}

// Lock keeps brokers out of a log directory while it is repaired. The error wraps
// vfs.ErrLocked if one is running.
func Lock(fs vfs.FS, dir string) (io.Closer, error) {
	name := path.Join(dir, log.LockFile)
	if held(fs, name) { // which makes no file
		return nil, fmt.Errorf("lock %s: a broker is running: %w", name, vfs.ErrLocked)
	}
	return fs.Lock(name)
}

// Plan makes steps of what a check found, for one log directory: what it may not
// do is among them, with the reason. Partitions are in order, and steps must be
// taken in order.
func Plan(fs vfs.FS, r *Report, o PlanOptions) []Step {
	p := &planner{fs: fs, o: o, done: make(map[string]bool)}
	var dirs []string
	byDir := make(map[string][]Finding)
	for _, f := range r.Findings {
		dir := path.Dir(f.File)
		if byDir[dir] == nil {
			dirs = append(dirs, dir)
		}
		byDir[dir] = append(byDir[dir], f)
	}
	for _, dir := range dirs {
		p.partition(dir, byDir[dir])
	}
	return p.steps
}

type planner struct {
	fs    vfs.FS
	o     PlanOptions
	steps []Step
	done  map[string]bool // files that a step has been planned for
}

func (p *planner) partition(dir string, found []Finding) {
	var cuts []Finding
	for _, f := range found {
		if f.fix == fixCutAtDamage {
			cuts = append(cuts, f)
		}
	}
	if len(cuts) > 0 {
		first := slices.MinFunc(cuts, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Byte, b.Byte)) })
		s := Step{Partition: first.Partition, File: first.File, Byte: first.Byte, Why: first.What}
		if first.lost != nil {
			s.LostBatches, s.LostRecords = first.lost.batches, first.lost.records
		}
		topic, _, _ := splitPartition(first.Partition)
		switch {
		case topic == metadataTopic:
			s.Do, s.Needs = "nothing", "restore the metadata log from a backup or another voter: what is lost of it is lost of every topic"
		case p.o.SetAside:
			s.File, s.Byte = dir, -1
			s.Do, s.run = "set the partition aside as "+path.Base(dir)+".<id>-stray", func() error { return setAside(p.fs, dir) }
			p.steps = append(p.steps, s)
			return // nothing else of it matters
		case p.o.CutAtDamage:
			s.Do, s.run = fmt.Sprintf("cut at byte %d, and keep what is cut off in %s files", first.Byte, DamagedSuffix), func() error { return cutAt(p.fs, first, true) }
		default:
			s.Do, s.Needs = fmt.Sprintf("cut at byte %d, or set the partition aside", first.Byte), "--cut-at-damage or --set-aside"
		}
		p.steps = append(p.steps, s)
	}
	// A .swap that is not to be trusted goes before the .cleaned that tells so.
	for _, swaps := range []bool{true, false} {
		for _, f := range found {
			if swaps == (f.fix == fixSwap) {
				p.finding(dir, f)
			}
		}
	}
}

func (p *planner) finding(dir string, f Finding) {
	s := Step{Partition: f.Partition, File: f.File, Byte: -1, Why: f.What}
	base, suffix, _ := parseFileName(path.Base(f.File))
	switch f.fix {
	case fixCutTail:
		s.Byte, s.Do = f.Byte, fmt.Sprintf("cut the file at byte %d", f.Byte)
		s.run = func() error { return cutAt(p.fs, f, false) }
	case fixRemove:
		s.Do = "remove it, so that the next start makes it anew"
		s.run = func() error { return remove(p.fs, f.File) }
		if name := path.Base(f.File); name == log.EpochFile || suffix == segment.SnapshotSuffix {
			s.run = func() error { return rebuild(p.fs, f.File, 0, false) }
		}
	case fixTxnIndex:
		s.Do = "remove it and the producer snapshots after it, so that the next start makes them anew"
		s.run = func() error { return rebuild(p.fs, f.File, base, true) }
	case fixLeftover:
		s.Do, s.run = "remove it", func() error { return remove(p.fs, f.File) }
	case fixSwap:
		p.swap(dir, f)
		return
	default:
		if f.Severity == Damage && f.fix == fixNone {
			s.Byte, s.Do, s.Needs = f.Byte, "nothing", f.Advice
			p.steps = append(p.steps, s)
		}
		return
	}
	if !p.done[f.File] {
		p.done[f.File] = true
		p.steps = append(p.steps, s)
	}
}

// remove removes a file, durably. It may be gone already.
func remove(fs vfs.FS, name string) error {
	if err := removeOnly(fs, name); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(name))
}

func removeOnly(fs vfs.FS, name string) error {
	if err := fs.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// distrust makes the next start of a broker check a partition from an offset on:
// the mark of a clean stop goes, and checkpoints are lowered. A broker that has
// stopped uncleanly is not taken to hold all that it acknowledged (KIP-966).
func distrust(fs vfs.FS, partition string, from int64, files ...string) error {
	dir := path.Dir(partition)
	if err := remove(fs, path.Join(dir, log.CleanFile)); err != nil {
		return err
	}
	for _, name := range files {
		if err := lower(fs, path.Join(dir, name), path.Base(partition), from); err != nil {
			return err
		}
	}
	return nil
}

// lower lowers the offset of a partition in a checkpoint.
func lower(fs vfs.FS, name, partition string, to int64) error {
	text, err := vfs.ReadFile(fs, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	changed := false
	for i, l := range lines {
		w := strings.Fields(l)
		if i < 2 || len(w) != 3 || w[0]+"-"+w[1] != partition {
			continue
		}
		if offset, err := strconv.ParseInt(w[2], 10, 64); err == nil && offset > to {
			lines[i], changed = fmt.Sprintf("%s %s %d", w[0], w[1], to), true
		}
	}
	if !changed {
		return nil
	}
	return vfs.WriteFileAtomic(fs, name, []byte(strings.Join(lines, "\n")))
}

// rebuild removes a derived file that is rebuilt by reading the log from
// offset from on. With snapshots, those after it go too, so that it is read.
func rebuild(fs vfs.FS, name string, from int64, snapshots bool) error {
	dir := path.Dir(name)
	if err := distrust(fs, dir, from, log.RecoveryPointFile); err != nil {
		return err
	}
	if snapshots {
		if err := removeFrom(fs, dir, from, segment.SnapshotSuffix); err != nil {
			return err
		}
	}
	return remove(fs, name)
}

// removeFrom removes the files with that suffix whose names are above an offset.
func removeFrom(fs vfs.FS, dir string, offset int64, suffix string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(names) { // the newest first
		if at, s, ok := parseFileName(name); ok && s == suffix && at > offset {
			if err := removeOnly(fs, path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return fs.SyncDir(dir)
}

// cutAt ends the log at a finding's byte, which is where its offset begins. With
// keep, what is cut off goes into files with DamagedSuffix.
//
// Whatever a crash leaves is a log with the damage still in it, or one that ends
// earlier: later segments go first, the last one first, and the bytes are kept
// durably before the file is cut.
func cutAt(fs vfs.FS, f Finding, keep bool) error {
	dir := path.Dir(f.File)
	base, _, _ := parseFileName(path.Base(f.File))
	if err := distrust(fs, dir, f.Offset, log.RecoveryPointFile, log.HighWatermarkFile, log.CleanerFile); err != nil {
		return err
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(names) {
		later, suffix, ok := parseFileName(name)
		if !ok || later <= base || suffix == segment.SnapshotSuffix {
			continue
		}
		full := path.Join(dir, name)
		if suffix == segment.LogSuffix && keep {
			err = fs.Rename(full, full+".0"+DamagedSuffix)
		} else {
			err = removeOnly(fs, full)
		}
		if err == nil {
			err = fs.SyncDir(dir)
		}
		if err != nil {
			return err
		}
	}
	if err := removeFrom(fs, dir, f.Offset, segment.SnapshotSuffix); err != nil {
		return err
	}
	if keep {
		if err := keepTail(fs, f.File, f.Byte); err != nil {
			return err
		}
	}
	for _, suffix := range []string{segment.IndexSuffix, segment.TimeSuffix} {
		if err := remove(fs, segment.FileName(dir, base, suffix)); err != nil {
			return err
		}
	}
	return truncate(fs, f.File, f.Byte)
}

// keepTail copies a file from a byte on into another one, durably.
func keepTail(fs vfs.FS, name string, from int64) (err error) {
	in, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := in.Size()
	if err != nil {
		return err
	}
	kept := fmt.Sprintf("%s.%d%s", name, from, DamagedSuffix)
	out, err := fs.Create(kept + tmpSuffix)
	if err != nil {
		return err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = fs.Rename(kept+tmpSuffix, kept)
		}
		if err == nil {
			err = fs.SyncDir(path.Dir(name))
		}
	}()
	buf := make([]byte, min(dataWindow, max(size-from, 0)))
	for at := from; at < size; {
		n, err := in.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 && err != nil {
			return err
		}
		if _, err := out.WriteAt(buf[:n], at-from); err != nil {
			return err
		}
		at += int64(n)
	}
	return out.Sync()
}

func truncate(fs vfs.FS, name string, size int64) error {
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// setAside renames a partition directory as brokers do with those that no topic
// owns.
func setAside(fs vfs.FS, dir string) error {
	var id [16]byte
	rand.Read(id[:])
	parent := path.Dir(dir)
	name := path.Base(dir)
	suffix := fmt.Sprintf(".%x-stray", id)
	topic, n, _ := splitPartition(name)
	if most := 255 - len(suffix) - len(strconv.Itoa(int(n))) - 1; len(topic) > most {
		topic = topic[:most]
	}
	if err := distrust(fs, dir, 0, log.RecoveryPointFile, log.HighWatermarkFile, log.CleanerFile); err != nil {
		return err
	}
	if err := fs.Rename(dir, path.Join(parent, fmt.Sprintf("%s-%d%s", topic, n, suffix))); err != nil {
		return err
	}
	return fs.SyncDir(parent)
}
