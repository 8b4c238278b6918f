package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// TestMalformedRequests sends what no client sends. The connection is closed
// without an answer, and every other goes on.
func TestMalformedRequests(t *testing.T) {
	r := start(t, "socket.request.max.bytes=100000")
	r.dial(t).create("orders", 1)
	metadata := func(p *peer) []byte {
		return p.request(&msg.MetadataRequest{Topics: []msg.MetadataRequestTopic{}}, 9)
	}
	size := func(n int32) func(*peer) []byte {
		return func(*peer) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
	}
	head := func(key, version int16) func(*peer) []byte {
		return func(*peer) []byte {
			b := prim.AppendInt32(nil, 12)
			b = prim.AppendInt16(prim.AppendInt16(b, key), version)
			return append(b, 0, 0, 0, 1, 0, 2, 'm', 'e')
		}
	}
	body := func(key wire.Key, version int16, body ...byte) func(*peer) []byte {
		return func(p *peer) []byte { return p.frame(key, version, body) }
	}
	for _, c := range []struct {
		name  string
		bytes func(p *peer) []byte
	}{
		{"a size of -1", size(-1)},
		{"the least size", size(-1 << 31)},
		{"a size of one above the limit", size(100001)},
		{"the greatest size", size(1<<31 - 1)},
		{"an empty frame", size(0)},
		{"a header of three bytes", func(*peer) []byte { return []byte{0, 0, 0, 3, 0, 3, 0} }},
		{"a header without its client id", func(*peer) []byte { return []byte{0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 1} }},
		{"a client id longer than the frame", func(*peer) []byte { return []byte{0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0, 9} }},
		{"a client id of length -2", func(*peer) []byte { return []byte{0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xfe} }},
		{"a header with a flood of tags", func(p *peer) []byte {
			b := metadata(p)[:4+8+2+4]
			b = append(prim.AppendUvarint(b, 20000), make([]byte, 40000)...)
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			return b
		}},
		{"garbage", func(*peer) []byte { return append([]byte{0, 0, 1, 0}, bytes.Repeat([]byte{0xa5}, 256)...) }},
		{"an HTTP request", func(*peer) []byte { return []byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n") }},
		{"a TLS hello", func(*peer) []byte { return append([]byte{0x16, 3, 1, 2, 0}, make([]byte, 512)...) }},
		{"an api that never was", head(999, 0)},
		{"a negative api", head(-1, 0)},
		{"an api that 4.0 took away", head(4, 0)},
		{"an api of controllers", head(int16(wire.Vote), 0)},
		{"an api that is not served yet", head(int16(wire.EndTxn), 0)},
		{"a version too high", head(int16(wire.Metadata), 99)},
		{"a negative version", head(int16(wire.Metadata), -1)},
		{"a version that 4.0 took away", head(int16(wire.Produce), 2)},
		{"a body that is missing", body(wire.Metadata, 9)},
		{"a body that is cut off", func(p *peer) []byte {
			b := metadata(p)
			b = b[:len(b)-1]
			binary.BigEndian.PutUint32(b, uint32(len(b)-4))
			return b
		}},
		{"an array of two billion", body(wire.Metadata, 4, 0x7f, 0xff, 0xff, 0xff, 0)},
		{"an array of -2", body(wire.Metadata, 4, 0xff, 0xff, 0xff, 0xfe, 0)},
		{"a compact array of four billion", body(wire.Metadata, 9, 0xff, 0xff, 0xff, 0xff, 0x0f, 0)},
		{"a null where none may be", body(wire.Heartbeat, 3, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0xff, 0xff)},
		{"a string of negative length", body(wire.Heartbeat, 3, 0x80, 0, 0, 0, 0, 1, 0, 0, 0xff, 0xff)},
		{"a string longer than the body", body(wire.Heartbeat, 3, 0x7f, 0xff, 'g')},
		{"a produce with a flood of tags", body(wire.Produce, 9, append(prim.AppendUvarint([]byte{0, 0, 1, 0, 0, 0, 1, 1}, 30000), make([]byte, 60000)...)...)},
		{"a fetch of two billion topics", body(wire.Fetch, 4, append(make([]byte, 17), 0x7f, 0xff, 0xff, 0xff)...)},
		{"tags that do not rise", body(wire.ApiVersions, 3, 2, 'a', 2, '1', 2, 7, 0, 7, 0)},
	} {
		p := r.dial(t)
		p.send(c.bytes(p))
		if err := p.closed(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		r.alive(t)
	}
}

// TestRefusedRequests sends well-formed requests that ask for something wrong.
func TestRefusedRequests(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.create("orders", 1)
	p.create("small", 1, "max.message.bytes", "100")
	p.create("compacted", 1, "cleanup.policy", "compact")
	corrupt := func(at int) []byte {
		b := batch(record.None, "a", "b")
		b[at] ^= 1
		return b
	}
	signed := func(change func(b record.Batch)) []byte {
		b := record.Batch(batch(record.None, "a", "b"))
		change(b)
		b.UpdateCRC()
		return b
	}
	for _, c := range []struct {
		name    string
		req     *msg.ProduceRequest
		version int16
		want    kerr.Code
	}{
		{"all is well", produceTo("orders", 0, -1, batch(record.None, "a")), 9, kerr.None},
		{"acks of 2", produceTo("orders", 0, 2, batch(record.None, "a")), 9, kerr.InvalidRequiredAcks},
		{"acks of -2", produceTo("orders", 0, -2, batch(record.None, "a")), 9, kerr.InvalidRequiredAcks},
		{"a topic that is not there", produceTo("nowhere", 0, 1, batch(record.None, "a")), 9, kerr.UnknownTopicOrPartition},
		{"a partition that is not there", produceTo("orders", 1, 1, batch(record.None, "a")), 9, kerr.UnknownTopicOrPartition},
		{"a negative partition", produceTo("orders", -1, 1, batch(record.None, "a")), 9, kerr.UnknownTopicOrPartition},
		{"a topic id that is not there", produceTo("", 0, 1, batch(record.None, "a")), 13, kerr.UnknownTopicId},
		{"a flipped bit in a record", produceTo("orders", 0, 1, corrupt(record.HeaderSize+2)), 9, kerr.CorruptMessage},
		{"a flipped bit in the CRC", produceTo("orders", 0, 1, corrupt(17)), 9, kerr.CorruptMessage},
		{"another magic", produceTo("orders", 0, 1, signed(func(b record.Batch) { b[16] = 3 })), 9, kerr.CorruptMessage},
		{"a count that is too high", produceTo("orders", 0, 1, signed(func(b record.Batch) { b[60] = 3 })), 9, kerr.InvalidRecord},
		{"a last offset that is too high", produceTo("orders", 0, 1, signed(func(b record.Batch) { b[26] = 9 })), 9, kerr.InvalidRecord},
		{"a control batch", produceTo("orders", 0, 1, signed(func(b record.Batch) { b[22] |= 0x20 })), 9, kerr.InvalidRecord},
		{"no batch at all", produceTo("orders", 0, 1, []byte{}), 9, kerr.InvalidRecord},
		{"two batches in one", produceTo("orders", 0, 1, append(batch(record.None, "a"), batch(record.None, "b")...)), 9, kerr.InvalidRecord},
		{"a batch above max.message.bytes", produceTo("small", 0, 1, batch(record.None, string(make([]byte, 200)))), 9, kerr.MessageTooLarge},
		{"zstd before version 7", produceTo("orders", 0, 1, batch(record.Zstd, "a")), 6, kerr.UnsupportedCompressionType},
		{"no key in a compacted topic", produceTo("compacted", 0, 1, batch(record.None, "a")), 9, kerr.InvalidRecord},
		{"an internal topic", produceTo("__consumer_offsets", 0, 1, batch(record.None, "a")), 9, kerr.UnknownTopicOrPartition},
	} {
		var resp msg.ProduceResponse
		p.ask(c.req, c.version, &resp)
		if got := kerr.Code(resp.Responses[0].PartitionResponses[0].ErrorCode); got != c.want {
			t.Errorf("produce, %s: %v, want %v", c.name, got, c.want)
		}
	}
	topics := func(names ...string) *msg.CreateTopicsRequest {
		req := &msg.CreateTopicsRequest{TimeoutMs: 1000}
		for _, n := range names {
			req.Topics = append(req.Topics, msg.CreateTopicsRequestCreatableTopic{Name: n, NumPartitions: 1, ReplicationFactor: 1})
		}
		return req
	}
	for name, c := range map[string]struct {
		req  *msg.CreateTopicsRequest
		want kerr.Code
	}{
		"an invalid name": {topics("a/b"), kerr.InvalidTopicException},
		"a topic twice":   {topics("twice", "twice"), kerr.InvalidRequest},
		"one that exists": {topics("orders"), kerr.TopicAlreadyExists},
	} {
		var resp msg.CreateTopicsResponse
		p.ask(c.req, 5, &resp)
		if got := kerr.Code(resp.Topics[0].ErrorCode); got != c.want {
			t.Errorf("create topics, %s: %v, want %v", name, got, c.want)
		}
	}
	for name, c := range map[string]struct {
		id, epoch int32
		want      kerr.Code
	}{
		"a session that is not there":            {7, 1, kerr.FetchSessionIdNotFound},
		"an incremental fetch without a session": {0, 3, kerr.FetchSessionIdNotFound},
	} {
		req := fetchFrom("orders", 1, 0, 0)
		req.SessionId, req.SessionEpoch = c.id, c.epoch
		var resp msg.FetchResponse
		p.ask(req, 12, &resp)
		if got := kerr.Code(resp.ErrorCode); got != c.want {
			t.Errorf("fetch, %s: %v, want %v", name, got, c.want)
		}
	}
}

// TestUnknownApiVersionsVersion is KIP-511: a client that is newer than the
// broker learns which version to use, on a connection that stays open.
func TestUnknownApiVersionsVersion(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	for _, version := range []int16{5, 99, 32767, -1} {
		b := prim.AppendInt32(nil, 12)
		b = prim.AppendInt16(prim.AppendInt16(b, int16(wire.ApiVersions)), version)
		p.send(append(b, 0, 0, 0, 99, 0, 2, 'm', 'e'))
		var resp msg.ApiVersionsResponse
		if id := p.answer(&resp, 0); id != 99 {
			t.Errorf("version %d: answer to %d", version, id)
		}
		want := []msg.ApiVersionsResponseApiVersion{{ApiKey: 18, MinVersion: 0, MaxVersion: 4}}
		if kerr.Code(resp.ErrorCode) != kerr.UnsupportedVersion || fmt.Sprint(resp.ApiKeys) != fmt.Sprint(want) {
			t.Errorf("version %d: error %d, %v, want 35, %v", version, resp.ErrorCode, resp.ApiKeys, want)
		}
	}
	var resp msg.ApiVersionsResponse
	p.ask(&msg.ApiVersionsRequest{ClientSoftwareName: "klamm", ClientSoftwareVersion: "1.0"}, 4, &resp)
	if resp.ErrorCode != 0 {
		t.Errorf("version 4 after it: error %d", resp.ErrorCode)
	}
	advertised := make(map[wire.Key]msg.ApiVersionsResponseApiVersion)
	for _, k := range resp.ApiKeys {
		advertised[wire.Key(k.ApiKey)] = k
		if r.server.tables[api.Broker].Lookup(wire.Key(k.ApiKey)) == nil {
			t.Errorf("%s is advertised and not served", wire.Key(k.ApiKey))
		}
	}
	for key, row := range r.server.tables[api.Broker] {
		if _, ok := advertised[wire.Key(key)]; ok != (row != nil && !row.Hidden) {
			t.Errorf("%s: served %v, advertised %v", wire.Key(key), row != nil, ok)
		}
	}
	if p := advertised[wire.Produce]; p.MinVersion != 0 || p.MaxVersion != 13 {
		t.Errorf("Produce is advertised in versions %d-%d", p.MinVersion, p.MaxVersion) // KAFKA-18659
	}
}

// TestMutatedRequests changes bytes of good requests at random on live
// connections. The broker survives and answers others.
func TestMutatedRequests(t *testing.T) {
	r := start(t, "socket.request.max.bytes=1000000", "auto.create.topics.enable=false", "connections.max.idle.ms=1000")
	r.dial(t).create("orders", 2)
	steady := r.dial(t)
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	before := r.connections()
	for round := range 300 {
		p := r.dial(t)
		var b []byte
		for range 1 + random.IntN(3) {
			b = append(b, anyRequest(p, random)...)
		}
		for range 1 + random.IntN(6) {
			switch at := random.IntN(len(b)); random.IntN(5) {
			case 0:
				b[at] ^= 1 << random.IntN(8)
			case 1:
				b[at] = byte(random.IntN(256))
			case 2:
				b[at] = 0xff
			case 3:
				b = b[:at+1]
			case 4:
				b = append(b[:at:at], append([]byte{byte(random.IntN(256))}, b[at:]...)...)
			}
		}
		p.send(b)
		p.Close()
		if round%10 == 0 {
			var resp msg.ApiVersionsResponse
			steady.ask(new(msg.ApiVersionsRequest), 0, &resp)
			if len(resp.ApiKeys) < 20 {
				t.Fatalf("round %d, seed %d: %d APIs", round, seed, len(resp.ApiKeys))
			}
		}
	}
	// Those whose requests wait for long end as idle ones do.
	eventually(t, "the connections end", func() bool { return r.connections() <= before })
	if got := r.dial(t).produce("orders", 1, "after"); got < 0 {
		t.Errorf("offset %d", got)
	}
	for _, e := range r.logs.All() {
		if e.Level > 1 {
			t.Errorf("logged: %s %v", e.Message, e.ContextMap())
		}
	}
}

// anyRequest returns a good request of an API that is served, of defaults.
func anyRequest(p *peer, random *rand.Rand) []byte {
	switch random.IntN(4) {
	case 0:
		return p.request(produceTo("orders", int32(random.IntN(2)), -1, batch(record.Codec(random.IntN(5)), "some", "values")), 9)
	case 1:
		return p.request(fetchFrom("orders", 0, 0, 0, 0), 12)
	}
	for {
		key := int16(random.IntN(80))
		req := msg.NewRequest(key)
		if req == nil || key == int16(wire.DeleteTopics) {
			continue
		}
		low, high := req.Versions()
		v := low + int16(random.IntN(int(high-low)+1))
		req.SetDefaults()
		if body, err := req.AppendTo(nil, v); err == nil {
			return p.frame(wire.Key(key), v, body)
		}
	}
}

func (r *rig) connections() int {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return len(r.server.conns)
}

// FuzzConnection sends arbitrary bytes to a broker, which goes on to answer.
func FuzzConnection(f *testing.F) {
	r := start(f, "socket.request.max.bytes=1000000", "auto.create.topics.enable=false", "connections.max.idle.ms=1000")
	p := r.dial(f)
	p.create("orders", 2)
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		f.Add(anyRequest(p, random))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		p := r.dial(t)
		p.send(in)
		p.Close()
		r.alive(t)
	})
}
