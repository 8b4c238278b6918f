package record

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"

	"github.com/pierrec/lz4/v4"
)

// An LZ4 frame, little-endian:
//
//	uint32 magic 184D2204
//	uint8  FLG: bits 7-6 version 1, 5 independent blocks, 4 block checksum,
//	       3 content size, 2 content checksum, 0 dictionary id
//	uint8  BD: bits 6-4 block size (4: 64 KiB, 5: 256 KiB, 6: 1 MiB, 7: 4 MiB)
//	uint64 content size, if FLG says so
//	uint8  second byte of xxHash-32 of FLG to here
//	then   per block: uint32 size (high bit: stored), data, checksum if any
//	uint32 0 ends the blocks; content checksum, if any, is not read
//
// In message sets of magic 0, Kafka's header checksum covers the frame's magic
// as well.
const (
	lz4Magic     = 0x184D2204
	lz4BlockSize = 64 << 10
	lz4Stored    = 1 << 31
)

var (
	lz4Fast = sync.Pool{New: func() any { return new(lz4.Compressor) }}
	lz4High = sync.Pool{New: func() any { return new(lz4.CompressorHC) }}
)

func lz4Compress(dst []byte, level int, src []byte) ([]byte, error) {
	if level < 1 || level > 17 {
		return dst, fmt.Errorf("lz4 level %d is not 1 to 17", level)
	}
	compress, done := lz4Compressor(level)
	defer done()
	dst = append(dst, 0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82)
	for len(src) > 0 {
		n := min(len(src), lz4BlockSize)
		at := len(dst)
		dst = grow(dst, 4+n)
		size, err := compress(src[:n], dst[at+4:at+4+n])
		if err != nil || size == 0 || size >= n { // no gain: stored
			size = copy(dst[at+4:at+4+n], src)
			binary.LittleEndian.PutUint32(dst[at:at+4], uint32(n)|lz4Stored)
		} else {
			binary.LittleEndian.PutUint32(dst[at:at+4], uint32(size))
		}
		dst = dst[:at+4+size]
		src = src[n:]
	}
	return append(dst, 0, 0, 0, 0), nil
}

// lz4Compressor returns the fast compressor for level 9, Kafka's default, and
// the high one for the others, which know nine depths here.
func lz4Compressor(level int) (compress func(src, dst []byte) (int, error), done func()) {
	if level == 9 {
		c := lz4Fast.Get().(*lz4.Compressor)
		return c.CompressBlock, func() { lz4Fast.Put(c) }
	}
	c := lz4High.Get().(*lz4.CompressorHC)
	c.Level = 1 << (8 + min(level, 9))
	return c.CompressBlock, func() { lz4High.Put(c) }
}

func lz4Decompress(dst, src []byte, maxSize int) ([]byte, error) {
	return lz4Frame(dst, src, maxSize, false)
}

func lz4Frame(dst, src []byte, maxSize int, legacyChecksum bool) ([]byte, error) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return dst, badStream(LZ4, "frame magic", nil)
	}
	flg, bd := src[4], src[5]
	size := bd >> 4 & 7
	switch {
	case flg>>6 != 1, flg&2 != 0, bd&0x8f != 0, size < 4:
		return dst, badStream(LZ4, "frame descriptor", nil)
	case flg&0x20 == 0:
		return dst, badStream(LZ4, "dependent blocks", nil)
	case flg&1 != 0:
		return dst, badStream(LZ4, "dictionary", nil)
	}
	blockSize := 1 << (8 + 2*int(size))
	blockChecksum := flg&0x10 != 0
	at := 6
	if flg&8 != 0 {
		at += 8
	}
	if len(src) <= at {
		return dst, badStream(LZ4, "frame header", nil)
	}
	from := 4
	if legacyChecksum {
		from = 0
	}
	if byte(xxh32(src[from:at])>>8) != src[at] {
		return dst, badStream(LZ4, "header checksum", nil)
	}
	src = src[at+1:]
	limit := len(dst) + maxSize
	for {
		if len(src) < 4 {
			return dst, badStream(LZ4, "no end mark", nil)
		}
		word := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if word == 0 {
			return dst, nil
		}
		n := int(word &^ lz4Stored)
		if n > blockSize || n > len(src) {
			return dst, badStream(LZ4, "block size", nil)
		}
		block := src[:n]
		src = src[n:]
		if blockChecksum {
			if len(src) < 4 || binary.LittleEndian.Uint32(src) != xxh32(block) {
				return dst, badStream(LZ4, "block checksum", nil)
			}
			src = src[4:]
		}
		var err error
		if dst, err = lz4Block(dst, block, word&lz4Stored != 0, blockSize, limit, maxSize); err != nil {
			return dst, err
		}
	}
}

func lz4Block(dst, block []byte, stored bool, blockSize, limit, maxSize int) ([]byte, error) {
	if stored {
		if len(block) > limit-len(dst) {
			return dst, tooLarge(LZ4, maxSize)
		}
		return append(growTo(dst, len(dst)+len(block), limit), block...), nil
	}
	// A byte of input makes at most 255 bytes of output.
	room := min(blockSize, 255*len(block), limit-len(dst))
	dst = growTo(dst, len(dst)+room, limit)
	n, err := lz4.UncompressBlock(block, dst[len(dst):len(dst)+room])
	if err != nil {
		if room == limit-len(dst) && room < blockSize {
			return dst, tooLarge(LZ4, maxSize)
		}
		return dst, badStream(LZ4, "block", err)
	}
	return dst[:len(dst)+n], nil
}

// xxh32 is xxHash-32 with seed 0.
func xxh32(b []byte) uint32 {
	const (
		p1 uint32 = 2654435761
		p2 uint32 = 2246822519
		p3 uint32 = 3266489917
		p4 uint32 = 668265263
		p5 uint32 = 374761393
	)
	h := p5
	total := uint32(len(b))
	if len(b) >= 16 {
		p := p1
		v := [4]uint32{p + p2, p2, 0, -p}
		for ; len(b) >= 16; b = b[16:] {
			for i := range v {
				v[i] = bits.RotateLeft32(v[i]+binary.LittleEndian.Uint32(b[4*i:])*p2, 13) * p1
			}
		}
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	h += total
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
