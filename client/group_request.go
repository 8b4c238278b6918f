package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// protocolType is the consumers' among the kinds of groups.
const protocolType = "consumer"

func (g *group) instance() *string {
	if g.c.o.InstanceID == "" {
		return nil
	}
	return &g.c.o.InstanceID
}

// sendJoin sends a JoinGroup. The broker holds the answer back until all
// members have come, max.poll.interval.ms at most. With MEMBER_ID_REQUIRED the
// answer has the id.
func (g *group) sendJoin(ctx context.Context, r joinRequest) (joinAnswer, error) {
	o := &g.c.o
	req := &msg.JoinGroupRequest{
		GroupId: g.id, MemberId: r.member, ProtocolType: protocolType,
		SessionTimeoutMs: int32(o.SessionTimeout.Milliseconds()), RebalanceTimeoutMs: int32(o.MaxPollInterval.Milliseconds()),
		GroupInstanceId: g.instance(),
	}
	for _, a := range o.Assignors {
		var data []byte
		if a == Sticky && r.owned != nil {
			data = stickyUserData(r.owned, r.ownedIn)
		}
		meta, err := encodeSubscription(r.topics, data, -1, o.Rack)
		if err != nil {
			return joinAnswer{}, err
		}
		req.Protocols = append(req.Protocols, msg.JoinGroupRequestProtocol{Name: string(a), Metadata: meta})
	}
	cn, err := g.c.cl.broker(ctx, r.broker, forGroup)
	if err != nil {
		return joinAnswer{}, err
	}
	v, err := cn.Version(wire.JoinGroup)
	if err != nil {
		return joinAnswer{}, err
	}
	resp := new(msg.JoinGroupResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, o.MaxPollInterval+o.RequestTimeout), cn); err != nil {
		return joinAnswer{}, err
	}
	a := joinAnswer{who: groupIdentity{resp.MemberId, resp.GenerationId}, protocol: text(resp.ProtocolName), leads: resp.Leader == resp.MemberId && !resp.SkipAssignment}
	for _, m := range resp.Members {
		a.members = append(a.members, joinedMember{m.MemberId, text(m.GroupInstanceId), m.Metadata})
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return a, err
	}
	return a, sameProtocol("type", resp.ProtocolType, protocolType)
}

// sameProtocol returns an error if an answer names another protocol.
func sameProtocol(what string, got *string, want string) error {
	if got != nil && *got != want {
		return fmt.Errorf("%w: protocol %s %q in place of %q", kerr.InconsistentGroupProtocol, what, *got, want)
	}
	return nil
}

// sendSync hands in the shares of all members, if this one leads, and takes its
// own.
func (g *group) sendSync(ctx context.Context, r syncRequest) ([]TopicPartition, error) {
	typ := protocolType
	req := &msg.SyncGroupRequest{GroupId: g.id, GenerationId: r.who.generation, MemberId: r.who.member, GroupInstanceId: g.instance(), ProtocolType: &typ, ProtocolName: &r.protocol}
	for _, s := range r.shares {
		req.Assignments = append(req.Assignments, msg.SyncGroupRequestAssignment{MemberId: s.member, Assignment: s.assignment})
	}
	resp := new(msg.SyncGroupResponse)
	if err := g.c.cl.do(ctx, r.broker, forGroup, req, resp); err != nil {
		return nil, err
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return nil, err
	}
	if err := errors.Join(sameProtocol("type", resp.ProtocolType, protocolType), sameProtocol("name", resp.ProtocolName, r.protocol)); err != nil {
		return nil, err
	}
	mine, err := parseAssignment(resp.Assignment)
	if err != nil {
		return nil, fmt.Errorf("assignment: %w", err)
	}
	return mine, nil
}

// patience is how long a heartbeat may take. Other requests may take longer, but
// a coordinator that is silent must be known as dead, and another one be found,
// well within the session.
func (g *group) patience() time.Duration { return min(g.c.o.RequestTimeout, g.c.o.SessionTimeout/3) }

// sendBeat sends a heartbeat.
func (g *group) sendBeat(ctx context.Context, r beatRequest) error {
	cn, err := g.c.cl.broker(ctx, r.broker, forGroup)
	if err != nil {
		return err
	}
	v, err := cn.Version(wire.Heartbeat)
	if err != nil {
		return err
	}
	req := &msg.HeartbeatRequest{GroupId: g.id, GenerationId: r.who.generation, MemberId: r.who.member, GroupInstanceId: g.instance()}
	resp := new(msg.HeartbeatResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, g.patience()), cn); err != nil {
		return err
	}
	return codeOf(resp.ErrorCode)
}

// sendLeave says goodbye.
func (g *group) sendLeave(ctx context.Context, r leaveRequest) error {
	use := forGroup
	if r.aside {
		use = forLeaving
	}
	cn, err := g.c.cl.broker(ctx, r.broker, use)
	if err != nil {
		return err
	}
	v, err := cn.Version(wire.LeaveGroup)
	if err != nil {
		return err
	}
	req := &msg.LeaveGroupRequest{GroupId: g.id}
	if v >= 3 {
		req.Members = []msg.LeaveGroupRequestMemberIdentity{{MemberId: r.who.member, GroupInstanceId: g.instance(), Reason: &r.reason}}
	} else {
		req.MemberId = r.who.member
	}
	resp := new(msg.LeaveGroupResponse)
	if err := lost(cn.DoVersion(ctx, req, resp, v, 0), cn); err != nil {
		return err
	}
	err = codeOf(resp.ErrorCode)
	for _, m := range resp.Members {
		err = errors.Join(err, codeOf(m.ErrorCode))
	}
	return err
}

// share shares out the partitions among all members, and returns how many
// partitions each topic has; topics that do not exist have none.
func (g *group) share(ctx context.Context, a joinAnswer) (shares []memberShare, counts map[string]int32, err error) {
	var members []*groupMember
	counts = make(map[string]int32)
	for _, m := range a.members {
		var s msg.ConsumerProtocolSubscription
		if err := parseVersioned(m.subscription, &s); err != nil {
			return nil, nil, fmt.Errorf("subscription of member %s: %w", m.id, err)
		}
		gm := &groupMember{id: m.id, instance: m.instance, topics: s.Topics, generation: -1}
		if a.protocol == string(Sticky) && len(s.UserData) > 0 {
			gm.owned, gm.generation = parseStickyUserData(s.UserData)
		}
		members = append(members, gm)
		for _, t := range s.Topics {
			counts[t] = 0
		}
	}
	for t := range counts {
		g.c.cl.want(t)
	}
	if err := g.c.cl.fresh(ctx); err != nil {
		return nil, nil, err
	}
	known := g.c.cl.now()
	for t := range counts {
		if info := known.topics[t]; info != nil {
			counts[t] = int32(len(info.partitions))
		}
	}
	var by map[string][]TopicPartition
	switch Assignor(a.protocol) {
	case Range:
		by = assignRange(members, counts)
	case Sticky:
		by = assignSticky(members, counts)
	default:
		return nil, nil, fmt.Errorf("group chose assignor %q: %w", a.protocol, kerr.InconsistentGroupProtocol)
	}
	for _, m := range members {
		b, err := encodeAssignment(by[m.id])
		if err != nil {
			return nil, nil, err
		}
		shares = append(shares, memberShare{m.id, b})
	}
	return shares, counts, nil
}
