package brokertest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// onTwo makes the topic t with one partition on the brokers 1 and 2.
func onTwo(t *testing.T, c *brokertest.Cluster) {
	t.Helper()
	a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := a.CreateTopics(t.Context(), []client.NewTopic{{Name: "t", Partitions: 1, Replication: 2}}, false); err != nil || got["t"] != nil {
		t.Fatal(got, err)
	}
	c.WaitISR("t", 0, 2)
}

// TestBrokersWithAController: brokers that are no controllers register with one that is no
// broker, hold what is written, catch up after they were away, and go on while and after the
// controller was away.
func TestBrokersWithAController(t *testing.T) {
	for _, inMemory := range []bool{true, false} {
		t.Run(fmt.Sprint(inMemory), func(t *testing.T) {
			c := brokertest.Start(t, brokertest.Options{Brokers: 2, Controllers: 1, InMemoryNetwork: inMemory,
				Config: map[string]string{"min.insync.replicas": "1", "broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}})
			controller := c.Controller(broker.FirstController)
			onTwo(t, c)
			p := producer(t, c)
			var want []string
			write := func(n int) {
				t.Helper()
				for range n {
					want = append(want, fmt.Sprint(len(want)))
					send(t, p, "t", want[len(want)-1])
				}
			}
			write(3)
			c.Broker(2).Kill(brokertest.LoseUnsynced)
			c.WaitISR("t", 0, 1)
			write(3)
			c.Broker(2).Restart()
			c.WaitISR("t", 0, 2)
			controller.Kill(brokertest.LoseUnsynced)
			write(3) // nobody asks a controller
			controller.Restart()
			c.Broker(1).Kill(brokertest.LoseUnsynced)
			c.WaitISR("t", 0, 1)
			write(3)
			c.Broker(1).Restart()
			c.WaitISR("t", 0, 2)
			if got := fmt.Sprint(values(t, c, len(want))); got != fmt.Sprint(want) {
				t.Errorf("the topic holds %s, want %s", got, want)
			}
			if c.Broker(1).Active() || !controller.Active() {
				t.Errorf("active: broker 1 %v, the controller %v", c.Broker(1).Active(), controller.Active())
			}
		})
	}
}

// TestControllersApart: three controllers that are no brokers bear the loss of the active one.
func TestControllersApart(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, Controllers: 3, InMemoryNetwork: true,
		Config: map[string]string{"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}})
	makeTopic(t, c, 1)
	l := startLoad(t, c)
	for range 3 {
		active := c.WaitController()
		if active < broker.FirstController {
			t.Fatalf("node %d is the active controller", active)
		}
		c.Controller(active).Kill(brokertest.LoseUnsynced)
		next := c.WaitController()
		leader := c.WaitLeader("t", 0)
		c.Broker(leader).Kill(brokertest.LoseUnsynced)
		c.WaitISR("t", 0, 2) // the new one has decided
		c.Broker(leader).Restart()
		c.Controller(active).Restart()
		c.WaitISR("t", 0, 3)
		t.Logf("controller %d took over from %d", next, active)
	}
	l.end(c)
}

// TestQuorumOfControllersApart: the quorum says of the brokers, which do not vote, how far they
// have come and when they were heard of; a controller says where the controllers are; and a
// broker that is unregistered is no observer any more.
func TestQuorumOfControllersApart(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, Controllers: 3, InMemoryNetwork: true})
	a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ids := func(all []client.QuorumReplica) (out []int32) {
		for _, r := range all {
			out = append(out, r.ID)
		}
		return out
	}
	await := func(what string, ok func(q client.Quorum) bool) client.Quorum {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			q, err := a.DescribeQuorum(ctx)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if ok(q) {
				return q
			}
			time.Sleep(time.Millisecond)
		}
	}
	caughtUp := func(q client.Quorum) bool {
		for _, r := range append(q.Voters, q.Observers...) {
			if r.EndOffset < q.HighWatermark || r.CaughtUp.IsZero() || r.LastFetch.IsZero() {
				return false
			}
		}
		return q.HighWatermark > 0
	}
	makeTopic(t, c, 1)
	q := await("all have caught up", caughtUp)
	if fmt.Sprint(ids(q.Voters), ids(q.Observers)) != "[1001 1002 1003] [1 2 3]" {
		t.Fatalf("%+v", q)
	}
	for _, r := range q.Observers {
		if r.Directory == "" {
			t.Errorf("observer %+v has no directory", r)
		}
	}
	// One that is dead is not heard of any more, while the others go on.
	c.Broker(3).Kill()
	heard := func(q client.Quorum, id int32) client.QuorumReplica {
		return q.Observers[slices.Index(ids(q.Observers), id)]
	}
	c.WaitISR("t", 0, 2)
	dead := heard(await("broker 3 is known", func(q client.Quorum) bool { return len(q.Observers) == 3 }), 3)
	q = await("broker 2 has more than broker 3", func(q client.Quorum) bool {
		return heard(q, 2).EndOffset > heard(q, 3).EndOffset && heard(q, 2).EndOffset == q.HighWatermark && heard(q, 2).LastFetch.After(dead.LastFetch)
	})
	if now := heard(q, 3); now.EndOffset != dead.EndOffset || !now.LastFetch.Equal(dead.LastFetch) {
		t.Errorf("broker 3 is dead, and was %+v and is %+v", dead, now)
	}
	if err := a.UnregisterBroker(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	await("broker 3 is no observer", func(q client.Quorum) bool { return fmt.Sprint(ids(q.Observers)) == "[1 2]" })

	for id := int32(broker.FirstController); id < broker.FirstController+3; id++ {
		x, err := conn.Dial(t.Context(), "tcp", c.Controller(id).Controllers()[0], conn.Options{Dial: c.Dial})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		var resp msg.DescribeClusterResponse
		if err := x.Do(t.Context(), &msg.DescribeClusterRequest{EndpointType: 2}, &resp); err != nil || resp.ErrorCode != 0 {
			t.Fatalf("controller %d: %v, %+v", id, err, resp)
		}
		var at []string
		for _, b := range resp.Brokers {
			if want := fmt.Sprintf("%s:%d", b.Host, b.Port); want != c.Controller(b.BrokerId).Controllers()[0] {
				t.Errorf("controller %d says that controller %d is at %s", id, b.BrokerId, want)
			}
			at = append(at, fmt.Sprint(b.BrokerId))
		}
		if strings.Join(at, " ") != "1001 1002 1003" || resp.ControllerId != c.WaitController() || resp.EndpointType != 2 {
			t.Errorf("controller %d: %+v", id, resp)
		}
		if err := x.Do(t.Context(), &msg.DescribeClusterRequest{EndpointType: 1}, &resp); err != nil || kerr.Code(resp.ErrorCode) != kerr.MismatchedEndpointType {
			t.Errorf("controller %d is no broker: %v, %+v", id, err, resp)
		}
		// The active one does what clients ask of controllers, and any other says that it is not.
		req := &msg.CreateTopicsRequest{TimeoutMs: 10_000, Topics: []msg.CreateTopicsRequestCreatableTopic{{Name: fmt.Sprint("by-", id), NumPartitions: 1, ReplicationFactor: 2}}}
		var made msg.CreateTopicsResponse
		want := kerr.NotController
		if id == c.WaitController() {
			want = kerr.None
		}
		if err := x.Do(t.Context(), req, &made); err != nil || len(made.Topics) != 1 || kerr.Code(made.Topics[0].ErrorCode) != want {
			t.Errorf("controller %d creates a topic: %v, %+v; want %v", id, err, made, want)
		}
		// A process of a controller registers anew, and its incarnation with it.
		registered := c.Controller(id).Metadata().Controller(id)
		if registered == nil || registered.IncarnationId.IsZero() || len(registered.EndPoints) != 1 || len(registered.Features) == 0 {
			t.Fatalf("controller %d is registered as %+v", id, registered)
		}
		c.Controller(id).Restart()
		if now := c.Controller(id).Metadata().Controller(id); now == nil || now.IncarnationId == registered.IncarnationId {
			t.Errorf("controller %d is another process, and registered as %+v", id, now)
		}
	}
}

// TestAdd adds brokers to clusters that run: they are registered, and get replicas by
// reassignment; what the topic held before is there when the others are gone. It is so too while
// a controller is down.
func TestAdd(t *testing.T) {
	for name, o := range map[string]brokertest.Options{"brokers that are controllers": {Brokers: 3}, "controllers apart": {Brokers: 1, Controllers: 3, InMemoryNetwork: true}} {
		t.Run(name, func(t *testing.T) {
			c := brokertest.Start(t, o)
			a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if got, err := a.CreateTopics(t.Context(), []client.NewTopic{{Name: "t", Partitions: 1, Replication: 1, Configs: map[string]string{"min.insync.replicas": "1"}}}, false); err != nil || got["t"] != nil {
				t.Fatal(got, err)
			}
			first := c.WaitLeader("t", 0)
			p := producer(t, c)
			send(t, p, "t", "0")
			next := c.Add()
			if id := next.NodeID(); id != int32(o.Brokers)+1 {
				t.Fatalf("the new broker has the id %d", id)
			}
			down := c.WaitController()
			if o.Controllers == 0 && down == first {
				down = down%3 + 1
			}
			c.Broker(down).Kill()
			last := c.Add()
			tp := client.TopicPartition{Topic: "t"}
			if got, err := a.AlterPartitionReassignments(t.Context(), map[client.TopicPartition][]int32{tp: {next.NodeID(), last.NodeID()}}, false); err != nil || got[tp] != nil {
				t.Fatal(got, err)
			}
			c.WaitPartition("t", 0, "it is on the new brokers alone", func(p *meta.Partition) bool {
				return slices.Equal(p.Replicas, []int32{next.NodeID(), last.NodeID()}) && len(p.InSync) == 2 && p.Leader == next.NodeID() && len(p.Adding)+len(p.Removing) == 0
			})
			send(t, p, "t", "1")
			next.Kill(brokertest.LoseUnsynced)
			if leader := c.WaitLeader("t", 0); leader != last.NodeID() {
				t.Errorf("broker %d leads", leader)
			}
			send(t, p, "t", "2")
			next.Restart()
			c.Broker(down).Restart()
			c.WaitISR("t", 0, 2)
			if got := strings.Join(values(t, c, 3), " "); got != "0 1 2" {
				t.Errorf("the topic holds %s", got)
			}
			if next.Active() || last.Active() {
				t.Error("a broker that was added is the active controller")
			}
			if out := c.Bootstrap(); strings.Count(out, ",") != o.Brokers+1 {
				t.Errorf("bootstrap %s", out)
			}
		})
	}
}

// TestControllersApartInABubble: brokers that are no controllers stay observers of the quorum for
// as long as they are registered, whoever is cut off, silent or dead meanwhile, and however long.
func TestControllersApartInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := brokertest.Start(t, brokertest.Options{Brokers: 3, Controllers: 3, InMemoryNetwork: true})
		makeTopic(t, c, 1)
		p := producer(t, c)
		var want []string
		write := func() {
			t.Helper()
			want = append(want, fmt.Sprint(len(want)))
			send(t, p, "t", want[len(want)-1])
		}
		for _, f := range []struct {
			name       string
			begin, end func(leader, active int32)
		}{
			{"nobody is away", func(int32, int32) {}, func(int32, int32) {}},
			{"the leader is cut off", func(leader, _ int32) { c.Isolate(leader) }, func(int32, int32) { c.Heal() }},
			{"the leader is cut off from the active controller", func(leader, active int32) { c.Cut(leader, active) }, func(int32, int32) { c.Heal() }},
			{"the leader is silent", func(leader, _ int32) { c.Broker(leader).Pause() }, func(leader, _ int32) { c.Broker(leader).Resume() }},
			{"the leader is dead", func(leader, _ int32) { c.Broker(leader).Kill(brokertest.LoseUnsynced) }, func(leader, _ int32) { c.Broker(leader).Restart() }},
			{"the active controller is cut off", func(_, active int32) { c.Isolate(active) }, func(int32, int32) { c.Heal() }},
			{"the active controller is silent", func(_, active int32) { c.Controller(active).Pause() }, func(_, active int32) { c.Controller(active).Resume() }},
			{"the active controller is dead", func(_, active int32) { c.Controller(active).Kill(brokertest.LoseUnsynced) }, func(_, active int32) { c.Controller(active).Restart() }},
		} {
			leader, active := c.WaitLeader("t", 0), c.WaitController()
			f.begin(leader, active)
			write()
			time.Sleep(6 * time.Minute) // an observer that is no broker is let go after five
			write()
			f.end(leader, active)
			c.WaitISR("t", 0, 3)
			write()
			t.Logf("%s: leader %d was %d", f.name, c.Leader("t", 0), leader)
		}
		if got := values(t, c, len(want)); !slices.Equal(got, want) {
			t.Errorf("the topic holds %v, want %v", got, want)
		}
	})
}
