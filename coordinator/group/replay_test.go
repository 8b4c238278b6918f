package group

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// durable is what the log must lead to, of a group that waits for nothing.
func (g *group) durable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s since %d, generation %d of %q, protocol %q, leader %q", g.state, g.since.UnixMilli(), g.generation, g.kind, g.protocol, g.leader)
	for x := range g.inOrder {
		instance := ""
		if x.instance != nil {
			instance = *x.instance
		}
		fmt.Fprintf(&b, "\n%s %s %s %v %v: %q %q", x.id, instance, x.clientID, x.session, x.rebalance, x.metadata(g.protocol), x.assignment)
	}
	return b.String()
}

// replayed is a machine, the log that it wrote, and commits that come late.
type replayed struct {
	t    *testing.T
	r    *rand.Rand
	m    *Machine
	conf Config
	now  time.Time
	log  []coordinator.Record
	then []func(error)        // of records that are not committed yet, in order
	owed []coordinator.Record // nobody waits for them, and they could not be written
	open int                  // requests without an answer

	healed    bool // every record can be written
	committed int  // records of the log
}

func (b *replayed) do(d coordinator.Decision) {
	keys := make(map[string]bool)
	for _, r := range d.Records {
		if keys[string(r.Key)] {
			b.t.Fatalf("two records of %q in one decision", r.Key)
		}
		keys[string(r.Key)] = true
	}
	if len(d.Records) > 0 && !b.healed && b.r.IntN(6) == 0 {
		if d.Then == nil {
			b.owed = append(b.owed, d.Records...)
		} else {
			d.Then(kerr.NotEnoughReplicas)
		}
		return
	}
	if len(d.Records) > 0 { // what is owed comes first
		d.Records = append(b.owed, d.Records...)
		b.owed = nil
	}
	for _, r := range d.Records {
		if err := b.m.Replay(r, coordinator.Origin{Producer: record.NoProducer}); err != nil {
			b.t.Fatal(err)
		}
		b.log = append(b.log, r)
	}
	end := len(b.log)
	b.then = append(b.then, func(err error) {
		if err == nil {
			b.committed = max(b.committed, end)
		}
		if d.Then != nil {
			d.Then(err)
		}
	})
}

// lose has none of what is not committed yet committed ever, and ends the machine.
func (b *replayed) lose() {
	for _, then := range b.then {
		then(kerr.NotLeaderOrFollower)
	}
	b.then = nil
	b.m.Unload(kerr.NotCoordinator)
}

// commit has the oldest n decisions committed.
func (b *replayed) commit(n int) {
	for ; n > 0 && len(b.then) > 0; n-- {
		then := b.then[0]
		b.then = b.then[1:]
		then(nil)
	}
}

// player is what a client knows of itself.
type player struct {
	member     string
	instance   *string
	generation int32 // 0: it has to join
	synced     bool
	busy       bool
}

// act does what a client does next.
func (b *replayed) act(p *player) {
	switch {
	case p.busy:
	case p.generation == 0:
		p.busy = true
		req := &msg.JoinGroupRequest{GroupId: "g", MemberId: p.member, GroupInstanceId: p.instance, SessionTimeoutMs: 5000, RebalanceTimeoutMs: 3000, ProtocolType: "consumer",
			Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: fmt.Append(nil, b.r.IntN(40)/39)}}}
		b.do(b.m.Join(b.now, Client{ID: "c"}, int16(b.r.IntN(10)), req, once(b, "a join", func(a *msg.JoinGroupResponse) {
			p.busy = false
			switch kerr.Code(a.ErrorCode) {
			case kerr.None:
				p.member, p.generation, p.synced = a.MemberId, a.GenerationId, false
			case kerr.MemberIdRequired:
				p.member = a.MemberId
			case kerr.UnknownMemberId, kerr.FencedInstanceId:
				p.member = ""
			}
		})))
	case !p.synced || b.r.IntN(20) == 0:
		p.busy = true
		req := &msg.SyncGroupRequest{GroupId: "g", MemberId: p.member, GroupInstanceId: p.instance, GenerationId: p.generation}
		if g := b.m.groups["g"]; g != nil {
			for x := range g.inOrder {
				req.Assignments = append(req.Assignments, msg.SyncGroupRequestAssignment{MemberId: x.id, Assignment: fmt.Append(nil, b.r.IntN(1000))})
			}
		}
		generation, member := p.generation, p.member
		b.do(b.m.Sync(b.now, 3, req, once(b, "a sync", func(a *msg.SyncGroupResponse) {
			p.busy = false
			switch kerr.Code(a.ErrorCode) {
			case kerr.None:
				if p.synced = true; !b.told(member, generation, a.Assignment) {
					b.t.Fatalf("%s is told its assignment %q of generation %d, which is not committed", member, a.Assignment, generation)
				}
				return
			case kerr.UnknownMemberId, kerr.FencedInstanceId:
				p.member = ""
			}
			p.generation = 0
		})))
	}
}

// told reports whether a committed record says that a member has an assignment.
func (b *replayed) told(member string, generation int32, assignment []byte) bool {
	for _, r := range b.log[:b.committed] {
		var v msg.GroupMetadataValue
		if r.Value == nil || parseValue(&v, r.Value) != nil || v.Generation != generation {
			continue
		}
		for _, x := range v.Members {
			if x.MemberId == member && bytes.Equal(x.Assignment, assignment) {
				return true
			}
		}
	}
	return false
}

// once counts a request, and fails if it is answered twice.
func once[T any](b *replayed, what string, f func(*T)) func(*T) {
	b.open++
	answered := false
	return func(r *T) {
		if answered {
			b.t.Fatalf("%s is answered twice", what)
		}
		answered = true
		b.open--
		f(r)
	}
}

// Whatever members do, and however late or never their records are committed: where a
// group is Stable or Empty it is what a broker makes of the log that loads it.
func TestReplayAloneMakesAGroupStable(t *testing.T) {
	states := make(map[State]int) // how often it was in each
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 3))
		ids := 0
		b := &replayed{t: t, r: r, now: time.UnixMilli(1000), conf: Config{InitialDelay: time.Second, MinSession: time.Second, MaxSession: time.Hour, MaxSize: 5,
			Retention: time.Hour, RetentionChecks: time.Hour, NewID: func() string { ids++; return fmt.Sprint(ids) }}}
		b.m = NewMachine(b.conf)
		b.do(b.m.Loaded(b.now))
		players := make([]*player, 6)
		for i := range players {
			players[i] = new(player)
			if i < 3 {
				instance := fmt.Sprint("static", i)
				players[i].instance = &instance
			}
		}
		for range 300 {
			p := players[r.IntN(len(players))]
			switch n := r.IntN(20); {
			case n < 2:
				b.now = b.now.Add(time.Duration(r.IntN(1500)) * time.Millisecond)
				for _, p := range players[:4] { // the others are silent
					if b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: p.member, GroupInstanceId: p.instance, GenerationId: p.generation}) != kerr.None {
						p.generation = 0 // it joins
					}
				}
				if next := b.m.Next(); !next.IsZero() && !next.After(b.now) {
					b.do(b.m.Tick(b.now))
				}
			case n < 6:
				if seed%3 > 0 || r.IntN(10) == 0 {
					b.commit(1 + r.IntN(3))
				}
			case n < 7 && r.IntN(3) == 0 && p.member != "":
				d, _, _ := b.m.Leave(b.now, "g", []msg.LeaveGroupRequestMemberIdentity{{MemberId: p.member, GroupInstanceId: p.instance}})
				b.do(d)
				p.member = ""
			case n < 7 && r.IntN(5) == 0: // the last members leave at once
				var all []msg.LeaveGroupRequestMemberIdentity
				if g := b.m.groups["g"]; g != nil {
					for x := range g.inOrder {
						all = append(all, msg.LeaveGroupRequestMemberIdentity{MemberId: x.id})
					}
				}
				d, _, _ := b.m.Leave(b.now, "g", all)
				b.do(d)
			case n < 9: // it starts anew
				*p = player{instance: p.instance}
			case n < 10:
				if d, code := b.m.Delete("g"); code == kerr.None {
					b.do(d)
				}
			case n < 11 && !p.busy: // it joins without need
				p.generation = 0
			default:
				for _, p := range players[:1+r.IntN(len(players))] {
					b.act(p)
				}
			}
			g := b.m.groups["g"]
			if g == nil {
				continue
			}
			if err := g.check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			states[g.state]++
			if g.state != Stable && g.state != Empty || len(b.owed) > 0 {
				continue
			}
			other := NewMachine(b.conf)
			for _, x := range b.log {
				if err := other.Replay(x, coordinator.Origin{Producer: record.NoProducer}); err != nil {
					t.Fatal(err)
				}
			}
			switch loaded := other.groups["g"]; {
			case loaded == nil || loaded.durable() != g.durable():
				t.Fatalf("seed %d: the group is\n%s\nand its log says\n%s", seed, g.durable(), loaded.durable())
			}
		}
		if seed%4 == 3 { // another broker leads
			b.lose()
			if b.open != 0 {
				t.Errorf("seed %d: %d requests are never answered", seed, b.open)
			}
			continue
		}
		b.commit(len(b.then))
		b.healed = true
		for end := b.now.Add(time.Minute); b.now.Before(end); b.commit(len(b.then)) { // all sessions end
			b.now = b.now.Add(100 * time.Millisecond)
			if next := b.m.Next(); !next.IsZero() && !next.After(b.now) {
				b.do(b.m.Tick(b.now))
			}
		}
		if g := b.m.groups["g"]; g != nil && g.state != Empty {
			t.Errorf("seed %d: without members the group stays\n%s", seed, g.durable())
		}
		b.m.Unload(kerr.NotCoordinator)
		if b.open != 0 {
			t.Errorf("seed %d: %d requests are never answered", seed, b.open)
		}
	}
	if states[Stable] < 5000 || states[Empty] < 50 {
		t.Errorf("too little was compared: %v", states)
	}
}
