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

// zstdDecompress decodes one frame after the other into memory for what its blocks
// can hold, as frames mostly do not tell their size, and what they tell need not
// be true. Blocks of four kilobytes can claim to hold 128 MiB: where they claim
// much more than is usual, it begins with less memory and takes four times as much
// whenever that was too little.
func zstdDecompress(dst, src []byte, maxSize int) ([]byte, error) {
	at := len(dst)
	for len(src) > 0 {
		f, rest, ok := zstdNext(src)
		if !ok {
			return dst[:at], badStream(Zstd, "frame", nil)
		}
		if f.bytes != nil {
			var err error
			if dst, err = f.decompress(dst, maxSize-(len(dst)-at)); err != nil {
				if errors.Is(err, ErrTooLarge) {
					err = tooLarge(Zstd, maxSize)
				}
				return dst[:at], err
			}
		}
		src = rest
	}
	return dst, nil
}

// decompress appends the content of a frame, at most maxSize bytes of it.
func (f *zstdFrame) decompress(dst []byte, maxSize int) ([]byte, error) {
	at, src := len(dst), f.bytes
	most := int(min(f.bound, uint64(maxSize)))
	size := min(most, max(zstdFirst, zstdUsual*len(src), cap(dst)-at-zstdExtra))
	if f.claims && size < most { // the decoder would want room for the claim at once
		src = f.unsized()
	}
	for ; ; size = min(most, 4*size) {
		// The decoder wants room for a block more than it will need.
		room := at + size + zstdExtra
		dst = growTo(dst, room, max(room, 2*cap(dst)))
		out, err := zstdDecoder.DecodeAll(src, dst[:at:room])
		switch {
		case err == nil && len(out)-at > maxSize:
			return dst, tooLarge(Zstd, maxSize)
		case err == nil && f.claims && uint64(len(out)-at) != f.claim:
			return dst, badStream(Zstd, "data", fmt.Errorf("a frame of %d bytes claims %d", len(out)-at, f.claim))
		case err == nil:
			return out, nil
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) && size < most:
			continue
		case errors.Is(err, zstd.ErrDecoderSizeExceeded) || f.bound > uint64(maxSize):
			return dst, tooLarge(Zstd, maxSize)
		}
		return dst, badStream(Zstd, "data", err)
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

// zstdFrame is one frame of a stream (RFC 8878).
type zstdFrame struct {
	bytes  []byte // from its magic on; nil for a skippable frame
	flags  byte
	window byte   // its descriptor
	dict   []byte // its id
	blocks []byte // and the checksum
	claims bool   // it tells its size
	claim  uint64
	bound  uint64 // bytes that it cannot exceed once decoded
}

const (
	zstdSingle    = 0x20 // flag: the content is one segment, and there is no window
	zstdSizeFlags = 0xc0
)

// zstdNext takes the frame that src begins with apart. It is false if there is
// none, or if its blocks do not fit src.
func zstdNext(src []byte) (f zstdFrame, rest []byte, ok bool) {
	if len(src) < 8 {
		return f, nil, false
	}
	switch m := binary.LittleEndian.Uint32(src); {
	case m&^15 == zstdSkippable:
		n := uint64(binary.LittleEndian.Uint32(src[4:]))
		if n > uint64(len(src)-8) {
			return f, nil, false
		}
		return f, src[8+n:], true
	case m != zstdMagic:
		return f, nil, false
	}
	const largestWindow = (27 - 10) << 3
	f.flags, f.window = src[4], largestWindow // of a single segment the window is the content
	at := 5
	if f.flags&zstdSingle == 0 {
		f.window = src[at]
		at++
	}
	dict := [...]int{0, 1, 2, 4}[f.flags&3]
	sizeBytes := [...]int{0, 2, 4, 8}[f.flags>>6]
	if sizeBytes == 0 && f.flags&zstdSingle != 0 {
		sizeBytes = 1
	}
	if len(src) < at+dict+sizeBytes {
		return f, nil, false
	}
	f.dict = src[at : at+dict]
	at += dict
	f.claims, f.claim = sizeBytes > 0, 1<<64-1
	if f.claims {
		var field [8]byte
		copy(field[:], src[at:at+sizeBytes])
		f.claim = binary.LittleEndian.Uint64(field[:])
		if sizeBytes == 2 {
			f.claim += 256
		}
	}
	at += sizeBytes
	bound, rest, ok := zstdBlocks(src[at:], f.flags&4 != 0)
	if !ok {
		return f, nil, false
	}
	f.bytes, f.blocks, f.bound = src[:len(src)-len(rest)], src[at:len(src)-len(rest)], min(bound, f.claim)
	return f, rest, true
}

// unsized returns the frame without its size.
func (f *zstdFrame) unsized() []byte {
	out := binary.LittleEndian.AppendUint32(make([]byte, 0, len(f.bytes)+1), zstdMagic)
	out = append(out, f.flags&^(zstdSingle|zstdSizeFlags), f.window)
	return append(append(out, f.dict...), f.blocks...)
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
