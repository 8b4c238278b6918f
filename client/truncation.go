package client

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// TruncationError means that records which a consumer has read are no longer in the
// log: another leader has others in their place, or none (KIP-320). With
// auto.offset.reset the consumer reads on where the logs part; without it Poll
// returns this error until the application seeks. It wraps ErrNoReset.
type TruncationError struct {
	TopicPartition
	Offset    int64 // the position
	Epoch     int32 // leader epoch of the last record before it
	Diverging int64 // where the log parts from what was read; -1 if the leader cannot say
	EndEpoch  int32 // leader epoch of the last record that both have; -1 if the leader cannot say
}

func (e *TruncationError) Error() string {
	if e.Diverging < 0 {
		return fmt.Sprintf("%v: the log has nothing of leader epoch %d, of which offset %d was read: %v", e.TopicPartition, e.Epoch, e.Offset, ErrNoReset)
	}
	return fmt.Sprintf("%v: the log was truncated: read up to offset %d in leader epoch %d, which parts from it at offset %d after epoch %d: %v", e.TopicPartition, e.Offset, e.Epoch, e.Diverging, e.EndEpoch, ErrNoReset)
}

// Unwrap returns ErrNoReset.
func (e *TruncationError) Unwrap() error { return ErrNoReset }

// leaderCheck says with which leader a position was last known to be good. With
// another one, or another epoch, what was read must be in its log before more is
// fetched: the new leader may not have had all of it.
//
// Consumer.mu guards it. The zero value is of a position that was not compared with
// any leader.
type leaderCheck struct {
	known    bool
	id       prim.UUID // of the topic
	leader   int32
	epoch    int32
	awaiting bool // the position is to be compared with the leader's log
}

// sees notes who leads now, and reports whether the position must be compared first.
// last is the leader epoch of the last record read, -1 if it is not known: there is
// nothing to compare then. It returns the last epoch as it counts from now on: that
// of a topic which was made again says nothing.
func (k *leaderCheck) sees(id prim.UUID, leader, epoch, last int32) (int32, bool) {
	unknown := prim.UUID{}
	if k.known && k.id != id && k.id != unknown && id != unknown {
		last, k.awaiting = -1, false
	}
	if moved := k.known && (k.leader != leader || k.epoch != epoch); moved && last >= 0 && epoch >= 0 {
		k.awaiting = true
	}
	k.known, k.id, k.leader, k.epoch = true, id, leader, epoch
	return last, k.awaiting
}

// good notes that the position is in the leader's log.
func (k *leaderCheck) good() { k.awaiting = false }

// offsetsForEpochs is the first OffsetForLeaderEpoch that a consumer may send.
const offsetsForEpochs = 3

// compare asks a leader up to where its log is what positions have read, and moves
// those on that are good.
func (c *Consumer) compare(leader int32, ps []*position) {
	ends, err := c.askEnds(leader, ps)
	var failed failures
	c.mu.Lock()
	now := time.Now()
	for _, p := range ps {
		p.fetching = false
		if p.dropped {
			continue
		}
		end, ok := ends[p.tp]
		e := err
		switch {
		case e != nil:
		case !ok:
			e = fmt.Errorf("%w: the answer leaves it out", errLost)
		default:
			e = codeOf(end.ErrorCode)
		}
		switch {
		case e != nil:
			e = fmt.Errorf("compare %v at offset %d with the log of %s: %w", p.tp, p.next, c.cl.name(leader), e)
		case end.EndOffset < 0 || end.LeaderEpoch < 0:
			e = c.truncated(p, -1, -1)
		case end.EndOffset < p.next:
			e = c.truncated(p, end.EndOffset, end.LeaderEpoch)
		default:
			p.check.good()
		}
		if e != nil {
			failed.add(p, e)
		}
	}
	c.retryAll(now, &failed)
	c.mu.Unlock()
	c.report(&failed)
}

// askEnds sends one OffsetForLeaderEpoch. A broker that is too old for it has every
// position be good, as in the Java consumer.
func (c *Consumer) askEnds(leader int32, ps []*position) (map[TopicPartition]msg.OffsetForLeaderEpochResponseEpochEndOffset, error) {
	cn, err := c.cl.broker(c.ctx, leader, forAdmin)
	if err != nil {
		return nil, err
	}
	ends := make(map[TopicPartition]msg.OffsetForLeaderEpochResponseEpochEndOffset, len(ps))
	v, err := cn.Version(wire.OffsetForLeaderEpoch)
	if err != nil || v < offsetsForEpochs {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range ps {
			ends[p.tp] = msg.OffsetForLeaderEpochResponseEpochEndOffset{EndOffset: p.next}
		}
		return ends, nil
	}
	req, resp := new(msg.OffsetForLeaderEpochRequest), new(msg.OffsetForLeaderEpochResponse)
	req.ReplicaId = -1
	at := make(map[string]int)
	c.mu.Lock()
	for _, p := range ps {
		i, ok := at[p.tp.Topic]
		if !ok {
			i = len(req.Topics)
			at[p.tp.Topic] = i
			req.Topics = append(req.Topics, msg.OffsetForLeaderEpochRequestOffsetForLeaderTopic{Topic: p.tp.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, msg.OffsetForLeaderEpochRequestOffsetForLeaderPartition{
			Partition: p.tp.Partition, CurrentLeaderEpoch: p.check.epoch, LeaderEpoch: p.epoch})
	}
	c.mu.Unlock()
	if err := lost(cn.DoVersion(c.ctx, req, resp, v, 0), cn); err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, e := range t.Partitions {
			ends[TopicPartition{t.Topic, e.Partition}] = e
		}
	}
	return ends, nil
}

// truncated moves a position to where the leader's log parts from what was read, -1
// if the leader cannot say: the position is looked up then. Without
// auto.offset.reset it returns an error and moves nothing. The caller holds mu.
func (c *Consumer) truncated(p *position, end int64, epoch int32) error {
	to, ok := c.o.reset()
	if !ok {
		return &TruncationError{TopicPartition: p.tp, Offset: p.next, Epoch: p.epoch, Diverging: end, EndEpoch: epoch}
	}
	c.lg.Warn("log was truncated, reset", zap.String("topic", p.tp.Topic), zap.Int32("partition", p.tp.Partition),
		zap.Int64("offset", p.next), zap.Int32("leader_epoch", p.epoch), zap.Int64("diverging", end), zap.Int32("end_epoch", epoch))
	if end >= 0 {
		p.next, p.epoch = end, epoch
	} else {
		p.wanted, p.known, p.next, p.epoch = to, !to.lookup, to.n, -1
	}
	p.check.good()
	return nil
}
