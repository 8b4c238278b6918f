package client

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
)

// subscribe takes the application's topics, in any state. A member keeps its
// generation until the next Poll; a join that is under way ends, and another
// follows. Without topics it is an Assign of nothing. offsets is what is to be
// committed of what the application reads now; it is called where that matters.
func (m *member) subscribe(now time.Time, topics []string, offsets func() map[TopicPartition]Offset) {
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	if len(topics) == 0 {
		m.assign(now, offsets)
		if m.state == memberIdle {
			m.do(dropAssignment{})
		}
		return
	}
	if m.state == memberClosing || m.state == memberClosed {
		return
	}
	changed := !slices.Equal(topics, m.topics)
	m.topics = topics
	switch m.state {
	case memberIdle:
		// What was assigned by hand is dropped by the next Poll.
		m.autoCommit(now, noGroup, offsets)
		for _, e := range m.errands {
			e.last = true
		}
		m.state = memberUnjoined
	case memberFenced:
		m.fence = nil
		m.state = memberUnjoined
	case memberStable:
		if changed {
			m.state = memberCalled
		}
	}
	m.do(wakePoll{})
	m.step(now)
}

// assign is called before the application assigns partitions by hand. A member
// leaves its group, after a commit if it auto-commits.
func (m *member) assign(now time.Time, offsets func() map[TopicPartition]Offset) {
	if m.state == memberIdle || m.state == memberClosing || m.state == memberClosed {
		return
	}
	var last map[TopicPartition]Offset
	if m.o.auto && m.holds() {
		last = offsets()
	}
	m.endErrands(revokes, nil)
	m.depart(autoCommit, last, "partitions were assigned by hand")
	m.state, m.topics, m.lastErr, m.fence = memberIdle, nil, nil, nil
	m.autoAt = now.Add(m.o.autoEvery)
	m.do(wakePoll{})
	m.step(now)
}

// polled is called whenever the application is in Poll and nothing is being handed
// out: what Poll has returned before counts as processed. offsets is called when
// it is to be committed.
func (m *member) polled(now time.Time, offsets func() map[TopicPartition]Offset) {
	m.polling, m.held, m.nudged = true, false, false
	switch m.state {
	case memberUnjoined:
		m.giveUp()
	case memberCalled:
		var last map[TopicPartition]Offset
		if m.o.auto {
			last = offsets()
		}
		if len(last) == 0 {
			m.giveUp()
			break
		}
		m.errands = append(m.errands, &errand{kind: revokeCommit, who: m.who, offsets: last})
		m.state, m.prepareEnd = memberPreparing, now.Add(m.o.requestTimeout)
	case memberIdle, memberStable:
		if m.autoDue(now) {
			m.autoCommit(now, m.who, offsets)
		}
	}
	m.step(now)
}

// returned is called when Poll returns. max.poll.interval.ms counts from then.
func (m *member) returned(now time.Time) {
	m.polling, m.lastPoll = false, now
	m.step(now)
}

// giveUp drops the partitions and goes to join.
func (m *member) giveUp() {
	m.stopCalls()
	m.do(dropAssignment{})
	m.state, m.leads, m.who.generation = memberJoining, nil, -1
}

// repartitioned is called when the metadata may have changed: count returns how
// many partitions a topic has. A leader whose topics have other partitions than
// it assigned has the group rebalance.
func (m *member) repartitioned(now time.Time, count func(topic string) (n int32, known bool)) {
	if m.state != memberStable {
		return
	}
	for topic, had := range m.leads {
		if n, known := count(topic); known && n != had {
			m.changed("rejoin", fmt.Errorf("topic %s has %d partitions, and had %d", topic, n, had))
			m.call()
			m.step(now)
			return
		}
	}
}

// call has a stable member join again with the next Poll.
func (m *member) call() {
	m.state = memberCalled
	m.do(wakePoll{})
}

// stepJoin sends JoinGroup or SyncGroup.
func (m *member) stepJoin(now time.Time) {
	switch {
	case m.state == memberJoining && m.join.due(now):
		m.joined = m.topics
		m.do(joinRequest{id: m.begin(&m.join), broker: m.coordinator, member: m.who.member, topics: m.topics, owned: m.owned, ownedIn: m.ownedIn})
	case m.state == memberSyncing && m.join.id == 0:
		m.sync.id, m.sync.broker = m.begin(&m.join), m.coordinator
		m.do(m.sync)
	}
}

// joinAgain has the member go back to JoinGroup after a pause.
func (m *member) joinAgain(now time.Time, err error) {
	m.beat.id = 0
	m.state, m.who.generation, m.lastErr = memberJoining, -1, err
	m.failed(&m.join, now)
	m.note("group not joined, try again", err)
}

// groupJoined has the answer to a JoinGroup.
func (m *member) groupJoined(now time.Time, id uint64, a joinAnswer, err error) {
	if m.state != memberJoining || !m.join.ended(id) {
		return
	}
	if err == nil && (a.who.generation < 0 || a.who.member == "") {
		err = fmt.Errorf("%w: member %q in generation %d", conn.ErrProtocol, a.who.member, a.who.generation)
	}
	if err != nil {
		if errors.Is(err, kerr.MemberIdRequired) { // KIP-394: once more, with the id
			first := m.who.member == ""
			m.who = groupIdentity{a.who.member, -1}
			if first && m.who.member != "" && m.join.tries == 0 {
				m.join.tries++
				m.step(now)
				return
			}
		}
		m.refused(now, fmt.Errorf("JoinGroup: %w", err))
		return
	}
	m.who = a.who
	m.beat = attempt{at: now.Add(m.o.heartbeat)}
	m.sync = syncRequest{who: a.who, protocol: a.protocol}
	m.state = memberSyncing
	if a.leads {
		m.state = memberAssigning
		m.do(shareRequest{id: m.begin(&m.join), answer: a})
	}
	m.step(now)
}

// shared has what a leader gives to each member, and how many partitions the
// topics had.
func (m *member) shared(now time.Time, id uint64, shares []memberShare, counts map[string]int32, err error) {
	if m.state != memberAssigning || !m.join.ended(id) {
		return
	}
	if err != nil {
		m.refused(now, err)
		return
	}
	m.state, m.leads, m.sync.shares = memberSyncing, counts, shares
	m.step(now)
}

// groupSynced has the answer to a SyncGroup.
func (m *member) groupSynced(now time.Time, id uint64, mine []TopicPartition, err error) {
	if m.state != memberSyncing || !m.join.ended(id) {
		return
	}
	if err != nil {
		m.refused(now, fmt.Errorf("SyncGroup: %w", err))
		return
	}
	m.sync = syncRequest{}
	m.failed(&m.join, now) // unless a heartbeat or a commit confirms the generation
	m.lastErr = nil
	if !slices.Equal(m.joined, m.topics) { // subscribed again meanwhile: these are not to be read
		m.changed("rejoin", errors.New("the subscription changed during the join"))
		m.beat.id = 0
		m.state, m.leads, m.who.generation = memberJoining, nil, -1
		m.step(now)
		return
	}
	m.state, m.owned, m.ownedIn = memberStable, mine, m.who.generation
	m.autoAt = now.Add(m.o.autoEvery)
	m.unplaced = make(map[TopicPartition]bool, len(mine))
	for _, tp := range mine {
		m.unplaced[tp] = true
	}
	m.place = attempt{}
	m.changed("joined group", nil)
	m.do(giveAssignment{mine})
	m.do(wakePoll{})
	m.step(now)
}

// refused decides what an error means for a join: another try after a pause, an
// error for Poll, or the end.
func (m *member) refused(now time.Time, err error) {
	code, _ := codeIn(err)
	switch {
	case code == kerr.FencedInstanceId, code == kerr.UnknownMemberId, code == kerr.IllegalGeneration:
		m.failed(&m.join, now)
		m.dismissed(code, err)
	case ofCoordinator(err):
		m.joinAgain(now, err)
		m.lostCoordinator(now, m.join.broker, err)
	case code == kerr.RebalanceInProgress, code == kerr.MemberIdRequired, retriable(err):
		m.joinAgain(now, err)
	default:
		m.beat.id = 0
		m.failed(&m.join, now)
		m.state, m.who.generation = memberUnjoined, -1
		m.tell(fmt.Errorf("join group %s: %w", m.o.group, err))
	}
	m.step(now)
}

// confirmed notes that the coordinator knows this generation: the next join
// need not wait.
func (m *member) confirmed(now time.Time) { m.join.tries, m.join.at = 0, now }

// codeIn returns the code in an error.
func codeIn(err error) (code kerr.Code, ok bool) {
	ok = errors.As(err, &code)
	return code, ok
}
