package client

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomGroup makes members that subscribe to some of the topics and claim what
// an earlier assignment of another group may have given them.
func randomGroup(rng *rand.Rand, members, topics, partitions int) ([]*groupMember, map[string]int32) {
	counts := make(map[string]int32)
	var names []string
	for i := range topics {
		names = append(names, fmt.Sprintf("t%03d", i))
		counts[names[i]] = int32(rng.IntN(partitions + 1))
	}
	names = append(names, "gone")
	var all []*groupMember
	for i := range members {
		m := &groupMember{id: fmt.Sprintf("m%03d", i), generation: int32(rng.IntN(3))}
		for _, name := range names {
			if rng.IntN(3) > 0 {
				m.topics = append(m.topics, name)
			}
			for p := range counts[name] + 1 {
				if rng.IntN(members) == 0 {
					m.owned = append(m.owned, TopicPartition{name, p})
				}
			}
		}
		all = append(all, m)
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all, counts
}

// TestStickyIsFair: whoever subscribes, every partition that somebody wants has
// one owner, which wants it; no partition could move to a member with two fewer;
// and the assignment stays as it is when it is made again.
func TestStickyIsFair(t *testing.T) {
	for _, s := range seeds(300) {
		rng := rand.New(rand.NewPCG(s, 11))
		members, counts := randomGroup(rng, 1+rng.IntN(8), 1+rng.IntN(6), 5)
		check := func() map[string][]TopicPartition {
			got := assignSticky(members, counts)
			owners := make(map[TopicPartition]*groupMember)
			for _, m := range members {
				for _, tp := range got[m.id] {
					if owners[tp] != nil || tp.Partition >= counts[tp.Topic] || !slices.Contains(m.topics, tp.Topic) {
						t.Fatalf("seed %d: %s is given %v, which is another's, is not wanted or does not exist", s, m.id, tp)
					}
					owners[tp] = m
				}
			}
			for topic, n := range counts {
				for p := range n {
					tp := TopicPartition{topic, p}
					for _, m := range members {
						if !slices.Contains(m.topics, topic) {
							continue
						}
						if o := owners[tp]; o == nil || len(got[o.id])-len(got[m.id]) >= 2 {
							t.Fatalf("seed %d: %v is not given to %s, which has %d partitions", s, tp, m.id, len(got[m.id]))
						}
					}
				}
			}
			return got
		}
		first := check()
		for _, m := range members {
			m.owned, m.generation = first[m.id], 9
		}
		second := check()
		for _, m := range members {
			if a, b := byTopic(first[m.id]), byTopic(second[m.id]); fmt.Sprint(a) != fmt.Sprint(b) {
				t.Fatalf("seed %d: %s had %v and is given %v", s, m.id, a, b)
			}
		}
	}
}

// BenchmarkAssignors takes 200 members that subscribe to 1,000 topics of 10
// partitions: a first assignment, one that a member has left, one with a new
// member, and one of members that subscribe to two topics of three each.
func BenchmarkAssignors(b *testing.B) {
	counts := make(map[string]int32)
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprintf("topic-%04d", i))
		counts[topics[i]] = 10
	}
	group := func() (all []*groupMember) {
		for i := range 200 {
			all = append(all, &groupMember{id: fmt.Sprintf("member-%03d", i), topics: topics, generation: 1})
		}
		return all
	}
	owning := func() []*groupMember {
		members := group()
		got := assignSticky(members, counts)
		for _, m := range members {
			m.owned = got[m.id]
		}
		return members
	}
	assign := map[string]func([]*groupMember, map[string]int32) map[string][]TopicPartition{"range": assignRange, "sticky": assignSticky}
	for _, c := range []struct {
		name, assignor string
		members        func() []*groupMember
	}{
		{"range", "range", group},
		{"sticky, first", "sticky", group},
		{"sticky, one left", "sticky", func() []*groupMember { return owning()[1:] }},
		{"sticky, one new", "sticky", func() []*groupMember {
			return append(owning(), &groupMember{id: "new", topics: topics})
		}},
		{"sticky, mixed", "sticky", func() []*groupMember {
			members := owning()
			for i, m := range members {
				m.topics = nil
				for k, topic := range topics {
					if (k+i)%3 > 0 {
						m.topics = append(m.topics, topic)
					}
				}
			}
			return members
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			members := c.members()
			for b.Loop() {
				assign[c.assignor](members, counts)
			}
		})
	}
}
