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
	series[TimeEntry]
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
	if err := x.open(fs, name, timeEntry, x.parse); err != nil {
		return nil, err
	}
	if err := x.plausible(); err != nil {
		x.t.close()
		return nil, err
	}
	return x, nil
}

func (x *Time) none() TimeEntry { return TimeEntry{-1, x.base} }

func (x *Time) parse(e []byte) TimeEntry {
	return TimeEntry{int64(binary.BigEndian.Uint64(e)), x.base + int64(int32(binary.BigEndian.Uint32(e[8:])))}
}

// plausible checks the first and the last entry.
func (x *Time) plausible() error {
	last, ok, err := x.lastEntry()
	if err != nil || !ok {
		return err
	}
	first, err := x.Entry(0)
	if err != nil {
		return err
	}
	falls := x.Len() > 1 && last.Timestamp <= first.Timestamp
	if last.Offset < x.base || falls || last.Timestamp <= 0 { // zeros are no entry
		return fmt.Errorf("%w: %s: entries from %+v to %+v, base offset %d", ErrCorrupt, x.t.name, first, last, x.base)
	}
	x.last = last
	return nil
}

// Check reads the whole index and reports ErrCorrupt if it does not rise.
func (x *Time) Check() error {
	return x.check(x.none(), func(last, e TimeEntry) bool { return e.Timestamp > last.Timestamp && e.Offset >= last.Offset })
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

// Lookup returns the last entry whose timestamp is at most ts, or timestamp -1
// at the base offset: records at or after ts are not before its offset.
func (x *Time) Lookup(ts int64) (TimeEntry, error) {
	return x.or(x.lookup(func(e TimeEntry) bool { return e.Timestamp <= ts }))
}

// LastEntry returns the last entry, or timestamp -1 at the base offset.
func (x *Time) LastEntry() (TimeEntry, error) { return x.or(x.lastEntry()) }

// or returns an entry, or what stands for none.
func (x *Time) or(e TimeEntry, ok bool, err error) (TimeEntry, error) {
	if !ok {
		e = x.none()
	}
	return e, err
}

// Truncate drops entries at or above offset.
func (x *Time) Truncate(offset int64) error {
	err := x.keep(func(e TimeEntry) bool { return e.Offset < offset })
	if err == nil {
		x.last, err = x.LastEntry()
	}
	return err
}
