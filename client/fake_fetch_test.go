package client

import (
	"math"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// idOf returns the id of a topic. The caller holds mu.
func (f *fake) idOf(name string) prim.UUID {
	if f.noIDs {
		return prim.UUID{}
	}
	return f.ids[name]
}

// nameOf returns the name of the topic that a request means, by name or by id. The
// caller holds mu.
func (f *fake) nameOf(name string, id prim.UUID) (string, bool) {
	if id == (prim.UUID{}) {
		return name, true
	}
	for name, have := range f.ids {
		if have == id && f.topics[name] != nil {
			return name, true
		}
	}
	return "", false
}

// fakeSession is a fetch session at a broker of a fake.
type fakeSession struct {
	broker, epoch int32
	ids           bool
	parts         []fakeWant
}

type fakeWant struct {
	topic string
	id    prim.UUID
	msg.FetchRequestFetchPartition
	told, ended int64 // log end that was told, and is told with the answer under way
}

func (w *fakeWant) is(topic string, id prim.UUID, partition int32) bool {
	return w.topic == topic && w.id == id && w.Partition == partition
}

// fetch answers a Fetch as a broker does, sessions included, but does not wait for
// records. A request that is given again is answered anew, in the same place of its
// session.
func (f *fake) fetch(id int32, r *msg.FetchRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, again := f.entered[r]
	if !again {
		e.session, e.head = f.enter(id, r)
		if e.session == nil {
			return e.head
		}
		f.entered[r] = e
	}
	resp := *e.head
	f.fetchIn(id, e.session, r.IsolationLevel, r.SessionEpoch > 0, &resp)
	return &resp
}

// fakeEntered is a fetch's session and the head of its answer.
type fakeEntered struct {
	session *fakeSession
	head    *msg.FetchResponse
}

// enter takes the head of a request, and what it changes of its session. Without a
// session the answer is whole. The caller holds mu.
func (f *fake) enter(id int32, r *msg.FetchRequest) (*fakeSession, *msg.FetchResponse) {
	resp := new(msg.FetchResponse)
	resp.SetDefaults()
	f.asked = append(f.asked, fakeAsk{id, r.SessionId, r.SessionEpoch, int32(len(r.Topics)), int32(len(r.ForgottenTopicsData)), time.Now()})
	s := f.sessions[r.SessionId]
	switch {
	case r.SessionEpoch < 0:
		delete(f.sessions, r.SessionId)
		if r.SessionId != 0 {
			return nil, resp
		}
		s = new(fakeSession)
	case r.SessionEpoch == 0:
		delete(f.sessions, r.SessionId)
		f.nextSession++
		s = &fakeSession{broker: id, ids: len(r.Topics) > 0 && r.Topics[0].TopicId != prim.UUID{}}
		if !f.noSessions {
			f.sessions[f.nextSession] = s
			resp.SessionId = f.nextSession
		}
	case s == nil || s.broker != id:
		resp.ErrorCode = int16(kerr.FetchSessionIdNotFound)
		return nil, resp
	case r.SessionEpoch != s.epoch:
		resp.ErrorCode = int16(kerr.InvalidFetchSessionEpoch)
		return nil, resp
	default:
		resp.SessionId = r.SessionId
		for _, t := range r.Topics {
			if ids := t.TopicId != (prim.UUID{}); ids != s.ids {
				resp.ErrorCode = int16(kerr.FetchSessionTopicIdError)
				return nil, resp
			}
		}
	}
	for _, t := range r.ForgottenTopicsData {
		for _, p := range t.Partitions {
			n := len(s.parts)
			s.parts = slices.DeleteFunc(s.parts, func(w fakeWant) bool { return w.is(t.Topic, t.TopicId, p) })
			if len(s.parts) != n-1 {
				f.t.Errorf("broker %d: session %d: %s-%d is forgotten, and was not held", id, r.SessionId, t.Topic, p)
			}
		}
	}
	for _, t := range r.Topics {
		for _, d := range t.Partitions {
			w := fakeWant{t.Topic, t.TopicId, d, -1, -1}
			if i := slices.IndexFunc(s.parts, func(o fakeWant) bool { return o.is(t.Topic, t.TopicId, d.Partition) }); i >= 0 {
				w.told, w.ended = s.parts[i].told, s.parts[i].ended
				s.parts[i] = w
			} else {
				s.parts = append(s.parts, w)
			}
		}
	}
	for i := range s.parts {
		s.parts[i].told = s.parts[i].ended
	}
	if s.epoch++; s.epoch == math.MinInt32 {
		s.epoch = 1
	}
	return s, resp
}

// fetchIn answers for the partitions of a session: for all, or those with news. The
// caller holds mu.
func (f *fake) fetchIn(id int32, s *fakeSession, isolation int8, newsOnly bool, resp *msg.FetchResponse) {
	for i := range s.parts {
		w := &s.parts[i]
		pr := f.fetchOne(id, w, isolation)
		news := pr.ErrorCode != 0 || len(pr.Records.B) > 0 || pr.HighWatermark != w.told || pr.DivergingEpoch.Epoch >= 0
		w.ended = pr.HighWatermark
		if newsOnly && !news {
			continue
		}
		n := len(resp.Responses)
		if n == 0 || resp.Responses[n-1].Topic != w.topic || resp.Responses[n-1].TopicId != w.id {
			resp.Responses = append(resp.Responses, msg.FetchResponseFetchableTopicResponse{Topic: w.topic, TopicId: w.id})
			n++
		}
		resp.Responses[n-1].Partitions = append(resp.Responses[n-1].Partitions, pr)
	}
}

// ends answers OffsetForLeaderEpoch.
func (f *fake) ends(id int32, r *msg.OffsetForLeaderEpochRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.OffsetForLeaderEpochResponse)
	for _, t := range r.Topics {
		tr := msg.OffsetForLeaderEpochResponseOffsetForLeaderTopicResult{Topic: t.Topic}
		for _, d := range t.Partitions {
			e := msg.OffsetForLeaderEpochResponseEpochEndOffset{Partition: d.Partition, LeaderEpoch: -1, EndOffset: -1}
			p := f.topics[t.Topic][d.Partition]
			switch {
			case p.leader != id:
				e.ErrorCode = int16(kerr.NotLeaderOrFollower)
			case d.CurrentLeaderEpoch >= 0 && d.CurrentLeaderEpoch < p.epoch:
				e.ErrorCode = int16(kerr.FencedLeaderEpoch)
			case d.CurrentLeaderEpoch > p.epoch:
				e.ErrorCode = int16(kerr.UnknownLeaderEpoch)
			case !p.forgetful:
				e.LeaderEpoch, e.EndOffset = p.endOf(d.LeaderEpoch)
			}
			tr.Partitions = append(tr.Partitions, e)
		}
		resp.Topics = append(resp.Topics, tr)
	}
	return resp
}

// truncate cuts a log off at an offset, as a new leader that did not have the rest.
func (f *fake) truncate(topic string, partition int, to int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.topics[topic][partition]
	p.batches = slices.DeleteFunc(p.batches, func(b record.Batch) bool { return b.LastOffset() >= to })
	p.end = to
}

// fetchOne answers for one partition. The caller holds mu.
func (f *fake) fetchOne(id int32, d *fakeWant, isolation int8) msg.FetchResponsePartitionData {
	pr := msg.FetchResponsePartitionData{}
	pr.SetDefaults()
	pr.PartitionIndex, pr.HighWatermark = d.Partition, -1
	name, known := f.nameOf(d.topic, d.id)
	if !known {
		pr.ErrorCode = int16(kerr.UnknownTopicId)
		return pr
	}
	if int(d.Partition) >= len(f.topics[name]) {
		pr.ErrorCode = int16(kerr.UnknownTopicOrPartition)
		return pr
	}
	p := f.topics[name][d.Partition]
	switch {
	case d.CurrentLeaderEpoch >= 0 && d.CurrentLeaderEpoch < p.epoch && p.leader == id:
		pr.ErrorCode = int16(kerr.FencedLeaderEpoch)
		return pr
	case d.CurrentLeaderEpoch > p.epoch:
		pr.ErrorCode = int16(kerr.UnknownLeaderEpoch)
		return pr
	}
	pr.HighWatermark, pr.LastStableOffset, pr.LogStartOffset = p.end, p.end, p.start
	switch {
	case p.leader != id:
		pr.ErrorCode = int16(kerr.NotLeaderOrFollower)
		return pr
	case d.LastFetchedEpoch >= 0:
		if epoch, end := p.endOf(d.LastFetchedEpoch); epoch < d.LastFetchedEpoch || end < d.FetchOffset {
			pr.DivergingEpoch.Epoch, pr.DivergingEpoch.EndOffset = epoch, end
			return pr
		}
	}
	if d.FetchOffset < p.start || d.FetchOffset > p.end {
		pr.ErrorCode = int16(kerr.OffsetOutOfRange)
		return pr
	}
	var b []byte
	for _, batch := range p.batches {
		if batch.LastOffset() >= d.FetchOffset && (len(b) == 0 || len(b)+len(batch) <= int(d.PartitionMaxBytes)) {
			b = append(b, batch...)
		}
	}
	pr.Records = prim.Records{B: b}
	if isolation == 1 {
		pr.AbortedTransactions = f.aborted
	}
	return pr
}

// endOf returns the largest epoch up to one that the log has records of, and where
// its records end; as OffsetsForLeaderEpoch does.
func (p *fakePartition) endOf(epoch int32) (int32, int64) {
	if epoch >= p.epoch {
		return p.epoch, p.end
	}
	last, end := int32(-1), p.start
	for _, b := range p.batches {
		if b.LeaderEpoch() <= epoch {
			last, end = b.LeaderEpoch(), b.LastOffset()+1
		}
	}
	if last < 0 {
		return epoch, p.start
	}
	return last, end
}
