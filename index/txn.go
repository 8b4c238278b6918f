package index

import (
	"encoding/binary"
	"fmt"
)

// TxnEntrySize is the size of an entry of the transaction index (.txnindex):
// int16 version 0, int64 producer id, first offset, last offset (of the abort
// marker) and last stable offset when the marker was appended.
const TxnEntrySize = 34

// AbortedTxn is an aborted transaction.
type AbortedTxn struct {
	ProducerID       int64
	FirstOffset      int64
	LastOffset       int64
	LastStableOffset int64
}

// AppendTxn appends the entry of a to b.
func AppendTxn(b []byte, a AbortedTxn) []byte {
	b = append(b, 0, 0)
	for _, v := range [...]int64{a.ProducerID, a.FirstOffset, a.LastOffset, a.LastStableOffset} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// ParseTxns decodes a whole transaction index. The error wraps ErrCorrupt.
func ParseTxns(b []byte) ([]AbortedTxn, error) {
	if len(b)%TxnEntrySize != 0 {
		return nil, fmt.Errorf("%w: transaction index of %d bytes, entries have %d", ErrCorrupt, len(b), TxnEntrySize)
	}
	out := make([]AbortedTxn, 0, len(b)/TxnEntrySize)
	last := int64(-1)
	for at := 0; at < len(b); at += TxnEntrySize {
		e := b[at : at+TxnEntrySize]
		if v := binary.BigEndian.Uint16(e); v != 0 {
			return nil, fmt.Errorf("%w: transaction index entry %d: version %d", ErrCorrupt, len(out), v)
		}
		a := AbortedTxn{
			ProducerID:       int64(binary.BigEndian.Uint64(e[2:])),
			FirstOffset:      int64(binary.BigEndian.Uint64(e[10:])),
			LastOffset:       int64(binary.BigEndian.Uint64(e[18:])),
			LastStableOffset: int64(binary.BigEndian.Uint64(e[26:])),
		}
		if a.LastOffset <= last || a.FirstOffset > a.LastOffset {
			return nil, fmt.Errorf("%w: transaction index entry %d: %+v after last offset %d", ErrCorrupt, len(out), a, last)
		}
		last = a.LastOffset
		out = append(out, a)
	}
	return out, nil
}
