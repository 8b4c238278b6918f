package client

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// fake is a cluster of scripted brokers on a memnet: host b<id>, port 9092. It
// keeps logs in memory, checks what it is sent as a broker would, and lets
// scripts come between.
type fake struct {
	t       *testing.T
	n       *memnet.Network
	closed  chan struct{}
	serving sync.WaitGroup

	mu      sync.Mutex
	brokers []int32
	topics  map[string][]*fakePartition
	ids     map[string]prim.UUID // of topics, also of those that were deleted
	noIDs   bool                 // Metadata names none, as brokers before 2.8
	made    byte                 // topics ever

	sessions    map[int32]*fakeSession // fetch sessions
	nextSession int32
	noSessions  bool                              // brokers make none
	asked       []fakeAsk                         // fetches
	entered     map[*msg.FetchRequest]fakeEntered // fetches that have been taken into their session

	moves    map[TopicPartition][]int32 // reassignments under way, and where to
	nextPID  int64
	maxBatch int
	commits  map[string]map[string]map[int32]int64 // group, topic, partition
	groups   map[string]*fakeGroup
	aborted  []msg.FetchResponseAbortedTransaction
	requests []wire.Key
	listen   map[int32]net.Listener

	// script sees each request before it is handled; a response it returns is
	// sent instead. drop closes the connection "before" handling or "after"; with
	// "silent" there is no answer, with "garbage" one that does not parse, with
	// "correlation" one to another request, with "huge" the start of one that is
	// too large.
	script func(broker int32, h wire.RequestHeader, req msg.Request) (resp msg.Response, drop string)
}

// fakeAsk is the head of a fetch.
type fakeAsk struct {
	broker, session, epoch, topics, forgotten int32
	at                                        time.Time
}

type fakePartition struct {
	leader, epoch int32
	batches       []record.Batch
	end           int64
	start         int64
	forgetful     bool // knows no epochs
	producers     map[int64]*fakeProducer
}

type fakeProducer struct {
	epoch int16
	last  [][3]int64 // first and last sequence, base offset
}

func newFake(t *testing.T, brokers ...int32) *fake {
	f := newFakeAt(t, brokers...)
	t.Cleanup(func() {
		close(f.closed)
		f.n.Close()
		f.serving.Wait()
	})
	return f
}

func newFakeAt(t *testing.T, brokers ...int32) *fake {
	if brokers == nil {
		brokers = []int32{1}
	}
	f := &fake{t: t, n: memnet.New(), closed: make(chan struct{}), brokers: brokers, topics: map[string][]*fakePartition{}, ids: map[string]prim.UUID{}, sessions: map[int32]*fakeSession{}, entered: map[*msg.FetchRequest]fakeEntered{},
		nextPID: 1000, maxBatch: 1 << 20,
		commits: map[string]map[string]map[int32]int64{}, groups: map[string]*fakeGroup{}, listen: map[int32]net.Listener{}}
	for _, id := range brokers {
		f.start(id)
	}
	return f
}

func (f *fake) start(id int32) {
	l, err := f.n.Listen("tcp", "b"+strconv.Itoa(int(id))+":9092")
	if err != nil {
		f.t.Fatal(err)
	}
	f.listen[id] = l
	f.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.serving.Go(func() { f.serve(id, c) })
		}
	})
}

func (f *fake) options() Options {
	return Options{BootstrapServers: []string{"b" + strconv.Itoa(int(f.brokers[0])) + ":9092"}, Dial: f.n.Dial}
}

func (f *fake) topic(name string, leaders ...int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.topics[name] == nil {
		f.made++
		f.ids[name] = prim.UUID{0: 0xf0, 15: f.made}
	}
	for _, l := range leaders {
		f.topics[name] = append(f.topics[name], &fakePartition{leader: l, epoch: 1, producers: map[int64]*fakeProducer{}})
	}
}

// move makes another broker lead.
func (f *fake) move(topic string, partition, leader int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.topics[topic][partition]
	p.leader = leader
	p.epoch++
}

func (f *fake) count(k wire.Key) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.requests {
		if x == k {
			n++
		}
	}
	return n
}

// values returns the values of a partition's records.
func (f *fake) values(topic string, partition int) (all []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.topics[topic][partition].batches {
		it := b.Iterate(0)
		for it.Next() {
			all = append(all, string(it.Record().Value))
		}
		if it.Err() != nil {
			f.t.Errorf("batch at %d: %v", b.BaseOffset(), it.Err())
		}
		it.Close()
	}
	return all
}

func (f *fake) serve(id int32, c net.Conn) {
	defer c.Close()
	for {
		frame, err := wire.ReadFrame(c, nil, 1<<26)
		if err != nil {
			return
		}
		h, body, err := wire.ParseRequestHeader(frame, "")
		if err != nil {
			f.t.Errorf("broker %d: %v", id, err)
			return
		}
		req := msg.NewRequest(int16(h.Key))
		if err := req.Decode(body, h.Version); err != nil {
			f.t.Errorf("broker %d: %v", id, err)
			return
		}
		f.mu.Lock()
		f.requests = append(f.requests, h.Key)
		script := f.script
		f.mu.Unlock()
		var resp msg.Response
		drop := ""
		if script != nil {
			resp, drop = script(id, h, req)
		}
		if drop == "before" {
			return
		}
		if resp == nil && drop != "silent" {
			resp = f.handle(id, h, req)
		}
		if drop == "after" {
			return
		}
		if p, ok := req.(*msg.ProduceRequest); ok && p.Acks == 0 || resp == nil {
			continue
		}
		if v, ok := resp.(*msg.ApiVersionsResponse); ok && v.ErrorCode == int16(kerr.UnsupportedVersion) {
			h.Version = 0 // KIP-511
		}
		if drop == "correlation" {
			h.CorrelationID++
		}
		out := wire.AppendResponseHeader(make([]byte, 4), h.Key, h.Version, h.CorrelationID)
		if drop == "garbage" {
			out = append(out, bytes.Repeat([]byte{0xfe}, 40)...)
		} else if out, err = resp.AppendTo(out, h.Version); err != nil {
			f.t.Errorf("broker %d: %v", id, err)
			return
		}
		copy(out, prim.AppendInt32(nil, int32(len(out)-4)))
		if drop == "huge" {
			copy(out, prim.AppendInt32(nil, 1<<30))
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (f *fake) handle(id int32, h wire.RequestHeader, req msg.Request) msg.Response {
	switch r := req.(type) {
	case *msg.ApiVersionsRequest:
		resp := new(msg.ApiVersionsResponse)
		resp.SetDefaults()
		for k := wire.Key(0); k < 93; k++ {
			if api, ok := wire.Lookup(k); ok {
				low, high := api.Advertised()
				resp.ApiKeys = append(resp.ApiKeys, msg.ApiVersionsResponseApiVersion{ApiKey: int16(k), MinVersion: low, MaxVersion: high})
			}
		}
		return resp
	case *msg.MetadataRequest:
		return f.metadata(r)
	case *msg.InitProducerIdRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.nextPID++
		return &msg.InitProducerIdResponse{ProducerId: f.nextPID, OngoingTxnProducerId: -1, OngoingTxnProducerEpoch: -1}
	case *msg.ProduceRequest:
		return f.produce(id, h, r)
	}
	return f.handleMore(id, h, req)
}

func (f *fake) metadata(r *msg.MetadataRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.MetadataResponse)
	resp.SetDefaults()
	cluster := "fake"
	resp.ClusterId, resp.ControllerId = &cluster, f.brokers[0]
	for _, id := range f.brokers {
		resp.Brokers = append(resp.Brokers, msg.MetadataResponseBroker{NodeId: id, Host: "b" + strconv.Itoa(int(id)), Port: 9092})
	}
	var names []string
	if r.Topics == nil {
		for n := range f.topics {
			names = append(names, n)
		}
		slices.Sort(names)
	}
	for _, t := range r.Topics {
		names = append(names, *t.Name)
	}
	for _, name := range names {
		t := msg.MetadataResponseTopic{Name: &name, TopicId: f.idOf(name), TopicAuthorizedOperations: -2147483648}
		parts := f.topics[name]
		if parts == nil {
			t.TopicId = prim.UUID{}
			t.ErrorCode = int16(kerr.UnknownTopicOrPartition)
		}
		for i, p := range parts {
			t.Partitions = append(t.Partitions, msg.MetadataResponsePartition{PartitionIndex: int32(i), LeaderId: p.leader, LeaderEpoch: p.epoch,
				ReplicaNodes: []int32{p.leader}, IsrNodes: []int32{p.leader}})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func (f *fake) produce(id int32, h wire.RequestHeader, r *msg.ProduceRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.ProduceResponse)
	resp.SetDefaults()
	for _, t := range r.TopicData {
		tr := msg.ProduceResponseTopicProduceResponse{Name: t.Name, TopicId: t.TopicId}
		name, known := f.nameOf(t.Name, t.TopicId)
		for _, d := range t.PartitionData {
			pr := msg.ProduceResponsePartitionProduceResponse{}
			pr.SetDefaults()
			pr.Index = d.Index
			var code kerr.Code
			pr.BaseOffset, code = -1, kerr.UnknownTopicId
			if known {
				pr.BaseOffset, code = f.append(id, name, d.Index, d.Records.B)
			}
			pr.ErrorCode = int16(code)
			if code == kerr.NotLeaderOrFollower && h.Version >= 10 {
				p := f.topics[name][d.Index]
				pr.CurrentLeader.LeaderId, pr.CurrentLeader.LeaderEpoch = p.leader, p.epoch
				resp.NodeEndpoints = append(resp.NodeEndpoints, msg.ProduceResponseNodeEndpoint{NodeId: p.leader, Host: "b" + strconv.Itoa(int(p.leader)), Port: 9092})
			}
			tr.PartitionResponses = append(tr.PartitionResponses, pr)
		}
		resp.Responses = append(resp.Responses, tr)
	}
	return resp
}

// append does what a log does. The caller holds mu.
func (f *fake) append(id int32, topic string, index int32, data []byte) (int64, kerr.Code) {
	parts := f.topics[topic]
	if int(index) >= len(parts) {
		return -1, kerr.UnknownTopicOrPartition
	}
	p := parts[index]
	if p.leader != id {
		return -1, kerr.NotLeaderOrFollower
	}
	b := record.Batch(slices.Clone(data))
	if err := b.Validate(); err != nil || b.Size() != len(data) {
		f.t.Errorf("%s-%d: batch of %d bytes: %v", topic, index, len(data), err)
		return -1, kerr.CorruptMessage
	}
	if len(data) > f.maxBatch {
		return -1, kerr.MessageTooLarge
	}
	if pid := b.ProducerID(); pid >= 0 {
		known := p.producers[pid]
		if known == nil || b.ProducerEpoch() > known.epoch {
			if known != nil && b.BaseSequence() != 0 {
				return -1, kerr.OutOfOrderSequenceNumber
			}
			if known == nil && b.BaseSequence() != 0 && f.maxBatch > 0 && p.end == 0 {
				return -1, kerr.OutOfOrderSequenceNumber // a log that never saw this producer
			}
			known = &fakeProducer{epoch: b.ProducerEpoch()}
			p.producers[pid] = known
		} else {
			if b.ProducerEpoch() < known.epoch {
				return -1, kerr.InvalidProducerEpoch
			}
			for _, l := range known.last {
				if l[0] == int64(b.BaseSequence()) && l[1] == int64(b.LastSequence()) {
					return l[2], kerr.None
				}
			}
			if n := len(known.last); n > 0 && int64(b.BaseSequence()) != known.last[n-1][1]+1 {
				return -1, kerr.OutOfOrderSequenceNumber
			}
		}
		known.last = append(known.last, [3]int64{int64(b.BaseSequence()), int64(b.LastSequence()), p.end})
		if len(known.last) > 5 {
			known.last = known.last[1:]
		}
	}
	base := p.end
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(p.epoch)
	p.batches = append(p.batches, b)
	p.end += int64(b.Count())
	return base, kerr.None
}

func background(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Hour) // virtual in a bubble
	t.Cleanup(cancel)
	return ctx
}
