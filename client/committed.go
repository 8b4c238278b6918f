package client

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// Offset is a committed offset.
type Offset struct {
	At          int64 // of the next record to read
	LeaderEpoch int32 // of the record before; -1 if not known
	Metadata    string
}

// offsetVersion is the newest OffsetCommit and OffsetFetch that name topics.
const offsetVersion = 9

// setOffsets commits offsets from outside a group. The error is the worst of a
// partition.
func (c *cluster) setOffsets(ctx context.Context, coordinator int32, group string, offsets map[TopicPartition]Offset) error {
	failed, err := c.commitOffsets(ctx, coordinator, group, noGroup, nil, offsets)
	if err == nil && len(failed) > 0 {
		err = worst(failed)
	}
	return err
}

// commitOffsets sends one OffsetCommit, and returns the partitions that the
// coordinator did not store.
func (c *cluster) commitOffsets(ctx context.Context, coordinator int32, group string, who groupIdentity, instance *string, offsets map[TopicPartition]Offset) (failed map[TopicPartition]error, err error) {
	req := new(msg.OffsetCommitRequest)
	req.SetDefaults()
	req.GroupId, req.MemberId, req.GenerationIdOrMemberEpoch, req.GroupInstanceId = group, who.member, who.generation, instance
	for _, t := range byTopic(slices.Collect(maps.Keys(offsets))) {
		rt := msg.OffsetCommitRequestTopic{Name: t.topic}
		for _, i := range t.partitions {
			o := offsets[TopicPartition{t.topic, i}]
			rt.Partitions = append(rt.Partitions, msg.OffsetCommitRequestPartition{PartitionIndex: i, CommittedOffset: o.At, CommittedLeaderEpoch: o.LeaderEpoch, CommittedMetadata: &o.Metadata})
		}
		req.Topics = append(req.Topics, rt)
	}
	cn, err := c.broker(ctx, coordinator, forGroup)
	if err != nil {
		return nil, err
	}
	v, err := cn.VersionUpTo(wire.OffsetCommit, offsetVersion)
	if err != nil {
		return nil, err
	}
	resp := new(msg.OffsetCommitResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, 0), cn); err != nil {
		return nil, err
	}
	failed = make(map[TopicPartition]error)
	for tp := range offsets {
		failed[tp] = fmt.Errorf("%w: OffsetCommit answer leaves it out", errLost)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			tp := TopicPartition{t.Name, p.PartitionIndex}
			if err := codeOf(p.ErrorCode); err != nil {
				failed[tp] = err
			} else {
				delete(failed, tp)
			}
		}
	}
	return failed, nil
}

// fetchOffsets asks for committed offsets; nil tps asks for all. The error is
// that of the group, or of one of its partitions. It does not wait behind what a
// member of the group has under way, of which the broker may hold JoinGroup back for
// minutes; nor is a JoinGroup lost with an answer that does not come in time.
func (c *cluster) fetchOffsets(ctx context.Context, coordinator int32, group string, tps []TopicPartition, stable bool) (map[TopicPartition]Offset, error) {
	have, failed, err := c.offsetsOf(ctx, coordinator, forAdmin, group, tps, stable)
	if err == nil && len(failed) > 0 {
		first := sorted(maps.Keys(failed))[0]
		for _, tp := range sorted(maps.Keys(failed)) {
			if retriable(failed[first]) && !retriable(failed[tp]) {
				first = tp
			}
		}
		err = fmt.Errorf("committed offset of %v: %w", first, failed[first])
	}
	if err != nil {
		return nil, err
	}
	return have, nil
}

// offsetsOf asks for committed offsets; nil tps asks for all. Partitions with
// an error have it in failed, those without an offset are in neither.
func (c *cluster) offsetsOf(ctx context.Context, coordinator int32, use purpose, group string, tps []TopicPartition, stable bool) (have map[TopicPartition]Offset, failed map[TopicPartition]error, err error) {
	cn, err := c.broker(ctx, coordinator, use)
	if err != nil {
		return nil, nil, err
	}
	v, err := cn.VersionUpTo(wire.OffsetFetch, offsetVersion)
	if err != nil {
		return nil, nil, err
	}
	req := &msg.OffsetFetchRequest{RequireStable: stable && v >= 7}
	if v >= 8 {
		g := msg.OffsetFetchRequestGroup{GroupId: group, MemberEpoch: -1}
		for _, t := range byTopic(tps) {
			g.Topics = append(g.Topics, msg.OffsetFetchRequestTopics{Name: t.topic, PartitionIndexes: t.partitions})
		}
		req.Groups = []msg.OffsetFetchRequestGroup{g}
	} else {
		req.GroupId = group
		for _, t := range byTopic(tps) {
			req.Topics = append(req.Topics, msg.OffsetFetchRequestTopic{Name: t.topic, PartitionIndexes: t.partitions})
		}
	}
	resp := new(msg.OffsetFetchResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, 0), cn); err != nil {
		return nil, nil, err
	}
	have, failed = make(map[TopicPartition]Offset), make(map[TopicPartition]error)
	for _, tp := range tps {
		failed[tp] = fmt.Errorf("%w: OffsetFetch answer leaves it out", errLost)
	}
	add := func(topic string, index int32, at int64, epoch int32, meta *string, code int16) {
		tp := TopicPartition{topic, index}
		delete(failed, tp)
		if err := codeOf(code); err != nil {
			failed[tp] = err
		} else if at >= 0 {
			have[tp] = Offset{at, epoch, text(meta)}
		}
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return nil, nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			add(t.Name, p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata, p.ErrorCode)
		}
	}
	for _, g := range resp.Groups {
		if err := codeOf(g.ErrorCode); err != nil {
			return nil, nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				add(t.Name, p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata, p.ErrorCode)
			}
		}
	}
	return have, failed, nil
}

// positions returns where the consumer is in each partition that has moved since
// its last commit.
func (c *Consumer) positions() map[TopicPartition]Offset {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[TopicPartition]Offset)
	for tp, p := range c.assigned {
		if p.known && p.next != p.committed {
			out[tp] = Offset{At: p.next, LeaderEpoch: p.epoch}
		}
	}
	return out
}

// stored notes what was committed.
func (c *Consumer) stored(offsets map[TopicPartition]Offset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for tp, o := range offsets {
		if p := c.assigned[tp]; p != nil {
			p.committed = o.At
		}
	}
}

// Commit commits what Poll has returned so far.
func (c *Consumer) Commit(ctx context.Context) error { return c.CommitOffsets(ctx, c.positions()) }

// CommitOffsets commits offsets of the application's choice, trying again until
// ctx ends. A consumer that subscribed commits as a member of its generation: the
// error is [ErrNotMember] if that is over, and nothing is committed.
func (c *Consumer) CommitOffsets(ctx context.Context, offsets map[TopicPartition]Offset) error {
	if c.group == nil {
		return fmt.Errorf("%w: Commit needs group.id", ErrConfig)
	}
	return c.group.commit(ctx, offsets)
}

// Committed returns the group's committed offsets of partitions; those without
// are left out.
func (c *Consumer) Committed(ctx context.Context, tps ...TopicPartition) (out map[TopicPartition]Offset, err error) {
	if c.group == nil {
		return nil, fmt.Errorf("%w: Committed needs group.id", ErrConfig)
	}
	err = c.cl.onCoordinator(ctx, c.o.Group, "committed offsets", func(id int32) error {
		out, err = c.cl.fetchOffsets(ctx, id, c.o.Group, tps, true)
		return err
	})
	return out, err
}
