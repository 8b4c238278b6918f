package brokertest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
)

// three starts three brokers and makes a topic with one partition on all of them.
func three(t *testing.T, o brokertest.Options) *brokertest.Cluster {
	t.Helper()
	o.Brokers = 3
	c := brokertest.Start(t, o)
	a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := a.CreateTopics(t.Context(), []client.NewTopic{{Name: "t", Partitions: 1}}, false); err != nil || got["t"] != nil {
		t.Fatal(got, err)
	}
	c.WaitISR("t", 0, 3)
	return c
}

// values are what a topic holds for a consumer.
func values(t *testing.T, c *brokertest.Cluster, n int) []string {
	t.Helper()
	m := member(t, c, fmt.Sprint("reader-", time.Now().UnixNano()), "t")
	return poll(t, m, n)
}

// What was acknowledged survives the death of the leader, and the next record is taken by
// another one.
func TestKilledLeaderIsReplaced(t *testing.T) {
	for _, o := range []brokertest.Options{{}, {InMemoryNetwork: true}} {
		t.Run(fmt.Sprintf("%+v", o.InMemoryNetwork), func(t *testing.T) {
			c := three(t, o)
			p := producer(t, c)
			for i := range 10 {
				send(t, p, "t", fmt.Sprint(i))
			}
			leader := c.WaitLeader("t", 0)
			began := time.Now()
			c.Broker(leader).Kill(brokertest.LoseUnsynced)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := p.Send(ctx, &client.Record{Topic: "t", Value: []byte("10")}).Get(ctx); err != nil {
				t.Fatalf("after the death of broker %d: %v", leader, err)
			}
			t.Logf("broker %d died, and broker %d took a record after %v", leader, c.Leader("t", 0), time.Since(began))
			if got := strings.Join(values(t, c, 11), " "); got != "0 1 2 3 4 5 6 7 8 9 10" {
				t.Errorf("the topic holds %s", got)
			}
			c.Broker(leader).Restart()
			c.WaitISR("t", 0, 3)
			send(t, p, "t", "11")
		})
	}
}
