package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// TestFetchFaultsAreTyped: Poll returns what is wrong with an answer as an error
// that a program can tell apart, and reads on once the broker does better.
func TestFetchFaultsAreTyped(t *testing.T) {
	for _, c := range []struct {
		name  string
		drop  string
		spoil func(b record.Batch) []byte
		is    func(err error) bool
		says  []string
	}{
		{"the start of a batch", "", func(b record.Batch) []byte { return b[:30] },
			func(err error) bool {
				var e *BatchTooLargeError
				return errors.As(err, &e) && e.Have == 30 && e.Size > 60 && e.Limit == 1<<20 && errors.Is(err, ErrRecordTooLarge)
			}, []string{"t-0 from offset 0", "max.partition.fetch.bytes is 1048576"}},
		{"less than a batch's length", "", func(b record.Batch) []byte { return b[:5] },
			func(err error) bool {
				var e *BatchTooLargeError
				return errors.As(err, &e) && e.Have == 5 && e.Size == 0
			}, []string{"t-0"}},
		{"a damaged batch", "", func(b record.Batch) []byte { b[len(b)-1] ^= 1; return b },
			func(err error) bool { return errors.Is(err, record.ErrCorrupt) }, []string{"t-0 from offset 0"}},
		{"an answer that does not parse", "garbage", nil,
			func(err error) bool { return errors.Is(err, conn.ErrProtocol) }, []string{"t-0", "broker 1", "Fetch", "b1:9092"}},
		{"an answer to another request", "correlation", nil,
			func(err error) bool { return errors.Is(err, conn.ErrProtocol) }, []string{"t-0", "broker 1", "Fetch"}},
		{"an answer that is too large", "huge", nil,
			func(err error) bool {
				var e *conn.AnswerTooLargeError
				return errors.As(err, &e) && e.API == "Fetch" && e.Size == 1<<30 && e.Limit == 128<<20
			}, []string{"t-0", "Fetch", "1073741824", "134217728"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 3)
				faulty := true
				f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					r, ok := req.(*msg.FetchRequest)
					f.mu.Lock()
					bad := faulty
					f.mu.Unlock()
					if !ok || !bad || r.SessionEpoch == sessionFinal {
						return nil, ""
					}
					resp := f.fetch(id, r).(*msg.FetchResponse)
					if c.spoil != nil {
						p := &resp.Responses[0].Partitions[0]
						p.Records = prim.Records{B: c.spoil(record.Batch(slices.Clone(p.Records.B)))}
					}
					return resp, c.drop
				}
				consumer := newConsumer(t, f, ConsumerOptions{})
				consumer.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
				for range 3 {
					_, err := consumer.Poll(background(t))
					if err == nil || !c.is(err) {
						t.Fatalf("poll: %v", err)
					}
					for _, s := range c.says {
						if !strings.Contains(err.Error(), s) {
							t.Errorf("%q does not say %q", err, s)
						}
					}
				}
				f.mu.Lock()
				faulty = false
				f.mu.Unlock()
				for n := 0; n < 3; {
					rs, err := consumer.Poll(background(t))
					n += len(rs)
					if err != nil && !c.is(err) {
						t.Fatalf("poll once the broker does better: %v", err)
					}
				}
			})
		})
	}
}

// TestErrorsWaitForPoll: after an error that trying again does not mend the
// broker is not asked for more until Poll has returned it.
func TestErrorsWaitForPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 3)
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if _, ok := req.(*msg.FetchRequest); ok {
				return new(msg.FetchResponse), "huge"
			}
			return nil, ""
		}
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		time.Sleep(time.Hour)
		if n := f.count(wire.Fetch); n != 1 {
			t.Errorf("%d fetches while nobody polled", n)
		}
		for range 5 {
			if _, err := c.Poll(background(t)); err == nil {
				t.Fatal("no error")
			}
		}
		time.Sleep(time.Hour)
		if n := f.count(wire.Fetch); n > 6 {
			t.Errorf("%d fetches for 5 polls", n)
		}
	})
}

// TestTooLargeAnswerEndsACall: a call of the admin client whose answer is too
// large fails at once, with the numbers.
func TestTooLargeAnswerEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if _, ok := req.(*msg.ListGroupsRequest); ok {
				return new(msg.ListGroupsResponse), "huge"
			}
			return nil, ""
		}
		a, err := NewAdmin(AdminOptions{Options: f.options()})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		began := time.Now()
		_, err = a.ListGroups(context.Background())
		var e *conn.AnswerTooLargeError
		if !errors.As(err, &e) || e.API != "ListGroups" || time.Since(began) > time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestLargeFetchMax: an answer as large as fetch.max.bytes lets it be is no
// error.
func TestLargeFetchMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		c := newConsumer(t, f, ConsumerOptions{FetchMaxBytes: 1 << 30})
		var cn versioned
		err := c.cl.anyConn(background(t), func(x versioned) error { cn = x; return nil })
		if err != nil {
			t.Fatal(err)
		}
		if got := cn.MaxResponse(); got <= 1<<30 {
			t.Errorf("answers of up to %d bytes are read", got)
		}
	})
}

// TestOutOfRangeSlowsDown: a position that stays out of range is looked up and
// fetched less and less often, and reset at once the first time.
func TestOutOfRangeSlowsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 3)
		var at []time.Time
		f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			r, ok := req.(*msg.FetchRequest)
			if !ok || r.SessionEpoch == sessionFinal {
				return nil, ""
			}
			resp := f.fetch(id, r).(*msg.FetchResponse)
			resp.Responses[0].Partitions[0].ErrorCode = int16(kerr.OffsetOutOfRange)
			f.mu.Lock()
			defer f.mu.Unlock()
			at = append(at, time.Now())
			return resp, ""
		}
		c := newConsumer(t, f, ConsumerOptions{Reset: ResetEarliest})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(9)})
		err := drainErrors(c, time.Minute)
		if !errors.Is(err, kerr.OffsetOutOfRange) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the last Poll said %v", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(at) < 40 || len(at) > 100 || at[1].Sub(at[0]) > 10*time.Millisecond {
			t.Errorf("%d fetches in a minute, the second %v after the first", len(at), at[1].Sub(at[0]))
		}
	})
}
