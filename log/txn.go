package log

import (
	"errors"
	"os"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
)

// noteAborted enters an aborted transaction into the transaction index of the
// active segment. The caller holds mu and txnMu.
func (l *Log) noteAborted(t txn) (err error) {
	stable := t.last + 1
	if l.open >= 0 {
		stable = min(stable, l.open)
	}
	name := segment.FileName(l.dir, l.segmentOf(t.last).Base(), segment.TxnSuffix)
	f, err := l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	size, err := f.Size()
	if err != nil {
		return err
	}
	entry := index.AppendTxn(nil, index.AbortedTxn{ProducerID: t.producerID, FirstOffset: t.first, LastOffset: t.last, LastStableOffset: stable})
	_, err = f.WriteAt(entry, size-size%index.TxnEntrySize)
	return err
}

func (l *Log) segmentOf(offset int64) *segment.Segment {
	list := l.list()
	i := len(list) - 1
	for i > 0 && list[i].Base() > offset {
		i--
	}
	return list[i]
}

// AbortedTransactions returns the aborted transactions that overlap [start, end),
// by the offset of their marker.
func (l *Log) AbortedTransactions(start, end int64) ([]index.AbortedTxn, error) {
	var out []index.AbortedTxn
	for _, s := range l.list() {
		if s.Next() <= start && s.Base() != l.active().Base() {
			continue // markers at or after start are in later segments
		}
		b, err := vfs.ReadFile(l.fs, segment.FileName(l.dir, s.Base(), segment.TxnSuffix))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := index.ParseTxns(b[:len(b)-len(b)%index.TxnEntrySize])
		if err != nil {
			return nil, err
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
// indexes, all of them if the file cannot be read; replaying enters them again.
func (l *Log) dropTxns(offset int64) error {
	for _, s := range l.list() {
		name := segment.FileName(l.dir, s.Base(), segment.TxnSuffix)
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
