package client

import (
	"math"
	"slices"
)

// assignSticky lets members keep what they had, gives the rest to those with the
// least, and then evens out: no member could take a partition from one that has
// two or more of them more.
func assignSticky(members []*groupMember, partitions map[string]int32) map[string][]TopicPartition {
	slices.SortFunc(members, order)
	s := &stickyAssignment{takers: subscribers(members, partitions), got: make([][]TopicPartition, len(members))}
	owner := s.kept(members, partitions)
	var free []TopicPartition
	for _, topic := range sortedTopics(partitions) {
		for i := range partitions[topic] {
			tp := TopicPartition{topic, i}
			if m, ok := owner[tp]; ok {
				s.got[m] = append(s.got[m], tp)
			} else {
				free = append(free, tp)
			}
		}
	}
	for _, tp := range free {
		if m := s.least(tp.Topic); m >= 0 {
			s.got[m] = append(s.got[m], tp)
		}
	}
	for s.evenOut() {
	}
	out := make(map[string][]TopicPartition, len(members))
	for i, m := range members {
		if len(s.got[i]) > 0 {
			out[m.id] = s.got[i]
		}
	}
	return out
}

// stickyAssignment is an assignment while it is made. Members are named by their
// place in their order.
type stickyAssignment struct {
	takers map[string][]int // who subscribes to a topic
	got    [][]TopicPartition
}

// kept returns who may keep a partition: its subscriber that had it in the newest
// generation.
func (s *stickyAssignment) kept(members []*groupMember, partitions map[string]int32) map[TopicPartition]int {
	owner := make(map[TopicPartition]int)
	for i, m := range members {
		for _, tp := range m.owned {
			if tp.Partition < 0 || tp.Partition >= partitions[tp.Topic] {
				continue
			}
			if _, subscribed := slices.BinarySearch(s.takers[tp.Topic], i); !subscribed {
				continue
			}
			if have, ok := owner[tp]; !ok || members[have].generation < m.generation {
				owner[tp] = i
			}
		}
	}
	return owner
}

// least returns the subscriber of a topic with the fewest partitions, the first
// of them, or -1 if nobody subscribes.
func (s *stickyAssignment) least(topic string) int {
	best := -1
	for _, m := range s.takers[topic] {
		if best < 0 || len(s.got[m]) < len(s.got[best]) {
			best = m
		}
	}
	return best
}

// evenOut moves partitions from members to others that have two or more fewer,
// and reports whether it moved one. What a member got last goes first.
func (s *stickyAssignment) evenOut() (moved bool) {
	fewest := math.MaxInt
	for _, got := range s.got {
		fewest = min(fewest, len(got))
	}
	for m := range s.got {
		for i := len(s.got[m]) - 1; i >= 0 && len(s.got[m])-fewest >= 2; i-- {
			tp := s.got[m][i]
			to := s.least(tp.Topic)
			if len(s.got[m])-len(s.got[to]) < 2 {
				continue
			}
			s.got[m] = slices.Delete(s.got[m], i, i+1)
			s.got[to] = append(s.got[to], tp)
			moved = true
		}
	}
	return moved
}
