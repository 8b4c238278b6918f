package segment

import (
	"github.com/klamm-io/klamm/wire/prim"
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

// ReleaseRegion takes back what Read has given out: the files may be closed. Only
// [prim.Region.Release] calls it.
func (s *Segment) ReleaseRegion() {
	// An error of closing what was only read from does not matter.
	_ = s.release()
}

// Read returns whole batches from the one that holds offset, or else the first
// after it, of those that begin below limit, which must be a batch boundary. The
// region has at most maxBytes, so that the last batch may be cut off; if not
// even one fits, it is empty, or with minOne that batch alone. past reports that
// it is empty because no batch here ends at or after offset. The error is
// ErrClosed if the segment is gone.
func (s *Segment) Read(offset, limit int64, maxBytes int, minOne bool) (r *prim.Region, past bool, err error) {
	if !s.acquire() {
		return nil, false, ErrClosed
	}
	r, past, err = s.read(offset, limit, maxBytes, minOne)
	if err != nil || r.Holder == nil {
		s.release()
	}
	return r, past, err
}

func (s *Segment) read(offset, limit int64, maxBytes int, minOne bool) (r *prim.Region, past bool, err error) {
	s.mu.Lock()
	size, next := s.size, s.next
	s.mu.Unlock()
	pos, end, err := s.locate(offset)
	if err != nil {
		return nil, false, err
	}
	if pos == end {
		return new(prim.Region), true, nil
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
		return new(prim.Region), false, nil
	}
	f, err := s.file()
	if err != nil {
		return nil, false, err
	}
	return &prim.Region{Holder: s, File: f, Pos: pos, Size: int(n)}, false, nil
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
