package conn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// server answers requests on a memnet as handle says; nil keeps silent.
type server struct {
	n      *memnet.Network
	handle func(h wire.RequestHeader, body []byte) msg.Response
	offer  func(v int16) *msg.ApiVersionsResponse // nil offers everything
}

func start(t *testing.T, handle func(wire.RequestHeader, []byte) msg.Response) *server {
	s := &server{n: memnet.New(), handle: handle}
	l, err := s.n.Listen("tcp", "b:9092")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	t.Cleanup(func() { s.n.Close() })
	return s
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	for {
		frame, err := wire.ReadFrame(c, nil, 1<<24)
		if err != nil {
			return
		}
		h, body, err := wire.ParseRequestHeader(frame, "")
		if err != nil && h.Key != wire.ApiVersions {
			return
		}
		var resp msg.Response
		if h.Key == wire.ApiVersions {
			resp = s.versions(h)
			if resp.(*msg.ApiVersionsResponse).ErrorCode == 35 {
				h.Version = 0
			}
		} else {
			resp = s.handle(h, body)
		}
		if resp == nil {
			continue
		}
		out := wire.AppendResponseHeader(make([]byte, 4), h.Key, h.Version, h.CorrelationID)
		if out, err = resp.AppendTo(out, h.Version); err != nil {
			panic(err)
		}
		n := len(out) - 4
		copy(out, prim.AppendInt32(nil, int32(n)))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (s *server) versions(h wire.RequestHeader) msg.Response {
	r := new(msg.ApiVersionsResponse)
	r.SetDefaults()
	if s.offer != nil {
		return s.offer(h.Version)
	}
	for k := wire.Key(0); k < 93; k++ {
		if api, ok := wire.Lookup(k); ok {
			low, high := api.Advertised()
			r.ApiKeys = append(r.ApiKeys, msg.ApiVersionsResponseApiVersion{ApiKey: int16(k), MinVersion: low, MaxVersion: high})
		}
	}
	return r
}

func (s *server) dial(t *testing.T, o Options) *Conn {
	t.Helper()
	o.Dial = s.n.Dial
	c, err := Dial(context.Background(), "tcp", "b:9092", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func heartbeat(code int16) msg.Response { return &msg.HeartbeatResponse{ErrorCode: code} }

func TestAnswersInOrder(t *testing.T) {
	s := start(t, func(h wire.RequestHeader, body []byte) msg.Response {
		if h.ClientID != "me" {
			t.Errorf("client id %q", h.ClientID)
		}
		var r msg.HeartbeatRequest
		if err := r.Decode(body, h.Version); err != nil {
			t.Error(err)
		}
		return heartbeat(int16(r.GenerationId))
	})
	c := s.dial(t, Options{ClientID: "me", MaxInFlight: 100})
	v, err := c.Version(wire.Heartbeat)
	if err != nil || v != 4 {
		t.Fatalf("version %d, %v", v, err)
	}
	got := make(chan int, 100)
	for i := range 100 {
		resp := new(msg.HeartbeatResponse)
		err := c.Send(&Call{Req: &msg.HeartbeatRequest{GenerationId: int32(i)}, Resp: resp, Version: v, Done: func(err error) {
			if err != nil || resp.ErrorCode != int16(i) {
				t.Errorf("answer %d to request %d, %v", resp.ErrorCode, i, err)
			}
			got <- i
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if g := <-got; g != i {
			t.Fatalf("done %d, want %d", g, i)
		}
	}
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(wire.RequestHeader, []byte) msg.Response { return nil })
		c := s.dial(t, Options{MaxInFlight: 2, RequestTimeout: time.Minute})
		var errs []error
		send := func() error {
			return c.Send(&Call{Req: &msg.HeartbeatRequest{}, Resp: &msg.HeartbeatResponse{}, Done: func(err error) { errs = append(errs, err) }})
		}
		if err := errors.Join(send(), send()); err != nil {
			t.Fatal(err)
		}
		if err := send(); !errors.Is(err, ErrBusy) {
			t.Errorf("third request: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := c.Do(ctx, &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do beyond the window: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(errs) != 2 || !errors.Is(errs[0], ErrTimeout) || !errors.Is(errs[1], ErrTimeout) || !errors.Is(c.Err(), ErrTimeout) {
			t.Errorf("told %v, connection %v", errs, c.Err())
		}
		if err := send(); !errors.Is(err, ErrTimeout) {
			t.Errorf("send on a closed connection: %v", err)
		}
	})
}

func TestBrokerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *server
		s = start(t, func(wire.RequestHeader, []byte) msg.Response { s.n.Reset("client", "b"); return nil })
		c := s.dial(t, Options{})
		err := c.Do(context.Background(), &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{})
		if err == nil || errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if c.InFlight() != 0 {
			t.Errorf("%d in flight", c.InFlight())
		}
	})
}

// TestBufferIsOursUntilDone: while the network does not take the bytes, the
// call is not told, even after its timeout, until the write has ended.
func TestBufferIsOursUntilDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(wire.RequestHeader, []byte) msg.Response { return nil })
		c := s.dial(t, Options{RequestTimeout: time.Second})
		s.n.Block("client", "b")
		records := bytes.Repeat([]byte("r"), 1<<20) // more than the network holds
		req := &msg.ProduceRequest{Acks: 1, TopicData: []msg.ProduceRequestTopicProduceData{{Name: "t",
			PartitionData: []msg.ProduceRequestPartitionProduceData{{Records: prim.Records{B: records}}}}}}
		var told error
		err := c.Send(&Call{Req: req, Resp: &msg.ProduceResponse{}, Version: 9, Done: func(err error) {
			told = err
			c.mu.Lock()
			if c.writing {
				t.Error("told while the writer may hold the buffer")
			}
			c.mu.Unlock()
		}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.Is(told, ErrTimeout) {
			t.Errorf("told %v", told)
		}
	})
}

func TestRecordsArriveWhole(t *testing.T) {
	got := make(chan []byte, 2)
	s := start(t, func(h wire.RequestHeader, body []byte) msg.Response {
		var r msg.ProduceRequest
		if err := r.Decode(body, h.Version); err != nil {
			t.Error(err)
		}
		for _, p := range r.TopicData[0].PartitionData {
			got <- p.Records.B
		}
		return nil
	})
	c := s.dial(t, Options{})
	small, big := []byte("small"), bytes.Repeat([]byte("0123456789"), 50_000)
	req := &msg.ProduceRequest{TopicData: []msg.ProduceRequestTopicProduceData{{Name: "t", PartitionData: []msg.ProduceRequestPartitionProduceData{
		{Records: prim.Records{B: small}}, {Index: 1, Records: prim.Records{B: big}}}}}}
	done := make(chan error, 1)
	if err := c.Send(&Call{Req: req, Version: 9, Done: func(err error) { done <- err }}); err != nil { // acks 0: no answer
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a, b := <-got, <-got; !bytes.Equal(a, small) || !bytes.Equal(b, big) {
		t.Errorf("arrived %d and %d bytes", len(a), len(b))
	}
}

func TestNegotiation(t *testing.T) {
	for _, c := range []struct {
		name   string
		asked  []int16
		answer func(v int16) *msg.ApiVersionsResponse
		want   string
	}{
		{"old broker", []int16{4, 2}, func(v int16) *msg.ApiVersionsResponse {
			r := &msg.ApiVersionsResponse{ApiKeys: []msg.ApiVersionsResponseApiVersion{{ApiKey: 18, MaxVersion: 2}, {ApiKey: 12, MaxVersion: 1}}}
			r.FinalizedFeaturesEpoch = -1
			if v > 2 {
				r.ErrorCode = 35
				r.ApiKeys = r.ApiKeys[:1]
			}
			return r
		}, "1"},
		{"broker that refuses", []int16{4}, func(int16) *msg.ApiVersionsResponse {
			return &msg.ApiVersionsResponse{ErrorCode: 42, FinalizedFeaturesEpoch: -1}
		}, kerr.InvalidRequest.Name()},
		{"broker that lies", []int16{4}, func(int16) *msg.ApiVersionsResponse {
			return &msg.ApiVersionsResponse{ErrorCode: 35, FinalizedFeaturesEpoch: -1, ApiKeys: []msg.ApiVersionsResponseApiVersion{{ApiKey: 18, MaxVersion: 9}}}
		}, ErrVersion.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked []int16
			s := start(t, nil)
			s.offer = func(v int16) *msg.ApiVersionsResponse {
				asked = append(asked, v)
				return c.answer(v)
			}
			cn, err := Dial(context.Background(), "tcp", "b:9092", Options{Dial: s.n.Dial})
			got := fmt.Sprint(err)
			if err == nil {
				v, err := cn.Version(wire.Heartbeat)
				if got = fmt.Sprint(v); err != nil {
					t.Error(err)
				}
				if _, err := cn.Version(wire.Fetch); !errors.Is(err, ErrVersion) {
					t.Errorf("version of an API that is not served: %v", err)
				}
				cn.Close()
			}
			if !bytes.Contains([]byte(got), []byte(c.want)) || !slices.Equal(asked, c.asked) {
				t.Errorf("got %s after asking %v; want %s after %v", got, asked, c.want, c.asked)
			}
		})
	}
}

// TestHostileAnswers closes the connection and tells the request.
func TestHostileAnswers(t *testing.T) {
	for name, frame := range map[string][]byte{
		"wrong correlation id": {0, 0, 0, 5, 9, 9, 9, 9, 0},
		"short body":           {0, 0, 0, 5, 0, 0, 0, 1, 0},
		"huge size":            {0x7f, 0xff, 0xff, 0xff},
		"negative size":        {0xff, 0xff, 0xff, 0xff},
		"empty":                {0, 0, 0, 0},
	} {
		a, b := net.Pipe()
		cn := &Conn{o: Options{}.withDefaults(), nc: a, slots: make(chan struct{}, 5), finished: make(chan struct{}), reported: make(chan struct{}), writing: true, nextID: 1}
		cn.changed.L = &cn.mu
		go cn.writeLoop()
		go cn.readLoop()
		go func() {
			if _, err := wire.ReadFrame(b, nil, 1000); err == nil {
				b.Write(frame)
			}
			io.Copy(io.Discard, b)
		}()
		err := cn.DoVersion(context.Background(), &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{}, 4, 0)
		if !errors.Is(err, ErrProtocol) && !errors.Is(err, wire.ErrFrameSize) {
			t.Errorf("%s: %v", name, err)
		}
		if cn.Err() == nil {
			t.Errorf("%s: the connection is still open", name)
		}
		cn.Close()
	}
}

func TestIdleConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(wire.RequestHeader, []byte) msg.Response { return heartbeat(0) })
		c := s.dial(t, Options{MaxIdle: time.Minute})
		time.Sleep(59 * time.Second)
		if err := c.Do(context.Background(), &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if c.Err() != nil {
			t.Errorf("closed early: %v", c.Err())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !errors.Is(c.Err(), ErrClosed) {
			t.Errorf("still open: %v", c.Err())
		}
	})
}

func TestAuthenticateHook(t *testing.T) {
	s := start(t, func(h wire.RequestHeader, _ []byte) msg.Response {
		return &msg.SaslHandshakeResponse{Mechanisms: []string{"PLAIN"}}
	})
	ran := false
	s.dial(t, Options{Authenticate: func(ctx context.Context, c *Conn) error {
		ran = true
		return c.Do(ctx, &msg.SaslHandshakeRequest{Mechanism: "PLAIN"}, &msg.SaslHandshakeResponse{})
	}})
	if !ran {
		t.Error("the hook did not run")
	}
	denied := errors.New("denied")
	_, err := Dial(context.Background(), "tcp", "b:9092", Options{Dial: s.n.Dial, Authenticate: func(context.Context, *Conn) error { return denied }})
	if !errors.Is(err, denied) {
		t.Errorf("got %v", err)
	}
}
