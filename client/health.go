package client

import "time"

// standing says how likely a broker is to answer the next request. Requests that
// any broker can answer go to the lowest first.
type standing uint8

const (
	isAnswering standing = iota // its last news was an answer
	isUntried                   // there is no news of it
	isDoubtful                  // it takes connections again after a failure, and has answered no request yet
	isLostNow                   // its last news was a failure
)

// health is what a client knows of whether one broker answers. Connections teach
// it, and it belongs to none of them: a broker that fails on one is not asked on
// another before it has shown that it is back.
//
// It is pure: times are arguments. Its owner guards it.
//
// Invariant: why is not nil exactly while the last news was a failure. fails
// counts failures that came soon, without a connection that lived in between, and
// until is not in the past of the last of them.
type health struct {
	heard  time.Time // when the broker last answered anything; zero for never
	lostAt time.Time // when it last failed
	why    error     // what that was; nil once it has answered since
	losses int       // failures of any kind, ever
	fails  int       // those in a row that ask for a pause
	proven bool      // it has answered more than a greeting since the last failure
	until  time.Time // no dial before
}

// greeted notes that the broker has taken a connection at a time.
func (h *health) greeted(at time.Time) {
	if at.Before(h.lostAt) {
		return // it answered, and failed after that
	}
	h.why = nil
	if at.After(h.heard) {
		h.heard = at
	}
}

// answered notes an answer to a request that is no greeting. News that is older
// than the last failure changes nothing.
func (h *health) answered(at time.Time) {
	if !at.Before(h.lostAt) {
		h.proven = true
	}
	h.greeted(at)
}

// fail notes a failure: a dial, a greeting, the end of a connection, an answer
// that did not come. pause is how long to wait before the next dial, as a function
// of how many have failed in a row; nil for the end of a connection that has lived.
func (h *health) fail(now time.Time, why error, pause func(fails int) time.Duration) {
	h.lostAt, h.why, h.proven = now, why, false
	h.losses++
	h.fails++
	if pause == nil {
		h.fails = 0
		return
	}
	h.until = now.Add(pause(h.fails))
}

// silentSince reports whether the broker has answered nothing since a time.
func (h *health) silentSince(t time.Time) bool { return !h.heard.After(t) }

// standing returns how likely the broker is to answer.
func (h *health) standing() standing {
	switch {
	case h.why != nil:
		return isLostNow
	case h.fails > 0 && !h.proven:
		return isDoubtful
	case h.heard.IsZero():
		return isUntried
	}
	return isAnswering
}
