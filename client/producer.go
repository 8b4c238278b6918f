package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Producer writes records. It is safe for concurrent use.
//
// Send puts a record into the open batch of its partition and returns; a sender
// per broker drains full or old enough batches. Each record's callback is called
// exactly once, in the order of Send for the records of a partition, on one
// goroutine of the producer. A callback may Send, but must not Flush or Close.
type Producer struct {
	o       ProducerOptions
	lg      *zap.Logger
	cl      *cluster
	senders sync.WaitGroup
	ctx     context.Context // ends when the senders are to stop
	cancel  context.CancelFunc
	ended   chan struct{} // closed when Close has ended

	mu       sync.Mutex // guards the fields below and everything that hangs off them
	topics   map[string]*topic
	nodes    map[int32]*node
	builders []*record.Builder // free ones
	used     int64             // bytes of buffer.memory
	waiters  []*memoryWaiter
	open     batchList // not reported yet, oldest first
	nextID   uint64
	flushing int
	closing  bool
	stopped  bool  // Close gave up waiting or has ended
	fatal    error // ends every Send

	who      identity
	asking   sync.WaitGroup // the goroutine that asks for an id
	expiry   *time.Timer
	expiring bool // the timer is set
	pace     pace
	ratio    float64 // compressed to plain size, estimated
	told     sync.Cond
	tell     []*batch // to be reported, in order
	telling  bool     // the goroutine that reports runs
	teller   sync.WaitGroup
}

// topic is a topic that records were sent to.
type topic struct {
	name       string
	id         prim.UUID // zero if the broker has none
	partitions []*partition
	sticky     sticky
	scratch    []candidate
}

// partition is the queue of batches of one partition.
//
// Invariant: queued batches with a place in the sequences come first, in their order.
type partition struct {
	topic    *topic
	index    int32
	node     *node    // the leader's, nil while there is none
	queue    []*batch // waiting, oldest first
	inFlight []*batch
	order    []*batch // not reported yet, in the order of their records

	gone error // why nothing is sent to it any more, nil while it exists

	active     bool       // on its node's list,
	next, prev *partition // where it stands between these

	seqs sequences // of an idempotent producer
}

// memoryWaiter is a Send that waits for memory.
type memoryWaiter struct {
	need  int64
	ready chan struct{}
}

// NewProducer returns a producer. It connects with the first record.
func NewProducer(o ProducerOptions) (*Producer, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Producer{
		o: o, lg: o.Logger, ctx: ctx, cancel: cancel, ended: make(chan struct{}),
		topics: make(map[string]*topic), nodes: make(map[int32]*node), ratio: 1, pace: newPace(&o.Options),
	}
	p.told.L = &p.mu
	p.who = newIdentity()
	p.cl = newCluster(o.Options, o.MaxInFlight, true, p.metadataChanged)
	p.cl.hook(hooks{restless: p.leaderless, inUse: p.awaited})
	p.telling = true
	p.teller.Go(p.tellLoop)
	return p, nil
}

// Send sends a record and returns its future. It waits for metadata and memory
// at most max.block.ms, and at most until ctx ends; later ctx has no effect. The
// record's memory is the caller's again when Send returns.
func (p *Producer) Send(ctx context.Context, r *Record) *Future {
	f := new(Future)
	if err := p.append(ctx, r, pendingRecord{future: f}); err != nil {
		return failedFuture(r.Topic, err)
	}
	return f
}

// SendFunc sends a record and has callback called with the outcome. An error
// that keeps the record from being queued is both returned and told to
// callback, which may be nil.
func (p *Producer) SendFunc(ctx context.Context, r *Record, callback func(RecordMetadata, error)) error {
	err := p.append(ctx, r, pendingRecord{callback: callback})
	if err != nil && callback != nil {
		callback(RecordMetadata{Topic: r.Topic, Partition: -1, Offset: -1}, err)
	}
	return err
}

// append puts a record into a batch.
func (p *Producer) append(ctx context.Context, r *Record, rec pendingRecord) error {
	size := int64(record.SizeUpperBound(r.Key, r.Value, r.Headers))
	if size > int64(p.o.MaxRequestSize) || size > p.o.BufferMemory {
		return fmt.Errorf("%w: up to %d bytes with its overhead; max.request.size is %d, buffer.memory %d", ErrRecordTooLarge, size, p.o.MaxRequestSize, p.o.BufferMemory)
	}
	now := time.Now()
	rec.ts = r.Timestamp.UnixMilli()
	if r.Timestamp.IsZero() {
		rec.ts = now.UnixMilli()
	}
	p.mu.Lock()
	t := p.topics[r.Topic]
	if t == nil || p.used+size > p.o.BufferMemory || len(p.waiters) > 0 || r.Explicit && int(r.Partition) >= len(t.partitions) {
		p.mu.Unlock()
		var err error
		if t, err = p.waitFor(ctx, r, size); err != nil {
			return err
		}
		p.mu.Lock()
	} else {
		p.used += size
	}
	defer p.mu.Unlock()
	err := p.refuse()
	if err == nil && r.Explicit && (r.Partition < 0 || int(r.Partition) >= len(t.partitions)) {
		err = fmt.Errorf("topic %s has no partition %d: %w", r.Topic, r.Partition, kerr.UnknownTopicOrPartition)
	}
	if err != nil {
		p.release(size)
		return err
	}
	p.put(p.pick(t, r), r, rec, size, now)
	return nil
}

// refuse returns why no record is taken, if so. The caller holds mu.
func (p *Producer) refuse() error {
	if p.closing {
		return ErrClosed
	}
	return p.fatal
}

// waitFor gets a topic's partitions and takes size bytes of memory, waiting for
// both at most max.block.ms together.
func (p *Producer) waitFor(ctx context.Context, r *Record, size int64) (*topic, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.o.MaxBlock, ErrMaxBlock)
	defer cancel()
	blocked := func(err error) error {
		if errors.Is(context.Cause(ctx), ErrMaxBlock) {
			return fmt.Errorf("%w: %w", ErrMaxBlock, err)
		}
		return err
	}
	info, err := p.cl.topic(ctx, r.Topic)
	for err == nil && r.Explicit && int(r.Partition) >= len(info.partitions) && r.Partition >= 0 {
		// The partition may have been added a moment ago.
		if info, err = p.morePartitions(ctx, info); err == nil && info == nil {
			return nil, fmt.Errorf("topic %s has no partition %d: %w", r.Topic, r.Partition, kerr.UnknownTopicOrPartition)
		}
	}
	if err != nil {
		return nil, blocked(err)
	}
	p.mu.Lock()
	t := p.adopt(info)
	w := &memoryWaiter{need: size, ready: make(chan struct{})}
	p.waiters = append(p.waiters, w)
	p.grant()
	p.wakeAll() // memory short: batches go out before their linger is over
	p.mu.Unlock()
	select {
	case <-w.ready:
		return t, nil
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.ready:
		return t, nil
	default:
	}
	for i, other := range p.waiters {
		if other == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			break
		}
	}
	p.grant()
	if p.ctx.Err() != nil {
		return nil, ErrClosed
	}
	return nil, blocked(waited(ctx, p.undelivered(), "%d bytes of memory, %d of %d in use", size, p.used, p.o.BufferMemory))
}

// morePartitions refreshes the metadata once. It returns nil if the topic has no
// more partitions than info tells.
func (p *Producer) morePartitions(ctx context.Context, info *topicInfo) (*topicInfo, error) {
	p.cl.mu.Lock()
	updated := p.cl.updated
	p.cl.mu.Unlock()
	p.cl.stale()
	select {
	case <-updated:
	case <-ctx.Done():
		return nil, waited(ctx, p.cl.failure(), "metadata of more than %d partitions of topic %s", len(info.partitions), info.name)
	}
	next, err := p.cl.topic(ctx, info.name)
	if err == nil && len(next.partitions) <= len(info.partitions) {
		return nil, nil
	}
	return next, err
}

// grant gives memory to the waiters, first come first served. The caller holds
// mu.
func (p *Producer) grant() {
	for len(p.waiters) > 0 && p.used+p.waiters[0].need <= p.o.BufferMemory {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		p.used += w.need
		close(w.ready)
	}
}

// release gives memory back. The caller holds mu.
func (p *Producer) release(bytes int64) {
	p.used -= bytes
	p.grant()
}

// adopt returns the topic with the partitions that info has. A topic only ever
// gains partitions; one of the same name that was made again may have fewer. A
// broker that is behind and names fewer is not believed. Newer metadata may have
// come, and been adopted, since the caller read info; it counts. The caller holds mu.
func (p *Producer) adopt(info *topicInfo) *topic {
	if latest := p.cl.now().topics[info.name]; latest != nil && len(latest.partitions) > 0 {
		info = latest
	}
	t := p.topics[info.name]
	if t == nil {
		t = &topic{name: info.name, id: info.id, sticky: sticky{current: -1}}
		p.topics[info.name] = t
	}
	if n := len(info.partitions); n < len(t.partitions) && (t.id != info.id || info.id == prim.UUID{}) {
		p.abandon(t.partitions[n:], fmt.Errorf("topic %s was made again with %d partitions: %w", t.name, n, kerr.UnknownTopicOrPartition))
		clear(t.partitions[n:])
		t.partitions = t.partitions[:n]
	}
	if t.id != info.id {
		t.id = info.id
		p.failFormer(t)
	}
	for i := range info.partitions {
		if i == len(t.partitions) {
			t.partitions = append(t.partitions, &partition{topic: t, index: int32(i), seqs: p.who.partition()})
		}
		p.lead(t.partitions[i], info.partitions[i].Leader)
	}
	return t
}

// abandon ends what waits for partitions that are no more. A batch in flight ends
// with its answer. The caller holds mu.
func (p *Producer) abandon(parts []*partition, err error) {
	for _, part := range parts {
		part.gone = err
		for len(part.queue) > 0 {
			p.complete(part.queue[0], err)
		}
		p.lead(part, -1)
	}
}

// failFormer ends the batches that may have been written to the topic that had the
// name before. The caller holds mu.
func (p *Producer) failFormer(t *topic) {
	for _, part := range t.partitions {
		for _, b := range slices.Clone(part.queue) {
			if b.former(t.id) {
				p.complete(b, madeAgain(t))
			}
		}
	}
}

func madeAgain(t *topic) error {
	return fmt.Errorf("topic %s was deleted and made again: %w", t.name, kerr.UnknownTopicId)
}

// lead hands a partition to the sender of its leader. The caller holds mu.
func (p *Producer) lead(part *partition, leader int32) {
	if part.node != nil && part.node.id == leader {
		return
	}
	if part.node != nil {
		part.node.remove(part)
		part.node = nil
	}
	if leader < 0 || p.stopped {
		return
	}
	n := p.nodes[leader]
	if n == nil {
		n = newNode(p, leader)
		p.nodes[leader] = n
		p.senders.Go(n.run)
	}
	part.node = n
	if len(part.queue) > 0 {
		if part.queue[0].attempts < 3 { // leaders that come and go are waited for
			part.queue[0].notBefore = time.Time{} // a new leader: no reason to wait
		}
		n.add(part)
		n.poke()
	}
}

// metadataChanged brings the partitions to their new leaders.
func (p *Producer) metadataChanged(m *metadata) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.topics {
		if info := m.topics[name]; info != nil && len(info.partitions) > 0 {
			p.adopt(info)
		}
	}
}

// pick chooses the partition of a record. The caller holds mu.
func (p *Producer) pick(t *topic, r *Record) *partition {
	switch {
	case r.Explicit:
		return t.partitions[r.Partition]
	case r.Key != nil && !p.o.IgnoreKeys:
		return t.partitions[PartitionForKey(r.Key, int32(len(t.partitions)))]
	}
	if t.sticky.current < 0 || int(t.sticky.current) >= len(t.partitions) {
		p.choose(t)
	}
	return t.partitions[t.sticky.current]
}

// choose lets the sticky partitioner pick again. The caller holds mu.
func (p *Producer) choose(t *topic) {
	t.scratch = t.scratch[:0]
	now := time.Now()
	for _, part := range t.partitions {
		ok := part.node != nil && (p.o.AvailabilityTimeout <= 0 || !part.node.stuck(now, p.o.AvailabilityTimeout))
		t.scratch = append(t.scratch, candidate{part.index, len(part.queue), ok})
	}
	t.sticky.choose(t.scratch, !p.o.NoAdaptivePartitions, randomInt)
}

// put appends a record to the partition's open batch, or to a new one. The
// caller holds mu and has taken size bytes of memory.
func (p *Producer) put(part *partition, r *Record, rec pendingRecord, size int64, now time.Time) {
	var b *batch
	if n := len(part.queue); n > 0 {
		b = part.queue[n-1]
		if !b.closed && b.builder.EstimatedSize(p.ratio)+b.builder.RecordSize(rec.ts, r.Key, r.Value, r.Headers) > p.o.BatchSize {
			b.closed = true
			part.node.pokeIf()
		}
	}
	if b == nil || b.closed {
		b = p.newBatch(part, now)
	}
	before := b.builder.Size()
	b.builder.Append(rec.ts, r.Key, r.Value, r.Headers)
	if rec.future != nil {
		rec.future.ts = rec.ts
		rec.future.i.Store(b.count())
		rec.future.at.Store(b.out)
	}
	b.records = append(b.records, rec)
	b.charged += size
	full := b.builder.EstimatedSize(p.ratio) >= p.o.BatchSize
	if full {
		b.closed = true
	}
	if t := part.topic; !r.Explicit && (r.Key == nil || p.o.IgnoreKeys) {
		if t.sticky.wrote(b.builder.Size()-before, p.o.BatchSize, full) {
			p.choose(t)
		}
	}
	switch {
	case full:
		part.node.pokeIf()
	case len(b.records) == 1:
		part.node.lingers(part, now)
	}
}

func (p *Producer) newBatch(part *partition, now time.Time) *batch {
	p.nextID++
	b := &batch{part: part, id: p.nextID, builder: p.builder(), created: now, deadline: now.Add(p.o.DeliveryTimeout), place: noStamp}
	b.out = p.outcomeOf(b)
	part.queue = append(part.queue, b)
	part.order = append(part.order, b)
	p.cl.want(part.topic.name)
	if p.open.push(b); !p.expiring {
		p.setExpiry()
	}
	if p.o.Idempotence == On {
		p.fetchID()
	}
	if part.node != nil {
		part.node.add(part)
	} else {
		p.cl.stale()
	}
	return b
}

// builder returns a builder that is free, or a new one. The caller holds mu.
func (p *Producer) builder() *record.Builder {
	if n := len(p.builders); n > 0 {
		b := p.builders[n-1]
		p.builders = p.builders[:n-1]
		return b
	}
	return record.NewBuilder(p.o.Compression, p.o.CompressionLevel)
}

// recycle takes a batch's builder back. The caller holds mu, and the connection
// has let go of the bytes.
func (p *Producer) recycle(b *batch) {
	p.release(b.charged)
	b.charged = 0
	if b.builder != nil && len(p.builders) < 256 {
		b.builder.Reset()
		p.builders = append(p.builders, b.builder)
	}
	b.builder, b.data = nil, nil
}

// wakeAll lets every sender look at its batches.
func (p *Producer) wakeAll() {
	for _, n := range p.nodes {
		n.poke()
	}
}

// Flush sends what is queued without waiting for linger, and returns when every
// record sent before it has been told, or with ctx's error.
func (p *Producer) Flush(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushing++
	defer func() { p.flushing-- }()
	last := p.nextID
	for _, b := range p.open.all() {
		b.closed = true
	}
	p.wakeAll()
	defer context.AfterFunc(ctx, func() {
		p.mu.Lock()
		p.told.Broadcast()
		p.mu.Unlock()
	})()
	for p.open.oldest(last) {
		if ctx.Err() != nil {
			return waited(ctx, p.undelivered(), "delivery of what was sent before Flush")
		}
		p.told.Wait()
	}
	return nil
}

// Close sends what is queued, waits for the answers and ends the producer. When
// ctx ends first, what is left fails with ErrClosed and what kept it back, and Close returns ctx's
// error. It never waits longer than ctx but for callbacks that run. A second Close
// waits for the first.
func (p *Producer) Close(ctx context.Context) error {
	p.mu.Lock()
	again := p.closing
	p.closing = true
	p.mu.Unlock()
	if again {
		select {
		case <-p.ended:
			return nil
		case <-ctx.Done():
			return waited(ctx, nil, "the end of another Close")
		}
	}
	defer close(p.ended)
	err := p.Flush(ctx)
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.cl.cancel()
	p.senders.Wait()
	p.asking.Wait()
	p.cl.close() // in-flight requests fail here
	p.mu.Lock()
	for _, b := range p.open.all() {
		if last := p.hindrance(b); last != nil {
			p.complete(b, fmt.Errorf("%w; the last error: %w", ErrClosed, last))
			continue
		}
		p.complete(b, ErrClosed)
	}
	p.telling = false
	p.told.Broadcast()
	if p.expiry != nil {
		p.expiry.Stop()
	}
	p.mu.Unlock()
	p.teller.Wait()
	return err
}

// Partitions returns the partitions of a topic.
func (p *Producer) Partitions(ctx context.Context, name string) ([]PartitionInfo, error) {
	info, err := p.cl.topic(ctx, name)
	if err != nil {
		return nil, err
	}
	return append([]PartitionInfo(nil), info.partitions...), nil
}
