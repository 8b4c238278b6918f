package cli

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/client"
)

// brokersOf makes brokers from 1 on, with their racks.
func brokersOf(racks ...string) (out []client.BrokerInfo) {
	for i, r := range racks {
		out = append(out, client.BrokerInfo{ID: int32(i + 1), Host: "h", Port: 1, Rack: r})
	}
	return out
}

// laid makes a layout of topic t, with the replicas of each partition.
func laid(brokers []client.BrokerInfo, replicas ...[]int32) *layout {
	t := client.TopicInfo{Name: "t"}
	for i, r := range replicas {
		t.Partitions = append(t.Partitions, client.PartitionInfo{Partition: int32(i), Leader: r[0], Replicas: r, ISR: r})
	}
	return &layout{cluster: client.Cluster{Brokers: brokers}, topics: []client.TopicInfo{t}}
}

func shownMoves(moves []move) string {
	var parts []string
	for _, m := range moves {
		parts = append(parts, fmt.Sprintf("%d:%v", m.tp.Partition, m.to))
	}
	return strings.Join(parts, " ")
}

func TestDrained(t *testing.T) {
	tp := func(i int32) client.TopicPartition { return client.TopicPartition{Topic: "t", Partition: i} }
	abab := brokersOf("a", "b", "a", "b")
	down := laid(brokersOf("a", "b"), []int32{1, 3}, []int32{2, 3})
	down.cluster.Fenced = brokersOf("a", "b", "c")[2:]
	moving := laid(brokersOf("", "", ""), []int32{2, 1}, []int32{1, 2})
	moving.moving = map[client.TopicPartition]client.Reassignment{tp(0): {Replicas: []int32{2, 3, 1}, Adding: []int32{3}, Removing: []int32{1}}}
	back := laid(brokersOf("", "", ""), []int32{1, 2, 3})
	back.moving = map[client.TopicPartition]client.Reassignment{tp(0): {Replicas: []int32{1, 2, 3}, Adding: []int32{1}, Removing: []int32{3}}}
	for _, c := range []struct {
		name string
		l    *layout
		id   int32
		want string // or the error
	}{
		{"one broker takes the other's place", laid(brokersOf("", "", ""), []int32{2, 1}), 1, "0:[2 3]"},
		{"who is left leads, and not who has no records", laid(brokersOf("", "", ""), []int32{1, 2}), 1, "0:[2 3]"},
		{"the rack that has lost its replica gets it", laid(abab, []int32{2, 1}, []int32{2, 1}), 1, "0:[2 3] 1:[2 3]"},
		{"the replica goes to another rack than the one that stays", laid(brokersOf("a", "b", "b", "c"), []int32{2, 1}), 1, "0:[2 4]"},
		{"replicas are spread over who is left", laid(brokersOf("", "", "", ""), []int32{2, 1}, []int32{3, 1}, []int32{4, 1}), 1, "0:[2 3] 1:[3 2] 2:[4 2]"},
		{"leaders are spread over who is left", laid(brokersOf("", "", "", ""), []int32{1, 2, 3}, []int32{1, 2, 3}), 1, "0:[2 4 3] 1:[3 2 4]"},
		{"a partition that it does not have stays", laid(brokersOf("", "", ""), []int32{2, 3}), 1, ""},
		{"a move off it that is under way stays", moving, 1, "1:[2 3]"},
		{"a move onto it is replaced", back, 1, "0:[2 3]"},
		{"a replica on a broker that is down stays", down, 1, "0:[3 2]"},
		{"too few are left", laid(brokersOf("", "", ""), []int32{1, 2, 3}), 3, "t-0 has 3 replicas, and only the brokers 1 and 2 are left for them"},
		{"too few are left for several", laid(brokersOf("", ""), []int32{1, 2}, []int32{2}, []int32{2, 1}), 2, "t-0 has 2 replicas, and only broker 1 is left for them; 2 partitions cannot be moved in all"},
		{"nobody is left", laid(brokersOf(""), []int32{1}), 1, "t-0 has 1 replica, and no broker is left for them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			moves, err := drained(c.l, c.id)
			got := shownMoves(moves)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestGenerated(t *testing.T) {
	for _, c := range []struct {
		name string
		l    *layout
		on   []client.BrokerInfo
		want string
	}{
		{"what is even stays", laid(brokersOf("", "", ""), []int32{1, 2}, []int32{2, 3}, []int32{3, 1}), brokersOf("", "", ""), ""},
		{"a new broker takes its share", laid(brokersOf("", "", ""), []int32{1, 2}, []int32{2, 1}, []int32{1, 2}), brokersOf("", "", ""), "0:[2 3] 1:[3 1]"},
		{"a rack that has both gives one away", laid(brokersOf("a", "a", "b"), []int32{1, 2}), brokersOf("a", "a", "b"), "0:[2 3]"},
		{"leaders are spread", laid(brokersOf("", ""), []int32{1, 2}, []int32{1, 2}, []int32{1, 2}, []int32{1, 2}), brokersOf("", ""), "0:[2 1] 1:[2 1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			moves, err := generated(c.l, []string{"t"}, c.on)
			if got := shownMoves(moves); err != nil || got != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		})
	}
	var few *tooFewError
	if _, err := generated(laid(brokersOf("", ""), []int32{1, 2}), []string{"t"}, brokersOf("")); !errors.As(err, &few) {
		t.Errorf("two replicas on one broker: %v", err)
	}
}

// TestPlansKeepTheRules makes random clusters: a plan keeps the number of replicas, puts none
// twice on a broker, uses only brokers that it may, as many racks as it can, and is even.
func TestPlansKeepTheRules(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		racks, n := 1+r.IntN(4), 2+r.IntN(7)
		var names []string
		for range n {
			names = append(names, string(rune('a'+r.IntN(racks))))
		}
		brokers := brokersOf(names...)
		factor := 1 + r.IntN(n-1)
		var replicas [][]int32
		for range 1 + r.IntN(20) {
			perm := r.Perm(n)[:factor]
			var of []int32
			for _, i := range perm {
				of = append(of, int32(i+1))
			}
			replicas = append(replicas, of)
		}
		l := laid(brokers, replicas...)
		gone := int32(1 + r.IntN(n))
		moves, err := drained(l, gone)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, m := range moves {
			if slices.Contains(m.to, gone) {
				t.Errorf("seed %d: %v is still on %d", seed, m, gone)
			}
		}
		checkPlan(t, seed, l, moves, names, factor)
		moves, err = generated(l, []string{"t"}, brokers)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		after := checkPlan(t, seed, l, moves, names, factor)
		own := make(map[int32]int)
		for _, of := range after {
			used := make(map[string]bool)
			for _, id := range of {
				own[id]++
				used[names[id-1]] = true
			}
			all := make(map[string]bool)
			for _, name := range names {
				all[name] = true
			}
			if len(used) < min(len(all), factor) {
				t.Errorf("seed %d: %v is in the racks %v of %v", seed, of, used, names)
			}
		}
		if racks == 1 { // racks of different sizes cannot be even
			low, high := len(after), 0
			for _, b := range brokers {
				low, high = min(low, own[b.ID]), max(high, own[b.ID])
			}
			if high-low > 1 {
				t.Errorf("seed %d: %v replicas", seed, own)
			}
		}
	}
}

// checkPlan returns the replicas of each partition after the moves.
func checkPlan(t *testing.T, seed uint64, l *layout, moves []move, names []string, factor int) (after [][]int32) {
	t.Helper()
	for _, p := range l.topics[0].Partitions {
		after = append(after, p.Replicas)
	}
	for _, m := range moves {
		after[m.tp.Partition] = m.to
	}
	for i, of := range after {
		sorted := slices.Clone(of)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != factor || sorted[0] < 1 || int(sorted[len(sorted)-1]) > len(names) {
			t.Errorf("seed %d: partition %d has %v, want %d", seed, i, of, factor)
		}
	}
	return after
}

func TestParseReplicas(t *testing.T) {
	got, err := parseReplicas("t", "0:1,2,3; 1:2,3,1;")
	if err != nil || len(got) != 2 || !slices.Equal(got[client.TopicPartition{Topic: "t", Partition: 1}], []int32{2, 3, 1}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", ";", "0", "x:1", "0:", "0:x", "0:1,1", "0:1;0:2", "-1:1", "0:-1", "0:1:2"} {
		if got, err := parseReplicas("t", bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
