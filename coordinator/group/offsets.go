package group

import (
	"maps"
	"slices"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Commit handles an OffsetCommit of the given version. The topics are known to
// exist. The codes are by topic and partition, in the order of the request; all
// is the error of the whole request.
func (m *Machine) Commit(now time.Time, v int16, req *msg.OffsetCommitRequest) (d coordinator.Decision, codes [][]kerr.Code, all kerr.Code) {
	if all := m.mayCommit(now, v, req); all != kerr.None {
		return d, nil, all
	}
	codes = make([][]kerr.Code, len(req.Topics))
	for i, t := range req.Topics {
		codes[i] = make([]kerr.Code, len(t.Partitions))
		for j, p := range t.Partitions {
			c := committed{offset: p.CommittedOffset, epoch: p.CommittedLeaderEpoch, at: now, topicID: t.TopicId}
			if p.CommittedMetadata != nil {
				c.metadata = *p.CommittedMetadata
			}
			if len(c.metadata) > m.conf.MetadataMax {
				codes[i][j] = kerr.OffsetMetadataTooLarge
				continue
			}
			if v <= 4 && req.RetentionTimeMs >= 0 {
				c.expire = now.Add(time.Duration(req.RetentionTimeMs) * time.Millisecond)
			}
			d.Records = append(d.Records, offsetRecord(req.GroupId, t.Name, p.PartitionIndex, c))
		}
	}
	return d, codes, kerr.None
}

// mayCommit checks the group and the member of a commit.
func (m *Machine) mayCommit(now time.Time, v int16, req *msg.OffsetCommitRequest) kerr.Code {
	g := m.groups[req.GroupId]
	simple := req.GenerationIdOrMemberEpoch < 0 && req.MemberId == "" && req.GroupInstanceId == nil
	switch {
	case g == nil && req.GenerationIdOrMemberEpoch < 0:
		return kerr.None
	case g == nil && v >= 9:
		return kerr.GroupIdNotFound
	case g == nil:
		return kerr.IllegalGeneration
	case req.GenerationIdOrMemberEpoch < 0 && g.state == Empty:
		return kerr.None
	case simple: // only members commit for a group that has some
		return kerr.UnknownMemberId
	}
	_, x, code := m.find(req.GroupId, req.MemberId, req.GroupInstanceId)
	switch {
	case code != kerr.None:
		return code
	case req.GenerationIdOrMemberEpoch != g.generation:
		return kerr.IllegalGeneration
	case g.state == CompletingRebalance:
		return kerr.RebalanceInProgress
	}
	m.alive(g, x, now)
	return kerr.None
}

// Offset is a committed offset as it is answered with. Offset -1 stands for none.
type Offset struct {
	Topic     string
	Partition int32
	Offset    int64
	Epoch     int32
	Metadata  string
}

// Fetch returns committed offsets of a group: of the partitions asked for, in
// their order, or all of them where want is nil.
func (m *Machine) Fetch(groupID string, want map[string][]int32) []Offset {
	var out []Offset
	g := m.groups[groupID]
	one := func(topic string, partition int32) Offset {
		if g != nil {
			if c, ok := g.offsets[topic][partition]; ok {
				return Offset{topic, partition, c.offset, c.epoch, c.metadata}
			}
		}
		return Offset{topic, partition, -1, -1, ""}
	}
	if want != nil {
		for topic, partitions := range want {
			for _, p := range partitions {
				out = append(out, one(topic, p))
			}
		}
		return out
	}
	if g == nil {
		return nil
	}
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
			out = append(out, one(topic, p))
		}
	}
	return out
}

// Delete handles the deletion of a group with all its offsets. A group of no name
// is as good as any: a commit can make it.
func (m *Machine) Delete(groupID string) (coordinator.Decision, kerr.Code) {
	g := m.groups[groupID]
	switch {
	case g == nil:
		return coordinator.Decision{}, kerr.GroupIdNotFound
	case g.state != Empty:
		return coordinator.Decision{}, kerr.NonEmptyGroup
	}
	clear(g.pending) // they find no group to join
	return coordinator.Decision{Records: m.burial(g), Divisible: true}, kerr.None
}

// burial returns the tombstones of all that a group has written, also in transactions
// that have not ended.
func (m *Machine) burial(g *group) []coordinator.Record {
	var out []coordinator.Record
	for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
		for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
			out = append(out, offsetTombstone(g.id, topic, p))
		}
	}
	for _, p := range m.undecided.of(g.id) {
		if !m.committed(p) {
			out = append(out, offsetTombstone(g.id, p.topic, p.partition))
		}
	}
	return append(out, g.tombstone())
}

// DeleteOffsets handles an OffsetDelete. The codes are by topic and partition.
func (m *Machine) DeleteOffsets(req *msg.OffsetDeleteRequest) (d coordinator.Decision, codes [][]kerr.Code, all kerr.Code) {
	g := m.groups[req.GroupId]
	switch {
	case req.GroupId == "":
		return d, nil, kerr.InvalidGroupId
	case g == nil:
		return d, nil, kerr.GroupIdNotFound
	case g.state != Empty && g.kind != consumerProtocol:
		return d, nil, kerr.NonEmptyGroup
	}
	codes = make([][]kerr.Code, len(req.Topics))
	wanted := g.wanted()
	for i, t := range req.Topics {
		codes[i] = make([]kerr.Code, len(t.Partitions))
		subscribed := g.state != Empty && wanted(t.Name)
		for j, p := range t.Partitions {
			if subscribed {
				codes[i][j] = kerr.GroupSubscribedToTopic
			} else if at := (place{g.id, t.Name, p.PartitionIndex}); m.committed(at) || m.undecided.has(at) {
				d.Records = append(d.Records, offsetTombstone(g.id, t.Name, p.PartitionIndex))
			}
		}
	}
	return d, codes, kerr.None
}

// TopicDeleted drops the offsets of a topic that no longer exists.
func (m *Machine) TopicDeleted(topic string) coordinator.Decision {
	var out []coordinator.Record
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		for _, p := range slices.Sorted(maps.Keys(m.groups[id].offsets[topic])) {
			out = append(out, offsetTombstone(id, topic, p))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.undecided.byGroup)) {
		for _, p := range m.undecided.of(id) {
			if p.topic == topic && !m.committed(p) {
				out = append(out, offsetTombstone(id, topic, p.partition))
			}
		}
	}
	return coordinator.Decision{Records: out, Divisible: true}
}

// committed reports whether there is an offset for a place that counts.
func (m *Machine) committed(p place) bool {
	g := m.groups[p.group]
	if g == nil {
		return false
	}
	_, ok := g.offsets[p.topic][p.partition]
	return ok
}

// expire drops offsets that are older than their retention, and groups that are
// left with nothing. What a transaction is about to commit again stays.
func (m *Machine) expire(now time.Time) []coordinator.Record {
	var out []coordinator.Record
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		kept, wanted := 0, g.wanted()
		for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
			for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
				if !m.undecided.has(place{id, topic, p}) && m.expired(g, topic, g.offsets[topic][p], now, wanted) {
					out = append(out, offsetTombstone(id, topic, p))
				} else {
					kept++
				}
			}
		}
		if kept == 0 && g.state == Empty && len(g.pending) == 0 && len(m.undecided.byGroup[id]) == 0 {
			out = append(out, g.tombstone())
		}
	}
	return out
}

func (m *Machine) expired(g *group, topic string, c committed, now time.Time, wanted func(topic string) bool) bool {
	if !c.expire.IsZero() {
		return g.state == Empty && !c.expire.After(now)
	}
	since := c.at
	if g.state == Empty && g.kind != "" && g.since.After(since) {
		since = g.since // it began to age when the last member left
	}
	return !since.Add(m.conf.Retention).After(now) && (g.state == Empty || !wanted(topic))
}

// Listed is one group in a list.
type Listed struct {
	ID, ProtocolType string
	State            State
}

// List returns all groups.
func (m *Machine) List() []Listed {
	var out []Listed
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		out = append(out, Listed{id, g.kind, g.state})
	}
	return out
}

// Describe fills in what is known of a group; the code is GROUP_ID_NOT_FOUND if
// nothing is.
func (m *Machine) Describe(groupID string) (msg.DescribeGroupsResponseDescribedGroup, kerr.Code) {
	out := msg.DescribeGroupsResponseDescribedGroup{}
	out.SetDefaults()
	out.GroupId = groupID
	g := m.groups[groupID]
	if g == nil {
		out.GroupState = string(Dead)
		return out, kerr.GroupIdNotFound
	}
	out.GroupState, out.ProtocolType = string(g.state), g.kind
	if g.state == Stable {
		out.ProtocolData = g.protocol
	}
	for x := range g.inOrder {
		// While a group rebalances, its members still have what they got before.
		d := msg.DescribeGroupsResponseDescribedGroupMember{MemberId: x.id, GroupInstanceId: x.instance, ClientId: x.clientID, ClientHost: x.clientHost,
			MemberAssignment: slices.Clone(x.assignment)}
		if g.state == Stable {
			d.MemberMetadata = slices.Clone(x.metadata(g.protocol))
		}
		out.Members = append(out.Members, d)
	}
	return out, kerr.None
}
