package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// finalError is an error that trying again does not mend, though its code says
// so: what a caller names does not exist.
type finalError struct{ code error }

func (e finalError) Error() string { return e.code.Error() }

// Is makes errors.Is find the code, which errors.As does not.
func (e finalError) Is(target error) bool { return e.code == target }

func final(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return finalError{kerr.UnknownTopicOrPartition}
	}
	return err
}

// GroupListing is one group of ListGroups.
type GroupListing struct {
	ID           string
	ProtocolType string
	State        string // "" from an old broker
	Type         string // "" from an old broker
	Coordinator  int32
}

// ListGroups returns the groups of all brokers, sorted by id. Where a broker does
// not answer, those of the others are there beside the error.
func (a *Admin) ListGroups(ctx context.Context) (out []GroupListing, err error) {
	err = a.call(ctx, "ListGroups", func(ctx context.Context) error {
		all, err := askBrokers(ctx, a, func(cn versioned) (*msg.ListGroupsResponse, error) {
			resp := new(msg.ListGroupsResponse)
			if err := cn.Do(ctx, new(msg.ListGroupsRequest), resp); err != nil {
				return nil, err
			}
			return resp, codeOf(resp.ErrorCode)
		})
		out = nil
		for _, b := range all {
			for _, g := range b.answer.Groups {
				out = append(out, GroupListing{g.GroupId, g.ProtocolType, g.GroupState, g.GroupType, b.broker})
			}
		}
		return err
	})
	slices.SortFunc(out, func(x, y GroupListing) int { return strings.Compare(x.ID, y.ID) })
	return out, err
}

// GroupInfo describes a classic group.
type GroupInfo struct {
	ID           string
	State        string
	ProtocolType string
	Protocol     string // the assignor of a consumer group
	Coordinator  int32
	Members      []GroupMember
}

// GroupMember is one member of a group.
type GroupMember struct {
	ID         string
	InstanceID string
	ClientID   string
	Host       string
	Assigned   []TopicPartition // of a consumer group
}

// DescribeGroup returns one group. A group that does not exist is
// kerr.GroupIdNotFound, or of state Dead from an older broker.
func (a *Admin) DescribeGroup(ctx context.Context, group string) (out GroupInfo, err error) {
	err = a.onGroup(ctx, group, "DescribeGroups", func(ctx context.Context, id int32) error {
		resp := new(msg.DescribeGroupsResponse)
		if err := a.cl.do(ctx, id, forGroup, &msg.DescribeGroupsRequest{Groups: []string{group}}, resp); err != nil {
			return err
		}
		if len(resp.Groups) != 1 {
			return fmt.Errorf("DescribeGroups: %d answers to one question", len(resp.Groups))
		}
		g := &resp.Groups[0]
		if err := because(g.ErrorCode, g.ErrorMessage); err != nil {
			return err
		}
		out = GroupInfo{ID: g.GroupId, State: g.GroupState, ProtocolType: g.ProtocolType, Protocol: g.ProtocolData, Coordinator: id}
		for _, m := range g.Members {
			gm := GroupMember{ID: m.MemberId, InstanceID: text(m.GroupInstanceId), ClientID: m.ClientId, Host: m.ClientHost}
			if g.ProtocolType == "consumer" {
				if gm.Assigned, err = parseAssignment(m.MemberAssignment); err != nil {
					return fmt.Errorf("assignment of member %s: %w", m.MemberId, err)
				}
			}
			out.Members = append(out.Members, gm)
		}
		return nil
	})
	return out, err
}

func (a *Admin) onGroup(ctx context.Context, group, what string, f func(ctx context.Context, coordinator int32) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.APITimeout)
	defer cancel()
	return a.cl.onCoordinator(ctx, group, what, func(id int32) error { return f(ctx, id) })
}

// DeleteGroup deletes a group without members, and its offsets.
func (a *Admin) DeleteGroup(ctx context.Context, group string) error {
	return a.onGroup(ctx, group, "DeleteGroups", func(ctx context.Context, id int32) error {
		resp := new(msg.DeleteGroupsResponse)
		if err := a.cl.do(ctx, id, forGroup, &msg.DeleteGroupsRequest{GroupsNames: []string{group}}, resp); err != nil {
			return err
		}
		for _, r := range resp.Results {
			if err := codeOf(r.ErrorCode); err != nil {
				return fmt.Errorf("delete group %s: %w", r.GroupId, err)
			}
		}
		return nil
	})
}

// GroupOffsets returns the committed offsets of a group; without partitions
// named, all of them.
func (a *Admin) GroupOffsets(ctx context.Context, group string, tps ...TopicPartition) (out map[TopicPartition]Offset, err error) {
	err = a.onGroup(ctx, group, "OffsetFetch", func(ctx context.Context, id int32) error {
		out, err = a.cl.fetchOffsets(ctx, id, group, tps, false)
		return err
	})
	return out, err
}

// SetGroupOffsets commits offsets for a group that has no members.
func (a *Admin) SetGroupOffsets(ctx context.Context, group string, offsets map[TopicPartition]Offset) error {
	return a.onGroup(ctx, group, "OffsetCommit", func(ctx context.Context, id int32) error {
		return a.cl.setOffsets(ctx, id, group, offsets)
	})
}

// DeleteGroupOffsets forgets the committed offsets of partitions whose topics
// the group does not consume.
func (a *Admin) DeleteGroupOffsets(ctx context.Context, group string, tps ...TopicPartition) error {
	return a.onGroup(ctx, group, "OffsetDelete", func(ctx context.Context, id int32) error {
		req, resp := &msg.OffsetDeleteRequest{GroupId: group}, new(msg.OffsetDeleteResponse)
		for _, t := range byTopic(tps) {
			rt := msg.OffsetDeleteRequestTopic{Name: t.topic}
			for _, i := range t.partitions {
				rt.Partitions = append(rt.Partitions, msg.OffsetDeleteRequestPartition{PartitionIndex: i})
			}
			req.Topics = append(req.Topics, rt)
		}
		if err := a.cl.do(ctx, id, forGroup, req, resp); err != nil {
			return err
		}
		if err := codeOf(resp.ErrorCode); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := codeOf(p.ErrorCode); err != nil {
					return fmt.Errorf("delete offset of %s-%d: %w", t.Name, p.PartitionIndex, final(err))
				}
			}
		}
		return nil
	})
}
