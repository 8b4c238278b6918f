package api

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// fetched is one partition of a fetch, and where it is part of a session, what
// the client was sent of it last.
type fetched struct {
	topic  string // as the request names it; "" where it names an id
	id     prim.UUID
	index  int32
	offset int64
	epoch  int32 // current leader epoch that the client knows; -1 none
	last   int32 // last fetched epoch; -1 none
	max    int32 // partition max bytes

	name string // of the topic of that id, once it was found

	told             bool // the client knows the two offsets below
	high, start, lso int64
	code             kerr.Code
	warned           bool // it knows the code too, and has not changed what it asks for
}

func (f *fetched) ask(t *msg.FetchRequestFetchTopic, p *msg.FetchRequestFetchPartition) {
	f.topic, f.id, f.index = t.Topic, t.TopicId, p.Partition
	f.offset, f.epoch, f.last, f.max = p.FetchOffset, max(p.CurrentLeaderEpoch, -1), p.LastFetchedEpoch, p.PartitionMaxBytes
	f.warned = false
}

type fetchKey struct {
	topic string
	id    prim.UUID
	index int32
}

func (f *fetched) key() fetchKey { return fetchKey{f.topic, f.id, f.index} }

// fetchSession is a fetch session (KIP-227): the partitions that a client
// fetches, so that it need not name them each time, nor be sent those that
// did not change. While it is busy, its partitions belong to the request; the
// other fields are guarded by the sessions' mutex.
type fetchSession struct {
	id       int32
	epoch    int32 // that the next request must carry
	byID     bool  // the partitions are named by topic id
	parts    []*fetched
	index    map[fetchKey]*fetched
	busy     bool
	size     int // partitions, as of its last request
	created  time.Time
	used     time.Time
	follower bool
}

// fetchSessions is the cache of sessions of a broker.
type fetchSessions struct {
	slots int
	now   func() time.Time

	mu  sync.Mutex
	all map[int32]*fetchSession
}

func newFetchSessions(slots int, c clock.Clock) *fetchSessions {
	return &fetchSessions{slots: slots, now: c.Now, all: make(map[int32]*fetchSession)}
}

const (
	// evictAfter is how long a session is safe from one that is as worthy.
	evictAfter = 120 * time.Second

	finalEpoch   = -1 // closes a session
	initialEpoch = 0  // opens one
)

// turn is one request of a session, or a request without one.
type turn struct {
	session *fetchSession // nil: answer in full
	fresh   bool          // the session begins with this request
	parts   []*fetched
}

// begin finds the session of a request and applies what the request changes in
// it. scratch is memory for the partitions of a request without a session.
func (s *fetchSessions) begin(req *msg.FetchRequest, v int16, scratch *fetchScratch) (turn, kerr.Code) {
	id, epoch := req.SessionId, req.SessionEpoch
	if v < 7 {
		id, epoch = 0, finalEpoch
	}
	if epoch == initialEpoch || epoch == finalEpoch {
		s.close(id)
		t := turn{parts: scratch.collect(req)}
		if epoch == initialEpoch {
			t.session = s.open(req, v >= 13, t.parts)
			t.fresh = true
			if t.session != nil {
				t.parts = t.session.parts
			}
		}
		return t, kerr.None
	}
	f, code := s.take(id, epoch, v >= 13)
	if code != kerr.None {
		return turn{}, code
	}
	f.change(req)
	if len(f.parts) == 0 {
		s.close(id) // nothing is left to fetch: it is answered without a session
		return turn{}, kerr.None
	}
	return turn{session: f, parts: f.parts}, kerr.None
}

// take has a session be busy with the request that carries epoch.
func (s *fetchSessions) take(id, epoch int32, byID bool) (*fetchSession, kerr.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.all[id]
	switch {
	case f == nil:
		return nil, kerr.FetchSessionIdNotFound
	case f.epoch != epoch || f.busy:
		return nil, kerr.InvalidFetchSessionEpoch
	case f.byID != byID:
		return nil, kerr.FetchSessionTopicIdError
	}
	f.used = s.now()
	if f.epoch++; f.epoch < 0 {
		f.epoch = 1
	}
	f.busy = true
	return f, kerr.None
}

func (s *fetchSessions) close(id int32) {
	s.mu.Lock()
	delete(s.all, id)
	s.mu.Unlock()
}

// end ends a turn. order is that of the partitions in the next one.
func (s *fetchSessions) end(t turn) {
	if t.session != nil {
		s.mu.Lock()
		t.session.busy, t.session.size = false, len(t.session.parts)
		s.mu.Unlock()
	}
}

// open makes a session if there is room or if another can be evicted.
func (s *fetchSessions) open(req *msg.FetchRequest, byID bool, parts []*fetched) *fetchSession {
	if len(parts) == 0 {
		return nil
	}
	now := s.now()
	f := &fetchSession{epoch: 1, byID: byID, created: now, used: now, busy: true, size: len(parts),
		follower: req.ReplicaId >= 0 || req.ReplicaState.ReplicaId >= 0}
	if !s.admit(f, now) {
		return nil
	}
	// It is busy: nobody else looks at its partitions.
	f.index = make(map[fetchKey]*fetched, len(parts))
	f.parts = make([]*fetched, 0, len(parts))
	for _, p := range parts {
		own := new(fetched)
		*own = *p
		f.parts = append(f.parts, own)
		f.index[own.key()] = own
	}
	return f
}

// admit gives a session an id, if there is room or another can be evicted.
func (s *fetchSessions) admit(f *fetchSession, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= s.slots && !s.evict(f, now) {
		return false
	}
	for {
		f.id = rand.Int32N(1<<31-1) + 1
		if s.all[f.id] == nil {
			break
		}
	}
	s.all[f.id] = f
	return true
}

// evict makes room for f: of a session that was not used for a while, or else
// of one that is less worthy and not young.
func (s *fetchSessions) evict(f *fetchSession, now time.Time) bool {
	var oldest, least *fetchSession
	for _, c := range s.all {
		if oldest == nil || c.used.Before(oldest.used) {
			oldest = c
		}
		if now.Sub(c.created) > evictAfter && (least == nil || c.less(least)) {
			least = c
		}
	}
	switch {
	case oldest != nil && now.Sub(oldest.used) > evictAfter:
		delete(s.all, oldest.id)
		return true
	case least != nil && (f.follower && !least.follower || f.follower == least.follower && f.size > least.size):
		delete(s.all, least.id)
		return true
	}
	return false
}

func (f *fetchSession) less(o *fetchSession) bool {
	if f.follower != o.follower {
		return !f.follower
	}
	return f.size < o.size
}

// change applies the partitions that an incremental request names and then
// those that it forgets.
func (f *fetchSession) change(req *msg.FetchRequest) {
	var asked fetched
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			asked.ask(t, &t.Partitions[j])
			k := fetchKey{asked.topic, asked.id, asked.index}
			p := f.index[k]
			if p == nil {
				p = new(fetched)
				f.index[k] = p
				f.parts = append(f.parts, p)
			}
			p.ask(t, &t.Partitions[j])
		}
	}
	for i := range req.ForgottenTopicsData {
		t := &req.ForgottenTopicsData[i]
		for _, index := range t.Partitions {
			k := fetchKey{t.Topic, t.TopicId, index}
			delete(f.index, k)
		}
	}
	if len(f.index) < len(f.parts) {
		f.parts = slices.DeleteFunc(f.parts, func(p *fetched) bool { return f.index[p.key()] != p })
	}
}

// rotate moves the partitions that were sent with data to the end, so that the
// others come first next time. sent says for each whether it was.
func (f *fetchSession) rotate(sent []bool) {
	n := 0
	for _, yes := range sent {
		if yes {
			n++
		}
	}
	if n == 0 || n == len(f.parts) {
		return
	}
	kept := make([]*fetched, 0, len(f.parts))
	for i, p := range f.parts {
		if !sent[i] {
			kept = append(kept, p)
		}
	}
	for i, p := range f.parts {
		if sent[i] {
			kept = append(kept, p)
		}
	}
	f.parts = kept
}
