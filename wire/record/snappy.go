package record

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/s2"
)

// snappyBlock is the number of plain bytes in a block of the xerial framing:
//
//	82 53 4e 41 50 50 59 00, int32 version, int32 compatible version,
//	then per block: int32 length, raw snappy block
const snappyBlock = 32 << 10

var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeader = 16

func snappyCompress(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		n := min(len(src), snappyBlock)
		at := len(dst)
		dst = grow(dst, 4+s2.MaxEncodedLen(n))
		block := s2.EncodeSnappy(dst[at+4:cap(dst):cap(dst)], src[:n])
		binary.BigEndian.PutUint32(dst[at:at+4], uint32(len(block)))
		dst = dst[:at+4+len(block)]
		src = src[n:]
	}
	return dst
}

func snappyDecompress(dst, src []byte, maxSize int) ([]byte, error) {
	limit := len(dst) + maxSize
	if len(src) < xerialHeader || !bytes.HasPrefix(src, xerialMagic) {
		return snappyBlockDecompress(dst, src, limit, maxSize)
	}
	for len(src) > 0 {
		if len(src) >= xerialHeader && bytes.HasPrefix(src, xerialMagic) {
			src = src[xerialHeader:]
			continue
		}
		if len(src) < 4 {
			return dst, badStream(Snappy, "block length", nil)
		}
		n := int64(int32(binary.BigEndian.Uint32(src)))
		src = src[4:]
		if n < 0 || n > int64(len(src)) {
			return dst, badStream(Snappy, "block length", nil)
		}
		var err error
		if dst, err = snappyBlockDecompress(dst, src[:n], limit, maxSize); err != nil {
			return dst, err
		}
		src = src[n:]
	}
	return dst, nil
}

func snappyBlockDecompress(dst, block []byte, limit, maxSize int) ([]byte, error) {
	claim, n := binary.Uvarint(block)
	if n <= 0 || claim > 1<<32-1 {
		return dst, badStream(Snappy, "length of a block", nil)
	}
	if claim > uint64(limit-len(dst)) {
		return dst, tooLarge(Snappy, maxSize)
	}
	if !validSnappy(block[n:], claim) {
		return dst, badStream(Snappy, "block", nil)
	}
	at := len(dst)
	dst = growTo(dst, at+int(claim), limit)
	out, err := s2.Decode(dst[at:at+int(claim):at+int(claim)], block)
	if err != nil || len(out) != int(claim) {
		return dst, badStream(Snappy, "block", err)
	}
	return dst[:at+int(claim)], nil
}

// validSnappy reports whether the elements of a raw block add up to want bytes
// and never look behind its start. The decoder in use also takes S2, a superset
// that the Java reader does not know: there, a copy from distance zero repeats
// the last distance.
func validSnappy(b []byte, want uint64) bool {
	var have uint64
	for i := 0; i < len(b); {
		tag := b[i]
		var size, distance uint64
		switch tag & 3 {
		case 0: // literal
			size = uint64(tag >> 2)
			i++
			if size >= 60 {
				extra := int(size) - 59
				if i+extra > len(b) {
					return false
				}
				size = 0
				for k := extra - 1; k >= 0; k-- {
					size = size<<8 | uint64(b[i+k])
				}
				i += extra
			}
			size++
			if size > uint64(len(b)-i) {
				return false
			}
			i += int(size)
			have += size
			continue
		case 1:
			if i+2 > len(b) {
				return false
			}
			size, distance = uint64(tag>>2&7)+4, uint64(tag>>5)<<8|uint64(b[i+1])
			i += 2
		case 2:
			if i+3 > len(b) {
				return false
			}
			size, distance = uint64(tag>>2)+1, uint64(b[i+1])|uint64(b[i+2])<<8
			i += 3
		case 3:
			if i+5 > len(b) {
				return false
			}
			size, distance = uint64(tag>>2)+1, uint64(binary.LittleEndian.Uint32(b[i+1:]))
			i += 5
		}
		if distance == 0 || distance > have {
			return false
		}
		have += size
	}
	return have == want
}
