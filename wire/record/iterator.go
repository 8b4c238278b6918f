package record

import (
	"fmt"
	"sync"
)

// DefaultMaxSize is the limit in bytes on decompressed records that applies
// where a caller gives none.
const DefaultMaxSize = 128 << 20

// Header is one header of a record. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a batch. A nil Key or Value is null.
type Record struct {
	Attributes     int8
	TimestampDelta int64 // ms after the batch's base timestamp
	OffsetDelta    int32 // after the batch's base offset
	Key, Value     []byte
	Headers        []Header
}

// scratch holds buffers that decompressed records live in.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the largest buffer that is kept for reuse.
const maxScratch = 4 << 20

// Iterator reads the records of a batch in order. The zero value is ready for
// Reset. It is owned by one goroutine.
//
// Keys and values alias the batch, or memory that Close gives back.
type Iterator struct {
	base, baseTimestamp, maxTimestamp int64
	appendTime                        bool
	b                                 []byte
	pos                               int
	i, count                          int32
	rec                               Record
	buf                               *[]byte
	err                               error
}

// Iterate returns an iterator over the records of b, which decompress to at most
// maxSize bytes (0 means DefaultMaxSize). Close it after use.
func (b Batch) Iterate(maxSize int) *Iterator {
	it := new(Iterator)
	it.Reset(b, maxSize)
	return it
}

// Reset makes it read b, and keeps what memory it has. An error is also that of
// Err.
func (it *Iterator) Reset(b Batch, maxSize int) error {
	it.err, it.b, it.pos, it.i, it.count = nil, nil, 0, 0, 0
	if len(b) < HeaderSize {
		it.err = fmt.Errorf("%w: %d bytes", ErrShort, len(b))
		return it.err
	}
	a := b.Attributes()
	it.base, it.baseTimestamp, it.maxTimestamp = b.BaseOffset(), b.BaseTimestamp(), b.MaxTimestamp()
	it.appendTime = a.LogAppendTime()
	it.b, it.count = b.Records(), b.Count()
	if it.count < 0 {
		it.fail("record count", it.count)
		return it.err
	}
	if a.Codec() != None && it.count > 0 {
		if it.buf == nil {
			it.buf = scratch.Get().(*[]byte)
		}
		out, err := Decompress((*it.buf)[:0], a.Codec(), it.b, maxSize)
		if cap(out) > cap(*it.buf) {
			*it.buf = out[:0]
		}
		it.b, it.err = out, err
	}
	return it.err
}

// Plain returns all record bytes, decompressed. They are valid until Close or
// Reset.
func (it *Iterator) Plain() []byte { return it.b }

// Close gives memory back; records read before must not be used after it.
func (it *Iterator) Close() {
	it.b, it.count = nil, 0
	if it.buf == nil {
		return
	}
	if cap(*it.buf) > maxScratch {
		*it.buf = nil
	}
	scratch.Put(it.buf)
	it.buf = nil
}

// Err returns the error that ended the iteration, or nil.
func (it *Iterator) Err() error { return it.err }

// Record returns the current record; Next overwrites it.
func (it *Iterator) Record() *Record { return &it.rec }

// Offset returns the offset of the current record.
func (it *Iterator) Offset() int64 { return it.base + int64(it.rec.OffsetDelta) }

// Timestamp returns the timestamp of the current record in ms.
func (it *Iterator) Timestamp() int64 {
	if it.appendTime {
		return it.maxTimestamp
	}
	return it.baseTimestamp + it.rec.TimestampDelta
}

func (it *Iterator) fail(what string, v int32) bool {
	it.err = fmt.Errorf("%w: record %d of %d: %s %d near byte %d of %d", ErrCorrupt, it.i, it.count, what, v, it.pos, len(it.b))
	return false
}

// Next moves to the next record and reports whether there is one. After the last
// record, bytes left over are an error.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	if it.i >= it.count {
		if it.pos < len(it.b) && it.count > 0 {
			return it.fail("trailing bytes", int32(len(it.b)-it.pos))
		}
		return false
	}
	size, at := varintAt(it.b, it.pos)
	if at < 0 || size < 1 || int(size) > len(it.b)-at {
		return it.fail("size", size)
	}
	end := at + int(size)
	b, r := it.b[:end:end], &it.rec
	r.Attributes = int8(b[at])
	if r.TimestampDelta, at = varlongAt(b, at+1); at < 0 {
		return it.fail("timestamp", 0)
	}
	if r.OffsetDelta, at = varintAt(b, at); at < 0 {
		return it.fail("offset", 0)
	}
	if r.Key, at = bytesAt(b, at); at < 0 {
		return it.fail("key", 0)
	}
	if r.Value, at = bytesAt(b, at); at < 0 {
		return it.fail("value", 0)
	}
	n, at := varintAt(b, at)
	if at < 0 || n < 0 || int(n) > (end-at)/2 {
		return it.fail("header count", n)
	}
	if at = it.readHeaders(b, at, int(n)); at != end {
		return it.fail("header, of", n)
	}
	it.pos = end
	it.i++
	return true
}

// readHeaders reuses the strings of the record before where the keys are equal,
// as they mostly are.
func (it *Iterator) readHeaders(b []byte, at, n int) int {
	h := it.rec.Headers[:0]
	for i := 0; i < n && at >= 0; i++ {
		var key []byte
		if key, at = bytesAt(b, at); at < 0 || key == nil {
			return -1
		}
		if len(h) < cap(h) {
			h = h[:len(h)+1]
		} else {
			h = append(h, Header{})
		}
		last := &h[len(h)-1]
		if last.Key != string(key) {
			last.Key = string(key)
		}
		last.Value, at = bytesAt(b, at)
	}
	it.rec.Headers = h
	return at
}

// bytesAt reads bytes with a varint length; nil stands for null.
func bytesAt(b []byte, i int) ([]byte, int) {
	n, i := varintAt(b, i)
	if i < 0 || n < -1 || int(n) > len(b)-i {
		return nil, -1
	}
	if n < 0 {
		return nil, i
	}
	return b[i : i+int(n) : i+int(n)], i + int(n)
}
