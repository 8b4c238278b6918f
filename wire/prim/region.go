package prim

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// RegionFile is a file that a [Region] is a part of. OSFile returns the file of the
// operating system, for sendfile; nil if it is not one. It stays open until release is
// called.
type RegionFile interface {
	io.ReaderAt
	OSFile() (f *os.File, release func())
}

// Region is a range of a log's file that stands for record bytes in a response, from the
// log that made it to the socket, so that they can be sent without being read first. It
// holds batches, the last of which may be cut off. The zero value is empty.
//
// Who gets a region must release it exactly once, and not use it after that. The other
// methods may be called by one goroutine at a time.
type Region struct {
	File RegionFile // nil if the region is empty
	Pos  int64      // where in the file it begins
	Size int        // bytes

	// Holder keeps the file open until the region is released; nil if nobody has to.
	Holder interface{ ReleaseRegion() }
	// Owner is notified when the region cannot be read, if it is not nil: that is found out
	// after the log was asked.
	Owner interface{ ReadFailed(error) }

	released atomic.Bool
}

// Len returns the number of bytes.
func (r *Region) Len() int { return r.Size }

// Bytes reads the region.
func (r *Region) Bytes() ([]byte, error) {
	b := make([]byte, r.Size)
	return b, r.ReadInto(b, 0)
}

// ReadInto reads len(b) bytes of the region from byte at on.
func (r *Region) ReadInto(b []byte, at int) error {
	switch {
	case at+len(b) > r.Size:
		return fmt.Errorf("%d bytes at %d of a region of %d: %w", len(b), at, r.Size, io.ErrUnexpectedEOF)
	case len(b) == 0:
		return nil
	}
	n, err := r.File.ReadAt(b, r.Pos+int64(at))
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	err = fmt.Errorf("read %d of %d bytes at %d: %w", n, len(b), r.Pos+int64(at), err)
	r.Failed(err)
	return err
}

// Failed says that reading the file has failed.
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
	if r.Holder != nil {
		r.Holder.ReleaseRegion()
	}
}
