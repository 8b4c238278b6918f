package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/klamm-io/klamm/wire/prim"
)

// Producer identifies the idempotent producer of a batch.
type Producer struct {
	ID            int64
	Epoch         int16
	Sequence      int32 // of the first record
	Transactional bool
}

// NoProducer is that of a batch without idempotence.
var NoProducer = Producer{ID: NoProducerID, Epoch: -1, Sequence: NoSequence}

// Builder appends records to one batch. It reuses its memory: a builder that has
// been Reset makes the next batch without allocating. It is owned by one
// goroutine.
type Builder struct {
	codec               Codec
	level               int
	buf                 []byte // header and plain records
	out                 []byte // header and compressed records
	count               int32
	baseTimestamp, maxT int64
}

// NewBuilder returns a builder for batches compressed with codec at level, whose
// meaning is the codec's own; see [Compress].
func NewBuilder(codec Codec, level int) *Builder {
	b := &Builder{codec: codec, level: level}
	b.Reset()
	return b
}

// Reset empties b. A batch that Finish returned must no longer be in use.
func (b *Builder) Reset() {
	var header [HeaderSize]byte
	b.buf = append(b.buf[:0], header[:]...)
	b.count, b.baseTimestamp, b.maxT = 0, NoTimestamp, NoTimestamp
}

// Codec returns the codec that Finish compresses with.
func (b *Builder) Codec() Codec { return b.codec }

// Count returns the number of records.
func (b *Builder) Count() int32 { return b.count }

// Size returns the number of bytes of the batch before compression.
func (b *Builder) Size() int { return len(b.buf) }

// SizeUpperBound returns a number of bytes that the finished batch does not
// exceed.
func (b *Builder) SizeUpperBound() int {
	return HeaderSize + maxCompressed(b.codec, len(b.buf)-HeaderSize)
}

// EstimatedSize returns the likely size of the finished batch, given the ratio of
// compressed to plain size of batches before it.
func (b *Builder) EstimatedSize(ratio float64) int {
	if b.codec == None {
		return len(b.buf)
	}
	return HeaderSize + int(float64(len(b.buf)-HeaderSize)*ratio)
}

// RecordSize returns the number of bytes that appending a record would add
// before compression.
func (b *Builder) RecordSize(timestamp int64, key, value []byte, headers []Header) int {
	n := b.bodySize(timestamp, key, value, headers)
	return prim.VarintLen(int32(n)) + n
}

func (b *Builder) bodySize(timestamp int64, key, value []byte, headers []Header) int {
	var delta int64
	if b.count > 0 {
		delta = timestamp - b.baseTimestamp
	}
	n := 1 + prim.VarlongLen(delta) + prim.VarintLen(b.count) + bytesLen(key) + bytesLen(value) + prim.VarintLen(int32(len(headers)))
	for i := range headers {
		h := &headers[i]
		n += prim.VarintLen(int32(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	return n
}

// SizeUpperBound returns a number of bytes that a batch of one such record does
// not exceed, uncompressed.
func SizeUpperBound(key, value []byte, headers []Header) int {
	n := HeaderSize + 5 + 1 + 10 + 5 + 5 + len(key) + 5 + len(value) + 5
	for i := range headers {
		n += 5 + len(headers[i].Key) + 5 + len(headers[i].Value)
	}
	return n
}

// Append adds a record. timestamp is in ms. Nil key or value is null. The first
// record's timestamp becomes the batch's base timestamp.
func (b *Builder) Append(timestamp int64, key, value []byte, headers []Header) {
	size := b.bodySize(timestamp, key, value, headers)
	if b.count == 0 {
		b.baseTimestamp, b.maxT = timestamp, timestamp
	}
	b.maxT = max(b.maxT, timestamp)
	p := grow(b.buf, size+5)
	p = prim.AppendVarint(p, int32(size))
	p = append(p, 0)
	p = prim.AppendVarlong(p, timestamp-b.baseTimestamp)
	p = prim.AppendVarint(p, b.count)
	p = appendBytes(p, key)
	p = appendBytes(p, value)
	p = prim.AppendVarint(p, int32(len(headers)))
	for i := range headers {
		h := &headers[i]
		p = prim.AppendVarint(p, int32(len(h.Key)))
		p = append(p, h.Key...)
		p = appendBytes(p, h.Value)
	}
	b.buf = p
	b.count++
}

// Finish returns the whole batch: base offset 0, leader epoch -1, CRC set. It
// aliases b until Reset; Append after Finish is allowed and needs another Finish.
func (b *Builder) Finish(p Producer) ([]byte, error) {
	out := b.buf
	if b.codec != None {
		var err error
		b.out = append(b.out[:0], b.buf[:HeaderSize]...)
		if b.out, err = Compress(b.out, b.codec, b.level, b.buf[HeaderSize:]); err != nil {
			return nil, err
		}
		out = b.out
	}
	if len(out) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: batch of %d bytes", ErrTooLarge, len(out))
	}
	attrs := Attributes(b.codec)
	if p.Transactional {
		attrs |= attrTransactional
	}
	putHeader(out, attrs, max(b.count-1, 0), b.count, b.baseTimestamp, b.maxT, p)
	return out, nil
}

// putHeader fills the header of the batch out and its CRC.
func putHeader(out []byte, attrs Attributes, lastDelta, count int32, baseTimestamp, maxTimestamp int64, p Producer) {
	h := Batch(out)
	h.SetBaseOffset(0)
	binary.BigEndian.PutUint32(h[8:], uint32(len(out)-LogOverhead))
	h.SetLeaderEpoch(-1)
	h[magicAt] = Magic
	h.setAttributes(attrs)
	binary.BigEndian.PutUint32(h[23:], uint32(lastDelta))
	binary.BigEndian.PutUint64(h[27:], uint64(baseTimestamp))
	binary.BigEndian.PutUint64(h[35:], uint64(maxTimestamp))
	h.putProducer(p.ID, p.Epoch, p.Sequence)
	binary.BigEndian.PutUint32(h[57:], uint32(count))
	h.UpdateCRC()
}

// Rebuild appends to dst a batch with the header of b and its plain records,
// which keep their offset deltas and timestamps, compressed with codec. The
// caller gives the record bytes and the count, which may differ from b's.
func Rebuild(dst []byte, b Batch, plain []byte, count int32, codec Codec, level int) ([]byte, error) {
	at := len(dst)
	dst = append(dst, b[:HeaderSize]...)
	dst, err := Compress(dst, codec, level, plain)
	if err != nil {
		return nil, err
	}
	out := Batch(dst[at:])
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-LogOverhead))
	out.setAttributes(b.Attributes()&^attrCodecMask | Attributes(codec))
	binary.BigEndian.PutUint32(out[57:], uint32(count))
	out.UpdateCRC()
	return dst, nil
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return prim.VarintLen(int32(len(b))) + len(b)
}

func appendBytes(p, b []byte) []byte {
	if b == nil {
		return append(p, 1) // varint -1
	}
	p = prim.AppendVarint(p, int32(len(b)))
	return append(p, b...)
}

// grow makes room for n more bytes, and doubles, so that a batch grows in few
// steps.
func grow(b []byte, n int) []byte {
	if need := len(b) + n; need > cap(b) {
		c := make([]byte, len(b), 1<<bits.Len(uint(max(need, 512)-1)))
		copy(c, b)
		return c
	}
	return b
}
