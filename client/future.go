package client

import (
	"context"
	"sync/atomic"
	"time"
)

// Future is the outcome of one Send.
type Future struct {
	at atomic.Pointer[outcome]
	i  atomic.Int32 // of the record within the batch
	ts int64        // ms, of the record
}

// outcome is shared by the records of a batch. The fields are written before
// done is closed.
type outcome struct {
	done  chan struct{}
	moved bool // the batch was split: the futures point elsewhere now

	of         *Producer // whose batch it is; nil of a record that was never queued
	batch      *batch    // nil once decided, under of.mu: a future keeps no batch alive
	topic      string
	partition  int32
	base       int64 // offset of the first record, -1 if not known
	appendTime int64 // ms, -1 with create time
	err        error
}

func newOutcome(topic string, partition int32) *outcome {
	return &outcome{done: make(chan struct{}), topic: topic, partition: partition, base: -1, appendTime: -1}
}

// outcomeOf returns a new outcome for a batch of p.
func (p *Producer) outcomeOf(b *batch) *outcome {
	o := newOutcome(b.part.topic.name, b.part.index)
	o.of, o.batch = p, b
	return o
}

// errorOf returns the error of the i-th record of the batch.
func (o *outcome) errorOf(i int32) error {
	if r, ok := o.err.(*refusal); ok {
		return r.of(i)
	}
	return o.err
}

func (o *outcome) metadata(i int32, ts int64) RecordMetadata {
	m := RecordMetadata{Topic: o.topic, Partition: o.partition, Offset: -1, Timestamp: time.UnixMilli(ts)}
	if o.base >= 0 && o.err == nil {
		m.Offset = o.base + int64(i)
	}
	if o.appendTime >= 0 {
		m.Timestamp = time.UnixMilli(o.appendTime)
	}
	return m
}

// failedFuture is one that has failed already.
func failedFuture(topic string, err error) *Future {
	o := newOutcome(topic, -1)
	o.err = err
	close(o.done)
	f := new(Future)
	f.at.Store(o)
	return f
}

// Get waits for the outcome, or for ctx to end, which does not take the record
// back.
func (f *Future) Get(ctx context.Context) (RecordMetadata, error) {
	for {
		o := f.at.Load()
		select {
		case <-o.done:
		case <-ctx.Done():
			select {
			case <-o.done:
			default:
				return RecordMetadata{Offset: -1}, waited(ctx, o.of.hindranceOf(o), "delivery of a record to partition %d of topic %s", o.partition, o.topic)
			}
		}
		if !o.moved {
			return o.metadata(f.i.Load(), f.ts), o.errorOf(f.i.Load())
		}
	}
}

// Ready reports whether the outcome is known.
func (f *Future) Ready() bool {
	o := f.at.Load()
	select {
	case <-o.done:
		return !o.moved
	default:
		return false
	}
}
