package log

import (
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/record"
)

// batchesKept is the number of batches by which retries are recognised.
const batchesKept = 5

// producer is what a partition knows of an idempotent producer (KIP-98).
type producer struct {
	id               int64
	epoch            int16
	coordinatorEpoch int32 // of the last marker, -1 none
	timestamp        int64 // ms, of the last batch or marker
	txnFirst         int64 // first offset of the open transaction, -1 none
	n                int   // batches ever kept under this epoch
	batches          [batchesKept]producerBatch
}

type producerBatch struct {
	firstSeq, lastSeq int32
	lastOffset        int64
	delta             int32 // last - first offset
	timestamp         int64
}

func (p *producer) last() (producerBatch, bool) {
	if p.n == 0 {
		return producerBatch{firstSeq: -1, lastSeq: -1, lastOffset: -1, timestamp: -1}, false
	}
	return p.batches[(p.n-1)%batchesKept], true
}

// find returns the kept batch with those sequence numbers.
func (p *producer) find(first, last int32) (producerBatch, bool) {
	for i := max(0, p.n-batchesKept); i < p.n; i++ {
		if b := p.batches[i%batchesKept]; b.firstSeq == first && b.lastSeq == last {
			return b, true
		}
	}
	return producerBatch{}, false
}

func (p *producer) setEpoch(epoch int16) {
	if p.epoch != epoch {
		p.epoch, p.n = epoch, 0
	}
}

// producers is the state of all producers of a partition up to some offset. The
// log's writer owns it.
type producers struct {
	m map[int64]*producer
}

func (s *producers) get(id int64) *producer { return s.m[id] }

// duplicate returns the batch that b repeats, if it is one of the last five.
func (s *producers) duplicate(b record.Batch) (producerBatch, bool) {
	p := s.get(b.ProducerID())
	if p == nil || p.epoch != b.ProducerEpoch() {
		return producerBatch{}, false
	}
	return p.find(b.BaseSequence(), b.LastSequence())
}

// check decides whether a leader may append data batch b.
func (s *producers) check(b record.Batch) error {
	p := s.get(b.ProducerID())
	if p == nil {
		return nil // unknown or expired: any sequence is taken
	}
	epoch, seq := b.ProducerEpoch(), b.BaseSequence()
	switch {
	case epoch < p.epoch:
		return fmt.Errorf("%w: producer %d epoch %d, current %d", ErrProducerEpoch, p.id, epoch, p.epoch)
	case epoch > p.epoch && seq != 0:
		return fmt.Errorf("%w: producer %d: new epoch %d begins with sequence %d", ErrOutOfOrderSequence, p.id, epoch, seq)
	case epoch == p.epoch:
		last, _ := p.last()
		if want := record.AddSequence(last.lastSeq, 1); seq != want {
			return fmt.Errorf("%w: producer %d epoch %d: sequence %d after %d", ErrOutOfOrderSequence, p.id, epoch, seq, last.lastSeq)
		}
	}
	if p.txnFirst >= 0 && !b.Attributes().Transactional() {
		return fmt.Errorf("%w: producer %d: plain batch inside the transaction open since offset %d", ErrTxnState, p.id, p.txnFirst)
	}
	return nil
}

// checkMarker decides whether a leader may append the end of a transaction.
func (s *producers) checkMarker(c record.Control) error {
	p := s.get(c.ProducerID)
	if p == nil {
		return nil
	}
	epoch, err := c.CoordinatorEpoch()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	case c.Epoch < p.epoch:
		return fmt.Errorf("%w: marker of producer %d epoch %d, current %d", ErrProducerEpoch, p.id, c.Epoch, p.epoch)
	case epoch < p.coordinatorEpoch:
		return fmt.Errorf("%w: producer %d: coordinator epoch %d, current %d", ErrCoordinatorFenced, p.id, epoch, p.coordinatorEpoch)
	}
	return nil
}

// txn is a transaction that ended: last is the offset of its marker.
type txn struct {
	producerID, first, last int64
	aborted                 bool
}

// replay enters a batch that is in the log. It returns the transaction that the
// batch ends, if any.
func (s *producers) replay(b record.Batch) (ended *txn) {
	id := b.ProducerID()
	if id < 0 {
		return nil
	}
	a := b.Attributes()
	if a.Control() {
		c, err := record.ParseControl(b)
		if err != nil || !c.Transactional() {
			return nil
		}
		p := s.make(id, c.Epoch)
		p.setEpoch(max(p.epoch, c.Epoch))
		if epoch, err := c.CoordinatorEpoch(); err == nil {
			p.coordinatorEpoch = max(p.coordinatorEpoch, epoch)
		}
		p.timestamp = c.Timestamp
		if p.txnFirst >= 0 {
			ended = &txn{id, p.txnFirst, b.BaseOffset(), c.Type == record.ControlAbort}
		}
		p.txnFirst = -1
		return ended
	}
	p := s.make(id, b.ProducerEpoch())
	p.setEpoch(b.ProducerEpoch())
	p.batches[p.n%batchesKept] = producerBatch{b.BaseSequence(), b.LastSequence(), b.LastOffset(), b.LastOffsetDelta(), b.MaxTimestamp()}
	p.n++
	p.timestamp = b.MaxTimestamp()
	if a.Transactional() && p.txnFirst < 0 {
		p.txnFirst = b.BaseOffset()
	}
	return nil
}

func (s *producers) make(id int64, epoch int16) *producer {
	p := s.m[id]
	if p == nil {
		p = &producer{id: id, epoch: epoch, coordinatorEpoch: -1, txnFirst: -1, timestamp: -1}
		if s.m == nil {
			s.m = make(map[int64]*producer)
		}
		s.m[id] = p
	}
	return p
}

// expire drops producers that have been silent for age, unless a transaction is
// open.
func (s *producers) expire(now time.Time, age time.Duration) {
	for id, p := range s.m {
		if p.txnFirst < 0 && now.UnixMilli()-p.timestamp >= age.Milliseconds() {
			delete(s.m, id)
		}
	}
}

// firstOpen returns the first offset of the oldest open transaction, -1 if none.
func (s *producers) firstOpen() int64 {
	first := int64(-1)
	for _, p := range s.m {
		if p.txnFirst >= 0 && (first < 0 || p.txnFirst < first) {
			first = p.txnFirst
		}
	}
	return first
}

// ProducerState describes a producer, for DescribeProducers.
type ProducerState struct {
	ProducerID            int64
	Epoch                 int16
	LastSequence          int32 // -1 none
	LastTimestamp         int64 // ms
	CoordinatorEpoch      int32 // -1 none
	CurrentTxnStartOffset int64 // -1 none
	LastOffset            int64 // of its last batch, -1 none
}

func (s *producers) list() []ProducerState {
	out := make([]ProducerState, 0, len(s.m))
	for _, p := range s.m {
		last, _ := p.last()
		out = append(out, ProducerState{p.id, p.epoch, last.lastSeq, p.timestamp, p.coordinatorEpoch, p.txnFirst, last.lastOffset})
	}
	slices.SortFunc(out, func(a, b ProducerState) int { return int(min(max(a.ProducerID-b.ProducerID, -1), 1)) })
	return out
}
