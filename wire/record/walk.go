package record

import (
	"encoding/binary"
	"fmt"
	"math"

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
	for i := int32(0); i < count; i++ {
		if pos, i = w.fast(b, pos, i, count); i == count {
			break
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
		w.Largest, w.LargestIndex = int64(delta), i
	}
	if w.Bounded && (delta < w.MinDelta || delta > w.MaxDelta) && delta != w.NoDelta {
		w.OutOfRange = append(w.OutOfRange, i)
	}
}

// fast walks records from number i at pos on as long as they are like most: in
// sequence, with varints of at most three bytes and no headers, and not at the
// very end of b. It returns the first that is not. It loads eight bytes at a
// time and takes the varints from the register.
func (w *Walk) fast(b []byte, pos int, i, count int32) (int, int32) {
	low, high, largest := math.MinInt, math.MaxInt, int(w.Largest)
	if w.Bounded {
		low, high = int(w.MinDelta), int(w.MaxDelta)
	}
	if i == 0 {
		largest = math.MinInt
	}
	for ; i < count && pos+32 <= len(b); i++ {
		head := (*[16]byte)(b[pos:])
		u, v := binary.LittleEndian.Uint64(head[:8]), binary.LittleEndian.Uint64(head[8:])
		size, n := lowLength(u)
		// After the attributes.
		u = u>>((8*n+8)&63) | v<<((56-8*n)&63)
		delta, bits := lowVarint(u)
		u >>= bits
		want, m := lowBytes(uint64(i) << 1)
		if n == 0 || bits == 0 || u&(1<<m-1) != want || delta < low || delta > high {
			break
		}
		u >>= m
		at := pos + n + 1 + int(bits+m)>>3
		end := pos + n + size
		if u&0xff == 1 && bits+m <= 32 { // a null key, and the length of the value is in u
			if w.KeepNullKeys {
				break
			}
			u >>= 8
			at++
		} else {
			u = binary.LittleEndian.Uint64(b[at:])
			key, n := 0, 1 // null
			if u&0xff != 1 {
				key, n = lowLength(u)
			} else if w.KeepNullKeys {
				break
			}
			at += n + key
			if n == 0 || at+8 > len(b) {
				break
			}
			u = binary.LittleEndian.Uint64(b[at:])
		}
		value, k := 0, 1 // null
		if u&0xff != 1 {
			value, k = lowLength(u)
		}
		at += k + value
		if k == 0 || at != end-1 || uint(at) >= uint(len(b)) || b[at] != 0 {
			break
		}
		if delta > largest {
			largest = delta
			w.Largest, w.LargestIndex = int64(delta), i
		}
		pos = end
	}
	return pos, i
}

// lowLength decodes the zigzag varint in the low bytes of u, of a length that is
// not negative. n is how many bytes it takes, or 0 if it is none or takes more
// than three.
func lowLength(u uint64) (length, n int) {
	switch {
	case u&0x81 == 0:
		return int(u & 0x7f >> 1), 1
	case u&0x8081 == 0x80:
		return int((u&0x7f | u>>1&0x3f80) >> 1), 2
	case u&0x808081 == 0x8080:
		return int((u&0x7f | u>>1&0x3f80 | u>>2&0x1fc000) >> 1), 3
	}
	return 0, 0
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

// lowBytes is the varint of v in the low bytes of a number. bits is how many it
// takes, and 63 if it is longer than three bytes, which no such number has.
func lowBytes(v uint64) (u uint64, bits uint) {
	switch {
	case v < 1<<7:
		return v, 8
	case v < 1<<14:
		return v&0x7f | 0x80 | v<<1&0x7f00, 16
	case v < 1<<21:
		return v&0x7f | v<<1&0x7f00 | v<<2&0x7f0000 | 0x8080, 24
	}
	return math.MaxUint64, 63
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
