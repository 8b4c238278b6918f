package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// memberState is what a consumer is to its group.
type memberState uint8

const (
	// memberIdle: not subscribed. Partitions are assigned by hand, and the group
	// only keeps offsets.
	memberIdle memberState = iota
	// memberUnjoined: subscribed, and in no generation: not yet, or thrown out, or
	// gone because the application did not poll, or Poll has returned why not. The next
	// Poll drops what the application has, without a commit, and joins.
	memberUnjoined
	// memberJoining: no partitions; JoinGroup is under way or about to be sent.
	memberJoining
	// memberAssigning: leads the generation; the shares of all members are made.
	memberAssigning
	// memberSyncing: SyncGroup is under way or about to be sent.
	memberSyncing
	// memberStable: has its partitions and reads them.
	memberStable
	// memberCalled: has its partitions, and is to join again with the next Poll:
	// the group rebalances, or the subscription or the partitions changed.
	memberCalled
	// memberPreparing: Poll has come, and waits until positions are committed
	// before the partitions are given up.
	memberPreparing
	// memberFenced: another consumer has this one's group.instance.id. Only Subscribe
	// and Assign lead out.
	memberFenced
	// memberClosing: Close waits for the last commit and for LeaveGroup.
	memberClosing
	// memberClosed: nothing is sent any more.
	memberClosed
)

func (s memberState) String() string {
	return [...]string{"idle", "unjoined", "joining", "assigning", "syncing", "stable", "called", "preparing", "fenced", "closing", "closed"}[s]
}

// groupIdentity is what a group knows a member by.
type groupIdentity struct {
	member     string // "" before the coordinator has given one
	generation int32  // -1 without
}

// noGroup commits offsets from outside the group: the coordinator takes them
// only while the group has no members.
var noGroup = groupIdentity{generation: -1}

// memberOptions are the facts that a member never changes.
type memberOptions struct {
	group    string
	instance string // group.instance.id; "" for a dynamic member
	auto     bool   // enable.auto.commit

	autoEvery, heartbeat, maxPoll, requestTimeout time.Duration
	pauseFirst, pauseLimit                        time.Duration
	jitter                                        float64 // pauses are so many times as long
	reset                                         bool    // partitions without a committed offset have a place to begin
}

// member decides what a consumer sends to the coordinator of its group and what
// its errors mean: a pure state machine (the classic protocol, eager). Its
// methods are its events: calls of the application, answers, and the time. What
// is to be done comes out of take, and at deadline it wants tick to be called.
// The owner serializes all calls, and answers each request once, or never after
// a forget of it.
//
//	idle ──Subscribe──▶ unjoined ──Poll──▶ joining ──▶ (assigning) ──▶ syncing ──▶ stable
//	                       ▲                 ▲  ▲                         │          │
//	                       │ thrown out, or  │  └── refused, try again ───┘          │ rebalance
//	                       │ no Poll in time │                                       ▼
//	                    stable, called    preparing ◀──────────Poll───────────── called
//
// Any state but the last two goes to idle with Assign and to closing with Close;
// one with a member id to fenced when another consumer takes the instance id.
//
// Invariants, checked by TestMemberWalk and TestMemberAnswers:
//   - A member has a generation in assigning, syncing, stable, called and
//     preparing, and in no other state that goes on with its group.
//   - A commit carries the identity that the member had when it was asked for,
//     and is sent only while that is still the member's. noGroup commits are made
//     in idle only: a member that was thrown out does not commit.
//   - At most one commit or LeaveGroup is under way, in the order asked for, so
//     that no older offset overwrites a newer one.
//   - What the application has been given is only dropped when it is back in
//     Poll, or by Assign, Subscribe and Close: its records are at work until then.
//   - Each wait ends: with an answer, or at deadline.
type member struct {
	o     memberOptions
	state memberState
	who   groupIdentity

	topics  []string         // of the subscription, sorted
	joined  []string         // topics, as of the last JoinGroup
	owned   []TopicPartition // of the last assignment, for the sticky assignor
	ownedIn int32            // the generation of owned
	leads   map[string]int32 // partition counts that this leader assigned by; nil for others
	sync    syncRequest      // to send, while syncing

	coordinator int32 // -1 if not known
	find        attempt
	join        attempt // JoinGroup and what follows up to stable; tries grow until the generation is confirmed
	beat        attempt
	place       attempt // OffsetFetch of unplaced

	unplaced map[TopicPartition]bool // assigned, and not known where to begin
	held     bool                    // no OffsetFetch before Poll has returned the last one's error

	errands    []*errand // the first one is under way or next
	autoAt     time.Time // of the next auto-commit
	prepareEnd time.Time // of preparing, whatever becomes of the commit

	polling  bool      // the application is inside Poll
	lastPoll time.Time // when it was last
	nudged   bool      // Poll was woken for what is due

	lastErr  error // that keeps the member from what it waits for; nil when stable
	fence    error // why fenced
	closeErr error // of the last commit

	ids uint64
	out []action
}

// attempt is a request that is tried until it succeeds.
type attempt struct {
	id     uint64    // of the one under way; 0 if none is
	broker int32     // that it was sent to
	at     time.Time // no try before
	tries  int       // that did not succeed, in a row
}

// due reports whether it may be sent now.
func (a *attempt) due(now time.Time) bool { return a.id == 0 && !now.Before(a.at) }

func newMember(o memberOptions) *member {
	return &member{o: o, who: noGroup, coordinator: -1}
}

// take returns what is to be done, in that order, and forgets it.
func (m *member) take() []action {
	out := m.out
	m.out = nil
	return out
}

func (m *member) do(a action) { m.out = append(m.out, a) }

// tell has Poll return an error.
func (m *member) tell(err error) {
	m.lastErr = err
	m.do(tellPoll{err})
}

// note has an error logged that no call of the application returns.
func (m *member) note(what string, err error) { m.do(logged{what: what, err: err}) }

// changed has a change of state logged; err is nil or its cause.
func (m *member) changed(what string, err error) { m.do(logged{what: what, err: err, change: true}) }

// begin gives an attempt an id for the request that is about to be sent.
func (m *member) begin(a *attempt) uint64 {
	m.ids++
	a.id, a.broker = m.ids, m.coordinator
	return a.id
}

// ended takes the answer to the request with an id, and reports false for one
// that nobody waits for any more.
func (a *attempt) ended(id uint64) bool {
	if a.id != id || id == 0 {
		return false
	}
	a.id = 0
	return true
}

// failed has the next try wait.
func (m *member) failed(a *attempt, now time.Time) {
	a.tries++
	a.at = now.Add(m.pause(a.tries))
}

// drop stops waiting for an answer.
func (m *member) drop(a *attempt) {
	if a.id != 0 {
		m.do(forget{a.id})
		a.id = 0
	}
}

// pause is how long to wait after n failures in a row.
func (m *member) pause(n int) time.Duration {
	if n < 1 || m.o.pauseFirst <= 0 {
		return 0
	}
	return time.Duration(float64(steady(m.o.pauseFirst, m.o.pauseLimit, n)) * m.o.jitter)
}

// live reports whether the coordinator may count this consumer as a member
// whose application must poll.
func (m *member) live() bool { return m.state >= memberJoining && m.state <= memberPreparing }

// holds reports whether the member has a generation and partitions of it.
func (m *member) holds() bool {
	return m.state == memberStable || m.state == memberCalled || m.state == memberPreparing
}

// reads reports whether Poll may return records.
func (m *member) reads() bool { return m.state == memberIdle || m.state == memberStable }

// tick does what is due at now.
func (m *member) tick(now time.Time) { m.step(now) }

// step ends every event: it sends what can be sent.
func (m *member) step(now time.Time) {
	if m.live() && !m.polling && !now.Before(m.lastPoll.Add(m.o.maxPoll)) {
		m.pollMissed(now)
	}
	if m.state == memberPreparing && !now.Before(m.prepareEnd) {
		m.endErrands(revokes, fmt.Errorf("not within %v", m.o.requestTimeout))
	}
	if m.state == memberFenced && m.polling && m.join.due(now) {
		m.failed(&m.join, now)
		m.tell(m.fence)
	}
	if m.autoDue(now) && m.polling && !m.nudged {
		m.nudged = true
		m.do(wakePoll{})
	}
	if m.state == memberPreparing && !slices.ContainsFunc(m.errands, revokes) {
		m.giveUp()
	}
	m.stepErrands(now)
	if m.state == memberClosing && len(m.errands) == 0 {
		err := m.closeErr
		m.shut()
		m.do(groupClosed{err})
	}
	m.stepFind(now)
	if m.coordinator < 0 {
		return
	}
	m.stepJoin(now)
	m.stepBeat(now)
	m.stepPlace(now)
}

// deadline returns when tick is to be called next; zero for never.
func (m *member) deadline() time.Time {
	var first time.Time
	at := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if m.live() && !m.polling {
		at(m.lastPoll.Add(m.o.maxPoll))
	}
	if m.state == memberPreparing {
		at(m.prepareEnd)
	}
	if m.state == memberFenced && m.polling {
		at(m.join.at)
	}
	if m.autoWanted() && m.polling && !m.nudged {
		at(m.autoAt)
	}
	if m.coordinator < 0 {
		if m.seeks() && m.find.id == 0 {
			at(m.find.at)
		}
		return first
	}
	if len(m.errands) > 0 && m.errands[0].id == 0 {
		at(m.errands[0].at)
	}
	if m.state == memberJoining && m.join.id == 0 {
		at(m.join.at)
	}
	if m.beats() && m.beat.id == 0 {
		at(m.beat.at)
	}
	if m.places() && m.place.id == 0 {
		at(m.place.at)
	}
	return first
}

// dismissed ends the membership on the coordinator's word.
func (m *member) dismissed(code kerr.Code, err error) {
	m.lastErr = err
	if code == kerr.FencedInstanceId {
		m.stopCalls()
		m.who, m.state, m.fence = noGroup, memberFenced, fmt.Errorf("group %s: %w", m.o.group, err)
		m.refuseCommits(err)
		m.join = attempt{} // Poll returns it at once, or the next one
		m.do(wakePoll{})
		return
	}
	m.changed("generation ended", err)
	again := m.state == memberJoining || m.state == memberAssigning || m.state == memberSyncing
	prepared := m.state == memberPreparing
	m.stopCalls()
	m.who.generation = -1
	if code != kerr.IllegalGeneration { // as in the Java client: the member id may still be good
		m.who.member, m.owned = "", nil
	}
	m.refuseCommits(err)
	switch {
	case again: // it has no partitions to give up
		m.state = memberJoining
	case prepared:
		m.giveUp()
	default:
		m.state = memberUnjoined
		m.do(wakePoll{})
	}
}

// stopCalls forgets every request of a membership.
func (m *member) stopCalls() {
	m.drop(&m.join)
	m.drop(&m.place)
	m.beat.id = 0 // its answer may still say what is wrong
	m.sync = syncRequest{}
	m.unplaced, m.held = nil, false
}

// revokes reports whether an errand is the commit before a rebalance.
func revokes(e *errand) bool { return e.kind == revokeCommit }

// depart ends the membership on the application's wish: after a commit of
// offsets, if there are any, LeaveGroup is sent. A static member stays: it
// is expected back within its session.
func (m *member) depart(kind errandKind, offsets map[TopicPartition]Offset, reason string) {
	// A broker reads nothing behind a request that it holds back, as it does with
	// JoinGroup and SyncGroup.
	aside := m.join.id != 0 && m.state != memberAssigning || m.place.id != 0 || m.beat.id != 0
	m.stopCalls()
	if len(offsets) > 0 {
		m.errands = append(m.errands, &errand{kind: kind, who: m.who, last: true, offsets: offsets})
	}
	for _, e := range m.errands {
		e.last = e.last || e.who == m.who
	}
	if m.who.member != "" && m.o.instance == "" {
		m.errands = append(m.errands, &errand{kind: goodbye, who: m.who, last: true, reason: reason, aside: aside})
	}
	m.who, m.leads, m.owned = noGroup, nil, nil
	m.join = attempt{at: m.join.at, tries: m.join.tries}
}

// pollMissed leaves the group since the application did not poll in time.
func (m *member) pollMissed(now time.Time) {
	err := fmt.Errorf("no Poll within %v (max.poll.interval.ms)", m.o.maxPoll)
	m.note("leaving group", err)
	m.refuseCommits(err)
	m.depart(autoCommit, nil, "poll interval exceeded")
	m.state, m.lastErr = memberUnjoined, err
}

// brokerLost says that a broker is out of reach, whatever was asked of it. A JoinGroup
// or SyncGroup that is held back is not given up for the end of another connection: it
// ends with its own, or when another coordinator is found.
func (m *member) brokerLost(now time.Time, broker int32) {
	if broker == m.coordinator && broker >= 0 {
		m.note("coordinator lost", errLost)
		m.coordinator = -1
		m.giveUpOn(now, errLost, func(a *attempt) bool { return a != &m.join })
	}
	m.step(now)
}

// lostCoordinator notes that a broker does not coordinate the group, or cannot
// be reached. The membership stays: what was asked there is asked again of the
// next coordinator.
func (m *member) lostCoordinator(now time.Time, broker int32, err error) {
	if broker != m.coordinator || broker < 0 {
		return
	}
	m.note("coordinator lost", err)
	m.coordinator = -1
	m.giveUpOn(now, err, func(*attempt) bool { return true })
}

// moved stops waiting for the answers of brokers that do not coordinate the group.
func (m *member) moved(now time.Time, err error) {
	m.giveUpOn(now, err, func(a *attempt) bool { return a.broker != m.coordinator })
}

// giveUpOn has the requests that which says asked again.
func (m *member) giveUpOn(now time.Time, err error, which func(*attempt) bool) {
	if m.beat.id != 0 && which(&m.beat) {
		m.beat.id = 0
		m.beatFailed(now)
	}
	if m.place.id != 0 && which(&m.place) {
		m.drop(&m.place)
		m.failed(&m.place, now)
	}
	if m.join.id != 0 && m.state != memberAssigning && which(&m.join) {
		m.drop(&m.join)
		m.joinAgain(now, err)
	}
	if len(m.errands) > 0 && m.errands[0].id != 0 && which(&m.errands[0].attempt) {
		e := m.errands[0]
		m.drop(&e.attempt)
		m.errandFailed(now, e, err)
	}
}

// ofCoordinator reports whether an error says that another broker is to be
// asked.
func ofCoordinator(err error) bool {
	var code kerr.Code
	if errors.As(err, &code) {
		return code == kerr.NotCoordinator || code == kerr.CoordinatorNotAvailable
	}
	return isLost(err) && !broken(err)
}

// ofMembership returns the code of an error that ends a membership.
func ofMembership(err error) (kerr.Code, bool) {
	var code kerr.Code
	if !errors.As(err, &code) {
		return kerr.None, false
	}
	return code, slices.Contains([]kerr.Code{kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.FencedInstanceId}, code)
}
