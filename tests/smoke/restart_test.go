package smoke_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/broker/brokertest"
)

// TestRestart stops a broker cleanly and starts another on its directory:
// topics, configs, records and committed offsets are there, and a producer goes
// on with its sequence.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	produce := func(cl *kgo.Client, from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "orders", Partition: 0, Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	consume := func(cl *kgo.Client, n int) []string {
		t.Helper()
		var got []string
		for len(got) < n {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatal(err)
			}
			fs.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		}
		return got
	}
	group := func(addr string) *kgo.Client {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.DisableAutoCommit(),
			// A fetch may be under way without the partition whose commit is still being looked up.
			kgo.FetchMaxWait(250*time.Millisecond), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}

	first := brokertest.Start(t, brokertest.Options{Dir: dir})
	cl, err := kgo.NewClient(kgo.SeedBrokers(first.Bootstrap()))
	if err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(cl)
	retention := "12345678"
	if r, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, "orders"); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	before, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	produce(cl, 0, 10)
	g := group(first.Bootstrap())
	consume(g, 10)
	if err := g.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	g.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cl.Close()

	second := brokertest.Start(t, brokertest.Options{Dir: dir})
	cl, err = kgo.NewClient(kgo.SeedBrokers(second.Bootstrap()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm = kadm.NewClient(cl)
	after, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if before["orders"].ID != after["orders"].ID || len(after["orders"].Partitions) != 3 {
		t.Errorf("topic %v after the restart, %v before", after["orders"], before["orders"])
	}
	if first.ClusterID() != second.ClusterID() {
		t.Errorf("cluster id %s, was %s", second.ClusterID(), first.ClusterID())
	}
	configs, err := adm.DescribeTopicConfigs(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	rc, err := configs.On("orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range rc.Configs {
		if c.Key == "retention.ms" {
			found = c.MaybeValue() == retention && c.Source.String() == "DYNAMIC_TOPIC_CONFIG"
		}
	}
	if !found {
		t.Error("retention.ms did not survive the restart")
	}
	produce(cl, 10, 15)
	g = group(second.Bootstrap())
	defer g.Close()
	if got := consume(g, 5); len(got) != 5 || got[0] != "10" || got[4] != "14" {
		t.Errorf("resumed with %v, want 10 to 14", got)
	}
}
