// Package segment is a piece of a partition's log from one base offset on: the
// file of batches and the offset and time index that belong to it.
//
// A segment has one writer and any number of readers. Readers take no lock that
// is held during I/O. It counts references: what a reader holds stays readable
// when the segment is closed or deleted meanwhile.
package segment

import (
	"errors"
	"fmt"
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
	IndexInterval int       // bytes of batches between index entries
	Created       time.Time // stands for the first timestamp if batches have none
	Check         bool      // read indexes whole before trusting them
}

// Segment is one segment. The methods that change it are for one goroutine at a
// time.
type Segment struct {
	fs       vfs.FS
	dir      string
	base     int64
	interval int
	created  time.Time

	offsets *index.Offset
	times   *index.Time

	refs      atomic.Int64 // the owner's and the readers'
	dirSynced atomic.Bool  // the files' directory entries are durable
	discard   atomic.Bool  // the last release writes nothing more

	mu     sync.Mutex // guards what follows; never held during I/O
	file   vfs.File   // nil until the first append
	size   int64      // bytes
	next   int64      // offset after the last batch
	recent *recent

	// The writer's.
	sinceEntry int             // bytes since the last index entry
	first      int64           // largest timestamp of the first batch in ms; -1 unknown
	maxKnown   bool            // max is set
	dirty      bool            // the indexes lack the last entry
	max        index.TimeEntry // largest timestamp and its batch's last offset
	maxSeen    atomic.Int64    // max.Timestamp for readers; noMax if not known
}

const noMax = -2

// Create returns an empty segment. Its files are made by the first append.
func Create(o Options) (*Segment, error) {
	s := newSegment(o)
	if err := s.openIndexes(0); err != nil {
		return nil, err
	}
	s.maxKnown, s.max = true, index.TimeEntry{Timestamp: -1, Offset: o.Base}
	s.maxSeen.Store(-1)
	return s, nil
}

func newSegment(o Options) *Segment {
	s := &Segment{fs: o.FS, dir: o.Dir, base: o.Base, interval: o.IndexInterval, created: o.Created, next: o.Base, first: -1}
	s.refs.Store(1)
	s.maxSeen.Store(noMax)
	return s
}

// Open opens the files of a segment. The offset after its last batch is end, if
// the caller knows it, or else -1, and is then read from the file. Indexes that
// are missing or cannot be right are rebuilt, without checking what is in the
// batches; see Recover for that.
func Open(o Options, end int64) (*Segment, error) {
	s := newSegment(o)
	s.dirSynced.Store(true)
	f, err := o.FS.OpenFile(s.name(LogSuffix), os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	s.file = f
	if s.size, err = f.Size(); err != nil {
		f.Close()
		return nil, err
	}
	if err := s.load(o, end); err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

// OpenToRecover opens a segment whose tail may be torn and whose indexes are not
// to be trusted: they are dropped. Call Recover before anything else.
func OpenToRecover(o Options) (*Segment, error) {
	s := newSegment(o)
	f, err := o.FS.OpenFile(s.name(LogSuffix), os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	s.file = f
	if s.size, err = f.Size(); err == nil {
		err = s.dropIndexes()
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

func (s *Segment) load(o Options, end int64) error {
	err := s.openIndexes(s.size)
	if err == nil && o.Check {
		if err = s.offsets.Check(); err == nil {
			err = s.times.Check()
		}
	}
	// A time index that was completed has an entry, unless no batch has a timestamp.
	missing := err == nil && s.size > 0 && (!s.offsets.Exists() || !s.times.Exists() || s.times.Len() == 0)
	if missing || errors.Is(err, index.ErrCorrupt) {
		if err = s.dropIndexes(); err == nil {
			err = s.reindex()
		}
		return err
	}
	if err != nil {
		return err
	}
	if end >= 0 {
		s.next = end
		return nil
	}
	return s.findEnd()
}

// abandon closes files without writing.
func (s *Segment) abandon() {
	if s.file != nil {
		s.file.Close()
	}
}

func (s *Segment) name(suffix string) string { return FileName(s.dir, s.base, suffix) }

func (s *Segment) openIndexes(size int64) (err error) {
	if s.offsets, err = index.OpenOffset(s.fs, s.name(IndexSuffix), s.base, size); err != nil {
		return err
	}
	s.times, err = index.OpenTime(s.fs, s.name(TimeSuffix), s.base)
	return err
}

// dropIndexes removes the index files and starts empty ones.
func (s *Segment) dropIndexes() error {
	for _, suffix := range []string{IndexSuffix, TimeSuffix} {
		if err := s.fs.Remove(s.name(suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return s.openIndexes(0)
}

// reindex rebuilds the indexes from the headers of the batches.
func (s *Segment) reindex() error {
	s.resetPosition()
	err := s.Scan(0, s.size, HeadersOnly, func(b record.Batch, pos int64) (bool, error) {
		return true, s.note(Describe(b), pos)
	})
	if err != nil {
		return err
	}
	return s.finishIndexes()
}

func (s *Segment) resetPosition() {
	s.dirty = true
	s.next, s.first, s.sinceEntry = s.base, -1, 0
	s.maxKnown, s.max = true, index.TimeEntry{Timestamp: -1, Offset: s.base}
	s.maxSeen.Store(-1)
	s.recent = nil
}

// findEnd reads batch headers from the last index entry on.
func (s *Segment) findEnd() error {
	e, ok, err := s.offsets.LastEntry()
	if err != nil {
		return err
	}
	from, next := int64(0), s.base
	if ok {
		from, next = e.Position, e.Offset+1
	}
	err = s.Scan(from, s.size, HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
		next = Describe(b).Last + 1
		return true, nil
	})
	s.mu.Lock()
	s.next = next
	s.mu.Unlock()
	return err
}

// Base returns the base offset.
func (s *Segment) Base() int64 { return s.base }

// Size returns the number of bytes of batches.
func (s *Segment) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// Next returns the offset after the last batch.
func (s *Segment) Next() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Append writes whole batches, whose offsets rise and lie above those before,
// with one write. After an error none of them is readable; the caller must not
// append again.
func (s *Segment) Append(b []byte) error {
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	pos := s.size
	if _, err := s.file.WriteAt(b, pos); err != nil {
		// Bytes beyond size are not readable. Taking them back spares the next
		// start a torn tail.
		s.file.Truncate(pos)
		return fmt.Errorf("write %s at byte %d: %w", s.name(LogSuffix), pos, err)
	}
	if !s.maxKnown {
		if _, err := s.MaxTimestamp(); err != nil {
			return err
		}
	}
	for rest := b; len(rest) > 0; {
		batch, next, err := record.Next(rest)
		if batch == nil {
			return err
		}
		if err := s.note(Describe(batch), pos); err != nil {
			return err
		}
		pos += int64(len(batch))
		rest = next
	}
	s.mu.Lock()
	s.size = pos
	s.mu.Unlock()
	return nil
}

// create makes the data file.
func (s *Segment) create() error {
	f, err := s.fs.Create(s.name(LogSuffix))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.file = f
	s.mu.Unlock()
	return nil
}

// note enters one batch at pos: an index entry, if enough bytes went by since
// the last one, and the largest timestamp (LogSegment.append).
func (s *Segment) note(b Info, pos int64) error {
	s.dirty = true
	if pos == 0 {
		s.first = b.MaxTimestamp
	}
	if b.MaxTimestamp > s.max.Timestamp {
		s.max = index.TimeEntry{Timestamp: b.MaxTimestamp, Offset: b.Last}
		s.maxSeen.Store(b.MaxTimestamp)
	}
	if s.sinceEntry > s.interval {
		if err := s.offsets.Append(b.Last, pos); err != nil {
			return err
		}
		if err := s.times.Append(s.max); err != nil {
			return err
		}
		s.sinceEntry = 0
	}
	s.sinceEntry += b.Size
	s.mu.Lock()
	if s.recent == nil {
		s.recent = &recent{from: s.next}
	}
	s.recent.add(b.Last, pos, pos+int64(b.Size))
	s.next = b.Last + 1
	s.mu.Unlock()
	return nil
}

// Fits reports whether a batch with that last offset can go into this segment.
func (s *Segment) Fits(last int64) bool { return s.offsets.Fits(last) }

// IndexFull reports whether the indexes have no room for another entry in files
// of that many bytes.
func (s *Segment) IndexFull(bytes int) bool {
	return s.offsets.Len() >= bytes/8 || s.times.Len() >= bytes/12-1
}

// Age returns how much time lies between the first batch and ts, the largest
// timestamp in ms that is to be appended; without timestamps, between the making
// of the segment and now.
func (s *Segment) Age(ts int64, now time.Time) time.Duration {
	if s.first < 0 && s.Size() > 0 {
		s.Scan(0, s.size, HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
			s.first = Describe(b).MaxTimestamp
			return false, nil
		})
	}
	if s.first >= 0 {
		return time.Duration(ts-s.first) * time.Millisecond
	}
	return now.Sub(s.created)
}

// MaxTimestamp returns the largest timestamp in ms and the last offset of the
// batch that holds it; -1 and the base offset if there is none.
func (s *Segment) MaxTimestamp() (index.TimeEntry, error) {
	if s.maxKnown {
		return s.max, nil
	}
	e, err := s.times.LastEntry()
	if err != nil {
		return e, err
	}
	// The index may end before the last batches.
	err = s.rescanMax(e)
	return s.max, err
}

func (s *Segment) rescanMax(e index.TimeEntry) error {
	from, err := s.offsets.Lookup(e.Offset)
	if err != nil {
		return err
	}
	err = s.Scan(from.Position, s.size, HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
		if d := Describe(b); d.MaxTimestamp > e.Timestamp {
			e = index.TimeEntry{Timestamp: d.MaxTimestamp, Offset: d.Last}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	s.maxKnown, s.max = true, e
	s.maxSeen.Store(e.Timestamp)
	return nil
}

// Largest returns the largest timestamp in ms, -1 if there is none, for readers.
func (s *Segment) Largest() (int64, error) {
	if ts := s.maxSeen.Load(); ts != noMax {
		return ts, nil
	}
	e, err := s.times.LastEntry()
	return e.Timestamp, err
}

// finishIndexes gives the time index its last entry and hands both indexes to
// the file system.
func (s *Segment) finishIndexes() error {
	if s.file == nil || !s.dirty {
		return nil
	}
	e, err := s.MaxTimestamp()
	if err != nil {
		return err
	}
	if err := s.times.Append(e); err != nil {
		return err
	}
	if err := s.offsets.Write(); err != nil {
		return err
	}
	if err := s.times.Write(); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// Seal ends appending: the indexes are completed and all is made durable.
func (s *Segment) Seal() error {
	if err := s.finishIndexes(); err != nil {
		return err
	}
	s.mu.Lock()
	s.recent = nil
	s.mu.Unlock()
	return s.Flush()
}

// Flush makes all that was appended, and the indexes, durable.
func (s *Segment) Flush() error {
	if err := s.offsets.Flush(); err != nil {
		return err
	}
	if err := s.times.Flush(); err != nil {
		return err
	}
	return s.Sync()
}

// Sync makes the batches durable that were appended before the call. Unlike the
// other methods it may run beside one that changes the segment.
func (s *Segment) Sync() error {
	if !s.acquire() {
		return ErrClosed
	}
	defer s.release()
	s.mu.Lock()
	file := s.file
	s.mu.Unlock()
	if file == nil {
		return nil
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.name(LogSuffix), err)
	}
	if s.dirSynced.Load() {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("sync %s: %w", s.dir, err)
	}
	s.dirSynced.Store(true)
	return nil
}

// Truncate drops every batch that ends at or after offset, durably.
func (s *Segment) Truncate(offset int64) error {
	if s.file == nil || offset >= s.next {
		return nil
	}
	pos, _, err := s.locate(offset)
	if err != nil {
		return err
	}
	return s.truncate(offset, pos)
}

// truncate cuts the file at byte pos and the indexes at offset.
func (s *Segment) truncate(offset, pos int64) error {
	if err := s.offsets.Truncate(offset); err != nil {
		return err
	}
	if err := s.times.Truncate(offset); err != nil {
		return err
	}
	s.mu.Lock()
	s.size, s.recent = pos, nil
	s.mu.Unlock()
	if err := s.file.Truncate(pos); err != nil {
		return fmt.Errorf("truncate %s to %d bytes: %w", s.name(LogSuffix), pos, err)
	}
	if err := s.findEnd(); err != nil {
		return err
	}
	s.sinceEntry, s.dirty = 0, true
	if pos == 0 {
		s.first = -1
	}
	e, err := s.times.LastEntry()
	if err != nil {
		return err
	}
	if err := s.rescanMax(e); err != nil {
		return err
	}
	return s.Flush()
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
	closeOffsets, closeTimes := s.offsets.Close, s.times.Close
	if s.discard.Load() {
		closeOffsets, closeTimes = s.offsets.Discard, s.times.Discard
	}
	err := closeOffsets()
	if e := closeTimes(); err == nil {
		err = e
	}
	if s.file != nil {
		if e := s.file.Close(); err == nil {
			err = e
		}
	}
	return err
}

// Close completes the indexes and gives the owner's reference up. Files close
// with the last reference. It does not sync.
func (s *Segment) Close() error {
	err := s.finishIndexes()
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

// Delete removes the files and gives the owner's reference up. The caller syncs
// the directory.
func (s *Segment) Delete() error {
	s.discard.Store(true)
	err := RemoveFiles(s.fs, s.dir, s.base)
	if e := s.release(); err == nil {
		err = e
	}
	return err
}
