package record

import (
	"encoding/binary"
	"fmt"

	"github.com/klamm-io/klamm/wire/prim"
)

// varintAt decodes the zigzag varint at b[i:]. The next index is -1 if there is
// none. One-byte values, the common case, are inlined into the caller.
func varintAt(b []byte, i int) (int32, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int32(b[i]>>1) ^ -int32(b[i]&1), i + 1
	}
	return varintSlow(b, i)
}

func varintSlow(b []byte, i int) (int32, int) {
	if i+3 <= len(b) {
		u := uint32(b[i]&0x7f) | uint32(b[i+1]&0x7f)<<7
		if b[i+1] < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i + 2
		}
		if u |= uint32(b[i+2]) << 14; b[i+2] < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i + 3
		}
	}
	if i > len(b) {
		return 0, -1
	}
	v, n := prim.Varint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

func varlongAt(b []byte, i int) (int64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	return varlongSlow(b, i)
}

func varlongSlow(b []byte, i int) (int64, int) {
	if i+3 <= len(b) {
		u := int64(b[i]&0x7f) | int64(b[i+1]&0x7f)<<7
		if b[i+1] < 0x80 {
			return u>>1 ^ -(u & 1), i + 2
		}
		if u |= int64(b[i+2]) << 14; b[i+2] < 0x80 {
			return u>>1 ^ -(u & 1), i + 3
		}
	}
	if i > len(b) {
		return 0, -1
	}
	v, n := prim.Varlong(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// Walk is what a pass over uncompressed record bytes finds without decoding
// them. A Walk may be reused.
type Walk struct {
	// KeepNullKeys asks for the indexes of records with a null key.
	KeepNullKeys bool
	// Bounded asks for the indexes of records whose timestamp delta is outside
	// [MinDelta, MaxDelta] and not NoDelta.
	Bounded                     bool
	MinDelta, MaxDelta, NoDelta int64

	Sequential   bool    // offset deltas are 0, 1, 2, ...
	Largest      int64   // largest timestamp delta, in ms
	LargestIndex int32   // index of the first record that has it
	NullKeys     []int32 // indexes, if asked for
	OutOfRange   []int32 // indexes of records outside the accepted range
}

// Run walks count records that must fill b exactly, and checks that every
// length in them fits. The error wraps ErrCorrupt.
func (w *Walk) Run(b []byte, count int32) error {
	w.Sequential, w.Largest, w.LargestIndex = true, 0, 0
	w.NullKeys, w.OutOfRange = w.NullKeys[:0], w.OutOfRange[:0]
	pos := 0
	for i := range count {
		if end := w.fast(b, pos, i); end > 0 {
			pos = end
			continue
		}
		size, at := varintAt(b, pos)
		end := at + int(size)
		if at < 0 || size < 0 || end > len(b) || at >= end {
			return fmt.Errorf("%w: record %d of %d: size %d at byte %d of %d", ErrCorrupt, i, count, size, pos, len(b))
		}
		r := b[:end]
		delta, at := varlongAt(r, at+1) // one byte of attributes
		if at < 0 {
			return badRecord(i, pos, "timestamp")
		}
		offset, at := varintAt(r, at)
		if at < 0 {
			return badRecord(i, pos, "offset")
		}
		w.note(i, delta, offset)
		n, at := varintAt(r, at)
		if at < 0 || n < -1 {
			return badRecord(i, pos, "key")
		}
		if n < 0 {
			if w.KeepNullKeys {
				w.NullKeys = append(w.NullKeys, i)
			}
			n = 0
		}
		n, at = varintAt(r, at+int(n))
		if at < 0 || n < -1 {
			return badRecord(i, pos, "value")
		}
		n, at = varintAt(r, at+int(max(n, 0)))
		if at < 0 || n < 0 {
			return badRecord(i, pos, "header count")
		}
		if n > 0 {
			at = walkHeaders(r, at, n)
		}
		if at != end {
			return badRecord(i, pos, "header")
		}
		pos = end
	}
	if pos != len(b) {
		return fmt.Errorf("%w: %d bytes after the last of %d records", ErrCorrupt, len(b)-pos, count)
	}
	return nil
}

// note takes in the fields of record i that decide something.
func (w *Walk) note(i int32, delta int64, offset int32) {
	if offset != i {
		w.Sequential = false
	}
	if delta > w.Largest || i == 0 {
		w.Largest, w.LargestIndex = delta, i
	}
	if w.Bounded && (delta < w.MinDelta || delta > w.MaxDelta) && delta != w.NoDelta {
		w.OutOfRange = append(w.OutOfRange, i)
	}
}

// fast walks record i, at pos, if it is like most: varints of at most three
// bytes, no headers, not at the very end of b. It returns where the record ends,
// or 0. It loads eight bytes at a time and takes the varints from the register.
func (w *Walk) fast(b []byte, pos int, i int32) int {
	if pos+8 > len(b) {
		return 0
	}
	u := binary.LittleEndian.Uint64(b[pos:])
	size, n := lowVarint(u)
	u >>= n + 8 // and the attributes
	delta, m := lowVarint(u)
	start := pos + int(n>>3)
	at := start + 1 + int(m>>3)
	if n == 0 || m == 0 || at+8 > len(b) {
		return 0
	}
	u = binary.LittleEndian.Uint64(b[at:])
	offset, n := lowVarint(u)
	key, m := lowVarint(u >> n)
	at += int(n>>3) + int(m>>3) + max(key, 0)
	if n == 0 || m == 0 || key < -1 || at+8 > len(b) {
		return 0
	}
	value, n := lowVarint(binary.LittleEndian.Uint64(b[at:]))
	at += int(n>>3) + max(value, 0)
	if n == 0 || value < -1 || at != start+size-1 || at >= len(b) || b[at] != 0 {
		return 0
	}
	if key < 0 && w.KeepNullKeys {
		w.NullKeys = append(w.NullKeys, i)
	}
	if offset != int(i) || delta > int(w.Largest) || i == 0 || w.Bounded {
		w.note(i, int64(delta), int32(offset))
	}
	return at + 1
}

// lowVarint decodes the zigzag varint in the low bytes of u. bits is how many it
// takes: 8, 16 or 24, or 0 if it is longer.
func lowVarint(u uint64) (v int, bits uint) {
	if u&0x80 == 0 {
		return int(u&0x7f>>1) ^ -int(u&1), 8
	}
	x := u&0x7f | u>>1&0x3f80
	if u&0x8000 == 0 {
		return int(x>>1) ^ -int(x&1), 16
	}
	if u&0x800000 != 0 {
		return 0, 0
	}
	x |= u >> 2 & 0x1fc000
	return int(x>>1) ^ -int(x&1), 24
}

// walkHeaders returns the index after n headers, or -1.
func walkHeaders(r []byte, at int, n int32) int {
	if int(n) > len(r)-at {
		return -1
	}
	for range n {
		size, next := varintAt(r, at)
		if next < 0 || size < 0 {
			return -1
		}
		size, next = varintAt(r, next+int(size))
		if next < 0 || size < -1 {
			return -1
		}
		at = next + int(max(size, 0))
	}
	return at
}

func badRecord(i int32, pos int, what string) error {
	return fmt.Errorf("%w: record %d at byte %d of the records: bad %s", ErrCorrupt, i, pos, what)
}
