package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// check holds what a group keeps up to date against its members.
func (g *group) check() error {
	joining, supported, places := 0, make(map[string]int), 0
	for id, m := range g.members {
		if m.join != nil {
			joining++
		}
		names := make(map[string]bool)
		for _, p := range m.protocols {
			names[p.Name] = true
		}
		for name := range names {
			supported[name]++
		}
		if m.g != g || m.id != id || g.order[m.at] != m {
			return fmt.Errorf("member %s is not at its place", id)
		}
	}
	for range g.inOrder {
		places++
	}
	if joining != g.joining || fmt.Sprint(supported) != fmt.Sprint(g.supported) || places != len(g.members) {
		return fmt.Errorf("%d of %d joining, protocols %v, %d places; kept are %d, %v", joining, len(g.members), supported, places, g.joining, g.supported)
	}
	if len(g.order) > 2*len(g.members)+9 {
		return fmt.Errorf("%d places for %d members", len(g.order), len(g.members))
	}
	if g.leader != "" && g.members[g.leader] == nil {
		return fmt.Errorf("leader %s is no member", g.leader)
	}
	return nil
}

// However members come, come again and go, the counts that a group keeps are those
// of its members.
func TestCountsAgreeWithTheMembers(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 0))
		now := time.UnixMilli(0)
		ids := 0
		m := NewMachine(Config{InitialDelay: time.Second, MinSession: time.Second, MaxSession: time.Hour, MaxSize: 40, Retention: time.Hour, RetentionChecks: time.Hour,
			NewID: func() string { ids++; return fmt.Sprint(ids) }})
		do := func(d coordinator.Decision) {
			for _, x := range d.Records {
				if err := m.Replay(x, coordinator.Origin{Producer: record.NoProducer}); err != nil {
					t.Fatal(err)
				}
			}
			if d.Then != nil {
				d.Then(nil)
			}
		}
		do(m.Loaded(now))
		for step := range 2000 {
			g := m.groups["g"]
			some := "" // member
			if g != nil {
				for id := range g.members {
					some = id
					break
				}
			}
			protocols := []msg.JoinGroupRequestProtocol{{Name: "a"}}
			for _, name := range []string{"b", "c", "c"}[:r.IntN(4)] {
				protocols = append(protocols, msg.JoinGroupRequestProtocol{Name: name})
			}
			var generation int32
			if g != nil {
				generation = g.generation
			}
			switch r.IntN(8) {
			case 0, 1, 2:
				req := &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 5000, RebalanceTimeoutMs: 2000, Protocols: protocols}
				switch r.IntN(3) {
				case 0:
					req.MemberId = some
				case 1:
					req.GroupInstanceId = new(fmt.Sprint("static", r.IntN(5)))
				}
				do(m.Join(now, Client{ID: "c"}, int16(r.IntN(10)), req, func(*msg.JoinGroupResponse) {}))
			case 3:
				do(m.Sync(now, 3, &msg.SyncGroupRequest{GroupId: "g", MemberId: some, GenerationId: generation}, func(*msg.SyncGroupResponse) {}))
			case 4:
				m.Heartbeat(now, &msg.HeartbeatRequest{GroupId: "g", MemberId: some, GenerationId: generation})
			case 5:
				d, _, _ := m.Leave(now, "g", []msg.LeaveGroupRequestMemberIdentity{{MemberId: some}})
				do(d)
			default:
				now = now.Add(time.Duration(r.IntN(700)) * time.Millisecond)
				for next := m.Next(); !next.IsZero() && !next.After(now); next = m.Next() {
					do(m.Tick(now))
				}
			}
			if g := m.groups["g"]; g != nil {
				if err := g.check(); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			}
		}
	}
}
