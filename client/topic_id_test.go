package client

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// TestTopicsGoById: records are written and read by topic id where broker and topic
// have one, and by name else.
func TestTopicsGoById(t *testing.T) {
	for _, c := range []struct {
		name  string
		ids   bool // the metadata has them
		upTo  map[wire.Key]int16
		want  map[wire.Key]bool // by id
		fetch int16
	}{
		{"ids", true, nil, map[wire.Key]bool{wire.Produce: true, wire.Fetch: true}, 18},
		{"old brokers", true, map[wire.Key]int16{wire.Produce: 12, wire.Fetch: 12}, map[wire.Key]bool{}, 12},
		{"one API is old", true, map[wire.Key]int16{wire.Produce: 12}, map[wire.Key]bool{wire.Fetch: true}, 18},
		{"metadata without ids", false, nil, map[wire.Key]bool{}, 12},
		{"no sessions yet", true, map[wire.Key]int16{wire.Fetch: 5}, map[wire.Key]bool{wire.Produce: true}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.noIDs = !c.ids
				f.topic("t", 1)
				f.topic("u", 1)
				check := func(key wire.Key, name string, id prim.UUID) {
					if byID := id != (prim.UUID{}); byID != c.want[key] || byID == (name != "") {
						t.Errorf("%s of %q, id %v", apiName(key), name, id)
					}
				}
				f.script = func(_ int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
					switch r := req.(type) {
					case *msg.ProduceRequest:
						for _, x := range r.TopicData {
							check(h.Key, x.Name, x.TopicId)
						}
					case *msg.FetchRequest:
						if h.Version != c.fetch {
							t.Errorf("Fetch version %d, want %d", h.Version, c.fetch)
						}
						for _, x := range r.Topics {
							check(h.Key, x.Topic, x.TopicId)
						}
						for _, x := range r.ForgottenTopicsData {
							check(h.Key, x.Topic, x.TopicId)
						}
					}
					return nil, ""
				}
				f.serves(1, c.upTo)
				p := newProducer(t, f, ProducerOptions{})
				for _, name := range []string{"t", "u"} {
					if _, err := p.Send(background(t), &Record{Topic: name, Value: []byte("v")}).Get(background(t)); err != nil {
						t.Fatal(err)
					}
				}
				consumer := newConsumer(t, f, ConsumerOptions{})
				consumer.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0), {"u", 0}: AtOffset(0)})
				for n := 0; n < 2; {
					rs, err := consumer.Poll(background(t))
					if err != nil {
						t.Fatal(err)
					}
					n += len(rs)
				}
			})
		})
	}
}

// TestUnknownTopicIdPasses: a broker that does not know a topic's id yet, or has a
// log of another, is asked again once there is newer metadata.
func TestUnknownTopicIdPasses(t *testing.T) {
	for _, code := range []kerr.Code{kerr.UnknownTopicId, kerr.InconsistentTopicId} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			f.topic("t", 1)
			began := time.Now()
			var mu sync.Mutex // guards what follows
			refused := map[wire.Key]int{}
			f.script = func(id int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
				if time.Since(began) > 2*time.Second {
					return nil, ""
				}
				mu.Lock()
				defer mu.Unlock()
				switch r := req.(type) {
				case *msg.ProduceRequest:
					refused[h.Key]++
					return refuse(r, code), ""
				case *msg.FetchRequest:
					refused[h.Key]++
					resp := f.fetch(id, r).(*msg.FetchResponse)
					for i := range resp.Responses {
						for j := range resp.Responses[i].Partitions {
							resp.Responses[i].Partitions[j].ErrorCode = int16(code)
						}
					}
					return resp, ""
				}
				return nil, ""
			}
			p := newProducer(t, f, ProducerOptions{})
			consumer := newConsumer(t, f, ConsumerOptions{})
			consumer.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
			future := p.Send(background(t), &Record{Topic: "t", Value: []byte("v")})
			if rs, err := consumer.Poll(background(t)); err != nil || len(rs) != 1 {
				t.Errorf("%v: %d records, %v", code, len(rs), err)
			}
			if _, err := future.Get(background(t)); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if d := time.Since(began); d > 4*time.Second || refused[wire.Produce] > 30 || refused[wire.Fetch] > 30 {
				t.Errorf("%v: after %v, with %v refused", code, d, refused)
			}
			if n := f.count(wire.Metadata); n < 4 {
				t.Errorf("%v: metadata was asked for %d times", code, n)
			}
		})
	}
}

// TestRecordsOfADeletedTopic: the answer to a produce is lost, and the topic is
// deleted and made again before the next try. What was for the former topic fails;
// the one that has the name now does not get it, though it gets what is sent to it.
func TestRecordsOfADeletedTopic(t *testing.T) {
	for name, answer := range map[string]string{"not written": "before", "written": "after", "refused": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.topic("t", 1)
				var once sync.Once
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (resp msg.Response, drop string) {
					if r, ok := req.(*msg.ProduceRequest); ok {
						once.Do(func() {
							if drop = answer; drop == "" {
								resp = refuse(r, kerr.RequestTimedOut)
							}
							time.AfterFunc(time.Millisecond, func() {
								f.mu.Lock()
								delete(f.topics, "t")
								f.mu.Unlock()
								f.topic("t", 1)
							})
						})
					}
					return resp, drop
				}
				p := newProducer(t, f, ProducerOptions{})
				began := time.Now()
				_, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("old")}).Get(background(t))
				if d := time.Since(began); !errors.Is(err, kerr.UnknownTopicId) || d > 5*time.Second {
					t.Errorf("the record of the former topic, after %v: %v", d, err)
				}
				if _, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("new")}).Get(background(t)); err != nil {
					t.Errorf("a record of the new one: %v", err)
				}
				if got := f.values("t", 0); len(got) != 1 || got[0] != "new" {
					t.Errorf("the topic has %v", got)
				}
			})
		})
	}
}

// TestReadOnAfterATopicIsMadeAgain: a consumer of a topic that is deleted and made
// again, in whose session the former one is, reads the new one.
func TestReadOnAfterATopicIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 3)
		c := newConsumer(t, f, ConsumerOptions{Reset: ResetEarliest})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		if rs, err := c.Poll(background(t)); err != nil || len(rs) != 3 {
			t.Fatal(rs, err)
		}
		drainErrors(c, time.Second)
		f.mu.Lock()
		delete(f.topics, "t")
		f.mu.Unlock()
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 2)
		rs, err := c.Poll(background(t))
		for err == nil && len(rs) == 0 {
			rs, err = c.Poll(background(t))
		}
		if err != nil || len(rs) != 2 || rs[0].Offset != 0 {
			t.Errorf("%d records, %v", len(rs), err)
		}
	})
}
