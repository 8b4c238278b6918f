package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

// The keys of a throttle: how many bytes a second a broker sends to followers and takes
// from leaders, and which replicas that is for, as PARTITION:BROKER. They are what
// kafka-reassign-partitions sets.
const (
	leaderRate       = "leader.replication.throttled.rate"
	followerRate     = "follower.replication.throttled.rate"
	leaderReplicas   = "leader.replication.throttled.replicas"
	followerReplicas = "follower.replication.throttled.replicas"
)

// throttleOps returns what limits the copying of moves to a rate: the replicas that are there
// send at most so much to the new ones, and the new ones take at most so much. up are the
// brokers that can be asked to.
func throttleOps(moves []move, rate int64, up []client.BrokerInfo) map[client.Resource][]client.ConfigOp {
	senders, takers := make(map[string][]string), make(map[string][]string)
	involved := make(map[int32]bool)
	for _, m := range moves {
		for _, id := range m.from {
			senders[m.tp.Topic] = append(senders[m.tp.Topic], fmt.Sprintf("%d:%d", m.tp.Partition, id))
			involved[id] = true
		}
		for _, id := range m.to {
			if !slices.Contains(m.from, id) {
				takers[m.tp.Topic] = append(takers[m.tp.Topic], fmt.Sprintf("%d:%d", m.tp.Partition, id))
			}
			involved[id] = true
		}
	}
	ops := make(map[client.Resource][]client.ConfigOp)
	for topic := range senders {
		of := []client.ConfigOp{{Name: leaderReplicas, Op: client.SetConfig, Value: strings.Join(senders[topic], ",")}}
		if len(takers[topic]) > 0 {
			of = append(of, client.ConfigOp{Name: followerReplicas, Op: client.SetConfig, Value: strings.Join(takers[topic], ",")})
		}
		ops[client.Resource{Type: client.TopicResource, Name: topic}] = of
	}
	bytes := strconv.FormatInt(rate, 10)
	for _, b := range up {
		if involved[b.ID] {
			ops[brokerResource(b.ID)] = []client.ConfigOp{{Name: leaderRate, Op: client.SetConfig, Value: bytes}, {Name: followerRate, Op: client.SetConfig, Value: bytes}}
		}
	}
	return ops
}

func brokerResource(id int32) client.Resource {
	return client.Resource{Type: client.BrokerResource, Name: strconv.Itoa(int(id))}
}

// throttle limits the copying of moves that are about to begin, and of those of topics that
// are under way.
func throttle(ctx context.Context, a *client.Admin, l *layout, moves []move, topics []string, rate int64) error {
	all := slices.Clone(moves)
	for tp, m := range l.moving {
		if slices.Contains(topics, tp.Topic) && !slices.ContainsFunc(moves, func(m move) bool { return m.tp == tp }) {
			all = append(all, move{tp, m.Replicas, m.Target()})
		}
	}
	slices.SortFunc(all, func(a, b move) int { return comparePartitions(a.tp, b.tp) })
	if err := a.AlterConfigs(ctx, throttleOps(all, rate, l.cluster.Brokers), false); err != nil {
		return fmt.Errorf("throttle to %d bytes a second: %w", rate, err)
	}
	return nil
}

// unthrottle removes the throttles of topics and of all brokers, where a topic has one. It
// leaves them while anything is moved, since the rate of a broker is for all that it moves. It
// reports whether there were any that are gone now. A broker that is down cannot be asked, and keeps
// its rate, which does nothing while no topic names replicas of it.
func (g *globals) unthrottle(ctx context.Context, cmd *cobra.Command, a *client.Admin, topics []string) (removed bool, err error) {
	moving, err := a.ListPartitionReassignments(ctx)
	if err != nil || len(moving) > 0 {
		return false, err
	}
	var resources []client.Resource
	for _, t := range topics {
		resources = append(resources, client.Resource{Type: client.TopicResource, Name: t})
	}
	if len(resources) == 0 {
		return false, nil
	}
	described, err := a.DescribeConfigs(ctx, resources, []string{leaderReplicas, followerReplicas}, false)
	if err != nil {
		return false, err
	}
	ops := make(map[client.Resource][]client.ConfigOp)
	for res, entries := range described {
		for _, e := range entries {
			if e.Source == topicSource {
				ops[res] = append(ops[res], client.ConfigOp{Name: e.Name, Op: client.DeleteConfig})
			}
		}
	}
	if len(ops) == 0 {
		return false, nil
	}
	// Brokers first: while a topic has its key, the next try finds that there is something to remove.
	c, err := a.DescribeCluster(ctx)
	if err != nil {
		return false, err
	}
	rates := make(map[client.Resource][]client.ConfigOp)
	for _, b := range c.Brokers {
		rates[brokerResource(b.ID)] = []client.ConfigOp{{Name: leaderRate, Op: client.DeleteConfig}, {Name: followerRate, Op: client.DeleteConfig}}
	}
	if err := a.AlterConfigs(ctx, rates, false); err != nil {
		return false, fmt.Errorf("remove the throttle: %w", err)
	}
	if err := a.AlterConfigs(ctx, ops, false); err != nil {
		return false, fmt.Errorf("remove the throttle: %w", err)
	}
	for _, b := range c.Fenced {
		g.say(cmd, "klamm: broker %d is down and keeps its rate, if it has one: once it is back, klamm config delete %s %s --broker %d", b.ID, leaderRate, followerRate, b.ID)
	}
	return true, nil
}

// topicsOf returns the topics of moves, each once.
func topicsOf(moves []move) (out []string) {
	for _, m := range moves {
		out = append(out, m.tp.Topic)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
