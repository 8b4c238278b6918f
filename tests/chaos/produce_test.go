package chaos_test

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/history"
	"github.com/klamm-io/klamm/wire/kerr"
)

// target is a random partition of the topics that records are sent to.
func (l *load) target(r *random) history.Partition {
	at := l.topics[r.IntN(len(l.topics))]
	return partition(at.name, r.Int32N(at.partitions))
}

// impatient are options of a client that gives a broker up soon.
func impatient(s system) client.Options {
	o := options(s)
	o.RequestTimeout = 5 * time.Second
	return o
}

func event(process int, at history.Partition, v int64, idempotent bool) history.Event {
	return history.Event{Process: process, Kind: history.Send, Idempotent: idempotent,
		Ops: []history.Op{{Topic: at.Topic, Partition: at.Index, Value: v, Offset: -1}}}
}

// produce sends records with klamm's idempotent producer and acks=all, many at once. Now and then
// the producer is dropped with what it has under way, and another takes its place; now and then
// a record is too large, which is refused before it is sent.
func (l *load) produce(ctx context.Context, r *random) {
	for ctx.Err() == nil {
		p, err := client.NewProducer(client.ProducerOptions{Options: impatient(l.s), DeliveryTimeout: 20 * time.Second,
			Linger: time.Duration(r.IntN(3)) * time.Millisecond, BatchSize: 1024 << r.IntN(5)})
		if err != nil {
			l.t.Error(err)
			return
		}
		process := l.rec.Process()
		for n := 50 + r.IntN(800); n > 0 && ctx.Err() == nil; n-- {
			for range 1 + r.IntN(5) {
				at, v := l.target(r), l.rec.Value()
				record := &client.Record{Topic: at.Topic, Partition: at.Index, Explicit: true, Key: key(v), Value: payload(v)}
				if r.IntN(200) == 0 {
					record.Headers = []client.Header{{Key: "large", Value: make([]byte, 2<<20)}}
				}
				pending := l.rec.Begin(event(process, at, v, true))
				ops := []history.Op{{Topic: at.Topic, Partition: at.Index, Value: v, Offset: -1}}
				// An error is both returned and told to the callback.
				_ = p.SendFunc(ctx, record, func(m client.RecordMetadata, err error) {
					switch {
					case err == nil:
						ops[0].Offset = m.Offset
						pending.End(history.OK, nil, ops)
					case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, client.ErrRecordTooLarge):
						pending.End(history.Fail, err, nil)
					default:
						pending.End(history.Info, err, nil)
					}
				})
			}
			l.pause(ctx, r)
		}
		end, cancel := context.WithCancel(context.Background())
		if ctx.Err() == nil && r.IntN(2) == 0 {
			cancel() // what is under way is not waited for
		}
		_ = p.Close(end) // that it did not wait is in the events of the records
		cancel()
	}
}

// produceOnce sends records that are not tried again, by a producer that is not idempotent:
// NOT_ENOUGH_REPLICAS means that they are not there.
func (l *load) produceOnce(ctx context.Context, r *random) {
	p, err := client.NewProducer(client.ProducerOptions{Options: impatient(l.s), Idempotence: client.Off, Retries: -1, DeliveryTimeout: 20 * time.Second, Linger: -1})
	if err != nil {
		l.t.Error(err)
		return
	}
	defer p.Close(context.Background())
	process := l.rec.Process()
	for ctx.Err() == nil {
		at, v := l.target(r), l.rec.Value()
		pending := l.rec.Begin(event(process, at, v, false))
		m, err := p.Send(ctx, &client.Record{Topic: at.Topic, Partition: at.Index, Explicit: true, Key: key(v), Value: payload(v)}).Get(context.Background())
		switch {
		case err == nil:
			pending.End(history.OK, nil, []history.Op{{Topic: at.Topic, Partition: at.Index, Value: v, Offset: m.Offset}})
		case errors.Is(err, kerr.NotEnoughReplicas):
			pending.End(history.Fail, err, nil)
		default:
			pending.End(history.Info, err, nil)
		}
		l.pause(ctx, r)
	}
}

// franz returns a client of franz-go.
func franz(s system, o ...kgo.Opt) (*kgo.Client, error) {
	o = append(o, kgo.SeedBrokers(s.bootstrap()...))
	if d := s.dial(); d != nil {
		o = append(o, kgo.Dialer(d))
	}
	return kgo.NewClient(o...)
}

// produceFranz is produce with franz-go.
func (l *load) produceFranz(ctx context.Context, r *random) {
	cl, err := franz(l.s, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(20*time.Second),
		kgo.ProducerLinger(time.Millisecond), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		l.t.Error(err)
		return
	}
	defer cl.Close()
	process := l.rec.Process()
	for ctx.Err() == nil {
		for range 1 + r.IntN(5) {
			at, v := l.target(r), l.rec.Value()
			pending := l.rec.Begin(event(process, at, v, true))
			cl.Produce(context.Background(), &kgo.Record{Topic: at.Topic, Partition: at.Index, Key: key(v), Value: payload(v)}, func(k *kgo.Record, err error) {
				if err != nil {
					pending.End(history.Info, err, nil)
					return
				}
				pending.End(history.OK, nil, []history.Op{{Topic: at.Topic, Partition: at.Index, Value: v, Offset: k.Offset}})
			})
		}
		l.pause(ctx, r)
	}
	end, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cl.Flush(end); err != nil {
		l.t.Errorf("franz-go: flush: %v", err)
	}
}
