package client

import (
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// fakeState is a state of a classic group, with Kafka's names.
type fakeState string

const (
	fakeEmpty      fakeState = "Empty" // the zero value counts as it
	fakePreparing  fakeState = "PreparingRebalance"
	fakeCompleting fakeState = "CompletingRebalance"
	fakeStable     fakeState = "Stable"
)

// fakeGroup is a classic group. A rebalance begins when a member joins or
// leaves, and ends when all members have joined again, or without those that
// have not when the longest rebalance timeout is over. A member whose session
// ends without a sign of life is thrown out, in any state but while the group
// holds its JoinGroup or SyncGroup back. Without members the group is Empty, and
// only then takes commits from outside.
type fakeGroup struct {
	f          *fake
	at         int32 // the broker that coordinates it; 0 for the first one
	state      fakeState
	generation int32
	members    []*fakeMember
	pending    map[string]bool // ids that were given out (KIP-394) and have not joined
	round      *fakeRound
	nextMember int
	expired    int // members that were thrown out
}

// fakeMember is a member as the group knows it.
type fakeMember struct {
	id, instance       string
	session, rebalance time.Duration
	heard              time.Time
	joined             *msg.JoinGroupRequest // in this rebalance
	held               int                   // its requests that are held back
}

// fakeRound is one rebalance.
type fakeRound struct {
	joined           map[string]*msg.JoinGroupRequest
	generation       int32
	members          []string
	leader, protocol string
	done             chan struct{} // closed when the join phase ends
	shares           map[string][]byte
	synced           chan struct{} // closed when the leader has handed in shares, or the round is over
	moved            bool          // another broker coordinates the group since
}

func (f *fake) group(id string) *fakeGroup {
	g := f.groups[id]
	if g == nil {
		g = &fakeGroup{f: f}
		f.groups[id] = g
	}
	return g
}

// coordinates reports whether a broker coordinates the group.
func (g *fakeGroup) coordinates(id int32) bool {
	return g.at == id || g.at == 0 && id == g.f.brokers[0]
}

func (g *fakeGroup) member(id string) *fakeMember {
	for _, m := range g.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// heard notes a sign of life, and looks again when the session would be over.
func (g *fakeGroup) heard(m *fakeMember) {
	m.heard = time.Now()
	time.AfterFunc(m.session, func() {
		g.f.mu.Lock()
		defer g.f.mu.Unlock()
		if m.held == 0 && time.Since(m.heard) >= m.session && slices.Contains(g.members, m) {
			g.expired++
			g.drop(m)
		}
	})
}

// rebalance begins one unless the group waits for joins already.
func (g *fakeGroup) rebalance() {
	if g.state == fakePreparing {
		return
	}
	if r := g.round; r != nil && r.shares == nil && !r.moved {
		close(r.synced)
	}
	r := &fakeRound{done: make(chan struct{}), synced: make(chan struct{})}
	g.round, g.state = r, fakePreparing
	longest := time.Duration(0)
	for _, m := range g.members {
		m.joined = nil
		longest = max(longest, m.rebalance)
	}
	time.AfterFunc(longest, func() {
		g.f.mu.Lock()
		defer g.f.mu.Unlock()
		if g.round == r && g.state == fakePreparing {
			g.members = slices.DeleteFunc(g.members, func(m *fakeMember) bool { return m.joined == nil })
			g.settle()
		}
	})
}

// settle ends the join phase if nobody is missing.
func (g *fakeGroup) settle() {
	r := g.round
	if g.state != fakePreparing || slices.ContainsFunc(g.members, func(m *fakeMember) bool { return m.joined == nil }) {
		return
	}
	g.generation++
	if len(g.members) == 0 {
		g.state = fakeEmpty
		return
	}
	r.joined, r.generation, r.leader = map[string]*msg.JoinGroupRequest{}, g.generation, g.members[0].id
	for _, m := range g.members {
		r.joined[m.id] = m.joined
		r.members = append(r.members, m.id)
		g.heard(m)
	}
	r.protocol = r.joined[r.leader].Protocols[0].Name
	g.state = fakeCompleting
	close(r.done)
}

// hold waits for a step of the group on behalf of a member. The caller holds mu.
func (g *fakeGroup) hold(m *fakeMember, step chan struct{}) {
	m.held++
	g.f.mu.Unlock()
	select {
	case <-step:
	case <-g.f.closed:
	}
	g.f.mu.Lock()
	m.held--
	g.heard(m)
}

func (f *fake) join(r *msg.JoinGroupRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.group(r.GroupId)
	refuse := func(code kerr.Code, id string) msg.Response {
		return &msg.JoinGroupResponse{ErrorCode: int16(code), MemberId: id, GenerationId: -1}
	}
	instance := text(r.GroupInstanceId)
	m := g.member(r.MemberId)
	switch {
	case instance != "":
		i := slices.IndexFunc(g.members, func(m *fakeMember) bool { return m.instance == instance })
		switch {
		case r.MemberId != "" && i >= 0 && g.members[i].id != r.MemberId:
			return refuse(kerr.FencedInstanceId, r.MemberId)
		case r.MemberId != "" && i < 0:
			return refuse(kerr.UnknownMemberId, r.MemberId)
		case r.MemberId == "":
			g.nextMember++
			m = &fakeMember{id: fmt.Sprintf("%s-%d", instance, g.nextMember), instance: instance}
			if i >= 0 {
				g.members = slices.Delete(g.members, i, i+1)
			}
			g.members = append(g.members, m)
		}
	case r.MemberId == "":
		g.nextMember++
		id := fmt.Sprintf("m%d", g.nextMember)
		if g.pending == nil {
			g.pending = map[string]bool{}
		}
		g.pending[id] = true
		return refuse(kerr.MemberIdRequired, id)
	case m == nil && !g.pending[r.MemberId]:
		return refuse(kerr.UnknownMemberId, r.MemberId)
	case m == nil:
		delete(g.pending, r.MemberId)
		m = &fakeMember{id: r.MemberId}
		g.members = append(g.members, m)
	}
	m.session, m.rebalance = time.Duration(r.SessionTimeoutMs)*time.Millisecond, time.Duration(r.RebalanceTimeoutMs)*time.Millisecond
	g.rebalance()
	round := g.round
	m.joined = r
	g.settle()
	g.hold(m, round.done)
	if round.moved {
		return refuse(kerr.NotCoordinator, m.id)
	}
	if round.joined[m.id] == nil {
		return refuse(kerr.UnknownMemberId, m.id)
	}
	typ, proto := "consumer", round.protocol
	resp := &msg.JoinGroupResponse{GenerationId: round.generation, ProtocolType: &typ, ProtocolName: &proto, Leader: round.leader, MemberId: m.id}
	if m.id == round.leader {
		for _, id := range round.members {
			j := round.joined[id]
			resp.Members = append(resp.Members, msg.JoinGroupResponseMember{MemberId: id, GroupInstanceId: j.GroupInstanceId, Metadata: j.Protocols[0].Metadata})
		}
	}
	return resp
}

func (f *fake) sync(r *msg.SyncGroupRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.group(r.GroupId)
	if code := g.check(r.MemberId, text(r.GroupInstanceId), r.GenerationId); code != kerr.None {
		return &msg.SyncGroupResponse{ErrorCode: int16(code)}
	}
	if g.state == fakePreparing {
		return &msg.SyncGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress)}
	}
	round := g.round
	if r.MemberId == round.leader && round.shares == nil {
		round.shares = map[string][]byte{}
		for _, a := range r.Assignments {
			round.shares[a.MemberId] = slices.Clone(a.Assignment)
		}
		g.state = fakeStable
		close(round.synced)
	}
	g.hold(g.member(r.MemberId), round.synced)
	switch {
	case round.moved:
		return &msg.SyncGroupResponse{ErrorCode: int16(kerr.NotCoordinator)}
	case round.shares == nil:
		return &msg.SyncGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress)}
	}
	return &msg.SyncGroupResponse{Assignment: round.shares[r.MemberId]}
}

// check returns the error of a request with that identity.
func (g *fakeGroup) check(member, instance string, generation int32) kerr.Code {
	m := g.member(member)
	switch {
	case instance != "" && m == nil && slices.ContainsFunc(g.members, func(m *fakeMember) bool { return m.instance == instance }):
		return kerr.FencedInstanceId
	case m == nil:
		return kerr.UnknownMemberId
	case generation != g.generation:
		return kerr.IllegalGeneration
	}
	return kerr.None
}

func (f *fake) heartbeat(r *msg.HeartbeatRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.group(r.GroupId)
	code := g.check(r.MemberId, text(r.GroupInstanceId), r.GenerationId)
	if code == kerr.None {
		g.heard(g.member(r.MemberId))
		if g.state == fakePreparing {
			code = kerr.RebalanceInProgress
		}
	}
	return &msg.HeartbeatResponse{ErrorCode: int16(code)}
}

// remove is drop by name.
func (f *fake) remove(group, member string) {
	g := f.group(group)
	if m := g.member(member); m != nil {
		g.drop(m)
	}
}

// drop takes a member out, and has the others rebalance.
func (g *fakeGroup) drop(m *fakeMember) {
	g.members = slices.DeleteFunc(g.members, func(x *fakeMember) bool { return x == m })
	if g.state != fakePreparing {
		g.rebalance()
	}
	g.settle()
}

// moveGroup makes another broker coordinate a group. It loads what was written
// with the last SyncGroup, with sessions that begin anew; requests that were
// held back are refused.
func (f *fake) moveGroup(id string, broker int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.group(id)
	g.at = broker
	if g.state == fakePreparing || g.state == fakeCompleting {
		r := g.round
		r.moved = true
		if g.state == fakePreparing {
			close(r.done)
		}
		close(r.synced)
		g.members, g.state = nil, fakeEmpty // nothing of this round is written
		g.generation = 0
	}
	for _, m := range g.members {
		g.heard(m)
	}
}

func (f *fake) handleMore(id int32, h wire.RequestHeader, req msg.Request) msg.Response {
	switch r := req.(type) {
	case *msg.FetchRequest:
		for waited := int32(0); ; waited += 20 { // a long poll
			resp := f.fetch(id, r).(*msg.FetchResponse)
			news := waited >= r.MaxWaitMs || r.SessionEpoch < 0 || resp.ErrorCode != 0
			for _, t := range resp.Responses {
				for _, p := range t.Partitions {
					news = news || p.ErrorCode != 0 || p.Records.Len() > 0
				}
			}
			if news {
				return resp
			}
			time.Sleep(20 * time.Millisecond)
		}
	case *msg.OffsetForLeaderEpochRequest:
		return f.ends(id, r)
	case *msg.ListOffsetsRequest:
		return f.listOffsets(id, r)
	case *msg.FindCoordinatorRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		resp := &msg.FindCoordinatorResponse{}
		for _, k := range r.CoordinatorKeys {
			at := f.group(k).at
			if at == 0 {
				at = f.brokers[0]
			}
			resp.Coordinators = append(resp.Coordinators, msg.FindCoordinatorResponseCoordinator{Key: k, NodeId: at, Host: fmt.Sprintf("b%d", at), Port: 9092})
		}
		return resp
	}
	if resp := f.handleGroup(id, req); resp != nil {
		return resp
	}
	return f.handleAdmin(id, h, req)
}

// handleGroup answers what only the coordinator of a group does.
func (f *fake) handleGroup(id int32, req msg.Request) msg.Response {
	elsewhere := func(group string) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return !f.group(group).coordinates(id)
	}
	const code = int16(kerr.NotCoordinator)
	switch r := req.(type) {
	case *msg.JoinGroupRequest:
		if elsewhere(r.GroupId) {
			return &msg.JoinGroupResponse{ErrorCode: code, MemberId: r.MemberId, GenerationId: -1}
		}
		return f.join(r)
	case *msg.SyncGroupRequest:
		if elsewhere(r.GroupId) {
			return &msg.SyncGroupResponse{ErrorCode: code}
		}
		return f.sync(r)
	case *msg.HeartbeatRequest:
		if elsewhere(r.GroupId) {
			return &msg.HeartbeatResponse{ErrorCode: code}
		}
		return f.heartbeat(r)
	case *msg.LeaveGroupRequest:
		if elsewhere(r.GroupId) {
			return &msg.LeaveGroupResponse{ErrorCode: code}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.remove(r.GroupId, r.Members[0].MemberId)
		return &msg.LeaveGroupResponse{}
	case *msg.OffsetCommitRequest:
		resp := f.commit(r, elsewhere(r.GroupId))
		return resp
	case *msg.OffsetFetchRequest:
		resp := f.committed(r)
		for i := range resp.Groups {
			if elsewhere(resp.Groups[i].GroupId) {
				resp.Groups[i] = msg.OffsetFetchResponseGroup{GroupId: resp.Groups[i].GroupId, ErrorCode: code}
			}
		}
		return resp
	}
	return nil
}

func (f *fake) listOffsets(id int32, r *msg.ListOffsetsRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.ListOffsetsResponse)
	for _, t := range r.Topics {
		tr := msg.ListOffsetsResponseListOffsetsTopicResponse{Name: t.Name}
		for _, d := range t.Partitions {
			pr := msg.ListOffsetsResponseListOffsetsPartitionResponse{PartitionIndex: d.PartitionIndex, Offset: -1, Timestamp: -1, LeaderEpoch: -1}
			p := f.topics[t.Name][d.PartitionIndex]
			switch {
			case p.leader != id:
				pr.ErrorCode = int16(kerr.NotLeaderOrFollower)
			case d.Timestamp == -1:
				pr.Offset = p.end
			case d.Timestamp == -2:
				pr.Offset = p.start
			default:
				for _, b := range p.batches {
					it := b.Iterate(0)
					for it.Next() {
						if it.Timestamp() >= d.Timestamp && pr.Offset < 0 {
							pr.Offset, pr.Timestamp = it.Offset(), it.Timestamp()
						}
					}
					it.Close()
				}
			}
			tr.Partitions = append(tr.Partitions, pr)
		}
		resp.Topics = append(resp.Topics, tr)
	}
	return resp
}

func (f *fake) commit(r *msg.OffsetCommitRequest, elsewhere bool) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.OffsetCommitResponse)
	g, code := f.group(r.GroupId), kerr.None
	switch {
	case elsewhere:
		code = kerr.NotCoordinator
	case r.GenerationIdOrMemberEpoch < 0 && len(g.members) == 0: // from outside, to an Empty group
	default:
		code = g.check(r.MemberId, text(r.GroupInstanceId), r.GenerationIdOrMemberEpoch)
		if code == kerr.None && g.state == fakeCompleting { // a member may commit until it joins again
			code = kerr.RebalanceInProgress
		}
		if code == kerr.None {
			g.heard(g.member(r.MemberId))
		}
	}
	for _, t := range r.Topics {
		tr := msg.OffsetCommitResponseTopic{Name: t.Name}
		for _, p := range t.Partitions {
			if code == kerr.None {
				if f.commits[r.GroupId] == nil {
					f.commits[r.GroupId] = map[string]map[int32]int64{}
				}
				if f.commits[r.GroupId][t.Name] == nil {
					f.commits[r.GroupId][t.Name] = map[int32]int64{}
				}
				f.commits[r.GroupId][t.Name][p.PartitionIndex] = p.CommittedOffset
			}
			tr.Partitions = append(tr.Partitions, msg.OffsetCommitResponsePartition{PartitionIndex: p.PartitionIndex, ErrorCode: int16(code)})
		}
		resp.Topics = append(resp.Topics, tr)
	}
	return resp
}

func (f *fake) committed(r *msg.OffsetFetchRequest) *msg.OffsetFetchResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.OffsetFetchResponse)
	for _, g := range r.Groups {
		gr := msg.OffsetFetchResponseGroup{GroupId: g.GroupId}
		if g.Topics == nil {
			for name, parts := range f.commits[g.GroupId] {
				tr := msg.OffsetFetchResponseTopics{Name: name}
				for i, at := range parts {
					tr.Partitions = append(tr.Partitions, msg.OffsetFetchResponsePartitions{PartitionIndex: i, CommittedOffset: at})
				}
				gr.Topics = append(gr.Topics, tr)
			}
		}
		for _, t := range g.Topics {
			tr := msg.OffsetFetchResponseTopics{Name: t.Name}
			for _, i := range t.PartitionIndexes {
				at, ok := f.commits[g.GroupId][t.Name][i]
				if !ok {
					at = -1
				}
				tr.Partitions = append(tr.Partitions, msg.OffsetFetchResponsePartitions{PartitionIndex: i, CommittedOffset: at})
			}
			gr.Topics = append(gr.Topics, tr)
		}
		resp.Groups = append(resp.Groups, gr)
	}
	return resp
}
