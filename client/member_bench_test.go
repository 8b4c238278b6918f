package client

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// memberBench is a member with a clock of its own, an application, and a
// coordinator that answers when it is told to.
type memberBench struct {
	t       *testing.T
	m       *member
	now     time.Time
	start   time.Time
	event   string // the one that is handled
	before  memberState
	pending map[uint64]action // requests under way
	late    map[string]action // by kind, the last one that was sent, forgotten or not
	moved   map[TopicPartition]Offset
	given   []TopicPartition // to the application
	begun   map[TopicPartition]bool
	waiting map[uint64]bool // commits
	waiters uint64
	done    []action // of the last event
	sent    []time.Time
	told    []error
	logged  []error
	over    bool // groupClosed came
}

func newMemberBench(t *testing.T, o memberOptions) *memberBench {
	o.group = "g"
	o.autoEvery, o.heartbeat, o.maxPoll, o.requestTimeout = 5*time.Second, 3*time.Second, 5*time.Minute, 30*time.Second
	o.pauseFirst, o.pauseLimit, o.jitter = 100*time.Millisecond, time.Second, 1
	now := time.Unix(1e9, 0)
	return &memberBench{t: t, m: newMember(o), now: now, start: now, pending: map[uint64]action{}, late: map[string]action{},
		begun: map[TopicPartition]bool{}, waiting: map[uint64]bool{}}
}

// do hands in an event and checks what holds after each.
func (b *memberBench) do(event string, f func()) {
	b.event, b.before = event, b.m.state
	f()
	b.done = b.m.take()
	for _, a := range b.done {
		b.take(a)
	}
	b.check()
}

// kindOf names a request and returns its id; "" for other actions.
func kindOf(a action) (kind string, id uint64) {
	switch a := a.(type) {
	case findRequest:
		return "FindCoordinator", a.id
	case joinRequest:
		return "JoinGroup", a.id
	case shareRequest:
		return "share", a.id
	case syncRequest:
		return "SyncGroup", a.id
	case beatRequest:
		return "Heartbeat", a.id
	case commitRequest:
		return "OffsetCommit", a.id
	case placeRequest:
		return "OffsetFetch", a.id
	case leaveRequest:
		return "LeaveGroup", a.id
	}
	return "", 0
}

func (b *memberBench) take(a action) {
	if kind, id := kindOf(a); kind != "" {
		b.pending[id], b.late[kind] = a, a
		b.sent = append(b.sent, b.now)
	}
	switch a := a.(type) {
	case commitRequest:
		b.checkCommit(a)
	case forget:
		delete(b.pending, a.id)
	case dropAssignment:
		// Only where the application has come back for more, or said so.
		if b.event != "polled" && b.event != "subscribe" && b.before != memberPreparing {
			b.t.Errorf("%s in %v takes the partitions away", b.event, b.before)
		}
		b.given = nil
		clear(b.begun)
	case giveAssignment:
		b.given = a.tps
		clear(b.begun)
	case beginAt:
		for _, tp := range a.tps {
			b.begun[tp] = true
		}
	case answerCommit:
		if !b.waiting[a.waiter] {
			b.t.Errorf("commit %d is answered again", a.waiter)
		}
		delete(b.waiting, a.waiter)
	case tellPoll:
		b.told = append(b.told, a.err)
	case logged:
		if a.err != nil {
			b.logged = append(b.logged, a.err)
		}
	case groupClosed:
		b.over = true
	}
}

// checkCommit holds a commit against the member that asked for it.
func (b *memberBench) checkCommit(a commitRequest) {
	e := b.m.errands
	i := slices.IndexFunc(e, func(e *errand) bool { return e.id == a.id })
	switch {
	case i != 0:
		b.t.Errorf("%s: commit %d is not the first of %d", b.event, a.id, len(e))
	case a.who != noGroup && (a.who.member == "" || a.who.generation < 0):
		b.t.Errorf("%s: a commit as %v", b.event, a.who)
	case !e[i].last && a.who != b.m.who:
		b.t.Errorf("%s in %v: a commit as %v by %v", b.event, b.m.state, a.who, b.m.who)
	case a.who == noGroup && b.m.state != memberIdle && !e[i].last:
		b.t.Errorf("%s: a commit from outside the group in %v", b.event, b.m.state)
	}
}

// check has what holds after each event; see member.
func (b *memberBench) check() {
	m := b.m
	inGeneration := m.state >= memberAssigning && m.state <= memberPreparing
	if inGeneration != (m.who.generation >= 0) || inGeneration && m.who.member == "" {
		b.t.Errorf("after %s in %v: %v as %v", b.event, b.before, m.state, m.who)
	}
	for i, e := range m.errands {
		if i > 0 && e.id != 0 {
			b.t.Errorf("after %s: errand %d is under way", b.event, i)
		}
	}
	for id := range b.waiting {
		if !slices.ContainsFunc(m.errands, func(e *errand) bool { return e.kind == userCommit && e.waiter == id }) {
			b.t.Errorf("after %s: commit %d is lost", b.event, id)
		}
	}
	if m.holds() && len(m.owned) != len(b.given) || m.reads() && m.state != memberIdle && len(b.begun)+len(m.unplaced) < len(b.given) {
		b.t.Errorf("after %s: has %v, owns %v, %d read, %d to begin", b.event, b.given, m.owned, len(b.begun), len(m.unplaced))
	}
	if at := m.deadline(); !at.IsZero() && !at.After(b.now) {
		b.t.Errorf("after %s in %v: wants to be called at once, %v ago", b.event, m.state, b.now.Sub(at))
	}
	if m.state == memberClosed && (len(m.errands) > 0 || !m.deadline().IsZero()) {
		b.t.Errorf("after %s: closed, and not over", b.event)
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// offsets is what the application has moved, to be committed.
func (b *memberBench) offsets() map[TopicPartition]Offset { return maps.Clone(b.moved) }

func (b *memberBench) subscribe(topics ...string) {
	b.do("subscribe", func() { b.m.subscribe(b.now, topics, b.offsets) })
}
func (b *memberBench) assign() { b.do("assign", func() { b.m.assign(b.now, b.offsets) }) }
func (b *memberBench) poll()   { b.do("polled", func() { b.m.polled(b.now, b.offsets) }) }
func (b *memberBench) finish() { b.do("returned", func() { b.m.returned(b.now) }) }
func (b *memberBench) close()  { b.do("close", func() { b.m.close(b.now, b.offsets) }) }
func (b *memberBench) abort()  { b.do("abort", func() { b.m.abort() }) }
func (b *memberBench) commit(at int64) {
	b.waiters++
	b.waiting[b.waiters] = true
	b.do("commit", func() { b.m.commit(b.now, b.waiters, map[TopicPartition]Offset{{"t", 0}: {At: at}}) })
}

func (b *memberBench) cancel() {
	for id := range b.waiting {
		b.do("cancel", func() { b.m.cancelCommit(b.now, id); delete(b.waiting, id) })
	}
}

// seek moves an assigned partition.
func (b *memberBench) seek(tp TopicPartition) {
	b.begun[tp] = true
	b.do("seeked", func() { b.m.seeked(tp) })
}

func (b *memberBench) repartition(n int32) {
	b.do("repartitioned", func() { b.m.repartitioned(b.now, func(string) (int32, bool) { return n, true }) })
}

// advance lets time pass, and calls the member at its deadlines.
// lose has a connection to a broker be lost, whatever it was for.
func (b *memberBench) lose(broker int32) {
	b.do("broker lost", func() { b.m.brokerLost(b.now, broker) })
}

func (b *memberBench) advance(d time.Duration) (actions []action) {
	end := b.now.Add(d)
	for {
		at := b.m.deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		b.now = at
		b.do("tick", func() { b.m.tick(b.now) })
		actions = append(actions, b.done...)
	}
	b.now = end
	return actions
}

// answer answers a request: well, or with an error.
func (b *memberBench) answer(a action, err error) {
	kind, id := kindOf(a)
	delete(b.pending, id)
	b.do(kind, func() {
		m, now := b.m, b.now
		switch a := a.(type) {
		case findRequest:
			m.found(now, id, 1, err)
		case joinRequest:
			j := joinAnswer{who: groupIdentity{cmp.Or(a.member, "m1"), -1}}
			if err == nil {
				j = joinAnswer{who: groupIdentity{j.who.member, 1 + int32(id)}, protocol: "range", leads: true}
			}
			m.groupJoined(now, id, j, err)
		case shareRequest:
			m.shared(now, id, []memberShare{{"m1", nil}}, map[string]int32{"t": 2}, err)
		case syncRequest:
			m.groupSynced(now, id, []TopicPartition{{"t", 0}, {"t", 1}}, err)
		case beatRequest:
			m.beaten(now, id, err)
		case commitRequest:
			m.committed(now, id, nil, err)
		case placeRequest:
			m.located(now, id, map[TopicPartition]Offset{{"t", 0}: {At: 5}}, nil, err)
		case leaveRequest:
			m.left(now, id, err)
		}
	})
}

// partly answers a request that is about partitions with an error for the first
// one.
func (b *memberBench) partly(a action, err error) {
	kind, id := kindOf(a)
	delete(b.pending, id)
	failed := map[TopicPartition]error{{"t", 0}: err}
	b.do(kind, func() {
		if kind == "OffsetCommit" {
			b.m.committed(b.now, id, failed, nil)
		} else {
			b.m.located(b.now, id, map[TopicPartition]Offset{{"t", 1}: {At: 5}}, failed, nil)
		}
	})
}

// next returns the request of a kind that is under way.
func (b *memberBench) next(kind string) action {
	for _, a := range b.pending {
		if k, _ := kindOf(a); k == kind {
			return a
		}
	}
	b.t.Fatalf("no %s is under way in %v", kind, b.m.state)
	return nil
}

func (b *memberBench) ok(kinds ...string) {
	for _, k := range kinds {
		b.answer(b.next(k), nil)
	}
}

// reach brings a new member to a state, with all under way that may be there:
// answers that come then, and answers that come too late.
func (b *memberBench) reach(s memberState) {
	b.moved = map[TopicPartition]Offset{{"t", 0}: {At: 5}, {"t", 1}: {At: 6}}
	if s == memberIdle {
		b.m.autoAt = b.now.Add(time.Hour)
		b.poll()
		b.commit(5)
		b.ok("FindCoordinator")
		return
	}
	moved := b.moved
	b.moved = nil // nothing was read yet
	b.subscribe("t")
	b.poll()
	b.ok("FindCoordinator")
	steps := map[memberState][]string{memberJoining: {}, memberAssigning: {"JoinGroup"}, memberSyncing: {"JoinGroup", "share"}}
	if first, ok := steps[s]; ok {
		b.ok(first...)
		return
	}
	b.ok("JoinGroup", "share", "SyncGroup")
	b.moved = moved
	b.m.autoAt = b.now.Add(time.Hour)
	b.advance(b.m.o.heartbeat)
	b.commit(5)
	switch s {
	case memberUnjoined:
		b.finish()
		b.advance(b.m.o.maxPoll)
	case memberCalled:
		b.repartition(3)
	case memberPreparing:
		b.repartition(3)
		b.poll()
	case memberFenced:
		b.answer(b.next("OffsetCommit"), kerr.FencedInstanceId)
	case memberClosing:
		b.close()
	case memberClosed:
		b.close()
		b.abort()
	}
	if b.m.state != s {
		b.t.Fatalf("reached %v, not %v", b.m.state, s)
	}
}

var allStates = []memberState{memberIdle, memberUnjoined, memberJoining, memberAssigning, memberSyncing, memberStable, memberCalled, memberPreparing, memberFenced, memberClosing, memberClosed}

// show is an action in a script.
func show(a action) string {
	who := func(w groupIdentity) string {
		if w == noGroup {
			return "nobody"
		}
		return fmt.Sprintf("%s in %d", w.member, w.generation)
	}
	offsets := func(of map[TopicPartition]Offset) (s string) {
		for _, tp := range sorted(maps.Keys(of)) {
			s += fmt.Sprintf(" %v=%d", tp, of[tp].At)
		}
		return s
	}
	switch a := a.(type) {
	case findRequest:
		return "FindCoordinator"
	case joinRequest:
		s := fmt.Sprintf("JoinGroup to %d as %q for %v", a.broker, a.member, a.topics)
		if len(a.owned) > 0 {
			s += fmt.Sprintf(", had %v in %d", a.owned, a.ownedIn)
		}
		return s
	case shareRequest:
		return "share out"
	case syncRequest:
		return fmt.Sprintf("SyncGroup to %d as %s, %d shares", a.broker, who(a.who), len(a.shares))
	case beatRequest:
		return fmt.Sprintf("Heartbeat to %d as %s", a.broker, who(a.who))
	case commitRequest:
		return fmt.Sprintf("OffsetCommit to %d as %s:%s", a.broker, who(a.who), offsets(a.offsets))
	case placeRequest:
		return fmt.Sprintf("OffsetFetch to %d: %v", a.broker, a.tps)
	case leaveRequest:
		s := fmt.Sprintf("LeaveGroup to %d as %s: %s", a.broker, a.who.member, a.reason)
		if a.aside {
			s += " (another connection)"
		}
		return s
	case forget:
		return "forget the answer"
	case dropAssignment:
		return "drop the partitions"
	case giveAssignment:
		return fmt.Sprintf("assign %v", a.tps)
	case beginAt:
		return fmt.Sprintf("begin %v at%s", a.tps, cmp.Or(offsets(a.committed), " the reset"))
	case storedOffsets:
		return "stored" + offsets(a.offsets)
	case tellPoll:
		return fmt.Sprintf("Poll returns: %v", a.err)
	case wakePoll:
		return "wake Poll"
	case answerCommit:
		if a.err == nil {
			return "commit done"
		}
		return fmt.Sprintf("commit failed: %v", a.err)
	case groupClosed:
		if a.err == nil {
			return "closed"
		}
		return fmt.Sprintf("closed: %v", a.err)
	case logged:
		if a.err == nil {
			return "log: " + a.what
		}
		return fmt.Sprintf("log: %s: %v", a.what, a.err)
	}
	return fmt.Sprintf("%T", a)
}
