package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
)

// ill is what a broker does that is out of order: it takes connections, and
// nothing comes of them.
var ill = map[string]string{"never answers": "silent", "closes at once": "before"}

// sicken makes a broker do so from now on, and calls heard with each request that
// it is sent, greetings excepted.
func (f *fake) sicken(id int32, drop string, heard func(wire.Key)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.script
	f.script = func(to int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
		if to == id {
			if heard != nil && h.Key != wire.ApiVersions {
				heard(h.Key)
			}
			return nil, drop
		}
		if before != nil {
			return before(to, h, req)
		}
		return nil, ""
	}
}

// TestFrozenLeaderCostsOneTimeout: a leader stops answering, and another broker
// leads. Whoever writes and reads goes on there after one request.timeout.ms,
// though metadata was asked of the frozen broker too.
func TestFrozenLeaderCostsOneTimeout(t *testing.T) {
	const timeout = 10 * time.Second
	for try := range 6 { // brokers that are as good are asked in a random order
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1, 2)
			f.topic("t", 1)
			p := newProducer(t, f, ProducerOptions{Options: Options{RequestTimeout: timeout}, DeliveryTimeout: time.Hour})
			c, err := NewConsumer(ConsumerOptions{Options: Options{BootstrapServers: f.options().BootstrapServers, Dial: f.n.Dial, RequestTimeout: timeout}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(context.Background())
			c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
			if _, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")}).Get(background(t)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Poll(background(t)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			f.sicken(1, "silent", nil)
			f.move("t", 0, 2)
			began := time.Now()
			future := p.Send(background(t), &Record{Topic: "t", Value: []byte("w")})
			if try%2 == 1 {
				time.Sleep(timeout / 2)
			}
			p.cl.hurry() // a refresh of its own, of whichever broker
			c.cl.hurry()
			if _, err := future.Get(background(t)); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d > timeout+3*time.Second {
				t.Errorf("try %d: written after %v", try, d)
			}
			if rs, err := c.Poll(background(t)); err != nil || len(rs) != 1 {
				t.Errorf("%d records, %v", len(rs), err)
			}
			if d := time.Since(began); d > timeout+c.o.FetchMaxWait+3*time.Second {
				t.Errorf("try %d: read after %v", try, d)
			}
		})
	}
}

// TestDeadCoordinatorIsForgotten: a coordinator dies behind a proxy that goes on
// taking its connections. The member finds the new one and stays a member.
func TestDeadCoordinatorIsForgotten(t *testing.T) {
	for name, drop := range ill {
		for _, lost := range []purpose{forGroup, forData} { // who finds out
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, 3, 1, 2)
					f.topic("t", 3, 1)
					var beats atomic.Int32
					f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
						if _, ok := req.(*msg.HeartbeatRequest); ok && id == 2 {
							beats.Add(1)
						}
						return nil, ""
					}
					c, err := NewConsumer(ConsumerOptions{Options: Options{BootstrapServers: f.options().BootstrapServers, Dial: f.n.Dial, RequestTimeout: 5 * time.Second}, Group: "g", NoAutoCommit: true})
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close(context.Background())
					if err := c.Subscribe("t"); err != nil {
						t.Fatal(err)
					}
					drainErrors(c, 10*time.Second)
					joins := f.count(wire.JoinGroup)
					f.moveGroup("g", 2)
					f.move("t", 1, 3)
					f.sicken(1, drop, nil)
					if lost == forData {
						c.cl.do(background(t), 1, forData, new(msg.ListOffsetsRequest), new(msg.ListOffsetsResponse))
					}
					drainErrors(c, 25*time.Second) // of a session of 45 s
					if beats.Load() < 2 {
						t.Errorf("%d heartbeats at the new coordinator", beats.Load())
					}
					if n := f.count(wire.JoinGroup) - joins; n > 0 {
						t.Errorf("joined again %d times", n)
					}
				})
			})
		}
	}
}

// TestMetadataAsksWhoAnswers: once a broker is lost, metadata and the coordinator
// are asked of the others.
func TestMetadataAsksWhoAnswers(t *testing.T) {
	for name, drop := range ill {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2, 3)
				dialled := 0
				dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
					if addr == "b1:9092" {
						dialled++
					}
					return f.n.Dial(ctx, network, addr)
				}
				c := newCluster(Options{BootstrapServers: f.options().BootstrapServers, Dial: dial, RequestTimeout: 2 * time.Second}.withDefaults(), 5, false, nil)
				defer c.close()
				if err := c.fresh(background(t)); err != nil {
					t.Fatal(err)
				}
				asked := 0
				f.sicken(1, drop, func(wire.Key) { asked++ })
				began := time.Now()
				if err := c.do(background(t), 1, forData, new(msg.ListOffsetsRequest), new(msg.ListOffsetsResponse)); !isLost(err) {
					t.Fatal(err)
				}
				cost := time.Since(began)
				synctest.Wait()
				if asked > 1 {
					t.Fatalf("%d requests for one", asked)
				}
				dialled = 0
				for range 20 {
					for _, id := range []int32{2, 3} { // no connection is open, as after connections.max.idle.ms
						c.mu.Lock()
						cn := c.at(brokerKey{id, fmt.Sprintf("b%d:9092", id)}).links[forAdmin].cn
						c.mu.Unlock()
						if cn != nil {
							cn.Abort(conn.ErrIdle)
						}
					}
					if err := c.fresh(background(t)); err != nil {
						t.Fatal(err)
					}
					if _, err := c.findCoordinator(background(t), "g", 0); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if asked > 1 || dialled > 0 {
					t.Errorf("%d requests and %d dials to a broker that does not answer", asked-1, dialled)
				}
				if d := time.Since(began) - cost; d > 10*c.o.RetryBackoffMax*3 {
					t.Errorf("40 answers took %v", d)
				}
			})
		})
	}
}

// TestAdminGoesAroundALostController: a call for the controller, which does not
// answer, costs one timeout, and the next one none: other brokers hand it on.
func TestAdminGoesAroundALostController(t *testing.T) {
	for name, drop := range ill {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if r, ok := req.(*msg.CreateTopicsRequest); ok {
						resp := new(msg.CreateTopicsResponse)
						for _, x := range r.Topics {
							resp.Topics = append(resp.Topics, msg.CreateTopicsResponseCreatableTopicResult{Name: x.Name})
						}
						return resp, ""
					}
					return nil, ""
				}
				a, err := NewAdmin(AdminOptions{Options: Options{BootstrapServers: []string{"b2:9092"}, Dial: f.n.Dial, RequestTimeout: 10 * time.Second}})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				create := func() time.Duration {
					began := time.Now()
					if made, err := a.CreateTopics(background(t), []NewTopic{{Name: "x"}}, false); err != nil || made["x"] != nil {
						t.Fatal(made, err)
					}
					return time.Since(began)
				}
				create()
				f.sicken(1, drop, nil)
				if d := create(); d > 12*time.Second {
					t.Errorf("the first call took %v", d)
				}
				for range 5 {
					if d := create(); d > time.Second {
						t.Errorf("a further call took %v", d)
					}
				}
			})
		})
	}
}

// TestSilenceIsOfTheBroker: when an answer does not come, the other connections of
// the broker end with that one, and their requests are told; unless the broker has
// answered on one of them meanwhile.
func TestSilenceIsOfTheBroker(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers bool // on the other connection, meanwhile
	}{{"silent on all", false}, {"silent on one", true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if _, ok := req.(*msg.ListOffsetsRequest); ok || !c.answers {
						if _, greeting := req.(*msg.ApiVersionsRequest); !greeting {
							return nil, "silent"
						}
					}
					return nil, ""
				}
				cl := newCluster(Options{BootstrapServers: f.options().BootstrapServers, Dial: f.n.Dial, RequestTimeout: 10 * time.Second}.withDefaults(), 5, false, nil)
				defer cl.close()
				cl.learnBroker(BrokerInfo{ID: 1, Host: "b1", Port: 9092})
				idle, err := cl.broker(background(t), 1, forGroup)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := cl.broker(background(t), 1, forAdmin); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				began := time.Now()
				late := make(chan time.Duration)
				go func() {
					time.Sleep(6 * time.Second)
					cl.do(background(t), 1, forAdmin, new(msg.MetadataRequest), new(msg.MetadataResponse))
					late <- time.Since(began)
				}()
				err = cl.do(background(t), 1, forData, new(msg.ListOffsetsRequest), new(msg.ListOffsetsResponse))
				if d := time.Since(began); !errors.Is(err, conn.ErrTimeout) || d != 10*time.Second {
					t.Errorf("after %v: %v", d, err)
				}
				if d, want := <-late, map[bool]time.Duration{true: 6 * time.Second, false: 10 * time.Second}[c.answers]; d != want {
					t.Errorf("the other request ended after %v, want %v", d, want)
				}
				if open := idle.Err() == nil; open != c.answers {
					t.Errorf("the idle connection is open: %v", open)
				}
			})
		})
	}
}

// TestOneDialToALostBroker: while a broker is lost one caller dials it, whatever
// it is for, and the others learn from that what became of it.
func TestOneDialToALostBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.sicken(1, "silent", nil)
		dials := 0
		o := Options{BootstrapServers: f.options().BootstrapServers, Dial: f.n.Dial, ConnectTimeout: 5 * time.Second}.withDefaults()
		cl := newCluster(o, 5, false, nil)
		defer cl.close()
		cl.learnBroker(BrokerInfo{ID: 1, Host: "b1", Port: 9092})
		if _, err := cl.broker(background(t), 1, forData); !errors.Is(err, ErrNoBroker) {
			t.Fatal(err)
		}
		f.mu.Lock()
		before := len(f.requests)
		f.mu.Unlock()
		began := time.Now()
		told := make(chan error)
		for i := range 9 {
			go func() {
				_, err := cl.broker(background(t), 1, purpose(i%3))
				told <- err
			}()
		}
		for range 9 {
			if err := <-told; !errors.Is(err, ErrNoBroker) {
				t.Error(err)
			}
		}
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("told after %v", d)
		}
		f.mu.Lock()
		dials = len(f.requests) - before
		f.mu.Unlock()
		if dials != 1 {
			t.Errorf("%d greetings for nine callers", dials)
		}
	})
}

// TestBootstrapServerIsABroker: the connection to a bootstrap server, and what is
// known of it, is that of the broker once its id is known.
func TestBootstrapServerIsABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		c := newCluster(f.options().withDefaults(), 5, false, nil)
		defer c.close()
		for range 5 {
			if err := c.fresh(background(t)); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.count(wire.ApiVersions); n != 1 {
			t.Errorf("%d connections for one purpose", n)
		}
		if got := c.candidates(forAdmin); len(got) != 1 || got[0] != (brokerKey{1, "b1:9092"}) {
			t.Errorf("candidates %v", got)
		}
		f.mu.Lock()
		f.brokers = []int32{2}
		f.mu.Unlock()
		f.start(2)
		f.n.Reset("client", "b1")
		synctest.Wait()
		for range 2 { // the second answer comes from broker 2
			if err := c.fresh(background(t)); err != nil {
				t.Fatal(err)
			}
			f.n.Reset("client", "b1")
			synctest.Wait()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, known := c.brokers[brokerKey{1, "b1:9092"}]; known {
			t.Error("a broker that is no more, and has no connection, is kept")
		}
	})
}
