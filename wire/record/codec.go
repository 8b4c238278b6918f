package record

import (
	"fmt"
	"strings"
)

// Codec is the compression of a batch's records.
type Codec int8

const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// String returns the name that configs use.
func (c Codec) String() string {
	if c < 0 || int(c) >= len(codecNames) {
		return fmt.Sprintf("codec(%d)", int8(c))
	}
	return codecNames[c]
}

// ParseCodec parses a name as in compression.type; "uncompressed" is None.
func ParseCodec(s string) (Codec, error) {
	s = strings.ToLower(s)
	if s == "uncompressed" {
		return None, nil
	}
	for i, n := range codecNames {
		if s == n {
			return Codec(i), nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrCodec, s)
}

// DefaultLevel returns the level that Kafka uses where none is set.
func (c Codec) DefaultLevel() int {
	switch c {
	case Gzip:
		return -1
	case LZ4:
		return 9
	case Zstd:
		return 3
	}
	return 0
}

// Compress appends src compressed with codec to dst. level is in the codec's own
// scale: gzip -1 (default) or 1 to 9, lz4 1 to 17 (9, the default, is the fast
// compressor), zstd -131072 to 22; snappy has none.
func Compress(dst []byte, codec Codec, level int, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return gzipCompress(dst, level, src)
	case Snappy:
		return snappyCompress(dst, src), nil
	case LZ4:
		return lz4Compress(dst, level, src)
	case Zstd:
		return zstdCompress(dst, level, src)
	}
	return dst, fmt.Errorf("%w: %d", ErrCodec, int8(codec))
}

// Decompress appends src decompressed with codec to dst, at most maxSize bytes
// of it (0 means DefaultMaxSize): beyond that it stops with ErrTooLarge. It
// accepts and refuses what the Java client does. Memory grows with what was
// really decompressed, not with what a header claims.
func Decompress(dst []byte, codec Codec, src []byte, maxSize int) ([]byte, error) {
	if maxSize <= 0 {
		maxSize = DefaultMaxSize
	}
	if codec == None {
		if len(src) > maxSize {
			return dst, tooLarge(None, maxSize)
		}
		return append(dst, src...), nil
	}
	if len(src) == 0 {
		return dst, badStream(codec, "no bytes", nil)
	}
	switch codec {
	case Gzip:
		return gzipDecompress(dst, src, maxSize)
	case Snappy:
		return snappyDecompress(dst, src, maxSize)
	case LZ4:
		return lz4Decompress(dst, src, maxSize)
	case Zstd:
		return zstdDecompress(dst, src, maxSize)
	}
	return dst, fmt.Errorf("%w: %d", ErrCodec, int8(codec))
}

// maxCompressed bounds the size of n bytes after compression.
func maxCompressed(codec Codec, n int) int {
	switch codec {
	case Gzip:
		return n + n/1000 + 64 + 5*(n>>14)
	case Snappy:
		blocks := n/snappyBlock + 1
		return 16 + n + n/6 + blocks*(4+32)
	case LZ4:
		return n + 4*(n/lz4BlockSize+1) + 11
	case Zstd:
		return n + n>>8 + 64 + 3*(n>>17+1)
	}
	return n
}

func badStream(codec Codec, what string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %s: %w", ErrCorrupt, codec, what, err)
	}
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, codec, what)
}

func tooLarge(codec Codec, maxSize int) error {
	return fmt.Errorf("%w: %s: more than %d bytes", ErrTooLarge, codec, maxSize)
}

// appendWriter is an io.Writer over a slice.
type appendWriter struct{ b []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}
