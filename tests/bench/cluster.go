package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

// The systems of the measurements of clusters: three brokers each.
const (
	together = "klamm"    // in one process
	apart    = "klamm x3" // a process each
	jvms     = "jvm"
	loops    = "bare" // a loop that receives, writes and forwards the same bytes to two that write them
)

// cluster lists the measurements of three brokers, with three replicas of each
// partition and two that must be in sync.
func cluster() []measurement {
	all := []string{together, jvms, apart}
	return []measurement{
		{name: "cluster: start to first acknowledged and consumed record", run: clusterStart, fresh: true, instead: []string{together, jvms}},
		{name: "cluster: produce 1 MB batches of 1 KB records", run: clusterProduce(1 << 20), fresh: true, instead: []string{together, jvms, apart, loops}},
		{name: "cluster: produce 16 KB batches of 1 KB records", run: clusterProduce(16 << 10), fresh: true, instead: all},
		{name: "cluster: low load, 1,000 records/s of 1 KB", run: clusterLow, fresh: true, instead: all},
		{name: "cluster: kill -9 of a leader", run: clusterKill, fresh: true, most: 1, instead: []string{apart, jvms}},
		{name: "cluster: rolling restart", run: clusterRolling, fresh: true, most: 1, instead: []string{apart, jvms}},
		{name: "cluster: 1,000 topics of 10 partitions", run: clusterTopics, fresh: true, most: 1, instead: []string{apart}},
	}
}

// startCluster starts three brokers with their data in dir.
func startCluster(name, dir string) (*systems.Cluster, error) {
	switch name {
	case together:
		return systems.KlammTogether(dir, 3, "group.initial.rebalance.delay.ms=0")
	case apart:
		return systems.KlammCluster(dir, 3, "group.initial.rebalance.delay.ms=0")
	case jvms:
		return systems.JVMCluster(dir, 3, "group.initial.rebalance.delay.ms=0", "share.coordinator.state.topic.replication.factor=3")
	}
	return nil, fmt.Errorf("unknown cluster %q", name)
}

// running returns a cluster that lives as long as the bench.
func running(o options, name string) (*systems.Cluster, error) {
	if c := o.clusters[name]; c != nil {
		return c, nil
	}
	c, err := startCluster(name, filepath.Join(o.dir, "cluster-"+name))
	if err == nil {
		o.clusters[name] = c
	}
	return c, err
}

// makeReplicated makes a topic with three replicas, once all brokers are there.
func makeReplicated(ctx context.Context, c system, name string, partitions int32) error {
	for {
		err := replicated(ctx, c, name, partitions, 3)
		if err == nil || !strings.Contains(err.Error(), "INVALID_REPLICATION_FACTOR") {
			return err
		}
		select { // a broker has not registered yet
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func clusterStart(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	dir := filepath.Join(o.dir, fmt.Sprintf("cluster-start-%s-%d", name, round))
	defer os.RemoveAll(dir)
	c, err := startCluster(name, dir)
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	if err := makeReplicated(ctx, c, "first", 1); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Seeds()...), kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerLinger(0), kgo.ConsumeTopics("first"), kgo.ConsumerGroup("g"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "first", Value: []byte("x")}).FirstErr(); err != nil {
		return nil, err
	}
	acked := time.Since(c.Started)
	for got := 0; got == 0; {
		got = cl.PollFetches(ctx).NumRecords() // errors pass: a group's coordinator may not be there yet
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	consumed := time.Since(c.Started)
	time.Sleep(2 * time.Second) // let it come to rest
	rss, err := c.RSS()
	if err != nil {
		return nil, err
	}
	u0, s0, _ := c.CPU()
	time.Sleep(3 * time.Second)
	u1, s1, err := c.CPU()
	return map[string]float64{"first ack ms": acked.Seconds() * 1000, "first consumed ms": consumed.Seconds() * 1000, "idle RSS MB": float64(rss) / 1e6,
		"idle CPU %": ((u1 - u0) + (s1 - s0)).Seconds() / 3 * 100}, err
}

func clusterProduce(batch int) func(context.Context, options, string, *systems.Process, int) (map[string]float64, error) {
	return func(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
		bytes := o.bytes / 2
		if batch < 1<<20 {
			bytes /= 2
		}
		if name == loops {
			return forwarded(o, bytes)
		}
		c, err := running(o, name)
		if err != nil {
			return nil, err
		}
		topic := fmt.Sprint("load-", batch)
		if round == 0 {
			if err := makeReplicated(ctx, c, topic, partitions); err != nil {
				return nil, err
			}
			if _, err := load(ctx, c, topic, 1000, batch, bytes); err != nil { // warm
				return nil, err
			}
		}
		return produced(ctx, c, topic, 1000, batch, bytes)
	}
}

// forwarded measures the loops.
func forwarded(o options, bytes int64) (map[string]float64, error) {
	dir := filepath.Join(o.dir, "forwarded")
	c := &systems.Cluster{Name: loops}
	defer c.Kill()
	var peers []string
	for i := range 3 {
		home := filepath.Join(dir, fmt.Sprint(i))
		if err := os.MkdirAll(home, 0o755); err != nil {
			return nil, err
		}
		p, err := systems.Self(loops, append([]string{"bare", home}, peers...)...)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, p)
		if i < 2 {
			peers = append(peers, p.Addr)
		}
	}
	total := bytes / bareChunk * bareChunk
	var took time.Duration
	user, system, err := used(c, func() error {
		begin := time.Now()
		err := talkBare(c.Nodes[2].Addr, bareForward, total)
		took = time.Since(begin)
		return err
	})
	gb := float64(total) / 1e9
	return map[string]float64{"CPU s/GB": (user + system).Seconds() / gb, "user s/GB": user.Seconds() / gb, "system s/GB": system.Seconds() / gb, "MB/s": gb * 1000 / took.Seconds()}, err
}

func clusterLow(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	c, err := running(o, name)
	if err != nil {
		return nil, err
	}
	if round == 0 {
		if err := makeReplicated(ctx, c, "low", partitions); err != nil {
			return nil, err
		}
	}
	return paced(ctx, c, "low")
}

// clusterTopics makes 1,000 topics of 10 partitions and kills a broker that leads a
// third of them.
func clusterTopics(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	const topics, each = 1000, 10
	dir := filepath.Join(o.dir, "cluster-topics")
	defer os.RemoveAll(dir)
	c, err := startCluster(name, dir)
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	if err := makeReplicated(ctx, c, "first", 1); err != nil { // all are there
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Seeds()...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	figures := make(map[string]float64)
	begin := time.Now()
	const atOnce = 100
	for i := 0; i < topics; i += atOnce {
		var names []string
		for k := range atOnce {
			names = append(names, fmt.Sprint("many-", i+k))
		}
		r, err := adm.CreateTopics(ctx, each, 3, nil, names...)
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			return nil, err
		}
	}
	figures["created s"] = time.Since(begin).Seconds()
	if err := until(ctx, adm, func(p kadm.PartitionDetail) bool { return p.Leader >= 0 && len(p.ISR) == 3 }); err != nil {
		return nil, err
	}
	figures["all in sync s"] = time.Since(begin).Seconds()
	time.Sleep(3 * time.Second)
	u0, s0, _ := c.CPU()
	time.Sleep(5 * time.Second)
	u1, s1, err := c.CPU()
	if err != nil {
		return nil, err
	}
	figures["idle CPU %"] = ((u1 - u0) + (s1 - s0)).Seconds() / 5 * 100
	rss, err := c.RSS()
	if err != nil {
		return nil, err
	}
	figures["RSS MB, three brokers"] = float64(rss) / 1e6
	begin = time.Now()
	c.KillNode(1)
	err = until(ctx, adm, func(p kadm.PartitionDetail) bool { return p.Leader >= 0 && p.Leader != 2 })
	figures["failover s"] = time.Since(begin).Seconds()
	return figures, err
}

// until waits until ok holds for every partition.
func until(ctx context.Context, adm *kadm.Client, ok func(kadm.PartitionDetail) bool) error {
	for {
		m, err := adm.Metadata(ctx)
		if err == nil {
			waiting := 0
			m.Topics.EachPartition(func(p kadm.PartitionDetail) {
				if !ok(p) {
					waiting++
				}
			})
			if waiting == 0 {
				return nil
			}
		}
		select { // nobody tells
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
