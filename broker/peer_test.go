package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// rig is a broker, or only its server, on a network in memory.
type rig struct {
	*Broker
	server *server
	net    *memnet.Network
	fs     vfs.FS
	logs   *observer.ObservedLogs
	addr   string
}

func load(t testing.TB, overrides []string) *config.Static {
	t.Helper()
	static, _, err := config.Load(config.Sources{Overrides: append([]string{"listeners=PLAINTEXT://broker-1:0", "log.dirs=/klamm",
		"group.initial.rebalance.delay.ms=0"}, overrides...)})
	if err != nil {
		t.Fatal(err)
	}
	return static
}

// start starts a broker with its data in memory.
func start(t testing.TB, overrides ...string) *rig {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	r := &rig{net: memnet.New(), fs: vfs.NewMem(), logs: logs}
	var err error
	r.Broker, err = Start(context.Background(), Options{Config: load(t, overrides), FS: r.fs, Listen: r.net.Listen, Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	r.server, r.addr = r.Broker.server, r.Addr()
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// serve starts a server alone, with handlers of the test's own.
func serve(t testing.TB, overrides []string, handlers map[wire.Key]func(c *api.Call, body []byte) (api.Answer, error)) *rig {
	t.Helper()
	conf, err := load(t, overrides).Broker()
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	r := &rig{net: memnet.New(), logs: logs, server: newServer(conf, clock.System(), zap.New(core))}
	socket, err := r.net.Listen("tcp", "broker-1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = socket.Addr().String()
	rows := make(api.Table, 100)
	for key, handle := range handlers {
		row, ok := wire.Lookup(key)
		if !ok {
			t.Fatalf("no api %d", key)
		}
		rows[key] = &api.Row{API: row, Handle: handle}
	}
	r.server.serve(&api.Tables{api.Broker: rows}, []*listener{{"PLAINTEXT", api.Broker, true, socket}})
	t.Cleanup(func() { r.server.quit(time.Second) })
	return r
}

// peer is a client that speaks in bytes.
type peer struct {
	t testing.TB
	net.Conn
	id int32 // correlation id of the last request
}

func (r *rig) dial(t testing.TB) *peer { return r.dialFrom(t, "client") }

func (r *rig) dialFrom(t testing.TB, host string) *peer {
	t.Helper()
	nc, err := r.net.Host(host).Dial(t.Context(), "tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &peer{t: t, Conn: nc}
}

// frame returns a framed request of a header and a body that need not be valid.
func (p *peer) frame(key wire.Key, version int16, body []byte) []byte {
	p.t.Helper()
	p.id++
	b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: key, Version: version, CorrelationID: p.id, ClientID: "test"})
	if err != nil {
		p.t.Fatal(err)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (p *peer) request(req msg.Request, version int16) []byte {
	p.t.Helper()
	body, err := req.AppendTo(nil, version)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.frame(wire.Key(req.APIKey()), version, body)
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// answer reads a response into resp and returns its correlation id.
func (p *peer) answer(resp msg.Response, version int16) int32 {
	p.t.Helper()
	id, err := p.tryAnswer(resp, version)
	if err != nil {
		p.t.Fatalf("%s: %v", resp.MessageName(), err)
	}
	return id
}

func (p *peer) tryAnswer(resp msg.Response, version int16) (int32, error) {
	p.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := wire.ReadFrame(p, nil, 1<<26)
	if err != nil {
		return 0, err
	}
	id, body, err := wire.ParseResponseHeader(b, wire.Key(resp.APIKey()), version)
	if err != nil {
		return 0, err
	}
	return id, resp.Decode(body, version)
}

// ask sends a request and reads its answer into resp.
func (p *peer) ask(req msg.Request, version int16, resp msg.Response) {
	p.t.Helper()
	p.send(p.request(req, version))
	if id := p.answer(resp, version); id != p.id {
		p.t.Fatalf("%s: answer to request %d, want %d", resp.MessageName(), id, p.id)
	}
}

// closed fails the test unless the broker closes the connection without another
// byte.
func (p *peer) closed() error {
	p.SetReadDeadline(time.Now().Add(time.Minute))
	var b [1]byte
	if n, err := p.Read(b[:]); n != 0 || !errors.Is(err, io.EOF) && !memnet.IsReset(err) {
		return errors.Join(errors.New("the connection is not closed"), err)
	}
	return nil
}

// alive fails the test unless the broker answers a new connection.
func (r *rig) alive(t testing.TB) {
	t.Helper()
	p := r.dial(t)
	defer p.Close()
	var resp msg.ApiVersionsResponse
	p.ask(new(msg.ApiVersionsRequest), 2, &resp)
	if resp.ErrorCode != 0 || len(resp.ApiKeys) < 20 {
		t.Fatalf("ApiVersions: error %d, %d APIs", resp.ErrorCode, len(resp.ApiKeys))
	}
}

// create creates a topic.
func (p *peer) create(topic string, partitions int32, configs ...string) {
	p.t.Helper()
	c := msg.CreateTopicsRequestCreatableTopic{Name: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for i := 0; i < len(configs); i += 2 {
		c.Configs = append(c.Configs, msg.CreateTopicsRequestCreatableTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	var resp msg.CreateTopicsResponse
	p.ask(&msg.CreateTopicsRequest{TimeoutMs: 10000, Topics: []msg.CreateTopicsRequestCreatableTopic{c}}, 4, &resp)
	if resp.Topics[0].ErrorCode != 0 {
		p.t.Fatalf("create %s: error %d", topic, resp.Topics[0].ErrorCode)
	}
}

// delete deletes a topic.
func (p *peer) delete(topic string) {
	p.t.Helper()
	var resp msg.DeleteTopicsResponse
	p.ask(&msg.DeleteTopicsRequest{TimeoutMs: 10000, TopicNames: []string{topic}}, 4, &resp)
	if resp.Responses[0].ErrorCode != 0 {
		p.t.Fatalf("delete %s: error %d", topic, resp.Responses[0].ErrorCode)
	}
}

// batch returns a batch of values.
func batch(codec record.Codec, values ...string) []byte {
	b := record.NewBuilder(codec, codec.DefaultLevel())
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), nil, []byte(v), nil)
	}
	out, err := b.Finish(record.NoProducer)
	if err != nil {
		panic(err)
	}
	return out
}

// produceTo is a produce of one batch.
func produceTo(topic string, partition int32, acks int16, batch []byte) *msg.ProduceRequest {
	return &msg.ProduceRequest{Acks: acks, TimeoutMs: 10000, TopicData: []msg.ProduceRequestTopicProduceData{{Name: topic,
		PartitionData: []msg.ProduceRequestPartitionProduceData{{Index: partition, Records: prim.Records{B: batch}}}}}}
}

// produce appends values and returns the base offset.
func (p *peer) produce(topic string, partition int32, values ...string) int64 {
	p.t.Helper()
	var resp msg.ProduceResponse
	p.ask(produceTo(topic, partition, -1, batch(record.None, values...)), 9, &resp)
	r := resp.Responses[0].PartitionResponses[0]
	if r.ErrorCode != 0 {
		p.t.Fatalf("produce: error %d", r.ErrorCode)
	}
	return r.BaseOffset
}

// fetchFrom is a fetch without a session; offsets are those of the partitions
// from 0 on.
func fetchFrom(topic string, minBytes, maxWaitMs int32, offsets ...int64) *msg.FetchRequest {
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MinBytes, req.MaxWaitMs, req.MaxBytes, req.SessionEpoch = minBytes, maxWaitMs, 1<<20, -1
	t := msg.FetchRequestFetchTopic{Topic: topic}
	for i, o := range offsets {
		t.Partitions = append(t.Partitions, fetchPart(int32(i), o))
	}
	req.Topics = []msg.FetchRequestFetchTopic{t}
	return req
}

func fetchPart(index int32, offset int64) msg.FetchRequestFetchPartition {
	var p msg.FetchRequestFetchPartition
	p.SetDefaults()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = index, offset, 1<<20
	return p
}

// values returns the values of the records of a fetched partition.
func values(t testing.TB, p *msg.FetchResponsePartitionData) []string {
	t.Helper()
	var out []string
	for rest := p.Records.B; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		it := b.Iterate(1 << 20)
		for it.Next() {
			out = append(out, string(it.Record().Value))
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		it.Close()
		rest = next
	}
	return out
}
