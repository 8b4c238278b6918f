package broker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

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
