package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// Info is what indexes need to know of a batch or legacy message.
type Info struct {
	Base, Last   int64 // offsets; Base is Last for a legacy message
	MaxTimestamp int64 // ms, -1 none
	Size         int   // bytes
	Epoch        int32 // of the leader, -1 in legacy messages
}

// headerBytes is what Describe needs: a header, or as much of a legacy message.
const headerBytes = record.HeaderSize

// Describe reads the header of a batch of any version. The batch may be cut off
// after its header.
func Describe(b record.Batch) Info {
	i := Info{Last: b.BaseOffset(), Base: b.BaseOffset(), MaxTimestamp: -1, Size: b.Size(), Epoch: -1}
	switch m := b.Magic(); {
	case m >= record.Magic:
		i.Last, i.MaxTimestamp, i.Epoch = b.LastOffset(), b.MaxTimestamp(), b.LeaderEpoch()
	case m == 1:
		i.MaxTimestamp = int64(binary.BigEndian.Uint64(b[18:]))
	}
	return i
}

// ScanMode says how much of each batch a scan reads.
type ScanMode bool

const (
	HeadersOnly ScanMode = false
	WholeBatch  ScanMode = true
)

// scanWindow is how much a scan reads at once.
const (
	headerWindow = 4 << 10
	wholeWindow  = 256 << 10
)

var windows = sync.Pool{New: func() any { b := make([]byte, headerWindow); return &b }}

// Scan visits the batches in bytes [from, to) in order, until visit returns
// false. The batch is valid only during the call. Bytes that are no batch are an
// error that wraps record.ErrCorrupt or, at the end, record.ErrShort; nothing
// else is checked.
func (s *Segment) Scan(from, to int64, mode ScanMode, visit func(b record.Batch, pos int64) (bool, error)) error {
	if from >= to {
		return nil
	}
	f, err := s.file()
	if err != nil {
		return err
	}
	return s.scan(f, from, to, mode, visit)
}

// Visit is Scan of all whole batches from the one that ends at or after offset on,
// for readers. The error is ErrClosed if the segment is gone.
func (s *Segment) Visit(offset int64, visit func(record.Batch) error) error {
	if !s.acquire() {
		return ErrClosed
	}
	defer s.release()
	from, _, err := s.locate(offset)
	if err != nil {
		return err
	}
	return s.Scan(from, s.Size(), WholeBatch, func(b record.Batch, _ int64) (bool, error) {
		err := visit(b)
		return err == nil, err
	})
}

func (s *Segment) scan(f vfs.File, from, to int64, mode ScanMode, visit func(b record.Batch, pos int64) (bool, error)) error {
	if err := scan(f, from, to, mode, visit); err != nil {
		return fmt.Errorf("%s: %w", FileName(s.dir, s.base, LogSuffix), err)
	}
	return nil
}

func scan(f vfs.File, from, to int64, mode ScanMode, visit func(b record.Batch, pos int64) (bool, error)) error {
	pooled := windows.Get().(*[]byte)
	defer windows.Put(pooled)
	buf := *pooled
	if mode == WholeBatch && to-from > headerWindow {
		buf = make([]byte, min(wholeWindow, to-from))
	}
	var have []byte // window over the file at from
	for from < to {
		need := int64(headerBytes)
		if len(have) >= record.LogOverhead && mode == WholeBatch {
			if n := record.Batch(have).Size(); n > 0 {
				need = int64(n)
			}
		}
		if int64(len(have)) < min(need, to-from) {
			if need = min(need, to-from); need > int64(len(buf)) {
				buf = make([]byte, need)
			}
			have = buf[:min(int64(len(buf)), to-from)]
			if err := fill(f, have, from); err != nil {
				return err
			}
			continue
		}
		size, err := check(have, to-from, mode)
		if err != nil {
			return fmt.Errorf("byte %d: %w", from, err)
		}
		b := have[:min(int64(len(have)), size)]
		more, err := visit(record.Batch(b), from)
		if err != nil || !more {
			return err
		}
		from += size
		have = have[len(b):]
	}
	return nil
}

// check returns the size of the batch that b begins with, of which left bytes
// are in the file.
func check(b []byte, left int64, mode ScanMode) (int64, error) {
	_, _, err := record.Next(b)
	switch {
	case errors.Is(err, record.ErrCorrupt):
		return 0, err
	case len(b) < record.LogOverhead+1+4:
		return 0, fmt.Errorf("%w: %d bytes", record.ErrShort, len(b))
	}
	size := int64(record.Batch(b).Size())
	if size > left {
		return 0, fmt.Errorf("%w: %d of %d bytes", record.ErrShort, left, size)
	}
	if record.Batch(b).Magic() >= record.Magic && len(b) < record.HeaderSize || size < 26 {
		return 0, fmt.Errorf("%w: %d of %d bytes", record.ErrShort, len(b), size)
	}
	return size, nil
}

// isInvalid reports whether an error is about the bytes, not about reading them.
func isInvalid(err error) bool {
	return errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrShort)
}
