// Package scrub checks the files of log directories, without changing them, and
// repairs what can be repaired without losing a valid record.
//
// [Check] reads every file from its first byte to its last, sequentially, and
// compares them with each other: the batches are what is true, and indexes,
// snapshots and checkpoints must agree with them. [Plan] makes steps of what was
// found, and [Step.Run] takes one.
package scrub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
)

// ErrNoLog means that a path is nothing of a log directory.
var ErrNoLog = errors.New("neither a log directory nor a partition nor a file of one")

// Severity says how bad a finding is.
type Severity int8

const (
	// Note is what is as it may be and good to know.
	Note Severity = iota
	// Warning is what the next start puts right, or what only a person can judge.
	Warning
	// Damage is what reads wrong or is lost.
	Damage
)

var severityNames = [...]string{"note", "warning", "damage"}

func (s Severity) String() string { return severityNames[s] }

// Finding is something that is not as it was written.
type Finding struct {
	Severity  Severity
	Partition string // name of its directory, "" of the log directory itself
	File      string // path
	Byte      int64  // where in the file, -1 if that says nothing
	Offset    int64  // first offset concerned, -1 if that says nothing
	What      string
	Advice    string // what to do, "" for nothing

	fix  fix
	lost *lost // by a cut at Byte
}

// lost counts what a cut in the log takes away that is valid.
type lost struct{ batches, records, bytes int64 }

// Report is the outcome of a check.
type Report struct {
	Findings                 []Finding // by partition, file and byte
	Partitions, Segments     int
	Batches, Records, Bytes  int64 // valid batches, and bytes of data files read
	Notes, Warnings, Damages int
	Running                  bool // a broker had one of the directories open
}

// Options say how to check.
type Options struct {
	FS      vfs.FS // nil means the operating system
	Threads int    // partitions checked at once; 0 means 2
	Locked  bool   // the caller has locked the directories, so that no broker runs
	// Progress is notified now and then how many bytes of data files have been read,
	// of how many. It is called by one goroutine at a time.
	Progress func(read, total int64)
}

// Check checks log directories, partition directories or single files. The error
// is about the paths, or ctx; whatever is wrong in the files is a finding.
func Check(ctx context.Context, o Options, paths ...string) (*Report, error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Threads <= 0 {
		o.Threads = 2
	}
	c := &checker{fs: o.FS, ctx: ctx, locked: o.Locked, progress: o.Progress, dirs: make(map[string]*directory)}
	for _, p := range paths {
		if err := c.add(path.Clean(p)); err != nil {
			return nil, err
		}
	}
	if err := c.run(o.Threads); err != nil {
		return nil, err
	}
	for _, d := range c.dirs {
		c.report.Running = c.report.Running || d.running
		if !d.asked {
			continue
		}
		if err := d.bootstrap(c); err != nil {
			return nil, err
		}
		c.take(d.compare())
	}
	c.report.sort()
	return &c.report, nil
}

// checker collects what there is to check and what comes of it.
type checker struct {
	fs       vfs.FS
	ctx      context.Context
	locked   bool
	progress func(read, total int64)
	dirs     map[string]*directory
	work     []*partition
	total    int64
	read     atomic.Int64

	mu     sync.Mutex // guards report and calls of progress
	report Report
}

// add finds out what a path is.
func (c *checker) add(p string) error {
	info, err := c.fs.Stat(p)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return c.addFile(p)
	}
	names, err := c.fs.List(p)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(names, isPartitionFile) {
		return c.addPartition(c.directory(path.Dir(p), false), p, names)
	}
	if _, ok := parseDirName(path.Base(p)); ok && len(names) == 0 {
		return c.addPartition(c.directory(path.Dir(p), false), p, names)
	}
	return c.addDirectory(p, names)
}

func (c *checker) addDirectory(p string, names []string) error {
	d := c.directory(p, true)
	found := slices.Contains(names, log.PropertiesFile)
	for _, name := range names {
		full := path.Join(p, name)
		info, err := c.fs.Stat(full)
		if err != nil || !info.IsDir() {
			continue
		}
		kind, ok := parseDirName(name)
		switch {
		case !ok:
			continue
		case kind == strayDir && strings.HasPrefix(name, metadataTopic+"-"):
			d.finding(Note, name, -1, -1, "the cluster's metadata as they were before a conversion; not checked", "remove the directory once the other broker has served")
			continue
		case kind == deletedDir || kind == strayDir:
			d.finding(Note, name, -1, -1, kind.what(), kind.advice())
			continue
		}
		found = true
		sub, err := c.fs.List(full)
		if err != nil {
			return err
		}
		if err := c.addPartition(d, full, sub); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%s: %w", p, ErrNoLog)
	}
	return nil
}

func (c *checker) addPartition(d *directory, p string, names []string) error {
	w := newPartition(c, d, p, names)
	c.work = append(c.work, w)
	d.partitions = append(d.partitions, w)
	c.report.Partitions++
	return w.measure()
}

// addFile checks one file, together with the files of the same segment.
func (c *checker) addFile(p string) error {
	dir, name := path.Dir(p), path.Base(p)
	base, suffix, ok := parseFileName(name)
	if !ok {
		switch {
		case isDirectoryFile(name):
			c.directory(dir, true).only = name
			return nil
		case isPartitionFile(name):
			return c.addPartition(c.directory(path.Dir(dir), false), dir, []string{name})
		}
		return fmt.Errorf("%s: %w", p, ErrNoLog)
	}
	if suffix == log.QuorumSnapshotSuffix {
		return c.addPartition(c.directory(path.Dir(dir), false), dir, []string{name})
	}
	names, err := c.fs.List(dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		b, _, ok := parseFileName(n)
		return !ok || b != base
	})
	w := newPartition(c, c.directory(path.Dir(dir), false), dir, names)
	w.single = true
	c.work = append(c.work, w)
	c.report.Partitions++
	return w.measure()
}

// directory reads what a log directory says of its partitions, once. Checkpoints
// are read before the logs: those of a broker that runs only grow.
func (c *checker) directory(p string, asked bool) *directory {
	d := c.dirs[p]
	if d == nil {
		d = openDirectory(c.fs, p)
		d.running = !c.locked && held(c.fs, d.file(log.LockFile))
		c.dirs[p] = d
	}
	d.asked = d.asked || asked
	return d
}

// run checks the partitions, the largest first.
func (c *checker) run(threads int) error {
	slices.SortStableFunc(c.work, func(a, b *partition) int { return cmp.Compare(b.bytes, a.bytes) })
	queue := make(chan *partition, len(c.work))
	for _, w := range c.work {
		queue <- w
		c.total += w.bytes
	}
	close(queue)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() {
			for w := range queue {
				if errs[i] = w.check(); errs[i] != nil {
					return
				}
				c.take(w.findings)
				c.mu.Lock()
				c.report.Segments += len(w.segments)
				c.report.Batches += w.batches
				c.report.Records += w.records
				c.report.Bytes += w.bytes
				c.mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *checker) take(list []Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Findings = append(c.report.Findings, list...)
}

// advance counts bytes that were read and reports whether to go on.
func (c *checker) advance(n int64) error {
	read := c.read.Add(n)
	if c.progress != nil {
		c.mu.Lock()
		c.progress(read, c.total)
		c.mu.Unlock()
	}
	return c.ctx.Err()
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.File, b.File), cmp.Compare(a.Byte, b.Byte), cmp.Compare(a.Offset, b.Offset))
	})
	for _, f := range r.Findings {
		switch f.Severity {
		case Note:
			r.Notes++
		case Warning:
			r.Warnings++
		case Damage:
			r.Damages++
		}
	}
}

// window reads a file forward through one large buffer.
type window struct {
	f    vfs.File
	size int64
	step int // bytes to read at once
	at   int64
	buf  []byte
}

func openWindow(fs vfs.FS, name string, step int) (*window, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &window{f: f, size: size, step: step}, nil
}

func (w *window) close() { w.f.Close() }

// bytes returns n bytes at a position, fewer at the end of the file. They are
// valid until the next call.
func (w *window) bytes(at int64, n int) ([]byte, error) {
	n = int(max(min(int64(n), w.size-at), 0))
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[at-w.at:][:n], nil
	}
	want := int(min(int64(max(n, w.step)), w.size-at))
	if cap(w.buf) < want || cap(w.buf) > 8*w.step && want <= w.step { // a huge batch is not kept for ever
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], at
	got, err := w.f.ReadAt(w.buf, at)
	if got < want && (err == nil || err == io.EOF) { // it was cut meanwhile
		w.size = at + int64(got)
		err = nil
	}
	w.buf = w.buf[:got]
	if err != nil && err != io.EOF {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:min(n, got)], nil
}
