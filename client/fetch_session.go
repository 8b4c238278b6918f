package client

import (
	"math"
	"slices"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// fetchWant is what a consumer wants to read of one partition.
type fetchWant struct {
	tp          TopicPartition
	id          prim.UUID // of the topic; zero if it is not known
	offset      int64
	leaderEpoch int32 // -1 if not known
	lastEpoch   int32 // of the last record read, -1 if not known
	maxBytes    int32
	news        bool // the position has heard nothing of the partition yet, not even where it ends
}

// fetchAsk is one request of a session.
type fetchAsk struct {
	id, epoch int32
	send      []fetchWant
	forget    []fetchWant
	full      bool // send is all that is wanted, and all of it must be answered
}

// Epochs of requests that are not the next of a session.
const (
	sessionFull  = 0  // makes a session, in place of the one that is named
	sessionFinal = -1 // ends it
)

// fetchSession is a consumer's fetch session at one broker (KIP-227). The broker
// keeps what is wanted, so that a request names only what has changed since the last
// one, and an answer only partitions with news. What both sides hold must not come
// apart: after an error, or an answer that cannot be, everything is said again.
//
// What the broker has said was for the position that the partition had then. One that
// was made since, by a rebalance, an Assign or a Seek, would not hear where the
// partition ends before that changes: all is asked for again for it.
//
// It is pure. One request of a session is under way at a time: next is followed by
// answered or failed.
//
// Invariant: while epoch is above 0, parts is what the broker holds under id once
// it has answered. Epochs count from 1 and wrap to 1.
type fetchSession struct {
	id    int32 // 0 without a session
	epoch int32 // of the next request
	ids   bool  // topics are named by their ids
	parts map[TopicPartition]fetchWant
	full  bool // the request under way is
}

// next returns the request for what is wanted now; want is the session's from then on.
// It names topics by their ids if ids is set; a session does so throughout.
func (s *fetchSession) next(want []fetchWant, ids bool) fetchAsk {
	if s.epoch > 0 && (s.ids != ids || slices.ContainsFunc(want, s.told)) {
		s.epoch = sessionFull
	}
	ask := fetchAsk{id: s.id, epoch: s.epoch, full: s.epoch == sessionFull}
	parts := make(map[TopicPartition]fetchWant, len(want))
	for i := range want {
		want[i].news = false // nothing of what the broker holds
		parts[want[i].tp] = want[i]
	}
	if ask.full {
		ask.send = want
	} else {
		for _, w := range want {
			old, held := s.parts[w.tp]
			if held && old.id != w.id { // another topic of that name
				ask.forget = append(ask.forget, old)
			}
			if !held || old != w {
				ask.send = append(ask.send, w)
			}
		}
		for tp, old := range s.parts {
			if _, wanted := parts[tp]; !wanted {
				ask.forget = append(ask.forget, old)
			}
		}
	}
	s.parts, s.ids, s.full = parts, ids, ask.full
	return ask
}

// told reports whether the broker may have told another position what this one wants
// to hear.
func (s *fetchSession) told(w fetchWant) bool {
	old, held := s.parts[w.tp]
	return w.news && held && old.id == w.id
}

// answered takes the head of an answer and the partitions in it. It reports whether
// they can be used: they are what was asked for.
func (s *fetchSession) answered(code kerr.Code, id int32, named []TopicPartition) bool {
	if code != kerr.None {
		if code == kerr.FetchSessionIdNotFound {
			s.id = 0
		}
		s.epoch = sessionFull
		return false
	}
	known := make(map[TopicPartition]bool, len(named))
	for _, tp := range named {
		if _, wanted := s.parts[tp]; !wanted {
			s.epoch = sessionFull
			return false
		}
		known[tp] = true
	}
	switch {
	case s.full && len(known) < len(s.parts), id == 0:
		s.id, s.epoch = 0, sessionFull // none was made, or the broker has ended it
	case s.full:
		s.id, s.epoch = id, 1
	case id != s.id:
		s.epoch = sessionFull
		return false
	case s.epoch == math.MaxInt32:
		s.epoch = 1
	default:
		s.epoch++
	}
	return true
}

// failed notes that no answer came: what the broker holds is not known.
func (s *fetchSession) failed() { s.epoch = sessionFull }

// last returns the request that ends the session, if there is one.
func (s *fetchSession) last() (fetchAsk, bool) {
	ask := fetchAsk{id: s.id, epoch: sessionFinal}
	*s = fetchSession{}
	return ask, ask.id != 0
}
