package brokertest_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
)

// A replica that is added to a throttled partition is filled at the rate that is set, at the leader
// or at the follower, while one that is in sync is not held back (KIP-73).
func TestThrottledReplicasAreFilledSlowly(t *testing.T) {
	const (
		rate  = 100_000        // bytes per second
		burst = rate + 100_000 // in the first second, and what exceeds it
		size  = 10_000
		total = 30 * rate
	)
	for _, where := range []string{"leader", "follower"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := brokertest.Start(t, brokertest.Options{Brokers: 3, InMemoryNetwork: true, Config: map[string]string{"replica.fetch.max.bytes": "50000"}})
				a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				set := func(of client.Resource, name, value string) {
					t.Helper()
					if err := a.AlterConfigs(t.Context(), map[client.Resource][]client.ConfigOp{of: {{Name: name, Op: client.SetConfig, Value: value}}}, false); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := a.CreateTopics(t.Context(), []client.NewTopic{{Name: "t", Assignment: map[int32][]int32{0: {1, 2}}}}, false); err != nil || got["t"] != nil {
					t.Fatal(got, err)
				}
				c.WaitISR("t", 0, 2)
				set(client.Resource{Type: client.TopicResource, Name: "t"}, where+".replication.throttled.replicas", "*")
				set(client.Resource{Type: client.BrokerResource}, where+".replication.throttled.rate", "100000")
				p := producer(t, c)
				begun := time.Now()
				for range total / size {
					send(t, p, "t", strings.Repeat("x", size))
				}
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("the follower in sync was held back: %d bytes took %v", total, took)
				}
				begun = time.Now()
				if got, err := a.AlterPartitionReassignments(t.Context(), map[client.TopicPartition][]int32{{Topic: "t"}: {1, 2, 3}}, false); err != nil || got[client.TopicPartition{Topic: "t"}] != nil {
					t.Fatal(got, err)
				}
				c.WaitISR("t", 0, 3)
				least, most := time.Duration(total-2*burst)*time.Second/rate, time.Duration(2*total)*time.Second/rate
				if took := time.Since(begun); took < least || took > most {
					t.Errorf("a replica of %d bytes was filled at %d bytes per second in %v, want %v to %v", total, rate, took, least, most)
				}
			})
		})
	}
}
