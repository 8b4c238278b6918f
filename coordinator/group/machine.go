// Package group coordinates consumer groups of the classic protocol and keeps
// their committed offsets. A [Machine] is the state of one partition of
// __consumer_offsets, in Kafka's record format.
//
// Members wait inside the machine for a rebalance to go on: a join or a sync
// that must wait leaves a function behind which is called with the answer.
package group

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Config is what a coordinator of groups is configured with.
type Config struct {
	InitialDelay    time.Duration // group.initial.rebalance.delay.ms
	MinSession      time.Duration // group.min.session.timeout.ms
	MaxSession      time.Duration // group.max.session.timeout.ms
	MaxSize         int           // group.max.size
	MetadataMax     int           // offset.metadata.max.bytes
	Retention       time.Duration // offsets.retention.minutes
	RetentionChecks time.Duration // offsets.retention.check.interval.ms
	// NewID returns a part of a member id that nobody else gets.
	NewID func() string
	// Rebalanced, if not nil, is notified of every rebalance that has come together. It
	// must not block.
	Rebalanced func(Rebalance)
}

// Rebalance is what came of a rebalance.
type Rebalance struct {
	Group        string
	Generation   int32
	Members      int
	Joined, Left []string // ids of members; the first few
	More         int      // that have joined or left and are not in those lists
	Took         time.Duration
}

// namesKept is how many members a Rebalance names that have joined, and that have
// left.
const namesKept = 5

// newMemberTimeout is how long a member that has joined for the first time is
// kept while the rebalance is under way: it sends no heartbeats yet.
const newMemberTimeout = 5 * time.Minute

// Machine is the state of one shard. See [coordinator.Machine], which says who calls it.
//
// Invariants:
//   - A group is in due, at the latest when it must be looked at, while there is a time at
//     which something happens in it by itself.
//   - Every join and sync that waits is held by one member, and answered once: with the
//     rebalance, with the member's end, or by Unload.
//   - What Replay changes, nothing else does; see [group].
type Machine struct {
	conf      Config
	groups    map[string]*group
	due       byDeadline
	expiry    time.Time // when offsets are checked for their age next
	loading   bool
	undecided undecided
	// emptied are the groups that have lost their last member in the decision that is
	// being made.
	emptied []*group
}

// NewMachine returns a machine without groups, to be loaded.
func NewMachine(c Config) *Machine {
	return &Machine{conf: c, groups: make(map[string]*group), loading: true, undecided: newUndecided()}
}

var _ coordinator.Machine = (*Machine)(nil)

// Loaded implements coordinator.Machine. Members of a group that was loaded get
// a full session to show up.
func (m *Machine) Loaded(now time.Time) coordinator.Decision {
	m.loading = false
	m.expiry = now.Add(m.conf.RetentionChecks)
	for _, g := range m.groups {
		for _, x := range g.members {
			m.alive(g, x, now)
		}
	}
	return coordinator.Decision{}
}

// Next implements coordinator.Machine.
func (m *Machine) Next() time.Time {
	if m.loading {
		return time.Time{}
	}
	if len(m.due) > 0 && (m.expiry.IsZero() || m.due[0].deadline.Before(m.expiry)) {
		return m.due[0].deadline
	}
	return m.expiry
}

// Tick implements coordinator.Machine.
func (m *Machine) Tick(now time.Time) coordinator.Decision {
	var out []coordinator.Record
	for len(m.due) > 0 && !m.due[0].deadline.After(now) {
		g := m.due[0]
		heap.Pop(&m.due)
		g.looked = now
		out = append(out, m.look(g, now)...)
		m.rearm(g)
	}
	if len(out) > 0 {
		return m.decision(out, now) // and the age of offsets in a decision of its own
	}
	if !m.expiry.IsZero() && !m.expiry.After(now) {
		m.expiry = now.Add(m.conf.RetentionChecks)
		out = append(out, m.expire(now)...)
	}
	return coordinator.Decision{Records: out, Divisible: true}
}

// Unload implements coordinator.Machine.
func (m *Machine) Unload(err error) {
	code := coordinator.Code(err)
	for _, g := range m.groups {
		for x := range g.inOrder {
			x.answerJoin(&msg.JoinGroupResponse{ErrorCode: int16(code), GenerationId: -1, MemberId: x.id})
			x.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(code)})
		}
	}
	m.groups = make(map[string]*group)
	m.due = nil
}

func (x *member) answerJoin(r *msg.JoinGroupResponse) {
	if f := x.join; f != nil {
		x.join = nil
		if x.g != nil {
			x.g.joining--
		}
		f(r)
	}
}

func (x *member) answerSync(r *msg.SyncGroupResponse) {
	if f := x.sync; f != nil {
		x.sync = nil
		f(r)
	}
}

// by makes sure that the group is looked at no later than at t.
func (m *Machine) by(g *group, t time.Time) {
	switch {
	case t.IsZero():
	case g.heapAt < 0:
		g.deadline = t
		heap.Push(&m.due, g)
	case t.Before(g.deadline):
		g.deadline = t
		heap.Fix(&m.due, g.heapAt)
	}
}

// rearm looks for the earliest deadline of a group that is not in the heap.
func (m *Machine) rearm(g *group) {
	if m.groups[g.id] != g {
		return
	}
	// Looking costs as much as there are members. Thousands whose sessions end one
	// after the other are found a few at a time.
	soonest := g.looked.Add(time.Duration(len(g.members)+len(g.pending)) * time.Microsecond)
	defer func() {
		if g.heapAt >= 0 && g.deadline.Before(soonest) {
			g.deadline = soonest
			heap.Fix(&m.due, g.heapAt)
		}
	}()
	if g.state == PreparingRebalance {
		m.by(g, g.joinBy)
	}
	if len(g.unsynced) > 0 {
		m.by(g, g.syncBy)
	}
	for _, t := range g.pending {
		m.by(g, t)
	}
	for _, x := range g.members {
		if x.join == nil && x.sync == nil || x.isNew {
			m.by(g, x.lapses)
		}
	}
}

// alive restarts the session of a member.
func (m *Machine) alive(g *group, x *member, now time.Time) {
	x.lapses = now.Add(x.session)
	m.by(g, x.lapses)
}

// remove takes a group out of the machine.
func (m *Machine) remove(g *group) {
	delete(m.groups, g.id)
	if g.heapAt >= 0 {
		heap.Remove(&m.due, g.heapAt)
	}
}

// byDeadline is a heap of groups.
type byDeadline []*group

func (h byDeadline) Len() int           { return len(h) }
func (h byDeadline) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }
func (h byDeadline) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapAt, h[j].heapAt = i, j
}

func (h *byDeadline) Push(x any) {
	g := x.(*group)
	g.heapAt = len(*h)
	*h = append(*h, g)
}

func (h *byDeadline) Pop() any {
	last := len(*h) - 1
	g := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	g.heapAt = -1
	return g
}

// Replay implements coordinator.Machine. Offsets that were committed in a
// transaction wait for its end.
func (m *Machine) Replay(r coordinator.Record, from coordinator.Origin) error {
	key := prim.NewReader(r.Key)
	switch version := key.Int16(); version {
	case 0, 1:
		var k msg.OffsetCommitKey
		k.DecodeFrom(&key, 0)
		if key.Err() != nil {
			return fmt.Errorf("offset commit key: %w", key.Err())
		}
		if from.Producer.ID >= 0 {
			m.undecided.add(from.Producer.ID, place{k.Group, k.Topic, k.Partition}, waiting{slices.Clone(r.Value), from.Offset})
			return nil
		}
		return m.replayOffset(place{k.Group, k.Topic, k.Partition}, r.Value, from.Offset)
	case 2:
		var k msg.GroupMetadataKey
		k.DecodeFrom(&key, 0)
		if key.Err() != nil {
			return fmt.Errorf("group metadata key: %w", key.Err())
		}
		return m.replayGroup(k.Group, r.Value)
	default:
		return nil // of a protocol that this machine does not run
	}
}

// Ended implements coordinator.Machine. An offset that was committed since without a
// transaction stays.
func (m *Machine) Ended(e coordinator.Marker) error {
	waiting := m.undecided.end(e.ProducerID)
	if !e.Commit {
		return nil
	}
	for p, w := range waiting {
		if g := m.groups[p.group]; g != nil {
			if c, ok := g.offsets[p.topic][p.partition]; ok && c.record > w.offset {
				continue
			}
		}
		if err := m.replayOffset(p, w.value, w.offset); err != nil {
			return err
		}
	}
	return nil
}

// replayOffset applies an offset that counts, nil for its deletion.
func (m *Machine) replayOffset(p place, value []byte, offset int64) error {
	g := m.groups[p.group]
	if value == nil {
		m.undecided.forget(p) // it was committed before it was deleted
		if g != nil {
			g.forget(p.topic, p.partition)
			if m.loading && g.idle() {
				m.remove(g)
			}
		}
		return nil
	}
	var v msg.OffsetCommitValue
	if err := parseValue(&v, value); err != nil {
		return fmt.Errorf("offset of group %s: %w", p.group, err)
	}
	if g == nil {
		g = newGroup(p.group, time.UnixMilli(v.CommitTimestamp))
		m.groups[p.group] = g
	}
	c := committed{offset: v.Offset, epoch: v.LeaderEpoch, metadata: v.Metadata, at: time.UnixMilli(v.CommitTimestamp), topicID: v.TopicId, record: offset}
	if v.ExpireTimestamp >= 0 {
		c.expire = time.UnixMilli(v.ExpireTimestamp)
	}
	g.commit(p.topic, p.partition, c)
	return nil
}

// idle reports whether nothing is known of a group that was only mentioned.
func (g *group) idle() bool {
	return len(g.offsets) == 0 && len(g.members) == 0 && len(g.pending) == 0 && g.kind == ""
}

// replayGroup applies the record of a group: a generation that has its assignments, a
// static member under another id, a group without members, or its removal.
//
// What has happened in a live group since the record was decided on is in memory only,
// and newer. A record that was decided on before it (one that had to wait to be
// written) changes nothing: the next generation is written again.
func (m *Machine) replayGroup(id string, value []byte) error {
	g := m.groups[id]
	if value == nil {
		if g != nil && (m.loading || len(g.members) == 0 && len(g.pending) == 0) {
			m.remove(g)
		}
		return nil
	}
	var v msg.GroupMetadataValue
	if err := parseValue(&v, value); err != nil {
		return fmt.Errorf("group %s: %w", id, err)
	}
	if g == nil || m.loading {
		m.groups[id] = read(id, &v, g)
		return nil
	}
	since := time.UnixMilli(v.CurrentStateTimestamp)
	switch {
	case g.state == PreparingRebalance && len(g.members) == 0 && len(v.Members) == 0 && v.Generation == g.nextGeneration():
		g.generation, g.protocol = v.Generation, ""
		g.to(Empty, since)
	case g.state == CompletingRebalance && g.generation == v.Generation:
		g.assign(v.Members)
		g.to(Stable, since)
	case g.state == Stable && g.generation == v.Generation:
		for i := range v.Members {
			g.rename(&v.Members[i])
		}
		g.assign(v.Members)
		g.to(Stable, since)
	}
	return nil
}

// read makes the group that a record describes. Its offsets are those of was, if that is
// there.
func read(id string, v *msg.GroupMetadataValue, was *group) *group {
	g := newGroup(id, time.UnixMilli(v.CurrentStateTimestamp))
	if was != nil {
		g.offsets = was.offsets
	}
	g.kind, g.generation = v.ProtocolType, v.Generation
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		g.add(readMember(&v.Members[i], g.protocol))
	}
	g.news = Rebalance{} // they joined long ago
	if v.Leader != nil && g.members[*v.Leader] != nil {
		g.leader = *v.Leader
	}
	if len(g.members) > 0 {
		g.state = Stable
	}
	return g
}

func readMember(v *msg.GroupMetadataValueMemberMetadata, protocol string) *member {
	rebalance := v.RebalanceTimeout
	if rebalance < 0 {
		rebalance = v.SessionTimeout
	}
	return &member{id: v.MemberId, instance: v.GroupInstanceId, clientID: v.ClientId, clientHost: v.ClientHost,
		rebalance: millis(rebalance), session: millis(v.SessionTimeout), assignment: v.Assignment,
		protocols: []msg.JoinGroupRequestProtocol{{Name: protocol, Metadata: v.Subscription}}}
}

// assign gives the members what a record says.
func (g *group) assign(members []msg.GroupMetadataValueMemberMetadata) {
	for i := range members {
		if x := g.members[members[i].MemberId]; x != nil {
			x.assignment = members[i].Assignment
		}
	}
}

// rename has a static member go on under the id that a record says.
func (g *group) rename(v *msg.GroupMetadataValueMemberMetadata) {
	if v.GroupInstanceId == nil {
		return
	}
	old := g.members[g.static[*v.GroupInstanceId]]
	if old == nil || old.id == v.MemberId {
		return
	}
	x := g.returning
	if x == nil || x.id != v.MemberId {
		x = readMember(v, g.protocol)
	}
	g.succeed(old, x)
}

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// parseValue parses int16 version and body.
func parseValue(v msg.Message, b []byte) error {
	r := prim.NewReader(b)
	version := r.Int16()
	if r.Err() == nil {
		v.DecodeFrom(&r, version)
	}
	return r.Err()
}

// appendKey returns int16 type and the key in version 0.
func appendKey(kind int16, k msg.Message) []byte {
	b, err := k.AppendTo(prim.AppendInt16(nil, kind), 0)
	if err != nil {
		panic(fmt.Sprintf("group: key %s: %v", k.MessageName(), err)) // its strings came off the wire
	}
	return b
}

func appendValue(version int16, v msg.Message) []byte {
	b, err := v.AppendTo(prim.AppendInt16(nil, version), version)
	if err != nil {
		panic(fmt.Sprintf("group: value %s: %v", v.MessageName(), err))
	}
	return b
}
