package broker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// asked is a partition that a fetch names, by a topic's name or id.
type asked struct {
	topic  string
	id     prim.UUID
	index  int32
	offset int64
	epoch  int32 // that the client knows
}

// fetchOf returns a fetch that waits a second for a byte. In a session it names
// partitions only where they are new or changed.
func fetchOf(session, epoch int32, parts ...asked) *msg.FetchRequest {
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MinBytes, req.MaxBytes, req.MaxWaitMs, req.SessionId, req.SessionEpoch = 1, 1<<20, 1000, session, epoch
	for _, a := range parts {
		p := msg.FetchRequestFetchPartition{}
		p.SetDefaults()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = a.index, a.offset, 1<<20, a.epoch
		req.Topics = append(req.Topics, msg.FetchRequestFetchTopic{Topic: a.topic, TopicId: a.id, Partitions: []msg.FetchRequestFetchPartition{p}})
	}
	return req
}

// codes returns the error of each partition of an answer that has one.
func codes(resp *msg.FetchResponse) []kerr.Code {
	var out []kerr.Code
	for i := range resp.Responses {
		for j := range resp.Responses[i].Partitions {
			if code := resp.Responses[i].Partitions[j].ErrorCode; code != 0 {
				out = append(out, kerr.Code(code))
			}
		}
	}
	return out
}

// A partition that cannot be read must not have its client ask as fast as it
// can: whatever the error, a client that sends the next fetch as soon as it has
// the answer to the last one, and changes nothing, is answered about once a wait.
func TestALastingErrorIsNoHotLoop(t *testing.T) {
	id := func(r *rig, topic string) prim.UUID {
		if t := r.controller.Image().Topic(topic); t != nil {
			return t.ID
		}
		return prim.UUID{1, 2, 3}
	}
	for _, c := range []struct {
		name    string
		version int16
		bad     func(r *rig) asked
		broken  func(r *rig, p *peer)
		session bool // without one, the error is told of at once, each time
		want    kerr.Code
	}{
		{"unknown topic", 12, func(*rig) asked { return asked{topic: "none", epoch: -1} }, nil, false, kerr.UnknownTopicOrPartition},
		{"unknown partition", 12, func(*rig) asked { return asked{topic: "orders", index: 7, epoch: -1} }, nil, false, kerr.UnknownTopicOrPartition},
		{"unknown topic id", 17, func(r *rig) asked { return asked{id: id(r, "none"), epoch: -1} }, nil, false, kerr.UnknownTopicId},
		{"topic deleted", 12, func(*rig) asked { return asked{topic: "gone", epoch: -1} }, func(_ *rig, p *peer) { p.delete("gone") }, false, kerr.UnknownTopicOrPartition},
		{"topic deleted, by id", 17, func(r *rig) asked { return asked{id: id(r, "gone"), epoch: -1} }, func(_ *rig, p *peer) { p.delete("gone") }, true, kerr.UnknownTopicOrPartition},
		{"topic made again, by id", 17, func(r *rig) asked { return asked{id: id(r, "gone"), epoch: -1} }, func(_ *rig, p *peer) {
			p.delete("gone")
			p.create("gone", 1)
		}, true, kerr.InconsistentTopicId},
		{"offset out of range", 12, func(*rig) asked { return asked{topic: "gone", offset: 99, epoch: -1} }, nil, true, kerr.OffsetOutOfRange},
		{"unknown leader epoch", 12, func(*rig) asked { return asked{topic: "gone", epoch: 99} }, nil, true, kerr.UnknownLeaderEpoch},
	} {
		for _, session := range []bool{false, true} {
			if c.session && !session {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				bubble(t, nil, func(t *testing.T, r *rig) {
					p := r.dial(t)
					p.create("orders", 1)
					p.create("gone", 1)
					both := []asked{{topic: "orders", epoch: -1}, c.bad(r)}
					if c.version > 12 {
						both[0] = asked{id: id(r, "orders"), epoch: -1}
					}
					var sid, epoch int32
					fetch := func() (*msg.FetchResponse, time.Duration) {
						parts := both
						if session && epoch > 0 {
							parts = nil
						}
						e := epoch
						if !session {
							e = -1
						}
						began := time.Now()
						resp := new(msg.FetchResponse)
						p.ask(fetchOf(sid, e, parts...), c.version, resp)
						sid = resp.SessionId
						epoch++
						return resp, time.Since(began)
					}
					fetch() // that opens the session
					if c.broken != nil {
						c.broken(r, r.dial(t))
					}
					for i := range 5 {
						resp, took := fetch()
						if got := codes(resp); !slices.Equal(got, []kerr.Code{c.want}) {
							t.Errorf("fetch %d: %v, want %v", i, got, c.want)
						}
						if i > 0 && took != time.Second {
							t.Errorf("fetch %d was answered after %v", i, took)
						}
					}
					// The others are read as ever.
					go func() {
						time.Sleep(300 * time.Millisecond)
						r.dial(t).produce("orders", 0, "news")
					}()
					if resp, took := fetch(); took != 300*time.Millisecond || len(codes(resp)) != 1 {
						t.Errorf("records beside it came after %v: %+v", took, resp)
					}
					synctest.Wait()
				})
			})
		}
	}
}

// Where nothing that is asked for can be waited for, there is no wait.
func TestNothingToWaitFor(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		began := time.Now()
		var resp msg.FetchResponse
		p.ask(fetchOf(0, -1, asked{topic: "none", epoch: -1}, asked{topic: "nor this", epoch: -1}), 12, &resp)
		if took := time.Since(began); took != 0 || len(codes(&resp)) != 2 {
			t.Errorf("answered with %v after %v", codes(&resp), took)
		}
		for i := range resp.Responses {
			if resp.Responses[i].Partitions[0].AbortedTransactions == nil {
				t.Error("aborted transactions are null, as they are where a log was read")
			}
		}
	})
}

// A client that has fetched in an epoch of which nothing is known is told so, and
// not that there is nothing to read.
func TestUnknownLastFetchedEpoch(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 1)
		p.produce("orders", 0, "a")
		for _, c := range []struct {
			last int32
			want kerr.Code
		}{{0, 0}, {5, kerr.OffsetOutOfRange}} {
			req := fetchOf(0, -1, asked{topic: "orders", offset: 1, epoch: -1})
			req.Topics[0].Partitions[0].LastFetchedEpoch, req.MaxWaitMs = c.last, 0
			var resp msg.FetchResponse
			p.ask(req, 12, &resp)
			if got := kerr.Code(resp.Responses[0].Partitions[0].ErrorCode); got != c.want {
				t.Errorf("last fetched epoch %d: %v, want %v", c.last, got, c.want)
			}
		}
	})
}
