package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

func measurements() []measurement {
	return append([]measurement{
		{name: "start: exec to first acknowledged produce", run: startUp, fresh: true},
		{name: "bare loops, 1 MB at a time", run: bare, fresh: true, instead: []string{"bare"}},
		{name: "produce 1 MB batches of 100 B records", run: produce(100, 1<<20), bare: true},
		{name: "produce 1 MB batches of 1 KB records", run: produce(1000, 1<<20), bare: true},
		{name: "produce 1 MB batches of 10 KB records", run: produce(10_000, 1<<20), bare: true},
		{name: "produce 16 KB batches of 1 KB records", run: produce(1000, 16<<10), bare: true},
		{name: "produce batches of one record", run: produceOne},
		{name: "fetch 1 KB records", run: fetch},
		{name: "fetch one 1 KB record a request", run: fetchOne},
		{name: "low load, 1,000 records/s of 1 KB", run: lowLoad},
		{name: "create a topic until usable", run: createTopic},
		{name: "5,000 idle connections", run: idleConnections, fresh: true, most: 3},
		{name: "5,000 partitions, one record each", run: manyPartitions, fresh: true, most: 1},
	}, append(cluster(), storage()...)...)
}

const partitions = 6

// system is what is measured: a broker, or a cluster of them.
type system interface {
	Seeds() []string
	CPU() (user, system time.Duration, err error)
	RSS() (int64, error)
}

// topic makes a topic with six partitions.
func topic(ctx context.Context, p system, name string) error {
	return replicated(ctx, p, name, partitions, 1)
}

func replicated(ctx context.Context, p system, name string, partitions int32, replicas int16) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Seeds()...))
	if err != nil {
		return err
	}
	defer cl.Close()
	r, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, replicas, nil, name)
	if err == nil {
		err = r.Err
	}
	return err
}

func warm(ctx context.Context, p *systems.Process, bytes int64) error {
	if err := topic(ctx, p, "warm"); err != nil {
		return err
	}
	_, err := load(ctx, p, "warm", 1000, 1<<20, bytes)
	return err
}

// load produces bytes of values and returns how long it took.
func load(ctx context.Context, p system, topic string, size, batch int, bytes int64) (time.Duration, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Seeds()...), kgo.ProducerBatchMaxBytes(int32(batch)), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(1<<30), kgo.MaxBufferedBytes(64<<20), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i * 7)
	}
	var failed atomic.Pointer[error]
	n := bytes / int64(size)
	begin := time.Now()
	records := make([]kgo.Record, 4096)
	for at := int64(0); at < n; {
		for i := range records {
			if at == n {
				break
			}
			r := &records[i]
			*r = kgo.Record{Value: value}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			})
			at++
		}
		records = make([]kgo.Record, 4096)
	}
	if err := cl.Flush(ctx); err != nil {
		return 0, err
	}
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return time.Since(begin), nil
}

// used measures the CPU that the broker uses while f runs.
func used(p system, f func() error) (user, system time.Duration, err error) {
	u0, s0, err := p.CPU()
	if err != nil {
		return 0, 0, err
	}
	if err := f(); err != nil {
		return 0, 0, err
	}
	u1, s1, err := p.CPU()
	return u1 - u0, s1 - s0, err
}

func produce(size, batch int) func(context.Context, options, string, *systems.Process, int) (map[string]float64, error) {
	return func(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
		t := fmt.Sprintf("produce-%d-%d", size, batch)
		if round == 0 {
			if err := topic(ctx, p, t); err != nil {
				return nil, err
			}
		}
		bytes := o.bytes
		if batch < 1<<20 {
			bytes /= 4
		}
		return produced(ctx, p, t, size, batch, bytes)
	}
}

// produced measures a load.
func produced(ctx context.Context, p system, t string, size, batch int, bytes int64) (map[string]float64, error) {
	var took time.Duration
	user, system, err := used(p, func() (err error) {
		took, err = load(ctx, p, t, size, batch, bytes)
		return err
	})
	if err != nil {
		return nil, err
	}
	rss, err := p.RSS()
	gb := float64(bytes) / 1e9
	return map[string]float64{"CPU s/GB": (user + system).Seconds() / gb, "user s/GB": user.Seconds() / gb, "system s/GB": system.Seconds() / gb,
		"MB/s": float64(bytes) / 1e6 / took.Seconds(), "RSS MB": float64(rss) / 1e6}, err
}

// produceOne produces single records, each in a request of its own.
func produceOne(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
	const t = "one"
	if round == 0 {
		if err := topic(ctx, p, t); err != nil {
			return nil, err
		}
	}
	return produceSync(ctx, p, t, 8, 20_000)
}

// produceSync has writers produce n records of 100 B together, each a record at a
// time, with a client of its own.
func produceSync(ctx context.Context, p *systems.Process, t string, writers, n int) (map[string]float64, error) {
	clients := make([]*kgo.Client, writers)
	for i := range clients {
		cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.ProducerLinger(0), kgo.DefaultProduceTopic(t), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			return nil, err
		}
		defer cl.Close()
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 100)}).FirstErr(); err != nil {
			return nil, err
		}
		clients[i] = cl
	}
	var took time.Duration
	user, system, err := used(p, func() error {
		begin := time.Now()
		errs := make(chan error, writers)
		for _, cl := range clients {
			go func() {
				for range n / writers {
					if err := cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 100)}).FirstErr(); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
		for range clients {
			if err := <-errs; err != nil {
				return err
			}
		}
		took = time.Since(begin)
		return nil
	})
	return map[string]float64{"CPU us/request": float64((user + system).Microseconds()) / float64(n), "requests/s": float64(n) / took.Seconds()}, err
}

// fetch reads the 1 KB records that produce wrote.
func fetch(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
	t := fmt.Sprintf("produce-%d-%d", 1000, 1<<20)
	if round == 0 && topic(ctx, p, t) == nil { // produce was not measured before
		if _, err := load(ctx, p, t, 1000, 1<<20, o.bytes); err != nil {
			return nil, err
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.ConsumeTopics(t), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	want := o.bytes / 1000 * 1000 * 9 / 10
	var got int64
	var took time.Duration
	user, system, err := used(p, func() error {
		begin := time.Now()
		for got < want {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				return err
			}
			fs.EachRecord(func(r *kgo.Record) { got += int64(len(r.Value)) })
		}
		took = time.Since(begin)
		return nil
	})
	gb := float64(got) / 1e9
	return map[string]float64{"CPU s/GB": (user + system).Seconds() / gb, "user s/GB": user.Seconds() / gb, "system s/GB": system.Seconds() / gb, "MB/s": float64(got) / 1e6 / took.Seconds()}, err
}

// lowLoad produces at a fixed rate and consumes at the same time.
func lowLoad(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
	if round == 0 {
		if err := topic(ctx, p, "low"); err != nil {
			return nil, err
		}
	}
	return paced(ctx, p, "low")
}

// paced measures 1,000 records a second to a topic, which is consumed meanwhile.
func paced(ctx context.Context, p system, t string) (map[string]float64, error) {
	const rate, seconds = 1000, 5
	consumer, err := kgo.NewClient(kgo.SeedBrokers(p.Seeds()...), kgo.ConsumeTopics(t), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for reading.Err() == nil {
			consumer.PollFetches(reading)
		}
	}()
	producer, err := kgo.NewClient(kgo.SeedBrokers(p.Seeds()...), kgo.DefaultProduceTopic(t), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	value := make([]byte, 1000)
	for range 100 {
		if err := producer.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
			return nil, err
		}
	}
	latencies := make([]float64, 0, rate*seconds)
	done := make(chan float64, rate*seconds)
	user, system, err := used(p, func() error {
		begin := time.Now()
		for i := range rate * seconds {
			due := begin.Add(time.Duration(i) * time.Second / rate)
			if d := time.Until(due); d > 0 {
				time.Sleep(d)
			}
			sent := time.Now()
			producer.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
				if err != nil {
					panic(err)
				}
				done <- float64(time.Since(sent).Microseconds()) / 1000
			})
		}
		for range rate * seconds {
			latencies = append(latencies, <-done)
		}
		return nil
	})
	slices.Sort(latencies)
	at := func(q float64) float64 { return latencies[int(q*float64(len(latencies)-1))] }
	return map[string]float64{"CPU us/record": float64((user + system).Microseconds()) / float64(len(latencies)), "ack p50 ms": at(0.5), "ack p99 ms": at(0.99), "ack p99.9 ms": at(0.999)}, err
}

// produceTo writes one record to a new topic, again until its leader takes it.
func produceTo(ctx context.Context, node *kgo.Broker, topic string, id kadm.TopicID) error {
	b := record.NewBuilder(record.None, 0)
	b.Append(time.Now().UnixMilli(), nil, []byte("x"), nil)
	batch, err := b.Finish(record.NoProducer)
	if err != nil {
		return err
	}
	req := kmsg.NewProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Topic, t.TopicID, t.Partitions = topic, id, append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	for {
		r, err := node.Request(ctx, &req)
		if err != nil {
			return err
		}
		err = kerr.ErrorForCode(r.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
		if err == nil || !kerr.IsRetriable(err) {
			return err
		}
	}
}

var created atomic.Int64

// createTopic makes topics and writes a record to each.
func createTopic(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	brokers, err := adm.ListBrokers(ctx)
	if err != nil {
		return nil, err
	}
	node := cl.Broker(int(brokers.NodeIDs()[0]))
	var answered, usable []float64
	for range 20 {
		t := fmt.Sprintf("created-%s-%d", name, created.Add(1))
		begin := time.Now()
		r, err := adm.CreateTopic(ctx, 1, 1, nil, t)
		if err == nil {
			err = r.Err
		}
		if err != nil {
			return nil, err
		}
		answered = append(answered, float64(time.Since(begin).Microseconds())/1000)
		// The client would wait for fresh metadata: the leader is asked directly.
		if err := produceTo(ctx, node, t, r.ID); err != nil {
			return nil, err
		}
		usable = append(usable, float64(time.Since(begin).Microseconds())/1000)
	}
	return map[string]float64{"answered p50 ms": median(answered), "usable p50 ms": median(usable)}, nil
}

// startUp starts a broker on an empty disk and produces as soon as it answers.
func startUp(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	p, err := start(name, filepath.Join(o.dir, fmt.Sprintf("start-%s-%d", name, round)))
	if err != nil {
		return nil, err
	}
	stopped := false
	defer func() {
		if !stopped {
			p.Kill()
		}
	}()
	ready := time.Since(p.Started)
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(10*time.Millisecond), kgo.ProducerLinger(0),
		kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "first", Value: []byte("x")}).FirstErr(); err != nil {
		return nil, err
	}
	first := time.Since(p.Started)
	time.Sleep(time.Second) // let it come to rest
	rss, err := p.RSS()
	if err != nil {
		return nil, err
	}
	u0, s0, _ := p.CPU()
	time.Sleep(2 * time.Second)
	u1, s1, err := p.CPU()
	begin := time.Now()
	stopped = true
	if err := p.Stop(); err != nil && name != "jvm" && name != "kfake" {
		return nil, err
	}
	return map[string]float64{"ready ms": ready.Seconds() * 1000, "first ack ms": first.Seconds() * 1000, "idle RSS MB": float64(rss) / 1e6,
		"idle CPU %": ((u1 - u0) + (s1 - s0)).Seconds() / 2 * 100, "stop ms": time.Since(begin).Seconds() * 1000}, err
}
