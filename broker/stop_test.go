package broker

import (
	"context"
	"runtime"
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

// TestServerStops answers what is under way and leaves nothing behind.
func TestServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, release := make(chan struct{}), make(chan struct{})
		r := serve(t, nil, handlers{
			wire.Fetch: park(nil),
			wire.Heartbeat: func(*api.Call, []byte) (api.Answer, error) {
				close(begun)
				<-release
				return api.Answer{Response: new(msg.HeartbeatResponse)}, nil
			},
		})
		idle, parked, running := r.dial(t), r.dial(t), r.dial(t)
		parked.send(parked.request(fetchFrom("t", 1, 1, 0), 12))
		running.send(running.request(new(msg.HeartbeatRequest), 3))
		<-begun
		synctest.Wait()
		var stopped atomic.Bool
		go func() {
			r.server.quit(time.Minute)
			stopped.Store(true)
		}()
		synctest.Wait()
		if stopped.Load() {
			t.Error("the server stopped before its last answer")
		}
		if err := idle.closed(); err != nil {
			t.Errorf("idle: %v", err)
		}
		parked.answer(new(msg.FetchResponse), 12)
		if _, err := r.net.Dial(t.Context(), "tcp", r.addr); err == nil {
			t.Error("a connection is accepted")
		}
		close(release)
		running.answer(new(msg.HeartbeatResponse), 3)
		synctest.Wait()
		if !stopped.Load() {
			t.Error("the server does not stop")
		}
	})
}

// TestStopWithoutPatience closes what does not end in time.
func TestStopWithoutPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := serve(t, nil, handlers{wire.Heartbeat: func(*api.Call, []byte) (api.Answer, error) {
			<-release
			return api.Answer{Response: new(msg.HeartbeatResponse)}, nil
		}})
		p := r.dial(t)
		p.send(p.request(new(msg.HeartbeatRequest), 3))
		synctest.Wait()
		began := time.Now()
		go func() {
			time.Sleep(10 * time.Second)
			close(release)
		}()
		r.server.quit(3 * time.Second)
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("stopped after %v, want 10s, when the handler returned", d)
		}
		if err := p.closed(); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseLeavesNoGoroutine counts before and after.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		n := memnet.New()
		b, err := Start(context.Background(), Options{Config: load(t, nil), FS: vfs.NewMem(), Listen: n.Listen})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{Broker: b, net: n, addr: b.Addr()}
		p := r.dial(t)
		p.create("orders", 3)
		p.produce("orders", 1, "a")
		p.send(p.request(fetchFrom("orders", 1, 60000, 0, 1), 12))
		var join msg.JoinGroupResponse
		q := r.dial(t)
		q.ask(&msg.JoinGroupRequest{GroupId: "g", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 10000, ProtocolType: "consumer",
			Protocols: []msg.JoinGroupRequestProtocol{{Name: "range"}}}, 3, &join)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// TestIdleBrokerClosesAtOnce is the promise of less than 50 ms, on a real disk.
func TestIdleBrokerClosesAtOnce(t *testing.T) {
	best := time.Hour
	for range 5 { // other tests may hold the machine up
		n := memnet.New()
		b, err := Start(context.Background(), Options{Config: load(t, []string{"log.dirs=" + t.TempDir()}), Listen: n.Listen})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{Broker: b, net: n, addr: b.Addr()}
		p := r.dial(t)
		p.create("orders", 1)
		p.produce("orders", 0, "a")
		began := time.Now()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	t.Logf("closed in %v", best)
	if best > 50*time.Millisecond {
		t.Errorf("an idle broker took %v to close", best)
	}
}
