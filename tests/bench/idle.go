package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

const (
	idleFiles  = 1024 // ulimit -n
	idleTopics = 10
)

// idlePartitions writes a record to each of many partitions, stops and starts the
// broker, writes another, and kills it: memory, and how long each takes, with
// far fewer files open than there are.
func idlePartitions(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	dir := filepath.Join(o.storageDir(), "idle")
	n := o.many / idleTopics * idleTopics
	figures := make(map[string]float64)
	p, err := systems.KlammLimited(dir, idleFiles)
	if err != nil {
		return nil, err
	}
	defer func() { p.Kill() }()
	before, err := p.RSS()
	if err != nil {
		return nil, err
	}
	growth := func(when string) error {
		rss, err := p.RSS()
		figures["RSS MB "+when] = float64(rss) / 1e6
		figures["RSS KB/partition "+when] = float64(rss-before) / 1024 / float64(n)
		return err
	}
	begin := time.Now()
	for i := range idleTopics {
		if err := makeTopic(ctx, p, idleTopic(i), int32(n/idleTopics), nil); err != nil {
			return nil, err
		}
	}
	figures["created s"] = time.Since(begin).Seconds()
	begin = time.Now()
	if err := writeEach(ctx, p, n); err != nil {
		return nil, err
	}
	figures["written s"] = time.Since(begin).Seconds()
	if err := growth("written"); err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := p.Stop(); err != nil {
		return nil, fmt.Errorf("stop: %w: %s", err, p.Output())
	}
	figures["stop s"] = time.Since(begin).Seconds()

	if p, err = systems.KlammLimited(dir, idleFiles); err != nil {
		return nil, fmt.Errorf("start after a clean stop: %w", err)
	}
	figures["clean start ms"] = time.Since(p.Started).Seconds() * 1000
	if err := idle(p, figures); err != nil {
		return nil, err
	}
	if err := growth("restarted"); err != nil {
		return nil, err
	}
	if err := writeEach(ctx, p, n); err != nil {
		return nil, err
	}
	p.Kill()
	if p, err = systems.KlammLimited(dir, idleFiles); err != nil {
		return nil, fmt.Errorf("start after kill -9: %w", err)
	}
	figures["unclean start ms"] = time.Since(p.Started).Seconds() * 1000
	return figures, twoEach(ctx, p, n)
}

func idleTopic(i int) string { return fmt.Sprint("idle-", i) }

// writeEach writes a record to every one of n partitions.
func writeEach(ctx context.Context, p *systems.Process, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProduceRequestTimeout(time.Minute), kgo.RequestTimeoutOverhead(time.Minute)) // thousands of files are made
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: idleTopic(i % idleTopics), Partition: int32(i / idleTopics), Value: []byte("x")}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("write to each of %d partitions: %w", n, err)
	}
	return nil
}

// twoEach checks that every partition is there and has two records.
func twoEach(ctx context.Context, p *systems.Process, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	var topics []string
	for i := range idleTopics {
		topics = append(topics, idleTopic(i))
	}
	offsets, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	found := 0
	offsets.Each(func(o kadm.ListedOffset) {
		if o.Err != nil || o.Offset != 2 {
			err = fmt.Errorf("%s-%d ends at offset %d, want 2: %w", o.Topic, o.Partition, o.Offset, o.Err)
		}
		found++
	})
	if err == nil && found != n {
		err = fmt.Errorf("%d partitions after an unclean start, want %d", found, n)
	}
	return err
}

// idle measures a broker that nobody uses.
func idle(p *systems.Process, figures map[string]float64) error {
	time.Sleep(time.Second) // let it come to rest
	u0, s0, err := p.CPU()
	if err != nil {
		return err
	}
	const seconds = 5
	time.Sleep(seconds * time.Second)
	u1, s1, err := p.CPU()
	if err != nil {
		return err
	}
	figures["idle CPU %"] = ((u1 - u0) + (s1 - s0)).Seconds() / seconds * 100
	threads, err := p.Threads()
	if err != nil {
		return err
	}
	files, err := p.Descriptors()
	figures["threads"], figures["descriptors"] = float64(threads), float64(files)
	return err
}
