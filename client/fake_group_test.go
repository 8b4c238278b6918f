package client

import (
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// fakeGroup is a classic group. A rebalance begins when a member joins or
// leaves, and ends when all members have joined again, or after 20 s without
// those that have not.
type fakeGroup struct {
	f          *fake
	generation int32
	members    []string
	round      *fakeRound
	balancing  bool
	nextMember int
	seen       map[string]time.Time // when members were last heard of
}

// heard notes a sign of life, and lets those go that gave none for a session.
func (g *fakeGroup) heard(member string) {
	if g.balancing || g.round == nil {
		return
	}
	now := time.Now()
	g.seen[member] = now
	for _, m := range g.members {
		if now.Sub(g.seen[m]) > 45*time.Second {
			g.f.drop(g, m)
			return
		}
	}
}

// fakeRound is one rebalance.
type fakeRound struct {
	joined           map[string]*msg.JoinGroupRequest
	members          []string // once done
	generation       int32
	leader, protocol string
	done             chan struct{} // closed when the join phase ends
	shares           map[string][]byte
	synced           chan struct{} // closed when the leader has handed in shares, or the next round begins
}

func (f *fake) group(id string) *fakeGroup {
	g := f.groups[id]
	if g == nil {
		g = &fakeGroup{f: f}
		f.groups[id] = g
	}
	return g
}

func (g *fakeGroup) rebalance() {
	if g.balancing {
		return
	}
	g.balancing = true
	if r := g.round; r != nil && r.shares == nil {
		close(r.synced)
	}
	r := &fakeRound{joined: map[string]*msg.JoinGroupRequest{}, done: make(chan struct{}), synced: make(chan struct{})}
	g.round = r
	if g.f == nil {
		return
	}
	time.AfterFunc(20*time.Second, func() {
		g.f.mu.Lock()
		defer g.f.mu.Unlock()
		if g.round == r && g.balancing {
			g.members = slices.DeleteFunc(g.members, func(m string) bool { return r.joined[m] == nil })
			g.settle()
		}
	})
}

func (g *fakeGroup) settle() {
	r := g.round
	if !g.balancing || len(r.joined) < len(g.members) || len(g.members) == 0 {
		return
	}
	g.balancing = false
	g.generation++
	r.members, r.generation, r.leader = slices.Clone(g.members), g.generation, g.members[0]
	r.protocol = r.joined[r.leader].Protocols[0].Name
	g.seen = map[string]time.Time{}
	for _, m := range g.members {
		g.seen[m] = time.Now()
	}
	close(r.done)
}

func (f *fake) join(r *msg.JoinGroupRequest) msg.Response {
	f.mu.Lock()
	g := f.group(r.GroupId)
	if r.MemberId == "" {
		g.nextMember++
		id := fmt.Sprintf("m%d", g.nextMember)
		f.mu.Unlock()
		return &msg.JoinGroupResponse{ErrorCode: int16(kerr.MemberIdRequired), MemberId: id, GenerationId: -1}
	}
	g.rebalance()
	if !slices.Contains(g.members, r.MemberId) {
		g.members = append(g.members, r.MemberId)
	}
	round := g.round
	round.joined[r.MemberId] = r
	g.settle()
	f.mu.Unlock()
	f.await(round.done)
	f.mu.Lock()
	defer f.mu.Unlock()
	typ, proto := "consumer", round.protocol
	resp := &msg.JoinGroupResponse{GenerationId: round.generation, ProtocolType: &typ, ProtocolName: &proto, Leader: round.leader, MemberId: r.MemberId}
	if r.MemberId == round.leader {
		for _, m := range round.members {
			resp.Members = append(resp.Members, msg.JoinGroupResponseMember{MemberId: m, Metadata: round.joined[m].Protocols[0].Metadata})
		}
	}
	return resp
}

func (f *fake) sync(r *msg.SyncGroupRequest) msg.Response {
	f.mu.Lock()
	g := f.group(r.GroupId)
	if code := g.check(r.MemberId, r.GenerationId); code != kerr.None {
		f.mu.Unlock()
		return &msg.SyncGroupResponse{ErrorCode: int16(code)}
	}
	round := g.round
	if r.MemberId == round.leader && round.shares == nil {
		round.shares = map[string][]byte{}
		for _, a := range r.Assignments {
			round.shares[a.MemberId] = slices.Clone(a.Assignment)
		}
		close(round.synced)
	}
	f.mu.Unlock()
	f.await(round.synced)
	f.mu.Lock()
	defer f.mu.Unlock()
	if round.shares == nil {
		return &msg.SyncGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress)}
	}
	return &msg.SyncGroupResponse{Assignment: round.shares[r.MemberId]}
}

func (g *fakeGroup) check(member string, generation int32) kerr.Code {
	switch {
	case !slices.Contains(g.members, member):
		return kerr.UnknownMemberId
	case generation != g.generation:
		return kerr.IllegalGeneration
	case g.balancing:
		return kerr.RebalanceInProgress
	}
	return kerr.None
}

func (f *fake) remove(group, member string) {
	f.drop(f.group(group), member)
}

func (f *fake) drop(g *fakeGroup, member string) {
	g.members = slices.DeleteFunc(g.members, func(m string) bool { return m == member })
	g.rebalance()
	delete(g.round.joined, member)
	g.settle()
}

func (f *fake) handleMore(id int32, h wire.RequestHeader, req msg.Request) msg.Response {
	switch r := req.(type) {
	case *msg.FetchRequest:
		for waited := int32(0); ; waited += 20 { // a long poll
			resp := f.fetch(id, r).(*msg.FetchResponse)
			news := waited >= r.MaxWaitMs
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
	case *msg.ListOffsetsRequest:
		return f.listOffsets(id, r)
	case *msg.FindCoordinatorRequest:
		resp := &msg.FindCoordinatorResponse{}
		for _, k := range r.CoordinatorKeys {
			resp.Coordinators = append(resp.Coordinators, msg.FindCoordinatorResponseCoordinator{Key: k, NodeId: f.brokers[0], Host: fmt.Sprintf("b%d", f.brokers[0]), Port: 9092})
		}
		return resp
	case *msg.JoinGroupRequest:
		return f.join(r)
	case *msg.SyncGroupRequest:
		return f.sync(r)
	case *msg.HeartbeatRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.group(r.GroupId).heard(r.MemberId)
		return &msg.HeartbeatResponse{ErrorCode: int16(f.group(r.GroupId).check(r.MemberId, r.GenerationId))}
	case *msg.LeaveGroupRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.remove(r.GroupId, r.Members[0].MemberId)
		return &msg.LeaveGroupResponse{}
	case *msg.OffsetCommitRequest:
		return f.commit(r)
	case *msg.OffsetFetchRequest:
		return f.committed(r)
	}
	return f.handleAdmin(id, h, req)
}

func (f *fake) fetch(id int32, r *msg.FetchRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.FetchResponse)
	resp.SetDefaults()
	for _, t := range r.Topics {
		tr := msg.FetchResponseFetchableTopicResponse{Topic: t.Topic}
		for _, d := range t.Partitions {
			pr := msg.FetchResponsePartitionData{}
			pr.SetDefaults()
			pr.PartitionIndex = d.Partition
			p := f.topics[t.Topic][d.Partition]
			pr.HighWatermark, pr.LastStableOffset, pr.LogStartOffset = p.end, p.end, p.start
			switch {
			case p.leader != id:
				pr.ErrorCode = int16(kerr.NotLeaderOrFollower)
			case d.FetchOffset < p.start || d.FetchOffset > p.end:
				pr.ErrorCode = int16(kerr.OffsetOutOfRange)
			default:
				var b []byte
				for _, batch := range p.batches {
					if batch.LastOffset() >= d.FetchOffset && (len(b) == 0 || len(b)+len(batch) <= int(d.PartitionMaxBytes)) {
						b = append(b, batch...)
					}
				}
				pr.Records = prim.Records{B: b}
				if r.IsolationLevel == 1 {
					pr.AbortedTransactions = f.aborted
				}
			}
			tr.Partitions = append(tr.Partitions, pr)
		}
		resp.Responses = append(resp.Responses, tr)
	}
	return resp
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

func (f *fake) commit(r *msg.OffsetCommitRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.OffsetCommitResponse)
	code := kerr.None
	if r.GenerationIdOrMemberEpoch >= 0 {
		code = f.group(r.GroupId).check(r.MemberId, r.GenerationIdOrMemberEpoch)
		if code == kerr.RebalanceInProgress {
			code = kerr.None // a member may commit until it joins again
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

func (f *fake) committed(r *msg.OffsetFetchRequest) msg.Response {
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

// await waits for a step of the group, or the end of the test.
func (f *fake) await(step chan struct{}) {
	select {
	case <-step:
	case <-f.closed:
	}
}
