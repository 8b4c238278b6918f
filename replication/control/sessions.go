package control

import (
	"math"
	"slices"
	"time"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// BrokerName names one registration of a broker.
type BrokerName struct {
	ID    int32
	Epoch int64
}

// Heartbeat is what a broker tells the active controller of itself.
type Heartbeat struct {
	Broker       int32
	Epoch        int64
	Applied      int64 // index of the last entry of the metadata log that it has applied
	WantFence    bool
	WantShutdown bool
	OfflineDirs  []prim.UUID // log directories that it has lost
}

// HeartbeatAnswer is what the broker is told.
type HeartbeatAnswer struct {
	CaughtUp bool // it has applied its own registration
	Fenced   bool
	ShutDown bool // nobody needs it any more
}

// Sessions are the brokers that the active controller hears of. They are in no log: a
// controller that becomes active begins anew, and gives every broker a full session
// (BrokerHeartbeatManager). It has no clock; only differences of the times that it is
// given matter. It is not safe for concurrent use.
type Sessions struct {
	timeout time.Duration
	brokers map[int32]*session
}

// session is what is known of one registration of a broker.
type session struct {
	epoch   int64
	contact time.Time // when it was heard of last
	applied int64     // -1 if it has not said
	leaving int64     // index of the entry with which its shutdown began; -1 if not known
	gone    bool      // its process has ended, or is about to
}

// NewSessions returns sessions that last for timeout after each heartbeat
// (broker.session.timeout.ms).
func NewSessions(timeout time.Duration) *Sessions {
	return &Sessions{timeout: timeout, brokers: make(map[int32]*session)}
}

// Begin forgets what was heard and gives every broker that is not fenced a full session.
// One that is fenced has none until it is heard of.
func (s *Sessions) Begin(m *meta.Image, now time.Time) {
	clear(s.brokers)
	s.meet(m, now)
}

// meet begins the sessions of the brokers that are not fenced and were not heard of, and
// ends those of registrations that are over.
func (s *Sessions) meet(m *meta.Image, now time.Time) {
	for id, own := range s.brokers {
		if registered(m, id, own.epoch) == nil {
			delete(s.brokers, id)
		}
	}
	for _, b := range m.Brokers() {
		if !b.Fenced && s.brokers[b.ID] == nil {
			s.brokers[b.ID] = newSession(b.Epoch, now)
		}
	}
}

func newSession(epoch int64, now time.Time) *session {
	return &session{epoch: epoch, contact: now, applied: -1, leaving: -1}
}

// Registered begins the session of a broker that has just registered, or registered again
// in the same process.
func (s *Sessions) Registered(id int32, epoch int64, now time.Time) {
	own := s.of(id, epoch)
	if own == nil {
		own = newSession(epoch, now)
		s.brokers[id] = own
	}
	own.contact, own.gone = now, false
}

func (s *Sessions) of(id int32, epoch int64) *session {
	if own := s.brokers[id]; own != nil && own.epoch == epoch {
		return own
	}
	return nil
}

func (s *Sessions) over(own *session, now time.Time) bool {
	return own.gone || now.Sub(own.contact) >= s.timeout
}

// Alive reports whether the session of a registration lasts.
func (s *Sessions) Alive(id int32, epoch int64, now time.Time) bool {
	own := s.of(id, epoch)
	return own != nil && !s.over(own, now)
}

// Progress returns when a broker was heard of last, and the index of the last entry that it
// had applied then, -1 if it has not said. ok is false if it was not heard of.
func (s *Sessions) Progress(id int32) (applied int64, heard time.Time, ok bool) {
	own := s.brokers[id]
	if own == nil {
		return -1, time.Time{}, false
	}
	return own.applied, own.contact, true
}

// Gone ends the session of a registration whose process is known to be dead.
func (s *Sessions) Gone(id int32, epoch int64) {
	if own := s.of(id, epoch); own != nil {
		own.gone = true
	}
}

// Settled notes the index of the entry with which a controlled shutdown began, which
// Decide has decided on.
func (s *Sessions) Settled(id int32, epoch int64, index uint64) {
	if own := s.of(id, epoch); own != nil && own.leaving < 0 {
		own.leaving = int64(index)
	}
}

// Expired returns the brokers, in order of id, that are to be fenced since they were not
// heard of. One that it has not seen before begins a session.
func (s *Sessions) Expired(m *meta.Image, now time.Time) (out []BrokerName) {
	s.meet(m, now)
	for _, b := range m.Brokers() {
		own := s.brokers[b.ID]
		switch {
		case own == nil || !s.over(own, now):
		case b.Fenced:
			delete(s.brokers, b.ID) // nothing is left to be done
		default:
			out = append(out, BrokerName{b.ID, b.Epoch})
		}
	}
	return out
}

// Next returns when the next session ends, if there is one: Expired has nothing new
// before. It lies in the past while brokers that Expired has named are not fenced.
func (s *Sessions) Next() (next time.Time, ok bool) {
	for _, own := range s.brokers {
		end := own.contact.Add(s.timeout)
		if own.gone {
			end = own.contact
		}
		if !ok || end.Before(next) {
			next, ok = end, true
		}
	}
	return next, ok
}

// Decide decides on what a broker asks for with a heartbeat, and goes on with its session
// (calculateNextBrokerState). What it returns holds once its records are applied; if they
// come to nothing the next heartbeat decides again.
func (s *Sessions) Decide(f Facts, h Heartbeat, now time.Time) ([]meta.Record, HeartbeatAnswer, error) {
	b := f.Image.Broker(h.Broker)
	if b == nil {
		return nil, HeartbeatAnswer{}, kerr.Refuse(kerr.BrokerIdNotRegistered, "Broker ID %d is not currently registered", h.Broker)
	}
	if err := checkEpoch(f.Image, h.Broker, h.Epoch); err != nil {
		return nil, HeartbeatAnswer{}, err
	}
	s.Registered(b.ID, b.Epoch, now)
	own := s.brokers[b.ID]
	own.applied = h.Applied
	if len(remaining(b, h.OfflineDirs)) == 0 && len(h.OfflineDirs) > 0 {
		h.WantFence = true // it has nowhere to hold a replica
	}
	answer := HeartbeatAnswer{CaughtUp: h.Applied >= b.Epoch, Fenced: b.Fenced}
	out := dirsOffline(f, b, h.OfflineDirs)
	if len(out) > 0 { // what follows must not lead there
		after, _, err := f.Image.Apply(f.Image.Index, f.Image.Epoch, out)
		if err != nil {
			return nil, HeartbeatAnswer{}, err
		}
		f.Image, b = after, after.Broker(b.ID)
	}
	records, err := s.next(f, b, h, own, &answer)
	if err != nil {
		return nil, HeartbeatAnswer{}, err
	}
	if answer.ShutDown {
		own.gone = true // another process may take its place at once
	}
	return append(out, records...), answer, nil
}

// next returns the records that bring a broker into the state that it asks for.
func (s *Sessions) next(f Facts, b *meta.Broker, h Heartbeat, own *session, answer *HeartbeatAnswer) ([]meta.Record, error) {
	switch {
	case b.Fenced:
		if answer.ShutDown = h.WantShutdown; answer.ShutDown || h.WantFence || !answer.CaughtUp || b.ShuttingDown {
			return nil, nil // a process that was about to end does not come back
		}
		answer.Fenced = false
		return UnfenceBroker(f, b.ID, b.Epoch)
	case b.ShuttingDown:
		if own.leaving < 0 {
			own.leaving = int64(f.Image.Index) // not before that entry
		}
		if leads(f.Image, b.ID) || s.lowest(f.Image) < own.leaving {
			return nil, nil
		}
		answer.ShutDown = true
	case h.WantFence:
		answer.ShutDown = h.WantShutdown
	case h.WantShutdown && leads(f.Image, b.ID):
		own.leaving = -1
		return ShutDownBroker(f, b.ID, b.Epoch)
	case h.WantShutdown:
		answer.ShutDown = true
	default:
		return nil, nil
	}
	answer.Fenced = true
	return FenceBroker(f, b.ID, b.Epoch)
}

// lowest returns up to which index every active broker has applied the metadata.
func (s *Sessions) lowest(m *meta.Image) int64 {
	lowest := int64(math.MaxInt64)
	for _, b := range m.Live() {
		applied := int64(-1)
		if own := s.of(b.ID, b.Epoch); own != nil {
			applied = own.applied
		}
		lowest = min(lowest, applied)
	}
	return lowest
}

func leads(m *meta.Image, id int32) bool {
	found := false
	m.Topics("", func(t *meta.Topic) bool {
		found = slices.ContainsFunc(t.Partitions, func(p *meta.Partition) bool { return p.Leader == id })
		return !found
	})
	return found
}
