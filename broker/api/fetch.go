package api

import (
	"errors"
	"sync"
	"time"

	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What the versions of Fetch add to version 4:
//
//	v5   request: Topics.Partitions.LogStartOffset; response: Responses.Partitions.LogStartOffset
//	v6   KAFKA_STORAGE_ERROR may be answered
//	v7   request: SessionId, SessionEpoch, ForgottenTopicsData; response: ErrorCode, SessionId
//	v8   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v9   request: Topics.Partitions.CurrentLeaderEpoch
//	v10  zstd (KIP-110)
//	v11  request: RackId; response: Responses.Partitions.PreferredReadReplica
//	v12  request: ClusterId, Topics.Partitions.LastFetchedEpoch; response: Responses.Partitions.DivergingEpoch,
//	     Responses.Partitions.CurrentLeader, Responses.Partitions.SnapshotId; compact and tagged fields
//	v13  request: Topics.TopicId, ForgottenTopicsData.TopicId, without Topics.Topic, ForgottenTopicsData.Topic;
//	     response: Responses.TopicId, without Responses.Topic
//	v14  the same fields
//	v15  request: ReplicaState, without ReplicaId
//	v16  response: NodeEndpoints
//	v17  request: Topics.Partitions.ReplicaDirectoryId
//	v18  request: Topics.Partitions.HighWatermark

// fetchScratch is the memory that one fetch works in until its answer is written.
// It is used again, by whichever connection fetches next: one that waits for its
// next request has none.
type fetchScratch struct {
	session *Session // whose fetch it is
	req     msg.FetchRequest
	resp    msg.FetchResponse
	parts   []*fetched // that are visited
	own     []fetched  // of a full request
	reads   []read
	sent    []bool
	quiet   []bool
	wait    fetchWait
}

// collect gathers the partitions of a full request.
func (s *fetchScratch) collect(req *msg.FetchRequest) []*fetched {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	s.own = resize(s.own, n)
	s.parts = resize(s.parts, n)
	seen := make(map[fetchKey]*fetched, n)
	n = 0
	for i := range req.Topics {
		t := &req.Topics[i]
		for j := range t.Partitions {
			f := &s.own[n]
			*f = fetched{}
			f.ask(t, &t.Partitions[j])
			if first := seen[f.key()]; first != nil { // it is answered once, and what was said last counts
				*first = *f
				continue
			}
			seen[f.key()] = f
			s.parts[n] = f
			n++
		}
	}
	return s.parts[:n]
}

var fetchScratches = sync.Pool{New: func() any { return new(fetchScratch) }}

// fetchScratch returns memory for a fetch. A connection has one fetch under way at
// a time.
func (s *Session) fetchScratch() *fetchScratch {
	s.fetch = fetchScratches.Get().(*fetchScratch)
	s.fetch.session = s
	return s.fetch
}

// Release implements Releaser: the response was written, or never will be.
func (s *fetchScratch) Release() {
	s.drop()
	s.session.fetch = nil
	s.session = nil
	n := cap(s.own) + cap(s.parts) + cap(s.reads) + cap(s.wait.watched)
	for _, t := range s.req.Topics[:cap(s.req.Topics)] {
		n += 1 + cap(t.Partitions)
	}
	for _, t := range s.resp.Responses[:cap(s.resp.Responses)] {
		n += 1 + cap(t.Partitions)
	}
	if n > 6*keepPartitions {
		return
	}
	clear(s.parts[:cap(s.parts)])
	clear(s.reads)
	fetchScratches.Put(s)
}

// drop gives back what was read.
func (s *fetchScratch) drop() {
	for i := range s.reads {
		if c := s.reads[i].region; c != nil {
			c.Release()
			s.reads[i].region = nil
		}
	}
}

// read is what a fetch found in one partition.
type read struct {
	p         *replication.Partition // nil if it is not here
	region    *prim.Region           // nil if nothing was read
	code      kerr.Code
	high      int64
	lso       int64
	start     int64
	follower  bool // that asked and is none
	diverging msg.FetchResponseEpochEndOffset
	preferred int32 // where the consumer is to read instead, -1 for here
	aborted   []msg.FetchResponseAbortedTransaction
	end       bool // there is nothing more for this reader
	behind    bool // a follower that does not know the high watermark
}

// fetch answers Fetch (key 1, v4-v18): up to MaxBytes of whole batches, at once
// if there are MinBytes, else once there are or after MaxWaitMs.
func (h *Handlers) fetch(c *Call, body []byte) (Answer, error) {
	s := c.Session.fetchScratch()
	answered := false
	defer func() {
		if !answered {
			s.Release()
		}
	}()
	req := &s.req
	if err := decode(req, body, c.Version()); err != nil {
		return Answer{}, malformed(c, err)
	}
	s.resp.SetDefaults()
	t, code := h.sessions.begin(req, c.Version(), s)
	if code != kerr.None {
		s.resp.ErrorCode = int16(code)
		answered = true
		return Answer{Response: &s.resp, Done: s}, nil
	}
	defer h.sessions.end(&t)
	if err := h.collect(c, s, &t); err != nil {
		return Answer{}, err
	}
	h.fill(c, s, &t)
	answered = true
	return Answer{Response: &s.resp, Done: s}, nil
}

// collect reads until there is enough to answer with, or time is up.
func (h *Handlers) collect(c *Call, s *fetchScratch, t *turn) error {
	req := &s.req
	enough := h.readAll(c, s, t)
	if enough || req.MaxWaitMs <= 0 || len(t.parts) == 0 && t.session == nil {
		return nil
	}
	w := &s.wait
	w.prepare(c, h.Clock, time.Duration(req.MaxWaitMs)*time.Millisecond)
	defer w.finish(c)
	if t.session != nil {
		t.session.news.wakes(w.alarm)
		defer t.session.news.wakes(nil)
	} else {
		mark := replication.HighWatermark
		if follower(req, c.Version()) >= 0 {
			mark = replication.LogEnd
		}
		w.watch(s.reads, mark)
	}
	for again := t.session == nil; ; again = true {
		// Records that came between the read and the watch are found here. A session
		// watches what it reads before it does.
		if again {
			s.drop()
			if h.readAll(c, s, t) || w.expired.Load() {
				return nil
			}
		}
		if err := c.Park(func() { w.wait(c) }); err != nil {
			return err
		}
		if c.Context.Err() != nil {
			return nil // the broker stops: what there is goes out
		}
	}
}

// readAll reads every partition that is visited once, in order: all of a request
// without a session, and those of a session that may have news. It reports whether the
// answer need not wait: there are MinBytes, something went wrong that the client should
// know now, it is sent to another replica, a follower does not know the high watermark, or nothing that is asked for
// can be waited for.
//
// Topics and partitions that do not exist end no wait (Kafka answers for them
// without asking for their logs), and neither does an error that the session has
// told of before: a client that asks again at once, whatever the answer, would
// ask as fast as it can for as long as the error lasts.
func (h *Handlers) readAll(c *Call, s *fetchScratch, t *turn) (enough bool) {
	req := &s.req
	budget := min(int(req.MaxBytes), h.Broker.FetchMaxBytes)
	total, waits := 0, false
	if t.session != nil {
		t.parts = t.session.news.take(t.parts)
		s.parts = t.parts
		waits = len(t.parts) < len(t.session.parts) // the others were read without an error
	}
	h.fetchReads.Add(int64(len(t.parts)))
	s.reads = resize(s.reads, len(t.parts))
	for i, f := range t.parts {
		r := &s.reads[i]
		*r = read{high: -1, lso: -1, start: -1, preferred: -1, diverging: msg.FetchResponseEpochEndOffset{Epoch: -1, EndOffset: -1}}
		if err := h.readOne(c, s, f, r, budget-total, total == 0); err != nil {
			r.code = h.fetchCode(c, err)
			switch r.code {
			case kerr.UnknownTopicOrPartition, kerr.UnknownTopicId:
				r.aborted = noAborted
			case kerr.InconsistentTopicId:
			default:
				enough = enough || !f.warned || f.code != r.code
			}
			continue
		}
		waits = true
		if r.region != nil {
			total += r.region.Len()
		}
		r.behind = follower(req, c.Version()) >= 0 && f.known < r.high
		enough = enough || r.behind || r.diverging.Epoch >= 0 || r.preferred >= 0
	}
	return enough || !waits || total >= int(req.MinBytes)
}

// noAborted is an empty list of aborted transactions, where nil is none.
var noAborted = []msg.FetchResponseAbortedTransaction{}

// fetchCode is code with what old clients do not know.
func (h *Handlers) fetchCode(c *Call, err error) kerr.Code {
	code := h.code(err)
	if code == kerr.KafkaStorageError && c.Version() <= 5 {
		return kerr.NotLeaderOrFollower
	}
	return code
}

// readOne reads one partition, up to budget bytes. The first batch of a response
// is read whole whatever its size (first), so that a client always gets on.
func (h *Handlers) readOne(c *Call, s *fetchScratch, f *fetched, r *read, budget int, first bool) error {
	p, err := h.fetchFrom(c, f)
	if err != nil {
		return err
	}
	r.p = p
	if f.in != nil {
		f.in.session.watch(f.in, p)
	}
	req := &s.req
	replica := follower(req, c.Version())
	ask := replication.Fetch{Offset: f.offset, LeaderEpoch: f.epoch, LastEpoch: f.last, MaxBytes: min(int(f.max), budget), MinOne: first, Follower: replica, FollowerStart: f.begins}
	switch {
	case replica >= 0:
		ask.Reader = replication.Replica
		if c.Version() >= 15 {
			ask.FollowerEpoch = req.ReplicaState.ReplicaEpoch
		}
	case req.IsolationLevel == 1:
		ask.Reader = replication.ReadCommitted
	}
	if consumer := replica < 0 && c.Version() >= firstWithRacks; consumer {
		ask.AnyReplica = true
		if to := h.preferred(c, p, f, req.RackId); to >= 0 {
			high, stable, start, err := p.Offsets(f.epoch)
			if err != nil {
				return err
			}
			r.preferred, r.high, r.lso, r.start = to, high, stable, start
			return nil
		}
	}
	got, err := p.Fetch(ask)
	if err != nil {
		r.follower = replica >= 0 && errors.Is(err, kerr.NotLeaderOrFollower) && p.Leads()
		if ask.Reader == replication.ReadCommitted && f.last < 0 && errors.Is(err, kerr.OffsetOutOfRange) {
			r.aborted = noAborted // an empty list, where other errors have none
		}
		return err // without offsets, as Kafka leaves them
	}
	r.region, r.high, r.lso, r.start = got.Region, got.High, got.Stable, got.Start
	r.diverging.Epoch, r.diverging.EndOffset = got.DivergingEpoch, got.DivergingEnd
	limit := got.High
	switch ask.Reader {
	case replication.ReadCommitted:
		limit = got.Stable
	case replication.Replica:
		limit = p.Log().EndOffset()
	}
	r.end = f.offset >= limit
	if ask.Reader == replication.ReadCommitted && got.DivergingEpoch < 0 {
		r.aborted = noAborted
		for _, a := range got.Aborted {
			r.aborted = append(r.aborted, msg.FetchResponseAbortedTransaction{ProducerId: a.ProducerID, FirstOffset: a.FirstOffset})
		}
	}
	return nil
}

// follower returns which broker's follower asks, -1 for a consumer.
func follower(req *msg.FetchRequest, v int16) int32 {
	if v >= 15 {
		return req.ReplicaState.ReplicaId
	}
	return req.ReplicaId
}

func (h *Handlers) fetchFrom(c *Call, f *fetched) (*replication.Partition, error) {
	if c.Version() < 13 {
		return h.partition(f.topic, f.index)
	}
	if p := h.Replicas.GetByID(f.id, f.index); p != nil {
		f.name = p.Topic
		return p, nil
	}
	image := h.Controller.Image()
	if t := image.TopicByID(f.id); t != nil {
		f.name = t.Name
		return nil, h.Replicas.Missing(image, t.Name, f.index)
	}
	// A session remembers the name that an id had.
	switch {
	case f.name == "":
		return nil, kerr.UnknownTopicId
	case image.Topic(f.name) != nil:
		return nil, kerr.InconsistentTopicId
	}
	return nil, kerr.UnknownTopicOrPartition
}

// fill makes the response of what was read.
func (h *Handlers) fill(c *Call, s *fetchScratch, t *turn) {
	resp := &s.resp
	if t.session != nil {
		resp.SessionId = t.session.id
	}
	s.sent, s.quiet = resize(s.sent, len(t.parts)), resize(s.quiet, len(t.parts))
	var out *msg.FetchResponseFetchableTopicResponse
	for i, f := range t.parts {
		r := &s.reads[i]
		wrong := r.code != kerr.None || r.diverging.Epoch >= 0 || r.preferred >= 0
		s.sent[i], s.quiet[i] = r.region != nil, r.region == nil && r.end && !wrong
		news := r.region != nil || wrong || r.behind || !f.told || f.high != r.high || f.start != r.start || f.code != r.code
		f.told, f.high, f.start, f.lso, f.code = true, r.high, r.start, r.lso, r.code
		f.warned = r.code != kerr.None
		if r.code == kerr.None {
			f.known = r.high
		}
		if t.session != nil && !t.fresh && !news {
			continue
		}
		if out == nil || out.Topic != f.topic || out.TopicId != f.id {
			resp.Responses = oneMore(resp.Responses)
			out = &resp.Responses[len(resp.Responses)-1]
			out.Topic, out.TopicId, out.Tags, out.Partitions = f.topic, f.id, nil, out.Partitions[:0]
		}
		out.Partitions = oneMore(out.Partitions)
		h.fillOne(c, resp, &out.Partitions[len(out.Partitions)-1], f, r)
	}
	if t.session != nil {
		t.session.settle(t.parts, s.quiet, s.sent)
		t.settled = true
	}
}

func (h *Handlers) fillOne(c *Call, resp *msg.FetchResponse, d *msg.FetchResponsePartitionData, f *fetched, r *read) {
	d.SetDefaults()
	d.PartitionIndex, d.ErrorCode = f.index, int16(r.code)
	d.HighWatermark, d.LastStableOffset, d.LogStartOffset = r.high, r.lso, r.start
	d.DivergingEpoch.Epoch, d.DivergingEpoch.EndOffset = r.diverging.Epoch, r.diverging.EndOffset
	d.AbortedTransactions = r.aborted
	d.PreferredReadReplica = r.preferred
	d.Records = prim.Records{B: noRecords}
	if r.region != nil {
		d.Records = prim.Records{Region: r.region}
	}
	if c.Version() >= 16 && (r.code == kerr.NotLeaderOrFollower || r.code == kerr.FencedLeaderEpoch) {
		topic := f.topic
		if topic == "" {
			topic = f.name
		}
		leader, epoch, node, ok := h.currentLeader(c, topic, f.index)
		if !ok {
			return
		}
		d.CurrentLeader.LeaderId, d.CurrentLeader.LeaderEpoch = leader, epoch
		if r.follower { // a replica knows where to find the others
			return
		}
		for _, e := range resp.NodeEndpoints {
			if e.NodeId == leader {
				return
			}
		}
		resp.NodeEndpoints = append(resp.NodeEndpoints, node)
	}
}

var noRecords = []byte{}
