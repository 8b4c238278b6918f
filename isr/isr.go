// Package isr decides what a partition leader knows of its replicas: who is in
// sync, how far each has fetched, and so where the high watermark stands.
//
// It is pure: it reads no clock and does no I/O, and the owner of a [State]
// guards it.
package isr

import (
	"slices"
	"time"

	"github.com/klamm-io/klamm/bugs"
)

// State is the leader's view of one partition in one leader epoch.
//
// Invariant: the high watermark is at or below the log end of every member of
// the maximal ISR (KIP-497: the committed one together with additions that are
// proposed and not confirmed), and only grows.
type State struct {
	leader     int32
	epochStart int64 // log end when the leader's epoch began
	end        int64 // the leader's own log end
	high       int64 // high watermark
	minISR     int   // min.insync.replicas

	isr      []int32 // as the controller committed it
	proposed []int32 // additions under way
	replicas map[int32]*replica
}

// replica is what the leader knows of a follower.
type replica struct {
	end       int64     // it holds every record below
	start     int64     // its log start offset, as it last said
	endThen   int64     // the leader's log end at its last fetch
	lastFetch time.Time // zero before the first
	caughtUp  time.Time // when it last held all that the leader had
}

// New returns the state of a leader at the start of its epoch. end is its log
// end and high the high watermark that it knows from before.
func New(leader int32, replicas, inSync []int32, minISR int, end, high int64, now time.Time) *State {
	s := &State{leader: leader, epochStart: end, end: end, high: high, minISR: max(minISR, 1),
		isr: slices.Clone(inSync), replicas: make(map[int32]*replica, len(replicas))}
	for _, id := range replicas {
		if id != leader {
			s.replicas[id] = &replica{caughtUp: now}
		}
	}
	s.advance()
	return s
}

// HighWatermark returns the offset below which every record is committed.
func (s *State) HighWatermark() int64 { return s.high }

// End returns the leader's log end offset.
func (s *State) End() int64 { return s.end }

// InSync returns the committed in-sync set, which the caller must not change.
func (s *State) InSync() []int32 { return s.isr }

// Enough reports whether the in-sync set satisfies min.insync.replicas, so that
// a produce with acks=all may be appended.
func (s *State) Enough() bool { return len(s.isr) >= s.MinISR() }

// MinISR returns how many in-sync replicas are needed: min.insync.replicas, but
// no more than there are replicas.
func (s *State) MinISR() int { return min(s.minISR, len(s.replicas)+1) }

// SetMinISR changes min.insync.replicas. It reports whether the high watermark
// moved.
func (s *State) SetMinISR(n int) (advanced bool) {
	s.minISR = max(n, 1)
	return s.advance()
}

// Appended records that the leader's log now ends at end. It reports whether
// the high watermark moved.
func (s *State) Appended(end int64) (advanced bool) {
	s.end = end
	return s.advance()
}

// Fetched records that follower id asked for offset at now. Asking proves that
// it holds every record below offset. It reports whether the high watermark
// moved, so that the caller can wake parked produces and fetches.
//
// A fetch from a broker that is no replica of this partition changes nothing.
func (s *State) Fetched(id int32, offset int64, now time.Time) (advanced bool) {
	r := s.replicas[id]
	if r == nil {
		return false
	}
	switch {
	case offset >= s.end:
		r.caughtUp = now
	case offset >= r.endThen && r.lastFetch.After(r.caughtUp): // it has since read all that existed last time
		r.caughtUp = r.lastFetch
	}
	r.end, r.endThen, r.lastFetch = offset, s.end, now
	return s.advance()
}

// Began records that the log of follower id begins at start, as its fetch says. A leader
// sends consumers to it for no record below.
func (s *State) Began(id int32, start int64) {
	if r := s.replicas[id]; r != nil {
		r.start = start
	}
}

// Reachable is a follower that consumers may read a record from.
type Reachable struct {
	ID  int32
	End int64         // it holds every record below
	Lag time.Duration // since it held all that the leader had; 0 if it does now
}

// Reachable returns the followers that offset may be read from (KIP-392), in no order: those
// in the committed in-sync set that have fetched in this epoch, and whose log begins at
// offset or before and ends there or behind.
func (s *State) Reachable(offset int64, now time.Time) []Reachable {
	var out []Reachable
	for _, id := range s.isr {
		r := s.replicas[id]
		if r == nil || r.lastFetch.IsZero() || r.end < offset || r.start > offset {
			continue
		}
		f := Reachable{ID: id, End: r.end}
		if r.end < s.end {
			f.Lag = now.Sub(r.caughtUp)
		}
		out = append(out, f)
	}
	return out
}

// HasFollower reports whether a broker is a replica of the partition other than the
// leader.
func (s *State) HasFollower(id int32) bool { return s.replicas[id] != nil }

// Grow returns the followers that have caught up and could join the in-sync
// set: at the high watermark and past the start of the leader's epoch (KIP-320
// rule 4: a new leader's high watermark may be too low to tell).
func (s *State) Grow() []int32 {
	var out []int32
	for id, r := range s.replicas {
		if !r.lastFetch.IsZero() && r.end >= s.high && (r.end >= s.epochStart || bugs.Planted(bugs.GrowAtHighWatermark)) && !slices.Contains(s.isr, id) && !slices.Contains(s.proposed, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Lagging returns the in-sync followers that have not been caught up within
// maxLag before now (replica.lag.time.max.ms). The owner calls it at least twice in
// that time: one that holds all is caught up whenever it is called, whether or not it
// has asked since, for a follower's fetch session leaves out partitions that have no
// news, and so none of them is late as soon as there is a record again.
func (s *State) Lagging(now time.Time, maxLag time.Duration) []int32 {
	var out []int32
	for _, id := range s.isr {
		switch r := s.replicas[id]; {
		case r == nil:
		case r.end >= s.end:
			r.caughtUp = now
		case now.Sub(r.caughtUp) > maxLag:
			out = append(out, id)
		}
	}
	return out
}

// Propose notes that members are about to join the in-sync set. They hold the
// high watermark back from now on. A shrink needs no note: those about to leave
// stay in the committed set until the controller confirms it.
func (s *State) Propose(members []int32) { s.proposed = slices.Clone(members) }

// Commit takes over the in-sync set that the controller committed. It reports
// whether the high watermark moved.
func (s *State) Commit(inSync []int32) (advanced bool) {
	s.isr = slices.Clone(inSync)
	s.proposed = nil
	return s.advance()
}

// Change takes over the replicas and the in-sync set that the controller committed. It
// does both at once: between the two nobody might hold the high watermark back who does
// before and after. Replicas that are new have fetched nothing yet. It reports whether
// the high watermark moved.
func (s *State) Change(replicas, inSync []int32, now time.Time) (advanced bool) {
	known := make(map[int32]*replica, len(replicas))
	for _, id := range replicas {
		switch r := s.replicas[id]; {
		case r != nil:
			known[id] = r
		case id != s.leader:
			known[id] = &replica{caughtUp: now}
		}
	}
	s.replicas = known
	return s.Commit(inSync)
}

func (s *State) advance() bool {
	if !s.Enough() && !bugs.Planted(bugs.IgnoreMinISR) { // KIP-966: no progress below min.insync.replicas
		return false
	}
	low := s.end
	for _, set := range [2][]int32{s.isr, s.proposed} {
		if bugs.Planted(bugs.CommittedISROnly) {
			set = s.isr
		}
		for _, id := range set {
			if r := s.replicas[id]; r != nil {
				low = min(low, r.end)
			}
		}
	}
	if low <= s.high {
		return false
	}
	s.high = low
	return true
}
