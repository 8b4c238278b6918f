package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// fetchVersion is the newest Fetch that names topics rather than their ids.
const fetchVersion = 12

// fetchLoop finds positions and keeps one fetch under way at each broker that
// leads a partition without records to poll.
func (c *Consumer) fetchLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		updated := c.cl.updates()
		timer.Reset(c.fetchRound(time.Now()))
		select {
		case <-c.kick:
		case <-updated: // a leader may have become known
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
	}
}

// fetchRound starts what can be started, and returns when to look again.
func (c *Consumer) fetchRound(now time.Time) time.Duration {
	m := c.cl.now()
	wait := time.Hour
	var lost []TopicPartition
	lookup := make(map[TopicPartition]*position)
	byLeader := make(map[int32][]*position)
	c.mu.Lock()
	for tp, p := range c.assigned {
		if p.fetching || p.chunk != nil || p.paused && p.known {
			continue
		}
		if d := p.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if !p.known {
			p.fetching = true
			lookup[tp] = p
			continue
		}
		t := m.topics[tp.Topic]
		if t == nil || int(tp.Partition) >= len(t.partitions) || t.partitions[tp.Partition].Leader < 0 {
			// Newer metadata is asked for once, and then waited for.
			if p.lostIn != m {
				p.lostIn = m
				lost = append(lost, tp)
			}
			wait = min(wait, c.o.RetryBackoffMax)
			continue
		}
		if leader := t.partitions[tp.Partition].Leader; !c.fetching[leader] && !c.unseen[leader] {
			byLeader[leader] = append(byLeader[leader], p)
			p.fetching = true
		}
	}
	for leader := range byLeader {
		c.fetching[leader] = true
	}
	c.mu.Unlock()
	for _, tp := range lost {
		c.cl.want(tp.Topic)
	}
	if len(lost) > 0 {
		c.cl.stale()
	}
	if len(lookup) > 0 {
		c.work.Go(func() { c.lookUp(lookup) })
	}
	for leader, ps := range byLeader {
		c.work.Go(func() { c.fetch(leader, ps, m) })
	}
	return wait
}

// lookUp finds the positions that are not known.
func (c *Consumer) lookUp(ps map[TopicPartition]*position) {
	ask := make(map[TopicPartition]int64, len(ps))
	for tp, p := range ps {
		ask[tp] = p.wanted.asked(time.Now())
	}
	c.awaitTopics(ask)
	found := c.cl.listOffsets(c.ctx, ask, c.o.isolation())
	var failed error
	stale := false
	c.mu.Lock()
	now := time.Now()
	for tp, p := range ps {
		p.fetching = false
		l := found[tp]
		switch {
		case l.err == nil && l.offset < 0 && ask[tp] >= 0: // nothing so late
			p.wanted = AtEnd(0)
		case l.err == nil && l.offset >= 0:
			p.next, p.known, p.tries = max(l.offset+p.wanted.n, 0), true, 0
		default:
			p.retryLater(now, &c.o)
			stale = true
			if l.err != nil && !retriable(l.err) && failed == nil && c.ctx.Err() == nil {
				failed = fmt.Errorf("position of %v: %w", tp, l.err)
			}
		}
	}
	c.mu.Unlock()
	if stale {
		c.cl.stale()
	}
	if failed != nil {
		c.fail(failed)
	}
	c.look()
}

// awaitTopics waits for metadata that has not come yet, so that a consumer that
// has just been made does not take a missing leader for a lost one.
func (c *Consumer) awaitTopics(ask map[TopicPartition]int64) {
	ctx, cancel := context.WithTimeout(c.ctx, c.o.RequestTimeout)
	defer cancel()
	for tp := range ask {
		if c.cl.now().topics[tp.Topic] == nil {
			// An error shows again in the answer for the partition.
			_, _ = c.cl.topic(ctx, tp.Topic)
		}
	}
}

func (p *position) retryLater(now time.Time, o *ConsumerOptions) {
	p.tries++
	p.notBefore = now.Add(backoff(o.RetryBackoff, o.RetryBackoffMax, p.tries))
}

// fetch asks a broker for records once.
func (c *Consumer) fetch(leader int32, ps []*position, m *metadata) {
	resp, err := c.askRecords(leader, ps, m)
	c.mu.Lock()
	delete(c.fetching, leader)
	now := time.Now()
	if err == nil {
		err = codeOf(resp.ErrorCode)
	}
	var hints []leaderHint
	left := make(map[TopicPartition]*position, len(ps))
	for _, p := range ps {
		p.fetching = false
		left[p.tp] = p
	}
	var failed error
	if err == nil {
		for ti := range resp.Responses {
			t := &resp.Responses[ti]
			for pi := range t.Partitions {
				r := &t.Partitions[pi]
				p := left[TopicPartition{t.Topic, r.PartitionIndex}]
				if p == nil {
					continue
				}
				delete(left, p.tp)
				if r.CurrentLeader.LeaderId >= 0 && r.ErrorCode != 0 {
					hints = append(hints, leaderHint{t.Topic, r.PartitionIndex, r.CurrentLeader.LeaderId, r.CurrentLeader.LeaderEpoch})
				}
				if e := c.arrived(p, r, now); e != nil && failed == nil {
					failed = e
				}
				if p.chunk != nil && !p.dropped {
					c.unseen[leader] = true
				}
			}
		}
	}
	for _, p := range left {
		p.retryLater(now, &c.o)
	}
	c.mu.Unlock()
	if err != nil {
		c.cl.stale()
		if !retriable(err) && c.ctx.Err() == nil {
			failed = fmt.Errorf("fetch from broker %d: %w", leader, err)
		}
	}
	for _, h := range hints {
		c.cl.hint(h.topic, h.partition, h.leader, h.epoch, nil)
	}
	if failed != nil {
		c.fail(failed)
	}
	c.look()
}

func (c *Consumer) askRecords(leader int32, ps []*position, m *metadata) (*msg.FetchResponse, error) {
	cn, err := c.cl.broker(c.ctx, leader, forData)
	if err != nil {
		return nil, err
	}
	v, err := cn.VersionUpTo(wire.Fetch, fetchVersion)
	if err != nil {
		return nil, err
	}
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MaxWaitMs, req.MinBytes, req.MaxBytes = int32(c.o.FetchMaxWait.Milliseconds()), int32(c.o.FetchMinBytes), int32(c.o.FetchMaxBytes)
	req.IsolationLevel, req.RackId = c.o.isolation(), c.o.Rack
	at := make(map[string]int)
	c.mu.Lock()
	for _, p := range ps {
		i, ok := at[p.tp.Topic]
		if !ok {
			i = len(req.Topics)
			at[p.tp.Topic] = i
			req.Topics = append(req.Topics, msg.FetchRequestFetchTopic{Topic: p.tp.Topic})
		}
		var fp msg.FetchRequestFetchPartition
		fp.SetDefaults()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = p.tp.Partition, p.next, int32(c.o.PartitionMaxBytes)
		fp.CurrentLeaderEpoch = m.topics[p.tp.Topic].partitions[p.tp.Partition].LeaderEpoch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, fp)
	}
	c.mu.Unlock()
	resp := new(msg.FetchResponse)
	err = cn.DoVersion(c.ctx, req, resp, v, c.o.FetchMaxWait+c.o.RequestTimeout)
	return resp, lost(err, cn)
}

// arrived takes a partition's part of an answer. The caller holds mu.
func (c *Consumer) arrived(p *position, r *msg.FetchResponsePartitionData, now time.Time) error {
	if p.dropped {
		return nil
	}
	code := kerr.Code(r.ErrorCode)
	switch {
	case code == kerr.None:
		p.tries = 0
		p.highWater = r.HighWatermark
		if c.o.ReadCommitted && r.LastStableOffset >= 0 {
			p.highWater = r.LastStableOffset
		}
		if len(r.Records.B) > 0 {
			p.chunk = newChunk(r, c.o.ReadCommitted)
			c.ready = append(c.ready, p)
		}
		c.notify() // records, or news of the end
		return nil
	case code == kerr.OffsetOutOfRange:
		to, ok := c.o.reset()
		if !ok {
			p.retryLater(now, &c.o)
			return fmt.Errorf("%v: offset %d: %w: %w", p.tp, p.next, ErrNoReset, code)
		}
		c.lg.Info("position out of range, reset", zap.String("topic", p.tp.Topic), zap.Int32("partition", p.tp.Partition), zap.Int64("offset", p.next))
		p.wanted, p.known, p.next = to, !to.lookup, to.n
		return nil
	}
	p.retryLater(now, &c.o)
	c.cl.stale()
	if !code.Retriable() || code == kerr.CorruptMessage {
		return fmt.Errorf("fetch %v at offset %d: %w", p.tp, p.next, code)
	}
	return nil
}

// chunk is the record bytes of one partition from one fetch.
type chunk struct {
	left    []byte
	it      *record.Iterator // of the batch being read, nil between batches
	batch   record.Batch
	legacy  []record.LegacyRecord
	aborted []msg.FetchResponseAbortedTransaction // by first offset; nil unless read_committed
	pids    map[int64]bool                        // producers whose transactional records are aborted
	commit  bool
}

func newChunk(r *msg.FetchResponsePartitionData, committed bool) *chunk {
	k := &chunk{left: r.Records.B, commit: committed}
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
