package client

import (
	"fmt"
	"time"
)

// seeks reports whether something waits for the coordinator.
func (m *member) seeks() bool {
	return len(m.errands) > 0 || m.state == memberJoining || m.state == memberSyncing || m.beats()
}

// stepFind asks for the coordinator if it is not known and something waits for
// it.
func (m *member) stepFind(now time.Time) {
	if m.coordinator < 0 && m.seeks() && m.find.due(now) {
		m.do(findRequest{m.begin(&m.find)})
	}
}

// found has the coordinator. An error that trying again does not mend ends what
// waits for the coordinator, and is returned to the caller that asked for it.
func (m *member) found(now time.Time, id uint64, broker int32, err error) {
	if !m.find.ended(id) {
		return
	}
	if err == nil {
		m.find = attempt{}
		m.coordinator = broker
		m.moved(now, fmt.Errorf("broker %d coordinates the group: %w", broker, errLost))
		m.step(now)
		return
	}
	m.failed(&m.find, now)
	m.lastErr = err
	again := retriable(err)
	if again {
		m.note("coordinator not found, try again", err)
	}
	m.endErrands(func(e *errand) bool { return !again || !e.retries() }, err)
	for _, e := range m.errands {
		e.lastErr = err
	}
	if !again {
		switch {
		case m.state == memberJoining, m.state == memberSyncing, m.state == memberAssigning:
			m.stopCalls()
			m.who.generation, m.state = -1, memberUnjoined
			m.tell(fmt.Errorf("join group %s: %w", m.o.group, err))
		case m.live():
			m.tell(fmt.Errorf("group %s: %w", m.o.group, err))
		}
	}
	m.step(now)
}
