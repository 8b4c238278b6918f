package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// bareServer speaks as much of the protocol as a producer needs, and does the
// least that a Kafka server can: it reads a request, decodes it, writes each batch
// to the partition's file with one call, and answers. It checks nothing, knows no
// index, and remembers nothing but where each file ends. That is the limit for a
// produce.
type bareServer struct {
	dir  string
	host string
	port int32
	ids  atomic.Int64 // of producers

	mu     sync.Mutex
	topics map[string][]*bareLog
}

// bareLog is a file that is appended to.
type bareLog struct {
	mu   sync.Mutex
	file *os.File
	end  int64 // bytes
	next int64 // offset
}

// bareAPIs are the versions that it serves.
var bareAPIs = []msg.ApiVersionsResponseApiVersion{
	{ApiKey: int16(wire.Produce), MinVersion: 3, MaxVersion: 12},
	{ApiKey: int16(wire.Metadata), MinVersion: 4, MaxVersion: 12},
	{ApiKey: int16(wire.ApiVersions), MinVersion: 0, MaxVersion: 4},
	{ApiKey: int16(wire.CreateTopics), MinVersion: 2, MaxVersion: 7},
	{ApiKey: int16(wire.InitProducerId), MinVersion: 0, MaxVersion: 4},
}

// serveBareKafka prints its address and serves until it is killed.
func serveBareKafka(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at := l.Addr().(*net.TCPAddr)
	s := &bareServer{dir: dir, host: at.IP.String(), port: int32(at.Port), topics: make(map[string][]*bareLog)}
	fmt.Println(at)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := s.serve(c); !errors.Is(err, io.EOF) { // it ends with an error in any case
				fmt.Fprintln(os.Stderr, "bare server:", err)
			}
		}()
	}
}

func (s *bareServer) serve(c net.Conn) error {
	var frame, out []byte
	var req msg.ProduceRequest
	var resp msg.ProduceResponse
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > cap(frame) {
			frame = make([]byte, n)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(c, frame); err != nil {
			return err
		}
		h, body, err := wire.ParseRequestHeader(frame, "")
		var answer msg.Response
		if h.Key == wire.ApiVersions && errors.Is(err, wire.ErrUnknownAPI) { // too new: the client tries again with what it is told (KIP-511)
			h.Version, err = 0, nil
			answer = &msg.ApiVersionsResponse{ErrorCode: int16(kerr.UnsupportedVersion), ApiKeys: bareAPIs}
		} else if err != nil {
			return err
		} else if h.Key == wire.Produce {
			answer, err = &resp, s.produce(body, h.Version, &req, &resp)
		} else {
			answer, err = s.other(h, body)
		}
		if err != nil {
			return err
		}
		out = wire.AppendResponseHeader(append(out[:0], 0, 0, 0, 0), h.Key, h.Version, h.CorrelationID)
		if out, err = answer.AppendTo(out, h.Version); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
}

// produce appends what a request holds.
func (s *bareServer) produce(body []byte, version int16, req *msg.ProduceRequest, resp *msg.ProduceResponse) error {
	r := prim.NewReader(body)
	if req.DecodeFrom(&r, version); r.Err() != nil {
		return r.Err()
	}
	resp.Responses = resp.Responses[:0]
	for i := range req.TopicData {
		t := &req.TopicData[i]
		logs, err := s.topic(t.Name)
		if err != nil {
			return err
		}
		answer := msg.ProduceResponseTopicProduceResponse{Name: t.Name}
		for j := range t.PartitionData {
			p := &t.PartitionData[j]
			offset, err := logs[p.Index].append(p.Records.B)
			if err != nil {
				return err
			}
			one := msg.ProduceResponsePartitionProduceResponse{}
			one.SetDefaults()
			one.Index, one.BaseOffset = p.Index, offset
			answer.PartitionResponses = append(answer.PartitionResponses, one)
		}
		resp.Responses = append(resp.Responses, answer)
	}
	return nil
}

// append writes a batch, whose offset it sets.
func (l *bareLog) append(batch []byte) (offset int64, err error) {
	const lastOffsetDelta = 23
	l.mu.Lock()
	defer l.mu.Unlock()
	offset = l.next
	binary.BigEndian.PutUint64(batch, uint64(offset))
	if _, err := l.file.WriteAt(batch, l.end); err != nil {
		return 0, err
	}
	l.end += int64(len(batch))
	l.next += int64(binary.BigEndian.Uint32(batch[lastOffsetDelta:])) + 1
	return offset, nil
}

// topic returns the files of a topic, which are made when it is first named.
func (s *bareServer) topic(name string) ([]*bareLog, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if logs := s.topics[name]; logs != nil {
		return logs, nil
	}
	var logs []*bareLog
	for i := range partitions {
		f, err := os.Create(filepath.Join(s.dir, fmt.Sprint(name, "-", i)))
		if err != nil {
			return nil, err
		}
		logs = append(logs, &bareLog{file: f})
	}
	s.topics[name] = logs
	return logs, nil
}

// other answers what a producer asks beside that.
func (s *bareServer) other(h wire.RequestHeader, body []byte) (msg.Response, error) {
	switch h.Key {
	case wire.ApiVersions:
		return &msg.ApiVersionsResponse{ApiKeys: bareAPIs}, nil
	case wire.InitProducerId:
		resp := new(msg.InitProducerIdResponse)
		resp.SetDefaults()
		resp.ProducerId, resp.ProducerEpoch = s.ids.Add(1), 0
		return resp, nil
	case wire.CreateTopics:
		var req msg.CreateTopicsRequest
		resp := new(msg.CreateTopicsResponse)
		err := req.Decode(body, h.Version)
		for _, t := range req.Topics {
			one := msg.CreateTopicsResponseCreatableTopicResult{}
			one.SetDefaults()
			one.Name, one.NumPartitions, one.ReplicationFactor = t.Name, partitions, 1
			resp.Topics = append(resp.Topics, one)
		}
		return resp, err
	case wire.Metadata:
		var req msg.MetadataRequest
		if err := req.Decode(body, h.Version); err != nil {
			return nil, err
		}
		resp := new(msg.MetadataResponse)
		resp.SetDefaults()
		resp.Brokers, resp.ControllerId = []msg.MetadataResponseBroker{{NodeId: 1, Host: s.host, Port: s.port}}, 1
		for _, t := range req.Topics {
			out := msg.MetadataResponseTopic{}
			out.SetDefaults()
			out.Name = t.Name
			for i := range int32(partitions) {
				out.Partitions = append(out.Partitions, msg.MetadataResponsePartition{PartitionIndex: i, LeaderId: 1, ReplicaNodes: []int32{1}, IsrNodes: []int32{1}})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return resp, nil
	}
	return nil, fmt.Errorf("%w: %s", wire.ErrUnknownAPI, h.Key)
}
