package main

import (
	"context"
	"fmt"
	"net"
	"sync"

	kafka "github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// scripted is a cluster of two brokers without logs, for what a true broker does
// not answer at will. It has topics, all of as many partitions with one leader.
type scripted struct {
	net     *memnet.Network
	members int // that join a group with who asks

	mu         sync.Mutex
	leader     int32
	topics     []string
	partitions int
	produce    func(s *scripted, broker int32, req *msg.ProduceRequest) *msg.ProduceResponse // nil acknowledges all; one that returns nil keeps silent
	synced     chan struct{}                                                                 // closed with the first SyncGroup
}

func newScripted(w *world, topics, partitions int) (*scripted, error) {
	s := &scripted{net: memnet.New(), leader: 1, partitions: partitions, synced: make(chan struct{})}
	for i := range topics {
		s.topics = append(s.topics, topicName(i))
	}
	for id := int32(1); id <= 2; id++ {
		l, err := s.net.Listen("tcp", fmt.Sprintf("b%d:9092", id))
		if err != nil {
			return nil, err
		}
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				go s.serve(id, nc)
			}
		}()
	}
	w.cleanup = append(w.cleanup, func() { s.net.Close() })
	return s, nil
}

func (s *scripted) options() kafka.Options {
	return kafka.Options{BootstrapServers: []string{"b1:9092"}, Dial: s.net.Dial}
}

// producer returns a producer of the cluster that knows the first topic.
func (s *scripted) producer(o kafka.ProducerOptions) (*kafka.Producer, error) {
	o.BootstrapServers, o.Dial = s.options().BootstrapServers, s.net.Dial
	p, err := kafka.NewProducer(o)
	if err != nil {
		return nil, err
	}
	_, err = p.Partitions(context.Background(), s.topics[0])
	return p, err
}

func (s *scripted) serve(id int32, nc net.Conn) {
	defer nc.Close()
	for {
		frame, err := wire.ReadFrame(nc, nil, 1<<28)
		if err != nil {
			return
		}
		h, body, err := wire.ParseRequestHeader(frame, "")
		if err != nil {
			return
		}
		req := msg.NewRequest(int16(h.Key))
		if req.Decode(body, h.Version) != nil {
			return
		}
		resp := s.answer(id, h, req)
		if resp == nil {
			continue
		}
		out, err := resp.AppendTo(wire.AppendResponseHeader(make([]byte, 4), h.Key, h.Version, h.CorrelationID), h.Version)
		if err != nil {
			return
		}
		copy(out, prim.AppendInt32(nil, int32(len(out)-4)))
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

func (s *scripted) answer(id int32, h wire.RequestHeader, req msg.Request) msg.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
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
		return s.metadata()
	case *msg.InitProducerIdRequest:
		return &msg.InitProducerIdResponse{ProducerId: 1, OngoingTxnProducerId: -1, OngoingTxnProducerEpoch: -1}
	case *msg.ProduceRequest:
		if s.produce == nil {
			return answerEach(r, kerr.None)
		}
		if resp := s.produce(s, id, r); resp != nil {
			return resp
		}
	case *msg.FindCoordinatorRequest:
		resp := new(msg.FindCoordinatorResponse)
		resp.SetDefaults()
		for _, key := range r.CoordinatorKeys {
			resp.Coordinators = append(resp.Coordinators, msg.FindCoordinatorResponseCoordinator{Key: key, NodeId: 1, Host: "b1", Port: 9092})
		}
		return resp
	case *msg.JoinGroupRequest:
		return s.join(r)
	case *msg.SyncGroupRequest:
		close(s.synced)
		return nil
	}
	return nil
}

func (s *scripted) metadata() msg.Response {
	resp := new(msg.MetadataResponse)
	resp.SetDefaults()
	resp.ControllerId = 1
	for id := int32(1); id <= 2; id++ {
		resp.Brokers = append(resp.Brokers, msg.MetadataResponseBroker{NodeId: id, Host: fmt.Sprintf("b%d", id), Port: 9092})
	}
	for i := range s.topics {
		t := msg.MetadataResponseTopic{Name: &s.topics[i], TopicId: prim.UUID{1, byte(i >> 8), byte(i)}}
		for p := range s.partitions {
			t.Partitions = append(t.Partitions, msg.MetadataResponsePartition{PartitionIndex: int32(p), LeaderId: s.leader, LeaderEpoch: s.leader, ReplicaNodes: []int32{s.leader}, IsrNodes: []int32{s.leader}})
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// join answers a JoinGroup: who asks leads a group of many members that are as it is.
func (s *scripted) join(r *msg.JoinGroupRequest) msg.Response {
	resp := new(msg.JoinGroupResponse)
	resp.SetDefaults()
	leader := "member-00000"
	resp.GenerationId, resp.ProtocolName, resp.Leader, resp.MemberId = 1, &r.Protocols[0].Name, leader, leader
	for i := range s.members {
		resp.Members = append(resp.Members, msg.JoinGroupResponseMember{MemberId: fmt.Sprintf("member-%05d", i), Metadata: r.Protocols[0].Metadata})
	}
	return resp
}

// answerEach answers each partition of a Produce with a code, in their order.
func answerEach(r *msg.ProduceRequest, code kerr.Code) *msg.ProduceResponse {
	resp := new(msg.ProduceResponse)
	resp.SetDefaults()
	for _, t := range r.TopicData {
		a := msg.ProduceResponseTopicProduceResponse{Name: t.Name, TopicId: t.TopicId}
		for _, d := range t.PartitionData {
			var p msg.ProduceResponsePartitionProduceResponse
			p.SetDefaults()
			p.Index, p.ErrorCode = d.Index, int16(code)
			a.PartitionResponses = append(a.PartitionResponses, p)
		}
		resp.Responses = append(resp.Responses, a)
	}
	return resp
}
