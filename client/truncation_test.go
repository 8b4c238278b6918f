package client

import (
	"errors"
	"fmt"
	"strings"
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

// TestTruncation: a consumer has read six records, three of an epoch each. The next
// leader has only some of them, and others after those. With auto.offset.reset the
// consumer reads on where the logs part; without it Poll says where that is, until
// the application seeks. Whether the new leader is another broker, is found out by
// comparing the position, or by the fetch itself, makes no difference.
func TestTruncation(t *testing.T) {
	for _, c := range []struct {
		name      string
		reset     Reset
		to        int64 // what the new leader has of it
		forgetful bool  // it knows no epochs
		old       bool  // brokers do not serve OffsetForLeaderEpoch: only the fetch can tell
		moved     bool  // to another broker
		first     int64 // read next
		endEpoch  int32
		fetch     int16 // the newest Fetch of the brokers: below 12 only the comparison can tell
	}{
		{"nothing is lost", ResetNone, 6, false, false, true, 6, 0, 18},
		{"the last epoch is lost", ResetLatest, 3, false, false, true, 3, 0, 18},
		{"a part of it is lost", ResetLatest, 4, false, false, true, 4, 0, 18},
		{"in a new epoch of the same leader", ResetEarliest, 4, false, false, false, 4, 0, 18},
		{"the fetch tells", ResetEarliest, 4, false, true, true, 4, 0, 18},
		{"the leader cannot say", ResetEarliest, 3, true, false, true, 0, 0, 18},
		{"the comparison tells", ResetEarliest, 4, false, false, true, 4, 0, 11},
		{"the comparison tells that the leader cannot say", ResetEarliest, 3, true, false, true, 0, 0, 11},
		{"without reset, the comparison tells", ResetNone, 4, false, false, true, 4, 2, 11},
		{"without reset", ResetNone, 3, false, false, true, 3, 1, 18},
		{"without reset, a part of an epoch", ResetNone, 4, false, false, true, 4, 2, 18},
		{"without reset, the fetch tells", ResetNone, 4, false, true, true, 4, 2, 18},
		{"without reset, the leader cannot say", ResetNone, 3, true, false, true, -1, -1, 18},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 3) // epoch 1
				f.move("t", 0, 1)
				f.fill("t", 0, record.None, 3, 1) // epoch 2
				serves := map[wire.Key]int16{wire.Fetch: c.fetch}
				if c.old {
					serves[wire.OffsetForLeaderEpoch] = -1
				}
				f.serves(1, serves)
				f.serves(2, serves)
				consumer := newConsumer(t, f, ConsumerOptions{Reset: c.reset})
				consumer.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
				for n := 0; n < 6; {
					rs, err := consumer.Poll(background(t))
					if err != nil {
						t.Fatal(err)
					}
					n += len(rs)
				}
				f.mu.Lock()
				f.topics["t"][0].forgetful = c.forgetful
				f.mu.Unlock()
				f.truncate("t", 0, c.to)
				next := int32(1)
				if c.moved {
					next = 2
				}
				f.move("t", 0, next)
				f.fill("t", 0, record.None, 1, 7) // epoch 3
				rs, err := consumer.Poll(background(t))
				for err == nil && len(rs) == 0 {
					rs, err = consumer.Poll(background(t))
				}
				if c.reset == ResetNone && c.to < 6 {
					var e *TruncationError
					if !errors.As(err, &e) || !errors.Is(err, ErrNoReset) || *e != (TruncationError{TopicPartition{"t", 0}, 6, 2, c.first, c.endEpoch}) {
						t.Fatalf("%#v: %v", e, err)
					}
					if s := err.Error(); !strings.Contains(s, "t-0") || !strings.Contains(s, "offset 6") {
						t.Errorf("%v", err)
					}
					if _, err := consumer.Poll(background(t)); !errors.As(err, &e) {
						t.Errorf("the next Poll: %v", err)
					}
					if err := consumer.Seek(TopicPartition{"t", 0}, AtOffset(c.to)); err != nil {
						t.Fatal(err)
					}
					for rs, err = consumer.Poll(background(t)); len(rs) == 0; rs, err = consumer.Poll(background(t)) {
						if !errors.As(err, &e) { // one may be on its way
							t.Fatal(err)
						}
					}
					if rs[0].Offset != c.to {
						t.Errorf("after Seek: offset %d", rs[0].Offset)
					}
					return
				}
				if err != nil || rs[0].Offset != c.first {
					t.Errorf("%d records, the first %+v, %v", len(rs), rs[:min(1, len(rs))], err)
				}
			})
		})
	}
}

// TestNothingIsFetchedBeforeThePositionIsGood: with a new leader a position is
// compared first, once, and with the epoch of what was read.
func TestNothingIsFetchedBeforeThePositionIsGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 3)
		var mu sync.Mutex // guards what follows
		var order []string
		refusals := 3
		f.script = func(id int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			mu.Lock()
			defer mu.Unlock()
			switch r := req.(type) {
			case *msg.FetchRequest:
				if id == 2 && r.SessionEpoch >= 0 {
					order = append(order, "fetch")
				}
			case *msg.OffsetForLeaderEpochRequest:
				p := r.Topics[0].Partitions[0]
				order = append(order, fmt.Sprintf("%d: epoch %d, read in %d", id, p.CurrentLeaderEpoch, p.LeaderEpoch))
				if refusals--; refusals >= 0 { // the broker has not heard that it leads
					resp := f.ends(id, r).(*msg.OffsetForLeaderEpochResponse)
					resp.Topics[0].Partitions[0].ErrorCode = int16([]kerr.Code{kerr.UnknownLeaderEpoch, kerr.FencedLeaderEpoch, kerr.NotLeaderOrFollower}[refusals])
					return resp, ""
				}
			}
			return nil, ""
		}
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		if rs, err := c.Poll(background(t)); err != nil || len(rs) != 3 {
			t.Fatal(rs, err)
		}
		f.move("t", 0, 2)
		drainErrors(c, 5*time.Second)
		mu.Lock()
		defer mu.Unlock()
		compared := 0
		for compared < len(order) && order[compared] == "2: epoch 2, read in 1" {
			compared++
		}
		if compared != 4 || len(order) < 8 || order[compared] != "fetch" || order[len(order)-1] != "fetch" {
			t.Errorf("broker 2 was asked: %v", order)
		}
	})
}

// TestLeaderCheck: when a position is compared.
func TestLeaderCheck(t *testing.T) {
	type step struct {
		id                  byte
		leader, epoch, last int32
		good                bool // after this step the position is compared
		wantLast            int32
		want                bool
	}
	for name, steps := range map[string][]step{
		"the first leader is no news":           {{1, 1, 5, 3, false, 3, false}, {1, 1, 5, 3, false, 3, false}},
		"another leader":                        {{1, 1, 5, 3, false, 3, false}, {1, 2, 6, 3, false, 3, true}, {1, 2, 6, 3, true, 3, true}, {1, 2, 6, 3, false, 3, false}},
		"another epoch of the same":             {{1, 1, 5, 3, false, 3, false}, {1, 1, 6, 3, false, 3, true}},
		"another while one is compared":         {{1, 1, 5, 3, false, 3, false}, {1, 2, 6, 3, false, 3, true}, {1, 1, 7, 3, false, 3, true}},
		"nothing was read":                      {{1, 1, 5, -1, false, -1, false}, {1, 2, 6, -1, false, -1, false}},
		"brokers that tell no epochs":           {{1, 1, -1, 3, false, 3, false}, {1, 2, -1, 3, false, 3, false}},
		"another topic of the name":             {{1, 1, 5, 3, false, 3, false}, {2, 2, 0, 3, false, -1, false}},
		"another topic while one is compared":   {{1, 1, 5, 3, false, 3, false}, {1, 2, 6, 3, false, 3, true}, {2, 2, 0, 3, false, -1, false}},
		"ids that are learned, and not changed": {{0, 1, 5, 3, false, 3, false}, {1, 1, 5, 3, false, 3, false}},
	} {
		var k leaderCheck
		for i, s := range steps {
			if last, compare := k.sees(prim.UUID{s.id}, s.leader, s.epoch, s.last); last != s.wantLast || compare != s.want {
				t.Errorf("%s: step %d: last epoch %d, compare %v", name, i, last, compare)
			}
			if s.good {
				k.good()
			}
		}
	}
}
