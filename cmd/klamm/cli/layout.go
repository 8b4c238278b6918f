package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/client"
)

// layout is which broker has which replicas, at one time.
type layout struct {
	cluster client.Cluster
	topics  []client.TopicInfo
	moving  map[client.TopicPartition]client.Reassignment
}

func layoutOf(ctx context.Context, a *client.Admin) (l layout, err error) {
	if l.cluster, err = a.DescribeCluster(ctx); err != nil {
		return l, err
	}
	// The moves are asked for first: a partition whose move is done in between shows
	// its new replicas, and one that looks done is.
	if l.moving, err = a.ListPartitionReassignments(ctx); err != nil {
		return l, err
	}
	l.topics, err = a.ListTopics(ctx)
	return l, err
}

// each calls f with every partition and the replicas that it has, or will have
// once its move is done.
func (l *layout) each(f func(tp client.TopicPartition, p client.PartitionInfo, target []int32)) {
	for _, t := range l.topics {
		for _, p := range t.Partitions {
			tp := client.TopicPartition{Topic: t.Name, Partition: p.Partition}
			target := p.Replicas
			if m, ok := l.moving[tp]; ok {
				target = m.Target()
			}
			f(tp, p, target)
		}
	}
}

// topic returns a topic, nil if there is none of this name.
func (l *layout) topic(name string) *client.TopicInfo {
	if i := slices.IndexFunc(l.topics, func(t client.TopicInfo) bool { return t.Name == name }); i >= 0 {
		return &l.topics[i]
	}
	return nil
}

// target returns the replicas that a partition has, or will have once its move is
// done; nil if there is no such partition.
func (l *layout) target(tp client.TopicPartition) []int32 {
	if m, ok := l.moving[tp]; ok {
		return m.Target()
	}
	if t := l.topic(tp.Topic); t != nil && int(tp.Partition) < len(t.Partitions) {
		return t.Partitions[tp.Partition].Replicas
	}
	return nil
}

// registered returns every broker, fenced or not, by id.
func (l *layout) registered() []client.BrokerInfo {
	all := slices.Concat(l.cluster.Brokers, l.cluster.Fenced)
	slices.SortFunc(all, func(x, y client.BrokerInfo) int { return cmp.Compare(x.ID, y.ID) })
	return all
}

// has refuses a broker that is not registered as a usage error.
func (l *layout) has(what string, id int32) error {
	var ids []string
	for _, b := range l.registered() {
		if b.ID == id {
			return nil
		}
		ids = append(ids, strconv.Itoa(int(b.ID)))
	}
	return usagef("%s %d: there is no such broker; the cluster has %s", what, id, strings.Join(ids, ", "))
}

// held is what one broker has.
type held struct {
	leaders, replicas, outOfSync int
	leaving                      int // replicas that a move takes away
	coming                       int // replicas of the target of a move that are not in sync yet
}

// held returns what each broker has.
func (l *layout) held() map[int32]held {
	out := make(map[int32]held)
	l.each(func(tp client.TopicPartition, p client.PartitionInfo, _ []int32) {
		for _, id := range p.Replicas {
			h := out[id]
			h.replicas++
			if p.Leader == id {
				h.leaders++
			}
			if !slices.Contains(p.ISR, id) {
				h.outOfSync++
			}
			if m := l.moving[tp]; slices.Contains(m.Removing, id) {
				h.leaving++
			} else if slices.Contains(m.Adding, id) && !slices.Contains(p.ISR, id) {
				h.coming++
			}
			out[id] = h
		}
	})
	return out
}

// parseBrokerID parses the id of a broker.
func parseBrokerID(s string) (int32, error) {
	id, err := strconv.ParseInt(s, 10, 32)
	if err != nil || id < 0 {
		return 0, usagef("broker %q: want the id of a broker, as klamm broker list shows it", s)
	}
	return int32(id), nil
}

// idList is broker ids as text, as "1, 2 and 3".
func idList(ids []int32) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = fmt.Sprint(id)
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return strings.Join(parts, "")
}
