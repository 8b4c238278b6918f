package segment

import (
	"errors"
	"fmt"
	"os"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// Seal ends appending: the indexes are completed. Flush makes it all durable.
func (s *Segment) Seal() error {
	if err := s.Complete(); err != nil {
		return err
	}
	s.mu.Lock()
	s.tail = tail{}
	s.mu.Unlock()
	if s.opened.Load() && s.preallocate > 0 {
		return s.data.Truncate(s.size) // gives back what was reserved
	}
	return nil
}

// Flush makes a sealed segment durable, with its indexes.
func (s *Segment) Flush() error {
	if !s.acquire() {
		return ErrClosed
	}
	defer s.release()
	if x := s.index.Load(); x != nil {
		if err := errors.Join(x.offsets.Flush(), x.times.Flush()); err != nil {
			return err
		}
	}
	return s.sync()
}

// Sync makes the batches durable that were appended before the call. It may run
// beside a method that changes the segment.
func (s *Segment) Sync() error {
	if !s.acquire() {
		return ErrClosed
	}
	defer s.release()
	return s.sync()
}

func (s *Segment) sync() error {
	if !s.opened.Load() {
		return nil // it was not written to since it was opened
	}
	if err := s.data.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", FileName(s.dir, s.base, LogSuffix), err)
	}
	return s.syncNames()
}

// syncNames makes the files' directory entries durable.
func (s *Segment) syncNames() error {
	if s.dirSynced.Load() {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return fmt.Errorf("sync %s: %w", s.dir, err)
	}
	s.dirSynced.Store(true)
	return nil
}

// Materialize makes the data file of an empty segment, so that its name tells the
// log's end, durably.
func (s *Segment) Materialize() error {
	if !s.opened.Load() {
		if err := s.create(); err != nil {
			return err
		}
	}
	return s.Sync()
}

// Truncate drops every batch that ends at or after offset, durably. It returns where the
// log ends then: at offset, or at the beginning of the batch that held it. Next may be
// below, where compaction has left nothing of the records before it.
func (s *Segment) Truncate(offset int64) (end int64, err error) {
	if s.size == 0 || offset >= s.next {
		return offset, nil
	}
	pos, _, err := s.locate(offset)
	if err != nil {
		return 0, err
	}
	end = offset
	err = s.Scan(pos, s.size, HeadersOnly, func(b record.Batch, _ int64) (bool, error) {
		end = min(end, Describe(b).Base)
		return false, nil
	})
	if err != nil {
		return 0, err
	}
	return end, s.truncate(offset, pos)
}

// truncate cuts the file at byte pos and the indexes at offset.
func (s *Segment) truncate(offset, pos int64) error {
	x, err := s.indexes()
	if err != nil {
		return err
	}
	f, err := s.file()
	if err != nil {
		return err
	}
	if err := s.enterAll(x); err != nil {
		return err
	}
	if err := errors.Join(x.offsets.Truncate(offset), x.times.Truncate(offset)); err != nil {
		return err
	}
	s.mu.Lock()
	s.size, s.tail = pos, tail{}
	s.mu.Unlock()
	if err := f.Truncate(pos); err != nil {
		return fmt.Errorf("truncate %s to %d bytes: %w", s.name(LogSuffix), pos, err)
	}
	if err := s.findEnd(); err != nil {
		return err
	}
	s.indexer.since, s.dirty = 0, true
	if pos == 0 {
		s.first.Store(-1)
	}
	e, err := x.times.LastEntry()
	if err != nil {
		return err
	}
	if err := s.rescanMax(x, e); err != nil {
		return err
	}
	return s.Flush()
}

// files are the suffixes of the files of a segment, the data file first: without
// it the others are nothing. The transaction index is the log's.
var files = []string{LogSuffix, IndexSuffix, TimeSuffix}

// SetSuffix renames the files so that suffix stands behind their names. The
// caller syncs the directory.
func (s *Segment) SetSuffix(suffix string) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if err := RenameFiles(s.fs, s.dir, s.base, s.suffix, suffix); err != nil {
		return err
	}
	s.suffix = suffix
	return nil
}

// Retire is SetSuffix(DeletedSuffix) for a segment that is no longer part of the
// log, and gives the owner's reference up. It returns the names of files that
// are to be removed later.
func (s *Segment) Retire() ([]string, error) {
	s.discard.Store(true)
	err := s.SetSuffix(DeletedSuffix)
	if e := s.release(); err == nil {
		err = e
	}
	var names []string
	for _, f := range files {
		names = append(names, FileName(s.dir, s.base, f)+DeletedSuffix)
	}
	return names, err
}

// Delete removes the files and gives the owner's reference up. The caller syncs
// the directory.
func (s *Segment) Delete() error {
	s.discard.Store(true)
	s.opening.Lock() // a caller that makes indexes right now is waited for
	suffix := s.suffix
	s.opening.Unlock()
	if s.refs.CompareAndSwap(1, 0) {
		// Nobody reads: what is closed before it is removed need not be kept open.
		err := s.closeFiles()
		if e := RemoveFiles(s.fs, s.dir, s.base, suffix); err == nil {
			err = e
		}
		return err
	}
	err := RemoveFiles(s.fs, s.dir, s.base, suffix)
	if e := s.release(); err == nil {
		err = e
	}
	return err
}

// RenameFiles renames the files of a segment that is not open: the suffix from
// behind their names becomes to.
func RenameFiles(fs vfs.FS, dir string, base int64, from, to string) error {
	for _, f := range files {
		name := FileName(dir, base, f)
		if err := fs.Rename(name+from, name+to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
