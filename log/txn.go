package log

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
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
	l.noteTxnSegment(l.segmentOf(t.last).Base())
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

// noteTxnSegment remembers that a segment has a transaction index.
func (l *Log) noteTxnSegment(base int64) {
	for {
		old := l.txnSegments.Load()
		var list []int64
		if old != nil {
			if slices.Contains(*old, base) {
				return
			}
			list = slices.Clone(*old)
		}
		list = append(list, base)
		if l.txnSegments.CompareAndSwap(old, &list) {
			return
		}
	}
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
// are the transactions that the chunk may have data of. Were the two read apart,
// compaction could come between them: the data is in what was read before it, and
// the transaction no longer in what was read after it.
func (l *Log) ReadCommitted(offset, limit int64, maxBytes int, minOne bool) (c *Chunk, aborted []index.AbortedTxn, err error) {
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
	with := l.txnSegments.Load()
	if with == nil {
		return nil, nil // the rule: nobody has aborted anything here
	}
	var out []index.AbortedTxn
	list := l.list()
	for i, s := range list {
		if s.Next() <= start && i+1 < len(list) || !slices.Contains(*with, s.Base()) {
			continue // markers at or after start are in later segments
		}
		b, err := vfs.ReadFile(l.fs, l.txnName(s.Base()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, l.readError(err)
		}
		list, err := index.ParseTxns(b[:len(b)-len(b)%index.TxnEntrySize])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		for _, t := range list {
			if t.LastOffset >= start && t.FirstOffset < end {
				out = append(out, t)
			}
			if t.LastStableOffset >= end {
				return out, nil
			}
		}
	}
	return out, nil
}

// dropTxns removes entries of markers at or after offset from the transaction
// indexes; replaying enters them again.
func (l *Log) dropTxns(offset int64) error {
	for _, s := range l.list() {
		if s.Next() <= offset {
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

// checkTxnIndexes makes transaction indexes anew that cannot be read.
func (l *Log) checkTxnIndexes(names []string) error {
	for _, s := range l.list() {
		file := l.txnName(s.Base())
		if !slices.Contains(names, path.Base(file)) {
			continue
		}
		l.noteTxnSegment(s.Base())
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
		l.o.Logger.Warn("made unreadable transaction index anew", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Int64("segment", s.Base()))
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
