package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/isr"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

func TestClosest(t *testing.T) {
	racks := map[int32]string{2: "a", 3: "b", 4: "b", 5: "b"}
	for _, c := range []struct {
		name         string
		rack, leader string
		down         int32
		followers    []isr.Reachable
		want         int32
	}{
		{"the one of the rack", "a", "b", 0, []isr.Reachable{{ID: 3, End: 9}, {ID: 2, End: 4}}, 2},
		{"the leader, if it is in the rack", "a", "a", 0, []isr.Reachable{{ID: 2, End: 9}}, atLeader},
		{"the leader, if nobody is", "c", "a", 0, []isr.Reachable{{ID: 2, End: 9}, {ID: 3, End: 9}}, atLeader},
		{"the leader of a consumer without a rack", "", "a", 0, []isr.Reachable{{ID: 2, End: 9}}, atLeader},
		{"racks are told apart by case", "A", "b", 0, []isr.Reachable{{ID: 2, End: 9}}, atLeader},
		{"the leader, without followers", "a", "b", 0, nil, atLeader},
		{"not one that is down", "a", "b", 2, []isr.Reachable{{ID: 2, End: 9}}, atLeader},
		{"the one that has most", "b", "a", 0, []isr.Reachable{{ID: 3, End: 8}, {ID: 4, End: 9, Lag: time.Second}, {ID: 5, End: 7}}, 4},
		{"then the one that lags least", "b", "a", 0, []isr.Reachable{{ID: 3, End: 9, Lag: 2}, {ID: 4, End: 9, Lag: 1}, {ID: 5, End: 9, Lag: 3}}, 4},
		{"then the highest id", "b", "a", 0, []isr.Reachable{{ID: 4, End: 9}, {ID: 5, End: 9}, {ID: 3, End: 9}}, 5},
		{"the next one, if that is down", "b", "a", 5, []isr.Reachable{{ID: 4, End: 9}, {ID: 5, End: 9}, {ID: 3, End: 9}}, 4},
	} {
		if got := closest(c.rack, c.leader, c.followers, func(id int32) (string, bool) { return racks[id], id != c.down }); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// rackRig is a broker 1 in rack a that leads t-0, which broker 2 in rack b has fetched up to
// the offset end and from the offset start on.
func rackRig(t *testing.T, start, end int64) *fetchRig {
	f := newFetchRig(t)
	f.Broker.ReplicaSelector, f.Broker.Rack = config.RackAwareSelector, "a"
	f.write(f.inRack(2, "b", false, "PLAINTEXT"))
	f.create("t", 1, 1, 2)
	f.append(f.Replicas.Get("t", 0), "u", "v", "w")
	f.fetchAs(2, start, end)
	return f
}

func (f *fetchRig) inRack(id int32, rack string, fenced bool, listener string) meta.Record {
	return &msg.RegisterBrokerRecord{BrokerId: id, BrokerEpoch: meta.EpochOfEntry, Rack: &rack, Fenced: fenced,
		EndPoints: []msg.RegisterBrokerRecordBrokerEndpoint{{Name: listener, Host: "h", Port: 9092}}}
}

// fetchAs has a follower fetch t-0 at end.
func (f *fetchRig) fetchAs(id int32, start, end int64) {
	f.Helper()
	r := f.reader(12)
	p := askedAt(0, end)
	p.LogStartOffset = start
	req := r.request(0, msg.FetchRequestFetchTopic{Topic: "t", Partitions: []msg.FetchRequestFetchPartition{p}})
	req.ReplicaId = id
	if code, got := r.fetch(req); code != 0 || len(got) != 1 || got[0].code != 0 {
		f.Fatal(shown(code, got))
	}
}

// A leader sends consumers of another rack to a follower there, without records and at once.
func TestPreferredReadReplica(t *testing.T) {
	const here, there = `NONE | t-0 0..3 ["u" "v" "w"]`, `NONE | t-0 0..3 [] at 2`
	for _, c := range []struct {
		name       string
		version    int16
		rack       string
		start, end int64 // of the follower
		offset     int64
		epoch      int32 // that the consumer knows
		change     func(f *fetchRig)
		want       string
	}{
		{"a follower of the rack", 12, "b", 0, 3, 0, -1, nil, there},
		{"the first version with racks", firstWithRacks, "b", 0, 3, 0, -1, nil, there},
		{"a version without", firstWithRacks - 1, "b", 0, 3, 0, -1, nil, here},
		{"at the end too", 12, "b", 0, 3, 3, -1, nil, there},
		{"the rack of the leader", 12, "a", 0, 3, 0, -1, nil, here},
		{"no rack", 12, "", 0, 3, 0, -1, nil, here},
		{"nobody in the rack", 12, "c", 0, 3, 0, -1, nil, here},
		{"a follower that begins behind", 12, "b", 1, 3, 0, -1, nil, here},
		{"a follower that ends before", 12, "b", 0, 2, 3, -1, nil, `NONE | t-0 0..2 []`},
		{"no selector", 12, "b", 0, 3, 0, -1, func(f *fetchRig) { f.Broker.ReplicaSelector = config.LeaderSelector }, here},
		{"a fenced follower", 12, "b", 0, 3, 0, -1, func(f *fetchRig) { f.write(f.inRack(2, "b", true, "PLAINTEXT")) }, here},
		{"a follower without that listener", 12, "b", 0, 3, 0, -1, func(f *fetchRig) { f.write(f.inRack(2, "b", false, "OTHER")) }, here},
		{"an old leader epoch", 12, "b", 0, 3, 0, 0, nil, `NONE | t-0 FENCED_LEADER_EPOCH -1..-1 []`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := rackRig(t, c.start, c.end)
				if c.change != nil {
					c.change(f)
				}
				r := f.reader(c.version)
				r.conn.Listener = "PLAINTEXT"
				p := askedAt(0, c.offset)
				p.CurrentLeaderEpoch = c.epoch
				wait := time.Hour
				if c.offset > c.end { // there is nothing to read
					wait = 0
				}
				req := r.request(wait, msg.FetchRequestFetchTopic{Topic: "t", Partitions: []msg.FetchRequestFetchPartition{p}})
				if c.version >= firstWithRacks {
					req.RackId = c.rack
				}
				began := time.Now()
				if got := shown(r.fetch(req)); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("it came after %v", took)
				}
			})
		})
	}
}

// In a session the preferred replica is said each time that the client asks.
func TestPreferredReadReplicaInASession(t *testing.T) {
	f := rackRig(t, 0, 3)
	r := f.reader(12)
	r.conn.Listener = "PLAINTEXT"
	for i, topics := range [][]msg.FetchRequestFetchTopic{{asked("t", 0)}, nil} {
		req := r.request(0, topics...)
		req.RackId = "b"
		if got, want := shown(r.fetch(req)), `NONE | t-0 0..3 [] at 2`; got != want {
			t.Errorf("request %d: got %s, want %s", i, got, want)
		}
	}
}

// A follower answers consumers up to the high watermark that it knows, in a session and
// without one, and wakes those that wait when that moves, or its log is cut.
func TestConsumerAtFollower(t *testing.T) {
	for _, session := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFetchRig(t)
			id := f.create("t", 1)
			p := f.Replicas.Get("t", 0)
			batch := valuesBatch(t, record.NoProducer, "u")
			f.write(f.partition(id, 0, 2, []int32{2, 1}))
			follow := func(high int64, b []byte) {
				if _, err := p.AppendAsFollower(f.epochs, b, high, 0); err != nil {
					t.Fatal(err)
				}
			}
			follow(0, batch)
			r := f.reader(12)
			if !session {
				r.epoch = finalEpoch
			}
			w := r.start(-1, asked("t", 0))
			w.got(t, "behind the high watermark", "")
			follow(1, nil)
			w.got(t, "the high watermark moves", `NONE | t-0 0..1 ["u"]`)
			if !session {
				r.epoch = finalEpoch
			}
			w = r.start(-1, asked("t", 1))
			w.got(t, "at the high watermark", "")
			if err := p.TruncateTo(0); err != nil {
				t.Fatal(err)
			}
			w.got(t, "the log is cut", `NONE | t-0 OFFSET_OUT_OF_RANGE -1..-1 []`)
			old := f.reader(firstWithRacks - 1)
			if got, want := shown(old.fetch(old.request(0, asked("t", 0)))), `NONE | t-0 NOT_LEADER_OR_FOLLOWER -1..-1 []`; got != want {
				t.Errorf("a version without racks: got %s, want %s", got, want)
			}
		})
	}
}
