package client

import (
	"fmt"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// beats reports whether heartbeats are to be sent: as long as there is a
// generation, while the application works as well as during a rebalance, until
// JoinGroup is sent. The Java client sends them while SyncGroup waits, too; but
// a broker reads nothing behind it, and counts that member as alive.
func (m *member) beats() bool { return m.holds() || m.state == memberAssigning }

// stepBeat sends a heartbeat when it is time.
func (m *member) stepBeat(now time.Time) {
	if m.beats() && m.beat.due(now) {
		m.beat.at = now.Add(m.o.heartbeat)
		m.do(beatRequest{id: m.begin(&m.beat), broker: m.coordinator, who: m.who})
	}
}

// beatFailed has the next heartbeat wait: not long, since another coordinator may
// be found at once, but then its pauses grow faster than others, since each
// failure costs a search besides.
func (m *member) beatFailed(now time.Time) {
	m.beat.tries++
	m.beat.at = now.Add(m.pause(2*m.beat.tries - 1))
}

// beaten has the answer to a heartbeat. One that is lost, or that a broker
// refuses which coordinates the group no more, says nothing of the membership.
func (m *member) beaten(now time.Time, id uint64, err error) {
	if err != nil {
		err = fmt.Errorf("heartbeat: %w", err)
	}
	if !m.beat.ended(id) { // sent in a generation that is over
		if err != nil {
			m.note("late answer", err)
		}
		return
	}
	code, ends := ofMembership(err)
	switch {
	case err == nil:
		m.beat.tries = 0
		m.confirmed(now)
	case code == kerr.RebalanceInProgress:
		m.beat.tries = 0
		m.confirmed(now)
		if m.state == memberStable { // else it knows already
			m.lastErr = err
			m.changed("rejoin", err)
			m.call()
		}
	case ends:
		m.dismissed(code, err)
	case ofCoordinator(err):
		m.beatFailed(now)
		m.lostCoordinator(now, m.beat.broker, err)
	case retriable(err):
		m.beatFailed(now)
		m.note("heartbeat failed, try again", err)
	default:
		m.beatFailed(now)
		m.tell(fmt.Errorf("group %s: %w", m.o.group, err))
	}
	m.step(now)
}
