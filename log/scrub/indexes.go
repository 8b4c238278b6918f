package scrub

import (
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
)

// entries reads an index file of fixed-size entries in order. The rest that is
// preallocated is zero and left out.
type entries struct {
	w    *window
	name string
	size int64
	at   int64 // of the next entry
	used int64
}

const indexWindow = 64 << 10

// openEntries returns nil if there is no such file.
func (r *reading) openEntries(suffix string, size int64) *entries {
	name := r.p.segmentFile(r.base, suffix)
	w, err := openWindow(r.p.c.fs, name, indexWindow)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		r.p.unreadable(name, err)
		return nil
	}
	e := &entries{w: w, name: name, size: size}
	e.used, err = e.trim()
	if err != nil {
		r.p.unreadable(name, err)
		w.close()
		return nil
	}
	if part := e.used % size; part != 0 {
		r.wrong(name, e.used-part, -1, fmt.Sprintf("%d bytes of an entry of %d", part, size))
		e.used -= part
	}
	return e
}

// trim returns the size without the zeros at the end, in whole entries as far as
// there are.
func (e *entries) trim() (int64, error) {
	for end := e.w.size; end > 0; {
		from := max(0, end-indexWindow)
		b, err := e.w.bytes(from, int(end-from))
		if err != nil {
			return 0, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != 0 {
				used := from + int64(i) + 1
				return min((used+e.size-1)/e.size*e.size, e.w.size), nil
			}
		}
		end = from
	}
	return 0, nil
}

// peek returns the next entry, nil at the end.
func (e *entries) peek() []byte {
	if e == nil || e.at >= e.used {
		return nil
	}
	b, err := e.w.bytes(e.at, int(e.size))
	if err != nil || int64(len(b)) < e.size {
		e.at = e.used
		return nil
	}
	return b
}

// stop reads no more of it: one fault is enough.
func (e *entries) stop() { e.at = e.used }

// wrong notes that a file derived from this segment's batches is wrong.
func (r *reading) wrong(name string, at, offset int64, what string) {
	s, advice := r.p.derived(r.i)
	if r.changed() {
		s, advice = Note, changedAdvice
	}
	if f := r.p.find(s, name, at, offset, what, advice); s == Damage {
		f.fix = fixRemove
	}
}

const changedAdvice = "none: the broker changed the segment while it was read"

// changed reports whether a broker has changed or replaced the data file since
// it was opened, so that its indexes are those of another one.
func (r *reading) changed() bool {
	if !r.p.d.running {
		return false
	}
	info, err := r.p.c.fs.Stat(r.file)
	return err != nil || r.w == nil || info.Size() != r.w.size
}

// offsetCursor goes through .index as the batches go by.
type offsetCursor struct {
	*entries
	lastOffset, lastPosition int64
	ahead                    []offsetClaim // entries whose offset is beyond their batch's
}

// offsetClaim is an entry that must still prove right.
type offsetClaim struct{ at, offset int64 }

// timeCursor goes through .timeindex as the batches go by.
type timeCursor struct {
	*entries
	max                  int64 // largest timestamp so far, -1 none
	lastTime, lastOffset int64
}

// txnCursor goes through .txnindex as abort markers go by.
type txnCursor struct {
	name string
	list []index.AbortedTxn
	i    int
	bad  bool
}

func (r *reading) openIndexes() {
	p := r.p
	r.offsets = &offsetCursor{entries: r.openEntries(segment.IndexSuffix, 8), lastOffset: r.base - 1, lastPosition: -1}
	r.times = &timeCursor{entries: r.openEntries(segment.TimeSuffix, 12), max: -1, lastTime: -1, lastOffset: r.base}
	r.txns = r.openTxns()
	for suffix, e := range map[string]*entries{segment.IndexSuffix: r.offsets.entries, segment.TimeSuffix: r.times.entries} {
		if e == nil && r.w.size > 0 && !p.single && r.i+1 < len(p.segments) {
			p.find(Warning, p.segmentFile(r.base, suffix), -1, r.base, "missing", "none: the next start makes it anew")
		}
	}
}

func (r *reading) closeIndexes() {
	for _, e := range []*entries{r.offsets.entries, r.times.entries} {
		if e != nil {
			e.w.close()
		}
	}
}

func (r *reading) openTxns() *txnCursor {
	c := &txnCursor{name: r.p.segmentFile(r.base, segment.TxnSuffix)}
	b, err := vfs.ReadFile(r.p.c.fs, c.name)
	if errors.Is(err, iofs.ErrNotExist) {
		return c
	}
	if err != nil {
		r.p.unreadable(c.name, err)
		c.bad = true
		return c
	}
	whole := len(b) - len(b)%index.TxnEntrySize
	for at := 0; at < whole; at += index.TxnEntrySize {
		// With the entry before, which tells whether they rise.
		list, err := index.ParseTxns(b[max(0, at-index.TxnEntrySize) : at+index.TxnEntrySize])
		if err != nil {
			r.wrongTxn(c, int64(at), -1, err.Error())
			return c
		}
		c.list = append(c.list, list[len(list)-1])
	}
	if whole < len(b) {
		r.wrongTxn(c, int64(whole), -1, fmt.Sprintf("%d bytes of an entry of %d", len(b)-whole, index.TxnEntrySize))
	}
	return c
}

// wrongTxn notes a fault in .txnindex, one a file.
func (r *reading) wrongTxn(c *txnCursor, at, offset int64, what string) {
	if c.bad {
		return
	}
	c.bad = true
	s, advice := r.p.derived(r.i)
	if r.changed() {
		s, advice = Note, changedAdvice
	}
	if s == Warning && r.p.snapshotAfter(r.base) {
		s = Damage // the next start begins with the newest snapshot
	}
	if s == Damage {
		advice = "klamm log repair removes it and the producer snapshots after it, so that the next start makes them anew"
	}
	if f := r.p.find(s, c.name, at, offset, what, advice); s == Damage {
		f.fix = fixTxnIndex
	}
}

// noteIndexes compares the entries that are about the batch at r.at, and those
// before it that no batch answered to.
func (r *reading) noteIndexes(d segment.Info) {
	r.noteOffset(d)
	r.noteTime(d)
}

func (r *reading) noteOffset(d segment.Info) {
	c := r.offsets
	for e := c.peek(); e != nil; e = c.peek() {
		offset, position := r.base+int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))
		what := ""
		switch {
		case offset <= c.lastOffset || position <= c.lastPosition || offset < r.base || position < 0:
			what = fmt.Sprintf("offset %d at byte %d after offset %d at byte %d", offset, position, c.lastOffset, c.lastPosition)
		case position > r.at:
			return // for a later batch
		case position < r.at && r.damaged: // it may have been right
		case position < r.at:
			what = fmt.Sprintf("offset %d at byte %d, where no batch begins", offset, position)
		case offset < d.Base:
			what = fmt.Sprintf("offset %d at byte %d, where offset %d begins", offset, position, d.Base)
		case offset > d.Last: // an old Kafka wrote the last offset of all that it appended at once
			c.ahead = append(c.ahead, offsetClaim{c.at, offset})
		}
		if what != "" {
			r.wrong(c.name, c.at, offset, what)
			c.stop()
			return
		}
		c.lastOffset, c.lastPosition = offset, position
		c.at += c.size
	}
}

func (r *reading) noteTime(d segment.Info) {
	c := r.times
	before := c.max
	c.max = max(c.max, d.MaxTimestamp)
	for e := c.peek(); e != nil; e = c.peek() {
		ts, offset := int64(binary.BigEndian.Uint64(e)), r.base+int64(int32(binary.BigEndian.Uint32(e[8:])))
		what := ""
		want := c.max
		if offset < d.Base {
			want = before
		}
		switch {
		case offset < c.lastOffset || ts <= c.lastTime:
			what = fmt.Sprintf("timestamp %d of offset %d after timestamp %d of offset %d", ts, offset, c.lastTime, c.lastOffset)
		case offset > d.Last:
			return
		case ts != want && !r.damaged:
			what = fmt.Sprintf("timestamp %d for offset %d, the largest up to there is %d", ts, offset, want)
		}
		if what != "" {
			r.wrong(c.name, c.at, offset, what)
			c.stop()
			return
		}
		c.lastTime, c.lastOffset = ts, offset
		c.at += c.size
	}
}

// aborted compares the entry of an abort marker with the transaction that the
// batches tell of: first is -1 if none of its data was read.
func (r *reading) aborted(id, first, marker int64) {
	c, p := r.txns, r.p
	for ; c.i < len(c.list) && c.list[c.i].LastOffset < marker; c.i++ {
		r.noMarker(c.list[c.i])
	}
	if c.i == len(c.list) || c.list[c.i].LastOffset != marker {
		if first >= 0 && !p.single {
			r.wrongTxn(c, -1, marker, fmt.Sprintf("no entry for the transaction of producer %d from offset %d, aborted at %d", id, first, marker))
		}
		return
	}
	e, at := c.list[c.i], int64(c.i*index.TxnEntrySize)
	c.i++
	switch {
	case e.ProducerID != id:
		r.wrongTxn(c, at, marker, fmt.Sprintf("producer %d, the marker at %d is of producer %d", e.ProducerID, marker, id))
	case p.partial: // the data may have been what is not there
	case first >= 0 && e.FirstOffset > first, first >= 0 && e.FirstOffset != first && p.compacted == "" && e.FirstOffset >= p.segments[0] && !p.single:
		r.wrongTxn(c, at, marker, fmt.Sprintf("first offset %d, the transaction of producer %d begins at %d", e.FirstOffset, id, first))
	case e.LastStableOffset > marker+1:
		r.wrongTxn(c, at, marker, fmt.Sprintf("last stable offset %d after the marker at %d", e.LastStableOffset, marker))
	default:
		stable := marker + 1
		if open := p.producers.firstOpen(); open >= 0 {
			stable = open
		}
		if e.LastStableOffset != stable && p.compacted == "" && !p.single && p.segments[0] == 0 {
			r.wrongTxn(c, at, marker, fmt.Sprintf("last stable offset %d, the log says %d", e.LastStableOffset, stable))
		}
	}
}

// noMarker judges an entry whose marker was not there. Compaction removes
// markers in time.
func (r *reading) noMarker(e index.AbortedTxn) {
	if r.damaged || r.p.compacted != "" {
		return
	}
	r.wrongTxn(r.txns, int64(r.txns.i*index.TxnEntrySize), e.LastOffset, fmt.Sprintf("no abort marker at offset %d, where producer %d is to have one", e.LastOffset, e.ProducerID))
}

// endIndexes judges what no batch answered to.
func (r *reading) endIndexes() {
	p, c := r.p, r.offsets
	if e := c.peek(); e != nil && !r.damaged {
		offset, position := r.base+int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))
		r.wrong(c.name, c.at, offset, fmt.Sprintf("offset %d at byte %d, the data has %d bytes", offset, position, r.w.size))
	}
	for i, a := range c.ahead {
		if a.offset >= p.next && !r.damaged {
			r.wrong(c.name, a.at, a.offset, fmt.Sprintf("offset %d, the segment ends at %d", a.offset, p.next))
			break
		}
		if i == len(c.ahead)-1 {
			p.find(Note, c.name, c.ahead[0].at, c.ahead[0].offset, "the offset is not that of the batch at the entry's position but of a later one, as old versions of Kafka wrote it", "none: a search still finds everything")
		}
	}
	t := r.times
	switch e := t.peek(); {
	case r.damaged:
	case e != nil:
		ts, offset := int64(binary.BigEndian.Uint64(e)), r.base+int64(int32(binary.BigEndian.Uint32(e[8:])))
		r.wrong(t.name, t.at, offset, fmt.Sprintf("timestamp %d of offset %d, the segment ends at %d", ts, offset, p.next))
	case t.entries != nil && t.at == t.used && t.lastTime < t.max && !(r.i == len(p.segments)-1 && !p.d.clean) && !t.faulty(r):
		r.wrong(t.name, t.used, -1, fmt.Sprintf("ends with timestamp %d, the largest is %d: records after it are not found by time", t.lastTime, t.max))
	}
	for x := r.txns; x.i < len(x.list); x.i++ {
		r.noMarker(x.list[x.i])
	}
}

// faulty reports whether this file was found fault with already.
func (c *timeCursor) faulty(r *reading) bool {
	for _, f := range r.p.findings {
		if f.File == c.name {
			return true
		}
	}
	return false
}
