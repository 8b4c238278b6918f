package client

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// leastPoll is the pause before metadata that is missing is asked for again by
// itself, even without retry.backoff.ms.
const leastPoll = 50 * time.Millisecond

// hooks are what the user of a cluster has to say and to hear of its refreshes.
type hooks struct {
	onFailure func(error)     // called with why a refresh failed; may be nil
	restless  func() bool     // reports whether something waits for metadata that is missing: it is polled then; may be nil
	onLost    func(id int32)  // called with a broker that no longer answers; may be nil
	inUse     func() []string // names topics that stay of interest, however long ago want named them; may be nil
}

func (c *cluster) hook(h hooks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooked = h
}

func (c *cluster) hooks() hooks {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hooked
}

// stale asks for fresh metadata soon: after a pause that grows while the answers
// bring no news.
func (c *cluster) stale() {
	select {
	case c.refresh <- struct{}{}:
	default:
	}
}

// hurry asks for fresh metadata now, for a caller that has not asked for it
// before: a pause ends, unless brokers do not answer.
func (c *cluster) hurry() {
	select {
	case c.urgent <- struct{}{}:
	default:
	}
}

// updates returns a channel that is closed with the next refresh.
func (c *cluster) updates() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updated
}

// want notes that a topic is in use.
func (c *cluster) want(topics ...string) {
	c.mu.Lock()
	for _, t := range topics {
		c.wanted[t] = time.Now()
	}
	c.mu.Unlock()
}

// topic returns a topic's metadata, waiting for it until ctx ends. An error that
// waiting will not mend is returned at once, if it is fresh: else the broker is
// asked again, since its cause may be gone.
func (c *cluster) topic(ctx context.Context, name string) (*topicInfo, error) {
	began := time.Now()
	fresh := func(at time.Time) bool { return !at.Before(began) || time.Since(at) < c.o.RetryBackoffMax }
	for asked := false; ; asked = true {
		c.mu.Lock()
		t, updated, failed, failedAt := c.meta.topics[name], c.updated, c.failed, c.failedAt
		c.wanted[name] = time.Now()
		c.mu.Unlock()
		switch {
		case t.usable():
			return t, nil
		case t == nil && !asked:
			c.hurry()
		default:
			c.stale()
		}
		if t != nil && t.err != kerr.None {
			if !t.err.Retriable() && fresh(t.asOf) {
				return nil, fmt.Errorf("topic %s: %w", name, t.err)
			}
			if failed == nil {
				failed = t.err
			}
		} else if failed != nil && !retriable(failed) && fresh(failedAt) {
			return nil, fmt.Errorf("topic %s: %w", name, failed)
		}
		select {
		case <-updated:
		case <-c.ctx.Done():
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, waited(ctx, failed, "metadata of topic %s from %s", name, c.asked())
		}
	}
}

// refreshLoop refreshes on demand and by age. While brokers do not answer,
// topics are missing, or the answers bring no news, the pauses between refreshes
// grow (KIP-580).
func (c *cluster) refreshLoop() {
	timer := time.NewTimer(c.o.MetadataMaxAge)
	defer timer.Stop()
	quiet := 0
	last := time.Now()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.refresh:
		case <-c.urgent:
		case <-timer.C:
		}
		if time.Since(last) > 2*c.o.RetryBackoffMax {
			quiet = 0
		}
		news, err := c.update(c.ctx)
		if c.ctx.Err() != nil {
			return
		}
		last = time.Now()
		if quiet++; err == nil && news && c.settled() {
			quiet = 0
		}
		pause := backoff(c.o.RetryBackoff, c.o.RetryBackoffMax, quiet)
		again := c.o.MetadataMaxAge
		h := c.hooks()
		switch {
		case err != nil:
			c.lg.Warn("metadata not refreshed", zap.Int("try", quiet), zap.Duration("pause", pause), zap.Error(err))
			again = max(pause, leastPoll)
			if h.onFailure != nil {
				h.onFailure(err)
			}
		case h.restless != nil && h.restless():
			again = max(pause, leastPoll)
		}
		timer.Reset(again)
		if pause > 0 && c.rest(pause, err == nil) != nil {
			return
		}
	}
}

// rest pauses for d, or, if urgent questions may end it, until there is one.
func (c *cluster) rest(d time.Duration, interruptible bool) error {
	urgent := c.urgent
	if !interruptible {
		urgent = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-urgent:
		c.hurry() // refreshLoop takes it from here
	case <-c.ctx.Done():
	}
	return c.ctx.Err()
}

// fresh waits for metadata that was asked for after the call.
func (c *cluster) fresh(ctx context.Context) error {
	c.mu.Lock()
	next := c.begun + 1
	c.mu.Unlock()
	c.hurry()
	for {
		c.mu.Lock()
		ended, updated, failed := c.ended, c.updated, c.failed
		c.mu.Unlock()
		if ended >= next {
			return failed
		}
		select {
		case <-updated:
		case <-ctx.Done():
			return waited(ctx, failed, "metadata from %s", c.asked())
		case <-c.ctx.Done():
			return ErrClosed
		}
	}
}

// failure returns why the last refresh failed, nil if it did not.
func (c *cluster) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// settled reports whether every topic in use has a leader for every partition.
func (c *cluster) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.wanted {
		if !c.meta.settled(name) {
			return false
		}
	}
	return true
}

// update asks one broker for the topics in use. It reports whether the answer
// differs from what was known.
func (c *cluster) update(ctx context.Context) (news bool, err error) {
	if h := c.hooks(); h.inUse != nil {
		c.want(h.inUse()...)
	}
	req, n := c.metadataRequest()
	resp, err := c.fetchMetadata(ctx, req)
	now := time.Now()
	c.mu.Lock()
	c.failed = err
	if err == nil {
		next := c.meta.with(resp, n, now)
		news = !next.same(c.meta)
		c.meta = next
		// A broker that is cut off from the others knows no better: the next to be asked
		// is another one.
		if c.known = c.asking; news {
			c.known = brokerKey{}
		}
		c.prune()
	} else {
		c.failedAt = now
	}
	c.ended = c.begun
	close(c.updated)
	c.updated = make(chan struct{})
	c.mu.Unlock()
	if err != nil {
		return false, err
	}
	c.logMissing(resp)
	c.tell()
	return news, nil
}

// logMissing logs what an answer says of topics that cannot be used.
func (c *cluster) logMissing(resp *msg.MetadataResponse) {
	for i := range resp.Topics {
		t := &resp.Topics[i]
		err := codeOf(t.ErrorCode)
		if err != nil {
			c.lg.Warn("no metadata of topic", zap.String("topic", text(t.Name)), zap.Error(err))
			continue
		}
		bad, first := 0, int32(0)
		for _, p := range t.Partitions {
			if e := codeOf(p.ErrorCode); e != nil && e != kerr.ReplicaNotAvailable {
				if bad++; bad == 1 {
					err, first = e, p.PartitionIndex
				}
			}
		}
		if bad > 0 {
			c.lg.Warn("partitions without leader", zap.String("topic", text(t.Name)), zap.Int("partitions", bad), zap.Int32("partition", first), zap.Error(err))
		}
	}
}

// metadataRequest returns the next request and its number.
func (c *cluster) metadataRequest() (*msg.MetadataRequest, int) {
	req := new(msg.MetadataRequest)
	req.SetDefaults()
	req.AllowAutoTopicCreation = c.autoMake
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun++ // together with reading wanted: fresh counts on it
	req.Topics = []msg.MetadataRequestTopic{}
	for name, used := range c.wanted {
		if time.Since(used) > c.o.MetadataMaxIdle {
			delete(c.wanted, name)
			continue
		}
		req.Topics = append(req.Topics, msg.MetadataRequestTopic{Name: &name})
	}
	return req, c.begun
}

func (c *cluster) fetchMetadata(ctx context.Context, req *msg.MetadataRequest) (*msg.MetadataResponse, error) {
	resp := new(msg.MetadataResponse)
	if err := c.doAny(ctx, req, resp); err != nil {
		return nil, err
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(resp.Brokers) == 0 {
		return nil, fmt.Errorf("metadata: %w: the answer names none", ErrNoBroker)
	}
	return resp, nil
}
