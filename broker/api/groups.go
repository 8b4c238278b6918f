package api

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Groups coordinates consumer groups.
type Groups = *group.Service

// groupTopic is what __consumer_offsets looks like.
func (h *Handlers) groupTopic() control.TopicSpec {
	text := func(s string) *string { return &s }
	live := int16(max(len(h.Controller.Image().Live()), 1))
	return control.TopicSpec{Name: meta.GroupTopic, Partitions: int32(h.Broker.OffsetsTopicPartitions),
		// A cluster that is smaller than the factor that Kafka defaults to works all the same.
		ReplicationFactor: min(int16(h.Broker.OffsetsTopicReplicationFactor), live),
		Configs: map[string]*string{"cleanup.policy": text("compact"), "compression.type": text("producer"),
			"segment.bytes": text(itoa(h.Broker.OffsetsTopicSegmentBytes))}}
}

// ensureGroups creates __consumer_offsets if it is not there. It returns at the
// latest when the topic is ready.
func (h *Handlers) ensureGroups(ctx context.Context) {
	if h.Controller.Image().Topic(meta.GroupTopic) == nil {
		h.create(ctx, []control.TopicSpec{h.groupTopic()})
	}
}

// Types of coordinators.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
	shareCoordinator       = 2
)

// findCoordinator answers FindCoordinator (key 10, v0-v6).
func (h *Handlers) findCoordinator(c *Call, req *msg.FindCoordinatorRequest) (*msg.FindCoordinatorResponse, error) {
	resp := new(msg.FindCoordinatorResponse)
	resp.SetDefaults()
	keys := req.CoordinatorKeys
	if c.Version() < 4 {
		keys = []string{req.Key}
	}
	for _, key := range keys {
		node, host, port, err := h.coordinator(c, req.KeyType, key)
		code := h.code(err)
		message := text(err)
		if err == nil && c.Version() < 4 {
			none := "NONE" // what Kafka says where nothing went wrong
			message = &none
		} else if err == nil {
			message = new(string)
		}
		if c.Version() < 4 {
			resp.ErrorCode, resp.ErrorMessage, resp.NodeId, resp.Host, resp.Port = int16(code), message, node, host, port
			break
		}
		resp.Coordinators = append(resp.Coordinators, msg.FindCoordinatorResponseCoordinator{Key: key, NodeId: node, Host: host, Port: port, ErrorCode: int16(code), ErrorMessage: message})
	}
	return resp, nil
}

func (h *Handlers) coordinator(c *Call, kind int8, key string) (node int32, host string, port int32, err error) {
	none := int32(-1)
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		h.noCoordinator(c, "transaction")
		return none, "", none, kerr.Refuse(kerr.InvalidRequest, "this broker does not coordinate transactions")
	case shareCoordinator:
		h.noCoordinator(c, "share")
		return none, "", none, kerr.Refuse(kerr.InvalidRequest, "this broker does not coordinate share groups")
	default:
		return none, "", none, kerr.InvalidRequest
	}
	h.ensureGroups(c.Context)
	image := h.Controller.Image()
	p := image.Partition(meta.GroupTopic, h.Groups.Partition(key))
	if p == nil || p.Leader == meta.NoLeader {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	b := image.Broker(p.Leader)
	if b == nil {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	host, port, ok := h.endpoint(c.Session, b)
	if !ok {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	return b.ID, host, port, nil
}

// noCoordinator logs that a client asked for a coordinator which this broker does
// not have: it may try for ever, and its user sees no more than a timeout.
func (h *Handlers) noCoordinator(c *Call, kind string) {
	if skipped, ok := h.repeats.Allow(kind + " " + c.Header.ClientID); ok {
		h.Logger.Warn("refused to coordinate: not supported yet", zap.String("kind", kind), zap.String("client_id", c.Header.ClientID),
			zap.String("peer", c.Session.RemoteHost), zap.String("software", c.Session.SoftwareName), zap.String("software_version", c.Session.SoftwareVersion),
			zap.Int("not_logged_before", skipped))
	}
}

// groupTimeout bounds a group request that does not wait for other members.
func (h *Handlers) groupContext(c *Call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context, max(h.Broker.OffsetsCommitTimeout, time.Second))
}

// run runs a command on the shard of a group.
func (h *Handlers) run(c *Call, groupID string, f func(m *group.Machine, now time.Time) coordinator.Decision) error {
	sh, err := h.Groups.Find(groupID)
	if err != nil {
		return err
	}
	ctx, cancel := h.groupContext(c)
	defer cancel()
	return sh.Run(ctx, f)
}

// joinGroup answers JoinGroup (key 11, v0-v9), once the rebalance has come
// together.
func (h *Handlers) joinGroup(c *Call, req *msg.JoinGroupRequest) (*msg.JoinGroupResponse, error) {
	refuse := func(err error) *msg.JoinGroupResponse {
		r := &msg.JoinGroupResponse{ErrorCode: int16(group.Code(err)), GenerationId: -1, MemberId: req.MemberId}
		if c.Version() < 7 {
			r.ProtocolName = new(string)
		}
		return r
	}
	if req.GroupId == "" {
		return refuse(kerr.InvalidGroupId), nil
	}
	sh, err := h.Groups.Find(req.GroupId)
	if err != nil {
		return refuse(err), nil
	}
	answer := make(answer[msg.JoinGroupResponse], 1)
	client := group.Client{ID: c.Header.ClientID, Host: "/" + c.Session.RemoteHost}
	sh.Call(func(m *group.Machine, now time.Time) coordinator.Decision {
		return m.Join(now, client, c.Version(), req, answer.give)
	}, func(err error) { answer.give(refuse(err)) })
	resp, err := await(c, answer)
	if resp == nil {
		resp = refuse(kerr.NotCoordinator) // the broker stops
	}
	if c.Version() < 7 && resp.ProtocolName == nil {
		resp.ProtocolName = new(string)
	}
	return resp, err
}

// answer is where one answer is waited for. A second one, which a coordinator
// that panics may give, is dropped.
type answer[T any] chan *T

func (a answer[T]) give(r *T) {
	select {
	case a <- r:
	default:
	}
}

// await waits for an answer without holding the call's slot; nil if the call
// ends first.
func await[T any](c *Call, answer answer[T]) (r *T, err error) {
	select {
	case r = <-answer:
		return r, nil
	default:
	}
	err = c.Park(func() {
		select {
		case r = <-answer:
		case <-c.Context.Done():
		}
	})
	return r, err
}

// syncGroup answers SyncGroup (key 14, v0-v5), once the leader has sent the
// assignments.
func (h *Handlers) syncGroup(c *Call, req *msg.SyncGroupRequest) (*msg.SyncGroupResponse, error) {
	refuse := func(err error) *msg.SyncGroupResponse {
		return &msg.SyncGroupResponse{ErrorCode: int16(group.Code(err))}
	}
	if req.GroupId == "" {
		return refuse(kerr.InvalidGroupId), nil
	}
	if c.Version() >= 5 && (req.ProtocolType == nil || req.ProtocolName == nil) {
		return refuse(kerr.InconsistentGroupProtocol), nil // KIP-559
	}
	sh, err := h.Groups.Find(req.GroupId)
	if err != nil {
		return refuse(err), nil
	}
	answer := make(answer[msg.SyncGroupResponse], 1)
	sh.Call(func(m *group.Machine, now time.Time) coordinator.Decision {
		return m.Sync(now, c.Version(), req, answer.give)
	}, func(err error) { answer.give(refuse(err)) })
	resp, err := await(c, answer)
	if resp == nil {
		resp = refuse(kerr.NotCoordinator)
	}
	return resp, err
}

// heartbeat answers Heartbeat (key 12, v0-v4).
func (h *Handlers) heartbeat(c *Call, req *msg.HeartbeatRequest) (*msg.HeartbeatResponse, error) {
	var code kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, now time.Time) coordinator.Decision {
		code = m.Heartbeat(now, req)
		return coordinator.Decision{}
	})
	if err != nil {
		if code = h.code(err); code == kerr.CoordinatorLoadInProgress {
			code = kerr.None // the member is fine: it is the coordinator that is not ready
		}
	}
	if req.GroupId == "" {
		code = kerr.InvalidGroupId
	}
	return &msg.HeartbeatResponse{ErrorCode: int16(code)}, nil
}

// leaveGroup answers LeaveGroup (key 13, v0-v5).
func (h *Handlers) leaveGroup(c *Call, req *msg.LeaveGroupRequest) (*msg.LeaveGroupResponse, error) {
	resp := new(msg.LeaveGroupResponse)
	members := req.Members
	if c.Version() <= 2 {
		members = []msg.LeaveGroupRequestMemberIdentity{{MemberId: req.MemberId}}
	}
	var codes []kerr.Code
	var all kerr.Code
	err := h.run(c, req.GroupId, func(m *group.Machine, now time.Time) coordinator.Decision {
		var d coordinator.Decision
		d, codes, all = m.Leave(now, req.GroupId, members)
		return d
	})
	if err != nil {
		all = h.code(err)
	}
	if req.GroupId == "" {
		all = kerr.InvalidGroupId
	}
	resp.ErrorCode = int16(all)
	if all != kerr.None {
		return resp, nil
	}
	if c.Version() <= 2 {
		resp.ErrorCode = int16(codes[0])
		return resp, nil
	}
	for i, m := range members {
		resp.Members = append(resp.Members, msg.LeaveGroupResponseMemberResponse{MemberId: m.MemberId, GroupInstanceId: m.GroupInstanceId, ErrorCode: int16(codes[i])})
	}
	return resp, nil
}

// describeGroups answers DescribeGroups (key 15, v0-v6).
func (h *Handlers) describeGroups(c *Call, req *msg.DescribeGroupsRequest) (*msg.DescribeGroupsResponse, error) {
	resp := new(msg.DescribeGroupsResponse)
	for _, id := range req.Groups {
		out := msg.DescribeGroupsResponseDescribedGroup{}
		out.SetDefaults()
		var code kerr.Code
		err := h.run(c, id, func(m *group.Machine, _ time.Time) coordinator.Decision {
			out, code = m.Describe(id)
			return coordinator.Decision{}
		})
		out.GroupId = id
		switch {
		case err != nil:
			out.ErrorCode = int16(h.code(err))
		case code == kerr.GroupIdNotFound && c.Version() >= 6:
			out.ErrorCode = int16(code)
			out.ErrorMessage = shortened("Group " + id + " not found.")
		}
		if err == nil && out.ErrorMessage == nil {
			out.AuthorizedOperations = operations(req.IncludeAuthorizedOperations, groupOperations)
		}
		resp.Groups = append(resp.Groups, out)
	}
	return resp, nil
}

// listGroups answers ListGroups (key 16, v0-v5).
func (h *Handlers) listGroups(c *Call, req *msg.ListGroupsRequest) (*msg.ListGroupsResponse, error) {
	resp := new(msg.ListGroupsResponse)
	const classic = "classic"
	types := req.TypesFilter
	if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return fold(t) == classic }) {
		return resp, nil
	}
	states := make(map[string]bool)
	for _, s := range req.StatesFilter {
		states[fold(s)] = true
	}
	for _, sh := range h.Groups.All() {
		var list []group.Listed
		ctx, cancel := h.groupContext(c)
		err := sh.Run(ctx, func(m *group.Machine, _ time.Time) coordinator.Decision {
			list = m.List()
			return coordinator.Decision{}
		})
		cancel()
		if err != nil {
			resp.ErrorCode = int16(h.code(err))
			continue
		}
		for _, g := range list {
			if len(states) == 0 || states[fold(string(g.State))] {
				resp.Groups = append(resp.Groups, msg.ListGroupsResponseListedGroup{GroupId: g.ID, ProtocolType: g.ProtocolType, GroupState: string(g.State), GroupType: classic})
			}
		}
	}
	return resp, nil
}

// deleteGroups answers DeleteGroups (key 42, v0-v2).
func (h *Handlers) deleteGroups(c *Call, req *msg.DeleteGroupsRequest) (*msg.DeleteGroupsResponse, error) {
	resp := new(msg.DeleteGroupsResponse)
	answered := make(map[string]bool)
	for _, id := range req.GroupsNames {
		if answered[id] {
			continue
		}
		answered[id] = true
		var code kerr.Code
		err := h.run(c, id, func(m *group.Machine, _ time.Time) coordinator.Decision {
			var d coordinator.Decision
			d, code = m.Delete(id)
			return d
		})
		if err != nil {
			code = h.code(err)
		}
		resp.Results = append(resp.Results, msg.DeleteGroupsResponseDeletableGroupResult{GroupId: id, ErrorCode: int16(code)})
	}
	return resp, nil
}
