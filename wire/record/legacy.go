package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// LegacyRecord is a record of magic 0 or 1. Key and Value alias the input or a
// buffer that lives as long as they do; nil is null.
type LegacyRecord struct {
	Offset     int64
	Timestamp  int64 // ms, -1 in magic 0
	Key, Value []byte
}

// ReadLegacy reads one top-level entry of a message set of magic 0 or 1, as
// [Next] cuts it, and appends its records to dst: one, or those inside if it
// wraps a compressed set, which decompresses to at most maxSize bytes (0 means
// DefaultMaxSize).
//
// An entry, big-endian: int64 offset, int32 size of what follows, uint32 CRC-32
// over the rest, int8 magic, int8 attributes (bits 0-2 codec, bit 3 log append
// time), int64 timestamp if magic is 1, int32 key length (-1) and key, int32
// value length (-1) and value. A wrapper has the offset of its last record;
// inner offsets are absolute in magic 0 and relative in magic 1.
func ReadLegacy(dst []LegacyRecord, entry []byte, maxSize int) ([]LegacyRecord, error) {
	e, rest, err := parseLegacy(entry)
	if err != nil {
		return dst, err
	}
	if len(rest) != 0 {
		return dst, fmt.Errorf("%w: %d bytes after a message", ErrCorrupt, len(rest))
	}
	codec := Attributes(e.attributes).Codec()
	if codec == None {
		return append(dst, e.LegacyRecord), nil
	}
	var plain []byte
	switch {
	case codec > LZ4:
		return dst, fmt.Errorf("%w: %s in magic %d", ErrCodec, codec, e.magic)
	case codec == LZ4 && e.magic == 0:
		if maxSize <= 0 {
			maxSize = DefaultMaxSize
		}
		if plain, err = lz4Frame(nil, e.Value, maxSize, true); err != nil {
			plain, err = lz4Frame(nil, e.Value, maxSize, false)
		}
	default:
		plain, err = Decompress(nil, codec, e.Value, maxSize)
	}
	if err != nil {
		return dst, err
	}
	return readInner(dst, e, plain)
}

func readInner(dst []LegacyRecord, wrapper legacyEntry, plain []byte) ([]LegacyRecord, error) {
	first := len(dst)
	for len(plain) > 0 {
		var in legacyEntry
		var err error
		if in, plain, err = parseLegacy(plain); err != nil {
			return dst[:first], err
		}
		if in.magic != wrapper.magic || Attributes(in.attributes).Codec() != None {
			return dst[:first], fmt.Errorf("%w: message of magic %d, attributes %d inside one of magic %d", ErrCorrupt, in.magic, in.attributes, wrapper.magic)
		}
		if wrapper.magic == 1 && Attributes(wrapper.attributes).LogAppendTime() {
			in.Timestamp = wrapper.Timestamp
		}
		dst = append(dst, in.LegacyRecord)
	}
	if len(dst) == first {
		return dst, fmt.Errorf("%w: compressed message set is empty", ErrCorrupt)
	}
	if wrapper.magic == 1 {
		shift := wrapper.Offset - dst[len(dst)-1].Offset
		for i := first; i < len(dst); i++ {
			dst[i].Offset += shift
		}
	}
	return dst, nil
}

type legacyEntry struct {
	LegacyRecord
	magic, attributes int8
}

func parseLegacy(b []byte) (e legacyEntry, rest []byte, err error) {
	if len(b) < LogOverhead+minLegacyLength {
		return e, b, fmt.Errorf("%w: %d bytes of a message", ErrShort, len(b))
	}
	e.Offset = int64(binary.BigEndian.Uint64(b))
	size := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if size < minLegacyLength {
		return e, b, fmt.Errorf("%w: message of %d bytes", ErrCorrupt, size)
	}
	if size > int64(len(b)-LogOverhead) {
		return e, b, fmt.Errorf("%w: %d of %d bytes of a message", ErrShort, len(b)-LogOverhead, size)
	}
	b, rest = b[LogOverhead:LogOverhead+size], b[LogOverhead+size:]
	if got, want := crc32.ChecksumIEEE(b[4:]), binary.BigEndian.Uint32(b); got != want {
		return e, rest, fmt.Errorf("%w: message at offset %d: crc %08x, want %08x", ErrCorrupt, e.Offset, got, want)
	}
	e.magic, e.attributes = int8(b[4]), int8(b[5])
	b = b[6:]
	e.Timestamp = NoTimestamp
	switch e.magic {
	case 0:
	case 1:
		if len(b) < 16 {
			return e, rest, fmt.Errorf("%w: message at offset %d is too short", ErrCorrupt, e.Offset)
		}
		e.Timestamp = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	default:
		return e, rest, fmt.Errorf("%w: message of magic %d", ErrCorrupt, e.magic)
	}
	if e.Key, b, err = legacyBytes(b, e.Offset); err != nil {
		return e, rest, err
	}
	if e.Value, b, err = legacyBytes(b, e.Offset); err != nil {
		return e, rest, err
	}
	if len(b) != 0 {
		return e, rest, fmt.Errorf("%w: %d bytes after the value at offset %d", ErrCorrupt, len(b), e.Offset)
	}
	return e, rest, nil
}

func legacyBytes(b []byte, offset int64) (v, rest []byte, err error) {
	if len(b) < 4 {
		return nil, b, fmt.Errorf("%w: message at offset %d is too short", ErrCorrupt, offset)
	}
	n := int64(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	if n < -1 || n > int64(len(b)) {
		return nil, b, fmt.Errorf("%w: message at offset %d: length %d", ErrCorrupt, offset, n)
	}
	if n < 0 {
		return nil, b, nil
	}
	return b[:n:n], b[n:], nil
}
