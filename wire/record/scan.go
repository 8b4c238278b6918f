package record

import (
	"encoding/binary"
	"fmt"
)

// Scanner walks plain record bytes and finds of each record what compaction asks
// for. It decodes no headers, checks that they lie inside the record but not
// what they hold, and allocates nothing. The zero value is ready for Reset. It is
// owned by one goroutine.
type Scanner struct {
	Start, End     int // of the record in the bytes, with its length
	Rest           int // where the offset delta begins: after length, attributes and timestamp
	TimestampDelta int64
	OffsetDelta    int32
	Key            []byte // aliases the bytes; nil is null
	NullValue      bool

	b        []byte
	i, count int32
	err      error
}

// Reset makes it walk count records that must fill b exactly.
func (s *Scanner) Reset(b []byte, count int32) {
	*s = Scanner{b: b, count: count}
}

// Err returns the error that ended the walk, or nil. It wraps ErrCorrupt.
func (s *Scanner) Err() error { return s.err }

// Next moves to the next record and reports whether there is one.
func (s *Scanner) Next() bool {
	if s.err != nil {
		return false
	}
	s.Start = s.End
	if s.i >= s.count {
		if s.Start < len(s.b) {
			s.err = fmt.Errorf("%w: %d bytes after the last of %d records", ErrCorrupt, len(s.b)-s.Start, s.count)
		}
		return false
	}
	if !s.fast() {
		if s.err = s.slow(); s.err != nil {
			return false
		}
	}
	s.i++
	return true
}

// fast takes the varints of most records, those of at most three bytes, from
// three loads; see Walk.
func (s *Scanner) fast() bool {
	b, pos := s.b, s.Start
	if pos+8 > len(b) {
		return false
	}
	u := binary.LittleEndian.Uint64(b[pos:])
	size, n := lowVarint(u)
	delta, m := lowVarint(u >> (n + 8)) // over the attributes
	body := pos + int(n>>3)
	rest := body + 1 + int(m>>3)
	if n == 0 || m == 0 || rest+8 > len(b) {
		return false
	}
	u = binary.LittleEndian.Uint64(b[rest:])
	offset, n := lowVarint(u)
	key, m := lowVarint(u >> n)
	at := rest + int(n>>3) + int(m>>3)
	keyEnd := at + max(key, 0)
	if n == 0 || m == 0 || key < -1 || keyEnd+8 > len(b) {
		return false
	}
	value, n := lowVarint(binary.LittleEndian.Uint64(b[keyEnd:]))
	end := body + size
	if n == 0 || value < -1 || keyEnd+int(n>>3)+max(value, 0) >= end || end > len(b) {
		return false
	}
	s.End, s.Rest = end, rest
	s.TimestampDelta, s.OffsetDelta = int64(delta), int32(offset)
	s.Key, s.NullValue = nil, value < 0
	if key >= 0 {
		s.Key = b[at:keyEnd:keyEnd]
	}
	return true
}

func (s *Scanner) slow() error {
	pos := s.Start
	size, at := varintAt(s.b, pos)
	if at < 0 || size < 1 || int(size) > len(s.b)-at {
		return fmt.Errorf("%w: record %d of %d: size %d at byte %d of %d", ErrCorrupt, s.i, s.count, size, pos, len(s.b))
	}
	s.End = at + int(size)
	r := s.b[:s.End:s.End]
	if s.TimestampDelta, s.Rest = varlongAt(r, at+1); s.Rest < 0 {
		return badRecord(s.i, pos, "timestamp")
	}
	if s.OffsetDelta, at = varintAt(r, s.Rest); at < 0 {
		return badRecord(s.i, pos, "offset")
	}
	if s.Key, at = bytesAt(r, at); at < 0 {
		return badRecord(s.i, pos, "key")
	}
	n, at := varintAt(r, at)
	if at < 0 || n < -1 || int(n) >= len(r)-at { // there is a header count after it
		return badRecord(s.i, pos, "value")
	}
	if s.NullValue = n < 0; s.NullValue && at >= len(r) {
		return badRecord(s.i, pos, "header count")
	}
	return nil
}
