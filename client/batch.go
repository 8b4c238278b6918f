package client

import (
	"time"

	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// pendingRecord is what a batch keeps of a record beside its bytes.
type pendingRecord struct {
	future   *Future // nil if the sender did not ask for one
	callback func(RecordMetadata, error)
	ts       int64 // ms
}

// batch is a run of records for one partition. Producer.mu guards it, but for
// data while it is in flight, which nobody changes then (invariant K1: neither
// builder nor data is used again before the connection has called back).
type batch struct {
	part    *partition
	id      uint64 // in order of creation; the parts of a split batch keep it
	first   int    // place of its first record in the batch that it was split from, 0 without a split
	builder *record.Builder
	data    []byte // finished bytes, of builder; nil until the first drain
	records []pendingRecord
	out     *outcome
	charged int64 // bytes taken of buffer.memory

	created   time.Time
	deadline  time.Time
	closed    bool // takes no more records
	attempts  int
	notBefore time.Time // backoff
	lastErr   error

	inFlight  bool
	completed bool  // the outcome is decided, and reported in its turn
	place     stamp // among the sequences of the partition

	// sentTo is the id of the topic that its request names, of the last try; zero if
	// that was not known. Once it may have been written there it belongs to that
	// topic, and is never sent to another one of the same name.
	sentTo prim.UUID
	maybe  bool // it may have been written under sentTo
}

// former reports whether the batch belongs to a topic that was deleted, where a topic
// of that name has an id now.
func (b *batch) former(id prim.UUID) bool {
	unknown := prim.UUID{}
	return b.maybe && b.sentTo != unknown && id != unknown && b.sentTo != id
}

func (b *batch) count() int32 { return int32(len(b.records)) }

// finish makes the bytes to send. It must not run under Producer.mu when it
// compresses; nobody else touches a batch that is being drained.
func (b *batch) finish() error {
	who := record.NoProducer
	if b.place.given() {
		who = record.Producer{ID: b.place.id, Epoch: b.place.epoch, Sequence: b.place.seq}
	}
	if b.data == nil {
		data, err := b.builder.Finish(who)
		b.data = data
		return err
	}
	if have := record.Batch(b.data); have.ProducerID() != who.ID || have.ProducerEpoch() != who.Epoch || have.BaseSequence() != who.Sequence {
		have.SetProducer(who.ID, who.Epoch, who.Sequence)
	}
	return nil
}

// halves splits the records of a batch that a broker found too large. The parts
// have no places yet.
func (b *batch) halves(newBuilder func() *record.Builder) ([]*batch, error) {
	it := record.Batch(b.data).Iterate(0)
	defer it.Close()
	var parts []*batch
	n := len(b.records)
	for _, r := range [][2]int{{0, n / 2}, {n / 2, n}} {
		p := &batch{
			part: b.part, id: b.id, first: b.first + r[0], builder: newBuilder(), records: b.records[r[0]:r[1]:r[1]],
			created: b.created, deadline: b.deadline, closed: true,
			place: noStamp, sentTo: b.sentTo, maybe: b.maybe,
			charged: b.charged*int64(r[1])/int64(n) - b.charged*int64(r[0])/int64(n), // together all of it
		}
		for range p.records {
			if !it.Next() {
				return nil, it.Err()
			}
			rec := it.Record()
			p.builder.Append(it.Timestamp(), rec.Key, rec.Value, rec.Headers)
		}
		parts = append(parts, p)
	}
	return parts, it.Err()
}
