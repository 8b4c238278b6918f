package scrub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"math"

	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	// dataWindow is how much of a data file is read at once.
	dataWindow = 1 << 20
	// bigBatch is the size from which on a batch's CRC is computed piece by piece
	// before it is read whole: a wrong length must not take that much memory.
	bigBatch = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// reading is a data file while it is read, with the indexes beside it.
type reading struct {
	p       *partition
	i       int // which segment
	base    int64
	limit   int64 // offsets at or above belong to the next segment
	file    string
	w       *window
	at      int64 // of the next batch
	damaged bool

	offsets *offsetCursor
	times   *timeCursor
	txns    *txnCursor
}

// segment checks segment i, batch for batch.
func (p *partition) segment(i int) error {
	r := &reading{p: p, i: i, base: p.segments[i], limit: math.MaxInt64}
	r.file = p.segmentFile(r.base, segment.LogSuffix)
	if i+1 < len(p.segments) {
		r.limit = p.segments[i+1]
	}
	if i == 0 {
		p.next = r.base
	}
	if p.next > r.base && !p.damaged {
		p.find(Damage, r.file, -1, r.base, fmt.Sprintf("the segment before it reaches to offset %d", p.next-1), "compare both segments with those of a replica: one of them is too many")
	}
	if p.next < r.base {
		p.hole(r.file, 0, p.next, r.base)
		p.next = r.base
	}
	p.compareSnapshots(r.base)
	w, err := openWindow(p.c.fs, r.file, dataWindow)
	if errors.Is(err, iofs.ErrNotExist) && p.d.running {
		return nil // removed meanwhile
	}
	if err != nil {
		p.unreadable(r.file, err)
		return p.c.ctx.Err()
	}
	defer w.close()
	r.w = w
	r.openIndexes()
	defer r.closeIndexes()
	if err := r.run(); err != nil {
		return err
	}
	r.endIndexes()
	return nil
}

// unreadable notes an I/O error.
func (p *partition) unreadable(file string, err error) {
	p.damaged = true
	p.find(Damage, file, -1, -1, err.Error(), "look at the disk; restore the partition from a replica or a backup")
}

// run reads the batches. Where one is invalid it goes on with the next that is
// valid.
func (r *reading) run() error {
	for r.at < r.w.size {
		at := r.at
		b, err := r.batch(at)
		if err == nil {
			if err = r.outOfPlace(b); err == nil { // which may have read on
				b, err = r.w.bytes(at, len(b))
			}
		}
		var io *ioError
		if err == nil {
			r.take(b)
		} else if !errors.As(err, &io) {
			err = r.pass(err)
		}
		if errors.As(err, &io) {
			r.p.unreadable(r.file, io.error)
			r.damaged, r.at, err = true, r.w.size, nil
		}
		if err == nil {
			err = r.p.c.advance(r.at - at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ioError is about reading bytes and not about the bytes.
type ioError struct{ error }

// batch returns the whole batch at a byte if sizes, version and CRC are right.
func (r *reading) batch(at int64) (record.Batch, error) {
	head, err := r.w.bytes(at, record.HeaderSize)
	if err != nil {
		return nil, &ioError{err}
	}
	if len(head) < record.LogOverhead+5 {
		return nil, fmt.Errorf("%d bytes are no batch", len(head))
	}
	length := int64(int32(binary.BigEndian.Uint32(head[8:])))
	size, magic := length+record.LogOverhead, int8(head[16])
	switch left := r.w.size - at; {
	case magic < 0 || magic > record.Magic:
		return nil, fmt.Errorf("version %d of a batch", magic)
	case length < 14 || magic == record.Magic && size < record.HeaderSize:
		return nil, fmt.Errorf("a batch of %d bytes", size)
	case size > left:
		return nil, fmt.Errorf("a batch of %d bytes, %d are left", size, left)
	}
	if magic == record.Magic && size > bigBatch {
		if err := r.sum(at, size, binary.BigEndian.Uint32(head[17:])); err != nil {
			return nil, err
		}
	}
	b, err := r.w.bytes(at, int(size))
	if err != nil {
		return nil, &ioError{err}
	}
	if int64(len(b)) < size {
		return nil, fmt.Errorf("a batch of %d bytes, %d are left", size, len(b))
	}
	if magic < record.Magic {
		_, err = record.ReadLegacy(nil, b, 0)
		return b, err
	}
	if got, want := crc32.Checksum(b[21:], castagnoli), record.Batch(b).CRC(); got != want {
		return nil, fmt.Errorf("batch of offset %d: crc %08x, want %08x", record.Batch(b).BaseOffset(), got, want)
	}
	return b, nil
}

// sum checks the CRC of a batch that is too large to be read on trust.
func (r *reading) sum(at, size int64, want uint32) error {
	crc := uint32(0)
	for from, end := at+21, at+size; from < end; {
		b, err := r.w.bytes(from, int(min(end-from, dataWindow)))
		if err != nil {
			return &ioError{err}
		}
		if len(b) == 0 {
			return fmt.Errorf("a batch of %d bytes, %d are left", size, from-at)
		}
		crc = crc32.Update(crc, castagnoli, b)
		from += int64(len(b))
	}
	if crc != want {
		return fmt.Errorf("a batch of %d bytes: crc %08x, want %08x", size, crc, want)
	}
	return nil
}

// misplaced is a batch that is valid but for its offsets, which no CRC covers.
type misplaced struct{ what string }

func (e *misplaced) Error() string { return e.what }

// outOfPlace reports offsets that cannot follow those before, or that do not
// belong into this segment, or that the next batch proves wrong.
func (r *reading) outOfPlace(b record.Batch) error {
	d := segment.Describe(b)
	switch {
	case d.Last < d.Base:
		return &misplaced{fmt.Sprintf("offsets %d to %d", d.Base, d.Last)}
	case d.Last > fits(r.base) || d.Last >= r.limit:
		return &misplaced{fmt.Sprintf("offsets %d to %d are beyond the segment, which ends before %d", d.Base, d.Last, min(r.limit, fits(r.base)))}
	case d.Base < r.p.next:
		return &misplaced{fmt.Sprintf("offsets %d to %d after %d", d.Base, d.Last, r.p.next-1)}
	case d.Base == r.p.next:
		return nil
	}
	head, err := r.w.bytes(r.at+int64(d.Size), record.LogOverhead)
	if err != nil || len(head) < record.LogOverhead {
		return nil
	}
	if next := record.Batch(head).BaseOffset(); next >= r.p.next && next <= d.Base {
		return &misplaced{fmt.Sprintf("offsets %d to %d after %d, and the next batch begins with %d", d.Base, d.Last, r.p.next-1, next)}
	}
	return nil
}

// take enters a valid batch.
func (r *reading) take(b record.Batch) {
	p, d := r.p, segment.Describe(b)
	if d.Base > p.next {
		p.hole(r.file, r.at, p.next, d.Base)
	}
	p.compareSnapshots(d.Base)
	p.checkEpoch(r.file, r.at, d)
	r.noteIndexes(d)
	p.batches++
	if b.Magic() < record.Magic {
		p.records++
		p.nullKeys = p.nullKeys || legacyNullKey(b)
	} else {
		p.records += int64(max(b.Count(), 0))
		if err := r.contents(b); err != nil {
			// Its header is right, and with it all that is derived from that.
			before, damaged, partial := r.damaged, p.damaged, p.partial
			r.damage(p.find(Damage, r.file, r.at, d.Base, err.Error(), ""), r.at)
			r.damaged, p.damaged, p.partial = before, damaged, partial
		}
		r.replay(b)
	}
	p.next = d.Last + 1
	r.at += int64(len(b))
}

// legacyNullKey reports whether a message of version 0 or 1 has no key and is no
// wrapper of others.
func legacyNullKey(b record.Batch) bool {
	at := 18
	if b.Magic() == 1 {
		at += 8
	}
	return b[17]&7 == 0 && len(b) >= at+4 && int32(binary.BigEndian.Uint32(b[at:])) < 0
}

// contents checks the records of a batch.
func (r *reading) contents(b record.Batch) error {
	p, a := r.p, b.Attributes()
	count, delta := b.Count(), b.LastOffsetDelta()
	switch {
	case count < 0 || int64(count) > int64(delta)+1:
		return fmt.Errorf("%d records in offsets %d to %d", count, b.BaseOffset(), b.LastOffset())
	case a.Codec() > record.Zstd:
		return fmt.Errorf("codec %d", int8(a.Codec()))
	case a.Control() && a.Transactional() && count > 1: // those of KRaft may hold several
		return fmt.Errorf("control batch of %d records", count)
	}
	if int64(count) != int64(delta)+1 || a.DeleteHorizon() {
		p.compacted = "it has batches that lack records"
	}
	if count == 0 {
		return nil
	}
	if err := p.it.Reset(b, 0); err != nil {
		if errors.Is(err, record.ErrTooLarge) {
			p.find(Note, r.file, r.at, b.BaseOffset(), "records not checked: "+err.Error(), "none")
			return nil
		}
		return fmt.Errorf("records of the batch of offset %d: %w", b.BaseOffset(), err)
	}
	defer p.it.Close()
	p.walk.KeepNullKeys = !p.nullKeys && !a.Control()
	if err := p.walk.Run(p.it.Plain(), count); err != nil {
		return fmt.Errorf("records of the batch of offset %d: %w", b.BaseOffset(), err)
	}
	p.nullKeys = p.nullKeys || p.walk.KeepNullKeys && len(p.walk.NullKeys) > 0
	if p.walk.Sequential && !a.Control() {
		return nil
	}
	for last := int32(-1); p.it.Next(); {
		if at := p.it.Record().OffsetDelta; at <= last || at > delta {
			return fmt.Errorf("record offset %d after %d, in a batch that ends with %d", b.BaseOffset()+int64(at), b.BaseOffset()+int64(last), b.LastOffset())
		}
		last = p.it.Record().OffsetDelta
		if a.Control() && len(p.it.Record().Key) < 4 {
			return fmt.Errorf("control record with a key of %d bytes", len(p.it.Record().Key))
		}
	}
	if err := p.it.Err(); err != nil {
		return fmt.Errorf("records of the batch of offset %d: %w", b.BaseOffset(), err)
	}
	return nil
}

// damage notes a finding that a cut there would lose what follows.
func (r *reading) damage(f *Finding, at int64) {
	p := r.p
	r.damaged, p.damaged, p.partial = true, true, true
	f.fix = fixCutAtDamage
	before := at
	for _, base := range p.segments[:r.i] {
		if info, err := p.c.fs.Stat(p.segmentFile(base, segment.LogSuffix)); err == nil {
			before += info.Size()
		}
	}
	p.cuts = append(p.cuts, cut{len(p.findings) - 1, p.batches, p.records, before})
}

// pass says what is wrong at the present byte and goes on after it: with the
// next valid batch, or the end of the file.
func (r *reading) pass(wrong error) error {
	p, at, what := r.p, r.at, wrong.Error()
	var place *misplaced
	if errors.As(wrong, &place) {
		head, err := r.w.bytes(at, record.LogOverhead)
		if err != nil || len(head) < record.LogOverhead {
			return &ioError{fmt.Errorf("read byte %d again: %w", at, err)}
		}
		r.at += int64(int32(binary.BigEndian.Uint32(head[8:]))) + record.LogOverhead
		if len(p.cuts) < maxRepeated {
			r.damage(p.find(Damage, r.file, at, p.next, what, ""), at)
		}
		return nil
	}
	later, err := r.findValid(at)
	if err != nil {
		return err
	}
	if later >= 0 {
		r.at = later
		if len(p.cuts) < maxRepeated {
			r.damage(p.find(Damage, r.file, at, p.next, fmt.Sprintf("%s; the next valid batch is at byte %d", what, later), ""), at)
		}
		return nil
	}
	left := r.w.size - at
	if r.zeroFrom(at) {
		what = fmt.Sprintf("%d zero bytes", left)
	} else {
		what = fmt.Sprintf("the last %d bytes are no valid batch: %s", left, what)
	}
	r.at, r.damaged = r.w.size, true
	r.tail(at, what)
	return nil
}

// tail judges bytes at the end of a data file that are no batch. A write that a
// crash cut short leaves such, and nobody was promised them.
func (r *reading) tail(at int64, what string) {
	p, d := r.p, r.p.d
	last := r.i == len(p.segments)-1
	switch high, recovery := d.high[p.name], d.recovery[p.name]; {
	case last && d.running && !p.single:
		p.find(Note, r.file, at, p.next, what, "none: the broker may be writing them")
	case !last:
		r.damage(p.find(Damage, r.file, at, p.next, what+", and there are later segments", ""), at)
	case p.next < max(high, recovery) && !p.single:
		f := p.find(Damage, r.file, at, p.next, fmt.Sprintf("%s, and offsets below %d were on disk or acknowledged", what, max(high, recovery)), "restore the partition from a replica or a backup; klamm log repair cuts the bytes off")
		f.fix = fixCutTail
	case d.clean && !p.single:
		f := p.find(Damage, r.file, at, p.next, what+", though the last stop was a clean one", "klamm log repair cuts the bytes off")
		f.fix = fixCutTail
	default:
		f := p.find(Warning, r.file, at, p.next, "torn tail: "+what, "none: the next start cuts the bytes off, and so does klamm log repair")
		f.fix = fixCutTail
	}
}

// findValid looks for a valid batch after byte from, -1 if there is none. Its
// offsets must be such that could follow, so that values that happen to contain
// batches are mostly not taken for them.
func (r *reading) findValid(from int64) (int64, error) {
	for at := from + 1; at+record.HeaderSize <= r.w.size; {
		b, err := r.w.bytes(at, dataWindow)
		if err != nil {
			return -1, &ioError{err}
		}
		if len(b) < record.HeaderSize {
			return -1, nil
		}
		if err := r.p.c.ctx.Err(); err != nil {
			return -1, err
		}
		n := len(b) - record.HeaderSize + 1
		i := 0
		for ; i < n && !r.plausible(b[i:], at+int64(i)); i++ {
		}
		if at += int64(i); i == n {
			continue
		}
		var io *ioError
		if _, err := r.batch(at); err == nil {
			return at, nil
		} else if errors.As(err, &io) {
			return -1, err
		}
		at++
	}
	return -1, nil
}

func (r *reading) plausible(h []byte, at int64) bool {
	if h[16] != record.Magic {
		return false
	}
	b := record.Batch(h)
	size := int64(int32(binary.BigEndian.Uint32(h[8:]))) + record.LogOverhead
	base, last := b.BaseOffset(), b.LastOffset()
	return size >= record.HeaderSize && size <= r.w.size-at && base >= r.p.next && last >= base && last <= fits(r.base) && last < r.limit
}

// zeroFrom reports whether nothing but zeros follows.
func (r *reading) zeroFrom(at int64) bool {
	for at < r.w.size {
		b, err := r.w.bytes(at, dataWindow)
		if err != nil || len(b) == 0 {
			return false
		}
		for _, c := range b {
			if c != 0 {
				return false
			}
		}
		at += int64(len(b))
	}
	return true
}
