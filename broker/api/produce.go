package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// What the versions of Produce add to version 3:
//
//	v4   KAFKA_STORAGE_ERROR may be answered
//	v5   response: Responses.PartitionResponses.LogStartOffset
//	v6   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v7   zstd (KIP-110)
//	v8   response: Responses.PartitionResponses.RecordErrors, Responses.PartitionResponses.ErrorMessage
//	v9   compact and tagged fields
//	v10  response: Responses.PartitionResponses.CurrentLeader, NodeEndpoints
//	v11  TRANSACTION_ABORTABLE may be answered (KIP-890)
//	v12  partitions need not be added to a transaction first (KIP-890)
//	v13  request: TopicData.TopicId, without TopicData.Name; response: Responses.TopicId, without Responses.Name

// adminClient is the one client id that may write to the cluster's own topics.
const adminClient = "__admin_client"

// produceRequests are requests whose memory is used again. A connection that waits
// for its next request has none.
var produceRequests = sync.Pool{New: func() any { return new(msg.ProduceRequest) }}

// giveBack takes back a request, unless it was a large one, without the frame that
// it points into.
func giveBack(req *msg.ProduceRequest) {
	n := 0
	for _, t := range req.TopicData[:cap(req.TopicData)] {
		all := t.PartitionData[:cap(t.PartitionData)]
		for i := range all {
			all[i].Records.B = nil
		}
		n += 1 + len(all)
	}
	if n <= keepPartitions {
		produceRequests.Put(req)
	}
}

// produced is the answer to one produce. Those that are done wait in a pool.
type produced struct {
	resp    msg.ProduceResponse
	waiting []waiting
}

// waiting is one partition of a produce whose commit is pending.
type waiting struct {
	p      *replication.Partition
	commit *replication.Commit
	topic  int // where its answer stands in resp
	index  int
}

var producedPool = sync.Pool{New: func() any { return new(produced) }}

// size returns about how many bytes the answer takes in memory.
func (a *produced) size() int {
	const base, partition, commit = 500, 200, 300
	n := base + len(a.waiting)*commit
	for i := range a.resp.Responses {
		n += len(a.resp.Responses[i].PartitionResponses) * partition
	}
	return n
}

// keepPartitions is how many partitions a request or an answer may have room for
// if its memory is to be used again.
const keepPartitions = 1000

// Release implements Releaser.
func (a *produced) Release() {
	n := 0
	for _, t := range a.resp.Responses[:cap(a.resp.Responses)] {
		n += 1 + cap(t.PartitionResponses)
	}
	if n > keepPartitions {
		return
	}
	clear(a.waiting)
	a.waiting = a.waiting[:0]
	producedPool.Put(a)
}

// produce answers Produce (key 0, v3-v13). The append runs here, in the order of
// the connection; with acks=all the answer waits for the high watermark behind.
func (h *Handlers) produce(c *Call, body []byte) (Answer, error) {
	req := produceRequests.Get().(*msg.ProduceRequest)
	defer giveBack(req)
	if err := decode(req, body, c.Version()); err != nil {
		return Answer{}, malformed(c, err)
	}
	onePartitionOnce(req)
	a := producedPool.Get().(*produced)
	a.resp.SetDefaults()
	if req.TransactionalId == nil && anyTransactional(req) {
		refuseEach(req, a, kerr.TransactionalIdAuthorizationFailed) // as nobody may use no id
	} else {
		h.appendAll(c, req, a)
	}
	if req.Acks == int16(replication.AcksNone) {
		return Answer{Done: a}, refusedSilently(&a.resp)
	}
	if len(a.waiting) == 0 {
		return Answer{Response: &a.resp, Size: a.size(), Done: a}, nil
	}
	ctx, deadline := c.Context, h.Clock.Now().Add(time.Duration(max(req.TimeoutMs, 0))*time.Millisecond)
	return Answer{Response: &a.resp, Wait: func() { h.awaitCommits(ctx, a, deadline) }, Size: a.size(), Done: a}, nil
}

// onePartitionOnce leaves each partition in a request once, with the records that
// stand last for it, and no topic without partitions (Kafka's KafkaApis keeps them
// in a map).
func onePartitionOnce(req *msg.ProduceRequest) {
	if repeatsPartition(req) {
		first := make(map[produceKey]*msg.ProduceRequestPartitionProduceData)
		for i := range req.TopicData {
			t := &req.TopicData[i]
			kept := t.PartitionData[:0]
			for _, d := range t.PartitionData {
				k := produceKey{t.Name, t.TopicId, d.Index}
				if before := first[k]; before != nil {
					before.Records = d.Records
					continue
				}
				kept = append(kept, d)
				first[k] = &kept[len(kept)-1]
			}
			t.PartitionData = kept
		}
	}
	none := func(t msg.ProduceRequestTopicProduceData) bool { return len(t.PartitionData) == 0 }
	if slices.ContainsFunc(req.TopicData, none) {
		req.TopicData = slices.DeleteFunc(req.TopicData, none)
	}
}

type produceKey struct {
	topic string
	id    prim.UUID
	index int32
}

// repeatsPartition reports whether a partition stands in a request more than
// once. A request of the usual size allocates nothing for it.
func repeatsPartition(req *msg.ProduceRequest) bool {
	if len(req.TopicData) == 1 && len(req.TopicData[0].PartitionData) == 1 {
		return false
	}
	const few = 64
	var some [few]produceKey
	seen := some[:0]
	var many map[produceKey]bool
	for i := range req.TopicData {
		t := &req.TopicData[i]
		for j := range t.PartitionData {
			k := produceKey{t.Name, t.TopicId, t.PartitionData[j].Index}
			switch {
			case many == nil && len(seen) < few:
				if slices.Contains(seen, k) {
					return true
				}
				seen = append(seen, k)
				continue
			case many == nil:
				many = make(map[produceKey]bool)
				for _, s := range seen {
					many[s] = true
				}
			}
			if many[k] {
				return true
			}
			many[k] = true
		}
	}
	return false
}

// errAcksNone closes the connection of a client that asked for no answers, when
// something went wrong: it would not learn otherwise.
var errAcksNone = errors.New("a produce with acks=0 failed")

func refusedSilently(resp *msg.ProduceResponse) error {
	for i := range resp.Responses {
		for j := range resp.Responses[i].PartitionResponses {
			if resp.Responses[i].PartitionResponses[j].ErrorCode != 0 {
				return errAcksNone
			}
		}
	}
	return nil
}

// anyTransactional reports whether a batch of a request is part of a transaction.
func anyTransactional(req *msg.ProduceRequest) bool {
	for i := range req.TopicData {
		for j := range req.TopicData[i].PartitionData {
			if transactional(req.TopicData[i].PartitionData[j].Records.B) {
				return true
			}
		}
	}
	return false
}

func transactional(b []byte) bool {
	for len(b) > 0 {
		batch, rest, _ := record.Next(b)
		if batch == nil {
			return false // the log says what is wrong with it
		}
		if batch.Magic() >= record.Magic && batch.Attributes().Transactional() {
			return true
		}
		b = rest
	}
	return false
}

// refuseEach answers every partition with the same error.
func refuseEach(req *msg.ProduceRequest, a *produced, code kerr.Code) {
	message := code.Message()
	a.answer(req, func(_ *msg.ProduceRequestTopicProduceData, _ *msg.ProduceRequestPartitionProduceData, r *msg.ProduceResponsePartitionProduceResponse, _, _ int) {
		r.ErrorCode, r.ErrorMessage = int16(code), &message
	})
}

// answer makes the answer of every partition of a request, and has one fill it in.
func (a *produced) answer(req *msg.ProduceRequest, one func(t *msg.ProduceRequestTopicProduceData, d *msg.ProduceRequestPartitionProduceData, r *msg.ProduceResponsePartitionProduceResponse, topic, index int)) {
	resp := &a.resp
	resp.Responses = resize(resp.Responses, len(req.TopicData))
	for i := range req.TopicData {
		t := &req.TopicData[i]
		out := &resp.Responses[i]
		out.Name, out.TopicId, out.Tags = t.Name, t.TopicId, nil
		out.PartitionResponses = resize(out.PartitionResponses, len(t.PartitionData))
		for j := range t.PartitionData {
			d, r := &t.PartitionData[j], &out.PartitionResponses[j]
			r.SetDefaults()
			r.Index, r.BaseOffset = d.Index, -1
			one(t, d, r, i, j)
		}
	}
}

func (h *Handlers) appendAll(c *Call, req *msg.ProduceRequest, a *produced) {
	a.answer(req, func(t *msg.ProduceRequestTopicProduceData, d *msg.ProduceRequestPartitionProduceData, r *msg.ProduceResponsePartitionProduceResponse, topic, index int) {
		info, commit, p, err := h.appendOne(c, req, t, d)
		if err != nil {
			r.LogStartOffset = info.LogStart
			h.refuseProduce(c, &a.resp, r, p, t, err)
			return
		}
		r.BaseOffset, r.LogAppendTimeMs, r.LogStartOffset = info.BaseOffset, info.LogAppendTime, info.LogStart
		if commit != nil {
			a.waiting = append(a.waiting, waiting{p, commit, topic, index})
		}
	})
}

func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	grown := make([]T, n)
	copy(grown, s[:cap(s)])
	return grown
}

// oneMore is resize by one. Like append, it makes room for more than that: a list
// that is grown one by one is copied a few times only.
func oneMore[T any](s []T) []T {
	if len(s) == cap(s) {
		return append(s, *new(T))
	}
	return s[:len(s)+1]
}

// appendOne appends what one partition got.
func (h *Handlers) appendOne(c *Call, req *msg.ProduceRequest, t *msg.ProduceRequestTopicProduceData, d *msg.ProduceRequestPartitionProduceData) (log.AppendInfo, *replication.Commit, *replication.Partition, error) {
	switch replication.Acks(req.Acks) {
	case replication.AcksAll, replication.AcksLeader, replication.AcksNone:
	default:
		return notAppended, nil, nil, kerr.InvalidRequiredAcks
	}
	p, err := h.produceTo(c, t, d.Index)
	if err != nil {
		return notAppended, nil, nil, err
	}
	if meta.InternalTopic(p.Topic) && c.Header.ClientID != adminClient {
		return notAppended, nil, p, kerr.Refuse(kerr.InvalidTopicException, "Cannot append to internal topic %s", p.Topic)
	}
	if req.TransactionalId != nil && transactional(d.Records.B) {
		return notAppended, nil, p, kerr.InvalidTxnState // no transaction can be open
	}
	info, commit, err := p.Append(d.Records.B, replication.Acks(req.Acks), log.AppendOptions{Origin: log.Client, ProduceVersion: c.Version()})
	if err != nil {
		info.LogStart = h.logStartWith(err, p)
	}
	return info, commit, p, err
}

// notAppended is what is known of an append that the log was not asked for.
var notAppended = log.AppendInfo{LogStart: -1}

// logStartWith is the log start offset that goes with an error of an append.
// Kafka's ReplicaManager tells it, but for errors that say that there is no such
// log here or that the bytes are no batch for it, and those that Kafka finds
// before it looks for the log.
func (h *Handlers) logStartWith(err error, p *replication.Partition) int64 {
	if errors.Is(err, log.ErrNotOneBatch) {
		return -1
	}
	switch h.code(err) {
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicId, kerr.NotLeaderOrFollower, kerr.MessageTooLarge, kerr.RecordListTooLarge,
		kerr.CorruptMessage, kerr.KafkaStorageError, kerr.UnsupportedCompressionType:
		return -1
	}
	return p.Log().StartOffset()
}

func (h *Handlers) produceTo(c *Call, t *msg.ProduceRequestTopicProduceData, index int32) (*replication.Partition, error) {
	if c.Version() < 13 {
		return h.partition(t.Name, index)
	}
	if p := h.Replicas.GetByID(t.TopicId, index); p != nil {
		return p, nil
	}
	image := h.Controller.Image()
	topic := image.TopicByID(t.TopicId)
	if topic == nil {
		return nil, kerr.UnknownTopicId
	}
	return nil, h.Replicas.Missing(image, topic.Name, index)
}

// refuseProduce fills in the answer of a partition that was not appended to.
func (h *Handlers) refuseProduce(c *Call, resp *msg.ProduceResponse, r *msg.ProduceResponsePartitionProduceResponse, p *replication.Partition, t *msg.ProduceRequestTopicProduceData, err error) {
	code := h.code(err)
	r.ErrorCode = int16(code)
	var invalid *log.BatchError
	if errors.As(err, &invalid) {
		for _, e := range invalid.Records {
			message := e.Message
			r.RecordErrors = append(r.RecordErrors, msg.ProduceResponseBatchIndexAndErrorMessage{BatchIndex: e.Index, BatchIndexErrorMessage: &message})
		}
	}
	switch code {
	case kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.InvalidTopicException, kerr.NotEnoughReplicas, kerr.OutOfOrderSequenceNumber:
		r.ErrorMessage = text(err)
	case kerr.NotLeaderOrFollower:
		if c.Version() < 10 {
			break
		}
		topic := t.Name
		if p != nil {
			topic = p.Topic
		} else if named := h.Controller.Image().TopicByID(t.TopicId); named != nil {
			topic = named.Name
		}
		if leader, epoch, node, ok := h.currentLeader(c, topic, r.Index); ok {
			r.CurrentLeader.LeaderId, r.CurrentLeader.LeaderEpoch = leader, epoch
			for _, e := range resp.NodeEndpoints {
				if e.NodeId == leader {
					return
				}
			}
			resp.NodeEndpoints = append(resp.NodeEndpoints, msg.ProduceResponseNodeEndpoint(node))
		}
	}
}

// currentLeader returns who leads a partition, for a client whose metadata is
// out of date (KIP-951).
func (h *Handlers) currentLeader(c *Call, topic string, index int32) (leader, epoch int32, node msg.FetchResponseNodeEndpoint, ok bool) {
	image := h.Controller.Image()
	p := image.Partition(topic, index)
	if p == nil {
		return
	}
	b := image.Broker(p.Leader)
	if b == nil {
		return
	}
	host, port, ok := h.endpoint(c.Session, b)
	return p.Leader, p.LeaderEpoch, msg.FetchResponseNodeEndpoint{NodeId: b.ID, Host: host, Port: port, Rack: b.Rack}, ok
}

// awaitCommits waits for every pending commit of a produce, up to its deadline.
func (h *Handlers) awaitCommits(ctx context.Context, a *produced, deadline time.Time) {
	var expired chan struct{} // made for the first commit that must be waited for
	for _, w := range a.waiting {
		select {
		case <-w.commit.Done():
		default:
			if expired == nil {
				expired = make(chan struct{})
				defer h.Clock.AfterFunc(deadline.Sub(h.Clock.Now()), func() { close(expired) }).Stop()
			}
		}
		if err := awaitOne(ctx, w, expired); err != nil {
			r := &a.resp.Responses[w.topic].PartitionResponses[w.index]
			index := r.Index
			r.SetDefaults()
			r.Index, r.BaseOffset, r.ErrorCode = index, -1, int16(h.code(err))
		}
	}
}

// awaitOne waits for one commit, until expired is closed or ctx ends.
func awaitOne(ctx context.Context, w waiting, expired <-chan struct{}) error {
	select {
	case <-w.commit.Done():
		return w.commit.Err()
	case <-expired:
		w.p.Abandon(w.commit)
		return kerr.RequestTimedOut
	case <-ctx.Done():
		w.p.Abandon(w.commit)
		return kerr.NotLeaderOrFollower
	}
}
