package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// chunk is the record bytes of one partition from one fetch.
type chunk struct {
	from    int64 // where the fetch began
	left    []byte
	it      *record.Iterator // of the batch being read, nil between batches
	batch   record.Batch
	legacy  []record.LegacyRecord
	aborted []msg.FetchResponseAbortedTransaction // by first offset; nil unless read_committed
	pids    map[int64]bool                        // producers whose transactional records are aborted
	commit  bool
}

func newChunk(r *msg.FetchResponsePartitionData, from int64, committed bool) *chunk {
	k := &chunk{from: from, left: r.Records.B, commit: committed}
	if committed {
		k.aborted = slices.Clone(r.AbortedTransactions)
		slices.SortFunc(k.aborted, func(a, b msg.FetchResponseAbortedTransaction) int {
			switch {
			case a.FirstOffset < b.FirstOffset:
				return -1
			case a.FirstOffset > b.FirstOffset:
				return 1
			}
			return 0
		})
		k.pids = make(map[int64]bool)
	}
	return k
}

// decode appends records until there are limit of them, moving p on. more tells
// that the chunk holds more.
func (k *chunk) decode(p *position, records []Record, limit int, o *ConsumerOptions) (_ []Record, more bool, err error) {
	for {
		if len(records) >= limit {
			return records, true, nil
		}
		if len(k.legacy) > 0 {
			r := k.legacy[0]
			k.legacy = k.legacy[1:]
			if r.Offset >= p.next {
				records = append(records, Record{Topic: p.tp.Topic, Partition: p.tp.Partition, Offset: r.Offset, LeaderEpoch: -1, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)})
				p.next = r.Offset + 1
			}
			continue
		}
		if k.it == nil {
			if err := k.nextBatch(p, o); err != nil {
				if err == io.EOF {
					err = nil
				}
				return records, false, err
			}
			continue
		}
		if !k.it.Next() {
			if err := k.it.Err(); err != nil {
				return records, false, err
			}
			p.next = max(p.next, k.batch.LastOffset()+1)
			k.it = nil
			continue
		}
		if offset := k.it.Offset(); offset >= p.next {
			r := k.it.Record()
			records = append(records, Record{Topic: p.tp.Topic, Partition: p.tp.Partition, Offset: offset, LeaderEpoch: k.batch.LeaderEpoch(),
				Key: r.Key, Value: r.Value, Headers: slices.Clone(r.Headers), Timestamp: time.UnixMilli(k.it.Timestamp()), LogAppendTime: k.batch.Attributes().LogAppendTime()})
			p.next = offset + 1
		}
	}
}

// nextBatch moves to the next batch that has records for the application. It
// returns io.EOF after the last one; a batch cut off at the end is no error.
func (k *chunk) nextBatch(p *position, o *ConsumerOptions) error {
	b, rest, err := record.Next(k.left)
	switch {
	case errors.Is(err, record.ErrShort):
		return io.EOF
	case errors.Is(err, record.ErrMagic):
		k.legacy, err = record.ReadLegacy(nil, b, 0)
		k.left = rest
		return err
	case err != nil:
		return err
	}
	if !o.NoCheckCRCs {
		if err := b.Validate(); err != nil {
			return err
		}
	}
	k.left = rest
	p.epoch = b.LeaderEpoch()
	if skip, err := k.skip(b); err != nil || skip {
		p.next = max(p.next, b.LastOffset()+1)
		return err
	}
	// The iterator is not closed: records keep its memory.
	k.batch, k.it = b, new(record.Iterator)
	return k.it.Reset(b, 0)
}

// progress returns an error if a chunk that has been read did not move p on: the
// next fetch would bring the same.
func (k *chunk) progress(p *position, o *ConsumerOptions) error {
	switch {
	case p.next > k.from:
		return nil
	case len(k.left) == 0:
		return fmt.Errorf("%w: only records below the offset that was asked for", conn.ErrProtocol)
	}
	err := &BatchTooLargeError{Have: len(k.left), Limit: o.PartitionMaxBytes}
	if len(k.left) >= 12 { // base offset, and the length of what follows
		err.Size = 12 + int(int32(binary.BigEndian.Uint32(k.left[8:])))
	}
	return err
}

// BatchTooLargeError means that a broker sent only the beginning of a batch,
// since the whole does not fit max.partition.fetch.bytes. Brokers since 0.10.1
// send the first batch of an answer whole. It wraps ErrRecordTooLarge.
type BatchTooLargeError struct {
	Size  int // bytes of the batch; 0 if not even that came
	Have  int // bytes that came
	Limit int // max.partition.fetch.bytes
}

func (e *BatchTooLargeError) Error() string {
	return fmt.Sprintf("%v: %d of the %d bytes of its batch came, max.partition.fetch.bytes is %d", ErrRecordTooLarge, e.Have, e.Size, e.Limit)
}

// Unwrap returns ErrRecordTooLarge.
func (e *BatchTooLargeError) Unwrap() error { return ErrRecordTooLarge }

// skip reports whether a batch is not for the application: control batches, and
// records of aborted transactions with read_committed.
func (k *chunk) skip(b record.Batch) (bool, error) {
	a := b.Attributes()
	if k.commit {
		for len(k.aborted) > 0 && k.aborted[0].FirstOffset <= b.LastOffset() {
			k.pids[k.aborted[0].ProducerId] = true
			k.aborted = k.aborted[1:]
		}
	}
	if a.Control() {
		if k.commit && k.pids[b.ProducerID()] {
			c, err := record.ParseControl(b)
			if err != nil {
				return true, err
			}
			if c.Type == record.ControlAbort {
				delete(k.pids, b.ProducerID())
			}
		}
		return true, nil
	}
	return k.commit && a.Transactional() && k.pids[b.ProducerID()], nil
}
