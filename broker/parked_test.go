package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// A client that sends produces without waiting for answers makes the broker hold
// so many of them and no more: the rest stays in the socket until some are
// answered. Then all are, in order.
func TestParkedAnswersAreBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		bound int32
	}{
		{"by number", 10, maxParked},
		{"by bytes", maxParkedBytes/10 + 1, 10},
		{"one is larger than the bound", 2 * maxParkedBytes, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(chan struct{})
				var begun atomic.Int32
				r := serve(t, nil, handlers{wire.Produce: func(*api.Call, []byte) (api.Answer, error) {
					n := begun.Add(1)
					return api.Answer{Response: &msg.ProduceResponse{ThrottleTimeMs: n}, Wait: func() { <-open }, Size: c.size}, nil
				}})
				p := r.dial(t)
				const sent = 3 * maxParked
				go func() {
					for range sent {
						p.send(p.request(produceTo("t", 0, -1, nil), 9))
					}
				}()
				synctest.Wait()
				if n := begun.Load(); n != c.bound {
					t.Errorf("%d produces have begun, want %d", n, c.bound)
				}
				close(open)
				for i := range int32(sent) {
					var resp msg.ProduceResponse
					if p.answer(&resp, 9); resp.ThrottleTimeMs != i+1 {
						t.Fatalf("answer %d to produce %d", resp.ThrottleTimeMs, i+1)
					}
				}
			})
		})
	}
}

// A client whose produces are parked, and that has nothing more to say, does not
// hold up the broker's stop: once its answers are written the connection ends.
func TestStopWithParkedAnswers(t *testing.T) {
	for _, n := range []int{3, maxParked} {
		stopWithParked(t, n)
	}
}

func stopWithParked(t *testing.T, n int) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, handlers{wire.Produce: func(c *api.Call, _ []byte) (api.Answer, error) {
			ctx := c.Context
			return api.Answer{Response: &msg.ProduceResponse{}, Wait: func() { <-ctx.Done() }, Size: 10}, nil
		}})
		p := r.dial(t)
		for range n {
			p.send(p.request(produceTo("t", 0, -1, nil), 9))
		}
		go func() { // the client reads all its answers
			for {
				var resp msg.ProduceResponse
				if _, err := p.tryAnswer(&resp, 9); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		at := time.Now()
		r.server.quit(time.Minute)
		if took := time.Since(at); took > time.Second {
			t.Errorf("%d parked: the stop took %v", n, took)
		}
	})
}
