package index

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klamm-io/klamm/log/vfs"
)

const timeEntry = 12

// Time is a time index (.timeindex): int64 timestamp in ms, int32 offset less
// the segment's base. An entry says that no batch up to that offset has a larger
// timestamp. Timestamps rise; offsets do not fall. One writer, any number of
// readers.
type Time struct {
	t    table
	base int64
	last TimeEntry // the writer's
}

// TimeEntry is the largest timestamp in ms so far and the last offset of the
// batch that holds it.
type TimeEntry struct {
	Timestamp, Offset int64
}

// OpenTime opens the index of the segment with that base offset, as OpenOffset.
func OpenTime(fs vfs.FS, name string, base int64) (*Time, error) {
	x := &Time{base: base}
	x.last = x.none()
	if err := x.t.open(fs, name, timeEntry); err != nil {
		return nil, err
	}
	if err := x.check(); err != nil {
		x.t.close()
		return nil, err
	}
	return x, nil
}

func (x *Time) none() TimeEntry { return TimeEntry{-1, x.base} }

func (x *Time) check() error {
	v := x.t.view()
	defer v.done()
	if v.count() == 0 {
		return nil
	}
	first, err := x.entry(v, 0)
	if err != nil {
		return err
	}
	last, err := x.entry(v, v.count()-1)
	if err != nil {
		return err
	}
	falls := v.count() > 1 && last.Timestamp <= first.Timestamp
	if last.Offset < x.base || falls || last.Timestamp <= 0 { // zeros are no entry

		return fmt.Errorf("%w: %s: entries from %+v to %+v, base offset %d", ErrCorrupt, x.t.name, first, last, x.base)
	}
	x.last = last
	return nil
}

// Check reads the whole index and reports ErrCorrupt if it does not rise.
func (x *Time) Check() error {
	last := x.none()
	return x.t.each(func(i int, b []byte) error {
		e := x.decode(b)
		if e.Timestamp <= last.Timestamp || e.Offset < last.Offset {
			return fmt.Errorf("%w: %s: entry %d is %+v after %+v", ErrCorrupt, x.t.name, i, e, last)
		}
		last = e
		return nil
	})
}

// Append adds an entry, in memory, if its timestamp is larger than that of the
// last one: call Spill now and then.
func (x *Time) Append(e TimeEntry) error {
	if e.Timestamp <= x.last.Timestamp {
		return nil
	}
	if e.Offset < x.last.Offset || e.Offset-x.base > math.MaxInt32 {
		return fmt.Errorf("%w: %s: entry %+v after %+v, base offset %d", ErrCorrupt, x.t.name, e, x.last, x.base)
	}
	var b [timeEntry]byte
	binary.BigEndian.PutUint64(b[:], uint64(e.Timestamp))
	binary.BigEndian.PutUint32(b[8:], uint32(e.Offset-x.base))
	x.last = e
	x.t.append(b[:])
	return nil
}

func (x *Time) decode(e []byte) TimeEntry {
	return TimeEntry{int64(binary.BigEndian.Uint64(e)), x.base + int64(int32(binary.BigEndian.Uint32(e[8:])))}
}

func (x *Time) entry(v view, i int) (TimeEntry, error) {
	block := blocks.Get().(*[tailBytes + 64]byte)
	defer blocks.Put(block)
	e, err := v.at(i, block[:])
	if err != nil {
		return TimeEntry{}, err
	}
	return x.decode(e), nil
}

// Entry returns entry i of Len.
func (x *Time) Entry(i int) (TimeEntry, error) {
	v := x.t.view()
	defer v.done()
	return x.entry(v, i)
}

// Lookup returns the last entry whose timestamp is at most ts, or timestamp -1
// at the base offset: records at or after ts are not before its offset.
func (x *Time) Lookup(ts int64) (TimeEntry, error) {
	v := x.t.view()
	defer v.done()
	n, err := v.search(func(e []byte) bool { return x.decode(e).Timestamp <= ts })
	if err != nil || n == 0 {
		return x.none(), err
	}
	return x.entry(v, n-1)
}

// LastEntry returns the last entry, or timestamp -1 at the base offset.
func (x *Time) LastEntry() (TimeEntry, error) {
	v := x.t.view()
	defer v.done()
	if v.count() == 0 {
		return x.none(), nil
	}
	return x.entry(v, v.count()-1)
}

// Truncate drops entries at or above offset.
func (x *Time) Truncate(offset int64) error {
	v := x.t.view()
	defer v.done()
	n, err := v.search(func(e []byte) bool { return x.decode(e).Offset < offset })
	if err != nil {
		return err
	}
	if err := x.t.truncate(n); err != nil {
		return err
	}
	x.last, err = x.LastEntry()
	return err
}

// Len returns the number of entries.
func (x *Time) Len() int { return x.t.count() }

// Size returns the number of bytes the file has once all is written.
func (x *Time) Size() int { return x.t.count() * timeEntry }

// Spill writes what is in memory if that is a block or more.
func (x *Time) Spill() error { return x.t.spill() }

// Write hands what is in memory to the file system, and makes the file if there
// is none; Flush makes it durable too.
func (x *Time) Write() error { return x.t.persist() }

// Exists reports whether there is a file.
func (x *Time) Exists() bool { return x.t.file != nil }

// Flush makes the index durable.
func (x *Time) Flush() error { return x.t.flush() }

// Close writes what is in memory and closes the file.
func (x *Time) Close() error { return x.t.close() }

// Discard closes the file without writing what is in memory.
func (x *Time) Discard() error { return x.t.discard() }
