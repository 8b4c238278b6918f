package api

import (
	"math"
	"math/rand/v2"
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
	begins int64 // log start offset of a follower that asks; -1 for a consumer

	name string // of the topic of that id, once it was found

	told             bool // the client knows the two offsets below
	high, start, lso int64
	code             kerr.Code
	warned           bool // it knows the code too, and has not changed what it asks for

	// known is the high watermark that a follower has: what it says itself (from version
	// 18 on), or what it was told last. MaxInt64 stands for one that is not known.
	known int64

	in *member // of a session; nil without one
}

func (f *fetched) ask(t *msg.FetchRequestFetchTopic, p *msg.FetchRequestFetchPartition) {
	f.topic, f.id, f.index = t.Topic, t.TopicId, p.Partition
	f.offset, f.epoch, f.last, f.max = p.FetchOffset, max(p.CurrentLeaderEpoch, -1), p.LastFetchedEpoch, p.PartitionMaxBytes
	f.begins = p.LogStartOffset
	f.warned = false
	if p.HighWatermark != math.MaxInt64 || !f.told {
		f.known = p.HighWatermark
	}
}

// fetchReader is who a request of a session reads for.
type fetchReader struct {
	follower  int32 // -1: a consumer
	committed bool  // read_committed
}

func readerOf(req *msg.FetchRequest, v int16) fetchReader {
	return fetchReader{follower(req, v), req.IsolationLevel == 1}
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
	busy     bool
	gone     bool // closed or evicted: when it is no longer busy it is released
	size     int  // partitions, as of its last request
	created  time.Time
	used     time.Time
	follower bool

	// The partitions.
	parts  []*fetched // in no order
	index  map[fetchKey]*fetched
	orders int64 // member.order of the next
	who    fetchReader

	news sessionNews
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
	parts   []*fetched    // that the request visits
	settled bool          // the session knows what came of the visits
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
			t.session = s.open(req, v, t.parts)
			t.fresh = t.session != nil
			if t.fresh {
				t.parts = t.parts[:0]
			}
		}
		return t, kerr.None
	}
	f, code := s.take(id, epoch, v >= 13)
	if code != kerr.None {
		return turn{}, code
	}
	f.change(req)
	f.asks(readerOf(req, v))
	t := turn{session: f, parts: scratch.parts[:0]}
	if len(f.parts) == 0 {
		s.close(id) // nothing is left to fetch: it is answered without a session
		s.end(&t)
		return turn{}, kerr.None
	}
	return t, kerr.None
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

// close ends a session, if it is there.
func (s *fetchSessions) close(id int32) {
	s.mu.Lock()
	f := s.all[id]
	idle := f != nil && s.drop(f)
	s.mu.Unlock()
	if idle {
		f.release()
	}
}

// drop takes a session out of the cache. It reports whether the caller must release
// it; else the request that it is busy with does. mu is held.
func (s *fetchSessions) drop(f *fetchSession) (idle bool) {
	delete(s.all, f.id)
	f.gone = true
	return !f.busy
}

// end ends a turn. What was visited for an answer that did not come about is visited
// again.
func (s *fetchSessions) end(t *turn) {
	f := t.session
	if f == nil {
		return
	}
	if !t.settled {
		f.settle(t.parts, nil, nil)
	}
	s.mu.Lock()
	f.busy, f.size = false, len(f.parts)
	gone := f.gone
	s.mu.Unlock()
	if gone {
		f.release()
	}
}

// open makes a session if there is room or if another can be evicted.
func (s *fetchSessions) open(req *msg.FetchRequest, v int16, parts []*fetched) *fetchSession {
	if len(parts) == 0 {
		return nil
	}
	now := s.now()
	f := &fetchSession{epoch: 1, byID: v >= 13, created: now, used: now, busy: true, size: len(parts),
		follower: req.ReplicaId >= 0 || req.ReplicaState.ReplicaId >= 0, who: readerOf(req, v)}
	if !s.admit(f, now) {
		return nil
	}
	// It is busy: nobody else looks at its partitions.
	f.index = make(map[fetchKey]*fetched, len(parts))
	f.parts = make([]*fetched, 0, len(parts))
	for _, p := range parts {
		own := new(fetched)
		*own = *p
		f.add(own)
	}
	return f
}

// admit gives a session an id, if there is room or another can be evicted.
func (s *fetchSessions) admit(f *fetchSession, now time.Time) bool {
	s.mu.Lock()
	var evicted *fetchSession
	if len(s.all) >= s.slots {
		if evicted = s.worst(f, now); evicted == nil {
			s.mu.Unlock()
			return false
		}
	}
	idle := evicted != nil && s.drop(evicted)
	for {
		f.id = rand.Int32N(1<<31-1) + 1
		if s.all[f.id] == nil {
			break
		}
	}
	s.all[f.id] = f
	s.mu.Unlock()
	if idle {
		evicted.release()
	}
	return true
}

// worst returns the session that is evicted for f: one that was not used for a while,
// or else one that is less worthy and not young; nil if there is none.
func (s *fetchSessions) worst(f *fetchSession, now time.Time) *fetchSession {
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
		return oldest
	case least != nil && (f.follower && !least.follower || f.follower == least.follower && f.size > least.size):
		return least
	}
	return nil
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
			p := f.index[asked.key()]
			if p == nil {
				p = new(fetched)
				p.ask(t, &t.Partitions[j])
				f.add(p)
				continue
			}
			p.ask(t, &t.Partitions[j])
			f.news.mark(p.in)
		}
	}
	for i := range req.ForgottenTopicsData {
		t := &req.ForgottenTopicsData[i]
		for _, index := range t.Partitions {
			if p := f.index[fetchKey{t.Topic, t.TopicId, index}]; p != nil {
				f.remove(p)
			}
		}
	}
}
