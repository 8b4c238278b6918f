// Package record reads and writes record batches: the unit in which records are
// sent, checked, stored and fetched.
//
// A batch of version 2 ("magic" 2), big-endian:
//
//	 0  8 base offset            set by the broker; outside the CRC
//	 8  4 length                 of what follows this field
//	12  4 partition leader epoch set by the broker; outside the CRC
//	16  1 magic                  2
//	17  4 CRC-32C                over byte 21 to the end
//	21  2 attributes             see [Attributes]
//	23  4 last offset delta      last offset - base offset
//	27  8 base timestamp         ms; of the first record, or the delete horizon
//	35  8 max timestamp          ms; the append time where attributes say so
//	43  8 producer id            -1 none
//	51  2 producer epoch         -1 none
//	53  4 base sequence          -1 none
//	57  4 record count
//	61    records                one compressed stream if attributes say so
//
// A record:
//
//	varint  length of what follows
//	int8    attributes, 0
//	varlong timestamp - base timestamp
//	varint  offset - base offset
//	varint  key length (-1 null), key
//	varint  value length (-1 null), value
//	varint  header count, and for each: varint length and UTF-8 key,
//	        varint length (-1 null) and value
//
// [Batch] is a view over the bytes of one batch, [Iterator] reads its records,
// [Builder] makes one. Message sets of versions 0 and 1, which old segments may
// still hold, are read by [ReadLegacy].
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	// HeaderSize is the number of bytes before the records of a batch.
	HeaderSize = 61
	// LogOverhead is the number of bytes that a batch's length leaves out.
	LogOverhead = 12
	// Magic is the version of the batch format that is written.
	Magic = 2

	// NoTimestamp marks a record or batch without a timestamp.
	NoTimestamp = -1
	// NoProducerID marks a batch without an idempotent producer.
	NoProducerID = -1
	// NoSequence marks a batch without sequence numbers.
	NoSequence = -1

	minLegacyLength = 14 // of what follows the length of a magic 0 entry
	magicAt         = 16
)

var (
	// ErrShort means that the input ends inside a batch.
	ErrShort = errors.New("input ends inside a record batch")
	// ErrCorrupt means that a batch breaks a rule of the format, or its CRC.
	ErrCorrupt = errors.New("corrupt record batch")
	// ErrMagic means that a batch is of another version than 2.
	ErrMagic = errors.New("record batch is not of version 2")
	// ErrTooLarge means that records decompress to more than the limit.
	ErrTooLarge = errors.New("decompressed records exceed the limit")
	// ErrCodec means that a batch names a codec that does not exist.
	ErrCodec = errors.New("unknown compression codec")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Attributes is the bit set of a batch: bits 0-2 the codec, 3 log append time,
// 4 transactional, 5 control, 6 base timestamp is a delete horizon (KIP-534).
type Attributes int16

const (
	attrLogAppendTime Attributes = 1 << (3 + iota)
	attrTransactional
	attrControl
	attrDeleteHorizon

	attrCodecMask Attributes = 7
)

// Codec returns the compression of the records.
func (a Attributes) Codec() Codec { return Codec(a & attrCodecMask) }

// LogAppendTime reports whether max timestamp is the broker's append time and
// stands for the timestamp of every record.
func (a Attributes) LogAppendTime() bool { return a&attrLogAppendTime != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (a Attributes) Transactional() bool { return a&attrTransactional != 0 }

// Control reports whether the batch holds a control record.
func (a Attributes) Control() bool { return a&attrControl != 0 }

// DeleteHorizon reports whether base timestamp is the time from which the
// batch's tombstones may go.
func (a Attributes) DeleteHorizon() bool { return a&attrDeleteHorizon != 0 }

// Batch is a view over exactly one batch of version 2, as [Next] cuts it. The
// accessors must not be called on fewer than HeaderSize bytes.
type Batch []byte

func (b Batch) int32(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
func (b Batch) int64(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }

// BaseOffset returns the offset of the first record, before compaction.
func (b Batch) BaseOffset() int64 { return b.int64(0) }

// LastOffset returns the offset of the last record, before compaction.
func (b Batch) LastOffset() int64 { return b.int64(0) + int64(b.int32(23)) }

// LastOffsetDelta returns LastOffset - BaseOffset.
func (b Batch) LastOffsetDelta() int32 { return b.int32(23) }

// Size returns the number of bytes that the header says the batch has.
func (b Batch) Size() int { return int(b.int32(8)) + LogOverhead }

// LeaderEpoch returns the epoch of the leader that appended the batch, -1 none.
func (b Batch) LeaderEpoch() int32 { return b.int32(12) }

// Magic returns the version of the format.
func (b Batch) Magic() int8 { return int8(b[magicAt]) }

// CRC returns the checksum in the header.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[17:]) }

// Attributes returns the bit set of the header.
func (b Batch) Attributes() Attributes { return Attributes(binary.BigEndian.Uint16(b[21:])) }

// BaseTimestamp returns the timestamp in ms that record timestamps are deltas
// against.
func (b Batch) BaseTimestamp() int64 { return b.int64(27) }

// MaxTimestamp returns the largest timestamp in ms, or the append time.
func (b Batch) MaxTimestamp() int64 { return b.int64(35) }

// ProducerID returns the id of the idempotent producer, -1 none.
func (b Batch) ProducerID() int64 { return b.int64(43) }

// ProducerEpoch returns the epoch of the idempotent producer, -1 none.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[51:])) }

// BaseSequence returns the sequence number of the first record, -1 none.
func (b Batch) BaseSequence() int32 { return b.int32(53) }

// LastSequence returns the sequence number of the last record, -1 none.
func (b Batch) LastSequence() int32 {
	if s := b.BaseSequence(); s != NoSequence {
		return AddSequence(s, b.LastOffsetDelta())
	}
	return NoSequence
}

// AddSequence returns the sequence number n after s. Sequence numbers wrap from
// 2147483647 to 0.
func AddSequence(s, n int32) int32 { return int32((int64(s) + int64(n)) & 0x7fffffff) }

// Count returns the number of records.
func (b Batch) Count() int32 { return b.int32(57) }

// Records returns the record bytes, which may be compressed.
func (b Batch) Records() []byte { return b[HeaderSize:] }

// SetBaseOffset changes the base offset; the CRC does not cover it.
func (b Batch) SetBaseOffset(o int64) { binary.BigEndian.PutUint64(b, uint64(o)) }

// SetLeaderEpoch changes the leader epoch; the CRC does not cover it.
func (b Batch) SetLeaderEpoch(e int32) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// SetLogAppendTime makes ms the timestamp of every record and redoes the CRC.
func (b Batch) SetLogAppendTime(ms int64) {
	b.setAttributes(b.Attributes() | attrLogAppendTime)
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.UpdateCRC()
}

// SetMaxTimestamp changes the largest timestamp, in ms, and redoes the CRC.
func (b Batch) SetMaxTimestamp(ms int64) {
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.UpdateCRC()
}

// SetProducer changes producer id, epoch and base sequence and redoes the CRC.
func (b Batch) SetProducer(id int64, epoch int16, baseSequence int32) {
	b.putProducer(id, epoch, baseSequence)
	b.UpdateCRC()
}

func (b Batch) putProducer(id int64, epoch int16, baseSequence int32) {
	binary.BigEndian.PutUint64(b[43:], uint64(id))
	binary.BigEndian.PutUint16(b[51:], uint16(epoch))
	binary.BigEndian.PutUint32(b[53:], uint32(baseSequence))
}

func (b Batch) setAttributes(a Attributes) { binary.BigEndian.PutUint16(b[21:], uint16(a)) }

// UpdateCRC recomputes the checksum.
func (b Batch) UpdateCRC() {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
}

// Validate checks sizes, magic and CRC, not the records. The error wraps
// ErrShort, ErrMagic or ErrCorrupt.
func (b Batch) Validate() error {
	if len(b) < HeaderSize {
		return fmt.Errorf("%w: %d bytes, a header has %d", ErrShort, len(b), HeaderSize)
	}
	if m := b.Magic(); m != Magic {
		return fmt.Errorf("%w: magic %d", ErrMagic, m)
	}
	if n := b.Size(); n != len(b) {
		return fmt.Errorf("%w: header says %d bytes, have %d", ErrCorrupt, n, len(b))
	}
	if got, want := crc32.Checksum(b[21:], castagnoli), b.CRC(); got != want {
		return fmt.Errorf("%w: offset %d: crc %08x, want %08x", ErrCorrupt, b.BaseOffset(), got, want)
	}
	return nil
}

// Next cuts the first batch off b without checking its CRC. It returns io.EOF if
// b is empty, ErrShort if b ends inside the batch and ErrCorrupt if it cannot be
// one. For a whole entry of version 0 or 1 it returns that entry, the rest and
// ErrMagic; see [ReadLegacy].
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, io.EOF
	}
	if len(b) < LogOverhead {
		return nil, b, fmt.Errorf("%w: %d bytes", ErrShort, len(b))
	}
	length := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if length < minLegacyLength {
		return nil, b, fmt.Errorf("%w: length %d", ErrCorrupt, length)
	}
	if len(b) > magicAt {
		switch m := int8(b[magicAt]); {
		case m < 0 || m > Magic:
			return nil, b, fmt.Errorf("%w: magic %d", ErrCorrupt, m)
		case m == Magic && length < HeaderSize-LogOverhead:
			return nil, b, fmt.Errorf("%w: length %d", ErrCorrupt, length)
		}
	}
	size := length + LogOverhead
	if size > int64(len(b)) {
		return nil, b, fmt.Errorf("%w: %d of %d bytes", ErrShort, len(b), size)
	}
	batch, rest = b[:size:size], b[size:]
	if m := batch.Magic(); m != Magic {
		return batch, rest, fmt.Errorf("%w: magic %d", ErrMagic, m)
	}
	return batch, rest, nil
}
