package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/klamm-io/klamm/wire/record"
)

// DamagedError means that a batch is invalid though a valid one follows it, or
// that its offsets are wrong though its CRC is right: not the end of a write that
// a crash cut short, but damage. Nothing was changed.
type DamagedError struct {
	File  string
	Pos   int64 // byte at which the wrong batch begins
	Valid int64 // byte at which a later one is valid, or Pos
	Err   error // what is wrong at Pos
}

func (e *DamagedError) Error() string {
	if e.Valid == e.Pos {
		return fmt.Sprintf("%s is damaged at byte %d: %v", e.File, e.Pos, e.Err)
	}
	return fmt.Sprintf("%s is damaged at byte %d (%v), but valid at byte %d", e.File, e.Pos, e.Err, e.Valid)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Recover checks the batches, rebuilds both indexes and cuts a torn tail off.
// Batches that end below offset from were checked before and are known to be on
// disk: of them only the headers are read. It returns the number of bytes cut.
// Recovering again changes nothing. A *DamagedError leaves the data file as it
// is. Only a cut is synced; Flush does the rest. checked, if not nil, is called with the number of bytes that were
// gone through.
func (s *Segment) Recover(from int64, checked func(bytes int64)) (cut int64, err error) {
	s.resetPosition()
	x, err := s.indexes()
	if err != nil {
		return 0, err
	}
	valid := int64(0)
	var bad, displaced error
	pass := func(mode ScanMode, until int64) error {
		err := s.Scan(valid, s.size, mode, func(b record.Batch, pos int64) (bool, error) {
			if mode == HeadersOnly && (s.next >= until || Describe(b).Last >= until) {
				return false, nil
			}
			if bad = s.verify(b, mode); bad != nil {
				return false, nil
			}
			if displaced = s.displaced(b, pos); displaced != nil {
				if mode == WholeBatch && s.halfWritten(b, pos) {
					bad, displaced = displaced, nil
					return false, nil
				}
				return false, displaced
			}
			d := Describe(b)
			s.observe(d, pos)
			if err := s.indexer.add(x, d.Last, d.MaxTimestamp, pos, d.Size); err != nil {
				return false, err
			}
			s.next = d.Last + 1
			valid = pos + int64(d.Size)
			if checked != nil {
				checked(int64(d.Size))
			}
			return true, x.spill()
		})
		if isInvalid(err) {
			bad, err = err, nil
		}
		return err
	}
	if from > s.base {
		err = pass(HeadersOnly, from)
	}
	if err == nil && bad == nil {
		err = pass(WholeBatch, 0)
	}
	if displaced != nil {
		return 0, &DamagedError{s.name(LogSuffix), valid, valid, displaced}
	}
	if err != nil {
		return 0, err
	}
	if bad != nil {
		later, err := s.findLater(valid, s.next < from)
		if err != nil {
			return 0, err
		}
		if later >= 0 {
			return 0, &DamagedError{s.name(LogSuffix), valid, later, bad}
		}
	}
	if cut = s.size - valid; cut > 0 {
		f, err := s.file()
		if err != nil {
			return 0, err
		}
		// It must not come back: where all before it is known to be on disk, nobody
		// syncs the file again.
		if err := errors.Join(f.Truncate(valid), f.Sync()); err != nil {
			return 0, err
		}
		s.size = valid
	}
	return cut, s.Complete()
}

// verify checks one batch.
func (s *Segment) verify(b record.Batch, mode ScanMode) error {
	if mode == HeadersOnly {
		return nil // it was checked before
	}
	if b.Magic() < record.Magic {
		_, err := record.ReadLegacy(nil, b, 0)
		return err
	}
	return b.Validate()
}

// displaced reports that the offsets of a batch, which no CRC covers, cannot be
// where they are: they do not follow those before, or the next batch begins with
// an offset between. No write that was cut short leaves that.
func (s *Segment) displaced(b record.Batch, pos int64) error {
	d := Describe(b)
	if d.Base < s.next || d.Last < d.Base || !s.Fits(d.Last) {
		return fmt.Errorf("%w: offsets %d to %d after %d, base offset %d", record.ErrCorrupt, d.Base, d.Last, s.next-1, s.base)
	}
	if after := pos + int64(d.Size); d.Base > s.next && after+8 <= s.size {
		f, err := s.file()
		if err != nil {
			return err
		}
		var head [8]byte
		if err := fill(f, head[:], after); err != nil {
			return err
		}
		if next := int64(binary.BigEndian.Uint64(head[:])); next >= s.next && next <= d.Last {
			return fmt.Errorf("%w: offsets %d to %d after %d, and the next batch begins with %d", record.ErrCorrupt, d.Base, d.Last, s.next-1, next)
		}
	}
	return nil
}

// halfWritten reports whether a batch, whose CRC is right, has the base offset
// that follows but for bytes that are 0 up to the end of a sector: that sector
// never reached the disk, as a power cut may have it.
func (s *Segment) halfWritten(b record.Batch, pos int64) bool {
	const sector, offset, length = 512, 8, 4
	lost := sector - pos%sector
	if lost >= offset+length {
		return false
	}
	mask := uint64(math.MaxUint64) >> (8 * min(lost, offset))
	return uint64(b.BaseOffset()) == uint64(s.next)&mask
}
