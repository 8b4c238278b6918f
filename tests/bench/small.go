package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
)

// fetchOne fetches single records from the end of a log, each with a request of
// its own, as many consumers at the tail do.
func fetchOne(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
	const t, n, readers, records = "tail", 20_000, 8, 200
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.DefaultProduceTopic(t), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if round == 0 {
		if r, err := adm.CreateTopic(ctx, 1, 1, nil, t); err != nil || r.Err != nil {
			return nil, fmt.Errorf("%w, %w", err, r.Err)
		}
		for range records { // batches of one record
			if err := cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 1000)}).FirstErr(); err != nil {
				return nil, err
			}
		}
	}
	topics, err := adm.ListTopics(ctx, t)
	if err != nil {
		return nil, err
	}
	nodes := make([]*kgo.Broker, readers)
	for i := range nodes {
		own, err := kgo.NewClient(kgo.SeedBrokers(p.Addr))
		if err != nil {
			return nil, err
		}
		defer own.Close()
		brokers, err := kadm.NewClient(own).ListBrokers(ctx)
		if err != nil {
			return nil, err
		}
		nodes[i] = own.Broker(int(brokers.NodeIDs()[0]))
	}
	var took time.Duration
	user, system, err := used(p, func() error {
		begin := time.Now()
		errs := make(chan error, readers)
		for _, node := range nodes {
			go func() {
				for i := range n / readers {
					if err := fetchAt(ctx, node, t, topics[t].ID, int64(i%records)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range nodes {
			if err := <-errs; err != nil {
				return err
			}
		}
		took = time.Since(begin)
		return nil
	})
	return map[string]float64{"CPU us/request": float64((user + system).Microseconds()) / n, "requests/s": n / took.Seconds()}, err
}

// fetchAt fetches the one batch at an offset.
func fetchAt(ctx context.Context, node *kgo.Broker, topic string, id kadm.TopicID, offset int64) error {
	req := kmsg.NewFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 100, 1, 1, -1
	t, p := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = offset, 1, -1
	t.Topic, t.TopicID, t.Partitions = topic, id, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := node.Request(ctx, &req)
	if err != nil {
		return err
	}
	r := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return err
	}
	got := r.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(got.ErrorCode); err != nil {
		return err
	}
	if len(got.RecordBatches) < 1000 {
		return fmt.Errorf("fetched %d bytes at offset %d", len(got.RecordBatches), offset)
	}
	return nil
}

// manyPartitions makes 5,000 partitions and writes a record to each.
func manyPartitions(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	const n = 5000
	p, err := start(name, filepath.Join(o.dir, "many-"+name))
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.DefaultProduceTopic("many"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	begin := time.Now()
	r, err := kadm.NewClient(cl).CreateTopic(ctx, n, 1, nil, "many")
	if err == nil {
		err = r.Err
	}
	if err != nil {
		return nil, err
	}
	created := time.Since(begin)
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Partition: int32(i), Value: []byte("x")}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	rss, err := p.RSS()
	return map[string]float64{"created s": created.Seconds(), "created and written s": time.Since(begin).Seconds(), "RSS MB": float64(rss) / 1e6}, err
}
