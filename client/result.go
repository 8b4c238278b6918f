package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// land takes a batch out of flight. The caller holds mu.
func (p *Producer) land(b *batch) {
	b.inFlight = false
	b.part.inFlight = slices.DeleteFunc(b.part.inFlight, func(x *batch) bool { return x == b })
	b.part.seqs.landed(b.place)
}

// result decides what becomes of a batch after an answer: it is done, sent
// again, split, or failed. r is nil where no answer came or none was awaited.
// The caller holds mu.
func (p *Producer) result(b *batch, now time.Time, err error, r *msg.ProduceResponsePartitionProduceResponse) {
	p.land(b)
	part := b.part
	defer part.node.pokeIf()
	if b.completed { // it expired while it was in flight
		p.recycle(b)
		return
	}
	var code kerr.Code
	errors.As(err, &code)
	if err != nil && code != kerr.DuplicateSequenceNumber && part.gone != nil {
		p.complete(b, fmt.Errorf("%w; the last answer: %w", part.gone, err))
		return
	}
	switch {
	case err == nil || code == kerr.DuplicateSequenceNumber:
		if r != nil && err == nil {
			b.out.base, b.out.appendTime = r.BaseOffset, r.LogAppendTimeMs
		}
		p.learnRatio(b)
		part.seqs.acknowledged(b.place)
		p.complete(b, nil)
		return
	case code == kerr.MessageTooLarge && b.count() > 1:
		if err = p.split(b); err == nil {
			return
		}
	}
	verdict := part.seqs.refused(b.place, code)
	switch verdict {
	case newPlace: // the broker has not written it
		p.lg.Info("sequence not known to the broker, new epoch", zap.String("topic", part.topic.name), zap.Int32("partition", part.index), zap.Int32("sequence", b.place.seq), zap.Error(err))
		p.requeue(b, now, err)
		return
	case fenced:
		p.end(fmt.Errorf("producer id %d, epoch %d: %w", b.place.id, b.place.epoch, err))
	}
	b.maybe = b.maybe || code != kerr.UnknownTopicId && code != kerr.UnknownTopicOrPartition
	again := b.attempts <= p.o.Retries && !p.stopped && now.Before(b.deadline)
	if again && (retriable(err) || verdict == samePlace) {
		if code.Refresh() == kerr.RefreshMetadata {
			p.cl.stale()
		}
		p.requeue(b, now, err)
		return
	}
	p.complete(b, err)
}

// end makes every Send fail from now on, and what waits. The caller holds mu.
func (p *Producer) end(err error) {
	if p.fatal == nil {
		p.fatal = err
		for _, b := range p.open.all() {
			if !b.inFlight {
				p.complete(b, err)
			}
		}
	}
}

// requeue puts a batch back, before those that come after it. Where nothing is
// sent any more it fails: nobody would look at it again. It fails too if it may be in
// a topic that was deleted, and another has its name now. The caller holds mu.
func (p *Producer) requeue(b *batch, now time.Time, err error) {
	if p.fatal != nil {
		p.complete(b, fmt.Errorf("%w; the last answer: %w", p.fatal, err))
		return
	}
	if b.former(b.part.topic.id) {
		p.complete(b, fmt.Errorf("%w; the last answer: %w", madeAgain(b.part.topic), err))
		return
	}
	b.lastErr = err
	b.notBefore = p.pace.next(now, b.attempts)
	p.insert(b)
}

func (p *Producer) insert(b *batch) {
	part := b.part
	i := 0
	for i < len(part.queue) && part.queue[i].precedes(b) {
		i++
	}
	part.queue = slices.Insert(part.queue, i, b)
	if part.node != nil {
		part.node.add(part)
		part.node.poke()
	} else {
		p.cl.stale()
	}
}

// precedes reports whether a's records were sent before b's, for two batches of
// one partition. Sequences are given out in this order too.
func (a *batch) precedes(b *batch) bool {
	return a.id < b.id || a.id == b.id && a.first < b.first
}

// split replaces a batch by two of half its records. The caller holds mu.
func (p *Producer) split(b *batch) error {
	parts, err := b.halves(p.builder)
	if err != nil {
		return fmt.Errorf("split a batch that the broker found too large: %w", err)
	}
	p.ratio = 1
	part := b.part
	for _, s := range parts {
		s.out = p.outcomeOf(s)
		for i := range s.records {
			if f := s.records[i].future; f != nil {
				f.i.Store(int32(i))
				f.at.Store(s.out)
			}
		}
	}
	b.out.moved, b.out.batch = true, nil
	close(b.out.done)
	i := slices.Index(part.order, b)
	part.order = slices.Replace(part.order, i, i+1, parts...)
	if b.place.given() {
		for i, place := range part.seqs.split(b.place, parts[0].count(), parts[1].count()) {
			parts[i].place = place
		}
	}
	p.open.split(b, parts)
	b.charged = 0
	p.recycle(b)
	for _, s := range parts {
		p.insert(s)
	}
	return nil
}

// learnRatio adapts the estimate of what compression yields, as the Java client
// does: up in steps, down slowly. The caller holds mu.
func (p *Producer) learnRatio(b *batch) {
	plain := b.builder.Size() - record.HeaderSize
	if p.o.Compression == record.None || plain <= 0 {
		return
	}
	seen := float64(len(b.data)-record.HeaderSize) / float64(plain)
	if seen > p.ratio {
		p.ratio = min(max(p.ratio+0.05, seen), 1)
	} else {
		p.ratio = max(p.ratio-0.005, seen)
	}
}

// complete decides the outcome of a batch, once. It is reported when every batch of
// the partition before it has been. The caller holds mu.
func (p *Producer) complete(b *batch, err error) {
	if b.completed {
		return
	}
	b.completed = true
	b.out.err, b.out.batch = err, nil
	part := b.part
	if !b.inFlight {
		if i := slices.Index(part.queue, b); i >= 0 {
			if i == 0 { // mostly: the oldest expires first
				part.queue[0] = nil
				part.queue = part.queue[1:]
			} else {
				part.queue = slices.Delete(part.queue, i, i+1)
			}
			if len(part.queue) == 0 && part.node != nil {
				part.node.remove(part)
			}
		}
		p.recycle(b)
	}
	part.seqs.decided(b.place)
	for len(part.order) > 0 && part.order[0].completed {
		p.tell = append(p.tell, part.order[0])
		part.order = part.order[1:]
	}
	p.told.Broadcast()
}

// tellLoop reports outcomes until the producer has ended and all are reported.
func (p *Producer) tellLoop() {
	var batches []*batch
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.tell) == 0 && p.telling {
			p.told.Wait()
		}
		if len(p.tell) == 0 {
			return
		}
		batches, p.tell = p.tell, batches[:0]
		p.mu.Unlock()
		for _, b := range batches {
			b.announce()
		}
		p.mu.Lock()
		for i, b := range batches {
			p.open.told(b)
			batches[i] = nil
		}
		p.told.Broadcast()
	}
}

// announce gives the records of a batch its outcome.
func (b *batch) announce() {
	close(b.out.done)
	for i := range b.records {
		r := &b.records[i]
		if r.callback != nil {
			r.callback(b.out.metadata(int32(i), r.ts), b.out.errorOf(int32(i)))
		}
	}
	b.records = nil
}

// setExpiry sets the timer for the oldest batch. The caller holds mu.
func (p *Producer) setExpiry() {
	for b := range p.open.undecided() {
		if p.expiry == nil {
			p.expiry = time.AfterFunc(time.Until(b.deadline), p.expire)
		} else {
			p.expiry.Reset(time.Until(b.deadline))
		}
		p.expiring = true
		return
	}
	p.expiring = false
}

// expire fails the batches that are older than delivery.timeout.ms. One that is
// in flight keeps its memory until the connection gives it back.
func (p *Producer) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for b := range p.open.undecided() {
		if b.deadline.After(now) {
			break
		}
		err := fmt.Errorf("%w: %v after its first record, %d tries", ErrDeliveryTimeout, p.o.DeliveryTimeout, b.attempts)
		if last := p.hindrance(b); last != nil {
			err = fmt.Errorf("%w; the last error: %w", err, last)
		}
		p.complete(b, err)
	}
	p.setExpiry()
}
