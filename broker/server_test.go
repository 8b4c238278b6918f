package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
)

// handlers of these tests.
type handlers = map[wire.Key]func(c *api.Call, body []byte) (api.Answer, error)

// echo answers a Heartbeat with its session timeout: the throttle time is the
// order in which it was handled.
func echo(n *atomic.Int32) func(c *api.Call, body []byte) (api.Answer, error) {
	return func(*api.Call, []byte) (api.Answer, error) {
		return api.Answer{Response: &msg.HeartbeatResponse{ThrottleTimeMs: n.Add(1)}}, nil
	}
}

// park waits for release without a slot.
func park(release <-chan struct{}) func(c *api.Call, body []byte) (api.Answer, error) {
	return func(c *api.Call, _ []byte) (api.Answer, error) {
		err := c.Park(func() {
			select {
			case <-release:
			case <-c.Context.Done():
			}
		})
		return api.Answer{Response: new(msg.FetchResponse)}, err
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	var n atomic.Int32
	r := serve(t, nil, handlers{wire.Heartbeat: echo(&n)})
	p := r.dial(t)
	var all []byte
	for range 100 {
		all = append(all, p.request(new(msg.HeartbeatRequest), 3)...)
	}
	p.send(all)
	for want := int32(1); want <= 100; want++ {
		var resp msg.HeartbeatResponse
		if id := p.answer(&resp, 3); id != want || resp.ThrottleTimeMs != want {
			t.Fatalf("answer to %d, handled as number %d, want %d", id, resp.ThrottleTimeMs, want)
		}
	}
}

// TestSlowFrames sends requests a byte at a time, of sizes around that of the
// connection's buffer.
func TestSlowFrames(t *testing.T) {
	var sizes []int
	r := serve(t, nil, handlers{wire.Heartbeat: func(_ *api.Call, body []byte) (api.Answer, error) {
		for i, b := range body {
			if b != byte(i) {
				return api.Answer{}, fmt.Errorf("byte %d is %d", i, b)
			}
		}
		sizes = append(sizes, len(body))
		return api.Answer{Response: new(msg.HeartbeatResponse)}, nil
	}})
	p := r.dial(t)
	const header = 8 + 2 + 4
	bodies := []int{0, 1, 100, smallFrame - 4 - header - 1, smallFrame - 4 - header, smallFrame - 4 - header + 1, 70000}
	var all []byte
	for _, n := range bodies {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(i)
		}
		all = append(all, p.frame(wire.Heartbeat, 3, body)...)
	}
	for _, chunk := range []int{1, 7, 4093, len(all)} {
		sizes = nil
		go func() {
			for b := range slices.Chunk(all, chunk) {
				p.Write(b)
			}
		}()
		for range bodies {
			p.answer(new(msg.HeartbeatResponse), 3)
		}
		if !slices.Equal(sizes, bodies) {
			t.Errorf("in chunks of %d: bodies of %v bytes, want %v", chunk, sizes, bodies)
		}
	}
}

// TestStalledFrame stops in the middle of a frame. The connection ends although
// it is not idle for long.
func TestStalledFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, nil)
		p := r.dial(t)
		p.send([]byte{0, 0, 1, 0, 1})
		began := time.Now()
		if err := p.closed(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != stallLimit {
			t.Errorf("closed after %v, want %v", d, stallLimit)
		}
	})
}

// TestParkedRequestsHoldNoSlot runs a broker of one thread.
func TestParkedRequestsHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		release := make(chan struct{})
		r := serve(t, []string{"num.io.threads=1"}, handlers{wire.Heartbeat: echo(&n), wire.Fetch: park(release)})
		var waiting []*peer
		for range 5 {
			p := r.dial(t)
			p.send(p.request(fetchFrom("t", 1, 1, 0), 12))
			waiting = append(waiting, p)
		}
		synctest.Wait()
		r.dial(t).ask(new(msg.HeartbeatRequest), 3, new(msg.HeartbeatResponse))
		close(release)
		for _, p := range waiting {
			p.answer(new(msg.FetchResponse), 12)
		}
	})
}

// TestThreadsAndQueue fills num.io.threads and queued.max.requests.
func TestThreadsAndQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		release := make(chan struct{})
		r := serve(t, []string{"num.io.threads=2", "queued.max.requests=3"}, handlers{wire.Heartbeat: func(*api.Call, []byte) (api.Answer, error) {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
			return api.Answer{Response: new(msg.HeartbeatResponse)}, nil
		}})
		var all []*peer
		for range 10 {
			p := r.dial(t)
			p.send(p.request(new(msg.HeartbeatRequest), 3))
			all = append(all, p)
		}
		synctest.Wait()
		if n, q := running.Load(), len(r.server.pool.queue); n != 2 || q != 3 {
			t.Errorf("%d requests run and %d are queued, want 2 and 3", n, q)
		}
		close(release)
		for _, p := range all {
			p.answer(new(msg.HeartbeatResponse), 3)
		}
		if most.Load() > 2 {
			t.Errorf("%d requests ran at once", most.Load())
		}
	})
}

// TestQueuedRequestBytes lets requests in while any memory is free.
func TestQueuedRequestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int32
		release := make(chan struct{})
		r := serve(t, []string{"socket.request.max.bytes=1000", "queued.max.request.bytes=1000"}, handlers{wire.Heartbeat: func(*api.Call, []byte) (api.Answer, error) {
			running.Add(1)
			<-release
			return api.Answer{Response: new(msg.HeartbeatResponse)}, nil
		}})
		var all []*peer
		for range 6 {
			p := r.dial(t)
			p.send(p.frame(wire.Heartbeat, 3, make([]byte, 600)))
			all = append(all, p)
		}
		synctest.Wait()
		if n := running.Load(); n != 2 {
			t.Errorf("%d requests of 600 bytes are in memory, want 2", n)
		}
		close(release)
		for _, p := range all {
			p.answer(new(msg.HeartbeatResponse), 3)
		}
	})
}

// TestProducesPassAParkedProduce pipelines on one connection: produces start
// behind a parked one, anything else waits, and all answers are in order.
func TestProducesPassAParkedProduce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
		var begun, beats atomic.Int32
		r := serve(t, []string{"num.io.threads=1"}, handlers{
			wire.Produce: func(*api.Call, []byte) (api.Answer, error) {
				n := begun.Add(1)
				a := api.Answer{Response: &msg.ProduceResponse{ThrottleTimeMs: n}}
				if int(n) <= len(ready) {
					a.Wait = func() { <-ready[n-1] }
				}
				return a, nil
			},
			wire.Heartbeat: echo(&beats),
		})
		p := r.dial(t)
		var all []byte
		for range 4 { // the fourth is ready at once
			all = append(all, p.request(produceTo("t", 0, -1, nil), 9)...)
		}
		all = append(all, p.request(new(msg.HeartbeatRequest), 3)...)
		p.send(all)
		synctest.Wait()
		if begun.Load() != 4 || beats.Load() != 0 {
			t.Fatalf("%d produces and %d heartbeats have begun, want 4 and 0", begun.Load(), beats.Load())
		}
		answers := make(chan int32, 5)
		go func() {
			for range 4 {
				var resp msg.ProduceResponse
				id := p.answer(&resp, 9)
				if resp.ThrottleTimeMs != id {
					t.Errorf("answer %d to produce %d", resp.ThrottleTimeMs, id)
				}
				answers <- id
			}
			answers <- p.answer(new(msg.HeartbeatResponse), 3)
		}()
		close(ready[2])
		close(ready[1])
		synctest.Wait()
		if n := len(answers); n != 0 {
			t.Fatalf("%d answers overtook the first", n)
		}
		close(ready[0])
		for want := int32(1); want <= 5; want++ {
			if id := <-answers; id != want {
				t.Fatalf("answer to %d, want %d", id, want)
			}
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		r := serve(t, []string{"max.connections=4", "max.connections.per.ip=2", "max.connections.per.ip.overrides=big:3,none:0"}, handlers{wire.Heartbeat: echo(&n)})
		beat := func(p *peer) { p.ask(new(msg.HeartbeatRequest), 3, new(msg.HeartbeatResponse)) }
		a, b := r.dialFrom(t, "small"), r.dialFrom(t, "small")
		beat(a)
		beat(b)
		for _, host := range []string{"small", "none"} {
			if err := r.dialFrom(t, host).closed(); err != nil {
				t.Errorf("one too many from %s: %v", host, err)
			}
		}
		a.Close()
		synctest.Wait()
		c := r.dialFrom(t, "small") // in the place of a
		beat(c)
		big := r.dialFrom(t, "big")
		beat(big)
		beat(r.dialFrom(t, "big"))
		synctest.Wait()
		// Four are open: the fifth waits, whoever it is, and is served later.
		late := r.dialFrom(t, "other")
		late.send(late.request(new(msg.HeartbeatRequest), 3))
		synctest.Wait()
		if got := n.Load(); got != 5 {
			t.Errorf("%d requests were handled, want 5", got)
		}
		big.Close()
		late.answer(new(msg.HeartbeatResponse), 3)
		if logs := r.logs.FilterMessageSnippet("too many from its address").Len(); logs != 2 {
			t.Errorf("%d refusals are logged, want 2", logs)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 10 * time.Minute // connections.max.idle.ms
		var n atomic.Int32
		r := serve(t, nil, handlers{wire.Heartbeat: echo(&n), wire.Fetch: park(nil)})
		quiet, busy, parked := r.dial(t), r.dial(t), r.dial(t)
		parked.send(parked.request(fetchFrom("t", 1, 1, 0), 12))
		began := time.Now()
		for time.Since(began) < idle+2*time.Minute {
			time.Sleep(time.Minute)
			busy.ask(new(msg.HeartbeatRequest), 3, new(msg.HeartbeatResponse))
		}
		synctest.Wait()
		if n := r.connections(); n != 1 {
			t.Errorf("%d connections are open, want that which is used", n)
		}
		if err := quiet.closed(); err != nil {
			t.Error(err)
		}
		parked.Close()
	})
}

// TestPeerThatReadsNothing asks for more than the network holds and reads none
// of it.
func TestPeerThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, []string{"connections.max.idle.ms=60000"}, handlers{wire.Fetch: func(*api.Call, []byte) (api.Answer, error) {
			resp := new(msg.FetchResponse)
			resp.SetDefaults()
			resp.Responses = []msg.FetchResponseFetchableTopicResponse{{Topic: strings.Repeat("x", 30000)}}
			for range 500 {
				resp.Responses = append(resp.Responses, resp.Responses[0])
			}
			return api.Answer{Response: resp}, nil
		}})
		p := r.dial(t)
		p.send(p.request(fetchFrom("t", 1, 1, 0), 11))
		synctest.Wait()
		if n := r.connections(); n != 1 {
			t.Fatalf("%d connections", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := r.connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// TestUnauthenticatedFrames holds clients that did not say who they are to small
// frames.
func TestUnauthenticatedFrames(t *testing.T) {
	c := conn{srv: &server{maxRequest: 100 << 20}}
	if got := c.frameLimit(); got != 512<<10 {
		t.Errorf("not authenticated: frames of %d bytes, want 524288", got)
	}
	c.session.Principal = anonymous
	if got := c.frameLimit(); got != 100<<20 {
		t.Errorf("authenticated: frames of %d bytes, want 104857600", got)
	}
}

// TestSecondBrokerOnADirectory is refused and harms nothing.
func TestSecondBrokerOnADirectory(t *testing.T) {
	dir := t.TempDir()
	n := memnet.New()
	conf := load(t, []string{"log.dirs=" + dir})
	b, err := Start(context.Background(), Options{Config: conf, Listen: n.Listen})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Broker: b, net: n, addr: b.Addr()}
	r.dial(t).create("orders", 1)
	_, err = Start(context.Background(), Options{Config: conf, Listen: n.Listen})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another") {
		t.Errorf("a second broker: %v", err)
	}
	if got := r.dial(t).produce("orders", 0, "a"); got != 0 {
		t.Errorf("offset %d after it", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = Start(context.Background(), Options{Config: conf, Listen: n.Listen}); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnservedProtocols refuses a listener that could not be what it promises.
func TestUnservedProtocols(t *testing.T) {
	for _, protocol := range []string{"SSL", "SASL_PLAINTEXT", "SASL_SSL"} {
		n := memnet.New()
		_, err := Start(context.Background(), Options{Config: load(t, []string{"listeners=" + protocol + "://broker-1:0"}), FS: vfs.NewMem(), Listen: n.Listen})
		if err == nil || !strings.Contains(err.Error(), protocol) {
			t.Errorf("%s: %v", protocol, err)
		}
	}
}

// sized is a connection whose buffers can be set.
type sized struct {
	net.Conn
	read, write int
}

func (s *sized) SetReadBuffer(n int) error { s.read = n; return nil }

func (s *sized) SetWriteBuffer(n int) error { s.write = n; return errors.New("refused") }

func TestSocketBuffers(t *testing.T) {
	for _, c := range []struct {
		overrides   []string
		read, write int
	}{
		{nil, 0, 0},
		{[]string{"socket.receive.buffer.bytes=70000", "socket.send.buffer.bytes=80000"}, 70000, 80000},
		{[]string{"socket.receive.buffer.bytes=-1", "socket.send.buffer.bytes=-1"}, 0, 0},
	} {
		var s sized
		start(t, c.overrides...).server.sizeBuffers(&s)
		if s.read != c.read || s.write != c.write {
			t.Errorf("%v: buffers of %d and %d bytes, want %d and %d", c.overrides, s.read, s.write, c.read, c.write)
		}
	}
}
