package log

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"sort"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// undecided holds transactions that have ended with a marker that is not below
// the high watermark yet: for readers they are open. Markers are added in the
// order of their offsets.
//
// It keeps those only that may be the one with the lowest first offset before
// those after them are decided, so that looking for it takes no search.
type undecided struct {
	queue []txn // rising by last and by first
}

func (u *undecided) add(t txn) {
	n := len(u.queue)
	for n > 0 && u.queue[n-1].first >= t.first {
		n-- // t is decided later and begins earlier
	}
	u.queue = append(u.queue[:n], t)
}

// decided drops those whose marker is below offset.
func (u *undecided) decided(offset int64) {
	n := 0
	for n < len(u.queue) && u.queue[n].last < offset {
		n++
	}
	u.queue = u.queue[n:]
}

// first returns the lowest first offset, or noUnstable.
func (u *undecided) first() int64 {
	if len(u.queue) == 0 {
		return noUnstable
	}
	return u.queue[0].first
}

// noteAborted enters an aborted transaction into the transaction index of the
// active segment. The caller holds mu and txnMu.
func (l *Log) noteAborted(t txn) (err error) {
	name := l.txnName(l.segmentOf(t.last).Base())
	f, err := l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	l.noteTxnSegments(l.segmentOf(t.last).Base())
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	size, err := f.Size()
	if err != nil {
		return err
	}
	entry := index.AppendTxn(nil, t.entry(l.open))
	_, err = f.WriteAt(entry, size-size%index.TxnEntrySize)
	return err
}

// txnName returns the name of a segment's transaction index.
func (l *Log) txnName(base int64) string { return segment.FileName(l.dir, base, segment.TxnSuffix) }

// removeTxns removes the transaction index of a segment, if it has one.
func (l *Log) removeTxns(base int64) error {
	if err := l.fs.Remove(l.txnName(base)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// noteTxnSegments remembers that segments have a transaction index.
func (l *Log) noteTxnSegments(bases ...int64) {
	for {
		old := l.txnSegments.Load()
		list := slices.Clone(bases)
		if old != nil {
			if len(bases) == 1 && l.hasTxns(bases[0]) {
				return
			}
			list = append(list, *old...)
		}
		slices.Sort(list)
		list = slices.Compact(list)
		if l.txnSegments.CompareAndSwap(old, &list) {
			return
		}
	}
}

// hasTxns reports whether a segment may have a transaction index.
func (l *Log) hasTxns(base int64) bool {
	with := l.txnSegments.Load()
	if with == nil {
		return false
	}
	_, found := slices.BinarySearch(*with, base)
	return found
}

func (l *Log) segmentOf(offset int64) *segment.Segment {
	list := l.list()
	i := len(list) - 1
	for i > 0 && list[i].Base() > offset {
		i--
	}
	return list[i]
}

// ReadCommitted is Read for a reader that leaves out what was aborted: aborted
// are the transactions that the region may have data of. Were the two read apart,
// compaction could come between them: the data is in what was read before it, and
// the transaction no longer in what was read after it.
func (l *Log) ReadCommitted(offset, limit int64, maxBytes int, minOne bool) (c *prim.Region, aborted []index.AbortedTxn, err error) {
	for {
		swaps := l.swaps.Load()
		if c, err = l.Read(offset, limit, maxBytes, minOne); err != nil || c.Len() == 0 {
			return c, nil, err
		}
		aborted, err = l.AbortedTransactions(offset, limit)
		if err == nil && l.swaps.Load() == swaps {
			return c, aborted, nil
		}
		c.Release()
		if err != nil {
			return nil, nil, err
		}
	}
}

// AbortedTransactions returns the aborted transactions that overlap [start, end),
// by the offset of their marker.
func (l *Log) AbortedTransactions(start, end int64) ([]index.AbortedTxn, error) {
	if l.txnSegments.Load() == nil {
		return nil, nil // the rule: nobody has aborted anything here
	}
	var out []index.AbortedTxn
	list := l.list()
	for i, s := range list {
		if s.Next() <= start && i+1 < len(list) || !l.hasTxns(s.Base()) {
			continue // markers at or after start are in later segments
		}
		var last bool
		var err error
		if out, last, err = l.abortedOf(s.Base(), start, end, out); err != nil || last {
			return out, err
		}
	}
	return out, nil
}

// abortedOf appends those that the transaction index of one segment has. last
// tells that later segments have none. It reads what it appends and little more,
// however many the index has.
func (l *Log) abortedOf(base, start, end int64, out []index.AbortedTxn) (_ []index.AbortedTxn, last bool, err error) {
	f, err := l.fs.Open(l.txnName(base))
	if errors.Is(err, os.ErrNotExist) {
		return out, false, nil
	}
	if err != nil {
		return nil, false, l.readError(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, false, l.readError(err)
	}
	var buf [64 * index.TxnEntrySize]byte
	read := func(at, n int) ([]index.AbortedTxn, error) {
		b := buf[:n*index.TxnEntrySize]
		if _, err := f.ReadAt(b, int64(at)*index.TxnEntrySize); err != nil {
			return nil, l.readError(err)
		}
		list, err := index.ParseTxns(b)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return list, err
	}
	n := int(size / index.TxnEntrySize)
	at := sort.Search(n, func(i int) bool {
		if err != nil {
			return true
		}
		var one []index.AbortedTxn
		if one, err = read(i, 1); err != nil {
			return true
		}
		return one[0].LastOffset >= start
	})
	for at < n && err == nil {
		var some []index.AbortedTxn
		if some, err = read(at, min(n-at, len(buf)/index.TxnEntrySize)); err != nil {
			break
		}
		for _, t := range some {
			if t.FirstOffset < end {
				out = append(out, t)
			}
			if t.LastStableOffset >= end {
				return out, true, nil
			}
		}
		at += len(some)
	}
	return out, false, err
}

// dropTxns removes entries of markers at or after offset from the transaction
// indexes; replaying enters them again. The last segment may have some of markers that
// a truncation or a power cut took away.
func (l *Log) dropTxns(offset int64) error {
	list := l.list()
	for i, s := range list {
		if s.Next() <= offset && i+1 < len(list) {
			continue
		}
		name := l.txnName(s.Base())
		b, err := vfs.ReadFile(l.fs, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		list, err := index.ParseTxns(b)
		keep := 0
		for keep < len(list) && list[keep].LastOffset < offset {
			keep++
		}
		if err == nil && keep == len(list) {
			continue
		}
		if err := vfs.WriteFileAtomic(l.fs, name, b[:keep*index.TxnEntrySize]); err != nil {
			return err
		}
	}
	return nil
}

// syncTxns makes the transaction indexes durable that may have markers at or after
// offset.
func (l *Log) syncTxns(offset int64) error {
	synced := false
	for _, s := range l.list() {
		if s.Next() <= offset || !l.hasTxns(s.Base()) {
			continue
		}
		err := l.syncFile(l.txnName(s.Base()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		synced = true
	}
	if !synced {
		return nil
	}
	return l.fs.SyncDir(l.dir)
}

// checkTxnIndexes rebuilds transaction indexes that cannot be read.
func (l *Log) checkTxnIndexes(names []string) error {
	var with []int64
	there := make(map[string]bool)
	for _, name := range names {
		if path.Ext(name) == segment.TxnSuffix {
			there[name] = true
		}
	}
	for _, s := range l.list() {
		if there[path.Base(l.txnName(s.Base()))] {
			with = append(with, s.Base())
		}
	}
	if len(with) == 0 {
		return nil
	}
	l.noteTxnSegments(with...)
	for _, s := range l.list() {
		if !l.hasTxns(s.Base()) {
			continue
		}
		file := l.txnName(s.Base())
		b, err := vfs.ReadFile(l.fs, file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := index.ParseTxns(b); err == nil {
			continue
		}
		l.o.Logger.Warn("rebuilt unreadable transaction index", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Int64("segment", s.Base()))
		entries, err := l.abortedIn(s)
		if err == nil {
			err = vfs.WriteFileAtomic(l.fs, file, entries)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// abortedIn returns the transaction index of a segment as its batches, and the
// producer state before them, say it.
func (l *Log) abortedIn(s *segment.Segment) (entries []byte, err error) {
	state, from, err := l.stateAt(s.Base())
	if err != nil {
		return nil, err
	}
	for _, each := range l.list() {
		if each.Base() > s.Base() {
			break
		}
		err := l.producerBatches(each, from, func(b record.Batch) error {
			if t := state.replay(b, 0); t != nil && t.aborted && each == s {
				entries = index.AppendTxn(entries, t.entry(state.firstOpen()))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// entry returns what the transaction index says of an aborted transaction; open
// is the first offset of the oldest one open behind it, -1 for none.
func (t *txn) entry(open int64) index.AbortedTxn {
	stable := t.last + 1
	if open >= 0 {
		stable = min(stable, open)
	}
	return index.AbortedTxn{ProducerID: t.producerID, FirstOffset: t.first, LastOffset: t.last, LastStableOffset: stable}
}
