package segment

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// locate returns the bytes [pos, end) of the first batch that ends at or after
// offset. If there is none, both are the size.
func (s *Segment) locate(offset int64) (pos, end int64, err error) {
	s.mu.Lock()
	size, next := s.size, s.next
	pos, end, ok := s.tail.find(offset, s.base)
	s.mu.Unlock()
	switch {
	case offset >= next:
		return size, size, nil
	case ok:
		return pos, end, nil
	}
	x, err := s.indexes()
	if err != nil {
		return 0, 0, err
	}
	e, err := x.offsets.Lookup(offset)
	if err != nil {
		return 0, 0, err
	}
	pos, end = size, size
	err = s.Scan(e.Position, size, HeadersOnly, func(b record.Batch, at int64) (bool, error) {
		d := Describe(b)
		if d.Last < offset {
			return true, nil
		}
		pos, end = at, at+int64(d.Size)
		return false, nil
	})
	return pos, end, err
}

// Region is a range of a segment's file that holds batches, the last of which
// may be cut off. It keeps the file open until Release.
type Region struct {
	// Owner, if not nil, is told when the region cannot be read.
	Owner interface{ ReadFailed(error) }

	s        *Segment
	file     vfs.File
	pos      int64
	n        int
	released atomic.Bool
}

// Len returns the number of bytes.
func (r *Region) Len() int { return r.n }

// File returns the file, nil if the region is empty.
func (r *Region) File() vfs.File { return r.file }

// Pos returns where in the file the region begins.
func (r *Region) Pos() int64 { return r.pos }

// Bytes reads the region.
func (r *Region) Bytes() ([]byte, error) {
	b := make([]byte, r.n)
	return b, r.ReadInto(b)
}

// ReadInto reads the first len(b) bytes of the region.
func (r *Region) ReadInto(b []byte) error {
	switch {
	case len(b) > r.n:
		return fmt.Errorf("region of %d bytes: %w", r.n, io.ErrUnexpectedEOF)
	case len(b) == 0:
		return nil
	}
	err := fill(r.file, b, r.pos)
	if err != nil {
		r.Failed(err)
	}
	return err
}

// Failed says that reading the region's file has failed, to who owns the log: it
// is read after the log was asked.
func (r *Region) Failed(err error) {
	if r.Owner != nil {
		r.Owner.ReadFailed(err)
	}
}

// Release gives the file up. It must be called exactly once.
func (r *Region) Release() {
	if r.released.Swap(true) {
		panic("region released twice")
	}
	if r.s != nil {
		r.s.release()
	}
}

// Read returns whole batches from the one that holds offset, or else the first
// after it, of those that begin below limit, which must be a batch boundary. The
// region has at most maxBytes, so that the last batch may be cut off; if not
// even one fits, it is empty, or with minOne that batch alone. past reports that
// it is empty because no batch here ends at or after offset. The error is
// ErrClosed if the segment is gone.
func (s *Segment) Read(offset, limit int64, maxBytes int, minOne bool) (r *Region, past bool, err error) {
	if !s.acquire() {
		return nil, false, ErrClosed
	}
	r, past, err = s.read(offset, limit, maxBytes, minOne)
	if err != nil || r.s == nil {
		s.release()
	}
	return r, past, err
}

func (s *Segment) read(offset, limit int64, maxBytes int, minOne bool) (r *Region, past bool, err error) {
	s.mu.Lock()
	size, next := s.size, s.next
	s.mu.Unlock()
	pos, end, err := s.locate(offset)
	if err != nil {
		return nil, false, err
	}
	if pos == end {
		return new(Region), true, nil
	}
	stop := size
	if limit < next {
		if stop, _, err = s.locate(limit); err != nil {
			return nil, false, err
		}
	}
	n := min(stop-pos, int64(maxBytes))
	if pos+n < end { // not even the first batch
		n = 0
		if minOne && end <= stop {
			n = end - pos
		}
	}
	if n <= 0 {
		return new(Region), false, nil
	}
	f, err := s.file()
	if err != nil {
		return nil, false, err
	}
	return &Region{s: s, file: f, pos: pos, n: int(n)}, false, nil
}

// Position returns the byte at which the first batch begins that ends at or
// after offset; the size if there is none.
func (s *Segment) Position(offset int64) (int64, error) {
	pos, _, err := s.locate(offset)
	return pos, err
}

// Batch reads the batch of size bytes at pos.
func (s *Segment) Batch(pos int64, size int) (record.Batch, error) {
	f, err := s.file()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	return b, fill(f, b, pos)
}
