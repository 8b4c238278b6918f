package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/systems"
)

// writers produce to every partition of a topic, a record a millisecond each, and
// note when each is acknowledged.
type writers struct {
	stop    context.CancelFunc
	wg      sync.WaitGroup
	client  *kgo.Client
	failed  atomic.Int64
	once    sync.Once                // tells of the first error
	acked   [partitions]atomic.Int64 // when a record was last acknowledged, as UnixNano
	sent    [partitions]atomic.Int64 // when that record was sent
	longest [partitions]atomic.Int64 // the longest time without an acknowledgement
}

func startWriters(ctx context.Context, c *systems.Cluster, topic string) (*writers, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Seeds()...), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(10*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &writers{stop: stop, client: cl}
	value := make([]byte, 1000)
	for p := range w.acked {
		w.wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				sent := time.Now().UnixNano()
				cl.Produce(context.Background(), &kgo.Record{Partition: int32(p), Value: value}, func(_ *kgo.Record, err error) {
					if err != nil {
						w.failed.Add(1)
						w.once.Do(func() { fmt.Fprintln(os.Stderr, "a record failed:", err) })
						return
					}
					now := time.Now().UnixNano()
					if last := w.acked[p].Swap(now); last > 0 && now-last > w.longest[p].Load() {
						w.longest[p].Store(now - last)
					}
					w.sent[p].Store(sent)
				})
				<-tick.C
			}
		})
	}
	for p := range w.acked { // a client that has no producer id yet gives up easily
		if _, err := w.awaitAfter(ctx, int32(p), time.Time{}); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *writers) end(ctx context.Context) error {
	w.stop()
	w.wg.Wait()
	err := w.client.Flush(ctx)
	w.client.Close()
	return err
}

// awaitAfter waits until a record of partition p is acknowledged that was sent after
// an instant, and returns when that was.
func (w *writers) awaitAfter(ctx context.Context, p int32, after time.Time) (time.Time, error) {
	for w.sent[p].Load() <= max(after.UnixNano(), 0) {
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return time.Unix(0, w.acked[p].Load()), nil
}

// underLoad starts a cluster of its own with a topic that is written to.
func underLoad(ctx context.Context, o options, name, what string) (c *systems.Cluster, w *writers, adm *kadm.Client, end func(), err error) {
	dir := filepath.Join(o.dir, "cluster-"+what)
	if c, err = startCluster(name, dir); err != nil {
		return nil, nil, nil, nil, err
	}
	end = func() {
		c.Kill()
		os.RemoveAll(dir)
	}
	if err = makeReplicated(ctx, c, "load", partitions); err == nil {
		w, err = startWriters(ctx, c, "load")
	}
	if err != nil {
		end()
		return nil, nil, nil, nil, err
	}
	return c, w, kadm.NewClient(w.client), end, nil
}

// clusterKill kills a leader again and again, every second time one that is the active
// controller too, and measures until a record is acknowledged that was sent after the
// kill. The broker is started again, and is in sync before the next.
func clusterKill(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	kills := o.kills
	if name == jvms {
		kills = max(2, kills/10)
	}
	c, w, adm, end, err := underLoad(ctx, o, name, "kill")
	if err != nil {
		return nil, err
	}
	defer end()
	own, err := client.NewAdmin(client.AdminOptions{Options: client.Options{BootstrapServers: c.Seeds()}})
	if err != nil {
		return nil, err
	}
	defer own.Close()
	var gaps, ofController []float64
	for i := range kills {
		if err := until(ctx, adm, inSync); err != nil {
			return nil, err
		}
		m, err := adm.Metadata(ctx, "load")
		if err != nil {
			return nil, err
		}
		q, err := own.DescribeQuorum(ctx)
		if err != nil {
			return nil, err
		}
		partition, victim := int32(0), int32(-1)
		for _, p := range m.Topics["load"].Partitions {
			if (p.Leader == q.Leader) == (i%2 == 1) {
				partition, victim = p.Partition, p.Leader
			}
		}
		if victim < 0 { // nobody is both, or nobody is not
			victim = m.Topics["load"].Partitions[partition].Leader
		}
		begin := time.Now()
		c.KillNode(int(victim) - 1)
		at, err := w.awaitAfter(ctx, partition, begin)
		if err != nil {
			return nil, err
		}
		gap := at.Sub(begin).Seconds() * 1000
		if gaps = append(gaps, gap); victim == q.Leader {
			ofController = append(ofController, gap)
		}
		if err := c.Start(int(victim) - 1); err != nil {
			return nil, err
		}
	}
	if err := w.end(ctx); err != nil {
		return nil, err
	}
	return map[string]float64{"kills": float64(len(gaps)), "of the active controller": float64(len(ofController)), "p50 ms": quantile(gaps, 0.5), "p99 ms": quantile(gaps, 0.99),
		"longest ms": quantile(gaps, 1), "longest, controller, ms": quantile(ofController, 1), "failed records": float64(w.failed.Load())}, nil
}

// inSync reports whether a partition that is written to has all its replicas.
func inSync(p kadm.PartitionDetail) bool {
	return p.Topic != "load" || p.Leader >= 0 && len(p.ISR) == 3
}

// clusterRolling stops and starts every broker in turn, and tells of the longest time
// for which a partition had no acknowledgement.
func clusterRolling(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	c, w, adm, end, err := underLoad(ctx, o, name, "rolling")
	if err != nil {
		return nil, err
	}
	defer end()
	for i := range c.Nodes {
		if err := until(ctx, adm, inSync); err != nil {
			return nil, err
		}
		if err := c.StopNode(i); err != nil && name != jvms {
			return nil, fmt.Errorf("stop: %w", err)
		}
		if err := c.Start(i); err != nil {
			return nil, err
		}
	}
	if err := w.end(ctx); err != nil {
		return nil, err
	}
	longest := int64(0)
	for p := range w.longest {
		longest = max(longest, w.longest[p].Load())
	}
	return map[string]float64{"longest gap ms": float64(longest) / 1e6, "failed records": float64(w.failed.Load())}, nil
}
