package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// refuseTopic makes metadata of topic t answer a code until the returned
// function is called.
func (f *fake) refuseTopic(code kerr.Code) (mend func()) {
	refused := true
	f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
		r, ok := req.(*msg.MetadataRequest)
		if !ok {
			return nil, ""
		}
		resp := f.metadata(r).(*msg.MetadataResponse)
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := range resp.Topics {
			if t := &resp.Topics[i]; refused && *t.Name == "t" {
				t.ErrorCode, t.Partitions = int16(code), nil
			}
		}
		return resp, ""
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		refused = false
	}
}

// TestTopicErrorsDoNotOutliveTheirCause: a topic that could not be used is used
// a moment after the cause is gone, by each kind of client, whatever the code.
func TestTopicErrorsDoNotOutliveTheirCause(t *testing.T) {
	const soon = 4 * time.Second // two pauses, of the metadata and of the position, of 1.5 s at most, and a join
	for _, code := range []kerr.Code{kerr.InvalidTopicException, kerr.TopicAuthorizationFailed, kerr.UnknownServerError, kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable} {
		t.Run(code.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 1)
				mend := f.refuseTopic(code)
				p := newProducer(t, f, ProducerOptions{MaxBlock: time.Second})
				group := newConsumer(t, f, ConsumerOptions{Group: "g", Reset: ResetEarliest})
				if err := group.Subscribe("t"); err != nil {
					t.Fatal(err)
				}
				alone := newConsumer(t, f, ConsumerOptions{})
				alone.Assign(map[TopicPartition]Position{{"t", 0}: AtStart(0)})
				for range 5 { // the errors are cached, and pauses have grown
					if _, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")}).Get(background(t)); !errors.Is(err, code) {
						t.Fatalf("send: %v", err)
					}
					for _, c := range []*Consumer{group, alone} {
						if err := drainErrors(c, time.Second); !errors.Is(err, code) {
							t.Fatalf("poll: %v", err)
						}
					}
				}
				mend()
				mended := time.Now()
				for _, c := range []*Consumer{alone, group} {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					for {
						if rs, err := c.Poll(ctx); len(rs) > 0 {
							break
						} else if ctx.Err() != nil {
							t.Fatalf("poll: %v", err)
						}
					}
				}
				// The consumers wait one after the other, but for the same cause.
				if d := time.Since(mended); d > soon {
					t.Errorf("records came %v after the cause was gone", d)
				}
				time.Sleep(time.Second)
				if _, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")}).Get(background(t)); err != nil {
					t.Errorf("send after the cause was gone: %v", err)
				}
			})
		})
	}
}

// drainErrors polls for d and returns the last error.
func drainErrors(c *Consumer, d time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for ctx.Err() == nil {
		_, err = c.Poll(ctx)
	}
	return err
}

// TestLateTopic: a topic made some time after it was subscribed or assigned is
// read soon, also when the one Poll began before.
func TestLateTopic(t *testing.T) {
	for name, begin := range map[string]func(*Consumer) error{
		"subscribed": func(c *Consumer) error { return c.Subscribe("t") },
		"one of two": func(c *Consumer) error { return c.Subscribe("t", "other") },
		"assigned": func(c *Consumer) error {
			c.Assign(map[TopicPartition]Position{{"t", 0}: AtStart(0)})
			return nil
		},
	} {
		for _, late := range []time.Duration{time.Second, 5 * time.Second, time.Hour} {
			t.Run(name+" "+late.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					f.topic("other", 1)
					c := newConsumer(t, f, ConsumerOptions{Group: "g", Reset: ResetEarliest, MaxPollInterval: 10 * time.Hour})
					if err := begin(c); err != nil {
						t.Fatal(err)
					}
					var made time.Time
					time.AfterFunc(late, func() {
						f.topic("t", 1)
						f.fill("t", 0, record.None, 1, 3)
						f.mu.Lock()
						defer f.mu.Unlock()
						made = time.Now()
					})
					rs, err := c.Poll(background(t))
					if err != nil || len(rs) != 3 || rs[0].Topic != "t" {
						t.Fatalf("%d records, %v", len(rs), err)
					}
					f.mu.Lock()
					defer f.mu.Unlock()
					if d := time.Since(made); d > 2500*time.Millisecond {
						t.Errorf("read %v after it was made", d)
					}
				})
			})
		}
	}
}

// TestLeaderComesBack: records that wait for a leader are sent soon after there
// is one, though nothing else makes the producer ask.
func TestLeaderComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", -1)
		p := newProducer(t, f, ProducerOptions{})
		future := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")})
		time.Sleep(20 * time.Second)
		f.move("t", 0, 1)
		led := time.Now()
		if _, err := future.Get(background(t)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(led); d > 2*time.Second {
			t.Errorf("delivered %v after the leader was there", d)
		}
	})
}

// TestLostConnectionsAreDialledWithPauses asks without any pause of its own a
// broker that takes connections and closes them with the first request.
func TestLostConnectionsAreDialledWithPauses(t *testing.T) {
	for _, lives := range []time.Duration{0, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
				if _, ok := req.(*msg.ListGroupsRequest); ok {
					time.Sleep(lives)
					return nil, "before"
				}
				return nil, ""
			}
			o := f.options()
			dials := 0
			dial := o.Dial
			o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if dials++; dials > 1000 {
					t.Fatal("1000 dials")
				}
				return dial(ctx, network, addr)
			}
			cl := newCluster(o.withDefaults(), 5, false, nil)
			defer cl.close()
			began := time.Now()
			for time.Since(began) < time.Minute {
				if err := cl.doAny(background(t), new(msg.ListGroupsRequest), new(msg.ListGroupsResponse)); !isLost(err) {
					t.Fatal(err)
				}
			}
			if dials > 80 {
				t.Errorf("%d dials in a minute", dials)
			}
		})
	}
}

// TestThrottledProducer: while a broker wants to hear nothing, records gather in
// batches and no request is handed to its connection; then they come together.
func TestThrottledProducer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		var at []time.Time
		f.script = func(id int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if _, ok := req.(*msg.ProduceRequest); !ok {
				return nil, ""
			}
			resp := f.handle(id, h, req).(*msg.ProduceResponse)
			f.mu.Lock()
			defer f.mu.Unlock()
			if at = append(at, time.Now()); len(at) == 1 {
				resp.ThrottleTimeMs = 60_000
			}
			return resp, ""
		}
		p := newProducer(t, f, ProducerOptions{})
		mustSend(t, p, "first")
		var futures []*Future
		for range 10 {
			futures = append(futures, p.Send(background(t), &Record{Topic: "t", Value: []byte("v")}))
			time.Sleep(time.Second)
		}
		for _, future := range futures {
			if _, err := future.Get(background(t)); err != nil {
				t.Error(err)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(at) != 2 || at[1].Sub(at[0]) < time.Minute {
			t.Errorf("produced at %v", at)
		}
	})
}

// TestErrorOfAFormerPartition: Poll does not return the error of a lookup whose
// partition was given up meanwhile.
func TestErrorOfAFormerPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		f.topic("u", 1)
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			r, ok := req.(*msg.ListOffsetsRequest)
			if !ok {
				return nil, ""
			}
			time.Sleep(2 * time.Second)
			resp := f.listOffsets(1, r).(*msg.ListOffsetsResponse)
			resp.Topics[0].Partitions[0].ErrorCode = int16(kerr.TopicAuthorizationFailed)
			return resp, ""
		}
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtEnd(0)})
		drainErrors(c, time.Second)
		c.Assign(map[TopicPartition]Position{{"u", 0}: AtOffset(0)})
		pollFor(t, c, 5*time.Second)
		if n := f.count(wire.ListOffsets); n != 1 {
			t.Errorf("%d lookups", n)
		}
	})
}
