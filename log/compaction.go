package log

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// CompactOptions go with one round of compaction.
type CompactOptions struct {
	Map        *compact.Map // memory for keys, cleared first
	FirstDirty int64        // where the last round ended; -1 if there was none
	Now        time.Time
	// Throttle waits until n more bytes may be read or written; its error ends
	// the round. Nil does not wait.
	Throttle func(n int) error
}

// CompactResult describes what a round did.
type CompactResult struct {
	Next     int64 // where the next round begins
	Segments int   // that were read
	Indexed  compact.Stats
	Filtered compact.Stats
}

// Dirtiness returns how much there is to compact, and whether it is due.
func (l *Log) Dirtiness(firstDirty int64, now time.Time) (compact.Dirtiness, error) {
	_, d, err := l.measure(firstDirty, now)
	return d, err
}

// measure is Dirtiness, with the segments that it looked at.
func (l *Log) measure(firstDirty int64, now time.Time) ([]*segment.Segment, compact.Dirtiness, error) {
	cfg, list := l.config.Load(), l.list()
	f := compact.Facts{LogStart: l.start.Load(), LogEnd: l.end.Load(), FirstDirty: firstDirty, LastStable: l.LastStableOffset(), Now: now.UnixMilli(),
		MinLag: cfg.MinCompactionLag.Milliseconds(), MaxLag: cfg.MaxCompactionLag.Milliseconds(), MinRatio: cfg.DirtyRatio}
	for i, s := range list {
		e := compact.Segment{Base: s.Base(), Size: s.Size()}
		if i+1 < len(list) && list[i+1].Base() > firstDirty { // of the others the sizes are enough
			var err error
			if e.FirstTimestamp, err = s.FirstTimestamp(); err != nil {
				return nil, compact.Dirtiness{}, l.compactError(err)
			}
			last, err := l.lastWritten(s, now)
			if err != nil {
				return nil, compact.Dirtiness{}, err
			}
			e.LastTimestamp = last.UnixMilli()
		}
		f.Segments = append(f.Segments, e)
	}
	return list, compact.Measure(f), nil
}

// Compact does one round of compaction: of every key with a newer record below
// the first dirty offset of the next round, the older ones go. The log is read
// and appended to meanwhile. One round at a time.
//
// New segments are complete and on disk before they take the place of the old
// ones, so that a crash leaves one or the other (D8).
func (l *Log) Compact(o CompactOptions) (CompactResult, error) {
	list, d, err := l.measure(o.FirstDirty, o.Now)
	r := CompactResult{Next: d.FirstDirty}
	if err != nil || d.FirstUncleanable <= d.FirstDirty {
		return r, err
	}
	// What takes a record's place must be on disk before the record goes, and so
	// must a producer's last batch before the one that was it.
	producers := l.lastRecords()
	if err := errors.Join(l.flushSealed(), l.Flush()); err != nil {
		return r, l.compactError(err)
	}
	throttle := o.Throttle
	if throttle == nil {
		throttle = func(int) error { return nil }
	}
	latest, err := l.indexKeys(list, d, o.Map, throttle, &r)
	if err != nil {
		return r, l.compactError(err)
	}
	if latest < d.FirstDirty {
		return r, nil
	}
	n := 0
	for n < len(list) && list[n].Base() <= latest && list[n].Base() < d.FirstUncleanable {
		n++
	}
	w, err := l.newCompactor(list[:n], d, latest, o, throttle)
	if err == nil {
		w.filter.Producers = producers
		err = w.run()
	}
	if err != nil {
		return r, l.compactError(err)
	}
	r.Segments, r.Filtered, r.Next = n, w.filter.Stats(), latest+1
	return r, nil
}

// compactError sorts out why a round ended.
func (l *Log) compactError(err error) error {
	switch {
	case err == nil, errors.Is(err, segment.ErrClosed) && l.closed.Load():
		return err
	case errors.Is(err, ErrReplaced), errors.Is(err, segment.ErrClosed):
		return ErrReplaced
	case errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrShort), errors.Is(err, record.ErrTooLarge):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// indexKeys fills the map from the dirty segments and returns the last offset
// that it covers.
func (l *Log) indexKeys(list []*segment.Segment, d compact.Dirtiness, m *compact.Map, throttle func(int) error, r *CompactResult) (latest int64, err error) {
	aborted, err := l.AbortedTransactions(d.FirstDirty, d.FirstUncleanable)
	if err != nil {
		return 0, err
	}
	x := compact.NewIndexer(m, compact.NewTxns(aborted), d.FirstDirty, d.FirstUncleanable, 0)
	for i, s := range list {
		if i+1 < len(list) && list[i+1].Base() <= d.FirstDirty {
			continue
		}
		if s.Base() >= d.FirstUncleanable {
			break
		}
		full := false
		err := s.Visit(d.FirstDirty, func(b record.Batch) (err error) {
			if full {
				return nil
			}
			if err := throttle(len(b)); err != nil {
				return err
			}
			full, err = x.Batch(b)
			if full && err == nil {
				err = errFull
			}
			return err
		})
		if err != nil && !errors.Is(err, errFull) {
			return 0, err
		}
		if full {
			break
		}
		if i+1 < len(list) {
			x.Passed(list[i+1].Base())
		}
	}
	r.Indexed = x.Stats()
	return x.Latest(), nil
}

// errFull ends a visit when the map can take no more.
var errFull = errors.New("map of keys is full")

// compactor writes the cleaned segments of one round.
type compactor struct {
	l        *Log
	throttle func(int) error
	txns     *compact.Txns
	filter   *compact.Filter
	groups   [][]*segment.Segment
	horizon  time.Time // tombstones without a delete horizon stay in segments modified after it
	buf      []byte    // kept batches that are not written yet
}

// compactBuffer is how much a compactor writes at once.
const compactBuffer = 512 << 10

func (l *Log) newCompactor(list []*segment.Segment, d compact.Dirtiness, latest int64, o CompactOptions, throttle func(int) error) (*compactor, error) {
	cfg := l.config.Load()
	aborted, err := l.AbortedTransactions(l.start.Load(), d.FirstUncleanable)
	if err != nil {
		return nil, err
	}
	w := &compactor{l: l, throttle: throttle, txns: compact.NewTxns(aborted)}
	w.filter = compact.NewFilter(compact.Round{Map: o.Map, Latest: latest, End: d.FirstUncleanable, Now: o.Now.UnixMilli(),
		DeleteRetention: cfg.DeleteRetention.Milliseconds()}, w.txns)
	var facts []compact.Segment
	for _, s := range list {
		offsets, times, err := s.IndexBytes()
		if err != nil {
			return nil, err
		}
		facts = append(facts, compact.Segment{Base: s.Base(), Size: s.Size(), IndexSize: int64(offsets), TimeIndexSize: int64(times)})
		if s.Base() < d.FirstDirty { // the last of them decides
			at, err := l.modified(s)
			if err != nil {
				return nil, err
			}
			w.horizon = at.Add(-cfg.DeleteRetention)
		}
	}
	for _, g := range compact.Group(facts, cfg.SegmentBytes, int64(cfg.SegmentIndexBytes), d.FirstUncleanable) {
		w.groups = append(w.groups, list[:len(g)])
		list = list[len(g):]
	}
	return w, nil
}

// lastRecords returns the last batch of every producer that the log knows.
func (l *Log) lastRecords() map[int64]compact.LastRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[int64]compact.LastRecord, len(l.producers.m))
	for id, p := range l.producers.m {
		last, _ := p.last()
		out[id] = compact.LastRecord{DataOffset: last.lastOffset, Epoch: p.epoch}
	}
	return out
}

func (w *compactor) run() error {
	for _, g := range w.groups {
		cleaned, err := w.clean(g)
		if err != nil {
			return err
		}
		if err := w.l.replace(g, cleaned, w.txns.TakeKept()); err != nil {
			return err
		}
	}
	return nil
}

// clean writes what is kept of a group of segments into a new one, and makes it
// durable.
func (w *compactor) clean(group []*segment.Segment) (*segment.Segment, error) {
	o := w.l.segmentOptions(group[0].Base())
	o.Suffix, o.Preallocate = segment.CleanedSuffix, 0
	if err := segment.RemoveFiles(w.l.fs, w.l.dir, o.Base, o.Suffix); err != nil {
		return nil, err
	}
	s := segment.Create(o)
	err := w.fill(s, group)
	if err == nil && s.Size() == 0 {
		err = s.Materialize() // its name says where the log begins, or goes on
	}
	if err == nil {
		err = s.Seal()
	}
	if err == nil {
		err = s.Flush()
	}
	if err != nil {
		return nil, errors.Join(err, s.Delete())
	}
	return s, nil
}

func (w *compactor) fill(s *segment.Segment, group []*segment.Segment) error {
	w.buf = w.buf[:0]
	for _, source := range group {
		modified, err := w.l.modified(source)
		if err != nil {
			return err
		}
		w.filter.KeepLegacyDeletes(modified.After(w.horizon))
		err = source.Visit(source.Base(), func(b record.Batch) error {
			kept, v, err := w.filter.Batch(b)
			if err == nil && v != compact.Dropped {
				w.buf = append(w.buf, kept...)
			}
			if err == nil {
				err = w.throttle(len(b) + len(kept))
			}
			if err == nil && len(w.buf) >= compactBuffer {
				err = w.write(s)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return w.write(s)
}

// write appends the batches that wait.
func (w *compactor) write(s *segment.Segment) error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.l.latch("write a compacted segment", s.Append(w.buf))
	w.buf = w.buf[:0]
	return err
}

// modified returns when a segment's file was last written to.
func (l *Log) modified(s *segment.Segment) (time.Time, error) {
	info, err := l.fs.Stat(segment.FileName(l.dir, s.Base(), segment.LogSuffix))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// replace puts a cleaned segment, with the aborted transactions that are left in
// it, in the place of a group. Each step is one that opening the log can finish
// or undo; see sortOut.
func (l *Log) replace(group []*segment.Segment, cleaned *segment.Segment, aborted []index.AbortedTxn) error {
	l.shape.Lock()
	defer l.shape.Unlock()
	at, err := l.placeOf(group)
	if err != nil {
		return errors.Join(err, cleaned.Delete())
	}
	err = l.writeTxns(cleaned.Base(), aborted)
	if err == nil {
		err = cleaned.SetSuffix(segment.SwapSuffix)
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	if err == nil {
		err = l.swap(at, group, cleaned, len(aborted) > 0)
	}
	return l.latch("replace compacted segments", err)
}

// placeOf returns where a group is in the list. The caller holds shape, so that
// it stays there: appending only adds segments behind.
func (l *Log) placeOf(group []*segment.Segment) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return 0, err
	}
	list := l.list()
	at := slices.Index(list, group[0])
	if at < 0 || at+len(group) >= len(list) || !slices.Equal(list[at:at+len(group)], group) {
		return 0, ErrReplaced
	}
	return at, nil
}

// writeTxns writes the transaction index that a cleaned segment will have.
func (l *Log) writeTxns(base int64, aborted []index.AbortedTxn) error {
	if len(aborted) == 0 {
		return nil
	}
	slices.SortFunc(aborted, func(a, b index.AbortedTxn) int { return cmp.Compare(a.LastOffset, b.LastOffset) })
	var b []byte
	for _, t := range aborted {
		b = index.AppendTxn(b, t)
	}
	l.noteTxnSegments(base)
	return vfs.WriteFileAtomic(l.fs, l.txnName(base)+segment.SwapSuffix, b)
}

// swap makes readers see the cleaned segment, and the files follow. At no moment
// is a transaction that a reader may meet missing from the transaction indexes:
// the new index takes the place of the old one of that name, and has all that
// the others have.
func (l *Log) swap(at int, group []*segment.Segment, cleaned *segment.Segment, txns bool) error {
	base := cleaned.Base()
	l.swaps.Add(1)
	if txns {
		if err := l.fs.Rename(l.txnName(base)+segment.SwapSuffix, l.txnName(base)); err != nil {
			return err
		}
	}
	replaced := make(map[int64]bool, len(group))
	for _, s := range group[1:] {
		replaced[s.Base()] = true
	}
	l.mu.Lock()
	list := l.list()
	next := slices.Concat(list[:at], []*segment.Segment{cleaned}, list[at+len(group):])
	l.setList(next)
	err := l.dropSnapshots(func(at int64) bool { return replaced[at] })
	l.mu.Unlock()
	for _, s := range group {
		if err == nil {
			err = l.retire(s)
		}
		if err == nil && (s.Base() != base || !txns) {
			err = l.removeTxns(s.Base())
		}
	}
	if err == nil {
		err = cleaned.SetSuffix("")
	}
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	return err
}
