package conn

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestEveryAnswerThrottles sends a throttle time in the answer of every API that
// has one, and asks for the next request a moment later: it reaches the broker
// when the time is over, and still has its whole timeout.
func TestEveryAnswerThrottles(t *testing.T) {
	const pause = 45 * time.Second // longer than the timeout of a request
	tried := 0
	for key := wire.Key(0); key < 93; key++ {
		api, ok := wire.Lookup(key)
		if !ok || key == wire.ApiVersions {
			continue
		}
		resp := msg.NewResponse(int16(key))
		resp.SetDefaults()
		field := reflect.ValueOf(resp).Elem().FieldByName("ThrottleTimeMs")
		low, high := api.Advertised()
		if !field.IsValid() || high < low {
			continue
		}
		tried++
		field.SetInt(pause.Milliseconds())
		t.Run(api.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var beats []time.Time
				s := start(t, func(h wire.RequestHeader, body []byte) msg.Response {
					mu.Lock()
					defer mu.Unlock()
					if h.Key == key && beats == nil {
						beats = []time.Time{}
						return resp
					}
					beats = append(beats, time.Now())
					return heartbeat(0)
				})
				c := s.dial(t, Options{})
				req := msg.NewRequest(int16(key))
				req.SetDefaults()
				if err := c.DoVersion(context.Background(), req, msg.NewResponse(int16(key)), high, 0); err != nil {
					t.Fatal(err)
				}
				throttled := time.Now()
				if err := c.DoVersion(context.Background(), &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{}, 4, 0); err != nil {
					t.Fatal(err)
				}
				if wait := beats[0].Sub(throttled); wait != pause {
					t.Errorf("the next request came %v after the answer, want %v", wait, pause)
				}
			})
		})
	}
	if tried < 40 {
		t.Errorf("%d APIs tried", tried)
	}
}

// TestOldBrokersThrottleThemselves: below the version of KIP-219 the broker has
// waited before it answered.
func TestOldBrokersThrottleThemselves(t *testing.T) {
	for key, since := range throttledSince {
		resp := msg.NewResponse(int16(key))
		reflect.ValueOf(resp).Elem().FieldByName("ThrottleTimeMs").SetInt(1000)
		if got := throttle(resp, since-1); got != 0 {
			t.Errorf("api %d version %d: %v", key, since-1, got)
		}
		if got := throttle(resp, since); got != time.Second {
			t.Errorf("api %d version %d: %v", key, since, got)
		}
	}
}

// TestTooLargeAnswer tells the request whose answer is too large so, with the
// numbers; one behind it only loses its connection.
func TestTooLargeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(h wire.RequestHeader, body []byte) msg.Response {
			time.Sleep(time.Second)
			if h.Key == wire.Heartbeat {
				return heartbeat(0)
			}
			return &msg.JoinGroupResponse{MemberId: string(make([]byte, 2000))}
		})
		c := s.dial(t, Options{MaxResponse: 1500})
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() {
			errs[0] = c.DoVersion(context.Background(), &msg.JoinGroupRequest{}, &msg.JoinGroupResponse{}, 9, 0)
		})
		synctest.Wait()
		wg.Go(func() {
			errs[1] = c.DoVersion(context.Background(), &msg.HeartbeatRequest{}, &msg.HeartbeatResponse{}, 4, 0)
		})
		wg.Wait()
		time.Sleep(time.Second) // the server handles the second one too
		var large *AnswerTooLargeError
		if !errors.As(errs[0], &large) || large.API != "JoinGroup" || large.Addr != "b:9092" || large.Size < 2000 || large.Limit != 1500 {
			t.Errorf("told %v", errs[0])
		}
		if errors.As(errs[1], &large) || !errors.Is(errs[1], ErrClosed) {
			t.Errorf("the one behind was told %v", errs[1])
		}
	})
}
