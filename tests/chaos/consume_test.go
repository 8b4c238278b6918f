package chaos_test

import (
	"context"
	"errors"
	"time"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/history"
)

// ops are records that were read, as operations.
func ops(records []client.Record) (out []history.Op) {
	for _, r := range records {
		out = append(out, history.Op{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Value: parse(r.Key, r.Value)})
	}
	return out
}

// poll polls once, for a second at most, and takes it down. Errors of a poll are no news: what
// was read is.
func (l *load) poll(ctx context.Context, c *client.Consumer, e history.Event) []client.Record {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pending := l.rec.Begin(e)
	records, err := c.Poll(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = nil
	}
	pending.End(history.OK, err, ops(records))
	return records
}

// consume reads partitions that it assigns itself, from anywhere, and assigns others now and
// then. A consumer is dropped now and then too.
func (l *load) consume(ctx context.Context, r *random) {
	for ctx.Err() == nil {
		c, err := client.NewConsumer(client.ConsumerOptions{Options: options(l.s), NoAutoCreateTopics: true, MaxPollRecords: 1 + r.IntN(500), Reset: client.ResetEarliest})
		if err != nil {
			l.t.Error(err)
			return
		}
		process := l.rec.Process()
		read := make(map[history.Partition]int64) // the next offset
		for first, n := true, 20+r.IntN(200); n > 0 && ctx.Err() == nil; n-- {
			if first || r.IntN(64) == 0 {
				first = false
				e := history.Event{Process: process, Kind: history.Assign, Assigned: true}
				at := make(map[client.TopicPartition]client.Position)
				for _, topic := range l.topics {
					for p := range topic.partitions {
						if r.IntN(3) == 0 {
							continue
						}
						from := int64(0)
						if next := read[partition(topic.name, p)]; next > 0 && !l.lossy(topic.name) {
							from = r.Int64N(next + 1)
						}
						at[client.TopicPartition{Topic: topic.name, Partition: p}] = client.AtOffset(from)
						e.Ops = append(e.Ops, history.Op{Topic: topic.name, Partition: p, Offset: from})
					}
				}
				pending := l.rec.Begin(e)
				c.Assign(at)
				pending.End(history.OK, nil, nil)
			}
			for _, k := range l.poll(ctx, c, history.Event{Process: process, Kind: history.Poll, Assigned: true}) {
				at := partition(k.Topic, k.Partition)
				read[at] = max(read[at], k.Offset+1)
			}
			l.pause(ctx, r)
		}
		l.close(c)
	}
}

// close ends a consumer. It may not be able to leave its group in time.
func (l *load) close(c *client.Consumer) {
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.Close(end)
}

const group = "chaos"

// member reads as a member of a group, and commits what it has read.
func (l *load) member(ctx context.Context, r *random) {
	for ctx.Err() == nil {
		c, err := client.NewConsumer(client.ConsumerOptions{Options: options(l.s), Group: group, NoAutoCommit: true, NoAutoCreateTopics: true,
			Reset: client.ResetEarliest, SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second, MaxPollRecords: 1 + r.IntN(500)})
		if err != nil {
			l.t.Error(err)
			return
		}
		if err := c.Subscribe(l.topics[0].name); err != nil {
			l.t.Error(err)
			return
		}
		process := l.rec.Process()
		for n := 100 + r.IntN(100); n > 0 && ctx.Err() == nil; n-- {
			records := l.poll(ctx, c, history.Event{Process: process, Kind: history.Poll})
			offsets := make(map[client.TopicPartition]client.Offset)
			for _, k := range records {
				offsets[client.TopicPartition{Topic: k.Topic, Partition: k.Partition}] = client.Offset{At: k.Offset + 1, LeaderEpoch: k.LeaderEpoch}
			}
			if len(offsets) > 0 {
				l.commit(ctx, c, process, offsets)
			}
			l.sleep(ctx, time.Duration(500+r.IntN(1000))*time.Millisecond)
		}
		l.close(c)
	}
}

func (l *load) commit(ctx context.Context, c *client.Consumer, process int, offsets map[client.TopicPartition]client.Offset) {
	e := history.Event{Process: process, Kind: history.CommitOffset, Group: group}
	for tp, o := range offsets {
		e.Ops = append(e.Ops, history.Op{Topic: tp.Topic, Partition: tp.Partition, Offset: o.At})
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pending := l.rec.Begin(e)
	if err := c.CommitOffsets(ctx, offsets); err != nil {
		pending.End(history.Info, err, nil)
		return
	}
	pending.End(history.OK, nil, nil)
}

// final reads everything from the beginning to the end, after all has come to rest.
func (l *load) final(a *client.Admin) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := client.NewConsumer(client.ConsumerOptions{Options: options(l.s), NoAutoCreateTopics: true, Reset: client.ResetNone})
	if err != nil {
		l.t.Fatal(err)
	}
	defer l.close(c)
	at := make(map[client.TopicPartition]client.Position)
	ends := make(map[client.TopicPartition]client.Position)
	process := l.rec.Process()
	e := history.Event{Process: process, Kind: history.Assign, Assigned: true, Final: true}
	for _, topic := range l.topics {
		for p := range topic.partitions {
			tp := client.TopicPartition{Topic: topic.name, Partition: p}
			at[tp], ends[tp] = client.AtOffset(0), client.AtEnd(0)
			e.Ops = append(e.Ops, history.Op{Topic: topic.name, Partition: p})
		}
	}
	end, err := a.ListOffsets(ctx, ends, false)
	if err != nil {
		l.t.Fatalf("where do the partitions end, when all is well again: %v", err)
	}
	pending := l.rec.Begin(e)
	c.Assign(at)
	pending.End(history.OK, nil, nil)
	left := func() (out []client.TopicPartition) {
		for tp, n := range end {
			if next, _, ok := c.Position(tp); n > 0 && (!ok || next < n) {
				out = append(out, tp)
			}
		}
		return out
	}
	for len(left()) > 0 {
		if ctx.Err() != nil {
			l.t.Fatalf("the final reader does not come to the end of %v, of %v", left(), end)
		}
		l.poll(ctx, c, history.Event{Process: process, Kind: history.Poll, Assigned: true, Final: true})
	}
	pending = l.rec.Begin(history.Event{Process: process, Kind: history.FetchOffset, Group: group})
	l.fetched(ctx, a, pending)
}

// fetched asks for the committed offsets of the group.
func (l *load) fetched(ctx context.Context, a *client.Admin, pending history.Pending) {
	var tps []client.TopicPartition
	for p := range l.topics[0].partitions {
		tps = append(tps, client.TopicPartition{Topic: l.topics[0].name, Partition: p})
	}
	offsets, err := a.GroupOffsets(ctx, group, tps...)
	if err != nil {
		pending.End(history.Info, err, nil)
		return
	}
	var out []history.Op
	for _, tp := range tps {
		op := history.Op{Topic: tp.Topic, Partition: tp.Partition, Offset: -1}
		if o, ok := offsets[tp]; ok {
			op.Offset = o.At
		}
		out = append(out, op)
	}
	pending.End(history.OK, nil, out)
}
