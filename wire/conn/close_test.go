package conn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestOnClose: whatever ends a connection, OnClose is called once with the reason,
// and before the request under way is told.
func TestOnClose(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *server, c *Conn)
		is   func(err error) bool
	}{
		{"reset", func(s *server, c *Conn) { s.n.Reset("client", "b") }, func(err error) bool { return !errors.Is(err, ErrClosed) && !errors.Is(err, ErrTimeout) }},
		{"an answer that does not come", func(*server, *Conn) { time.Sleep(time.Minute) }, func(err error) bool {
			var late *TimeoutError
			return errors.As(err, &late) && late.API == "Heartbeat" && late.Addr == "b:9092" && late.After == 30*time.Second && errors.Is(err, ErrTimeout)
		}},
		{"closed by the caller", func(_ *server, c *Conn) { c.Close() }, func(err error) bool { return errors.Is(err, ErrClosed) && !errors.Is(err, ErrIdle) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var order []string
				var why error
				s := start(t, func(wire.RequestHeader, []byte) msg.Response { return nil })
				cn := s.dial(t, Options{OnClose: func(err error) { order, why = append(order, "closed"), err }})
				call := &Call{Req: new(msg.HeartbeatRequest), Resp: new(msg.HeartbeatResponse), Done: func(error) { order = append(order, "told") }}
				if err := cn.Send(call); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				c.end(s, cn)
				<-cn.finished
				if len(order) != 2 || order[0] != "closed" || !c.is(why) || why != cn.Err() {
					t.Errorf("%v: %v", order, why)
				}
			})
		})
	}
}

// TestIdleIsTold: a connection that this side closed for want of use says so.
func TestIdleIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(wire.RequestHeader, []byte) msg.Response { return heartbeat(0) })
		began := time.Now()
		told := make(chan error, 1)
		cn := s.dial(t, Options{MaxIdle: time.Minute, OnClose: func(err error) { told <- err }})
		time.Sleep(time.Second)
		if err := cn.Do(context.Background(), new(msg.HeartbeatRequest), new(msg.HeartbeatResponse)); err != nil {
			t.Fatal(err)
		}
		if at := cn.LastAnswer().Sub(began); at != time.Second {
			t.Errorf("the last answer came after %v", at)
		}
		if err := <-told; !errors.Is(err, ErrIdle) || !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}
