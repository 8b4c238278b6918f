package broker

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestPanicInAHandler is F43: it ends its connection and nothing else.
func TestPanicInAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		r := serve(t, []string{"num.io.threads=1"}, handlers{
			wire.Heartbeat: echo(&n),
			wire.Metadata:  func(*api.Call, []byte) (api.Answer, error) { panic("a broken handler") },
			wire.ListOffsets: func(c *api.Call, _ []byte) (api.Answer, error) {
				return api.Answer{}, c.Park(func() { panic("a broken wait") })
			},
		})
		for range 3 { // the one slot comes back each time
			for _, req := range []msg.Request{&msg.MetadataRequest{Topics: []msg.MetadataRequestTopic{}}, new(msg.ListOffsetsRequest)} {
				p := r.dial(t)
				p.send(p.request(req, 4))
				if err := p.closed(); err != nil {
					t.Errorf("%s: %v", req.MessageName(), err)
				}
			}
			r.dial(t).ask(new(msg.HeartbeatRequest), 3, new(msg.HeartbeatResponse))
		}
		synctest.Wait()
		logged := r.logs.FilterMessage("closed a connection over a panic").All()
		if len(logged) != 6 {
			t.Fatalf("%d panics are logged, want 6", len(logged))
		}
		for _, what := range []string{"a broken handler", "a broken wait"} { // in any order: the line is written once the peer knows
			n := 0
			for _, l := range logged {
				if text := fmt.Sprint(l.ContextMap()["error"]); strings.Contains(text, what) && strings.Contains(text, "panic_test.go") {
					n++
				}
			}
			if n != 3 {
				t.Errorf("%s is logged with its stack %d times, want 3", what, n)
			}
		}
	})
}

// broken is an answer that cannot be encoded.
type broken struct{ msg.ProduceResponse }

func (*broken) AppendSplit([]byte, int16, *prim.Encoder) []byte { panic("a broken answer") }

// TestPanicInAnAnswer panics where answers are written: at once, and in their
// turn behind others.
func TestPanicInAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		ready := make(chan struct{})
		r := serve(t, nil, handlers{
			wire.Heartbeat: echo(&n),
			wire.Produce: func(c *api.Call, _ []byte) (api.Answer, error) {
				if c.Header.CorrelationID == 1 {
					return api.Answer{Response: new(msg.ProduceResponse), Wait: func() { <-ready }}, nil
				}
				return api.Answer{Response: new(broken)}, nil
			},
		})
		now, turn := r.dial(t), r.dial(t)
		now.id = 1
		now.send(now.request(produceTo("t", 0, -1, nil), 9))
		if err := now.closed(); err != nil {
			t.Error(err)
		}
		for range 3 {
			turn.send(turn.request(produceTo("t", 0, -1, nil), 9))
		}
		synctest.Wait()
		close(ready)
		turn.answer(new(msg.ProduceResponse), 9)
		if err := turn.closed(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := r.connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		r.dial(t).ask(new(msg.HeartbeatRequest), 3, new(msg.HeartbeatResponse))
		if n := r.logs.FilterMessage("closed a connection over a panic").Len(); n < 2 {
			t.Errorf("%d panics are logged", n)
		}
	})
}

// TestPanicInStateIsNotContained looks at a panic from the code that owns the
// logs: nothing may go on behind it.
func TestPanicInStateIsNotContained(t *testing.T) {
	found := func(f func()) (where string) {
		defer func() {
			recover()
			where = stateOwner()
		}()
		f()
		return
	}
	if got := found(func() { panic("here") }); got != "" {
		t.Errorf("a panic here is laid to %s", got)
	}
	var p *replication.Partition
	if got := found(func() { p.LeaderEpoch() }); !strings.Contains(got, "replication.(*Partition)") {
		t.Errorf("a panic in a partition is laid to %q", got)
	}
}
