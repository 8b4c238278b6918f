package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// fetchLoop finds positions and keeps one fetch under way at each broker that a
// partition without records to poll is read from.
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
	bySource := make(map[int32][]*position)
	toCompare := make(map[int32][]*position)
	c.mu.Lock()
	for tp, p := range c.assigned {
		if p.fetching || p.chunk != nil || p.paused && p.known || p.told && c.failed != nil {
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
		if !t.has(tp.Partition) || t.partitions[tp.Partition].Leader < 0 {
			// Newer metadata is asked for once, and then waited for.
			if p.lostIn != m {
				p.lostIn = m
				lost = append(lost, tp)
			}
			wait = min(wait, c.o.RetryBackoffMax)
			continue
		}
		leader, epoch := t.partitions[tp.Partition].Leader, t.partitions[tp.Partition].LeaderEpoch
		was := p.check
		var compare bool
		if p.epoch, compare = p.check.sees(t.id, leader, epoch, p.epoch); compare {
			p.from.clear() // the new leader may prefer another
			toCompare[leader] = append(toCompare[leader], p)
			p.fetching = true
			continue
		}
		if was.known && (was.leader != leader || was.epoch != epoch) {
			p.from.clear()
		}
		source, gone := p.from.source(&t.partitions[tp.Partition], m.brokers, now)
		if gone {
			c.toLeader(now, p, fmt.Errorf("fetch %v: the metadata have no preferred read replica %d", tp, source))
			lost = append(lost, tp)
			wait = 0
			continue
		}
		if !c.fetching[source] && !c.unseen[source] {
			bySource[source] = append(bySource[source], p)
			p.fetching = true
		}
	}
	for source := range bySource {
		c.fetching[source] = true
	}
	c.endUnused(m, now)
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
	for leader, ps := range toCompare {
		c.work.Go(func() { c.compare(leader, ps) })
	}
	for source, ps := range bySource {
		c.work.Go(func() { c.fetch(source, ps, m) })
	}
	return wait
}

// lookUp finds the positions that are not known. Those of a broker that answers do
// not wait for one that does not.
func (c *Consumer) lookUp(ps map[TopicPartition]*position) {
	ask := make(map[TopicPartition]int64, len(ps))
	for tp, p := range ps {
		ask[tp] = p.wanted.asked(time.Now())
	}
	noMetadata := c.awaitTopics(ask)
	c.cl.eachListed(c.ctx, ask, c.o.isolation(), func(found map[TopicPartition]listedOffset) {
		c.found(found, ps, ask, noMetadata)
	})
}

// found takes a part of what lookUp asked for.
func (c *Consumer) found(found map[TopicPartition]listedOffset, ps map[TopicPartition]*position, ask map[TopicPartition]int64, noMetadata error) {
	var failed failures
	m := c.cl.now()
	c.mu.Lock()
	now := time.Now()
	for tp, l := range found {
		p := ps[tp]
		p.fetching = false
		switch {
		case p.dropped:
			continue
		case l.err == nil && l.offset < 0 && ask[tp] >= 0: // nothing so late
			p.wanted = AtEnd(0)
			continue
		case l.err == nil && l.offset >= 0:
			// tries stays: only a fetch proves that the position is good.
			p.next, p.known = max(l.offset+p.wanted.n, 0), true
			continue
		case l.err == nil:
			l.err = fmt.Errorf("%w: offset %d", conn.ErrProtocol, l.offset)
		case m.topics[tp.Topic] == nil && noMetadata != nil:
			l.err = noMetadata
		case m.topics[tp.Topic] != nil && m.topics[tp.Topic].err != kerr.None:
			l.err = m.topics[tp.Topic].err // rather than that there is no leader
		}
		failed.add(p, fmt.Errorf("position of %v: %w", tp, l.err))
	}
	c.retryAll(now, &failed)
	c.mu.Unlock()
	c.report(&failed)
}

// awaitTopics waits for metadata that has not come yet, so that a consumer that
// has just been made does not take a missing leader for a lost one.
func (c *Consumer) awaitTopics(ask map[TopicPartition]int64) error {
	missing := false
	for tp := range ask {
		if c.cl.now().topics[tp.Topic] == nil {
			c.cl.want(tp.Topic)
			missing = true
		}
	}
	if !missing {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.o.RequestTimeout)
	defer cancel()
	return ownDeadline(c.cl.fresh(ctx), c.o.RequestTimeout)
}

// failures are what went wrong in one answer.
type failures struct {
	ps   []*position
	errs []error
}

func (f *failures) add(p *position, err error) {
	f.ps = append(f.ps, p)
	f.errs = append(f.errs, err)
}

// forUser reports whether an error is for Poll: trying again will not mend it,
// or records are damaged.
func forUser(err error) bool { return !retriable(err) || errors.Is(err, kerr.CorruptMessage) }

// retryAll is retryLater for all failures. The caller holds mu.
func (c *Consumer) retryAll(now time.Time, f *failures) {
	for i, p := range f.ps {
		c.retryLater(now, p, f.errs[i], forUser(f.errs[i]))
	}
}

// retryLater makes a position wait, longer with each failure. If told, it also
// waits until Poll has returned the error. The caller holds mu.
func (c *Consumer) retryLater(now time.Time, p *position, err error, told bool) {
	p.tries++
	p.lastErr, p.told = err, told
	p.notBefore = c.pace.next(now, p.tries)
}

// succeeded forgets failures.
func (p *position) succeeded() { p.tries, p.lastErr, p.told = 0, nil, false }

// report asks for metadata after failures, has Poll return the first that is for the
// user, and logs the first of the others.
func (c *Consumer) report(f *failures) {
	defer c.look()
	if len(f.ps) == 0 || c.ctx.Err() != nil {
		return
	}
	c.cl.stale()
	if i := slices.IndexFunc(f.errs, forUser); i >= 0 {
		c.fail(f.errs[i])
	}
	if i := slices.IndexFunc(f.errs, func(err error) bool { return !forUser(err) }); i >= 0 {
		c.lg.Warn("partitions not read, try again", zap.Int("partitions", len(f.ps)), zap.Error(f.errs[i]))
	}
}

// fetch asks a broker for records once.
func (c *Consumer) fetch(leader int32, ps []*position, m *metadata) {
	began := time.Now()
	resp, full, err := c.askRecords(leader, ps, m)
	c.mu.Lock()
	delete(c.fetching, leader)
	now := time.Now()
	var named []TopicPartition
	if err == nil {
		for _, t := range resp.Responses {
			for _, r := range t.Partitions {
				named = append(named, TopicPartition{t.Topic, r.PartitionIndex})
			}
		}
	}
	anew, err := c.inSession(leader, resp, named, err)
	var hints []leaderHint
	left := make(map[TopicPartition]*position, len(ps))
	for _, p := range ps {
		p.fetching = false
		left[p.tp] = p
	}
	var failed failures
	records, again := false, false
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
					hints = append(hints, leaderHint{t.Topic, m.topics[t.Topic].id, r.PartitionIndex, r.CurrentLeader.LeaderId, r.CurrentLeader.LeaderEpoch})
				}
				if p.dropped {
					continue
				}
				preferred := p.from
				e := c.arrived(leader, p, r, now)
				if e != nil {
					failed.add(p, e)
				}
				again = again || p.lastErr != nil || p.from != preferred // a reset, or it is read elsewhere
				records = records || p.chunk != nil
				if p.chunk != nil && !p.dropped {
					c.unseen[leader] = true
				}
			}
		}
	}
	for _, p := range left {
		switch {
		case p.dropped || anew:
		case err == nil && !full:
			p.succeeded() // no news of it
		default:
			e := err
			if e == nil {
				e = fmt.Errorf("%w: the answer leaves it out", errLost)
			}
			e = fmt.Errorf("fetch %v from %s: %w", p.tp, c.cl.name(leader), e)
			if p.from.clear() {
				c.toLeader(now, p, e)
				again = true
				continue
			}
			failed.add(p, e)
		}
	}
	c.retryAll(now, &failed)
	switch {
	case anew: // it says nothing of whether the broker waits
	case records || again || len(failed.ps) > 0:
		delete(c.early, leader)
	default:
		c.notTooEarly(leader, ps, began, now)
	}
	c.mu.Unlock()
	c.cl.hint(hints, fetchEndpoints(resp))
	c.report(&failed)
}

// notTooEarly makes partitions wait after an empty answer that came before
// fetch.max.wait.ms was over, if it is not the first: a broker that does not
// wait itself would be asked without a pause. The wait is never longer than the
// broker's would have been. The caller holds mu.
func (c *Consumer) notTooEarly(leader int32, ps []*position, began, now time.Time) {
	if now.Sub(began) >= c.o.FetchMaxWait*9/10 {
		delete(c.early, leader)
		return
	}
	until := began.Add(min(backoff(c.o.RetryBackoff, c.o.RetryBackoffMax, c.early[leader]), c.o.FetchMaxWait))
	c.early[leader]++
	for _, p := range ps {
		p.notBefore = until
	}
}

// toLeader has a position read from the leader again after the preferred replica failed: the
// first time at once, and then less and less often, for the leader may name the same replica
// as long as it does not know better. The caller holds mu.
func (c *Consumer) toLeader(now time.Time, p *position, err error) {
	c.lg.Info("a preferred read replica failed, the leader is asked", zap.Int("try", p.tries), zap.Error(err))
	p.lastErr = err
	p.notBefore = c.pace.next(now, p.tries)
	p.tries++
	c.cl.stale()
}

// arrived takes a partition's part of an answer of a broker and returns why it is none. The
// caller holds mu.
func (c *Consumer) arrived(broker int32, p *position, r *msg.FetchResponsePartitionData, now time.Time) error {
	code := kerr.Code(r.ErrorCode)
	switch {
	case (code != kerr.None && code != kerr.UnknownLeaderEpoch || r.DivergingEpoch.Epoch >= 0) && p.from.clear():
		// A follower may be behind or ahead of the leader: what is wrong is the leader's to say.
		c.toLeader(now, p, fmt.Errorf("fetch %v at offset %d from %s: diverging epoch %d: %w", p.tp, p.next, c.cl.name(broker), r.DivergingEpoch.Epoch, code))
		return nil
	case code == kerr.None && r.DivergingEpoch.Epoch >= 0:
		// Its end is beyond the position if an epoch came between that the consumer has
		// read nothing of.
		if err := c.truncated(p, min(r.DivergingEpoch.EndOffset, p.next), r.DivergingEpoch.Epoch); err != nil {
			return err
		}
		p.lastErr = fmt.Errorf("fetch %v: the log was truncated to offset %d", p.tp, p.next)
		p.notBefore = c.pace.next(now, p.tries)
		p.tries++
		return nil
	case code == kerr.None:
		p.highWater = r.HighWatermark
		if c.o.ReadCommitted && r.LastStableOffset >= 0 {
			p.highWater = r.LastStableOffset
		}
		if to := r.PreferredReadReplica; to >= 0 && to != broker && len(r.Records.B) == 0 {
			p.from.set(to, now.Add(c.o.MetadataMaxAge)) // tries stays: nothing proves that it answers
			return nil
		}
		if len(r.Records.B) > 0 {
			p.chunk = newChunk(r, p.next, c.o.ReadCommitted)
			c.ready = append(c.ready, p)
		} else {
			p.succeeded()
		}
		c.notify() // records, or news of the end
		return nil
	case code == kerr.OffsetOutOfRange:
		to, ok := c.o.reset()
		if !ok {
			return fmt.Errorf("%v: offset %d: %w: %w", p.tp, p.next, ErrNoReset, code)
		}
		c.lg.Warn("position out of range, reset", zap.String("topic", p.tp.Topic), zap.Int32("partition", p.tp.Partition), zap.Int64("offset", p.next), zap.Int("try", p.tries), zap.Error(code))
		// The first time at once. A broker that answers so to each position that
		// it names itself is asked less and less often.
		p.lastErr = fmt.Errorf("fetch %v at offset %d: %w", p.tp, p.next, code)
		p.notBefore = c.pace.next(now, p.tries)
		p.tries++
		p.wanted, p.known, p.next, p.epoch = to, !to.lookup, to.n, -1
		return nil
	}
	return fmt.Errorf("fetch %v at offset %d: %w", p.tp, p.next, code)
}
