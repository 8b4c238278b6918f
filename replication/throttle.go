package replication

import (
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/config"
)

// throttle bounds the bytes per second that replicas copy which are not in sync, of those
// partitions that the metadata name (KIP-73). A broker has one for what it sends as a leader,
// and one for what it fetches as a follower.
//
// The rate is an average over the last samples: more than it at one time is made up for by
// less later.
type throttle struct {
	samples int           // replication.quota.window.num
	length  time.Duration // of a sample: replication.quota.window.size.seconds

	mu   sync.Mutex
	rate float64 // bytes per second; +Inf for no bound
	last []sample
}

// sample is what was copied from a time on.
type sample struct {
	from  time.Time
	bytes int64
}

// throttlePause is how long a follower waits before it looks again whether it may copy.
const throttlePause = 100 * time.Millisecond

func newThrottle(c *config.Broker) *throttle {
	return &throttle{samples: c.ReplicationQuotaSamples, length: c.ReplicationQuotaSample, rate: math.Inf(1)}
}

// setRate changes the bound.
func (t *throttle) setRate(bytesPerSecond float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = bytesPerSecond
}

// record notes that bytes were copied.
func (t *throttle) record(bytes int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	if n := len(t.last); n > 0 && now.Sub(t.last[n-1].from) < t.length {
		t.last[n-1].bytes += int64(bytes)
		return
	}
	t.last = append(t.last, sample{now, int64(bytes)})
}

// exceeded reports whether more was copied than the bound allows.
func (t *throttle) exceeded(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if math.IsInf(t.rate, 1) {
		return false
	}
	t.expire(now)
	var bytes int64
	for _, s := range t.last {
		bytes += s.bytes
	}
	// As in Kafka, a rate is measured from the oldest sample on, and over one sample at least.
	window := t.length
	if len(t.last) > 0 {
		window = max(window, now.Sub(t.last[0].from))
	}
	return float64(bytes) > t.rate*window.Seconds()
}

// expire drops samples that are over for a window. mu is held.
func (t *throttle) expire(now time.Time) {
	n := 0
	for n < len(t.last) && now.Sub(t.last[n].from) >= time.Duration(t.samples)*t.length {
		n++
	}
	t.last = slices.Delete(t.last, 0, n)
}

// throttles are those of a broker.
type throttles struct{ leader, follower *throttle }

// configure takes over the rates that the metadata have for the broker.
func (t throttles) configure(l config.Layers) error {
	leader, err := l.ReplicationRate("leader.replication.throttled.rate")
	if err != nil {
		return err
	}
	follower, err := l.ReplicationRate("follower.replication.throttled.rate")
	if err != nil {
		return err
	}
	t.leader.setRate(leader)
	t.follower.setRate(follower)
	return nil
}

// throttledRoles are the roles in which the replica of a partition here is throttled.
type throttledRoles struct{ leader, follower atomic.Bool }

// set takes over the roles in which a topic's configuration names the replica on a broker.
func (t *throttledRoles) set(c *config.Topic, index, broker int32) {
	pair := strconv.Itoa(int(index)) + ":" + strconv.Itoa(int(broker))
	in := func(list []string) bool {
		return slices.Contains(list, pair) || slices.Contains(list, "*")
	}
	t.leader.Store(in(c.LeaderThrottled))
	t.follower.Store(in(c.FollowerThrottled))
}

// holdsBack reports whether a follower is sent no records for now: this partition is throttled,
// more was sent than allowed, and the follower is not in sync. One that is in sync is never
// held back: a bound that is too low must not make it fall out.
func (p *Partition) holdsBack(follower int32) bool {
	if !p.throttled.leader.Load() {
		return false
	}
	now := p.now()
	if !p.throttles.leader.exceeded(now) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state != nil && !slices.Contains(p.state.InSync(), follower)
}

// sent notes records that a follower was sent.
func (p *Partition) sent(bytes int) {
	if p.throttled.leader.Load() {
		p.throttles.leader.record(bytes, p.now())
	}
}

// copied notes records that were fetched from the leader.
func (p *Partition) copied(bytes int) {
	if bytes > 0 && p.throttled.follower.Load() {
		p.throttles.follower.record(bytes, p.now())
	}
}

// restrained reports whether a follower that does not have all should not ask for more now.
func (p *Partition) restrained() bool {
	return p.throttled.follower.Load() && p.throttles.follower.exceeded(p.now())
}
