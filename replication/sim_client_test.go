package replication

import (
	"errors"
	"fmt"
	"time"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// producer writes to one partition. An idempotent one repeats a batch until it knows what
// became of it, and begins a new epoch where the brokers have forgotten it.
type producer struct {
	s     *sim
	id    int64
	index int32
	idem  bool
	acks  Acks
	epoch int16
	next  int32 // sequence
	known int32 // leader epoch
	batch *produce
	txn   bool // it writes transactions, of up to three batches
	open  int  // batches of the one under way
	sure  bool // all that it was answered for since its epoch began was acks=all, and nothing was lost by rule
	last  int64
}

// produce is a batch on its way.
type produce struct {
	sequence int32
	value    int
	count    int
	tries    int
	marker   bool // it ends a transaction
}

// wait is a produce that waits at a broker.
type wait struct {
	commit *Commit
	until  time.Duration
	part   *Partition
	answer func(error)
}

func (s *sim) startClients() {
	for i := range s.plan.producers {
		p := &producer{s: s, id: int64(1000 + i), index: int32(i % s.plan.partitions), idem: i/2%2 == 0, acks: AcksAll, sure: true, last: -1}
		if i%6 == 0 {
			p.txn, p.idem = true, true
		}
		if i%5 == 4 {
			p.acks = AcksLeader
		}
		s.clients = append(s.clients, p)
		s.later(nil, time.Duration(i)*time.Millisecond, fmt.Sprintf("producer %d", i), p.produce)
	}
	s.consume()
}

// lost tells the clients that records were lost as the rules allow.
func (s *sim) lost(index int32) {
	for _, p := range s.clients {
		if p.index == index {
			p.sure = false
		}
	}
}

// begin begins anew, with another topic of the same name.
func (p *producer) begin() {
	p.batch, p.next, p.known, p.last, p.sure, p.open = nil, 0, 0, -1, true, 0
	p.epoch++
}

// produce sends the batch that is under way, or a new one.
func (p *producer) produce() {
	s := p.s
	again := func(d time.Duration) { s.later(nil, d, fmt.Sprintf("producer %d", p.id), p.produce) }
	if p.batch == nil && p.open > 0 && (s.quiet || s.work.IntN(3) == 0 || p.open == 3) {
		p.batch = &produce{marker: true, count: 1, value: s.work.IntN(2)}
	}
	if p.batch == nil {
		if s.quiet {
			return
		}
		s.stats["batches"]++
		p.batch = &produce{sequence: p.next, value: s.stats["batches"], count: 1 + s.work.IntN(3)}
	}
	b := p.batch
	ids := s.ids()
	var to *process
	if len(ids) > 0 {
		m := s.procs[ids[s.work.IntN(len(ids))]].node.Image()
		// A client does not go back to metadata with a lower leader epoch.
		if part := m.Partition(simTopic, p.index); part != nil && m.Topic(simTopic).ID == s.check.parts[0].topic && part.LeaderEpoch >= p.known {
			to, p.known = s.leaderOf(m, p.index), part.LeaderEpoch
		}
	}
	if to == nil || to.replicas == nil {
		again(50 * time.Millisecond)
		return
	}
	over := new(bool)
	timeout := s.later(nil, simTimeout, "produce is not answered", func() {
		*over = true
		p.done(b, errLost)
		again(simAgain)
	})
	timeout.over = over
	b.tries++
	who := record.NoProducer
	if p.idem {
		who = record.Producer{ID: p.id, Epoch: p.epoch, Sequence: b.sequence, Transactional: p.txn}
	}
	s.later(to, s.delay(0, to.id), fmt.Sprintf("produce %d of %d/%d from %d try %d", b.value, p.id, p.epoch, b.sequence, b.tries), func() {
		to.produce(p, b, who, func(err error) {
			s.later(nil, s.delay(to.id, 0), fmt.Sprintf("produce %d is answered: %v", b.value, err), func() {
				if *over {
					return
				}
				*over = true
				p.done(b, err)
				if err != nil {
					again(simAgain)
				} else {
					again(time.Duration(s.work.Int64N(int64(s.plan.pace))))
				}
			})
		})
	})
}

// done follows the answer to a batch.
func (p *producer) done(b *produce, err error) {
	if p.batch != b {
		return
	}
	switch {
	case err == nil && b.marker:
		p.batch, p.open = nil, 0
	case err == nil:
		p.batch = nil
		p.next += int32(b.count)
		if p.txn {
			p.open++
		}
		p.sure = p.sure && p.acks == AcksAll
	case !p.idem: // nobody knows whether it is there
		p.batch = nil
	case errors.Is(err, log.ErrOutOfOrderSequence), errors.Is(err, log.ErrProducerEpoch):
		if p.sure && p.acks == AcksAll && b.sequence > 0 && p.last >= p.s.check.parts[p.index].start {
			p.s.fail("P3", "producer %d, whose last batch is committed at %d, is refused sequence %d: %v", p.id, p.last, b.sequence, err)
		}
		p.s.stats["producers forgotten"]++
		p.batch, p.next, p.epoch, p.sure = nil, 0, p.epoch+1, true
		if p.txn { // a new instance of the producer has its coordinator abort what is open
			p.batch = &produce{marker: true, count: 1}
		}
	}
}

// produce appends a batch at the leader, as a handler of produces does.
func (p *process) produce(by *producer, b *produce, who record.Producer, answer func(error)) {
	if p.replicas == nil {
		answer(kerr.NotLeaderOrFollower)
		return
	}
	part := p.replicas.Get(simTopic, by.index)
	if part == nil {
		answer(kerr.UnknownTopicOrPartition)
		return
	}
	builder := record.NewBuilder(record.None, 0)
	for i := range b.count {
		builder.Append(simStart.UnixMilli(), fmt.Appendf(nil, "k%d", b.value), fmt.Appendf(nil, "v%d.%d", b.value, i), nil)
	}
	out, err := builder.Finish(who)
	if err != nil {
		p.s.fail("produce", "%v", err)
		return
	}
	o := log.AppendOptions{}
	if b.marker { // the coordinator's
		o.Origin = log.Coordinator
		out = record.BuildControl(nil, record.Control{Type: record.ControlType(b.value), Timestamp: simStart.UnixMilli(), Value: make([]byte, 6), ProducerID: who.ID, Epoch: who.Epoch})
	}
	crc := record.Batch(out).CRC()
	info, commit, err := part.Append(out, by.acks, o)
	if err != nil {
		answer(err)
		return
	}
	own := ack{topic: part.TopicID, index: by.index, base: info.BaseOffset, crc: crc, all: by.acks == AcksAll, duplicate: info.Duplicate}
	finish := func(err error) {
		if err == nil {
			own.epoch = part.LeaderEpoch()
			p.s.check.acks = append(p.s.check.acks, own)
			by.last = info.BaseOffset
			p.s.stats["acks"]++
			if info.Duplicate {
				p.s.stats["duplicates"]++
			}
		}
		answer(err)
	}
	if commit == nil {
		finish(nil)
		return
	}
	p.waits = append(p.waits, &wait{commit: commit, until: p.s.at + simTimeout, part: part, answer: finish})
	p.s.later(p, simTimeout, "produce waited", func() {})
}

// answer answers the produces that are decided on, or have waited for too long.
func (p *process) answer() {
	kept := p.waits[:0]
	for _, w := range p.waits {
		select {
		case <-w.commit.Done():
			w.answer(w.commit.Err())
			continue
		default:
		}
		if p.s.at >= w.until {
			w.part.Abandon(w.commit)
			w.answer(kerr.RequestTimedOut)
			continue
		}
		kept = append(kept, w)
	}
	clear(p.waits[len(kept):])
	p.waits = kept
}

// consume reads from whoever believes to lead.
func (s *sim) consume() {
	d := 10*time.Millisecond + time.Duration(s.work.Int64N(int64(60*time.Millisecond)))
	ids := s.ids()
	if len(ids) == 0 {
		s.later(nil, d, "consumer", s.consume)
		return
	}
	p, index := s.procs[ids[s.work.IntN(len(ids))]], int32(s.work.IntN(s.plan.partitions))
	s.later(nil, d, "consumer", s.consume)
	s.later(p, 0, fmt.Sprintf("consume %d", index), func() { p.consume(index) })
}

func (p *process) consume(index int32) {
	if p.replicas == nil {
		return
	}
	part := p.replicas.Get(simTopic, index)
	if part == nil || !part.Leads() || part.TopicID != p.s.check.parts[index].topic {
		return
	}
	s, x := p.s, p.s.check.parts[index]
	start, high := part.log.StartOffset(), part.HighWatermark()
	x.stable(p.id, part)
	from := start + s.work.Int64N(high-start+1)
	out, err := part.Fetch(Fetch{Offset: from, LeaderEpoch: -1, LastEpoch: -1, MaxBytes: 300, MinOne: true})
	if err != nil {
		x.fail("P1", "broker %d leads and cannot be read from at %d: %v", p.id, from, err)
		return
	}
	if out.Region == nil {
		return
	}
	defer out.Region.Release()
	b, err := out.Region.Bytes()
	for err == nil && len(b) > 0 {
		var batch record.Batch
		if batch, b, err = record.Next(b); err != nil {
			break
		}
		o := batch.LastOffset()
		if part.LeaderEpoch() < x.lostIn {
			continue
		}
		if o >= int64(len(x.committed)) || x.committed[o] != nil && (x.committed[o].crc != batch.CRC() || x.committed[o].epoch != batch.LeaderEpoch()) {
			x.fail("P2", "a consumer is given offset %d of crc %08x by broker %d, of %d that are committed", o, batch.CRC(), p.id, len(x.committed))
			return
		}
		s.stats["records read"]++
	}
	if err != nil && !errors.Is(err, record.ErrShort) {
		x.fail("P12", "broker %d at %d: %v", p.id, from, err)
	}
}
