package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klamm-io/klamm/log/vfs"
)

const offsetEntry = 8

// Offset is an offset index (.index): int32 offset less the segment's base,
// int32 position in bytes of the batch whose last offset that is. Both rise.
// One writer, any number of readers.
type Offset struct {
	series[OffsetEntry]
	base int64
	last int64 // largest offset, base-1 if empty; the writer's
}

// OffsetEntry says that the batch at byte Position ends with Offset.
type OffsetEntry struct {
	Offset   int64
	Position int64
}

// OpenOffset opens the index of the segment with that base offset. The file need
// not exist: it is made by the first write. The error wraps ErrCorrupt if it
// cannot be an index of a data file of size bytes.
func OpenOffset(fs vfs.FS, name string, base, size int64) (*Offset, error) {
	x := &Offset{base: base, last: base - 1}
	if err := x.open(fs, name, offsetEntry, x.parse); err != nil {
		return nil, err
	}
	if err := x.plausible(size); err != nil {
		x.t.close()
		return nil, err
	}
	return x, nil
}

func (x *Offset) parse(e []byte) OffsetEntry {
	return OffsetEntry{x.base + int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))}
}

// plausible checks the first and the last entry.
func (x *Offset) plausible(size int64) error {
	e, ok, err := x.lastEntry()
	if err != nil || !ok {
		return err
	}
	first, err := x.Entry(0)
	if err != nil {
		return err
	}
	falls := x.Len() > 1 && (e.Offset <= first.Offset || e.Position <= first.Position)
	if e.Offset < x.base || e.Position < 0 || e.Position >= size || falls {
		return fmt.Errorf("%w: %s: last entry %d at %d, base offset %d, %d bytes of data", ErrCorrupt, x.t.name, e.Offset, e.Position, x.base, size)
	}
	x.last = e.Offset
	return nil
}

// Check reads the whole index and reports ErrCorrupt if it does not rise.
func (x *Offset) Check() error {
	return x.check(OffsetEntry{x.base - 1, -1}, func(last, e OffsetEntry) bool { return e.Offset > last.Offset && e.Position > last.Position })
}

// Fits reports whether an offset can be written relative to the base.
func (x *Offset) Fits(offset int64) bool {
	return offset >= x.base && offset-x.base <= math.MaxInt32
}

// Append adds an entry, which must be larger than the last one, in memory: call
// Spill now and then.
func (x *Offset) Append(offset, position int64) error {
	if offset <= x.last || !x.Fits(offset) || position > math.MaxInt32 {
		return fmt.Errorf("%w: %s: entry %d at %d after %d, base offset %d", ErrCorrupt, x.t.name, offset, position, x.last, x.base)
	}
	var e [offsetEntry]byte
	binary.BigEndian.PutUint32(e[:], uint32(offset-x.base))
	binary.BigEndian.PutUint32(e[4:], uint32(position))
	x.last = offset
	x.t.append(e[:])
	return nil
}

// Lookup returns the last entry at or below offset, or the base offset at
// position 0. It takes no lock that is held during I/O.
func (x *Offset) Lookup(offset int64) (OffsetEntry, error) {
	e, ok, err := x.lookup(func(e OffsetEntry) bool { return e.Offset <= offset })
	if !ok {
		e = OffsetEntry{x.base, 0}
	}
	return e, err
}

// LastEntry returns the last entry, if there is one.
func (x *Offset) LastEntry() (OffsetEntry, bool, error) { return x.lastEntry() }

// Truncate drops entries at or above offset.
func (x *Offset) Truncate(offset int64) error {
	if err := x.keep(func(e OffsetEntry) bool { return e.Offset < offset }); err != nil {
		return err
	}
	x.last = x.base - 1
	e, ok, err := x.lastEntry()
	if ok {
		x.last = e.Offset
	}
	return err
}
