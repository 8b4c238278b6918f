// Package prim encodes and decodes the primitive types of the Kafka protocol:
// big-endian integers, varints, and the ordinary ("int16/int32 length") and
// compact ("uvarint length+1", KIP-482) forms of strings, bytes and arrays.
//
// Decoding goes through a [Reader], which latches its first error so that
// generated code may read a whole message and look at the error once. Encoding
// appends to a byte slice.
package prim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// MaxStringLen is the longest string, in bytes, that either form may carry.
const MaxStringLen = math.MaxInt16

// MaxTags is the number of tagged fields that one struct may carry, known and
// unknown together. A frame of two-byte tags would otherwise cost far more to
// hold than to send (CVE-2026-111115).
const MaxTags = 256

var (
	// ErrShort means that the input ended inside a value.
	ErrShort = errors.New("input ends inside a value")
	// ErrMalformed means that a value breaks a rule of the encoding.
	ErrMalformed = errors.New("malformed value")
	// ErrBudget means that decoding would allocate out of proportion to the
	// input.
	ErrBudget = errors.New("decoded size out of proportion to the input")
)

// Reader decodes primitives from a byte slice. The zero value reads nothing;
// use [NewReader]. It is owned by one goroutine.
//
// After the first error every method returns a zero value and Err reports that
// error. A Reader never allocates more than a small multiple of its input: see
// [Reader.Grow].
type Reader struct {
	b      []byte
	off    int
	err    error
	budget int
}

// NewReader reads from b. Records and unknown tags alias b; everything else is
// copied out of it.
func NewReader(b []byte) Reader {
	return Reader{b: b, budget: budgetFor(len(b))}
}

// budgetFor bounds the bytes that decoding n bytes of input may allocate.
func budgetFor(n int) int { return 8*n + 64<<10 }

// Reset makes r read from b as a new Reader would.
func (r *Reader) Reset(b []byte) { *r = NewReader(b) }

// Err returns the first error, or nil.
func (r *Reader) Err() error { return r.err }

// Len returns the number of bytes not read yet.
func (r *Reader) Len() int { return len(r.b) - r.off }

// Offset returns the number of bytes read.
func (r *Reader) Offset() int { return r.off }

// Rest returns the bytes not read yet, without reading them.
func (r *Reader) Rest() []byte { return r.b[r.off:] }

// Fail latches err, unless an earlier error is latched.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.off = len(r.b)
}

func (r *Reader) short(what string) {
	r.Fail(fmt.Errorf("%w: %s at byte %d of %d", ErrShort, what, r.off, len(r.b)))
}

func (r *Reader) malformed(what string, n int64) {
	r.Fail(fmt.Errorf("%w: %s %d at byte %d of %d", ErrMalformed, what, n, r.off, len(r.b)))
}

// Grow charges n elements of size bytes each to the allocation budget and
// reports whether the budget allows it. Array readers call it before they
// allocate.
func (r *Reader) Grow(n, size int) bool {
	if r.err != nil {
		return false
	}
	need := n * size
	if n > math.MaxInt32 || need > r.budget {
		r.Fail(fmt.Errorf("%w: %d elements of %d bytes, at byte %d of %d", ErrBudget, n, size, r.off, len(r.b)))
		return false
	}
	r.budget -= need
	return true
}

func (r *Reader) take(n int, what string) []byte {
	if n < 0 || len(r.b)-r.off < n {
		r.short(what)
		return nil
	}
	b := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

// Bool reads one byte; any value but zero is true.
func (r *Reader) Bool() bool { return r.Int8() != 0 }

// Int8 reads one byte.
func (r *Reader) Int8() int8 {
	if r.off >= len(r.b) {
		r.short("int8")
		return 0
	}
	v := r.b[r.off]
	r.off++
	return int8(v)
}

// Int16 reads two bytes.
func (r *Reader) Int16() int16 { return int16(r.Uint16()) }

// Uint16 reads two bytes.
func (r *Reader) Uint16() uint16 {
	if len(r.b)-r.off < 2 {
		r.short("int16")
		return 0
	}
	v := binary.BigEndian.Uint16(r.b[r.off:])
	r.off += 2
	return v
}

// Int32 reads four bytes.
func (r *Reader) Int32() int32 { return int32(r.Uint32()) }

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 {
	if len(r.b)-r.off < 4 {
		r.short("int32")
		return 0
	}
	v := binary.BigEndian.Uint32(r.b[r.off:])
	r.off += 4
	return v
}

// Int64 reads eight bytes.
func (r *Reader) Int64() int64 {
	if len(r.b)-r.off < 8 {
		r.short("int64")
		return 0
	}
	v := binary.BigEndian.Uint64(r.b[r.off:])
	r.off += 8
	return int64(v)
}

// Float64 reads an IEEE 754 double.
func (r *Reader) Float64() float64 { return math.Float64frombits(uint64(r.Int64())) }

// UUID reads sixteen bytes.
func (r *Reader) UUID() (u UUID) {
	copy(u[:], r.take(16, "uuid"))
	return u
}

// Uvarint reads an unsigned varint of at most five bytes and 32 bits.
func (r *Reader) Uvarint() uint32 {
	var v uint64
	for i := 0; i < 5; i++ {
		if r.off >= len(r.b) {
			r.short("uvarint")
			return 0
		}
		c := r.b[r.off]
		r.off++
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > math.MaxUint32 {
				break
			}
			return uint32(v)
		}
	}
	r.malformed("uvarint", int64(v))
	return 0
}

// Varint reads a zigzag varint of at most five bytes.
func (r *Reader) Varint() int32 {
	u := r.Uvarint()
	return int32(u>>1) ^ -int32(u&1)
}

// Varlong reads a zigzag varint of at most ten bytes.
func (r *Reader) Varlong() int64 {
	v, n := Varlong(r.b[r.off:])
	if n <= 0 {
		if n == 0 {
			r.short("varlong")
		} else {
			r.malformed("varlong", 0)
		}
		return 0
	}
	r.off += n
	return v
}

// length reads a length in either form. It returns -1 for null.
func (r *Reader) length(compact bool, what string) int {
	if compact {
		n := int64(r.Uvarint()) - 1
		if n > int64(r.Len()) {
			r.malformed(what+" length", n)
			return -1
		}
		return int(n)
	}
	n := r.Int32()
	if n < -1 || int(n) > r.Len() {
		r.malformed(what+" length", int64(n))
		return -1
	}
	return int(n)
}

func (r *Reader) stringLength(compact bool) int {
	var n int
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int16())
	}
	if n < -1 || n > MaxStringLen || n > r.Len() {
		r.malformed("string length", int64(n))
		return -1
	}
	return n
}

// String reads a string that may not be null. It returns old instead of a copy
// where the two are equal, so that decoding into a used struct does not
// allocate.
func (r *Reader) String(compact bool, old string) string {
	n := r.stringLength(compact)
	if n < 0 {
		if r.err == nil {
			r.malformed("null string, length", -1)
		}
		return ""
	}
	return r.text(n, old)
}

// NullString reads a string or null. It returns old where that is equal.
func (r *Reader) NullString(compact bool, old *string) *string {
	n := r.stringLength(compact)
	if n < 0 {
		return nil
	}
	var was string
	if old != nil {
		was = *old
	}
	s := r.text(n, was)
	if r.err != nil {
		return nil
	}
	if old != nil && s == was {
		return old
	}
	if !r.Grow(1, int(unsafe.Sizeof(s))) {
		return nil
	}
	kept := new(string) // not &s, which would put every s on the heap
	*kept = s
	return kept
}

func (r *Reader) text(n int, old string) string {
	b := r.take(n, "string")
	if string(b) == old {
		return old
	}
	if !r.Grow(n, 1) {
		return ""
	}
	return string(b)
}

// fill returns the next n bytes in old's memory, or in new memory.
func (r *Reader) fill(n int, old []byte) []byte {
	b := r.take(n, "bytes")
	if n > cap(old) && !r.Grow(max(n, 8), 1) {
		return nil
	}
	out := append(old[:0], b...)
	if out == nil {
		out = []byte{}
	}
	return out
}

// Bytes reads bytes that may not be null into a copy, which reuses old's
// memory.
func (r *Reader) Bytes(compact bool, old []byte) []byte {
	n := r.length(compact, "bytes")
	if n < 0 {
		if r.err == nil {
			r.malformed("null bytes, length", -1)
		}
		return nil
	}
	return r.fill(n, old)
}

// NullBytes reads bytes or null (nil) into a copy.
func (r *Reader) NullBytes(compact bool, old []byte) []byte {
	n := r.length(compact, "bytes")
	if n < 0 {
		return nil
	}
	return r.fill(n, old)
}

// Records reads record bytes, or null. The result aliases the input.
func (r *Reader) Records(compact, nullable bool) Records {
	n := r.length(compact, "records")
	if n < 0 {
		if !nullable && r.err == nil {
			r.malformed("null records, length", -1)
		}
		return Records{}
	}
	b := r.take(n, "records")
	if b == nil && r.err == nil {
		b = []byte{}
	}
	return Records{B: b}
}

// ArrayLen reads the count of an array whose elements take at least minSize
// bytes each on the wire (one, where they may take none). It returns -1 for
// null, and refuses a count that the bytes left cannot hold.
func (r *Reader) ArrayLen(compact bool, minSize int) int {
	var n int
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int32())
	}
	if r.err != nil {
		return -1
	}
	if n < -1 || n > r.Len()/max(minSize, 1) {
		r.malformed("array count", int64(n))
		return -1
	}
	return n
}

// ArrayLenNotNull is ArrayLen for an array that may not be null.
func (r *Reader) ArrayLenNotNull(compact bool, minSize int) int {
	n := r.ArrayLen(compact, minSize)
	if n < 0 {
		if r.err == nil {
			r.malformed("null array, count", -1)
		}
		return 0
	}
	return n
}

// TagCount reads the number of tagged fields that end a struct.
func (r *Reader) TagCount() int {
	n := r.Uvarint()
	if n > MaxTags || int(n) > r.Len()/2 {
		r.malformed("tagged field count", int64(n))
		return 0
	}
	return int(n)
}

// Tag reads the tag and size that start a tagged field. Tags must rise: last is
// the one before, -1 at first. The returned end is the offset at which the
// field ends; see [Reader.EndTag].
func (r *Reader) Tag(last int64) (tag uint32, end int) {
	tag = r.Uvarint()
	if r.err == nil && int64(tag) <= last {
		r.malformed("tag out of order", int64(tag))
	}
	size := r.Uvarint()
	if r.err == nil && int64(size) > int64(r.Len()) {
		r.malformed("tagged field size", int64(size))
	}
	return tag, r.off + int(size)
}

// EndTag checks that a known tagged field was read to its end.
func (r *Reader) EndTag(tag uint32, end int) {
	if r.err == nil && r.off != end {
		r.Fail(fmt.Errorf("%w: tagged field %d ends at byte %d, not %d", ErrMalformed, tag, r.off, end))
	}
}

// Unknown reads the value of a tag that this version of the schema lacks and
// keeps it in t, so that it can be written back.
func (r *Reader) Unknown(t **Tags, tag uint32, end int) {
	b := r.take(end-r.off, "unknown tagged field")
	if r.err != nil || !r.Grow(1, 32) {
		return
	}
	if *t == nil {
		*t = new(Tags)
	}
	**t = append(**t, Tag{ID: tag, Value: b})
}

// Done latches an error if input is left over.
func (r *Reader) Done() {
	if r.err == nil && r.off != len(r.b) {
		r.malformed("trailing bytes, count", int64(r.Len()))
	}
}

// NullNotAllowed latches that field is null in a version that does not allow
// it.
func (r *Reader) NullNotAllowed(field string) {
	r.Fail(fmt.Errorf("%w: null %s at byte %d of %d", ErrMalformed, field, r.off, len(r.b)))
}

// VersionError says that a message has no version v.
func VersionError(name string, v int16) error {
	return fmt.Errorf("%w: %s version %d", ErrUnsupported, name, v)
}

// Resize returns s with length n for an array reader to fill, keeping the
// elements that it has so that their memory is used again. It returns nil once
// r has failed or where r's budget does not allow n elements.
func Resize[T any](r *Reader, s []T, n int) []T {
	if n <= cap(s) && s != nil {
		return s[:n]
	}
	var one T
	if !r.Grow(n, int(unsafe.Sizeof(one))) {
		return nil
	}
	grown := make([]T, n)
	copy(grown, s[:cap(s)])
	return grown
}

// Empty returns s without its elements, and never nil: an empty array is not a
// null one.
func Empty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s[:0]
}

// Skip passes over n bytes.
func (r *Reader) Skip(n int) { r.take(n, "skipped bytes") }
