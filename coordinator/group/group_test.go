package group_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// bench runs a machine as a shard does, with a clock of its own.
type bench struct {
	t   testing.TB
	m   *group.Machine
	now time.Time
	log []coordinator.Record
	ids int
	// fail makes the next append fail.
	fail error
}

// origin is that of a record that counts at once.
var origin = coordinator.Origin{Producer: record.NoProducer}

func (b *bench) config() group.Config {
	return group.Config{InitialDelay: 3 * time.Second, MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, MaxSize: 5, MetadataMax: 10,
		Retention: 24 * time.Hour, RetentionChecks: 10 * time.Minute, NewID: func() string {
			b.ids++
			return fmt.Sprint("id", b.ids)
		}}
}

func newBench(t testing.TB) *bench {
	b := &bench{t: t, now: time.UnixMilli(1_700_000_000_000)}
	b.m = group.NewMachine(b.config())
	b.do(b.m.Loaded(b.now))
	return b
}

// do carries out a decision.
func (b *bench) do(d coordinator.Decision) {
	b.t.Helper()
	if err := b.fail; err != nil && len(d.Records) > 0 {
		b.fail = nil
		if d.Then != nil {
			d.Then(err)
		}
		return
	}
	for _, r := range d.Records {
		if err := b.m.Replay(r, origin); err != nil {
			b.t.Fatalf("replay: %v", err)
		}
		b.log = append(b.log, r)
	}
	if d.Then != nil {
		d.Then(nil)
	}
}

// advance lets time pass, and everything happen that is due.
func (b *bench) advance(d time.Duration) {
	b.t.Helper()
	end := b.now.Add(d)
	for range 10_000 {
		next := b.m.Next()
		if next.IsZero() || next.After(end) {
			b.now = end
			return
		}
		if next.After(b.now) {
			b.now = next
		}
		b.do(b.m.Tick(b.now))
	}
	b.t.Fatal("the machine does not come to rest")
}

// reload returns a bench with the machine that the log leads to.
func (b *bench) reload() *bench {
	b.t.Helper()
	c := &bench{t: b.t, now: b.now, log: slices.Clone(b.log), ids: b.ids}
	c.m = group.NewMachine(c.config())
	for _, r := range b.log {
		if err := c.m.Replay(r, origin); err != nil {
			b.t.Fatal(err)
		}
	}
	c.do(c.m.Loaded(c.now))
	return c
}

func joinRequest(id string, instance *string) *msg.JoinGroupRequest {
	return &msg.JoinGroupRequest{GroupId: "g", MemberId: id, GroupInstanceId: instance, SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 20_000, ProtocolType: "consumer",
		Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 0xff, 0xff, 0xff, 0xff}}}}
}

// join sends a join and returns where its answer will be.
func (b *bench) join(req *msg.JoinGroupRequest, v int16) *answer[msg.JoinGroupResponse] {
	b.t.Helper()
	a := new(answer[msg.JoinGroupResponse])
	b.do(b.m.Join(b.now, group.Client{ID: "c", Host: "/h"}, v, req, a.set))
	return a
}

func (b *bench) sync(req *msg.SyncGroupRequest) *answer[msg.SyncGroupResponse] {
	b.t.Helper()
	a := new(answer[msg.SyncGroupResponse])
	b.do(b.m.Sync(b.now, 3, req, a.set))
	return a
}

type answer[T any] struct{ r *T }

func (a *answer[T]) set(r *T) {
	if a.r != nil {
		panic("answered twice")
	}
	a.r = r
}

func code(c int16) kerr.Code { return kerr.Code(c) }

func want(t *testing.T, what string, got int16, want kerr.Code) {
	t.Helper()
	if code(got) != want {
		t.Errorf("%s: %s, want %s", what, code(got).Name(), want.Name())
	}
}

// two brings a group of two members to Stable and returns their ids, the leader
// first.
func two(t *testing.T, b *bench) (leader, other string) {
	t.Helper()
	a1, a2 := b.join(joinRequest("", nil), 3), b.join(joinRequest("", nil), 3)
	if a1.r != nil {
		t.Fatal("the first join was answered before group.initial.rebalance.delay.ms")
	}
	b.advance(6 * time.Second)
	if a1.r == nil || a2.r == nil {
		t.Fatal("the initial rebalance does not end")
	}
	if a1.r.GenerationId != 1 || a1.r.Leader != a1.r.MemberId || len(a1.r.Members) != 2 || len(a2.r.Members) != 0 {
		t.Fatalf("joined as %+v and %+v", a1.r, a2.r)
	}
	leader, other = a1.r.MemberId, a2.r.MemberId
	s2 := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: other, GenerationId: 1})
	if s2.r != nil {
		t.Fatal("a follower's sync was answered before the leader's")
	}
	s1 := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: leader, GenerationId: 1, Assignments: []msg.SyncGroupRequestAssignment{{MemberId: leader, Assignment: []byte("a")}, {MemberId: other, Assignment: []byte("b")}}})
	if s1.r == nil || s2.r == nil || string(s1.r.Assignment) != "a" || string(s2.r.Assignment) != "b" {
		t.Fatalf("synced as %+v and %+v", s1.r, s2.r)
	}
	return leader, other
}

func TestRebalance(t *testing.T) {
	b := newBench(t)
	leader, other := two(t, b)
	hb := func(id string, generation int32) kerr.Code {
		return b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: id, GenerationId: generation})
	}
	for id, generation := range map[string]int32{leader: 1, other: 1} {
		if c := hb(id, generation); c != kerr.None {
			t.Errorf("heartbeat: %v", c)
		}
	}
	if c := hb(leader, 0); c != kerr.IllegalGeneration {
		t.Errorf("heartbeat of an old generation: %v", c)
	}
	// A third member needs its id first, and then makes the others rejoin.
	refused := b.join(joinRequest("", nil), 4)
	want(t, "first join of version 4", refused.r.ErrorCode, kerr.MemberIdRequired)
	third := b.join(joinRequest(refused.r.MemberId, nil), 4)
	if c := hb(other, 1); c != kerr.RebalanceInProgress {
		t.Errorf("heartbeat while rebalancing: %v", c)
	}
	again := b.join(joinRequest(leader, nil), 4)
	if third.r != nil || again.r != nil {
		t.Fatal("the rebalance ended without the second member")
	}
	b.advance(9 * time.Second)
	if again.r != nil {
		t.Fatal("a member was dropped before its session ended")
	}
	b.advance(12 * time.Second) // the second member is silent for its session
	if third.r == nil || again.r == nil || again.r.GenerationId != 2 || len(again.r.Members) != 2 {
		t.Fatalf("rebalanced as %+v and %+v", third.r, again.r)
	}
	if c := hb(other, 2); c != kerr.UnknownMemberId {
		t.Errorf("heartbeat of the one dropped: %v", c)
	}
}

func TestLateSyncIsDropped(t *testing.T) {
	b := newBench(t)
	a1, a2 := b.join(joinRequest("", nil), 3), b.join(joinRequest("", nil), 3)
	b.advance(6 * time.Second)
	// The leader never syncs but keeps its session.
	s2 := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: a2.r.MemberId, GenerationId: 1})
	for range 5 {
		b.advance(5 * time.Second)
		b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: a1.r.MemberId, GenerationId: 1})
	}
	if s2.r == nil {
		t.Fatal("a member waits for ever for a leader that does not sync")
	}
	want(t, "sync of the waiting member", s2.r.ErrorCode, kerr.RebalanceInProgress)
}

func TestFailedWriteOfAnAssignment(t *testing.T) {
	b := newBench(t)
	a1, a2 := b.join(joinRequest("", nil), 3), b.join(joinRequest("", nil), 3)
	b.advance(6 * time.Second)
	s2 := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: a2.r.MemberId, GenerationId: 1})
	b.fail = kerr.NotEnoughReplicas
	s1 := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: a1.r.MemberId, GenerationId: 1})
	if s1.r == nil || s2.r == nil {
		t.Fatal("nobody is told that the assignment was not written")
	}
	want(t, "leader's sync", s1.r.ErrorCode, kerr.CoordinatorNotAvailable)
	want(t, "member's sync", s2.r.ErrorCode, kerr.CoordinatorNotAvailable)
	if c := b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: a1.r.MemberId, GenerationId: 1}); c != kerr.RebalanceInProgress {
		t.Errorf("heartbeat after the failure: %v", c)
	}
}

func TestJoinErrors(t *testing.T) {
	change := func(f func(*msg.JoinGroupRequest)) *msg.JoinGroupRequest {
		r := joinRequest("", nil)
		f(r)
		return r
	}
	tests := []struct {
		name string
		req  *msg.JoinGroupRequest
		want kerr.Code
	}{
		{"no group id", change(func(r *msg.JoinGroupRequest) { r.GroupId = "" }), kerr.InvalidGroupId},
		{"session too short", change(func(r *msg.JoinGroupRequest) { r.SessionTimeoutMs = 5_999 }), kerr.InvalidSessionTimeout},
		{"session too long", change(func(r *msg.JoinGroupRequest) { r.SessionTimeoutMs = 1_800_001 }), kerr.InvalidSessionTimeout},
		{"unknown member", change(func(r *msg.JoinGroupRequest) { r.MemberId = "nobody" }), kerr.UnknownMemberId},
		{"another protocol type", change(func(r *msg.JoinGroupRequest) { r.ProtocolType = "connect" }), kerr.InconsistentGroupProtocol},
		{"no common protocol", change(func(r *msg.JoinGroupRequest) { r.Protocols[0].Name = "sticky" }), kerr.InconsistentGroupProtocol},
		{"no protocols", change(func(r *msg.JoinGroupRequest) { r.Protocols = nil }), kerr.InconsistentGroupProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			two(t, b)
			want(t, "join", b.join(test.req, 3).r.ErrorCode, test.want)
		})
	}
	t.Run("group is full", func(t *testing.T) {
		b := newBench(t)
		two(t, b)
		for range 3 {
			if a := b.join(joinRequest("", nil), 3); a.r != nil {
				t.Fatalf("refused early: %v", code(a.r.ErrorCode))
			}
		}
		b.advance(25 * time.Second)
		for range 5 {
			b.join(joinRequest("", nil), 3)
		}
		want(t, "one too many", b.join(joinRequest("", nil), 3).r.ErrorCode, kerr.GroupMaxSizeReached)
	})
}

func TestStaticMembership(t *testing.T) {
	b := newBench(t)
	instance := "i1"
	a := b.join(joinRequest("", &instance), 5)
	b.advance(6 * time.Second)
	old := a.r.MemberId
	b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: old, GenerationId: 1, Assignments: []msg.SyncGroupRequestAssignment{{MemberId: old, Assignment: []byte("x")}}})
	// It restarts: a new id, the same generation and assignment, no rebalance.
	again := b.join(joinRequest("", &instance), 9)
	if again.r == nil || again.r.GenerationId != 1 || again.r.MemberId == old || !again.r.SkipAssignment {
		t.Fatalf("rejoined as %+v", again.r)
	}
	if c := b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: old, GroupInstanceId: &instance, GenerationId: 1}); c != kerr.FencedInstanceId {
		t.Errorf("heartbeat of the old incarnation: %v", c)
	}
	s := b.sync(&msg.SyncGroupRequest{GroupId: "g", MemberId: again.r.MemberId, GroupInstanceId: &instance, GenerationId: 1})
	if s.r == nil || string(s.r.Assignment) != "x" {
		t.Errorf("synced as %+v", s.r)
	}
	want(t, "join with the old id", b.join(joinRequest(old, &instance), 5).r.ErrorCode, kerr.FencedInstanceId)
}

func commit(id string, generation int32, offset int64) *msg.OffsetCommitRequest {
	return &msg.OffsetCommitRequest{GroupId: "g", MemberId: id, GenerationIdOrMemberEpoch: generation, RetentionTimeMs: -1,
		Topics: []msg.OffsetCommitRequestTopic{{Name: "t", Partitions: []msg.OffsetCommitRequestPartition{{PartitionIndex: 0, CommittedOffset: offset, CommittedLeaderEpoch: -1}}}}}
}

func (b *bench) commit(req *msg.OffsetCommitRequest, v int16) kerr.Code {
	d, codes, all := b.m.Commit(b.now, v, req)
	if all != kerr.None {
		return all
	}
	b.do(d)
	return codes[0][0]
}

func TestCommits(t *testing.T) {
	b := newBench(t)
	if c := b.commit(commit("", -1, 1), 8); c != kerr.None {
		t.Errorf("a consumer without a group: %v", c)
	}
	if c := b.commit(commit("m", 3, 1), 8); c != kerr.UnknownMemberId {
		t.Errorf("a member of a group that has none: %v", c)
	}
	other := commit("m", 3, 1)
	other.GroupId = "unheard of"
	if c := b.commit(other, 8); c != kerr.IllegalGeneration {
		t.Errorf("an unknown group below version 9: %v", c)
	}
	if c := b.commit(other, 9); c != kerr.GroupIdNotFound {
		t.Errorf("an unknown group: %v", c)
	}
	leader, _ := two(t, b)
	if c := b.commit(commit("", -1, 2), 8); c != kerr.UnknownMemberId {
		t.Errorf("a stranger, while the group has members: %v", c)
	}
	if c := b.commit(commit(leader, 0, 2), 8); c != kerr.IllegalGeneration {
		t.Errorf("an old generation: %v", c)
	}
	if c := b.commit(commit(leader, 1, 7), 8); c != kerr.None {
		t.Errorf("a member: %v", c)
	}
	long := commit(leader, 1, 8)
	text := "more than ten bytes"
	long.Topics[0].Partitions[0].CommittedMetadata = &text
	if c := b.commit(long, 8); c != kerr.OffsetMetadataTooLarge {
		t.Errorf("too much metadata: %v", c)
	}
	if got := b.reload().m.Fetch("g", map[string][]int32{"t": {0, 1}}); got[0].Offset != 7 || got[1].Offset != -1 {
		t.Errorf("after a restart %+v, want offset 7 and none", got)
	}
	if _, c := b.m.Delete("g"); c != kerr.NonEmptyGroup {
		t.Errorf("delete of a group with members: %v", c)
	}
	b.advance(30 * time.Second) // both are silent
	d, c := b.m.Delete("g")
	if c != kerr.None {
		t.Fatalf("delete of an empty group: %v", c)
	}
	b.do(d)
	if len(b.m.List()) != 0 || len(b.reload().m.List()) != 0 {
		t.Error("the group is still there after its deletion")
	}
}

func TestOffsetsExpireOnceTheGroupIsEmpty(t *testing.T) {
	b := newBench(t)
	leader, other := two(t, b)
	b.commit(commit(leader, 1, 7), 8)
	for range 30 * 60 * 12 { // 30 hours, with heartbeats
		b.advance(5 * time.Second)
		for _, id := range []string{leader, other} {
			if c := b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: id, GenerationId: 1}); c != kerr.None {
				t.Fatalf("heartbeat: %v", c)
			}
		}
	}
	b.advance(9 * time.Second)
	if got := b.m.Fetch("g", nil); len(got) != 1 {
		t.Fatalf("offsets of a live group expired: %v", got)
	}
	b.advance(23 * time.Hour)
	if got := b.m.Fetch("g", nil); len(got) != 1 {
		t.Errorf("offsets expired before their time: %v", got)
	}
	b.advance(2 * time.Hour)
	if len(b.m.List()) != 0 || len(b.reload().m.List()) != 0 {
		t.Error("the group is still there a day after its last member")
	}
}

// TestRandomMembers lets members come, go, fall silent and fail to write, and
// then has those that are left behave: the group must come together, at most one
// member owns a partition, generations only rise, and a reload knows the same.
func TestRandomMembers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for run := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, run))
		b := newBench(t)
		p := &players{b: b, r: r, seed: seed + run, members: make(map[int]*player)}
		for range 200 {
			p.step()
		}
		p.settle()
		if t.Failed() {
			t.Fatalf("seed %d, run %d", seed, run)
		}
	}
}

type player struct {
	id         string
	generation int32
	join       *answer[msg.JoinGroupResponse]
	sync       *answer[msg.SyncGroupResponse]
	assigned   string
	stable     bool
}

type players struct {
	b       *bench
	r       *rand.Rand
	seed    uint64
	members map[int]*player
	next    int
	highest int32
}

func (p *players) step() {
	switch n := p.r.IntN(12); {
	case n == 0 && len(p.members) < 5:
		p.next++
		p.members[p.next] = new(player)
	case n == 1:
		for k, m := range p.members { // leaves
			if m.id != "" {
				d, _, _ := p.b.m.Leave(p.b.now, "g", []msg.LeaveGroupRequestMemberIdentity{{MemberId: m.id}})
				p.b.do(d)
			}
			delete(p.members, k)
			break
		}
	case n == 2:
		for k := range p.members { // falls silent for ever
			delete(p.members, k)
			break
		}
	case n == 3:
		p.b.advance(time.Duration(p.r.IntN(8000)) * time.Millisecond)
	case n == 4:
		p.b.fail = kerr.NotEnoughReplicas
	default:
		p.act()
	}
}

// act lets every member do what a client does next.
func (p *players) act() {
	for _, k := range slices.Sorted(maps.Keys(p.members)) {
		m := p.members[k]
		if m.join != nil && m.join.r != nil {
			p.joined(m)
		}
		if m.sync != nil && m.sync.r != nil {
			p.synced(m)
		}
		switch {
		case m.join != nil || m.sync != nil: // waits
		case m.stable:
			switch c := p.b.m.Heartbeat(p.b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: m.id, GenerationId: m.generation}); c {
			case kerr.None:
			case kerr.UnknownMemberId, kerr.IllegalGeneration:
				*m = player{}
			case kerr.RebalanceInProgress:
				m.stable, m.assigned = false, ""
			default:
				p.b.t.Errorf("heartbeat: %v", c)
			}
		default:
			m.join = p.b.join(joinRequest(m.id, nil), 4)
		}
	}
}

func (p *players) joined(m *player) {
	r := m.join.r
	m.join = nil
	switch code(r.ErrorCode) {
	case kerr.None:
		m.id, m.generation = r.MemberId, r.GenerationId
		if r.GenerationId < p.highest {
			p.b.t.Errorf("generation %d after %d", r.GenerationId, p.highest)
		}
		p.highest = r.GenerationId
		req := &msg.SyncGroupRequest{GroupId: "g", MemberId: m.id, GenerationId: m.generation}
		for i, x := range r.Members {
			req.Assignments = append(req.Assignments, msg.SyncGroupRequestAssignment{MemberId: x.MemberId, Assignment: fmt.Append(nil, i)})
		}
		m.sync = p.b.sync(req)
	case kerr.MemberIdRequired:
		m.id = r.MemberId
	case kerr.UnknownMemberId:
		m.id = ""
	case kerr.RebalanceInProgress, kerr.GroupMaxSizeReached:
	default:
		p.b.t.Errorf("join: %v", code(r.ErrorCode))
	}
}

func (p *players) synced(m *player) {
	r := m.sync.r
	m.sync = nil
	switch code(r.ErrorCode) {
	case kerr.None:
		m.stable, m.assigned = true, string(r.Assignment)
	case kerr.UnknownMemberId:
		*m = player{}
	case kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.CoordinatorNotAvailable:
	default:
		p.b.t.Errorf("sync: %v", code(r.ErrorCode))
	}
}

func (p *players) settle() {
	p.b.fail = nil
	if len(p.members) == 0 {
		p.members[0] = new(player)
	}
	for range 400 {
		p.act()
		p.b.advance(200 * time.Millisecond)
		// Those that fell silent go on waiting in the machine until their time is up.
	}
	owners := make(map[string]bool)
	for k, m := range p.members {
		if !m.stable {
			p.b.t.Errorf("member %d is not in the group: %+v", k, m)
			continue
		}
		if owners[m.assigned] {
			p.b.t.Errorf("assignment %q has two owners", m.assigned)
		}
		owners[m.assigned] = true
	}
	live, _ := p.b.m.Describe("g")
	loaded, _ := p.b.reload().m.Describe("g")
	if live.GroupState != "Stable" || loaded.GroupState != "Stable" || len(live.Members) != len(loaded.Members) {
		p.b.t.Errorf("live %s with %d members, loaded %s with %d", live.GroupState, len(live.Members), loaded.GroupState, len(loaded.Members))
	}
	for i := range loaded.Members {
		if string(loaded.Members[i].MemberAssignment) != string(live.Members[i].MemberAssignment) {
			p.b.t.Errorf("member %d was assigned %q, after a reload %q", i, live.Members[i].MemberAssignment, loaded.Members[i].MemberAssignment)
		}
	}
}

func FuzzReplay(f *testing.F) {
	b := newBench(f)
	b.commit(commit("", -1, 1), 8)
	for _, r := range b.log {
		f.Add(r.Key, r.Value)
	}
	f.Add([]byte{0, 2, 0, 1, 'g'}, []byte{0, 3, 0, 0})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := group.NewMachine((&bench{t: t}).config())
		_ = m.Replay(coordinator.Record{Key: key, Value: value}, origin) // must not panic
	})
}

// A static member that asks for no time to come back is looked for a few times a
// second, and not as fast as the clock goes.
func TestStaticMemberWithoutRebalanceTimeout(t *testing.T) {
	b := newBench(t)
	join := func(instance, id string, rebalance int32, got **msg.JoinGroupResponse) {
		req := &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 60_000, RebalanceTimeoutMs: rebalance, GroupInstanceId: &instance, MemberId: id,
			Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}
		b.do(b.m.Join(b.now, group.Client{ID: "c"}, 5, req, func(r *msg.JoinGroupResponse) { *got = r }))
	}
	var patient, hasty *msg.JoinGroupResponse
	join("patient", "", 10_000, &patient)
	b.advance(4 * time.Second)
	join("hasty", "", 0, &hasty)
	join("patient", patient.MemberId, 10_000, &patient)
	if hasty == nil || hasty.ErrorCode != 0 || patient.GenerationId != hasty.GenerationId {
		t.Fatalf("joins: %+v, %+v", patient, hasty)
	}
	for _, r := range []*msg.JoinGroupResponse{hasty, patient} {
		b.do(b.m.Sync(b.now, 3, &msg.SyncGroupRequest{GroupId: "g", GenerationId: r.GenerationId, MemberId: r.MemberId}, func(*msg.SyncGroupResponse) {}))
	}
	name := "patient"
	d, codes, _ := b.m.Leave(b.now, "g", []msg.LeaveGroupRequestMemberIdentity{{GroupInstanceId: &name}})
	if codes[0] != kerr.None {
		t.Fatalf("leave: %v", codes)
	}
	b.do(d)
	b.advance(30 * time.Second) // it fails if the machine does not come to rest
}

// A group that expired while its log could not be written, and that somebody has
// joined since, is not taken away from who joined when the tombstone is written at
// last.
func TestALateTombstoneLeavesALiveGroup(t *testing.T) {
	b := newBench(t)
	b.commit(&msg.OffsetCommitRequest{GroupId: "g", GenerationIdOrMemberEpoch: -1, Topics: []msg.OffsetCommitRequestTopic{{Name: "t", Partitions: []msg.OffsetCommitRequestPartition{{CommittedOffset: 3}}}}}, 8)
	late := b.m.Tick(b.now.Add(48 * time.Hour)).Records // is not written yet
	if len(late) != 2 {
		t.Fatalf("%d records, want an offset's and the group's tombstone", len(late))
	}
	var got *msg.JoinGroupResponse
	b.do(b.m.Join(b.now, group.Client{ID: "c"}, 3, &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 10_000,
		Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}, func(r *msg.JoinGroupResponse) { got = r }))
	b.do(coordinator.Decision{Records: late})
	b.advance(4 * time.Second)
	if got == nil || got.ErrorCode != 0 || len(b.m.List()) != 1 {
		t.Errorf("the member that joined got %+v, groups %+v", got, b.m.List())
	}
}
