package replication

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// checker looks after each event whether the rules of replication hold. It reads what is
// new only: two logs that have the same batch in the same leader epoch at an offset are
// the same up to there, which it checks for each batch when it comes to a log (R2), so
// that all other rules are a matter of comparing one batch.
type checker struct {
	s      *sim
	parts  []*partCheck
	hashes map[uint64]uint64 // of images, by index
	acks   []ack             // since the last event
}

// simBatch is a batch of a partition as one leader wrote it. Each is there once, however
// many logs have it.
type simBatch struct {
	base, last int64
	epoch      int32
	crc        uint32
	producer   simBatchProducer
	txn        bool      // of a transaction
	control    bool      // its marker
	before     *simBatch // in the log; nil for the first
}

type simBatchProducer struct {
	id       int64
	epoch    int16
	sequence int32
}

func (b *simBatch) String() string {
	if b == nil {
		return "nothing"
	}
	return fmt.Sprintf("%d-%d/e%d (crc %08x)", b.base, b.last, b.epoch, b.crc)
}

// batchName is what a batch is found by: any of its offsets, and its leader epoch.
type batchName struct {
	offset int64
	epoch  int32
}

// partCheck is what is known of one partition.
type partCheck struct {
	c     *checker
	topic prim.UUID // zero before there is one
	index int32
	known map[batchName]*simBatch
	// committed is what was below a high watermark at any time, by offset.
	committed []*simBatch
	mirrors   map[int32]*mirror
	leaders   map[int32]int32 // who has led in each leader epoch
	highs     map[int32]int64 // the largest high watermark of each leader epoch
	produced  map[simBatchProducer]*simBatch
	acked     []ack
	// lostIn is the leader epoch that began with the last unclean election; -1 for none. A
	// leader that has not heard of it may have other records, and answer for them.
	lostIn int32
	// start is the largest log start of any replica. A leader whose log begins there does not
	// know which leader epochs were before, so that a follower may have something else below,
	// until its log begins there too.
	start int64
}

// mirror is the log of a replica as it was when it was looked at last.
type mirror struct {
	part        *Partition
	truncations int64
	base        int64
	list        []*simBatch // by offset, from base on
	honest      int32       // lostIn since which its high watermark counts
}

func (m *mirror) end() int64 { return m.base + int64(len(m.list)) }

// at returns the batch that has an offset, nil if there is none.
func (m *mirror) at(offset int64) *simBatch {
	if m == nil || offset < m.base || offset >= m.end() {
		return nil
	}
	return m.list[offset-m.base]
}

// ack is a produce that was answered without an error.
type ack struct {
	topic     prim.UUID
	index     int32
	base      int64
	crc       uint32
	epoch     int32 // of the leader that answers
	all       bool  // acks=all
	duplicate bool
}

func newChecker(s *sim) *checker {
	c := &checker{s: s, hashes: make(map[uint64]uint64)}
	c.begin(prim.UUID{})
	return c
}

// begin begins with a topic, of which nothing is known yet.
func (c *checker) begin(topic prim.UUID) {
	c.parts = nil
	for i := range c.s.plan.partitions {
		c.parts = append(c.parts, &partCheck{c: c, topic: topic, index: int32(i), known: make(map[batchName]*simBatch), mirrors: make(map[int32]*mirror), leaders: make(map[int32]int32),
			highs: make(map[int32]int64), produced: make(map[simBatchProducer]*simBatch), lostIn: -1})
	}
}

// after checks what an event at p may have changed.
func (c *checker) after(p *process) {
	if p != nil && !p.dead && p.replicas != nil {
		c.settle(p)
	}
	for _, a := range c.acks {
		if x := c.parts[a.index]; x.topic == a.topic {
			x.ack(a)
		}
	}
	c.acks = c.acks[:0]
}

// settle checks the replicas of one process.
func (c *checker) settle(p *process) {
	for _, x := range c.parts {
		part := p.partition(x.topic, x.index)
		if part == nil {
			delete(x.mirrors, p.id)
			continue
		}
		if x.mirror(p.id, part) {
			x.members()
		}
		x.replica(p, part)
	}
}

func (x *partCheck) fail(check, format string, args ...any) {
	x.c.s.fail(check, "partition %d: %s", x.index, fmt.Sprintf(format, args...))
}

// mirror takes over what is new in a log. It reports whether the log has lost something.
func (x *partCheck) mirror(id int32, part *Partition) (lost bool) {
	l := part.Log()
	start, end, truncations := l.StartOffset(), l.EndOffset(), part.Truncations()
	m := x.mirrors[id]
	if m == nil || m.part != part {
		lost = m != nil
		m = &mirror{part: part, base: start, honest: -1}
		x.mirrors[id] = m
	}
	if m.truncations != truncations || end < m.end() {
		m.truncations, lost = truncations, true
		m.base, m.list = start, m.list[:0] // it may have grown again since
	}
	x.start = max(x.start, start)
	if end == m.end() {
		return lost
	}
	err := l.Each(max(m.end(), start), end, func(b record.Batch) error {
		return x.add(id, m, b)
	})
	if err != nil {
		x.fail("read", "broker %d: %v", id, err)
	}
	return lost
}

// add puts a batch behind a mirror. A batch that another log has too must be the same
// there, and so must what is before it.
func (x *partCheck) add(id int32, m *mirror, b record.Batch) error {
	is := &simBatch{base: b.BaseOffset(), last: b.LastOffset(), epoch: b.LeaderEpoch(), crc: b.CRC(),
		producer: simBatchProducer{b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()}, txn: b.Attributes().Transactional(), control: b.Attributes().Control(), before: m.at(m.end() - 1)}
	if len(m.list) == 0 {
		m.base = is.base
	}
	if is.base != m.end() {
		return fmt.Errorf("%v comes after offset %d", is, m.end()-1)
	}
	for offset := is.base; offset <= is.last; offset++ {
		name := batchName{offset, is.epoch}
		other := x.known[name]
		switch {
		case other == nil:
			x.known[name] = is
		case other.base != is.base || other.last != is.last || other.crc != is.crc:
			x.fail("R2", "offset %d in leader epoch %d is of %v on broker %d, and of %v elsewhere", offset, is.epoch, is, id, other)
		case other.before != is.before && other.before != nil && is.before != nil && is.base > x.start:
			x.fail("R2", "%v comes after %v on broker %d, and after %v elsewhere", is, is.before, id, other.before)
		default:
			if other.before == nil {
				other.before = is.before
			}
			is = other
		}
		m.list = append(m.list, is)
	}
	return nil
}

// replica checks one replica.
func (x *partCheck) replica(p *process, part *Partition) {
	l, m := part.Log(), x.mirrors[p.id]
	start, high, end, stable := l.StartOffset(), l.HighWatermark(), l.EndOffset(), l.LastStableOffset()
	epoch := part.LeaderEpoch()
	if start > high || high > end || stable > high {
		x.fail("L1", "broker %d: log start %d, last stable offset %d, high watermark %d, log end %d", p.id, start, stable, high, end)
	}
	if epoch < x.lostIn {
		return
	}
	n := int64(len(x.committed))
	if m.honest < x.lostIn {
		if part.Role() != Leader && (high > n || high > m.base && high > 0 && m.at(high-1) != x.committed[high-1]) {
			return // it has yet to cut off what was lost
		}
		m.honest = x.lostIn
	}
	if common := min(high, n); common > max(m.base, x.start) && m.at(common-1) != x.committed[common-1] {
		x.fail("R1", "broker %d, %s in epoch %d with high watermark %d, has %v at offset %d, where %v was committed", p.id, part.Role(), epoch, high, m.at(common-1), common-1, x.committed[common-1])
		return
	}
	if part.Role() != Leader {
		if high > n {
			x.fail("R1", "broker %d, %s in epoch %d, has high watermark %d, but only what is below %d was ever committed", p.id, part.Role(), epoch, high, n)
		}
		return
	}
	if other, led := x.leaders[epoch]; led && other != p.id {
		x.fail("R14", "brokers %d and %d have both led in epoch %d", other, p.id, epoch)
	}
	x.leaders[epoch] = p.id
	if high < x.highs[epoch] {
		x.fail("P11", "broker %d: the high watermark of epoch %d was %d, and is %d", p.id, epoch, x.highs[epoch], high)
	}
	x.highs[epoch] = high
	if high > n {
		for o := n; o < high; o++ {
			x.commit(o, m.at(o))
		}
		x.members()
	}
}

// commit notes what is committed at an offset.
func (x *partCheck) commit(offset int64, b *simBatch) {
	x.committed = append(x.committed, b)
	if b == nil || b.base != offset || b.producer.id < 0 || b.control {
		return
	}
	if other := x.produced[b.producer]; other != nil && other.base != b.base {
		x.fail("P3", "batch %+v is there twice: %v and %v", b.producer, other, b)
	}
	x.produced[b.producer] = b
}

// stable checks that the last stable offset of a replica is below all that belongs to a
// transaction which is open, or whose marker is not committed (L1). It may be lower.
func (x *partCheck) stable(id int32, part *Partition) {
	m := x.mirrors[id]
	high, stable, start := part.HighWatermark(), part.log.LastStableOffset(), part.log.StartOffset()
	open := make(map[int64]int64) // where the transaction of each producer begins
	for o := m.base; o < min(high, m.end()); {
		b := m.at(o)
		switch first, is := open[b.producer.id]; {
		case b.control:
			delete(open, b.producer.id)
		case b.txn && (!is || first > b.base):
			open[b.producer.id] = b.base
		}
		o = b.last + 1
	}
	for producer, first := range open {
		if stable > max(first, start) {
			x.fail("L1", "broker %d: last stable offset %d, and producer %d has a transaction from offset %d on, with high watermark %d", id, stable, producer, first, high)
			return
		}
	}
}

// members checks that who is in sync for the controller, or eligible, has all that is
// committed (StrongIsr). One whose process has just started does not count before it has
// registered: it cannot be elected.
func (x *partCheck) members() {
	s := x.c.s
	p := s.image.Partition(simTopic, x.index)
	n := int64(len(x.committed))
	if p == nil || n == 0 {
		return
	}
	for _, id := range slices.Concat(p.InSync, p.EligibleLeader) {
		b, proc := s.image.Broker(id), s.procs[id]
		if proc != nil && (proc.replicas == nil || b == nil || b.Epoch != proc.life.Epoch()) {
			continue
		}
		m := x.mirrors[id]
		if m == nil {
			if proc == nil || proc.partition(x.topic, x.index) != nil {
				x.fail("R1", "broker %d is in sync, and has no log", id)
			}
			continue
		}
		if max(m.base, x.start) >= n {
			continue
		}
		if has := m.at(n - 1); has != x.committed[n-1] {
			x.fail("R1", "broker %d of in-sync set %v, eligible %v, has %v at offset %d, where %v was committed", id, p.InSync, p.EligibleLeader, has, n-1, x.committed[n-1])
		}
	}
}

// ack checks a produce that was answered.
func (x *partCheck) ack(a ack) {
	if !a.all {
		return
	}
	if a.epoch < x.lostIn {
		x.c.s.stats["acks lost by rule"]++
		return
	}
	if a.base >= int64(len(x.committed)) {
		x.fail("P1", "a produce with acks=all is answered for offset %d, and only what is below %d is committed", a.base, len(x.committed))
		return
	}
	if b := x.committed[a.base]; b != nil && (b.base != a.base || b.crc != a.crc) {
		x.fail("P1", "a produce with crc %08x is answered with offset %d, where %v is committed", a.crc, a.base, b)
		return
	}
	x.acked = append(x.acked, a)
}

// uncleanElection follows an election that may lose records: what the new leader does not
// have is lost. By a cluster's rules that may be, or not.
func (x *partCheck) uncleanElection(leader, epoch int32, allowed bool) {
	n := int64(len(x.committed))
	m := x.mirrors[leader]
	keep := n
	for keep > 0 && (m == nil || keep > m.base && m.at(keep-1) != x.committed[keep-1]) {
		keep--
	}
	x.c.s.stats["unclean elections"]++
	if !allowed {
		x.fail("P1", "broker %d is elected uncleanly in epoch %d: offsets %d to %d are lost, and no rule of the cluster allows that", leader, epoch, keep, n-1)
	}
	// Who leads in an earlier epoch, and does not know better, may commit more on its own.
	x.lostIn = epoch
	x.c.s.stats["records lost by rule"] += int(n - keep)
	for _, b := range x.committed[keep:] {
		if b != nil {
			delete(x.produced, b.producer)
		}
	}
	x.committed = x.committed[:keep]
	x.acked = slices.DeleteFunc(x.acked, func(a ack) bool { return a.base >= keep })
	x.c.s.lost(x.index)
}

// healed checks a partition of a cluster in which all is well and nothing happens.
func (x *partCheck) healed() {
	n := int64(len(x.committed))
	for _, id := range x.c.s.image.Partition(simTopic, x.index).Replicas {
		m := x.mirrors[id]
		if m.end() != n || n > m.base && m.at(n-1) != x.committed[n-1] {
			x.fail("P2", "broker %d has a log that ends at %d with %v, and %d offsets are committed, the last %v", id, m.end(), m.at(n-1), n, x.committed[max(n-1, 0):])
		}
	}
	seen := make(map[simBatchProducer]int64)
	for o, b := range x.committed {
		if b == nil || b.base != int64(o) || b.producer.id < 0 || b.control {
			continue
		}
		if at, twice := seen[b.producer]; twice {
			x.fail("P3", "batch %+v is there twice: at %d and %d", b.producer, at, o)
		}
		seen[b.producer] = int64(o)
	}
	for _, a := range x.acked {
		if b := x.committed[a.base]; b == nil || b.crc != a.crc {
			x.fail("P1", "offset %d was acknowledged with crc %08x, and is %v", a.base, a.crc, b)
		}
	}
}

// ill reports what keeps a partition from being well, "" if nothing does.
func (x *partCheck) ill() string {
	s := x.c.s
	p := s.image.Partition(simTopic, x.index)
	switch {
	case p == nil:
		return "there is no such partition"
	case p.Leader == meta.NoLeader:
		return fmt.Sprintf("no leader, in sync %v, eligible %v, last known %v", p.InSync, p.EligibleLeader, p.LastKnownELR)
	case len(p.InSync) != len(p.Replicas) || len(p.Adding)+len(p.Removing) > 0:
		return fmt.Sprintf("replicas %v, adding %v, removing %v, in sync %v", p.Replicas, p.Adding, p.Removing, p.InSync)
	}
	for _, id := range p.Replicas {
		proc := s.procs[id]
		if proc == nil || proc.replicas == nil {
			return fmt.Sprintf("broker %d does not run", id)
		}
		part := proc.replicas.Get(simTopic, x.index)
		if part == nil {
			return fmt.Sprintf("broker %d has no replica", id)
		}
		l := part.Log()
		if n := int64(len(x.committed)); l.EndOffset() != n || l.HighWatermark() != n || part.Leads() && l.LastStableOffset() != n {
			return fmt.Sprintf("broker %d: last stable offset %d, high watermark %d, log end %d, committed %d", id, l.LastStableOffset(), l.HighWatermark(), l.EndOffset(), n)
		}
	}
	return ""
}
