package compact

import (
	"cmp"
	"slices"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

// Txns knows, while a pass goes over the batches of a log in order, which of
// them belong to aborted transactions, and which transaction markers have no
// data left that they decide about. It corresponds to Kafka's
// CleanedTransactionMetadata. Each pass needs its own.
type Txns struct {
	pending   []index.AbortedTxn // not yet begun, by first offset
	aborted   map[int64]ongoing  // by producer id
	committed map[int64]struct{} // producer ids with data before a commit marker
	kept      []index.AbortedTxn
}

type ongoing struct {
	index.AbortedTxn
	seen bool // a data batch of it
}

// NewTxns takes the aborted transactions that overlap the range of a pass, as
// the transaction indexes of its segments list them: [first dirty offset, end)
// for an Indexer, all of the log that is rewritten for a Filter. Listing one
// twice does no harm.
func NewTxns(aborted []index.AbortedTxn) *Txns {
	t := &Txns{
		pending:   slices.Clone(aborted),
		aborted:   make(map[int64]ongoing),
		committed: make(map[int64]struct{}),
	}
	slices.SortStableFunc(t.pending, func(a, b index.AbortedTxn) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return t
}

// TakeKept returns the aborted transactions whose marker has passed since the
// last call and of whose data something was there to read. They, in this order,
// are the transaction index of the segment that was cleaned since.
func (t *Txns) TakeKept() []index.AbortedTxn {
	kept := t.kept
	t.kept = nil
	return kept
}

// data takes in a batch that is no control batch. It reports whether the batch belongs to an aborted transaction.
func (t *Txns) data(b record.Batch) (aborted bool) {
	t.begin(b.LastOffset())
	if !b.Attributes().Transactional() {
		return false
	}
	id := b.ProducerID()
	txn, ok := t.aborted[id]
	if ok && b.BaseOffset() > txn.LastOffset {
		// Its marker is gone, though an index lists it: whatever went wrong, this
		// batch is none of it and must not be lost.
		delete(t.aborted, id)
		ok = false
	}
	if !ok {
		t.committed[id] = struct{}{}
		return false
	}
	if !txn.seen {
		txn.seen = true
		t.aborted[id] = txn
	}
	return true
}

// control takes in a control batch whose record is of type c, or which has none.
// It reports whether nothing of what the record decides about is left.
func (t *Txns) control(b record.Batch, c record.ControlType, hasRecord bool) (discardable bool) {
	t.begin(b.LastOffset())
	if !hasRecord {
		return true
	}
	id := b.ProducerID()
	switch c {
	case record.ControlAbort:
		txn := t.aborted[id]
		delete(t.aborted, id)
		if txn.seen {
			t.kept = append(t.kept, txn.AbortedTxn)
		}
		return !txn.seen
	case record.ControlCommit:
		_, seen := t.committed[id]
		delete(t.committed, id)
		return !seen
	}
	return false
}

// begin activates the aborted transactions that begin at or before offset. One
// that never met its marker makes way for the next of its producer.
func (t *Txns) begin(offset int64) {
	for len(t.pending) > 0 && t.pending[0].FirstOffset <= offset {
		txn := t.pending[0]
		t.pending = t.pending[1:]
		if old, ok := t.aborted[txn.ProducerID]; !ok || old.LastOffset < txn.FirstOffset {
			t.aborted[txn.ProducerID] = ongoing{AbortedTxn: txn}
		}
	}
}
