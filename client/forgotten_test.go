package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestLeaderComesLate: records that wait for longer than metadata.max.idle.ms are
// still sent soon after their partition has a leader that can be reached.
func TestLeaderComesLate(t *testing.T) {
	for name, first := range map[string]int32{"no leader": -1, "the leader closes connections": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", first)
				f.script = func(id int32, _ wire.RequestHeader, _ msg.Request) (msg.Response, string) {
					if id == 2 {
						return nil, "before"
					}
					return nil, ""
				}
				p := newProducer(t, f, ProducerOptions{DeliveryTimeout: time.Hour})
				future := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")})
				time.Sleep(2 * p.o.MetadataMaxIdle)
				f.move("t", 0, 1)
				led := time.Now()
				if _, err := future.Get(background(t)); err != nil {
					t.Error(err)
				}
				if d := time.Since(led); d > 12*time.Second { // reconnect.backoff.max.ms
					t.Errorf("delivered %v after the leader was there", d)
				}
			})
		})
	}
}

// TestOldMetadataIsNotAdopted: a Send that has read the metadata before newer
// metadata was adopted does not take the new leaders away again.
func TestOldMetadataIsNotAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", -1, 1)
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if _, ok := req.(*msg.ProduceRequest); ok {
				time.Sleep(10 * time.Second)
			}
			return nil, ""
		}
		p := newProducer(t, f, ProducerOptions{MaxInFlight: 1})
		old, err := p.cl.topic(background(t), "t")
		if err != nil {
			t.Fatal(err)
		}
		busy := p.Send(background(t), &Record{Topic: "t", Partition: 1, Explicit: true, Value: []byte("v")})
		time.Sleep(time.Second)
		waits := p.Send(background(t), &Record{Topic: "t", Partition: 0, Explicit: true, Value: []byte("v")})
		f.move("t", 0, 1)
		time.Sleep(5 * time.Second) // the producer has learned of the leader, who is busy
		p.mu.Lock()
		p.adopt(old)
		p.mu.Unlock()
		began := time.Now()
		for _, future := range []*Future{busy, waits} {
			if _, err := future.Get(background(t)); err != nil {
				t.Error(err)
			}
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("delivered after %v", d)
		}
	})
}

// TestSecondClose: a Close beside another one does not outlast its context.
func TestSecondClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", -1)
		p := newProducer(t, f, ProducerOptions{})
		p.Send(background(t), &Record{Topic: "t", Value: []byte("v")})
		first := make(chan error)
		go func() { first <- p.Close(background(t)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second Close: %v", err)
		}
		if err := <-first; err != nil {
			t.Errorf("first Close: %v", err)
		}
		if err := p.Close(background(t)); err != nil {
			t.Errorf("Close after the end: %v", err)
		}
	})
}

// TestCloseSaysWhatKeptRecordsBack: a record that Close gives up on says why it
// was not delivered, and not only that the client is closed.
func TestCloseSaysWhatKeptRecordsBack(t *testing.T) {
	for name, c := range map[string]struct {
		leader int32
		want   error
	}{
		"no leader":     {-1, kerr.LeaderNotAvailable},
		"nobody there":  {7, ErrNoBroker},
		"always closes": {2, kerr.NetworkException},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", c.leader)
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if _, ok := req.(*msg.ProduceRequest); ok {
						return nil, "before"
					}
					return nil, ""
				}
				p := newProducer(t, f, ProducerOptions{})
				future := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("close: %v", err)
				}
				if _, err := future.Get(background(t)); !errors.Is(err, c.want) || !errors.Is(err, ErrClosed) {
					t.Errorf("record: %v", err)
				}
			})
		})
	}
}

// TestNoNewProducerID: while a batch is under way, another one's answer has the
// producer ask for a new id, which it is refused. Both records are told so at once,
// though the first one's answer comes later.
func TestNoNewProducerID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2)
		f.topic("t", 1, 2)
		p := newProducer(t, f, ProducerOptions{})
		send := func(partition int32) *Future {
			return p.Send(background(t), &Record{Topic: "t", Partition: partition, Explicit: true, Value: []byte("v")})
		}
		for i := range int32(2) {
			if _, err := send(i).Get(background(t)); err != nil {
				t.Fatal(err)
			}
		}
		f.mu.Lock()
		f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			switch r := req.(type) {
			case *msg.InitProducerIdRequest:
				resp := new(msg.InitProducerIdResponse)
				resp.SetDefaults()
				resp.ErrorCode, resp.ProducerId = int16(kerr.ClusterAuthorizationFailed), -1
				return resp, ""
			case *msg.ProduceRequest:
				if id == 2 {
					time.Sleep(2 * time.Second)
				}
				return refuse(r, kerr.InvalidProducerEpoch), ""
			}
			return nil, ""
		}
		f.mu.Unlock()
		began := time.Now()
		slow := send(1)
		time.Sleep(time.Second)
		for _, future := range []*Future{send(0), slow} {
			if _, err := future.Get(background(t)); !errors.Is(err, kerr.ClusterAuthorizationFailed) {
				t.Error(err)
			}
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("told after %v", d)
		}
	})
}

// TestMissingPartitionIsNamed: a Poll that ends without records says that an
// assigned partition does not exist or has no leader, wherever it was to begin.
func TestMissingPartitionIsNamed(t *testing.T) {
	for tp, want := range map[TopicPartition]error{{"t", 5}: kerr.UnknownTopicOrPartition, {"t", -1}: kerr.UnknownTopicOrPartition, {"t", 0}: kerr.LeaderNotAvailable} {
		for _, at := range []Position{AtOffset(0), AtStart(0)} {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.topic("t", -1, 1)
				c := newConsumer(t, f, ConsumerOptions{})
				c.Assign(map[TopicPartition]Position{tp: at})
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if _, err := c.Poll(ctx); !errors.Is(err, want) {
					t.Errorf("%v at %+v: %v", tp, at, err)
				}
			})
		}
	}
}
