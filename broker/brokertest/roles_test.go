package brokertest_test

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
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
