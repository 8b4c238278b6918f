package quorum

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// startFile holds "index offset" of the first entry kept.
const startFile = "raft-start"

// Log is raft's log on a partition log. A failed write or sync poisons it:
// raft would try again and could then report as durable what is not (D4).
type Log struct {
	log  *log.Log
	fs   vfs.FS
	dir  string
	disk *disk

	// changing is held by who changes the log, until the disk has done it. A channel, since
	// that may be never.
	changing chan struct{}

	// mu guards the fields below, which who holds changing alone changes. It is not held
	// over I/O.
	mu      sync.RWMutex
	first   uint64  // index of the first entry; meaningless while offsets is empty
	next    uint64  // index that the next entry must have; 0 any
	offsets []int64 // base offset of every entry
	end     int64   // offset behind the last entry. The log's own is that of what is being written
	cuts    uint64  // how often entries were taken off

	// installed is the snapshot that took the place of the whole log, if one did.
	installed struct {
		index uint64 // of its last entry; 0 for none
		end   int64  // offset behind that
	}
}

// Poisons has f called once with the storage error after which nothing more is
// stored. f must not block, nor use the Log.
func (s *Log) Poisons(f func(error)) { s.disk.failing(f) }

// replacedBy notes that a snapshot from the leader, of what comes before the offset
// end, is to take the place of the log. What follows has the offsets that it has at
// the leader.
func (s *Log) replacedBy(index uint64, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.installed.index, s.installed.end = index, end
}

// OpenLog returns raft's log on l, whose directory is dir of fs. The Log does
// not own l.
func OpenLog(l *log.Log, fs vfs.FS, dir string) (*Log, error) {
	s := &Log{log: l, fs: fs, dir: dir, disk: newDisk(nil), changing: make(chan struct{}, 1)}
	index, offset := uint64(1), int64(0)
	text, err := vfs.ReadFile(fs, s.startPath())
	switch {
	case err == nil:
		a, b, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		var err1, err2 error
		index, err1 = strconv.ParseUint(a, 10, 64)
		offset, err2 = strconv.ParseInt(b, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", s.startPath(), err)
		}
	case !errors.Is(err, iofs.ErrNotExist):
		return nil, err
	}
	s.first, s.next = index, index
	err = l.Each(max(offset, l.StartOffset()), l.EndOffset(), func(b record.Batch) error {
		s.offsets = append(s.offsets, b.BaseOffset())
		s.next++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("metadata log: %w", err)
	}
	s.end = l.EndOffset()
	l.SetHighWatermark(s.end) // what is committed is raft's to know
	return s, nil
}

func (s *Log) startPath() string { return s.dir + "/" + startFile }

// FirstIndex returns the index of the first entry, 0 for none.
func (s *Log) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.offsets) == 0 {
		return 0, nil
	}
	return s.first, nil
}

// LastIndex returns the index of the last entry, 0 for none.
func (s *Log) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.offsets) == 0 {
		return 0, nil
	}
	return s.first + uint64(len(s.offsets)) - 1, nil
}

// GetLog reads the entry at index.
//
// Raft panics where it cannot read an entry that it is to apply, and would take other
// brokers of this process with it. Instead its goroutine ends, as the node is to: see
// Poisons. Everywhere else raft takes the error.
func (s *Log) GetLog(index uint64, l *raft.Log) error {
	var found raft.Log
	err := s.disk.read(func() error { return s.read(index, &found) })
	if err == nil {
		*l = found
		return nil
	}
	if errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	err = s.fail(err)
	if applying() {
		runtime.Goexit()
	}
	return err
}

// applying reports whether raft's goroutine that applies entries calls.
func applying() bool {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "raft.(*Raft).processLogs") {
			return true
		}
		if !more {
			return false
		}
	}
}

// read reads an entry. Others may take entries off meanwhile.
func (s *Log) read(index uint64, l *raft.Log) error {
	for {
		s.mu.RLock()
		if len(s.offsets) == 0 || index < s.first || index-s.first >= uint64(len(s.offsets)) {
			s.mu.RUnlock()
			return raft.ErrLogNotFound
		}
		offset, cuts := s.offsets[index-s.first], s.cuts
		s.mu.RUnlock()
		err := s.readAt(offset, index, l)
		s.mu.RLock()
		cut := s.cuts != cuts
		s.mu.RUnlock()
		if !cut {
			return err
		}
	}
}

func (s *Log) readAt(offset int64, index uint64, l *raft.Log) error {
	region, err := s.log.Read(offset, s.log.EndOffset(), 1, true)
	if err != nil {
		return fmt.Errorf("metadata entry %d: %w", index, err)
	}
	defer region.Release()
	data, err := region.Bytes()
	if err != nil {
		return fmt.Errorf("metadata entry %d: %w", index, err)
	}
	b, _, err := record.Next(data)
	if err == nil {
		err = b.Validate()
	}
	if err != nil {
		return fmt.Errorf("metadata entry %d: %w", index, err)
	}
	return decodeEntry(b, index, l)
}

// StoreLog stores one entry durably.
func (s *Log) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries durably.
func (s *Log) StoreLogs(logs []*raft.Log) error {
	sealed := make([]raft.Log, len(logs)) // raft may change its own once this has returned
	for i, l := range logs {
		if err := seal(l); err != nil {
			return err
		}
		sealed[i] = *l
	}
	return s.change("store entries", func() error { return s.store(sealed) })
}

// change runs what changes the log, on its own.
func (s *Log) change(what string, act func() error) error {
	select {
	case s.changing <- struct{}{}:
	case <-s.disk.failed:
		return s.disk.err()
	}
	return s.disk.write(func() error {
		defer func() { <-s.changing }()
		defer s.disk.dog.Begin(what, s.dir)()
		return act()
	})
}

func (s *Log) store(logs []raft.Log) error {
	offsets, next := make([]int64, 0, len(logs)), s.next
	for i := range logs {
		l := &logs[i]
		if len(s.offsets) == 0 && i == 0 && l.Index != next {
			// After a snapshot from the leader the log goes on behind it.
			if err := s.restart(l.Index); err != nil {
				return err
			}
			next = l.Index
		}
		if l.Index != next {
			return fmt.Errorf("metadata entry %d stored where %d is next", l.Index, next)
		}
		b, err := encodeEntry(l)
		if err != nil {
			return err
		}
		base := s.log.EndOffset()
		b.SetBaseOffset(base)
		if _, err := s.log.AppendAsFollower(b); err != nil {
			return s.fail(err)
		}
		offsets = append(offsets, base)
		next++
	}
	if err := s.log.Flush(); err != nil {
		return s.fail(err)
	}
	s.log.SetHighWatermark(s.log.EndOffset())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offsets, s.next, s.end = append(s.offsets, offsets...), next, s.log.EndOffset()
	return nil
}

// Poisoned returns the storage error after which nothing more is stored, or
// nil.
func (s *Log) Poisoned() error { return s.disk.err() }

// fail notes the first storage error, and returns it.
func (s *Log) fail(err error) error {
	return s.disk.fail(fmt.Errorf("metadata log is offline: %w", err))
}

// restart makes index the next entry's, in a log without entries.
func (s *Log) restart(index uint64) error {
	s.mu.RLock()
	installed := s.installed
	s.mu.RUnlock()
	if installed.index == index-1 && installed.end != s.log.EndOffset() {
		if err := s.log.TruncateFullyAndStartAt(installed.end); err != nil {
			return s.fail(err)
		}
	}
	// Raft would try again after an error, and nothing would say where the log begins.
	if err := s.writeStart(index, s.log.EndOffset()); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.next, s.end = index, index, s.log.EndOffset()
	return nil
}

func (s *Log) writeStart(index uint64, offset int64) error {
	return vfs.WriteFileAtomic(s.fs, s.startPath(), fmt.Appendf(nil, "%d %d\n", index, offset))
}

// DeleteRange deletes the entries from low to high, both included, which is a
// prefix or a suffix of the log.
func (s *Log) DeleteRange(low, high uint64) error {
	return s.change("delete entries", func() error { return s.deleteRange(low, high) })
}

func (s *Log) deleteRange(low, high uint64) error {
	if len(s.offsets) == 0 {
		return nil
	}
	last := s.first + uint64(len(s.offsets)) - 1
	low, high = max(low, s.first), min(high, last)
	switch {
	case low > high:
		return nil
	case low == s.first: // a prefix, or all
		offset := s.end
		if high < last {
			offset = s.offsets[high+1-s.first]
		}
		if err := s.writeStart(high+1, offset); err != nil {
			return s.fail(err)
		}
		s.cut(high+1, last+1, append([]int64(nil), s.offsets[high+1-s.first:]...), s.end) // before it is gone
		if err := s.log.AdvanceStart(offset); err != nil {
			return s.fail(err)
		}
		if _, err := s.log.Retain(time.Time{}); err != nil { // what is below the start goes, whatever its age
			return s.fail(err)
		}
	case high == last:
		offset := s.offsets[low-s.first]
		s.cut(s.first, low, append([]int64(nil), s.offsets[:low-s.first]...), offset) // before others take its place
		if err := s.log.TruncateTo(offset); err != nil {
			return s.fail(err)
		}
	default:
		return fmt.Errorf("metadata entries %d to %d are in the middle of %d to %d", low, high, s.first, last)
	}
	return nil
}

// cut takes entries off, so that nobody begins to read them any more.
func (s *Log) cut(first, next uint64, offsets []int64, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.next, s.offsets, s.end = first, next, offsets, end
	s.cuts++
}

// IsMonotonic tells raft that entries have no gaps.
func (s *Log) IsMonotonic() bool { return true }

// endOffset returns the offset behind the entry at index.
func (s *Log) endOffset(index uint64) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if at := index + 1 - s.first; index+1 >= s.first && at < uint64(len(s.offsets)) {
		return s.offsets[at]
	}
	return s.end
}

// lastOffset returns the offset behind the last entry.
func (s *Log) lastOffset() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.end
}
