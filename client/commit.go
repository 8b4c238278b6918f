package client

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// ErrNotMember means that offsets were not committed because the group has gone
// on without this member; its partitions may be another's by now.
var ErrNotMember = errors.New("no longer a member of the group's generation")

// Offset is a committed offset.
type Offset struct {
	At          int64 // of the next record to read
	LeaderEpoch int32 // of the record before; -1 if not known
	Metadata    string
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

// Commit commits what Poll has returned so far.
func (c *Consumer) Commit(ctx context.Context) error { return c.CommitOffsets(ctx, c.positions()) }

// CommitOffsets commits offsets of the application's choice.
func (c *Consumer) CommitOffsets(ctx context.Context, offsets map[TopicPartition]Offset) error {
	if c.group == nil {
		return fmt.Errorf("%w: Commit needs group.id", ErrConfig)
	}
	return c.group.commit(ctx, offsets)
}

// autoCommit commits positions, once: what does not succeed is tried again next
// time.
func (g *group) autoCommit(ctx context.Context) {
	offsets := g.c.positions()
	if len(offsets) == 0 {
		return
	}
	err := g.commitOnce(ctx, offsets)
	if err == nil {
		g.committed(offsets)
		return
	}
	if g.c.ctx.Err() == nil {
		g.c.lg.Warn("offsets not committed", zap.String("group", g.id), zap.Error(err))
	}
}

// commit stores offsets, trying again as errors allow until ctx ends.
func (g *group) commit(ctx context.Context, offsets map[TopicPartition]Offset) error {
	if len(offsets) == 0 {
		return nil
	}
	if err := g.c.cl.retryFor(ctx, "OffsetCommit", func() error { return g.commitOnce(ctx, offsets) }); err != nil {
		return fmt.Errorf("commit to group %s: %w", g.id, err)
	}
	g.committed(offsets)
	return nil
}

// commitOnce sends offsets to the coordinator, which is found if need be.
func (g *group) commitOnce(ctx context.Context, offsets map[TopicPartition]Offset) (err error) {
	g.mu.Lock()
	coordinator, member, generation := g.coordinator, g.member, g.generation
	simple := len(g.topics) == 0
	g.mu.Unlock()
	if simple { // offsets of partitions assigned by hand
		member, generation = "", -1
	}
	if coordinator < 0 {
		if coordinator, err = g.c.cl.findCoordinator(ctx, g.id); err != nil {
			return err
		}
		g.mu.Lock()
		g.coordinator = coordinator
		g.mu.Unlock()
	}
	err = g.c.cl.commitOffsets(ctx, coordinator, g.id, member, generation, g.instance(), offsets)
	switch {
	case errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorNotAvailable), isLost(err):
		g.mu.Lock()
		g.coordinator = -1
		g.mu.Unlock()
	case errors.Is(err, kerr.UnknownMemberId), errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.FencedInstanceId), errors.Is(err, kerr.RebalanceInProgress):
		err = fmt.Errorf("%w: %w", ErrNotMember, err)
	}
	return err
}

// committed notes what was committed.
func (g *group) committed(offsets map[TopicPartition]Offset) {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	for tp, o := range offsets {
		if p := g.c.assigned[tp]; p != nil {
			p.committed = o.At
		}
	}
}

// offsetVersion is the newest OffsetCommit and OffsetFetch that name topics.
const offsetVersion = 9

// commitOffsets sends one OffsetCommit. The error is the first one of a
// partition, retriable ones last.
func (c *cluster) commitOffsets(ctx context.Context, coordinator int32, group, member string, generation int32, instance *string, offsets map[TopicPartition]Offset) error {
	req := new(msg.OffsetCommitRequest)
	req.SetDefaults()
	req.GroupId, req.MemberId, req.GenerationIdOrMemberEpoch, req.GroupInstanceId = group, member, generation, instance
	tps := make([]TopicPartition, 0, len(offsets))
	for tp := range offsets {
		tps = append(tps, tp)
	}
	for _, t := range byTopic(tps) {
		rt := msg.OffsetCommitRequestTopic{Name: t.topic}
		for _, i := range t.partitions {
			o := offsets[TopicPartition{t.topic, i}]
			rt.Partitions = append(rt.Partitions, msg.OffsetCommitRequestPartition{PartitionIndex: i, CommittedOffset: o.At, CommittedLeaderEpoch: o.LeaderEpoch, CommittedMetadata: &o.Metadata})
		}
		req.Topics = append(req.Topics, rt)
	}
	cn, err := c.broker(ctx, coordinator, forGroup)
	if err != nil {
		return err
	}
	v, err := cn.VersionUpTo(wire.OffsetCommit, offsetVersion)
	if err != nil {
		return err
	}
	resp := new(msg.OffsetCommitResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, 0), cn); err != nil {
		return err
	}
	var again error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			err := codeOf(p.ErrorCode)
			if err == nil {
				continue
			}
			err = fmt.Errorf("offset of %s-%d: %w", t.Name, p.PartitionIndex, err)
			if !retriable(err) {
				return err
			}
			again = err
		}
	}
	return again
}

// fetchOffsets asks for committed offsets; nil tps asks for all.
func (c *cluster) fetchOffsets(ctx context.Context, coordinator int32, group string, tps []TopicPartition, stable bool) (map[TopicPartition]Offset, error) {
	cn, err := c.broker(ctx, coordinator, forGroup)
	if err != nil {
		return nil, err
	}
	v, err := cn.VersionUpTo(wire.OffsetFetch, offsetVersion)
	if err != nil {
		return nil, err
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
		return nil, err
	}
	out := make(map[TopicPartition]Offset)
	add := func(topic string, index int32, at int64, epoch int32, meta *string, code int16) error {
		if err := codeOf(code); err != nil {
			return fmt.Errorf("committed offset of %s-%d: %w", topic, index, err)
		}
		if at >= 0 {
			out[TopicPartition{topic, index}] = Offset{at, epoch, text(meta)}
		}
		return nil
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := add(t.Name, p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata, p.ErrorCode); err != nil {
				return nil, err
			}
		}
	}
	for _, g := range resp.Groups {
		if err := codeOf(g.ErrorCode); err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := add(t.Name, p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata, p.ErrorCode); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// start finds where to begin: at the committed offsets, else as reset says.
func (g *group) start(ctx context.Context, coordinator int32, mine []TopicPartition) (at map[TopicPartition]Position, committed map[TopicPartition]int64, err error) {
	at, committed = make(map[TopicPartition]Position), make(map[TopicPartition]int64)
	if len(mine) == 0 {
		return at, committed, nil
	}
	have, err := g.startOffsets(ctx, coordinator, mine)
	if err != nil {
		return nil, nil, fmt.Errorf("OffsetFetch: %w", err)
	}
	for _, tp := range mine {
		g.c.cl.want(tp.Topic)
		if o, ok := have[tp]; ok {
			at[tp], committed[tp] = AtOffset(o.At), o.At
			continue
		}
		to, ok := g.c.o.reset()
		if !ok {
			return nil, nil, fmt.Errorf("%v: %w", tp, ErrNoReset)
		}
		at[tp] = to
	}
	return at, committed, nil
}

// startOffsets asks for committed offsets, again for as long as the session
// allows that no heartbeat is sent: to join anew would make every member do so.
func (g *group) startOffsets(ctx context.Context, coordinator int32, mine []TopicPartition) (have map[TopicPartition]Offset, err error) {
	within := g.c.o.SessionTimeout / 3
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var gone error // the coordinator is another one, or out of reach
	err = g.c.cl.retryFor(ctx, "committed offsets of group "+g.id, func() error {
		have, err = g.c.cl.fetchOffsets(ctx, coordinator, g.id, mine, true)
		var code kerr.Code
		if errors.As(err, &code) && code.Refresh() == kerr.RefreshCoordinator || isLost(err) {
			gone = err
			return nil
		}
		return err
	})
	if gone != nil {
		err = gone
	}
	return have, ownDeadline(err, within)
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
