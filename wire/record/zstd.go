package record

import (
	"encoding/binary"
	"errors"
	"fmt"
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

// zstdDecompress decodes into memory for what the blocks can hold, as streams
// mostly do not tell their size, and what they tell need not be true. Blocks of
// four kilobytes can claim to hold 128 MiB: where they claim much more than is
// usual, it begins with less memory and takes four times as much whenever that
// was too little.
func zstdDecompress(dst, src []byte, maxSize int) ([]byte, error) {
	at := len(dst)
	f, ok := zstdScan(src, false)
	if !ok {
		return dst, badStream(Zstd, "frame", nil)
	}
	most := int(min(f.bound, uint64(maxSize)))
	size := min(most, max(zstdFirst, zstdUsual*len(src), cap(dst)-at-zstdExtra))
	claimed := f.claims && size < most
	if claimed { // the decoder would want room for what they claim at once
		f, _ = zstdScan(src, true)
		src = f.unsized
	}
	for ; ; size = min(most, 4*size) {
		// The decoder wants room for a block more than it will need.
		room := at + size + zstdExtra
		dst = growTo(dst, room, room)
		out, err := zstdDecoder.DecodeAll(src, dst[:at:room])
		switch {
		case err == nil && claimed && uint64(len(out)-at) != f.claim:
			return dst[:at], badStream(Zstd, "data", fmt.Errorf("%d bytes, %d are claimed", len(out)-at, f.claim))
		case err == nil && len(out)-at <= maxSize:
			return out, nil
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) && size < most:
			continue
		case err == nil || errors.Is(err, zstd.ErrDecoderSizeExceeded) || f.bound > uint64(maxSize):
			return dst[:at], tooLarge(Zstd, maxSize)
		}
		return dst[:at], badStream(Zstd, "data", err)
	}
}

const (
	zstdExtra = zstdMaxBlock + 64
	zstdFirst = 256 << 10 // bytes that are taken without asking further
	zstdUsual = 16        // how often records fit their compressed size, mostly at most
)

const (
	zstdMagic     = 0xFD2FB528
	zstdSkippable = 0x184D2A50 // to 0x184D2A5F
	zstdMaxBlock  = 128 << 10
)

// zstdFrames is what the frames of a stream say of themselves.
type zstdFrames struct {
	bound   uint64 // bytes that the blocks cannot exceed once decoded
	claims  bool   // every frame tells its size
	claim   uint64 // the sum of those
	unsized []byte // the stream without sizes, if asked for
}

// zstdScan walks frames and block headers (RFC 8878). It is false if they do not
// fill src exactly.
func zstdScan(src []byte, unsize bool) (f zstdFrames, ok bool) {
	f.claims = true
	for len(src) > 0 {
		if len(src) < 8 {
			return f, false
		}
		switch m := binary.LittleEndian.Uint32(src); {
		case m&^15 == zstdSkippable:
			n := uint64(binary.LittleEndian.Uint32(src[4:]))
			if n > uint64(len(src)-8) {
				return f, false
			}
			src = src[8+n:]
		case m == zstdMagic:
			if src, ok = f.frame(src[4:], unsize); !ok {
				return f, false
			}
		default:
			return f, false
		}
	}
	return f, true
}

// frame takes in the frame that src begins with, after its magic.
func (f *zstdFrames) frame(src []byte, unsize bool) (rest []byte, ok bool) {
	const single, sizeFlags, largestWindow = 0x20, 0xc0, (27 - 10) << 3
	flags := src[0]
	at := 1
	window := byte(largestWindow) // of a single segment it is the content
	if flags&single == 0 {
		if len(src) < 2 {
			return nil, false
		}
		window = src[1]
		at++
	}
	dictionary := at
	at += [...]int{0, 1, 2, 4}[flags&3]
	sizeBytes := [...]int{0, 2, 4, 8}[flags>>6]
	if sizeBytes == 0 && flags&single != 0 {
		sizeBytes = 1
	}
	if len(src) < at+sizeBytes {
		return nil, false
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
	f.claims = f.claims && sizeBytes > 0
	f.claim += claim
	blocks := src[at+sizeBytes:]
	bound, rest, ok := zstdBlocks(blocks, flags&4 != 0)
	f.bound += min(bound, claim)
	if unsize {
		f.unsized = binary.LittleEndian.AppendUint32(f.unsized, zstdMagic)
		f.unsized = append(f.unsized, flags&^(single|sizeFlags), window)
		f.unsized = append(f.unsized, src[dictionary:at]...)
		f.unsized = append(f.unsized, blocks[:len(blocks)-len(rest)]...)
	}
	return rest, ok
}

// zstdBlocks walks the blocks of a frame and its checksum.
func zstdBlocks(src []byte, checksum bool) (bound uint64, rest []byte, ok bool) {
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
	if checksum {
		if len(src) < 4 {
			return 0, nil, false
		}
		src = src[4:]
	}
	return bound, src, true
}
