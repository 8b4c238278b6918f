package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
)

// history writes random records to topics: keys that come again, tombstones,
// every codec, producers that are idempotent, transactional or neither, and
// transactions that overlap.
type history struct {
	*rand.Rand
	topics []string
	also   map[string]string // a second topic for the records of the first
	keyed  map[string]bool   // topics that take no null keys
	clock  int64             // ms, of the last record
	round  int
	last   bool // no transaction stays open
}

// writer is one producer of a history.
type writer struct {
	*kgo.Client
	transactional, open bool
}

// writers starts the producers of a round. Those of a transactional id come back
// in each round, and end what the round before left open; the others are new,
// so that those before them fall silent.
func (h *history) writers(t *testing.T, b *systems.Process, transactions bool) (out []*writer) {
	t.Helper()
	start := func(codec int, opts ...kgo.Opt) *writer {
		opts = append(opts, kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing(), kgo.ProducerBatchCompression(kgoCodecs[codec]))
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return &writer{Client: cl}
	}
	for codec := range kgoCodecs {
		out = append(out, start(codec))
		if transactions {
			w := start(codec, kgo.TransactionalID(fmt.Sprint("history-", codec)), kgo.TransactionTimeout(5*time.Minute))
			w.transactional = true
			out = append(out, w)
		}
	}
	return append(out, start(h.IntN(5), kgo.DisableIdempotentWrite()))
}

// send writes records of one topic as one batch.
func (w *writer) send(ctx context.Context, t *testing.T, records []*kgo.Record) {
	t.Helper()
	errs := make([]error, len(records))
	for i, r := range records {
		w.Produce(ctx, r, func(_ *kgo.Record, err error) { errs[i] = err })
	}
	if err := errors.Join(w.Flush(ctx), errors.Join(errs...)); err != nil {
		t.Fatalf("%s: %v", records[0].Topic, err)
	}
}

// write appends n batches to each topic.
func (h *history) write(t *testing.T, b *systems.Process, n int, transactions bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h.round++
	writers := h.writers(t, b, transactions)
	end := func(w *writer, how kgo.TransactionEndTry) {
		if err := w.EndTransaction(ctx, how); err != nil {
			t.Fatal(err)
		}
		w.open = false
	}
	for i := range n {
		for _, topic := range h.topics {
			w := writers[h.IntN(len(writers))]
			if w.transactional && !w.open {
				if err := w.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
				w.open = true
			}
			records := h.batch(topic)
			w.send(ctx, t, records)
			if second := h.also[topic]; second != "" {
				again := make([]*kgo.Record, len(records))
				for i, r := range records {
					again[i] = &kgo.Record{Topic: second, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
				}
				w.send(ctx, t, again)
			}
			if w.open && h.IntN(5) == 0 {
				end(w, kgo.TransactionEndTry(h.IntN(3) > 0))
			}
		}
		if i == n*4/5 { // what is open from here on may stay so
			for _, w := range writers {
				if w.open {
					end(w, kgo.TransactionEndTry(h.IntN(2) > 0))
				}
			}
		}
	}
	open := make(map[int64]bool)
	for _, w := range writers {
		if w.open && (h.last || h.IntN(2) == 0) {
			end(w, kgo.TryAbort)
		}
		if w.open {
			id, _, err := w.ProducerID(ctx)
			if err != nil {
				t.Fatal(err)
			}
			open[id] = true
		}
		w.Close()
	}
	h.settle(t, b, open)
}

// settle waits for the markers of the transactions that were ended: the JVM
// broker writes them after it has answered. Those of the producers in open were
// not.
func (h *history) settle(t *testing.T, b *systems.Process, open map[int64]bool) {
	t.Helper()
	c, err := dialRaw(b)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, topic := range h.topics {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if !slices.ContainsFunc(producersOf(t, c, topic), func(p kmsg.DescribeProducersResponseTopicPartitionActiveProducer) bool {
				return p.CurrentTxnStartOffset >= 0 && !open[p.ProducerID]
			}) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: a transaction that was ended has no marker", topic)
			}
		}
	}
}

// batch returns the records of one batch.
func (h *history) batch(topic string) (out []*kgo.Record) {
	for range 1 + h.IntN(6) {
		h.clock += int64(h.IntN(7)) - 2
		r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key-%d", h.IntN(40)), Timestamp: time.UnixMilli(h.clock)}
		switch {
		case h.IntN(3) == 0: // a few keys are written all the time
			r.Key = fmt.Appendf(nil, "key-%d", h.IntN(4))
		case h.IntN(12) == 0: // and some once
			r.Key = fmt.Appendf(nil, "once-%d", h.Uint32())
		case h.IntN(40) == 0:
			r.Key = []byte{}
		case h.IntN(10) == 0 && !h.keyed[topic]:
			r.Key = nil
		}
		if h.IntN(5) > 0 {
			r.Value = fmt.Appendf(nil, "value-%d-%s", h.clock, strings.Repeat("x", h.IntN(60)))
		}
		if h.IntN(4) == 0 {
			r.Headers = []kgo.RecordHeader{{Key: "round", Value: fmt.Append(nil, h.round)}, {Key: "null", Value: nil}}
		}
		out = append(out, r)
	}
	return out
}
