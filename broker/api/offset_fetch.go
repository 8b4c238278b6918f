package api

import (
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of OffsetFetch add to version 1:
//
//	v2   response: ErrorCode
//	v3   response: ThrottleTimeMs
//	v4   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v5   response: Topics.Partitions.CommittedLeaderEpoch
//	v6   compact and tagged fields
//	v7   request: RequireStable
//	v8   request: Groups, without GroupId, Topics; response: Groups, without Topics, ErrorCode
//	v9   request: Groups.MemberId, Groups.MemberEpoch
//	v10  request: Groups.Topics.TopicId, without Groups.Topics.Name; response: Groups.Topics.TopicId, without
//	     Groups.Topics.Name

// offsetFetch answers OffsetFetch (key 9, v1-v10).
func (h *Handlers) offsetFetch(c *Call, req *msg.OffsetFetchRequest) (*msg.OffsetFetchResponse, error) {
	resp := new(msg.OffsetFetchResponse)
	if c.Version() >= 8 {
		for _, g := range req.Groups {
			resp.Groups = append(resp.Groups, h.fetchGroup(c, g))
		}
		return resp, nil
	}
	// Below version 8 one group is asked for, and answered in other fields.
	one := msg.OffsetFetchRequestGroup{GroupId: req.GroupId, MemberEpoch: -1}
	if req.Topics != nil {
		one.Topics = make([]msg.OffsetFetchRequestTopics, 0, len(req.Topics))
		for _, t := range req.Topics {
			one.Topics = append(one.Topics, msg.OffsetFetchRequestTopics{Name: t.Name, PartitionIndexes: t.PartitionIndexes})
		}
	}
	g := h.fetchGroup(c, one)
	if c.Version() >= 2 {
		resp.ErrorCode = g.ErrorCode
	} else if g.ErrorCode != 0 {
		for _, t := range one.Topics {
			out := msg.OffsetFetchResponseTopics{Name: t.Name}
			for _, p := range t.PartitionIndexes {
				r := noOffset(p)
				r.ErrorCode = g.ErrorCode
				out.Partitions = append(out.Partitions, r)
			}
			g.Topics = append(g.Topics, out)
		}
	}
	for _, t := range g.Topics {
		out := msg.OffsetFetchResponseTopic{Name: t.Name}
		for _, p := range t.Partitions {
			out.Partitions = append(out.Partitions, msg.OffsetFetchResponsePartition(p))
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func noOffset(partition int32) msg.OffsetFetchResponsePartitions {
	return msg.OffsetFetchResponsePartitions{PartitionIndex: partition, CommittedOffset: -1, CommittedLeaderEpoch: -1, Metadata: new(string)}
}

func (h *Handlers) fetchGroup(c *Call, req msg.OffsetFetchRequestGroup) msg.OffsetFetchResponseGroup {
	out := msg.OffsetFetchResponseGroup{GroupId: req.GroupId}
	image := h.Controller.Image()
	// The machine knows topics by name.
	topics := make([]*meta.Topic, len(req.Topics))
	want := make(map[string][]int32)
	for i, t := range req.Topics {
		topicName := t.Name
		if c.Version() >= 10 {
			topics[i] = image.TopicByID(t.TopicId)
			if topics[i] == nil {
				continue
			}
			topicName = topics[i].Name
		}
		want[topicName] = append(want[topicName], t.PartitionIndexes...)
	}
	if req.Topics == nil {
		want = nil
	}
	var offsets []group.Offset
	err := h.run(c, req.GroupId, func(m *group.Machine, _ time.Time) coordinator.Decision {
		offsets = m.Fetch(req.GroupId, want)
		return coordinator.Decision{}
	})
	if err != nil {
		out.ErrorCode = int16(h.code(err))
		return out
	}
	if req.Topics == nil {
		for len(offsets) > 0 { // those of a topic are beside each other
			n := 1
			for n < len(offsets) && offsets[n].Topic == offsets[0].Topic {
				n++
			}
			t := msg.OffsetFetchResponseTopics{Name: offsets[0].Topic}
			topic := image.Topic(t.Name)
			if topic != nil && c.Version() >= 10 {
				t.TopicId = topic.ID
			}
			if topic != nil || c.Version() < 10 {
				for _, o := range offsets[:n] {
					t.Partitions = append(t.Partitions, offsetResult(o))
				}
				out.Topics = append(out.Topics, t)
			}
			offsets = offsets[n:]
		}
		return out
	}
	found := make(map[string]map[int32]group.Offset)
	for _, o := range offsets {
		if found[o.Topic] == nil {
			found[o.Topic] = make(map[int32]group.Offset)
		}
		found[o.Topic][o.Partition] = o
	}
	for i, t := range req.Topics {
		r := msg.OffsetFetchResponseTopics{Name: t.Name, TopicId: t.TopicId}
		topicName := t.Name
		if topics[i] != nil {
			topicName = topics[i].Name
		}
		for _, p := range t.PartitionIndexes {
			d := noOffset(p)
			if c.Version() >= 10 && topics[i] == nil {
				d.ErrorCode = int16(kerr.UnknownTopicId)
			} else if o, ok := found[topicName][p]; ok {
				d = offsetResult(o)
			}
			r.Partitions = append(r.Partitions, d)
		}
		out.Topics = append(out.Topics, r)
	}
	return out
}

func offsetResult(o group.Offset) msg.OffsetFetchResponsePartitions {
	return msg.OffsetFetchResponsePartitions{PartitionIndex: o.Partition, CommittedOffset: o.Offset, CommittedLeaderEpoch: o.Epoch, Metadata: &o.Metadata}
}
