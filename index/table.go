// Package index reads and writes the index files of a log segment: the offset
// index, the time index and the index of aborted transactions, in Kafka's
// formats.
//
// All are derived from the segment's batches and may lag behind them after a
// crash: opening a segment rebuilds what it cannot trust.
package index

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/klamm-io/klamm/log/vfs"
)

// ErrCorrupt means that an index file cannot be what was written.
var ErrCorrupt = errors.New("corrupt index")

// tailBytes is how much a table collects before it writes.
const tailBytes = 4 << 10

// table is a file of fixed-size entries in rising order. The last ones stay in
// memory until a block of them is full, so that an append costs no system call;
// what is in the file is read through it, never kept.
//
// One writer and any number of readers: mu is never held during I/O. The writer
// alone changes the fields; it changes those that readers see under mu.
type table struct {
	fs    vfs.FS
	name  string
	entry int // bytes

	mu      sync.Mutex
	file    vfs.File // nil until the first write, or if there is none
	disk    int      // entries in the file
	tail    []byte   // entries after those
	readers int      // views in use, which see the tail's memory
}

// open reads the size of the file, if it exists.
func (t *table) open(fs vfs.FS, name string, entry int) error {
	t.fs, t.name, t.entry = fs, name, entry
	f, err := fs.OpenFile(name, os.O_RDWR, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size%int64(entry) != 0 {
		err = fmt.Errorf("%w: %s: %d bytes are no multiple of %d", ErrCorrupt, name, size, entry)
	}
	if err != nil {
		f.Close()
		return err
	}
	t.file, t.disk = f, int(size)/entry
	return nil
}

func (t *table) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.disk + len(t.tail)/t.entry
}

// append adds an entry, in memory.
func (t *table) append(e []byte) {
	t.mu.Lock()
	if len(t.tail)+len(e) > cap(t.tail) {
		t.tail = slices.Grow(t.tail, max(3*len(t.tail), 16*t.entry))
	}
	t.tail = append(t.tail, e...)
	t.mu.Unlock()
}

// spill writes if a block is full.
func (t *table) spill() error {
	if len(t.tail) < tailBytes {
		return nil
	}
	return t.write()
}

// write moves the tail into the file.
func (t *table) write() error {
	if len(t.tail) == 0 {
		return nil
	}
	if t.file == nil {
		return t.create()
	}
	if _, err := t.file.WriteAt(t.tail, int64(t.disk)*int64(t.entry)); err != nil {
		return fmt.Errorf("write %s: %w", t.name, err)
	}
	t.mu.Lock()
	t.disk += len(t.tail) / t.entry
	if t.tail = t.tail[:0]; t.readers > 0 {
		t.tail = nil // they may still search it
	}
	t.mu.Unlock()
	return nil
}

// persist writes, and makes the file even if it is empty.
func (t *table) persist() error {
	if t.file == nil {
		return t.create()
	}
	return t.write()
}

func (t *table) create() error {
	f, err := t.fs.OpenFile(t.name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.file = f
	t.mu.Unlock()
	return t.write()
}

// flush is persist, durably.
func (t *table) flush() error {
	if err := t.persist(); err != nil {
		return err
	}
	return t.file.Sync()
}

func (t *table) close() error {
	err := t.write()
	if t.file == nil {
		return err
	}
	if e := t.file.Close(); err == nil {
		err = e
	}
	return err
}

// discard closes without writing.
func (t *table) discard() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// truncate keeps the first n entries.
func (t *table) truncate(n int) error {
	t.mu.Lock()
	disk := min(t.disk, n)
	cut := disk < t.disk
	t.disk = disk
	t.tail = t.tail[:min(len(t.tail), (n-disk)*t.entry)]
	if t.readers > 0 {
		t.tail = slices.Clone(t.tail)
	}
	t.mu.Unlock()
	if !cut {
		return nil
	}
	if err := t.file.Truncate(int64(disk) * int64(t.entry)); err != nil {
		return fmt.Errorf("truncate %s: %w", t.name, err)
	}
	return nil
}

// view is what a reader sees: a prefix of the table that does not change. It is
// to be given back with done.
type view struct {
	t     *table
	file  vfs.File
	entry int
	disk  int
	tail  []byte
}

func (t *table) view() view {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readers++
	return view{t, t.file, t.entry, t.disk, t.tail}
}

func (v view) done() {
	v.t.mu.Lock()
	v.t.readers--
	v.t.mu.Unlock()
}

func (v view) count() int { return v.disk + len(v.tail)/v.entry }

// blocks holds buffers for reads: one block of entries.
var blocks = sync.Pool{New: func() any { return new([tailBytes + 64]byte) }}

// at returns entry i, which may alias buf.
func (v view) at(i int, buf []byte) ([]byte, error) {
	if i >= v.disk {
		i -= v.disk
		return v.tail[i*v.entry : (i+1)*v.entry], nil
	}
	b := buf[:v.entry]
	if n, err := v.file.ReadAt(b, int64(i)*int64(v.entry)); err != nil && !(err == io.EOF && n == len(b)) {
		return nil, fmt.Errorf("read index entry %d: %w", i, err)
	}
	return b, nil
}

// search returns the number of entries for which before holds: it must hold for
// a prefix. Whole blocks are read once the range is down to one.
func (v view) search(before func(e []byte) bool) (int, error) {
	block := blocks.Get().(*[tailBytes + 64]byte)
	defer blocks.Put(block)
	buf := block[:]
	lo, hi := 0, v.count()
	if len(v.tail) > 0 && before(v.tail[:v.entry]) {
		lo = v.disk
	} else {
		hi = min(hi, v.disk)
	}
	for lo < hi {
		if lo < v.disk && (hi-lo)*v.entry <= tailBytes {
			return v.searchBlock(lo, hi, buf, before)
		}
		mid := int(uint(lo+hi) >> 1)
		e, err := v.at(mid, buf)
		if err != nil {
			return 0, err
		}
		if before(e) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// searchBlock searches entries [lo, hi), all in the file.
func (v view) searchBlock(lo, hi int, buf []byte, before func(e []byte) bool) (int, error) {
	b := buf[:(hi-lo)*v.entry]
	if n, err := v.file.ReadAt(b, int64(lo)*int64(v.entry)); err != nil && !(err == io.EOF && n == len(b)) {
		return 0, fmt.Errorf("read index entries %d to %d: %w", lo, hi, err)
	}
	i, j := 0, hi-lo
	for i < j {
		mid := int(uint(i+j) >> 1)
		if before(b[mid*v.entry : (mid+1)*v.entry]) {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return lo + i, nil
}

// each calls f for every entry, in order.
func (t *table) each(f func(i int, e []byte) error) error {
	v := t.view()
	defer v.done()
	block := blocks.Get().(*[tailBytes + 64]byte)
	defer blocks.Put(block)
	perBlock := tailBytes / t.entry
	for i := 0; i < v.disk; i += perBlock {
		n := min(perBlock, v.disk-i)
		b := block[:n*t.entry]
		if got, err := v.file.ReadAt(b, int64(i)*int64(t.entry)); err != nil && !(err == io.EOF && got == len(b)) {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		for k := range n {
			if err := f(i+k, b[k*t.entry:(k+1)*t.entry]); err != nil {
				return err
			}
		}
	}
	for i := v.disk; i < v.count(); i++ {
		e, err := v.at(i, nil)
		if err == nil {
			err = f(i, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
