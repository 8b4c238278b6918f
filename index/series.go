package index

import (
	"fmt"

	"github.com/klamm-io/klamm/log/vfs"
)

// series is a table of entries of type E. What differs between the offset and the
// time index is how an entry is written, and what rises from one to the next.
// One writer, any number of readers.
type series[E any] struct {
	t      table
	decode func([]byte) E
}

func (s *series[E]) open(fs vfs.FS, name string, size int, decode func([]byte) E) error {
	s.decode = decode
	return s.t.open(fs, name, size)
}

func (s *series[E]) entry(v view, i int) (e E, err error) {
	block := blocks.Get().(*[tailBytes + 64]byte)
	defer blocks.Put(block)
	b, err := v.at(i, block[:])
	if err != nil {
		return e, err
	}
	return s.decode(b), nil
}

// Entry returns entry i of Len.
func (s *series[E]) Entry(i int) (E, error) {
	v := s.t.view()
	defer v.done()
	return s.entry(v, i)
}

// lastEntry returns the last entry, if there is one.
func (s *series[E]) lastEntry() (e E, ok bool, err error) {
	v := s.t.view()
	defer v.done()
	if v.count() == 0 {
		return e, false, nil
	}
	e, err = s.entry(v, v.count()-1)
	return e, err == nil, err
}

// lookup returns the last of the entries for which before holds, if there is one:
// it must hold for a prefix. It takes no lock that is held during I/O.
func (s *series[E]) lookup(before func(E) bool) (e E, ok bool, err error) {
	v := s.t.view()
	defer v.done()
	n, err := v.search(func(b []byte) bool { return before(s.decode(b)) })
	if err != nil || n == 0 {
		return e, false, err
	}
	e, err = s.entry(v, n-1)
	return e, err == nil, err
}

// keep drops the entries after those for which before holds: it must hold for a
// prefix.
func (s *series[E]) keep(before func(E) bool) error {
	v := s.t.view()
	defer v.done()
	n, err := v.search(func(b []byte) bool { return before(s.decode(b)) })
	if err != nil {
		return err
	}
	return s.t.truncate(n)
}

// check reads every entry and reports ErrCorrupt where one does not rise from the
// one before it; the first is compared with last.
func (s *series[E]) check(last E, rises func(last, e E) bool) error {
	return s.t.each(func(i int, b []byte) error {
		e := s.decode(b)
		if !rises(last, e) {
			return fmt.Errorf("%w: %s: entry %d is %+v after %+v", ErrCorrupt, s.t.name, i, e, last)
		}
		last = e
		return nil
	})
}

// Len returns the number of entries.
func (s *series[E]) Len() int { return s.t.count() }

// Size returns the number of bytes the file has once all is written.
func (s *series[E]) Size() int { return s.t.count() * s.t.entry }

// Spill writes what is in memory if that is a block or more.
func (s *series[E]) Spill() error { return s.t.spill() }

// Write hands what is in memory to the file system, and makes the file if there
// is none; Flush makes it durable too.
func (s *series[E]) Write() error { return s.t.persist() }

// Exists reports whether there is a file.
func (s *series[E]) Exists() bool { return s.t.file != nil }

// Flush makes the index durable.
func (s *series[E]) Flush() error { return s.t.flush() }

// Close writes what is in memory and closes the file.
func (s *series[E]) Close() error { return s.t.close() }

// Discard closes the file without writing what is in memory.
func (s *series[E]) Discard() error { return s.t.discard() }
