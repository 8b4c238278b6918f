package segment

import (
	"encoding/binary"
	"fmt"

	"github.com/klamm-io/klamm/wire/record"
)

// DamagedError means that a batch is invalid though a valid one follows it: not
// the end of a write that a crash cut short, but damage. Nothing was changed.
type DamagedError struct {
	File  string
	Pos   int64 // byte at which the invalid batch begins
	Valid int64 // byte at which a later one is valid
	Err   error // what is wrong at Pos
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d (%v), but valid at byte %d", e.File, e.Pos, e.Err, e.Valid)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Recover checks every batch, rebuilds both indexes, cuts a torn tail off and
// makes all durable. It calls visit for each valid batch, in order, and returns
// the number of bytes cut. Recovering again changes nothing. A *DamagedError
// leaves the data file as it is.
func (s *Segment) Recover(visit func(record.Batch) error) (cut int64, err error) {
	if err := s.offsets.Reset(); err != nil {
		return 0, err
	}
	if err := s.times.Reset(); err != nil {
		return 0, err
	}
	s.resetPosition()
	valid := int64(0)
	var bad error
	err = s.Scan(0, s.size, WholeBatch, func(b record.Batch, pos int64) (bool, error) {
		if bad = s.verify(b); bad != nil {
			return false, nil
		}
		if err := s.note(Describe(b), pos); err != nil {
			return false, err
		}
		valid = pos + int64(len(b))
		return true, visit(b)
	})
	if bad == nil && err != nil {
		if !isInvalid(err) {
			return 0, err
		}
		bad, err = err, nil
	}
	if err != nil {
		return 0, err
	}
	if bad != nil {
		later, err := s.findValid(valid)
		if err != nil {
			return 0, err
		}
		if later >= 0 {
			return 0, &DamagedError{s.name(LogSuffix), valid, later, bad}
		}
	}
	cut = s.size - valid
	if cut > 0 {
		if err := s.file.Truncate(valid); err != nil {
			return 0, err
		}
		s.size = valid
	}
	if err := s.finishIndexes(); err != nil {
		return cut, err
	}
	return cut, s.Flush()
}

// verify checks one batch whole, and that it belongs after those before.
func (s *Segment) verify(b record.Batch) error {
	if b.Magic() < record.Magic {
		if _, err := record.ReadLegacy(nil, b, 0); err != nil {
			return err
		}
	} else if err := b.Validate(); err != nil {
		return err
	}
	if d := Describe(b); d.Base < s.next || d.Last < d.Base || !s.offsets.Fits(d.Last) {
		return fmt.Errorf("%w: offsets %d to %d after %d, base offset %d", record.ErrCorrupt, d.Base, d.Last, s.next-1, s.base)
	}
	return nil
}

// findValid looks for a valid batch anywhere after byte from, where one is
// invalid. It returns -1 if there is none. What looks like a batch must have
// offsets that could follow, so that record values that happen to contain
// batches are mostly not taken for them.
func (s *Segment) findValid(from int64) (int64, error) {
	const window = 1 << 20
	for at := from + 1; at+record.HeaderSize <= s.size; at += window {
		buf := make([]byte, min(window+record.HeaderSize, s.size-at))
		if err := fill(s.file, buf, at); err != nil {
			return -1, err
		}
		for i := 0; i+record.HeaderSize <= len(buf) && i < window; i++ {
			if !s.plausible(buf[i:], at+int64(i)) {
				continue
			}
			b := make([]byte, record.Batch(buf[i:]).Size())
			if err := fill(s.file, b, at+int64(i)); err != nil {
				return -1, err
			}
			if record.Batch(b).Validate() == nil {
				return at + int64(i), nil
			}
		}
	}
	return -1, nil
}

func (s *Segment) plausible(h []byte, pos int64) bool {
	if h[16] != record.Magic {
		return false
	}
	size := int64(int32(binary.BigEndian.Uint32(h[8:]))) + record.LogOverhead
	if size < record.HeaderSize || size > s.size-pos {
		return false
	}
	base := record.Batch(h).BaseOffset()
	return base >= s.next && s.offsets.Fits(record.Batch(h).LastOffset()) && record.Batch(h).LastOffset() >= base
}
