package client

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// told is an answer about topic t: an id, and leader and epoch of each partition.
func told(id byte, leaders ...[2]int32) *msg.MetadataResponse {
	resp := &msg.MetadataResponse{Brokers: []msg.MetadataResponseBroker{{NodeId: 1, Host: "b1"}, {NodeId: 2, Host: "b2"}}}
	name := "t"
	t := msg.MetadataResponseTopic{Name: &name, TopicId: prim.UUID{id}}
	for i, l := range leaders {
		t.Partitions = append(t.Partitions, msg.MetadataResponsePartition{PartitionIndex: int32(i), LeaderId: l[0], LeaderEpoch: l[1]})
	}
	resp.Topics = []msg.MetadataResponseTopic{t}
	return resp
}

func failedTopic(code kerr.Code) *msg.MetadataResponse {
	resp := told(0)
	resp.Topics[0].ErrorCode = int16(code)
	return resp
}

// TestMetadataInOrder: what is known after two answers, in both orders of arrival.
// Each is the answer to the request of its place.
func TestMetadataInOrder(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second *msg.MetadataResponse
		id            byte
		leaders       [][2]int32
		err           kerr.Code
	}{
		{"a leader moved", told(1, [2]int32{1, 4}), told(1, [2]int32{2, 5}), 1, [][2]int32{{2, 5}}, 0},
		{"the later one comes from a broker that is behind", told(1, [2]int32{2, 5}), told(1, [2]int32{1, 4}), 1, [][2]int32{{2, 5}}, 0},
		{"each knows one leader better", told(1, [2]int32{2, 5}, [2]int32{1, 1}), told(1, [2]int32{1, 4}, [2]int32{2, 2}), 1, [][2]int32{{2, 5}, {2, 2}}, 0},
		{"the leader is gone in the same epoch", told(1, [2]int32{1, 4}), told(1, [2]int32{-1, 4}), 1, [][2]int32{{-1, 4}}, 0},
		{"the topic was made again: its epochs begin anew", told(1, [2]int32{1, 9}), told(2, [2]int32{2, 0}), 2, [][2]int32{{2, 0}}, 0},
		{"made again with fewer partitions", told(1, [2]int32{1, 9}, [2]int32{1, 9}), told(2, [2]int32{2, 0}), 2, [][2]int32{{2, 0}}, 0},
		{"a broker that is behind names fewer partitions", told(1, [2]int32{1, 1}, [2]int32{1, 1}), told(1, [2]int32{1, 1}), 1, [][2]int32{{1, 1}, {1, 1}}, 0},
		{"without ids fewer are believed", told(0, [2]int32{1, 1}, [2]int32{1, 1}), told(0, [2]int32{1, 1}), 0, [][2]int32{{1, 1}}, 0},
		{"an old broker names no id", told(1, [2]int32{1, 4}), told(0, [2]int32{2, 5}), 1, [][2]int32{{2, 5}}, 0},
		{"an old broker named none first", told(0, [2]int32{1, 4}), told(1, [2]int32{2, 5}), 1, [][2]int32{{2, 5}}, 0},
		{"a passing error leaves the leaders", told(1, [2]int32{1, 4}), failedTopic(kerr.LeaderNotAvailable), 1, [][2]int32{{1, 4}}, 0},
		{"the topic was deleted", told(1, [2]int32{1, 4}), failedTopic(kerr.UnknownTopicOrPartition), 1, nil, kerr.UnknownTopicOrPartition},
		{"and is there", failedTopic(kerr.UnknownTopicOrPartition), told(1, [2]int32{1, 0}), 1, [][2]int32{{1, 0}}, 0},
	} {
		for _, swapped := range []bool{false, true} {
			m := newMetadata()
			answers := []struct {
				n int
				r *msg.MetadataResponse
			}{{1, c.first}, {2, c.second}}
			if swapped {
				slices.Reverse(answers)
			}
			for _, a := range answers {
				m = m.with(a.r, a.n, time.Time{})
			}
			got := m.topics["t"]
			var leaders [][2]int32
			for _, p := range got.partitions {
				leaders = append(leaders, [2]int32{p.Leader, p.LeaderEpoch})
			}
			if got.id != (prim.UUID{c.id}) || !slices.Equal(leaders, c.leaders) || got.err != c.err || got.asked != 2 || m.asked != 2 {
				t.Errorf("%s, swapped %v: id %v, leaders %v, %v, as of request %d", c.name, swapped, got.id, leaders, got.err, got.asked)
			}
		}
	}
}

// TestBrokersInOrder: brokers and controller are those of the latest request, and
// those that were told of since it was made.
func TestBrokersInOrder(t *testing.T) {
	at := func(id int32) *msg.MetadataResponse {
		return &msg.MetadataResponse{ControllerId: id, Brokers: []msg.MetadataResponseBroker{{NodeId: id, Host: fmt.Sprint("b", id)}}}
	}
	m := newMetadata().with(at(2), 2, time.Time{}).with(at(1), 1, time.Time{})
	if len(m.brokers) != 1 || m.brokers[2].Host != "b2" || m.controller != 2 {
		t.Errorf("after an answer to an earlier request: %v, controller %d", m.brokers, m.controller)
	}
	m = m.withBroker(BrokerInfo{ID: 7, Host: "b7"}, 3) // a coordinator, while request 3 is under way
	m = m.with(at(2), 3, time.Time{})
	if m.brokers[7].Host != "b7" {
		t.Error("a broker that was told of after the question was forgotten with the answer")
	}
	m = m.with(at(2), 4, time.Time{})
	if _, known := m.brokers[7]; known {
		t.Error("a broker that a later answer does not name is kept")
	}
	m = m.with(told(1, [2]int32{1, 1}), 5, time.Time{})
	m = m.withLeaders([]leaderHint{{"t", prim.UUID{1}, 0, 9, 2}}, []BrokerInfo{{ID: 9, Host: "b9"}}, 5)
	m = m.with(told(1, [2]int32{1, 1}), 6, time.Time{})
	if p := m.topics["t"].partitions[0]; p.Leader != 9 || m.brokers[9].Host != "b9" {
		t.Errorf("leader %d of a later epoch than the answer's, at %q", p.Leader, m.brokers[9].Host)
	}
}

// TestHintOfAFormerTopic: a leader that is named for a topic which was made again
// since is not taken for the new one's, whose epochs are lower.
func TestHintOfAFormerTopic(t *testing.T) {
	m := newMetadata().with(told(1, [2]int32{1, 9}), 1, time.Time{}).with(told(2, [2]int32{1, 0}), 2, time.Time{})
	if next := m.withLeaders([]leaderHint{{"t", prim.UUID{1}, 0, 2, 10}}, nil, 2); next != m {
		t.Errorf("leader %+v", next.topics["t"].partitions[0])
	}
	if next := m.withLeaders([]leaderHint{{"t", prim.UUID{2}, 0, 2, 1}}, nil, 2); next.topics["t"].partitions[0].Leader != 2 {
		t.Error("a leader of the topic itself is not taken")
	}
}

// TestMetadataAnyOrder sends the answers of a cluster through its life in a random
// order of arrival: what is known at the end of a topic is what the cluster last
// said, and nothing falls on the way.
func TestMetadataAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 3))
		id, leaders := byte(1), [][2]int32{{1, 0}}
		var answers []*msg.MetadataResponse
		for range 2 + rng.IntN(12) {
			switch rng.IntN(6) {
			case 0:
				id++
				leaders = [][2]int32{{1, 0}}
			case 1:
				leaders = append(slices.Clone(leaders), [2]int32{2, 0})
			default:
				leaders = slices.Clone(leaders)
				i := rng.IntN(len(leaders))
				leaders[i] = [2]int32{1 + rng.Int32N(2), leaders[i][1] + 1}
			}
			answers = append(answers, told(id, leaders...))
		}
		m := newMetadata()
		for _, i := range rng.Perm(len(answers)) {
			next := m.with(answers[i], i+1, time.Time{})
			if old := m.topics["t"]; old != nil {
				now := next.topics["t"]
				for p := range old.partitions {
					if old.id == now.id && (p >= len(now.partitions) || now.partitions[p].LeaderEpoch < old.partitions[p].LeaderEpoch) {
						t.Fatalf("seed %d: partition %d fell from %+v", seed, p, old.partitions[p])
					}
				}
				if now.asked < old.asked {
					t.Fatalf("seed %d: request %d after %d", seed, now.asked, old.asked)
				}
			}
			m = next
		}
		got := m.topics["t"]
		if got.id != (prim.UUID{id}) || len(got.partitions) != len(leaders) {
			t.Fatalf("seed %d: id %v with %d partitions, want %d with %d", seed, got.id, len(got.partitions), id, len(leaders))
		}
		for i, p := range got.partitions {
			if p.Leader != leaders[i][0] || p.LeaderEpoch != leaders[i][1] {
				t.Fatalf("seed %d: partition %d led by %d in epoch %d, want %v", seed, i, p.Leader, p.LeaderEpoch, leaders[i])
			}
		}
	}
}

// TestUpdatesAreToldInOrder: whoever changes the metadata while an update is being
// told, what is told only gets newer.
func TestUpdatesAreToldInOrder(t *testing.T) {
	var c *cluster
	var seen []int32
	done := make(chan struct{})
	c = newCluster(Options{}.withDefaults(), 5, false, func(m *metadata) {
		epoch := m.topics["t"].partitions[0].LeaderEpoch
		if epoch == 2 { // another answer comes meanwhile
			go func() {
				c.hint([]leaderHint{{"t", prim.UUID{1}, 0, 1, 3}}, nil)
				close(done)
			}()
			for c.now().topics["t"].partitions[0].LeaderEpoch != 3 {
				runtime.Gosched()
			}
		}
		seen = append(seen, epoch)
	})
	defer c.close()
	c.mu.Lock()
	c.meta = c.meta.with(told(1, [2]int32{1, 1}), 1, time.Time{})
	c.mu.Unlock()
	c.hint([]leaderHint{{"t", prim.UUID{1}, 0, 2, 2}}, nil)
	<-done
	c.tell() // nothing new
	if !slices.Equal(seen, []int32{2, 3}) {
		t.Errorf("told of epochs %v", seen)
	}
}

// TestManyLeadersAtOnce: an answer may name another leader for each partition of a
// large topic. What that costs grows with their number, and not with its square.
func TestManyLeadersAtOnce(t *testing.T) {
	bytes := func(n int32) uint64 {
		leaders := make([][2]int32, n)
		var hints []leaderHint
		for i := range n {
			leaders[i] = [2]int32{1, 1}
			hints = append(hints, leaderHint{"t", prim.UUID{1}, i, 2, 2})
		}
		c := &cluster{meta: newMetadata().with(told(1, leaders...), 1, time.Now())}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.hint(hints, nil)
		runtime.ReadMemStats(&after)
		for i, p := range c.meta.topics["t"].partitions {
			if p.Leader != 2 || p.LeaderEpoch != 2 {
				t.Fatalf("partition %d of %d: %+v", i, n, p)
			}
		}
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := bytes(200), bytes(2000); many > 20*few {
		t.Errorf("%d bytes for 200 partitions, %d for 2000", few, many)
	}
}
