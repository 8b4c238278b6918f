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
	timestamp        int64 // ms, of the last batch or marker, as its producer set it
	seen             int64 // ms, when this broker appended that, or read it back
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
	m    map[int64]*producer
	open openTxns
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

// replay enters a batch that is in the log. now is in ms. It returns the
// transaction that the batch ends, if any.
func (s *producers) replay(b record.Batch, now int64) (ended *txn) {
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
		p.timestamp, p.seen = c.Timestamp, now
		if p.txnFirst >= 0 {
			ended = &txn{id, p.txnFirst, b.BaseOffset(), c.Type == record.ControlAbort}
			s.open.end(p)
		}
		return ended
	}
	p := s.make(id, b.ProducerEpoch())
	p.setEpoch(b.ProducerEpoch())
	p.batches[p.n%batchesKept] = producerBatch{b.BaseSequence(), b.LastSequence(), b.LastOffset(), b.LastOffsetDelta(), b.MaxTimestamp()}
	p.n++
	p.timestamp, p.seen = b.MaxTimestamp(), now
	if a.Transactional() && p.txnFirst < 0 {
		s.open.begin(p, b.BaseOffset())
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
// open. Silence is measured by when their batches were appended, not by the
// batches' timestamps: records that are mirrored or filled in later are old when
// they come, and their producers must still be recognised when they try again.
func (s *producers) expire(now time.Time, age time.Duration) {
	for id, p := range s.m {
		if p.txnFirst < 0 && now.UnixMilli()-p.seen >= age.Milliseconds() {
			delete(s.m, id)
		}
	}
}

// firstOpen returns the first offset of the oldest open transaction, -1 if none.
func (s *producers) firstOpen() int64 { return s.open.first() }

// openTxns holds the open transactions in the order in which they began, which is
// that of their first offsets, so that the oldest is found without a search.
type openTxns struct {
	queue []openTxn // rising by offset; some have ended since
	count int       // of those that have not
}

type openTxn struct {
	p     *producer
	first int64
}

// begin opens a transaction of p at an offset above those of all that are open.
func (o *openTxns) begin(p *producer, offset int64) {
	p.txnFirst = offset
	o.queue = append(o.queue, openTxn{p, offset})
	o.count++
}

// end closes the transaction of p.
func (o *openTxns) end(p *producer) {
	p.txnFirst = -1
	o.count--
	ended := func(t openTxn) bool { return t.p.txnFirst != t.first }
	n := 0
	for n < len(o.queue) && ended(o.queue[n]) {
		n++
	}
	clear(o.queue[:n])
	o.queue = o.queue[n:]
	// One transaction that stays open must not keep all that came after it.
	if len(o.queue) > 2*o.count+8 {
		o.queue = slices.DeleteFunc(o.queue, ended)
	}
}

func (o *openTxns) first() int64 {
	if len(o.queue) == 0 {
		return -1
	}
	return o.queue[0].first
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
