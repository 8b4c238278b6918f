package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/wire/record"
)

// A broker is killed, and comes back.
func TestDeadBroker(t *testing.T) {
	plain := record.NoProducer
	all := func(topic string) fetching { return fetching{topic: topic, epoch: -1, fetched: -1} }
	play(t,
		step{"before", func(c *cluster) {
			c.made("dead.led", []int32{3, 1, 2})
			c.made("dead.followed", []int32{1, 2, 3}, "min.insync.replicas=3")
			c.made("dead.alone", []int32{3})
			c.made("dead.removed", []int32{3, 2, 1})
			c.made("dead.moved", []int32{3, 1})
			c.made("dead.two", []int32{1, 3}, "min.insync.replicas=2")
			for topic, leader := range map[string]int32{"dead.led": 3, "dead.followed": 1, "dead.alone": 3, "dead.removed": 3, "dead.moved": 3, "dead.two": 1} {
				if got := c.produce(leader, topic, batch(plain, "a", "b")); !strings.HasPrefix(got, "OK ") {
					c.Fatalf("%s: %s", topic, got)
				}
			}
		}},
		step{"one is killed", kill(3)},
		step{"who leads, and who is in sync", func(c *cluster) {
			c.everywhere("dead.led", 1, 1, 2)
			c.everywhere("dead.followed", 1, 1, 2)
			c.everywhere("dead.alone", -1)
			for _, topic := range []string{"dead.led", "dead.followed", "dead.alone", "dead.moved", "dead.two"} {
				c.say("%s", c.partition(1, topic, 0))
				c.say("%s", c.partition(2, topic, 0))
			}
		}},
		step{"replicas that may be elected", func(c *cluster) {
			for _, topic := range []string{"dead.led", "dead.followed", "dead.alone", "dead.two"} {
				req := kmsg.NewPtrDescribeTopicPartitionsRequest()
				t := kmsg.NewDescribeTopicPartitionsRequestTopic()
				t.Topic = topic
				req.Topics = append(req.Topics, t)
				for _, p := range c.ask(1, req).(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions {
					slices.Sort(p.ISR)
					c.say("%s: %s leader %d isr %v eligible %v last known %v offline %v", topic, named(p.ErrorCode), p.LeaderID, p.ISR, p.EligibleLeaderReplicas, p.LastKnownELR, p.OfflineReplicas)
				}
			}
		}},
		step{"produce with fewer in sync than wanted", func(c *cluster) {
			c.say("acks=all, 3 wanted: %s", c.produce(1, "dead.followed", batch(plain, "x")))
			c.say("acks=1, 3 wanted: %s", c.produceOne(1, "dead.followed", batch(plain, "c")))
			c.say("what is acknowledged: %s", c.fetch(1, all("dead.followed")))
			c.say("acks=all, 2 wanted of 2: %s", c.produce(1, "dead.two", batch(plain, "x")))
			c.say("acks=all, 2 of 3: %s", c.produce(1, "dead.led", batch(plain, "c")))
			c.say("what is new: %s", c.fetch(1, all("dead.led")))
		}},
		step{"the new leader's epoch", func(c *cluster) {
			for _, epoch := range []int32{0, 1, 2} {
				c.say("end of %d: %s", epoch, c.ends(1, "dead.led", -1, epoch))
			}
			c.say("fetch in the old one: %s", c.fetch(1, fetching{topic: "dead.led", epoch: 0, fetched: -1}))
			c.say("fetch in the new one: %s", c.fetch(1, fetching{topic: "dead.led", epoch: 1, fetched: -1}))
			c.say("diverging: %s", c.fetch(1, fetching{topic: "dead.led", offset: 3, epoch: 1, fetched: 0}))
			c.say("the end: %s", c.offset(1, "dead.led", 1, -1))
		}},
		step{"a partition without a leader", func(c *cluster) {
			for node := int32(1); node <= 2; node++ {
				// A broker may still know who led, when its metadata are new already.
				c.say("produce: %s", code(c.produceOne(node, "dead.alone", batch(plain, "x"))))
				c.say("fetch: %s", code(c.fetch(node, all("dead.alone"))))
				c.say("offset: %s", c.offset(node, "dead.alone", -1, -1))
				c.say("epoch: %s", c.ends(node, "dead.alone", -1, 0))
			}
			c.say("unclean election: %s", c.elect(true, "dead.alone", 0))
			c.say("preferred election: %s", c.elect(false, "dead.alone", 0))
		}},
		step{"elections of who is dead", func(c *cluster) {
			c.say("%s", c.elect(false, "dead.led", 0))
			c.say("%s", c.elect(true, "dead.led", 0))
		}},
		step{"topics beside a dead broker", func(c *cluster) {
			c.say("on it alone: %s", c.create("dead.new.1", [][]int32{{3}}))
			c.say("with it first: %s", c.create("dead.new.2", [][]int32{{3, 1}}))
			c.until("it is known", func() bool { return len(c.metadata(1, "dead.new.2").Partitions) == 1 })
			c.say("%s", c.partition(1, "dead.new.2", 0))
			req := kmsg.NewPtrCreateTopicsRequest()
			req.TimeoutMillis = 10_000
			for _, factor := range []int16{2, 3} {
				t := kmsg.NewCreateTopicsRequestTopic()
				t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("dead.factor.", factor), 4, factor
				req.Topics = append(req.Topics, t)
			}
			for _, t := range c.any(req).(*kmsg.CreateTopicsResponse).Topics {
				c.say("%s: %s", t.Topic, said(t.ErrorCode, t.ErrorMessage))
				if t.ErrorCode != 0 {
					continue
				}
				c.until("it is known", func() bool { return len(c.metadata(1, t.Topic).Partitions) == 4 })
				for _, p := range c.metadata(1, t.Topic).Partitions {
					c.say("%d: led %t, on 3 %t", p.Partition, p.Leader > 0, slices.Contains(p.Replicas, 3))
				}
			}
		}},
		step{"a reassignment to a dead broker waits", func(c *cluster) {
			c.made("dead.onto", []int32{1, 2})
			c.say("%s", c.reassign("dead.onto", 0, []int32{1, 3}))
			c.until("it is known", func() bool { return len(c.state(1, "dead.onto", 0).Replicas) == 3 })
			c.say("%s", c.moving())
			c.say("%s", c.partition(1, "dead.onto", 0))
			c.say("cancelled: %s", c.reassign("dead.onto", 0, nil))
			c.say("%s", c.moving())
			c.until("it is known", func() bool { return len(c.state(1, "dead.onto", 0).Replicas) == 2 })
			c.say("%s", c.partition(1, "dead.onto", 0))
		}},
		step{"a reassignment away from a dead broker", func(c *cluster) {
			c.say("%s", c.reassign("dead.moved", 0, []int32{1, 2}))
			c.everywhere("dead.moved", 1, 1, 2)
			c.until("it is done", func() bool { return c.moving() == "OK" })
			p := c.state(2, "dead.moved", 0)
			c.say("%v led by %d", p.Replicas, p.Leader)
		}},
		step{"a topic is removed and made again behind its back", func(c *cluster) {
			c.say("%s", c.remove(1, "dead.removed"))
			c.until("it is gone", func() bool { return c.metadata(1, "dead.removed").ErrorCode != 0 })
			c.say("%s", c.create("dead.removed", [][]int32{{1, 3}}))
			c.everywhere("dead.removed", 1, 1)
			c.say("%s", c.configure("dead.removed", "min.insync.replicas=1"))
			c.until("one will do", func() bool { return strings.HasPrefix(c.produce(1, "dead.removed", batch(plain, "new")), "OK") })
		}},
		step{"it comes back", (*cluster).heal},
		step{"what it knows then", func(c *cluster) {
			c.everywhere("dead.alone", 3, 3)
			for _, topic := range []string{"dead.led", "dead.followed", "dead.alone", "dead.removed", "dead.moved", "dead.two", "dead.new.2"} {
				c.say("%s", c.partition(3, topic, 0))
			}
			c.say("alone: %s", c.fetch(3, all("dead.alone")))
			for _, topic := range []string{"dead.led", "dead.followed", "dead.removed"} {
				c.until("it knows the high watermark", func() bool { return c.fetch(3, all(topic)) == c.fetch(1, all(topic)) })
				c.say("%s: %s", topic, c.fetch(3, all(topic)))
			}
			c.say("3 in sync again: %s", c.produce(1, "dead.followed", batch(plain, "d")))
		}},
		step{"it is elected again", func(c *cluster) {
			c.say("%s", c.elect(false, "dead.led", 0))
			c.everywhere("dead.led", 3, 1, 2, 3)
			c.say("%s", c.partition(2, "dead.led", 0))
			c.say("%s", c.elect(false, "dead.led", 0))
			c.say("%s", c.fetch(3, all("dead.led")))
		}},
	)
}

// A broker that is behind is elected where that is allowed, and what only the old leader had
// is lost there too when it comes back.
func TestUncleanElection(t *testing.T) {
	plain := record.NoProducer
	all := func(topic string) fetching { return fetching{topic: topic, epoch: -1, fetched: -1} }
	topics := []string{"unclean.asked", "unclean.allowed"}
	// Whether the other broker is back before the leader is missed, and so whether there is an
	// epoch without a leader, is a matter of time.
	say := func(c *cluster, topic, what string) {
		if topic != "unclean.asked" {
			what = epochs.ReplaceAllString(what, "")
		}
		c.say("%s", what)
	}
	play(t,
		step{"one falls behind", func(c *cluster) {
			c.made("unclean.asked", []int32{1, 2}, "min.insync.replicas=1")
			c.made("unclean.allowed", []int32{1, 2}, "min.insync.replicas=1", "unclean.leader.election.enable=true")
			for _, topic := range topics {
				c.say("%s", c.produce(1, topic, batch(plain, "a", "b")))
			}
			c.signal(2, syscall.SIGSTOP)
			for _, topic := range topics {
				// Node 2 answers nobody.
				for _, node := range []int32{1, 3} {
					c.until("it is out of sync", func() bool { return slices.Equal(c.state(node, topic, 0).ISR, []int32{1}) })
				}
				c.say("%s", c.produce(1, topic, batch(plain, "lost", "lost too")))
			}
		}},
		step{"the leader is killed while it is away", func(c *cluster) {
			c.KillNode(0)
			c.signal(2, syscall.SIGCONT)
			c.living(2)
			c.everywhere("unclean.allowed", 2, 2)
			c.everywhere("unclean.asked", -1)
			for _, topic := range topics {
				say(c, topic, c.partition(2, topic, 0))
				say(c, topic, c.partition(3, topic, 0))
			}
			c.say("%s", code(c.produceOne(2, "unclean.asked", batch(plain, "x"))))
			c.say("preferred: %s", c.elect(false, "unclean.asked", 0))
			c.say("unclean: %s", c.elect(true, "unclean.asked", 0))
			c.everywhere("unclean.asked", 2, 2)
			c.say("again: %s", c.elect(true, "unclean.asked", 0))
			for _, topic := range topics {
				say(c, topic, c.partition(3, topic, 0))
				say(c, topic, "what is left: "+c.fetch(2, all(topic)))
				say(c, topic, c.produce(2, topic, batch(plain, "new")))
			}
			for _, epoch := range []int32{0, 1, 2} {
				c.say("end of %d: %s", epoch, c.ends(2, "unclean.asked", -1, epoch))
			}
		}},
		step{"the old leader comes back", (*cluster).heal},
		step{"what it has then", func(c *cluster) {
			for _, topic := range topics {
				c.until("it knows the high watermark", func() bool { return c.fetch(1, all(topic)) == c.fetch(2, all(topic)) })
				say(c, topic, c.fetch(1, all(topic)))
				say(c, topic, c.elect(false, topic, 0))
				c.everywhere(topic, 1, 1, 2)
				say(c, topic, c.partition(3, topic, 0))
				say(c, topic, c.produce(1, topic, batch(plain, "newer")))
				say(c, topic, c.fetch(1, all(topic)))
			}
			for _, epoch := range []int32{0, 1, 2, 3} {
				c.say("end of %d: %s", epoch, c.ends(1, "unclean.asked", -1, epoch))
			}
		}},
	)
}

// A broker is asked to stop: whoever leads there leads elsewhere before.
func TestControlledShutdown(t *testing.T) {
	plain := record.NoProducer
	play(t,
		step{"before", func(c *cluster) {
			c.made("stop.led", []int32{2, 1, 3})
			c.made("stop.alone", []int32{2})
			c.say("%s", c.produce(2, "stop.led", batch(plain, "a")))
			c.say("%s", c.produce(2, "stop.alone", batch(plain, "a")))
		}},
		step{"it stops", stop(2)},
		step{"while it is away", func(c *cluster) {
			c.everywhere("stop.led", 1, 1, 3)
			c.everywhere("stop.alone", -1)
			c.say("%s", c.partition(3, "stop.led", 0))
			c.say("%s", c.partition(3, "stop.alone", 0))
			c.say("%s", c.produce(1, "stop.led", batch(plain, "b")))
		}},
		step{"it starts", start(2)},
		step{"when it is back", func(c *cluster) {
			c.everywhere("stop.led", 1, 1, 2, 3)
			c.everywhere("stop.alone", 2, 2)
			c.say("%s", c.partition(3, "stop.led", 0))
			c.say("%s", c.partition(3, "stop.alone", 0))
			c.say("%s", c.elect(false, "stop.led", 0))
			c.everywhere("stop.led", 2, 1, 2, 3)
			c.say("%s", c.fetch(2, fetching{topic: "stop.led", epoch: -1, fetched: -1}))
			c.say("%s", c.fetch(2, fetching{topic: "stop.alone", epoch: -1, fetched: -1}))
		}},
	)
}

// The broker that coordinates a group is killed.
func TestCoordinatorMoves(t *testing.T) {
	const topic, group = "coordinator.records", "coordinator.group"
	// find returns who coordinates the group, and what was said of it.
	find := func(c *cluster) (int32, string) {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = []string{group}
		got := c.any(req).(*kmsg.FindCoordinatorResponse).Coordinators[0]
		return got.NodeID, said(got.ErrorCode, got.ErrorMessage)
	}
	await := func(c *cluster) (node int32) {
		c.until("the group is coordinated", func() bool {
			var code string
			node, code = find(c)
			return code == "OK" && c.Nodes[node-1] != nil
		})
		return node
	}
	commit := func(c *cluster, node int32, offset int64) string {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = group, -1
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = topic, c.metadata(c.up(), topic).TopicID
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = offset
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		return named(c.ask(node, req).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
	}
	committed := func(c *cluster, node int32) string {
		req := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		req.Groups = append(req.Groups, g)
		got := c.ask(node, req).(*kmsg.OffsetFetchResponse).Groups[0]
		out := named(got.ErrorCode)
		for _, t := range got.Topics {
			for _, p := range t.Partitions {
				out += fmt.Sprintf(", %d: %s %d", p.Partition, named(p.ErrorCode), p.Offset)
			}
		}
		return out
	}
	var was [2]int32 // who coordinated, of klamm and of the JVM
	of := func(c *cluster) *int32 {
		if c.Name == "klamm" {
			return &was[0]
		}
		return &was[1]
	}
	play(t,
		step{"offsets are committed", func(c *cluster) {
			c.made(topic, []int32{1, 2, 3})
			node := await(c)
			*of(c) = node
			c.until("it is loaded", func() bool { return commit(c, node, 3) == "OK" })
			c.say("%s", committed(c, node))
			req := kmsg.NewPtrMetadataRequest()
			for _, t := range c.any(req).(*kmsg.MetadataResponse).Topics {
				if *t.Topic == "__consumer_offsets" {
					c.say("%d partitions of %d, internal %t", len(t.Partitions), len(t.Partitions[0].Replicas), t.IsInternal)
				}
			}
			for i := range c.Nodes {
				if other := int32(i + 1); other != node {
					c.say("elsewhere: %s, %s", commit(c, other, 9), committed(c, other))
				}
			}
		}},
		step{"its coordinator is killed", func(c *cluster) { kill(*of(c))(c) }},
		step{"another one has them", func(c *cluster) {
			node := await(c)
			// The JVM has them once its high watermark has moved, too.
			c.until("it is loaded", func() bool { return strings.HasPrefix(committed(c, node), "OK, 0") })
			c.say("%s", committed(c, node))
			c.say("%s", commit(c, node, 5))
			c.say("%s", committed(c, node))
		}},
		step{"it comes back, and leads again", func(c *cluster) {
			c.heal()
			for i := range int32(4) {
				c.elect(false, "__consumer_offsets", i)
			}
			c.until("it coordinates again", func() bool { return await(c) == *of(c) })
			c.until("it is loaded", func() bool { return strings.HasPrefix(committed(c, *of(c)), "OK, 0") })
			c.say("%s", committed(c, *of(c)))
		}},
	)
}
