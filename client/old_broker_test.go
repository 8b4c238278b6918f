package client

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// serves lets a broker of a fake serve APIs up to a version only; -1 not at all.
func (f *fake) serves(broker int32, upTo map[wire.Key]int16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.script
	f.script = func(id int32, h wire.RequestHeader, req msg.Request) (resp msg.Response, drop string) {
		if before != nil {
			resp, drop = before(id, h, req)
		}
		if h.Key != wire.ApiVersions || id != broker || drop != "" {
			return resp, drop
		}
		if resp == nil {
			resp = f.handle(id, h, req)
		}
		all := &resp.(*msg.ApiVersionsResponse).ApiKeys
		var left []msg.ApiVersionsResponseApiVersion
		for _, k := range *all {
			if v, ok := upTo[wire.Key(k.ApiKey)]; ok {
				k.MinVersion, k.MaxVersion = 0, v
			}
			if k.MaxVersion >= 0 {
				left = append(left, k)
			}
		}
		*all = left
		return resp, ""
	}
}

// TestOldBrokerFailsItsPartitions: one broker of two is too old to be written to and
// to be read from. Only what it leads fails, at once, with an error that names it
// and the versions; and no more once another broker leads.
func TestOldBrokerFailsItsPartitions(t *testing.T) {
	clear := func(t *testing.T, err error, api string) {
		t.Helper()
		for _, s := range []string{api, "broker 1 at b1:9092", "it has 0-2", "we have "} {
			if !errors.Is(err, conn.ErrVersion) || !strings.Contains(err.Error(), s) {
				t.Errorf("%v does not say %q", err, s)
			}
		}
	}
	old := map[wire.Key]int16{wire.Produce: 2, wire.Fetch: 2, wire.InitProducerId: -1}
	t.Run("producer", func(t *testing.T) {
		for range 8 { // whichever broker is asked for a producer id first
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", 1, 2)
				f.serves(1, old)
				p := newProducer(t, f, ProducerOptions{})
				send := func(partition int32) error {
					_, err := p.Send(background(t), &Record{Topic: "t", Partition: partition, Explicit: true, Value: []byte("v")}).Get(background(t))
					return err
				}
				for range 3 {
					var others []*Future
					for range 20 {
						others = append(others, p.Send(background(t), &Record{Topic: "t", Partition: 1, Explicit: true, Value: []byte("v")}))
					}
					began := time.Now()
					clear(t, send(0), "Produce")
					if d := time.Since(began); d > time.Second {
						t.Errorf("told after %v", d)
					}
					for _, o := range others {
						if _, err := o.Get(background(t)); err != nil {
							t.Errorf("a partition of the other broker: %v", err)
						}
					}
				}
				f.move("t", 0, 2)
				time.Sleep(5 * time.Second)
				if err := p.cl.fresh(background(t)); err != nil {
					t.Fatal(err)
				}
				if err := send(0); err != nil {
					t.Errorf("with a leader that is new enough: %v", err)
				}
			})
		}
	})
	t.Run("producer id, while the other broker cannot be reached", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1, 2)
			f.serves(1, old)
			f.listen[2].Close()
			for _, servers := range [][]string{{"b1:9092", "b2:9092"}, {"b2:9092", "b1:9092"}} {
				c := newCluster(Options{BootstrapServers: servers, Dial: f.n.Dial}.withDefaults(), 5, false, nil)
				if err := c.doAny(background(t), new(msg.InitProducerIdRequest), new(msg.InitProducerIdResponse)); !retriable(err) {
					t.Errorf("asked of %v: %v", servers, err)
				}
				c.close()
			}
			c := newCluster(f.options().withDefaults(), 5, false, nil)
			defer c.close()
			err := c.doAny(background(t), new(msg.InitProducerIdRequest), new(msg.InitProducerIdResponse))
			if !errors.Is(err, conn.ErrVersion) {
				t.Errorf("all brokers are too old: %v", err)
			}
		})
	})
	t.Run("consumer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1, 2)
			f.topic("t", 1, 2)
			f.fill("t", 0, record.None, 1, 1)
			f.fill("t", 1, record.None, 3, 5)
			f.serves(1, old)
			c := newConsumer(t, f, ConsumerOptions{})
			c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0), {"t", 1}: AtOffset(0)})
			failed := 0
			for n := 0; n < 15 || failed == 0; {
				rs, err := c.Poll(background(t))
				if n += len(rs); err != nil {
					failed++
					clear(t, err, "Fetch")
				}
			}
			f.move("t", 0, 2)
			for {
				rs, err := c.Poll(background(t))
				if len(rs) > 0 {
					return
				}
				if !errors.Is(err, conn.ErrVersion) && !errors.Is(err, kerr.NotLeaderOrFollower) {
					t.Fatal(err)
				}
			}
		})
	})
}
