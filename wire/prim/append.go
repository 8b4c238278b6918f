package prim

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// AppendBool appends one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendInt8 appends one byte.
func AppendInt8(b []byte, v int8) []byte { return append(b, byte(v)) }

// AppendInt16 appends two bytes.
func AppendInt16(b []byte, v int16) []byte { return append(b, byte(v>>8), byte(v)) }

// AppendUint16 appends two bytes.
func AppendUint16(b []byte, v uint16) []byte { return append(b, byte(v>>8), byte(v)) }

// AppendInt32 appends four bytes.
func AppendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }

// AppendUint32 appends four bytes.
func AppendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// AppendInt64 appends eight bytes.
func AppendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

// AppendFloat64 appends an IEEE 754 double.
func AppendFloat64(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
}

// AppendUUID appends sixteen bytes.
func AppendUUID(b []byte, u UUID) []byte { return append(b, u[:]...) }

// AppendUvarint appends an unsigned varint.
func AppendUvarint(b []byte, v uint32) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, byte(v)|0x80, byte(v>>7))
	case v < 1<<21:
		return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14))
	case v < 1<<28:
		return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21))
	}
	return append(b, byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)|0x80, byte(v>>21)|0x80, byte(v>>28))
}

// UvarintLen returns the size of v as an unsigned varint.
func UvarintLen(v uint32) int { return (bits.Len32(v|1) + 6) / 7 }

// AppendVarint appends a zigzag varint.
func AppendVarint(b []byte, v int32) []byte { return AppendUvarint(b, uint32(v<<1)^uint32(v>>31)) }

// VarintLen returns the size of v as a zigzag varint.
func VarintLen(v int32) int { return UvarintLen(uint32(v<<1) ^ uint32(v>>31)) }

// AppendVarlong appends a 64-bit zigzag varint.
func AppendVarlong(b []byte, v int64) []byte {
	u := uint64(v<<1) ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// VarlongLen returns the size of v as a 64-bit zigzag varint.
func VarlongLen(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}

// Varint decodes a zigzag varint of at most five bytes at the start of b. n is
// its size, 0 if b is too short and -1 if it is malformed.
func Varint(b []byte) (v int32, n int) {
	var u uint64
	for i := 0; i < 5; i++ {
		if i >= len(b) {
			return 0, 0
		}
		c := b[i]
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if u > math.MaxUint32 {
				return 0, -1
			}
			x := uint32(u)
			return int32(x>>1) ^ -int32(x&1), i + 1
		}
	}
	return 0, -1
}

// Varlong decodes a zigzag varint of at most ten bytes at the start of b. n is
// its size, 0 if b is too short and -1 if it is malformed.
func Varlong(b []byte) (v int64, n int) {
	var u uint64
	for i := 0; i < 10; i++ {
		if i >= len(b) {
			return 0, 0
		}
		c := b[i]
		if i == 9 && c > 1 {
			return 0, -1
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), i + 1
		}
	}
	return 0, -1
}

// AppendString appends a string in either form.
func AppendString(b []byte, s string, compact bool, e *Encoder) []byte {
	if len(s) > MaxStringLen {
		e.Fail(fmt.Errorf("%w: string of %d bytes, at most %d", ErrMalformed, len(s), MaxStringLen))
		return b
	}
	if compact {
		b = AppendUvarint(b, uint32(len(s)+1))
	} else {
		b = AppendInt16(b, int16(len(s)))
	}
	return append(b, s...)
}

// AppendNullString appends a string or null in either form.
func AppendNullString(b []byte, s *string, compact bool, e *Encoder) []byte {
	if s == nil {
		if compact {
			return append(b, 0)
		}
		return append(b, 0xff, 0xff)
	}
	return AppendString(b, *s, compact, e)
}

// AppendLen appends the length of bytes or the count of an array in either
// form; -1 stands for null.
func AppendLen(b []byte, n int, compact bool, e *Encoder) []byte {
	if n > math.MaxInt32-1 {
		e.Fail(fmt.Errorf("%w: length %d", ErrMalformed, n))
		return b
	}
	if compact {
		return AppendUvarint(b, uint32(n+1))
	}
	return AppendInt32(b, int32(n))
}

// AppendBytes appends bytes in either form; nil is written as empty.
func AppendBytes(b, v []byte, compact bool, e *Encoder) []byte {
	return append(AppendLen(b, len(v), compact, e), v...)
}

// AppendNullBytes appends bytes in either form; nil is written as null.
func AppendNullBytes(b, v []byte, compact bool, e *Encoder) []byte {
	if v == nil {
		return AppendLen(b, -1, compact, e)
	}
	return AppendBytes(b, v, compact, e)
}

// AppendRecords appends record bytes in either form, or notes a [Cut] for them.
func AppendRecords(b []byte, v Records, compact bool, e *Encoder) []byte {
	if v.Region == nil && v.B != nil && e.Split == 0 {
		return append(AppendLen(b, len(v.B), compact, e), v.B...)
	}
	if v.IsNull() {
		return AppendLen(b, -1, compact, e)
	}
	n := v.Len()
	b = AppendLen(b, n, compact, e)
	if v.Region != nil || e.Split > 0 && n >= e.Split {
		e.Cuts = append(e.Cuts, Cut{At: len(b), Records: v})
		return b
	}
	return append(b, v.B...)
}

// LenSize returns the size of a length or count in either form; -1 is null.
func LenSize(n int, compact bool) int {
	if compact {
		return UvarintLen(uint32(n + 1))
	}
	return 4
}

// StringSize returns the encoded size of s in either form.
func StringSize(s string, compact bool) int {
	if compact {
		return UvarintLen(uint32(len(s)+1)) + len(s)
	}
	return 2 + len(s)
}

// NullStringSize returns the encoded size of s, which may be null.
func NullStringSize(s *string, compact bool) int {
	if s != nil {
		return StringSize(*s, compact)
	}
	if compact {
		return 1
	}
	return 2
}

// BytesSize returns the encoded size of n bytes in either form; -1 is null.
func BytesSize(n int, compact bool) int { return LenSize(n, compact) + max(n, 0) }

// TagsSize returns the number of unknown tagged fields and their encoded size.
func TagsSize(t *Tags) (count, size int) {
	if t == nil {
		return 0, 0
	}
	for _, f := range *t {
		size += UvarintLen(f.ID) + UvarintLen(uint32(len(f.Value))) + len(f.Value)
	}
	return len(*t), size
}

// AppendTagSection appends a tagged section of unknown fields only.
func AppendTagSection(b []byte, t *Tags) []byte {
	if t == nil {
		return append(b, 0)
	}
	return AppendTagsFrom(AppendTagCount(b, 0, t), t, 0)
}

// AppendTagCount appends the count that starts a tagged section of known and
// unknown fields.
func AppendTagCount(b []byte, known int, t *Tags) []byte {
	if t != nil {
		known += len(*t)
	}
	return AppendUvarint(b, uint32(known))
}

// AppendTagsBelow appends the unknown fields from index at whose tags are below
// tag, and returns the index of the first one left.
func AppendTagsBelow(b []byte, t *Tags, at int, tag uint32) ([]byte, int) {
	if t == nil {
		return b, 0
	}
	for ; at < len(*t) && (*t)[at].ID < tag; at++ {
		b = appendTag(b, (*t)[at])
	}
	return b, at
}

// AppendTagsFrom appends the unknown fields from index at on.
func AppendTagsFrom(b []byte, t *Tags, at int) []byte {
	if t == nil {
		return b
	}
	for _, f := range (*t)[at:] {
		b = appendTag(b, f)
	}
	return b
}

func appendTag(b []byte, f Tag) []byte {
	b = AppendUvarint(b, f.ID)
	b = AppendUvarint(b, uint32(len(f.Value)))
	return append(b, f.Value...)
}

// RecordsSize returns the encoded size of v.
func RecordsSize(v Records, compact bool) int {
	if v.IsNull() {
		return LenSize(-1, compact)
	}
	return BytesSize(v.Len(), compact)
}

// CountOrNull returns the length of s, or -1 where s is nil.
func CountOrNull[T any](s []T) int {
	if s == nil {
		return -1
	}
	return len(s)
}
