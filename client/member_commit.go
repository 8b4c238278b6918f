package client

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// ErrNotMember means that offsets were not committed because the group has gone
// on without this member; its partitions may be another's by now.
var ErrNotMember = errors.New("no longer a member of the group's generation")

// errandKind says who asked for an errand.
type errandKind uint8

const (
	autoCommit   errandKind = iota // the time: tried once, the next one has newer offsets
	userCommit                     // the application, which waits: tried until it gives up
	revokeCommit                   // Poll, before a rebalance: tried until prepareEnd
	closeCommit                    // Close: tried until Close gives up
	goodbye                        // LeaveGroup: tried once, since the session expires anyway
)

// errand is an OffsetCommit or a LeaveGroup that is under way or waits for
// those before it.
type errand struct {
	attempt
	kind    errandKind
	who     groupIdentity // when it was asked for
	last    bool          // it is sent though the membership is given up and ends with it
	offsets map[TopicPartition]Offset
	waiter  uint64 // of a userCommit
	lastErr error  // of the last try
	missed  error  // of partitions that are given up, while the others are tried again
	reason  string // of a goodbye, as is aside; see leaveRequest
	aside   bool
}

// retries reports whether an error that may pass has it tried again.
func (e *errand) retries() bool { return e.kind != autoCommit && e.kind != goodbye }

// commit is asked for by the application, and ends with an answerCommit for
// waiter unless cancelCommit comes first. A consumer that is subscribed and no
// member of a generation is refused.
func (m *member) commit(now time.Time, waiter uint64, offsets map[TopicPartition]Offset) {
	e := &errand{kind: userCommit, who: m.who, offsets: offsets, waiter: waiter}
	switch {
	case m.state == memberClosing || m.state == memberClosed:
		m.do(answerCommit{waiter, ErrClosed})
		return
	case m.state == memberIdle:
		e.who = noGroup
	case !m.holds():
		m.do(answerCommit{waiter, m.refusal(nil)})
		return
	}
	m.errands = append(m.errands, e)
	m.step(now)
}

// cancelCommit ends a commit whose waiter has gone, and returns the last error
// that kept it from succeeding.
func (m *member) cancelCommit(now time.Time, waiter uint64) error {
	i := slices.IndexFunc(m.errands, func(e *errand) bool { return e.kind == userCommit && e.waiter == waiter })
	if i < 0 {
		return nil
	}
	e := m.errands[i]
	m.drop(&e.attempt)
	m.errands = slices.Delete(m.errands, i, i+1)
	m.step(now)
	return e.lastErr
}

// refusal is the error of a commit that is not for this consumer to make.
func (m *member) refusal(why error) error {
	switch {
	case why != nil:
	case m.fence != nil:
		why = m.fence
	case m.state == memberUnjoined && m.lastErr != nil:
		why = m.lastErr
	case m.state == memberUnjoined:
		why = errors.New("it has not joined yet; Poll joins")
	default:
		why = fmt.Errorf("%w; Poll goes on with it", kerr.RebalanceInProgress)
	}
	return fmt.Errorf("%w: %w", ErrNotMember, why)
}

// autoWanted reports whether an auto-commit is to be made at autoAt.
func (m *member) autoWanted() bool {
	return m.o.auto && m.reads() && !slices.ContainsFunc(m.errands, func(e *errand) bool { return e.kind == autoCommit })
}

func (m *member) autoDue(now time.Time) bool { return m.autoWanted() && !now.Before(m.autoAt) }

// autoCommit commits what Poll has returned; nobody waits for it.
func (m *member) autoCommit(now time.Time, who groupIdentity, offsets func() map[TopicPartition]Offset) {
	if !m.o.auto {
		return
	}
	m.autoAt = now.Add(m.o.autoEvery)
	if of := offsets(); len(of) > 0 {
		m.errands = append(m.errands, &errand{kind: autoCommit, who: who, offsets: of})
	}
}

// stepErrands sends the first errand.
func (m *member) stepErrands(now time.Time) {
	for len(m.errands) > 0 && m.errands[0].id == 0 && !m.errands[0].last && m.errands[0].who != m.who {
		m.endErrand(m.errands[0], m.refusal(nil))
	}
	if len(m.errands) == 0 || m.coordinator < 0 {
		return
	}
	e := m.errands[0]
	switch {
	case !e.due(now):
	case e.kind == goodbye:
		m.do(leaveRequest{id: m.begin(&e.attempt), broker: m.coordinator, who: e.who, reason: e.reason, aside: e.aside})
	default:
		m.do(commitRequest{id: m.begin(&e.attempt), broker: m.coordinator, who: e.who, offsets: e.offsets})
	}
}

// committed has the answer to an OffsetCommit: the error of the whole, or those
// of the partitions that failed.
func (m *member) committed(now time.Time, id uint64, failed map[TopicPartition]error, err error) {
	if len(m.errands) == 0 || !m.errands[0].ended(id) {
		return
	}
	e := m.errands[0]
	if err == nil {
		stored := maps.Clone(e.offsets)
		for tp := range failed {
			delete(stored, tp)
		}
		if len(stored) > 0 {
			m.do(storedOffsets{stored})
		}
		if len(failed) == 0 {
			if m.holds() && e.who == m.who {
				m.confirmed(now)
			}
			m.endErrand(e, e.missed)
			m.step(now)
			return
		}
		if failed = e.giveUpOn(failed); len(failed) == 0 {
			m.endErrand(e, e.missed)
			m.step(now)
			return
		}
		rest := make(map[TopicPartition]Offset, len(failed))
		for tp := range failed {
			rest[tp] = e.offsets[tp]
		}
		e.offsets = rest
		err = worst(failed)
	}
	code, ends := ofMembership(err)
	switch {
	case ends, code == kerr.RebalanceInProgress:
		m.endErrand(e, m.refusal(err))
		if e.last || !m.holds() || e.who != m.who {
			break
		}
		if ends {
			m.dismissed(code, err)
		} else if m.state == memberStable {
			m.lastErr = err
			m.call()
		}
	case ofCoordinator(err), code == kerr.RequestTimedOut:
		m.errandFailed(now, e, err)
		m.lostCoordinator(now, e.broker, err)
	case retriable(err):
		m.errandFailed(now, e, err)
	default:
		m.endErrand(e, err)
	}
	m.step(now)
}

// giveUpOn returns the partitions that a commit before a rebalance or a Close is
// tried again for: the others of it must not be lost with one that is hopeless.
// A topic that is not known is most likely deleted, and not worth the wait. The
// application's own commit has such an error returned, or waits.
func (e *errand) giveUpOn(failed map[TopicPartition]error) (rest map[TopicPartition]error) {
	if e.kind != revokeCommit && e.kind != closeCommit {
		return failed
	}
	rest, hopeless := make(map[TopicPartition]error), make(map[TopicPartition]error)
	for tp, err := range failed {
		code, ends := ofMembership(err)
		switch {
		case ends, code == kerr.RebalanceInProgress, retriable(err) && code != kerr.UnknownTopicOrPartition:
			rest[tp] = err
		default:
			hopeless[tp] = err
		}
	}
	if len(hopeless) > 0 {
		e.missed = worst(hopeless)
	}
	return rest
}

// worst returns the error of a commit some of whose partitions failed: one that
// ends the membership, else one that trying again does not mend, else one that
// says that the coordinator is another, else any.
func worst(failed map[TopicPartition]error) (err error) {
	rank := func(err error) int {
		_, ends := ofMembership(err)
		switch {
		case ends:
			return 0
		case !retriable(err):
			return 1
		case ofCoordinator(err):
			return 2
		}
		return 3
	}
	first := slices.MinFunc(sorted(maps.Keys(failed)), func(a, b TopicPartition) int { return cmp.Compare(rank(failed[a]), rank(failed[b])) })
	return fmt.Errorf("offset of %v: %w", first, failed[first])
}

// errandFailed has an errand tried again, or ends it if it is not worth it. The
// next auto-commit comes sooner then, unless a topic is not known, which is most
// likely deleted.
func (m *member) errandFailed(now time.Time, e *errand, err error) {
	e.lastErr = err
	if !e.retries() {
		if e.kind == autoCommit && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			m.autoAt = now.Add(min(m.o.pauseLimit, m.o.autoEvery))
		}
		m.endErrand(e, err)
		return
	}
	m.failed(&e.attempt, now)
	m.note("offsets not committed, try again", err)
}

// left has the answer to a LeaveGroup.
func (m *member) left(now time.Time, id uint64, err error) {
	if len(m.errands) == 0 || !m.errands[0].ended(id) {
		return
	}
	e := m.errands[0]
	m.endErrand(e, err)
	if ofCoordinator(err) {
		m.lostCoordinator(now, e.broker, err)
	}
	m.step(now)
}

// endErrand answers the caller that asked for it.
func (m *member) endErrand(e *errand, err error) {
	m.drop(&e.attempt)
	m.errands = slices.DeleteFunc(m.errands, func(x *errand) bool { return x == e })
	if err != nil && e.kind != goodbye {
		err = fmt.Errorf("commit to group %s: %w", m.o.group, err)
	}
	switch {
	case e.kind == userCommit:
		m.do(answerCommit{e.waiter, err})
	case e.kind == closeCommit:
		m.closeErr = err
	case err == nil:
	case e.kind == goodbye:
		m.note("group not told of leaving", err)
	case e.kind == revokeCommit:
		m.note("offsets not committed before a rebalance", err)
	default:
		m.note("offsets not committed", err)
	}
}

// endErrands ends those that which says.
func (m *member) endErrands(which func(*errand) bool, err error) {
	for _, e := range slices.Clone(m.errands) {
		if which(e) {
			m.endErrand(e, err)
		}
	}
}

// refuseCommits ends the commits of a membership that is over.
func (m *member) refuseCommits(why error) {
	m.endErrands(func(e *errand) bool { return e.kind != goodbye && !e.last && e.who != noGroup }, m.refusal(why))
}

// close commits what Poll has returned if the consumer auto-commits, leaves the
// group, and ends with a groupClosed. Nothing but answers, tick and abort may
// come after it.
func (m *member) close(now time.Time, offsets func() map[TopicPartition]Offset) {
	if m.state == memberClosing || m.state == memberClosed {
		return
	}
	var last map[TopicPartition]Offset
	if m.o.auto {
		last = offsets()
	}
	if len(last) > 0 && m.state != memberIdle && !m.holds() { // thrown out: these are not its own any more
		m.closeErr = m.refusal(nil)
		last = nil
	}
	m.endErrands(revokes, nil)
	m.depart(closeCommit, last, "consumer closed")
	m.state = memberClosing
	m.step(now)
}

// abort ends a close whose time is over, and returns the last error that kept
// it from its end.
func (m *member) abort() (last error) {
	for _, e := range m.errands {
		if last == nil {
			last = e.lastErr
		}
	}
	m.shut()
	return last
}

// shut ends everything.
func (m *member) shut() {
	m.endErrands(func(*errand) bool { return true }, ErrClosed)
	m.stopCalls()
	m.drop(&m.find)
	m.state = memberClosed
}
