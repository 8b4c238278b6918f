package main

import (
	"fmt"

	"github.com/klamm-io/klamm/wire/msg"
)

// findable has the coordinator of groups made.
func (w *world) findable() error {
	for {
		var found msg.FindCoordinatorResponse
		if err := w.ask(3, &msg.FindCoordinatorRequest{Key: "g"}, &found); err != nil {
			return err
		}
		var listed msg.ListGroupsResponse
		if err := w.ask(4, new(msg.ListGroupsRequest), &listed); err != nil {
			return err
		}
		if found.ErrorCode == 0 && listed.ErrorCode == 0 {
			return nil
		}
	}
}

func groupName(i int) string { return fmt.Sprintf("group-%05d", i) }

// commit commits an offset of n partitions of a topic for a group.
func (w *world) commit(group, topic string, n int) error {
	req := &msg.OffsetCommitRequest{GroupId: group, GenerationIdOrMemberEpoch: -1, Topics: []msg.OffsetCommitRequestTopic{{Name: topic}}}
	for i := range n {
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.OffsetCommitRequestPartition{PartitionIndex: int32(i), CommittedOffset: 5, CommittedLeaderEpoch: -1})
	}
	var resp msg.OffsetCommitResponse
	if err := w.ask(8, req, &resp); err != nil {
		return err
	}
	return want("commit", resp.Topics[0].Partitions[n-1].ErrorCode, 0)
}

// committed prepares a group with offsets of n partitions.
func committed(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		if err := w.create(1, n); err != nil {
			return nil, err
		}
		if err := w.findable(); err != nil {
			return nil, err
		}
		return func() error { return run(w, n) }, w.commit("g", w.topics[0], n)
	}
}

// grouped prepares n groups with an offset each.
func grouped(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		if err := w.create(1, 1); err != nil {
			return nil, err
		}
		if err := w.findable(); err != nil {
			return nil, err
		}
		for i := range n {
			if err := w.commit(groupName(i), w.topics[0], 1); err != nil {
				return nil, err
			}
		}
		return func() error { return run(w, n) }, nil
	}
}

func join(member string) *msg.JoinGroupRequest {
	return &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 60000, RebalanceTimeoutMs: 60000, MemberId: member,
		Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}, {Name: "roundrobin", Metadata: []byte("m")}}}
}

// balance has n members join, each on a connection of its own, and returns the
// generation and the answer that the leader got.
func (w *world) balance(n int) (leader *msg.JoinGroupResponse, err error) {
	for range n {
		var resp msg.JoinGroupResponse
		if err := w.ask(7, join(""), &resp); err != nil {
			return nil, err
		}
		if err := want("join", resp.ErrorCode, 79); err != nil { // MEMBER_ID_REQUIRED
			return nil, err
		}
		w.members = append(w.members, resp.MemberId)
	}
	for i, c := range w.extra {
		if err := c.send(7, join(w.members[i])); err != nil {
			return nil, err
		}
	}
	for _, c := range w.extra {
		resp := new(msg.JoinGroupResponse)
		if err := c.receive(7, resp); err != nil {
			return nil, err
		}
		if err := want("join", resp.ErrorCode, 0); err != nil {
			return nil, err
		}
		if resp.Leader == resp.MemberId {
			leader = resp
		}
	}
	return leader, nil
}

// members prepares connections for n members.
func members(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		for range n {
			if _, err := w.another(); err != nil {
				return nil, err
			}
		}
		return func() error { return run(w, n) }, w.findable()
	}
}

// stable prepares a group of n members.
func stable(run func(w *world, leader *msg.JoinGroupResponse) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		prepare := members(func(*world, int) error { return nil })
		if _, err := prepare(w, n); err != nil {
			return nil, err
		}
		leader, err := w.balance(n)
		return func() error { return run(w, leader) }, err
	}
}

// groups are the cases of the coordinator.
var groups = []growth{
	{name: "find coordinators", n: 1000, prepare: func(w *world, n int) (func() error, error) {
		req := &msg.FindCoordinatorRequest{}
		for i := range n {
			req.CoordinatorKeys = append(req.CoordinatorKeys, groupName(i))
		}
		return func() error { return w.ask(4, req, new(msg.FindCoordinatorResponse)) }, w.findable()
	}},
	{name: "commit offsets of partitions", n: 500, prepare: committed(func(w *world, n int) error { return w.commit("g", w.topics[0], n) })},
	{name: "fetch offsets of partitions", n: 500, prepare: committed(func(w *world, n int) error {
		req := &msg.OffsetFetchRequest{Groups: []msg.OffsetFetchRequestGroup{{GroupId: "g", MemberEpoch: -1, Topics: []msg.OffsetFetchRequestTopics{{Name: w.topics[0]}}}}}
		for i := range n {
			req.Groups[0].Topics[0].PartitionIndexes = append(req.Groups[0].Topics[0].PartitionIndexes, int32(i))
		}
		return w.ask(8, req, new(msg.OffsetFetchResponse))
	})},
	{name: "fetch all offsets of topics", n: 200, prepare: func(w *world, n int) (func() error, error) {
		if err := w.create(n, 1); err != nil {
			return nil, err
		}
		if err := w.findable(); err != nil {
			return nil, err
		}
		for _, name := range w.topics {
			if err := w.commit("g", name, 1); err != nil {
				return nil, err
			}
		}
		return func() error {
			return w.ask(8, &msg.OffsetFetchRequest{Groups: []msg.OffsetFetchRequestGroup{{GroupId: "g", MemberEpoch: -1}}}, new(msg.OffsetFetchResponse))
		}, nil
	}},
	{name: "fetch offsets of groups", n: 300, prepare: grouped(func(w *world, n int) error {
		req := new(msg.OffsetFetchRequest)
		for i := range n {
			req.Groups = append(req.Groups, msg.OffsetFetchRequestGroup{GroupId: groupName(i), MemberEpoch: -1})
		}
		return w.ask(8, req, new(msg.OffsetFetchResponse))
	})},
	{name: "delete offsets of partitions", n: 500, prepare: committed(func(w *world, n int) error {
		req := &msg.OffsetDeleteRequest{GroupId: "g", Topics: []msg.OffsetDeleteRequestTopic{{Name: w.topics[0]}}}
		for i := range n {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.OffsetDeleteRequestPartition{PartitionIndex: int32(i)})
		}
		return w.ask(0, req, new(msg.OffsetDeleteResponse))
	})},
	{name: "delete a topic with offsets of partitions", n: 500, prepare: committed(func(w *world, n int) error {
		if err := w.ask(5, &msg.DeleteTopicsRequest{TimeoutMs: 60000, TopicNames: w.topics}, new(msg.DeleteTopicsResponse)); err != nil {
			return err
		}
		// Its offsets go behind the answer, and before what is asked next.
		return w.ask(8, &msg.OffsetFetchRequest{Groups: []msg.OffsetFetchRequestGroup{{GroupId: "g", MemberEpoch: -1}}}, new(msg.OffsetFetchResponse))
	})},
	{name: "list groups", n: 300, prepare: grouped(func(w *world, n int) error { return w.ask(4, new(msg.ListGroupsRequest), new(msg.ListGroupsResponse)) })},
	{name: "describe groups", n: 300, prepare: grouped(func(w *world, n int) error {
		req := new(msg.DescribeGroupsRequest)
		for i := range n {
			req.Groups = append(req.Groups, groupName(i))
		}
		return w.ask(5, req, new(msg.DescribeGroupsResponse))
	})},
	{name: "delete groups", n: 300, prepare: grouped(func(w *world, n int) error {
		req := new(msg.DeleteGroupsRequest)
		for i := range n {
			req.GroupsNames = append(req.GroupsNames, groupName(i))
		}
		return w.ask(2, req, new(msg.DeleteGroupsResponse))
	})},
	{name: "join of members", n: 100, prepare: members(func(w *world, n int) error {
		_, err := w.balance(n)
		return err
	})},
	{name: "sync of members", n: 100, prepare: stable(func(w *world, leader *msg.JoinGroupResponse) error {
		for i, c := range w.extra {
			req := &msg.SyncGroupRequest{GroupId: "g", GenerationId: leader.GenerationId, MemberId: w.members[i]}
			if w.members[i] == leader.MemberId {
				for _, id := range w.members {
					req.Assignments = append(req.Assignments, msg.SyncGroupRequestAssignment{MemberId: id, Assignment: []byte("a")})
				}
			}
			if err := c.send(3, req); err != nil {
				return err
			}
		}
		for _, c := range w.extra {
			var resp msg.SyncGroupResponse
			if err := c.receive(3, &resp); err != nil {
				return err
			}
			if err := want("sync", resp.ErrorCode, 0); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "heartbeats of members", n: 100, prepare: stable(func(w *world, leader *msg.JoinGroupResponse) error {
		for i, c := range w.extra {
			var resp msg.HeartbeatResponse
			if err := c.ask(3, &msg.HeartbeatRequest{GroupId: "g", GenerationId: leader.GenerationId, MemberId: w.members[i]}, &resp); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "leave of members", n: 100, prepare: stable(func(w *world, _ *msg.JoinGroupResponse) error {
		req := &msg.LeaveGroupRequest{GroupId: "g"}
		for _, id := range w.members {
			req.Members = append(req.Members, msg.LeaveGroupRequestMemberIdentity{MemberId: id})
		}
		return w.ask(4, req, new(msg.LeaveGroupResponse))
	})},
	{name: "describe a group of members", n: 100, prepare: stable(func(w *world, _ *msg.JoinGroupResponse) error {
		return w.ask(5, &msg.DescribeGroupsRequest{Groups: []string{"g"}}, new(msg.DescribeGroupsResponse))
	})},
}
