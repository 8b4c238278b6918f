package client

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
)

// Consumer reads records of partitions that it is assigned, or that its group
// shares out. Poll, Subscribe, Assign, Seek, Commit and Close are for one
// goroutine; the rest is safe for concurrent use.
//
// Fetches run ahead of Poll, one per broker; a partition whose records wait for
// Poll is not fetched again. As in the Java consumer a broker is asked again once
// Poll has seen its last answer: an earlier fetch would leave out the partitions
// of that answer, and news of just these would wait until it returns.
type Consumer struct {
	o     ConsumerOptions
	lg    *zap.Logger
	cl    *cluster
	ctx   context.Context
	stop  context.CancelFunc
	work  sync.WaitGroup
	kick  chan struct{} // the fetch loop is to look again
	group *group        // nil without group.id
	pace  pace

	mu       sync.Mutex // guards the fields below
	assigned map[TopicPartition]*position
	ready    []*position             // with records for Poll, in the order they came
	fetching map[int32]bool          // brokers with a fetch under way
	unseen   map[int32]bool          // brokers whose last answer Poll has not seen
	sessions map[int32]*fetchSession // by broker
	resets   map[int32]int           // by broker: fetch sessions in a row that it had lost
	early    map[int32]int           // by broker: empty answers in a row that came before fetch.max.wait.ms was over
	changed  chan struct{}           // closed and replaced when Poll should look again
	failed   error                   // for the next Poll
	topicErr time.Time               // when the last topic's error that Poll returned came
	closed   bool
}

// position is where a consumer is in a partition. It is replaced when the
// partition is assigned again, so that late answers hit nothing.
type position struct {
	tp        TopicPartition
	next      int64 // offset of the next record for Poll, valid if known
	known     bool
	wanted    Position // looked up while not known
	chunk     *chunk   // fetched, not yet polled
	fetching  bool
	paused    bool
	dropped   bool // no longer assigned
	notBefore time.Time
	lostIn    *metadata // the one that names no leader for it
	tries     int       // that failed, in a row
	lastErr   error     // of the last one; nil after a success
	told      bool      // lastErr is for Poll: no try before Poll has returned it
	highWater int64     // -1 before the first fetch
	committed int64     // -1 if nothing is
	unplaced  bool      // the group has still to say where to begin; fetching is set until then
	epoch     int32     // of the last record, -1 if not known
	check     leaderCheck
	from      preference
}

// NewConsumer returns a consumer. It connects when it is given something to
// read.
func NewConsumer(o ConsumerOptions) (*Consumer, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Consumer{
		o: o, lg: o.Logger, ctx: ctx, stop: cancel, kick: make(chan struct{}, 1), pace: newPace(&o.Options),
		assigned: make(map[TopicPartition]*position), fetching: make(map[int32]bool), unseen: make(map[int32]bool), early: make(map[int32]int), sessions: make(map[int32]*fetchSession), resets: make(map[int32]int), changed: make(chan struct{}),
	}
	opts := o.Options
	opts.MetadataMaxIdle = math.MaxInt64 // what is assigned stays of interest
	c.cl = newCluster(opts, 5, !o.NoAutoCreateTopics, c.metadataChanged)
	c.cl.hook(hooks{onFailure: c.metadataFailed, restless: c.restless, onLost: c.brokerLost})
	c.cl.setMaxResponse(o.FetchMaxBytes)
	if o.Group != "" {
		c.group = newGroup(c)
	}
	c.work.Go(c.fetchLoop)
	return c, nil
}

// look makes the fetch loop look again.
func (c *Consumer) look() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// notify makes Poll look again. The caller holds mu.
func (c *Consumer) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// fail gives the next Poll an error.
func (c *Consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
	c.notify()
}

// Subscribe makes the group share out these topics, in place of what was
// subscribed or assigned before. It takes effect with the next Poll, which gives
// up what was assigned; a join that is under way is followed by another. Without
// topics the consumer leaves the group.
func (c *Consumer) Subscribe(topics ...string) error {
	if c.group == nil {
		return fmt.Errorf("%w: Subscribe needs group.id", ErrConfig)
	}
	c.cl.want(topics...)
	c.group.subscribe(topics)
	return nil
}

// Assign makes the consumer read exactly these partitions from these positions,
// without a group's help, in place of what was subscribed or assigned before. A
// member commits what Poll has returned, if it auto-commits, and leaves its group;
// Assign does not wait for that.
func (c *Consumer) Assign(at map[TopicPartition]Position) {
	if c.group != nil {
		c.group.assign()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp := range at {
		c.cl.want(tp.Topic)
	}
	c.replace(at)
}

// replace sets the assignment. The caller holds mu.
func (c *Consumer) replace(at map[TopicPartition]Position) {
	for _, p := range c.assigned {
		p.dropped = true
	}
	clear(c.assigned)
	clear(c.unseen)
	c.ready = nil
	for tp, where := range at {
		c.assigned[tp] = newPosition(tp, where)
	}
	c.cl.stale()
	c.look()
	c.notify()
}

func newPosition(tp TopicPartition, where Position) *position {
	return &position{tp: tp, wanted: where, next: where.n, known: !where.lookup, highWater: -1, committed: -1, epoch: -1}
}

// Assignment returns the partitions that are read now, sorted.
func (c *Consumer) Assignment() (tps []TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp := range c.assigned {
		tps = append(tps, tp)
	}
	slices.SortFunc(tps, compareTopicPartitions)
	return tps
}

// give assigns partitions that the group shares out. They are read once begin
// has said from where.
func (c *Consumer) give(tps []TopicPartition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := make(map[TopicPartition]Position, len(tps))
	for _, tp := range tps {
		c.cl.want(tp.Topic)
		at[tp] = Position{}
	}
	c.replace(at)
	for _, p := range c.assigned {
		p.unplaced, p.fetching, p.known = true, true, false
	}
}

// begin has assigned partitions read from their committed offsets, or from where
// reset says. Those that the application has moved meanwhile stay there.
func (c *Consumer) begin(tps []TopicPartition, committed map[TopicPartition]Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to, _ := c.o.reset()
	for _, tp := range tps {
		p := c.assigned[tp]
		if p == nil || !p.unplaced {
			continue
		}
		p.unplaced, p.fetching = false, false
		if o, ok := committed[tp]; ok {
			p.next, p.known, p.committed = o.At, true, o.At
		} else {
			p.wanted, p.next, p.known = to, to.n, !to.lookup
		}
	}
	c.look()
}

// Seek makes the next Poll return records of an assigned partition from there.
func (c *Consumer) Seek(tp TopicPartition, to Position) error {
	unplaced, err := c.seek(tp, to)
	if unplaced {
		c.group.seeked(tp)
	}
	return err
}

// seek reports whether the group still looked for a place to begin.
func (c *Consumer) seek(tp TopicPartition, to Position) (unplaced bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.assigned[tp]
	if old == nil {
		return false, fmt.Errorf("seek: %v is not assigned", tp)
	}
	p := newPosition(tp, to)
	p.paused, p.highWater, p.committed = old.paused, old.highWater, old.committed
	old.dropped = true
	c.assigned[tp] = p
	c.ready = slices.DeleteFunc(c.ready, func(x *position) bool { return x == old })
	c.look()
	return old.unplaced, nil
}

// Pause keeps Poll from returning records of partitions until Resume.
func (c *Consumer) Pause(tps ...TopicPartition) { c.setPaused(tps, true) }

// Resume undoes Pause.
func (c *Consumer) Resume(tps ...TopicPartition) { c.setPaused(tps, false) }

func (c *Consumer) setPaused(tps []TopicPartition, paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, tp := range tps {
		if p := c.assigned[tp]; p != nil {
			p.paused = paused
		}
	}
	c.look()
	c.notify()
}

// Position returns the offset of the next record that Poll would return, and
// the high watermark (the last stable offset with ReadCommitted) as of the last
// fetch. ok is false while they are not known.
func (c *Consumer) Position(tp TopicPartition) (next, end int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.assigned[tp]
	if p == nil || !p.known || p.highWater < 0 {
		return -1, -1, false
	}
	return p.next, p.highWater, true
}

// Poll returns the next records, at most max.poll.records, waiting for at least
// one until ctx ends; the error is a [*WaitError] then. The records' memory stays
// valid. Errors of single partitions are returned as often as they happen; Poll
// may be called on.
//
// What Poll has returned before counts as processed: it is committed if the
// consumer auto-commits, without a wait, and before a rebalance with one of
// request.timeout.ms at most. Rebalances begin in Poll only. A member whose
// application does not come back to Poll for max.poll.interval.ms leaves its
// group; inside Poll it may stay as long as it likes.
func (c *Consumer) Poll(ctx context.Context) ([]Record, error) {
	reads := true
	if c.group != nil {
		defer c.group.returned()
	}
	for {
		if c.group != nil {
			reads = c.group.polled()
		}
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, ErrClosed
		}
		if err := c.failed; err != nil {
			c.failed = nil
			c.mu.Unlock()
			c.look() // what failed may be tried again
			return nil, err
		}
		var records []Record
		var err error
		if reads {
			records, err = c.take()
		}
		changed := c.changed
		c.mu.Unlock()
		if len(records) > 0 || err != nil {
			return records, err
		}
		var rejoin <-chan struct{}
		if c.group != nil {
			rejoin = c.group.wake
		}
		select {
		case <-changed:
		case <-rejoin:
		case <-ctx.Done():
			return nil, c.nothing(ctx)
		case <-c.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// take decodes records from what was fetched, partition by partition. The caller
// holds mu.
func (c *Consumer) take() (records []Record, err error) {
	if len(c.unseen) > 0 {
		clear(c.unseen)
		defer c.look()
	}
	for i := 0; i < len(c.ready) && len(records) < c.o.MaxPollRecords; {
		p := c.ready[i]
		if p.paused {
			i++
			continue
		}
		var more bool
		records, more, err = p.chunk.decode(p, records, c.o.MaxPollRecords, &c.o)
		if err == nil && !more {
			err = p.chunk.progress(p, &c.o)
		}
		if err != nil {
			err = fmt.Errorf("records of %v from offset %d: %w", p.tp, p.next, err)
		}
		if more && err == nil {
			break // as many as Poll may return
		}
		p.chunk = nil
		c.ready = slices.Delete(c.ready, i, i+1)
		c.look()
		if err != nil {
			if len(records) > 0 { // those first; the error comes back with the next fetch
				return records, nil
			}
			c.retryLater(time.Now(), p, err, false) // Poll returns it right now
			return nil, err
		}
		p.succeeded()
	}
	return records, nil
}

// Close commits if auto-commit is on, leaves the group and ends the consumer,
// within ctx, whatever is under way. The error is that of the commit: [ErrNotMember]
// if the consumer was thrown out of its generation with positions to commit.
func (c *Consumer) Close(ctx context.Context) error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return nil
	}
	var err error
	if c.group != nil {
		err = c.group.leave(ctx)
	}
	c.stop()
	c.cl.cancel()
	c.work.Wait()
	c.endSessions(ctx)
	c.cl.close()
	return err
}

// metadataChanged looks what new metadata changes: leaders, partition counts,
// and errors of topics that the user must know.
func (c *Consumer) metadataChanged(m *metadata) {
	c.look()
	if c.group != nil {
		c.group.metadataChanged()
	}
	for _, name := range c.topics() {
		t := m.topics[name]
		if t == nil || t.err == kerr.None || t.err.Retriable() {
			continue
		}
		c.mu.Lock()
		news := t.asOf.After(c.topicErr)
		c.topicErr = t.asOf
		c.mu.Unlock()
		if news {
			c.fail(fmt.Errorf("topic %s: %w", name, t.err))
		}
		return
	}
}

// brokerLost makes the group look for its coordinator again if that broker was it.
func (c *Consumer) brokerLost(id int32) {
	if c.group != nil {
		c.group.brokerLost(id)
	}
}

// metadataFailed has Poll return why there is no metadata, if waiting will not mend
// it.
func (c *Consumer) metadataFailed(err error) {
	if !retriable(err) {
		c.fail(fmt.Errorf("metadata: %w", err))
	}
}

// topics returns the topics that are assigned or subscribed, sorted.
func (c *Consumer) topics() (names []string) {
	if c.group != nil {
		names = c.group.subscribed()
	}
	c.mu.Lock()
	for tp := range c.assigned {
		names = append(names, tp.Topic)
	}
	c.mu.Unlock()
	slices.Sort(names)
	return slices.Compact(names)
}

// restless reports whether a topic that is to be read is missing or has a
// partition without leader. It is asked for again and again then: a topic that
// is made later is to be read soon, and not at the next metadata.max.age.ms.
func (c *Consumer) restless() bool {
	m := c.cl.now()
	return slices.ContainsFunc(c.topics(), func(name string) bool { return !m.settled(name) })
}

// nothing returns the error of a Poll whose ctx ended without records.
func (c *Consumer) nothing(ctx context.Context) error {
	if c.group != nil {
		if what, err := c.group.outside(); what != "" {
			if err == nil {
				err = c.why()
			}
			return waited(ctx, err, "%s", what)
		}
	}
	c.mu.Lock()
	n := len(c.assigned)
	c.mu.Unlock()
	return waited(ctx, c.why(), "no records of %d partitions", n)
}

// why returns the error that keeps records from coming, nil if there is none.
func (c *Consumer) why() error {
	m := c.cl.now()
	for _, tp := range c.Assignment() {
		c.mu.Lock()
		var err error
		if p := c.assigned[tp]; p != nil {
			err = p.lastErr
		}
		c.mu.Unlock()
		if err == nil {
			err = m.missing(tp)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range c.topics() {
		if t := m.topics[name]; t != nil && t.err != kerr.None {
			return fmt.Errorf("topic %s: %w", name, t.err)
		}
	}
	return c.cl.failure()
}
