package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// world is a broker in memory, and a client of it.
type world struct {
	*client
	b    *broker.Broker
	net  *memnet.Network
	gate atomic.Pointer[chan struct{}] // that syncs of logs wait for; nil for none

	topics  []string
	ids     []prim.UUID
	members []string
	extra   []*client
	cleanup []func()
}

// quiet keeps the background from doing anything that would be counted.
var quiet = []string{"listeners=PLAINTEXT://broker-1:0", "log.dirs=/klamm", "group.initial.rebalance.delay.ms=300", "log.cleaner.enable=false",
	"log.retention.check.interval.ms=86400000", "log.flush.offset.checkpoint.interval.ms=3600000", "log.flush.start.offset.checkpoint.interval.ms=3600000",
	"replica.high.watermark.checkpoint.interval.ms=3600000", "auto.create.topics.enable=false", "offsets.topic.num.partitions=1"}

func newWorld(overrides ...string) (*world, error) {
	static, _, err := config.Load(config.Sources{Overrides: append(append([]string{}, quiet...), overrides...)})
	if err != nil {
		return nil, err
	}
	w := &world{net: memnet.New()}
	fs := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if gate := w.gate.Load(); gate != nil && op == vfs.OpSync && name[len(name)-4:] == ".log" {
			<-*gate
		}
		return nil
	})
	if w.b, err = broker.Start(context.Background(), broker.Options{Config: static, FS: fs, Listen: w.net.Listen}); err != nil {
		return nil, err
	}
	w.client, err = w.dial()
	return w, err
}

func (w *world) close() error {
	for _, f := range slices.Backward(w.cleanup) {
		f()
	}
	for _, c := range append(w.extra, w.client) {
		c.conn.Close()
	}
	return w.b.Close()
}

func (w *world) dial() (*client, error) {
	nc, err := w.net.Host("client").Dial(context.Background(), "tcp", w.b.Addr())
	return &client{conn: nc}, err
}

// another returns a client of its own that is closed with the world.
func (w *world) another() (*client, error) {
	c, err := w.dial()
	w.extra = append(w.extra, c)
	return c, err
}

// client speaks the protocol by hand.
type client struct {
	conn  net.Conn
	id    int32
	asked map[wire.Key]bool // what was asked while that was measured
}

func (c *client) send(version int16, req msg.Request) error {
	c.id++
	if c.asked != nil {
		c.asked[wire.Key(req.APIKey())] = true
	}
	b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: wire.Key(req.APIKey()), Version: version, CorrelationID: c.id, ClientID: "growth"})
	if err == nil {
		b, err = req.AppendTo(b, version)
	}
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = c.conn.Write(b)
	return err
}

func (c *client) receive(version int16, resp msg.Response) error {
	c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return fmt.Errorf("%s: %w", resp.MessageName(), err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		return fmt.Errorf("%s: %w", resp.MessageName(), err)
	}
	_, body, err := wire.ParseResponseHeader(b, wire.Key(resp.APIKey()), version)
	if err != nil {
		return err
	}
	return resp.Decode(body, version)
}

func (c *client) ask(version int16, req msg.Request, resp msg.Response) error {
	if err := c.send(version, req); err != nil {
		return err
	}
	return c.receive(version, resp)
}

// create makes n topics of so many partitions.
func (w *world) create(n, partitions int, configs ...string) error {
	req := &msg.CreateTopicsRequest{TimeoutMs: 60000}
	for i := range n {
		t := msg.CreateTopicsRequestCreatableTopic{Name: topicName(i), NumPartitions: int32(partitions), ReplicationFactor: 1}
		for j := 0; j < len(configs); j += 2 {
			t.Configs = append(t.Configs, msg.CreateTopicsRequestCreatableTopicConfig{Name: configs[j], Value: &configs[j+1]})
		}
		req.Topics = append(req.Topics, t)
	}
	var resp msg.CreateTopicsResponse
	if err := w.ask(7, req, &resp); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 {
			return fmt.Errorf("create %s: error %d", t.Name, t.ErrorCode)
		}
		w.topics = append(w.topics, t.Name)
		w.ids = append(w.ids, t.TopicId)
	}
	return nil
}

func topicName(i int) string { return fmt.Sprintf("topic-%05d", i) }

// batch returns a batch of n records.
func batch(codec record.Codec, p record.Producer, n int) []byte {
	b := record.NewBuilder(codec, codec.DefaultLevel())
	now := time.Now().UnixMilli()
	for i := range n {
		b.Append(now, fmt.Append(nil, "key-", i), []byte("0123456789"), nil)
	}
	out, err := b.Finish(p)
	if err != nil {
		panic(err)
	}
	return append([]byte(nil), out...)
}

// produce is a produce of one batch to each of n partitions of a topic.
func produce(topic string, n int, b []byte) *msg.ProduceRequest {
	req := &msg.ProduceRequest{Acks: -1, TimeoutMs: 60000, TopicData: []msg.ProduceRequestTopicProduceData{{Name: topic}}}
	for i := range n {
		req.TopicData[0].PartitionData = append(req.TopicData[0].PartitionData, msg.ProduceRequestPartitionProduceData{Index: int32(i), Records: prim.Records{B: append([]byte(nil), b...)}})
	}
	return req
}

// produced asks and checks that every partition was appended to.
func (c *client) produced(req *msg.ProduceRequest) error {
	var resp msg.ProduceResponse
	if err := c.ask(9, req, &resp); err != nil {
		return err
	}
	for _, t := range resp.Responses {
		for _, p := range t.PartitionResponses {
			if p.ErrorCode != 0 {
				return fmt.Errorf("produce to %s-%d: error %d", t.Name, p.Index, p.ErrorCode)
			}
		}
	}
	return nil
}

// fetch is a fetch of n partitions of a topic that does not wait.
func fetch(topic string, n int) *msg.FetchRequest {
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MaxBytes, req.SessionEpoch, req.MaxWaitMs = 50<<20, -1, 0
	t := msg.FetchRequestFetchTopic{Topic: topic}
	for i := range n {
		p := msg.FetchRequestFetchPartition{}
		p.SetDefaults()
		p.Partition, p.PartitionMaxBytes = int32(i), 1<<20
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = []msg.FetchRequestFetchTopic{t}
	return req
}

var errRefused = errors.New("refused")

// want returns an error unless code is the one expected.
func want(what string, code, expected int16) error {
	if code != expected {
		return fmt.Errorf("%w: %s: error %d, want %d", errRefused, what, code, expected)
	}
	return nil
}
