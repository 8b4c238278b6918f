// Package segment is a piece of a partition's log from one base offset on: the
// file of batches and the offset and time index that belong to it.
//
// A segment has one writer and any number of readers. Readers take no lock that
// is held during I/O, but for the first one, which opens the files: a segment
// that nobody uses has nothing open and no index in memory. It counts
// references: what a reader holds stays readable when the segment is closed or
// deleted meanwhile.
package segment

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// ErrClosed means that a segment was closed or deleted.
var ErrClosed = errors.New("segment is closed")

// Options say where a segment is and how it is indexed.
type Options struct {
	FS            vfs.FS
	Dir           string
	Base          int64
	Suffix        string    // behind the names of the files, while they are not part of the log (.cleaned)
	IndexInterval int       // bytes of batches between index entries
	Created       time.Time // stands for the first timestamp if batches have none
	Preallocate   int64     // bytes to reserve on disk when the file is made; 0 none
}

// Segment is one segment. The methods that change it are for one goroutine at a
// time.
type Segment struct {
	// What an append touches stands together.

	mu   sync.Mutex // guards size, next and tail; never held during I/O
	size int64      // bytes
	next int64      // offset after the last batch
	base int64
	tail tail

	// opening is held while files are opened. It guards suffix, and the change
	// of opened and index from nil.
	opening sync.Mutex
	data    vfs.File    // for those that have seen opened
	opened  atomic.Bool // data is
	index   atomic.Pointer[indexes]
	entries atomic.Int32 // in the larger index

	// The writer's.
	maxKnown bool            // max is set
	dirty    bool            // the indexes lack the last entry
	spill    bool            // the indexes may have a block to write
	first    atomic.Int64    // largest timestamp of the first batch in ms; -1 unknown
	max      index.TimeEntry // largest timestamp and its batch's last offset
	maxSeen  atomic.Int64    // max.Timestamp for readers; noMax if not known

	indexer     indexer // for the batches that have left the tail
	fs          vfs.FS
	dir         string
	suffix      string
	goneFrom    int64       // time index entries at or above it are of batches that are gone; 0 none
	dirSynced   atomic.Bool // the files' directory entries are durable
	discard     atomic.Bool // the last release writes nothing more
	refs        atomic.Int64
	created     time.Time
	preallocate int64
}

const noMax = -2

// Create returns an empty segment. Its files are made by the first append.
func Create(o Options) *Segment {
	s := newSegment(o)
	s.maxKnown, s.max = true, s.noTime()
	s.maxSeen.Store(-1)
	return s
}

func newSegment(o Options) *Segment {
	s := &Segment{fs: o.FS, dir: o.Dir, base: o.Base, suffix: o.Suffix, indexer: indexer{interval: o.IndexInterval}, created: o.Created,
		preallocate: o.Preallocate, next: o.Base}
	s.refs.Store(1)
	s.first.Store(-1)
	s.maxSeen.Store(noMax)
	return s
}

// Open opens a segment that is on disk and finds its end, without checking what
// is in the batches; see Recover for that. Its files are closed again until they
// are needed. Indexes that are missing or cannot be right are rebuilt then.
func Open(o Options) (*Segment, error) {
	s := newSegment(o)
	s.dirSynced.Store(true)
	if err := s.measure(); err != nil {
		return nil, err
	}
	err := s.findEnd()
	if e := s.closeFiles(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenToRecover opens a segment whose tail may be torn and whose indexes are not
// to be trusted: they are dropped. Call Recover before anything else.
func OpenToRecover(o Options) (*Segment, error) {
	s := newSegment(o)
	if err := s.measure(); err != nil {
		return nil, err
	}
	if err := s.dropIndexes(); err != nil {
		s.closeFiles()
		return nil, err
	}
	return s, nil
}

// measure opens the data file and reads its size.
func (s *Segment) measure() error {
	f, err := s.file()
	if err != nil {
		return err
	}
	if s.size, err = f.Size(); err != nil {
		s.closeFiles()
	}
	return err
}

// file returns the data file, opened.
func (s *Segment) file() (vfs.File, error) {
	if s.opened.Load() {
		return s.data, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	return s.fileLocked()
}

// fileLocked is file for callers that hold opening.
func (s *Segment) fileLocked() (vfs.File, error) {
	if s.opened.Load() {
		return s.data, nil
	}
	f, err := s.fs.OpenFile(s.name(LogSuffix), os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	s.data = f
	s.opened.Store(true)
	return f, nil
}

// create makes the data file.
func (s *Segment) create() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	f, err := s.fs.Create(s.name(LogSuffix))
	if err != nil {
		return err
	}
	s.data = f
	s.opened.Store(true)
	if s.preallocate > 0 {
		return vfs.Allocate(f, s.preallocate)
	}
	return nil
}

// name returns the name of a file. The caller is the writer or holds opening.
func (s *Segment) name(suffix string) string { return FileName(s.dir, s.base, suffix) + s.suffix }

// Base returns the base offset.
func (s *Segment) Base() int64 { return s.base }

// Size returns the number of bytes of batches.
func (s *Segment) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Written is Size for the writer.
func (s *Segment) Written() int64 { return s.size }

// Next returns the offset after the last batch.
func (s *Segment) Next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Dirty reports whether a clean start needs something that is not on disk though all
// batches are: last entries of the indexes, or the names of files that were rebuilt.
// It is for the writer.
func (s *Segment) Dirty() bool { return s.dirty || s.opened.Load() && !s.dirSynced.Load() }

// Synced says that all that was written is durable, and the names of the files. It is
// for the writer.
func (s *Segment) Synced() { s.dirSynced.Store(true) }

// Incomplete says that the indexes may lack their last entries, as those of a
// segment that was not closed do, or that the time index has some of batches that
// a power cut took away. It is for the writer, before there are readers.
func (s *Segment) Incomplete() error {
	s.dirty, s.goneFrom = true, s.next
	_, err := s.MaxTimestamp()
	return err
}

// findEnd reads batch headers from the last index entry on; of a small segment
// all, which takes fewer calls.
func (s *Segment) findEnd() error {
	const small = 64 << 10
	if s.size <= small {
		return s.endAfter(0, s.base)
	}
	if e, ok := s.lastIndexed(); ok && s.endAfter(e.Position, e.Offset+1) == nil {
		return nil
	}
	x, err := s.indexes()
	if err != nil {
		return err
	}
	e, ok, err := x.offsets.LastEntry()
	switch {
	case err != nil:
		return err
	case ok:
		return s.endAfter(e.Position, e.Offset+1)
	}
	return s.endAfter(0, s.base)
}

// endAfter finds the end from a batch boundary on; next is the end if no batch
// follows.
func (s *Segment) endAfter(from, next int64) error {
	largest := s.noTime()
	first := from > 0 // it may be the one before next
	err := s.Scan(from, s.size, HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		d := Describe(b)
		if d.Base < next && !first {
			return false, fmt.Errorf("%w: %s: offset %d at byte %d, want %d or more", record.ErrCorrupt, FileName(s.dir, s.base, LogSuffix), d.Base, pos, next)
		}
		first = false
		if next = d.Last + 1; d.MaxTimestamp > largest.Timestamp {
			largest = index.TimeEntry{Timestamp: d.MaxTimestamp, Offset: d.Last}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	if from == 0 { // it has seen all, and the time index has nothing to add
		s.maxKnown, s.max = true, largest
		s.maxSeen.Store(largest.Timestamp)
	}
	return nil
}

// Append writes whole batches, whose offsets rise and lie above those before,
// with one write. After an error none of them is readable; the caller must not
// append again.
func (s *Segment) Append(b []byte) error {
	if s.size == 0 && !s.opened.Load() {
		if err := s.create(); err != nil {
			return err
		}
	}
	f, err := s.file()
	if err != nil {
		return err
	}
	x, err := s.indexes()
	if err != nil {
		return err
	}
	if !s.maxKnown {
		if _, err := s.MaxTimestamp(); err != nil {
			return err
		}
	}
	if s.spill {
		if err := x.spill(); err != nil {
			return err
		}
		s.spill = false
	}
	pos := s.size
	if pos+int64(len(b)) > math.MaxUint32 {
		return fmt.Errorf("%s: no room for %d bytes after %d", s.name(LogSuffix), len(b), pos)
	}
	if _, err := f.WriteAt(b, pos); err != nil {
		// Bytes beyond size are not readable. Taking them back spares the next
		// start a torn tail.
		f.Truncate(pos)
		return fmt.Errorf("write %s at byte %d: %w", s.name(LogSuffix), pos, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if batch == nil {
			return err
		}
		d := Describe(batch)
		s.observe(d, s.size)
		if err := s.publish(x, d); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// observe takes in the timestamp of the batch at pos.
func (s *Segment) observe(b Info, pos int64) {
	s.dirty = true
	if pos == 0 {
		s.first.Store(b.MaxTimestamp)
	}
	if b.MaxTimestamp > s.max.Timestamp {
		s.max = index.TimeEntry{Timestamp: b.MaxTimestamp, Offset: b.Last}
		s.maxSeen.Store(b.MaxTimestamp)
	}
}

// Fits reports whether a batch with that last offset can go into this segment.
func (s *Segment) Fits(last int64) bool { return last >= s.base && last-s.base <= math.MaxInt32 }

// IndexFull reports whether the indexes have no room for another entry in files
// of that many bytes.
func (s *Segment) IndexFull(bytes int) bool {
	x := s.index.Load()
	if x == nil || int(s.entries.Load())+tailBatches < bytes/12-1 {
		return false
	}
	if err := s.enterAll(x); err != nil {
		return true
	}
	return x.offsets.Len() >= bytes/8 || x.times.Len() >= bytes/12-1
}

// acquire takes a reference, unless the segment is closed.
func (s *Segment) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *Segment) release() error {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return nil
	case n < 0:
		panic(fmt.Sprintf("segment %d of %s: released %d times too often", s.base, s.dir, -n))
	}
	return s.closeFiles()
}

// closeFiles closes what is open. It must not run beside any other method.
func (s *Segment) closeFiles() error {
	var err error
	if x := s.index.Swap(nil); x != nil {
		err = x.close(s.discard.Load())
	}
	if s.opened.Swap(false) {
		if e := s.data.Close(); err == nil {
			err = e
		}
	}
	return err
}

// Close completes the indexes and gives the owner's reference up. Files close
// with the last reference. It does not sync.
func (s *Segment) Close() error {
	err := s.Complete()
	if e := s.release(); err == nil {
		err = e
	}
	return err
}

// Abandon closes without completing anything, after a storage error. It returns
// nothing, as the error that matters came before.
func (s *Segment) Abandon() {
	s.discard.Store(true)
	s.release()
}
