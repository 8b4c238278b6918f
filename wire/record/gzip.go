package record

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

var (
	gzipWriters [gzip.BestCompression + 2]sync.Pool // by level + 1
	gzipReaders sync.Pool
)

type gzipReader struct {
	z   gzip.Reader
	src bytes.Reader
}

func gzipCompress(dst []byte, level int, src []byte) ([]byte, error) {
	if level < gzip.DefaultCompression || level == 0 || level > gzip.BestCompression {
		return dst, fmt.Errorf("gzip level %d is not -1 or 1 to 9", level)
	}
	pool := &gzipWriters[level+1]
	out := &appendWriter{dst}
	z, _ := pool.Get().(*gzip.Writer)
	if z == nil {
		var err error
		if z, err = gzip.NewWriterLevel(out, level); err != nil {
			return dst, err
		}
	} else {
		z.Reset(out)
	}
	defer pool.Put(z)
	if _, err := z.Write(src); err != nil {
		return dst, err
	}
	if err := z.Close(); err != nil {
		return dst, err
	}
	return out.b, nil
}

// gzipDecompress reads members until one has no valid header: Java's reader
// takes what follows a member for padding if it is no further member.
func gzipDecompress(dst, src []byte, maxSize int) ([]byte, error) {
	r, _ := gzipReaders.Get().(*gzipReader)
	if r == nil {
		r = new(gzipReader)
	}
	defer func() {
		r.src.Reset(nil)
		gzipReaders.Put(r)
	}()
	r.src.Reset(src)
	limit := len(dst) + maxSize
	for first := true; ; first = false {
		if err := r.z.Reset(&r.src); err != nil {
			if first {
				return dst, badStream(Gzip, "header", err)
			}
			return dst, nil
		}
		r.z.Multistream(false)
		for {
			if len(dst) == cap(dst) {
				dst = growTo(dst, len(dst)+max(512, len(src)), limit)
			}
			n, err := r.z.Read(dst[len(dst):min(cap(dst), limit+1)])
			dst = dst[:len(dst)+n]
			if len(dst) > limit {
				return dst[:limit], tooLarge(Gzip, maxSize)
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return dst, badStream(Gzip, "data", err)
			}
		}
		if r.src.Len() == 0 {
			return dst, nil
		}
	}
}

// growTo gives b a capacity of at least need bytes, at least doubled, but no
// more than one byte above limit unless need asks for it.
func growTo(b []byte, need, limit int) []byte {
	if need <= cap(b) {
		return b
	}
	c := max(need, min(2*cap(b), limit+1))
	out := make([]byte, len(b), c)
	copy(out, b)
	return out
}
