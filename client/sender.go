package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// namesVersion is the newest Produce that names topics rather than their ids.
const namesVersion = 12

// node is the sender for one broker. Producer.mu guards the fields but wake and
// those that only run uses.
type node struct {
	p          *Producer
	id         int32
	wake       chan struct{}
	active     activeList // with queued batches
	requests   int        // in flight
	lookAt     time.Time  // when run looks again by itself; zero while it is at work
	readySince time.Time  // when it last had something to send that it did not; zero if it has nothing
	mutedUntil time.Time  // by the broker's quota (KIP-219)
	failed     error      // why the last batches were not sent; nil after a success

	req msg.ProduceRequest // used by run only
}

func newNode(p *Producer, id int32) *node {
	return &node{p: p, id: id, wake: make(chan struct{}, 1)}
}

// poke makes run look again.
func (n *node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// pokeIf is poke for a node that may be nil.
func (n *node) pokeIf() {
	if n != nil {
		n.poke()
	}
}

func (n *node) add(part *partition) {
	if !part.active {
		n.active.push(part)
	}
}

func (n *node) remove(part *partition) {
	if part.active {
		n.active.remove(part)
	}
}

// stuck reports whether the node has had something to send for longer than d.
func (n *node) stuck(now time.Time, d time.Duration) bool {
	return !n.readySince.IsZero() && now.Sub(n.readySince) > d
}

// run sends until the producer ends.
func (n *node) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ready, wait := n.ready(time.Now())
		if !ready {
			timer.Reset(wait)
			select {
			case <-n.wake:
			case <-timer.C:
			case <-n.p.ctx.Done():
				return
			}
			continue
		}
		cn, err := n.p.cl.broker(n.p.ctx, n.id, forData)
		if err == nil && n.muted(cn) {
			continue
		}
		if err == nil {
			err = n.send(cn)
		}
		if err != nil && n.p.ctx.Err() != nil {
			return
		}
		n.p.mu.Lock()
		n.failed = err
		n.p.mu.Unlock()
		if err != nil {
			n.p.cl.stale()
			if sleep(n.p.ctx, n.p.o.ReconnectBackoff) != nil {
				return
			}
		}
	}
}

// muted notes until when the broker wants to hear nothing. Batches go on filling
// meanwhile.
func (n *node) muted(cn *conn.Conn) bool {
	until := cn.MutedUntil()
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	n.mutedUntil = until
	return time.Now().Before(until)
}

// ready reports whether a batch is to be sent now, and else when to look again
// if nobody pokes before.
func (n *node) ready(now time.Time) (bool, time.Duration) {
	p := n.p
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := time.Hour
	n.lookAt = time.Time{}
	if n.requests >= p.o.MaxInFlight {
		return false, wait
	}
	if d := n.mutedUntil.Sub(now); d > 0 {
		return false, d
	}
	for part := n.active.first; part != nil; part = part.next {
		d := p.due(part, now)
		if d <= 0 {
			if n.readySince.IsZero() {
				n.readySince = now
			}
			return true, 0
		}
		wait = min(wait, d)
	}
	n.readySince = time.Time{}
	n.lookAt = now.Add(wait)
	return false, wait
}

// lingers notifies the sender of a partition's first record. It looks through all
// its partitions only if it would look too late for this one.
func (n *node) lingers(part *partition, now time.Time) {
	if n != nil && (n.lookAt.IsZero() || now.Add(n.p.due(part, now)).Before(n.lookAt)) {
		n.poke()
	}
}

// due returns how long the first batch of a partition is to wait still, an hour
// if something else must happen first. The caller holds mu.
func (p *Producer) due(part *partition, now time.Time) time.Duration {
	const later = time.Hour
	if len(part.queue) == 0 || !p.identify(part) {
		return later
	}
	b := part.queue[0]
	if d := b.notBefore.Sub(now); d > 0 {
		return d
	}
	flying := len(part.inFlight)
	switch {
	case p.o.Idempotence != On && flying > 0:
		return later // if the broker refused that one, this would overtake it
	case p.o.Idempotence == On && (p.o.MaxInFlight == 1 && flying > 0 || !part.seqs.inWindow(b.place)):
		return later
	case b.attempts > 0 && flying > 0:
		return later // one at a time, until the broker takes one
	case b.place.given() && part.seqs.behind(b.place):
		return later // an earlier one is on its way again
	case b.attempts > 0, b.closed, len(part.queue) > 1, p.flushing > 0, p.closing, len(p.waiters) > 0:
		return 0
	}
	return b.created.Add(p.o.Linger).Sub(now)
}

// send drains what is due and gives it to the connection. An error means that
// the connection did not take it.
func (n *node) send(cn *conn.Conn) error {
	version, err := cn.Version(wire.Produce)
	if err != nil {
		n.refuse(fmt.Errorf("produce to %s: %w", n.p.cl.name(n.id), err))
		return err
	}
	batches := n.p.drain(n, time.Now())
	kept := batches[:0:len(batches)]
	for _, b := range batches {
		if err := b.finish(); err != nil {
			n.p.mu.Lock()
			n.p.land(b)
			n.p.complete(b, fmt.Errorf("make batch: %w", err))
			n.p.mu.Unlock()
			continue
		}
		kept = append(kept, b)
	}
	if len(kept) == 0 {
		n.p.mu.Lock()
		n.requests--
		n.p.mu.Unlock()
		return nil
	}
	ids := version > namesVersion
	if ids && slices.ContainsFunc(kept, func(b *batch) bool { return b.sentTo == prim.UUID{} }) {
		ids = false // a broker that gives no ids named the topic
		if version, err = cn.VersionUpTo(wire.Produce, namesVersion); err != nil {
			n.answered(kept, nil, ids, err)
			return err
		}
	}
	n.fill(kept)
	var resp *msg.ProduceResponse
	call := &conn.Call{Req: &n.req, Version: version}
	if n.p.o.Acks != AcksNone {
		resp = new(msg.ProduceResponse)
		call.Resp = resp
	}
	call.Done = func(err error) { n.answered(kept, resp, ids, err) }
	if err := cn.Send(call); err != nil {
		n.answered(kept, nil, ids, fmt.Errorf("%w: %w", errLost, err))
		return err
	}
	return nil
}

// fill makes the request of batches; a topic's come together.
func (n *node) fill(batches []*batch) {
	n.req.SetDefaults()
	n.req.Acks = n.p.o.Acks.wire()
	n.req.TimeoutMs = int32(n.p.o.RequestTimeout.Milliseconds())
	at := make(map[*topic]int, 1)
	for _, b := range batches {
		t := b.part.topic
		i, ok := at[t]
		if !ok {
			i = len(n.req.TopicData)
			at[t] = i
			if i < cap(n.req.TopicData) {
				n.req.TopicData = n.req.TopicData[:i+1]
				n.req.TopicData[i].SetDefaults()
			} else {
				n.req.TopicData = append(n.req.TopicData, msg.ProduceRequestTopicProduceData{})
			}
			n.req.TopicData[i].Name, n.req.TopicData[i].TopicId = t.name, b.sentTo
		}
		d := &n.req.TopicData[i]
		d.PartitionData = append(d.PartitionData, msg.ProduceRequestPartitionProduceData{Index: b.part.index, Records: prim.Records{B: b.data}})
	}
}

// drain takes the due batches of a node, at most one of a partition and together
// at most max.request.size. The request counts as in flight from then on.
func (p *Producer) drain(n *node, now time.Time) (batches []*batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.requests++
	n.readySince = time.Time{}
	size := 0
	last := n.active.last // who was served waits for the others, behind this one
	for part, next := n.active.first, (*partition)(nil); part != nil; part = next {
		next = part.next
		if part == last {
			next = nil
		}
		if p.due(part, now) > 0 {
			continue
		}
		b := part.queue[0]
		estimate := b.builder.EstimatedSize(p.ratio)
		if b.data != nil {
			estimate = len(b.data)
		}
		if size += estimate; size > p.o.MaxRequestSize && len(batches) > 0 {
			break
		}
		p.take(part, b)
		batches = append(batches, b)
		if n.active.remove(part); len(part.queue) > 0 {
			n.active.push(part)
		}
	}
	return batches
}

// take moves the first batch of a partition in flight and gives it its
// sequence. The caller holds mu.
func (p *Producer) take(part *partition, b *batch) {
	part.queue = part.queue[1:]
	part.inFlight = append(part.inFlight, b)
	b.closed, b.inFlight = true, true
	b.attempts++
	if !b.maybe || b.sentTo == (prim.UUID{}) {
		b.sentTo = part.topic.id
	}
	if p.o.Idempotence != On {
		return
	}
	if !b.place.given() {
		b.place = part.seqs.give(b.count())
	}
	part.seqs.took(b.place)
}

// answered is called with how a request ended, which named topics by their ids or not.
func (n *node) answered(batches []*batch, resp *msg.ProduceResponse, ids bool, err error) {
	p := n.p
	var hints []leaderHint
	p.mu.Lock()
	n.requests--
	now := time.Now()
	switch {
	case err != nil:
		if !errors.Is(err, prim.ErrUnsupported) {
			err = fmt.Errorf("%w: %w", kerr.NetworkException, err)
		}
		for _, b := range batches {
			p.result(b, now, err, nil)
		}
	case resp == nil: // acks 0
		for _, b := range batches {
			p.result(b, now, nil, nil)
		}
	default:
		hints = n.each(batches, resp, ids, now)
	}
	p.mu.Unlock()
	p.cl.hint(hints, endpoints(resp))
	n.poke()
}

func endpoints(resp *msg.ProduceResponse) (nodes []BrokerInfo) {
	if resp == nil {
		return nil
	}
	for _, e := range resp.NodeEndpoints {
		nodes = append(nodes, BrokerInfo{e.NodeId, e.Host, e.Port, text(e.Rack)})
	}
	return nodes
}

// each gives every batch its part of the answer. Brokers mostly answer in the
// order of the request; an index finds the others.
func (n *node) each(batches []*batch, resp *msg.ProduceResponse, ids bool, now time.Time) (hints []leaderHint) {
	type place struct {
		topic string // unless ids
		id    prim.UUID
		index int32
	}
	placeOf := func(name string, id prim.UUID, index int32) place {
		if ids {
			return place{"", id, index}
		}
		return place{name, prim.UUID{}, index}
	}
	var places map[place]int // of left; nil while the answer is in order
	left := slices.Clone(batches)
	at := 0
	for ti := range resp.Responses {
		t := &resp.Responses[ti]
		for pi := range t.PartitionResponses {
			r := &t.PartitionResponses[pi]
			i, ok := at, true
			asked := placeOf(t.Name, t.TopicId, r.Index)
			if at >= len(left) || placeOf(batches[at].part.topic.name, batches[at].sentTo, batches[at].part.index) != asked {
				if places == nil {
					places = make(map[place]int, len(left))
					for i, b := range batches {
						places[placeOf(b.part.topic.name, b.sentTo, b.part.index)] = i
					}
				}
				i, ok = places[asked]
			}
			if !ok || left[i] == nil { // not asked for, or answered twice
				continue
			}
			b := left[i]
			left[i] = nil
			at = i + 1
			if r.CurrentLeader.LeaderId >= 0 && r.ErrorCode != 0 {
				hints = append(hints, leaderHint{b.part.topic.name, b.sentTo, r.Index, r.CurrentLeader.LeaderId, r.CurrentLeader.LeaderEpoch})
			}
			n.p.result(b, now, describe(r), r)
		}
	}
	for _, b := range left {
		if b != nil {
			n.p.result(b, now, fmt.Errorf("%w: the answer leaves out partition %d of %s", kerr.NetworkException, b.part.index, b.part.topic.name), nil)
		}
	}
	return hints
}

// refuse ends the batches that wait for this broker, which cannot take them: trying
// again will not mend it. Those for other brokers go on, and what is sent later is
// tried, since another broker may lead by then.
func (n *node) refuse(err error) {
	n.p.mu.Lock()
	defer n.p.mu.Unlock()
	for n.active.first != nil {
		part := n.active.first
		for part.active {
			n.p.complete(part.queue[0], err)
		}
	}
}

// failAll ends every batch that waits.
func (p *Producer) failAll(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.open.all() {
		if !b.inFlight {
			p.complete(b, err)
		}
	}
}
