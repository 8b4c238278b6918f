package record

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstdDecoder decodes whole streams into memory that the caller provides. It is
// made at start, not on first use: it holds a channel, which must not belong to
// a synctest bubble. It is safe for concurrent use and starts no goroutine.
var zstdDecoder = func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(1<<27),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}()

var zstdEncoders [zstd.SpeedBestCompression + 1]sync.Pool

// zstdCompress writes through the encoder's stream form: its one-shot form hands
// out encoders over a channel; see zstdDecoder.
func zstdCompress(dst []byte, level int, src []byte) ([]byte, error) {
	speed := zstd.EncoderLevelFromZstd(level)
	pool := &zstdEncoders[speed]
	out := &appendWriter{dst}
	z, _ := pool.Get().(*zstd.Encoder)
	if z == nil {
		var err error
		z, err = zstd.NewWriter(out,
			zstd.WithEncoderLevel(speed),
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(1<<20),
			zstd.WithLowerEncoderMem(true))
		if err != nil {
			return dst, err
		}
	} else {
		z.Reset(out)
	}
	defer pool.Put(z)
	if len(src) == 0 {
		return append(dst, emptyZstd...), nil
	}
	if _, err := z.Write(src); err != nil {
		return dst, err
	}
	if err := z.Close(); err != nil {
		return dst, err
	}
	return out.b, nil
}

// emptyZstd is a frame without content: magic, single segment with content size
// 0, one last raw block of 0 bytes.
var emptyZstd = []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00}

// zstdDecompress decodes into memory for what the blocks can hold at most, as
// streams mostly do not tell their size, and what they tell need not be true.
func zstdDecompress(dst, src []byte, maxSize int) ([]byte, error) {
	at := len(dst)
	bound, ok := zstdBound(src)
	if !ok {
		return dst, badStream(Zstd, "frame", nil)
	}
	// The decoder wants room for a block more than it will need.
	room := at + int(min(bound, uint64(maxSize))) + zstdMaxBlock + 64
	dst = growTo(dst, room, room)
	out, err := zstdDecoder.DecodeAll(src, dst[:at:room])
	switch {
	case err == nil && len(out)-at <= maxSize:
		return out, nil
	case err == nil || errors.Is(err, zstd.ErrDecoderSizeExceeded) || bound > uint64(maxSize):
		return dst[:at], tooLarge(Zstd, maxSize)
	}
	return dst[:at], badStream(Zstd, "data", err)
}

const (
	zstdMagic     = 0xFD2FB528
	zstdSkippable = 0x184D2A50 // to 0x184D2A5F
	zstdMaxBlock  = 128 << 10
)

// zstdBound walks frames and block headers (RFC 8878) and returns a number of
// bytes that they cannot exceed once decoded. It is false if they do not fill
// src exactly.
func zstdBound(src []byte) (bound uint64, ok bool) {
	for len(src) > 0 {
		if len(src) < 8 {
			return 0, false
		}
		switch m := binary.LittleEndian.Uint32(src); {
		case m&^15 == zstdSkippable:
			n := uint64(binary.LittleEndian.Uint32(src[4:]))
			if n > uint64(len(src)-8) {
				return 0, false
			}
			src = src[8+n:]
		case m == zstdMagic:
			var n uint64
			if n, src, ok = zstdFrameBound(src[4:]); !ok {
				return 0, false
			}
			bound += n
		default:
			return 0, false
		}
	}
	return bound, true
}

func zstdFrameBound(src []byte) (bound uint64, rest []byte, ok bool) {
	flags := src[0]
	single := flags&0x20 != 0
	at := 1 + [...]int{0, 1, 2, 4}[flags&3]
	if !single {
		at++
	}
	sizeBytes := [...]int{0, 2, 4, 8}[flags>>6]
	if sizeBytes == 0 && single {
		sizeBytes = 1
	}
	if len(src) < at+sizeBytes {
		return 0, nil, false
	}
	claim := uint64(1<<64 - 1)
	if sizeBytes > 0 {
		var field [8]byte
		copy(field[:], src[at:at+sizeBytes])
		claim = binary.LittleEndian.Uint64(field[:])
		if sizeBytes == 2 {
			claim += 256
		}
	}
	src = src[at+sizeBytes:]
	for last := false; !last; {
		if len(src) < 3 {
			return 0, nil, false
		}
		h := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		last = h&1 != 0
		size, plain := h>>3, h>>3
		switch h >> 1 & 3 {
		case 1: // one byte, repeated
			size = 1
		case 2:
			plain = zstdMaxBlock
		case 3:
			return 0, nil, false
		}
		if len(src) < 3+size {
			return 0, nil, false
		}
		bound += uint64(plain)
		src = src[3+size:]
	}
	if flags&4 != 0 { // content checksum
		if len(src) < 4 {
			return 0, nil, false
		}
		src = src[4:]
	}
	return min(bound, claim), src, true
}
