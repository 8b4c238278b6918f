package segment

import (
	"bytes"
	"encoding/binary"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// later looks for batches behind a place where none is valid. If there are some,
// that place is damaged: what a write that was cut short leaves behind has no
// batches after it.
//
// But the value of a record may be a batch, or have bytes in it that look like
// some, as backups and dead letters do, and then a torn batch holds valid ones. So
// inside of what the header there claims for its batch, a valid one counts only if
// the claim is wrong: if it has the offset that follows, and the bytes before it
// have the CRC of the header, or from it on batches follow each other up to the
// end. Behind what is claimed any valid batch counts, and so it does where there
// is no header to rely on, or where the place was known to be on disk.
//
// Where the header is zeros, its sector was never written, and no claim bounds
// the batch. Then one counts if from it on batches follow each other up to the
// end.
type later struct {
	s      *Segment
	f      vfs.File
	from   int64 // where no batch is valid
	synced bool  // what was there is known to have been on disk

	torn  record.Batch // the header there; nil if that is none to rely on
	lost  bool         // there are zeros instead of a header
	ends  map[int64]bool
	spent int64 // bytes that were read to check CRCs
}

// findLater returns where the first batch after byte from is, -1 if there is
// none. synced says that what was at from is known to have been on disk.
func (s *Segment) findLater(from int64, synced bool) (int64, error) {
	f, err := s.file()
	if err != nil {
		return -1, err
	}
	l := &later{s: s, f: f, from: from, synced: synced, ends: make(map[int64]bool)}
	if err := l.readTorn(); err != nil {
		return -1, err
	}
	const window = 1 << 20
	for at := from + 1; at+record.HeaderSize <= s.size; at += window {
		buf := make([]byte, min(window+record.HeaderSize, s.size-at))
		if err := fill(f, buf, at); err != nil {
			return -1, err
		}
		for i := 0; i+record.HeaderSize <= len(buf) && i < window; i++ {
			h := record.Batch(buf[i : i+record.HeaderSize])
			if !l.plausible(h, at+int64(i)) {
				continue
			}
			if yes, err := l.counts(h, at+int64(i)); err != nil || yes {
				return at + int64(i), err
			}
		}
	}
	return -1, nil
}

// readTorn reads the header of the batch that is not valid, if it agrees with what
// is before it and with itself. Its length may be wrong all the same.
func (l *later) readTorn() error {
	if l.from+record.HeaderSize > l.s.size {
		return nil
	}
	h := make(record.Batch, record.HeaderSize)
	if err := fill(l.f, h, l.from); err != nil {
		return err
	}
	l.lost = len(bytes.TrimLeft(h, "\x00")) == 0
	if h.Magic() == record.Magic && h.BaseOffset() == l.s.next && h.Count() > 0 && h.LastOffset() == h.BaseOffset()+int64(h.Count())-1 && l.s.Fits(h.LastOffset()) {
		l.torn = h
	}
	return nil
}

// plausible reports whether h could be the header of a batch at pos.
func (l *later) plausible(h record.Batch, pos int64) bool {
	if h.Magic() != record.Magic {
		return false
	}
	size := int64(int32(binary.BigEndian.Uint32(h[8:]))) + record.LogOverhead
	if size < record.HeaderSize || size > l.s.size-pos {
		return false
	}
	base, last := h.BaseOffset(), h.LastOffset()
	return base >= l.s.next && last >= base && l.s.Fits(last)
}

// counts reports whether the batch at pos shows that what is before it is
// damaged.
func (l *later) counts(h record.Batch, pos int64) (bool, error) {
	switch {
	case l.synced:
	case l.torn != nil:
		if claimed := l.from + int64(l.torn.Size()); l.torn.Size() < record.HeaderSize || pos >= claimed {
			break
		}
		if h.BaseOffset() != l.torn.LastOffset()+1 {
			return false, nil
		}
		whole, err := l.endsAt(pos)
		if err == nil && !whole {
			whole, err = l.reachesEnd(pos+int64(h.Size()), h.LastOffset()+1)
		}
		if err != nil || !whole {
			return false, err
		}
	case l.lost:
		if ends, err := l.reachesEnd(pos+int64(h.Size()), h.LastOffset()+1); err != nil || !ends {
			return false, err
		}
	}
	// Who makes thousands of headers up may make each of them claim the rest of the
	// file. Then it is not gone through that often, and the file is taken for
	// damaged, which loses nothing.
	if l.spend(h.Size()) {
		return true, nil
	}
	b := make(record.Batch, h.Size())
	if err := fill(l.f, b, pos); err != nil {
		return false, err
	}
	return b.Validate() == nil, nil
}

// endsAt reports whether the batch whose header is there is valid if it ends at pos
// and not where it says.
func (l *later) endsAt(pos int64) (bool, error) {
	if l.spend(int(pos - l.from)) {
		return true, nil
	}
	b := make(record.Batch, pos-l.from)
	if err := fill(l.f, b, l.from); err != nil {
		return false, err
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-record.LogOverhead))
	return b.Validate() == nil, nil
}

// spend counts bytes that are read, and reports whether they are too many.
func (l *later) spend(n int) bool {
	l.spent += int64(n)
	return l.spent > 8*(l.s.size-l.from)+1<<20
}

// zeros reports whether all is 0 from pos on: space that was never written to.
func (l *later) zeros(pos int64) (bool, error) {
	buf := make([]byte, 64<<10)
	for pos < l.s.size {
		b := buf[:min(int64(len(buf)), l.s.size-pos)]
		if err := fill(l.f, b, pos); err != nil {
			return false, err
		}
		if l.spend(len(b)) {
			return true, nil
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
		pos += int64(len(b))
	}
	return true, nil
}

// reachesEnd reports whether headers follow each other from pos on, where the
// offset next is due, up to the end of the file, to a batch that is cut off, or to
// space that was never written to.
// Each place is looked at once.
func (l *later) reachesEnd(pos, next int64) (bool, error) {
	var seen []int64
	result := false
	for {
		if known, ok := l.ends[pos]; ok {
			result = known
			break
		}
		seen = append(seen, pos)
		left := l.s.size - pos
		if left == 0 {
			result = true
			break
		}
		h := make(record.Batch, min(left, record.HeaderSize))
		if err := fill(l.f, h, pos); err != nil {
			return false, err
		}
		if left < record.HeaderSize {
			result = bytes.HasPrefix(binary.BigEndian.AppendUint64(nil, uint64(next)), h[:min(len(h), 8)])
			break
		}
		if len(bytes.TrimLeft(h, "\x00")) == 0 {
			var err error
			if result, err = l.zeros(pos); err != nil {
				return false, err
			}
			break
		}
		if h.Magic() != record.Magic || h.BaseOffset() < next || h.LastOffset() < h.BaseOffset() || !l.s.Fits(h.LastOffset()) || h.Size() < record.HeaderSize {
			break
		}
		if int64(h.Size()) > left {
			result = h.BaseOffset() == next
			break
		}
		pos, next = pos+int64(h.Size()), h.LastOffset()+1
	}
	for _, at := range seen {
		l.ends[at] = result
	}
	return result, nil
}
