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
	t    table
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
	if err := x.t.open(fs, name, offsetEntry); err != nil {
		return nil, err
	}
	if err := x.check(size); err != nil {
		x.t.close()
		return nil, err
	}
	return x, nil
}

func (x *Offset) check(size int64) error {
	e, ok, err := x.LastEntry()
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
	last := OffsetEntry{x.base - 1, -1}
	return x.t.each(func(i int, b []byte) error {
		e := x.decode(b)
		if e.Offset <= last.Offset || e.Position <= last.Position {
			return fmt.Errorf("%w: %s: entry %d is %+v after %+v", ErrCorrupt, x.t.name, i, e, last)
		}
		last = e
		return nil
	})
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

func (x *Offset) decode(e []byte) OffsetEntry {
	return OffsetEntry{x.base + int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))}
}

// Lookup returns the last entry at or below offset, or the base offset at
// position 0. It takes no lock that is held during I/O.
func (x *Offset) Lookup(offset int64) (OffsetEntry, error) {
	v := x.t.view()
	defer v.done()
	n, err := v.search(func(e []byte) bool { return x.decode(e).Offset <= offset })
	if err != nil || n == 0 {
		return OffsetEntry{x.base, 0}, err
	}
	return x.entry(v, n-1)
}

// Entry returns entry i of Len.
func (x *Offset) Entry(i int) (OffsetEntry, error) {
	v := x.t.view()
	defer v.done()
	return x.entry(v, i)
}

func (x *Offset) entry(v view, i int) (OffsetEntry, error) {
	block := blocks.Get().(*[tailBytes + 64]byte)
	defer blocks.Put(block)
	e, err := v.at(i, block[:])
	if err != nil {
		return OffsetEntry{}, err
	}
	return x.decode(e), nil
}

// LastEntry returns the last entry, if there is one.
func (x *Offset) LastEntry() (OffsetEntry, bool, error) {
	v := x.t.view()
	defer v.done()
	if v.count() == 0 {
		return OffsetEntry{}, false, nil
	}
	e, err := x.entry(v, v.count()-1)
	return e, err == nil, err
}

// Truncate drops entries at or above offset.
func (x *Offset) Truncate(offset int64) error {
	v := x.t.view()
	defer v.done()
	n, err := v.search(func(e []byte) bool { return x.decode(e).Offset < offset })
	if err != nil {
		return err
	}
	if err := x.t.truncate(n); err != nil {
		return err
	}
	x.last = x.base - 1
	e, ok, err := x.LastEntry()
	if ok {
		x.last = e.Offset
	}
	return err
}

// Len returns the number of entries.
func (x *Offset) Len() int { return x.t.count() }

// Size returns the number of bytes the file has once all is written.
func (x *Offset) Size() int { return x.t.count() * offsetEntry }

// Spill writes what is in memory if that is a block or more.
func (x *Offset) Spill() error { return x.t.spill() }

// Write hands what is in memory to the file system, and makes the file if there
// is none; Flush makes it durable too.
func (x *Offset) Write() error { return x.t.persist() }

// Exists reports whether there is a file.
func (x *Offset) Exists() bool { return x.t.file != nil }

// Flush makes the index durable.
func (x *Offset) Flush() error { return x.t.flush() }

// Close writes what is in memory and closes the file.
func (x *Offset) Close() error { return x.t.close() }

// Discard closes the file without writing what is in memory.
func (x *Offset) Discard() error { return x.t.discard() }
