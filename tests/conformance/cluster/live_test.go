package cluster_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/wire/record"
)

// While all brokers live.
func TestLive(t *testing.T) {
	plain := record.NoProducer
	play(t,
		step{"topics with replicas that cannot be", func(c *cluster) {
			for _, replicas := range [][][]int32{{{1, 1}}, {{1, 9}}, {{}}, {{1, 2}, {3}}, {{-1}}, {{4, 5, 6}}} {
				c.say("%v: %s", replicas, c.create("live.bad", replicas))
			}
			req := kmsg.NewPtrCreateTopicsRequest()
			req.TimeoutMillis = 10_000
			for _, factor := range []int16{4, 100} {
				t := kmsg.NewCreateTopicsRequestTopic()
				t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprint("live.factor.", factor), 1, factor
				req.Topics = append(req.Topics, t)
			}
			for _, t := range c.any(req).(*kmsg.CreateTopicsResponse).Topics {
				c.say("%s: %s", t.Topic, said(t.ErrorCode, t.ErrorMessage))
			}
		}},
		step{"defaults of a topic", func(c *cluster) {
			c.say("%s", c.create("live.defaults", nil))
			c.until("it is known", func() bool { return len(c.metadata(2, "live.defaults").Partitions) == 1 })
			p := c.state(2, "live.defaults", 0)
			c.say("%d replicas, %d in sync", len(p.Replicas), len(p.ISR))
		}},
		step{"any broker takes admin requests, and shows what it answered", func(c *cluster) {
			for node := int32(1); node <= nodes; node++ {
				topic := fmt.Sprint("live.by.", node)
				req := kmsg.NewPtrCreateTopicsRequest()
				req.TimeoutMillis = 10_000
				t := kmsg.NewCreateTopicsRequestTopic()
				t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 2, 3
				req.Topics = append(req.Topics, t)
				made := c.ask(node, req).(*kmsg.CreateTopicsResponse).Topics[0]
				c.say("%s: %s, %d partitions of %d", topic, named(made.ErrorCode), made.NumPartitions, made.ReplicationFactor)
				c.until("it is known", func() bool { return len(c.metadata(node, topic).Partitions) == 2 })
				c.say("removed: %s", c.remove(node, topic))
				c.say("removed again: %s", c.remove(node, topic))
			}
		}},
		step{"partitions as they were assigned", func(c *cluster) {
			c.say("%s", c.create("live.assigned", [][]int32{{3, 1}, {2, 3}, {1, 2}}))
			for node := int32(1); node <= nodes; node++ {
				c.until("it is known", func() bool { return len(c.metadata(node, "live.assigned").Partitions) == 3 })
				for i := range int32(3) {
					c.say("%s", c.partition(node, "live.assigned", i))
				}
			}
		}},
		step{"more partitions", func(c *cluster) {
			more := func(count int32, replicas ...[]int32) {
				req := kmsg.NewPtrCreatePartitionsRequest()
				req.TimeoutMillis = 10_000
				t := kmsg.NewCreatePartitionsRequestTopic()
				t.Topic, t.Count = "live.assigned", count
				for _, r := range replicas {
					a := kmsg.NewCreatePartitionsRequestTopicAssignment()
					a.Replicas = r
					t.Assignment = append(t.Assignment, a)
				}
				req.Topics = append(req.Topics, t)
				got := c.any(req).(*kmsg.CreatePartitionsResponse).Topics[0]
				c.say("to %d with %v: %s", count, replicas, said(got.ErrorCode, got.ErrorMessage))
			}
			more(2)
			more(3)
			more(5, []int32{1, 2})
			more(4, []int32{1, 1})
			more(4, []int32{7, 2})
			more(4, []int32{})
			more(5, []int32{1, 2}, []int32{3})
			more(4, []int32{2, 1})
			c.until("it is known", func() bool { return len(c.metadata(1, "live.assigned").Partitions) == 4 })
			c.say("%s", c.partition(1, "live.assigned", 3))
		}},
		step{"produce to a leader and to followers", func(c *cluster) {
			c.made("live.records", []int32{1, 2})
			c.say("leader, acks=all: %s", c.produce(1, "live.records", batch(plain, "a", "b")))
			c.say("leader, acks=1: %s", c.produceOne(1, "live.records", batch(plain, "c")))
			c.say("follower: %s", c.produce(2, "live.records", batch(plain, "x")))
			c.say("follower, acks=1: %s", c.produceOne(2, "live.records", batch(plain, "x")))
			c.say("a broker without it: %s", c.produce(3, "live.records", batch(plain, "x")))
		}},
		step{"fetch from a leader and from followers", func(c *cluster) {
			all := fetching{topic: "live.records", epoch: -1, fetched: -1}
			c.say("leader: %s", c.fetch(1, all))
			c.until("the follower knows the high watermark", func() bool { return c.fetch(2, all) == c.fetch(1, all) })
			c.say("follower: %s", c.fetch(2, all))
			c.say("a broker without it: %s", c.fetch(3, all))
			for _, offset := range []int64{2, 3, 4, -1} {
				for node := int32(1); node <= 2; node++ {
					c.say("from %d on node %d: %s", offset, node, c.fetch(node, fetching{topic: "live.records", offset: offset, epoch: -1, fetched: -1}))
				}
			}
		}},
		step{"leader epochs that are old, and to come", func(c *cluster) {
			for node := int32(1); node <= nodes; node++ {
				for _, epoch := range []int32{-1, 0, 1} {
					c.say("fetch in %d on node %d: %s", epoch, node, c.fetch(node, fetching{topic: "live.records", epoch: epoch, fetched: -1}))
					c.say("end of 0 in %d on node %d: %s", epoch, node, c.ends(node, "live.records", epoch, 0))
					c.say("offsets in %d on node %d: %s, %s", epoch, node, c.offset(node, "live.records", epoch, -1), c.offset(node, "live.records", epoch, -2))
				}
			}
			c.say("end of 1: %s", c.ends(1, "live.records", -1, 1))
			c.say("end of -1: %s", c.ends(1, "live.records", -1, -1))
			c.say("last fetched in 1: %s", c.fetch(1, fetching{topic: "live.records", offset: 2, epoch: 0, fetched: 1}))
			c.say("last fetched in 0: %s", c.fetch(1, fetching{topic: "live.records", offset: 2, epoch: 0, fetched: 0}))
		}},
		step{"elections that are not needed", func(c *cluster) {
			c.say("preferred: %s", c.elect(false, "live.records", 0))
			c.say("unclean: %s", c.elect(true, "live.records", 0))
			c.say("no such partition: %s", c.elect(false, "live.records", 7))
			c.say("no such topic: %s", c.elect(false, "live.none", 0))
		}},
		step{"reassignments that cannot be", func(c *cluster) {
			for _, replicas := range [][]int32{{1, 1}, {9}, {}, {-1}, {1, 9}} {
				c.say("to %v: %s", replicas, c.reassign("live.records", 0, replicas))
			}
			c.say("nothing to cancel: %s", c.reassign("live.records", 0, nil))
			c.say("no such partition: %s", c.reassign("live.records", 7, []int32{1}))
			c.say("no such topic: %s", c.reassign("live.none", 0, []int32{1}))
			c.say("under way: %s", c.moving())
		}},
		step{"a reassignment", func(c *cluster) {
			c.say("%s", c.reassign("live.records", 0, []int32{3, 2}))
			c.everywhere("live.records", 3, 2, 3)
			c.say("under way: %s", c.moving())
			p := c.state(1, "live.records", 0)
			c.say("replicas %v, led by %d", p.Replicas, p.Leader)
			all := fetching{topic: "live.records", epoch: -1, fetched: -1}
			c.say("it moved: %s", c.fetch(3, all))
			c.until("the old leader has nothing", func() bool { return c.fetch(1, all)[:6] == "NOT_LE" })
			c.say("the old leader: %s", c.produce(1, "live.records", batch(plain, "x")))
		}},
		step{"the order of replicas changes, and then the leader", func(c *cluster) {
			c.made("live.order", []int32{1, 2, 3})
			c.say("%s", c.produce(1, "live.order", batch(plain, "a")))
			c.say("%s", c.reassign("live.order", 0, []int32{2, 3, 1}))
			c.until("the order is new", func() bool { return c.state(1, "live.order", 0).Replicas[0] == 2 })
			c.say("%s", c.partition(1, "live.order", 0))
			c.say("%s", c.elect(false, "live.order", 0))
			c.everywhere("live.order", 2, 1, 2, 3)
			c.say("%s", c.partition(1, "live.order", 0))
			c.say("%s", c.produce(2, "live.order", batch(plain, "b")))
			c.say("%s", c.produce(1, "live.order", batch(plain, "x")))
			c.say("%s", c.fetch(2, fetching{topic: "live.order", epoch: -1, fetched: -1}))
			for _, epoch := range []int32{0, 1, 2} {
				c.say("end of %d: %s", epoch, c.ends(2, "live.order", -1, epoch))
			}
			c.say("diverging: %s", c.fetch(2, fetching{topic: "live.order", offset: 2, epoch: -1, fetched: 0}))
			c.say("old epoch: %s", c.fetch(2, fetching{topic: "live.order", epoch: 0, fetched: -1}))
		}},
		step{"more replicas in sync wanted than there are", func(c *cluster) {
			c.made("live.min", []int32{1, 2}, "min.insync.replicas=3")
			c.say("acks=all: %s", c.produce(1, "live.min", batch(plain, "x")))
			c.say("acks=1: %s", c.produceOne(1, "live.min", batch(plain, "a")))
			c.say("%s", c.configure("live.min", "min.insync.replicas=2"))
			c.until("two will do", func() bool { return c.produce(1, "live.min", batch(plain, "b"))[:2] == "OK" })
			c.say("%s", c.configure("live.min", "min.insync.replicas=0"))
			c.say("no room: %s", c.configure("live.min", "min.insync.replicas=x"))
		}},
		step{"an idempotent producer goes on at another leader", func(c *cluster) {
			c.made("live.idempotent", []int32{1, 2, 3})
			var id *kmsg.InitProducerIDResponse
			c.until("there are ids", func() bool {
				id = c.ask(1, kmsg.NewPtrInitProducerIDRequest()).(*kmsg.InitProducerIDResponse)
				return id.ErrorCode == 0
			})
			c.say("id: %s, epoch %d", named(id.ErrorCode), id.ProducerEpoch)
			at := func(sequence int32, v ...string) []byte {
				return batch(record.Producer{ID: id.ProducerID, Epoch: id.ProducerEpoch, Sequence: sequence}, v...)
			}
			c.say("%s", c.produce(1, "live.idempotent", at(0, "a", "b")))
			c.say("%s", c.produce(1, "live.idempotent", at(2, "c")))
			c.say("again: %s", c.produce(1, "live.idempotent", at(0, "a", "b")))
			c.say("%s", c.reassign("live.idempotent", 0, []int32{3, 1, 2}))
			c.until("the order is new", func() bool { return c.state(1, "live.idempotent", 0).Replicas[0] == 3 })
			c.say("%s", c.elect(false, "live.idempotent", 0))
			c.everywhere("live.idempotent", 3, 1, 2, 3)
			c.say("again, there: %s", c.produce(3, "live.idempotent", at(0, "a", "b")))
			c.say("the last again: %s", c.produce(3, "live.idempotent", at(2, "c")))
			c.say("a gap: %s", c.produce(3, "live.idempotent", at(5, "x")))
			c.say("the next: %s", c.produce(3, "live.idempotent", at(3, "d")))
			c.say("%s", c.fetch(3, fetching{topic: "live.idempotent", epoch: -1, fetched: -1}))
		}},
		step{"records are deleted at the leader", func(c *cluster) {
			c.made("live.deleted", []int32{2, 3, 1})
			c.say("%s", c.produce(2, "live.deleted", batch(plain, "a", "b", "c")))
			del := func(node int32, offset int64) {
				req := kmsg.NewPtrDeleteRecordsRequest()
				req.TimeoutMillis = 10_000
				t := kmsg.NewDeleteRecordsRequestTopic()
				t.Topic = "live.deleted"
				p := kmsg.NewDeleteRecordsRequestTopicPartition()
				p.Offset = offset
				t.Partitions = append(t.Partitions, p)
				req.Topics = append(req.Topics, t)
				got := c.ask(node, req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
				c.say("below %d on node %d: %s, low watermark %d", offset, node, named(got.ErrorCode), got.LowWatermark)
			}
			del(1, 1)
			del(2, 1)
			del(2, 9)
			del(2, -1)
			c.until("a follower has it", func() bool {
				return c.fetch(3, fetching{topic: "live.deleted", epoch: -1, fetched: -1})[:3] == "OFF"
			})
			c.say("%s", c.fetch(3, fetching{topic: "live.deleted", epoch: -1, fetched: -1}))
		}},
		step{"producers of a partition", func(c *cluster) {
			for node := int32(1); node <= nodes; node++ {
				req := kmsg.NewPtrDescribeProducersRequest()
				t := kmsg.NewDescribeProducersRequestTopic()
				t.Topic, t.Partitions = "live.records", []int32{0}
				req.Topics = append(req.Topics, t)
				got := c.ask(node, req).(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0]
				c.say("on node %d: %s, %d", node, named(got.ErrorCode), len(got.ActiveProducers))
			}
		}},
		step{"the quorum", func(c *cluster) {
			req := kmsg.NewPtrDescribeQuorumRequest()
			t := kmsg.NewDescribeQuorumRequestTopic()
			t.Topic = "__cluster_metadata"
			t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
			req.Topics = append(req.Topics, t)
			for node := int32(1); node <= nodes; node++ {
				resp := c.ask(node, req).(*kmsg.DescribeQuorumResponse)
				p := resp.Topics[0].Partitions[0]
				var voters, observers []int32
				for _, v := range p.CurrentVoters {
					voters = append(voters, v.ReplicaID)
				}
				for _, v := range p.Observers {
					observers = append(observers, v.ReplicaID)
				}
				slices.Sort(voters)
				c.say("%s, %s: voters %v, observers %v, a leader %t", said(resp.ErrorCode, resp.ErrorMessage), said(p.ErrorCode, p.ErrorMessage), voters, observers, p.LeaderID > 0)
			}
		}},
		step{"the cluster", func(c *cluster) {
			for node := int32(1); node <= nodes; node++ {
				req := kmsg.NewPtrDescribeClusterRequest()
				req.EndpointType, req.IncludeFencedBrokers = 1, true
				resp := c.ask(node, req).(*kmsg.DescribeClusterResponse)
				slices.SortFunc(resp.Brokers, func(a, b kmsg.DescribeClusterResponseBroker) int { return int(a.NodeID - b.NodeID) })
				c.say("%s, id %s, a controller %t", said(resp.ErrorCode, resp.ErrorMessage), resp.ClusterID, resp.ControllerID > 0)
				for _, b := range resp.Brokers {
					c.say("%d at %s:%d, rack %v, fenced %t", b.NodeID, b.Host, b.Port, b.Rack != nil, b.IsFenced)
				}
			}
			req := kmsg.NewPtrUnregisterBrokerRequest()
			req.BrokerID = 77
			got := c.any(req).(*kmsg.UnregisterBrokerResponse)
			c.say("unregistered: %s", said(got.ErrorCode, got.ErrorMessage))
		}},
		step{"a topic is removed and made again", func(c *cluster) {
			c.made("live.again", []int32{1, 2, 3})
			c.say("%s", c.produce(1, "live.again", batch(plain, "old")))
			before := c.metadata(1, "live.again").TopicID
			c.say("%s", c.remove(3, "live.again"))
			c.until("it is gone", func() bool { return c.metadata(1, "live.again").ErrorCode != 0 })
			c.say("%s", c.partition(1, "live.again", 0))
			c.made("live.again", []int32{2, 3, 1})
			c.say("another id: %t", before != c.metadata(1, "live.again").TopicID)
			c.say("%s", c.produce(2, "live.again", batch(plain, "new")))
			c.say("%s", c.fetch(2, fetching{topic: "live.again", epoch: -1, fetched: -1}))
		}},
	)
}
