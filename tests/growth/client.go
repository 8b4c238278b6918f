package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafka "github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// sends prepares n records in a producer of a scripted cluster, and runs it until
// each has its outcome, which must be wanted or, if that is nil, none.
func sends(partitions func(n int) int, o kafka.ProducerOptions, script func(s *scripted, broker int32, req *msg.ProduceRequest) *msg.ProduceResponse, wanted error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		count := partitions(n)
		s, err := newScripted(w, 1, count)
		if err != nil {
			return nil, err
		}
		s.produce = script
		o := o
		if o.Linger == 0 {
			o.Linger = 50 * time.Millisecond
		}
		p, err := s.producer(o)
		if err != nil {
			return nil, err
		}
		w.cleanup = append(w.cleanup, func() { p.Close(over()) })
		return func() error {
			var fs []*kafka.Future
			for i := range n {
				fs = append(fs, p.Send(context.Background(), &kafka.Record{Topic: s.topics[0], Partition: int32(i % count), Explicit: true, Value: []byte("value")}))
			}
			for i, f := range fs {
				_, err := f.Get(context.Background())
				// Time for the delivery may be over when the last request is: its error is the record's then.
				late := wanted == kafka.ErrDeliveryTimeout && errors.Is(err, kerr.NetworkException)
				if !errors.Is(err, wanted) && !late {
					return fmt.Errorf("record %d: %w, want %v", i, err, wanted)
				}
				if err != nil && len(err.Error()) > 300 {
					return fmt.Errorf("the error of record %d takes %d bytes", i, len(err.Error()))
				}
			}
			return nil
		}, nil
	}
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func oneOnly(int) int  { return 1 }
func asMany(n int) int { return n }

// refuseEach answers that every record of a batch is at fault.
func refuseEach(s *scripted, _ int32, r *msg.ProduceRequest) *msg.ProduceResponse {
	resp := answerEach(r, kerr.InvalidRecord)
	reason := "a compacted topic takes no record without a key"
	for i, d := range r.TopicData[0].PartitionData {
		p := &resp.Responses[0].PartitionResponses[i]
		for k := range record.Batch(d.Records.B).Count() {
			p.RecordErrors = append(p.RecordErrors, msg.ProduceResponseBatchIndexAndErrorMessage{BatchIndex: k, BatchIndexErrorMessage: &reason})
		}
	}
	return resp
}

// reversed acknowledges, and answers the last partition first.
func reversed(_ *scripted, _ int32, r *msg.ProduceRequest) *msg.ProduceResponse {
	resp := answerEach(r, kerr.None)
	slices.Reverse(resp.Responses[0].PartitionResponses)
	return resp
}

// moves makes the second broker the leader when the first is asked.
func moves(s *scripted, broker int32, r *msg.ProduceRequest) *msg.ProduceResponse {
	s.leader = 2
	if broker != s.leader {
		return answerEach(r, kerr.NotLeaderOrFollower)
	}
	return answerEach(r, kerr.None)
}

// silent never answers.
func silent(*scripted, int32, *msg.ProduceRequest) *msg.ProduceResponse { return nil }

// leads prepares a member that leads a group, and runs it until it has assigned.
func leads(assignor kafka.Assignor, sizes func(n int) (members, topics int)) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		members, topics := sizes(n)
		s, err := newScripted(w, topics, 5)
		if err != nil {
			return nil, err
		}
		s.members = members
		c, err := kafka.NewConsumer(kafka.ConsumerOptions{Options: s.options(), Group: "g", Assignors: []kafka.Assignor{assignor}})
		if err != nil {
			return nil, err
		}
		w.cleanup = append(w.cleanup, func() { c.Close(over()) })
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c.Subscribe(s.topics...)
			go c.Poll(ctx)
			select {
			case <-s.synced:
				return nil
			case <-ctx.Done():
				return errors.New("no SyncGroup came")
			}
		}, nil
	}
}

// polls prepares n partitions with a record each, and runs a consumer that reads
// them all.
func polls(w *world, n int) (func() error, error) {
	if err := w.create(1, n); err != nil {
		return nil, err
	}
	if err := w.produced(produce(w.topics[0], n, batch(record.None, record.NoProducer, 1))); err != nil {
		return nil, err
	}
	return func() error {
		c, err := kafka.NewConsumer(kafka.ConsumerOptions{Options: kafka.Options{BootstrapServers: []string{w.b.Addr()}, Dial: w.net.Host("client").Dial}})
		if err != nil {
			return err
		}
		at := make(map[kafka.TopicPartition]kafka.Position)
		for i := range n {
			at[kafka.TopicPartition{Topic: w.topics[0], Partition: int32(i)}] = kafka.AtStart(0)
		}
		c.Assign(at)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for got := 0; got < n; {
			rs, err := c.Poll(ctx)
			if err != nil {
				return fmt.Errorf("after %d of %d records: %w", got, n, err)
			}
			got += len(rs)
		}
		return c.Close(ctx)
	}, nil
}

// clients are the cases of the client: what a broker answers, or how much an
// application gives it, must not cost it more than in proportion either.
var clients = []growth{
	{name: "producer: records of one partition", n: 5000, prepare: sends(oneOnly, kafka.ProducerOptions{}, nil, nil)},
	{name: "producer: records of as many partitions", n: 1000, prepare: sends(asMany, kafka.ProducerOptions{}, nil, nil)},
	{name: "producer: records that are refused one by one", n: 2000, prepare: sends(oneOnly, kafka.ProducerOptions{BatchSize: 1 << 20}, refuseEach, kerr.InvalidRecord)},
	{name: "producer: an answer in another order", n: 1000, prepare: sends(asMany, kafka.ProducerOptions{}, reversed, nil)},
	{name: "producer: partitions that change their leader", n: 1000, prepare: sends(asMany, kafka.ProducerOptions{}, moves, nil)},
	{name: "producer: batches that expire", n: 2000, prepare: sends(oneOnly, kafka.ProducerOptions{BatchSize: 1, DeliveryTimeout: 500 * time.Millisecond,
		Options: kafka.Options{RequestTimeout: 200 * time.Millisecond}}, silent, kafka.ErrDeliveryTimeout)},
	{name: "consumer: partitions to read", n: 500, prepare: polls},
	{name: "group leader, range: members", n: 200, prepare: leads(kafka.Range, func(n int) (int, int) { return n, 10 })},
	{name: "group leader, range: topics", n: 200, prepare: leads(kafka.Range, func(n int) (int, int) { return 10, n })},
	{name: "group leader, sticky: members", n: 200, prepare: leads(kafka.Sticky, func(n int) (int, int) { return n, 10 })},
	{name: "group leader, sticky: topics", n: 200, prepare: leads(kafka.Sticky, func(n int) (int, int) { return 10, n })},
}
