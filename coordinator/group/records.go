package group

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Types of the records of __consumer_offsets, and the versions written.
const (
	offsetKey = 1
	groupKey  = 2

	groupVersion        = 3
	offsetVersion       = 4
	offsetExpireVersion = 1 // the one version that has an expiry
)

func offsetRecordKey(group, topic string, partition int32) []byte {
	return appendKey(offsetKey, &msg.OffsetCommitKey{Group: group, Topic: topic, Partition: partition})
}

func offsetRecord(group, topic string, partition int32, c committed) coordinator.Record {
	v := &msg.OffsetCommitValue{Offset: c.offset, LeaderEpoch: c.epoch, Metadata: c.metadata, CommitTimestamp: c.at.UnixMilli(), ExpireTimestamp: -1, TopicId: c.topicID}
	version := int16(offsetVersion)
	if !c.expire.IsZero() {
		version, v.ExpireTimestamp, v.TopicId = offsetExpireVersion, c.expire.UnixMilli(), prim.UUID{}
		v.LeaderEpoch = -1
	}
	return coordinator.Record{Key: offsetRecordKey(group, topic, partition), Value: appendValue(version, v)}
}

func offsetTombstone(group, topic string, partition int32) coordinator.Record {
	return coordinator.Record{Key: offsetRecordKey(group, topic, partition)}
}

// record is the record of the group as it is, with the assignments given. It has
// members.
func (g *group) record(assignments map[string][]byte, now time.Time) coordinator.Record {
	v := &msg.GroupMetadataValue{ProtocolType: g.kind, Generation: g.generation, CurrentStateTimestamp: now.UnixMilli(), Protocol: &g.protocol, Leader: &g.leader}
	for x := range g.inOrder {
		v.Members = append(v.Members, msg.GroupMetadataValueMemberMetadata{MemberId: x.id, GroupInstanceId: x.instance, ClientId: x.clientID, ClientHost: x.clientHost,
			RebalanceTimeout: int32(x.rebalance.Milliseconds()), SessionTimeout: int32(x.session.Milliseconds()),
			Subscription: x.metadata(g.protocol), Assignment: assignments[x.id]})
	}
	return coordinator.Record{Key: appendKey(groupKey, &msg.GroupMetadataKey{Group: g.id}), Value: appendValue(groupVersion, v)}
}

// emptied is the record of a group whose last member has gone: one generation more.
func (g *group) emptied(now time.Time) coordinator.Record {
	v := &msg.GroupMetadataValue{ProtocolType: g.kind, Generation: g.nextGeneration(), CurrentStateTimestamp: now.UnixMilli()}
	return coordinator.Record{Key: appendKey(groupKey, &msg.GroupMetadataKey{Group: g.id}), Value: appendValue(groupVersion, v)}
}

// empty is the record of a group that nobody has joined yet.
func (g *group) empty(now time.Time) coordinator.Record {
	v := &msg.GroupMetadataValue{CurrentStateTimestamp: now.UnixMilli()}
	return coordinator.Record{Key: appendKey(groupKey, &msg.GroupMetadataKey{Group: g.id}), Value: appendValue(groupVersion, v)}
}

func (g *group) tombstone() coordinator.Record {
	return coordinator.Record{Key: appendKey(groupKey, &msg.GroupMetadataKey{Group: g.id})}
}
