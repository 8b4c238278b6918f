package client

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns topic-partition.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic, tp.Partition) }

// compareTopicPartitions orders by topic, then by number.
func compareTopicPartitions(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// Position is a place in a partition: an offset, or one that the broker must
// look up. The zero value is offset 0; see the functions that return one.
type Position struct {
	lookup bool
	n      int64         // offset, or distance from what is looked up
	ts     int64         // of ListOffsets: -1 end, -2 start, or ms
	aged   bool          // ts is not known before the lookup:
	age    time.Duration // so long before it
}

// AtOffset is the record with that offset.
func AtOffset(offset int64) Position { return Position{n: offset} }

// AtStart is the log start offset plus n.
func AtStart(n int64) Position { return Position{lookup: true, n: n, ts: -2} }

// AtEnd is the end of what may be read, minus n.
func AtEnd(n int64) Position { return Position{lookup: true, n: -n, ts: -1} }

// AtTime is the first record with that timestamp or a later one, the end if
// there is none.
func AtTime(t time.Time) Position { return Position{lookup: true, ts: t.UnixMilli()} }

// AtAge is the first record that is no older than age when the position is looked
// up, the end if there is none.
func AtAge(age time.Duration) Position { return Position{lookup: true, aged: true, age: age} }

// asked returns the timestamp that ListOffsets is asked for at now.
func (p Position) asked(now time.Time) int64 {
	if p.aged {
		return max(now.Add(-p.age).UnixMilli(), 0)
	}
	return p.ts
}

// listedOffset is one answer to ListOffsets.
type listedOffset struct {
	offset, timestamp int64 // -1 for none
	epoch             int32
	err               error
}

// listOffsets looks up offsets by timestamp (-1 end, -2 start, -3 largest
// timestamp, or ms), once: partitions with errors have them in their answers.
func (c *cluster) listOffsets(ctx context.Context, ask map[TopicPartition]int64, isolation int8) map[TopicPartition]listedOffset {
	out := make(map[TopicPartition]listedOffset, len(ask))
	c.eachListed(ctx, ask, isolation, func(part map[TopicPartition]listedOffset) { maps.Copy(out, part) })
	return out
}

// eachListed is listOffsets for a caller that can use a part: it asks all leaders
// at once, and calls got with each answer as it comes, one after the other. A
// broker that does not answer keeps nobody but its own partitions waiting. It
// returns when got has had every partition once.
func (c *cluster) eachListed(ctx context.Context, ask map[TopicPartition]int64, isolation int8, got func(map[TopicPartition]listedOffset)) {
	none := make(map[TopicPartition]listedOffset)
	byLeader := make(map[int32][]TopicPartition)
	m := c.now()
	for tp := range ask {
		c.want(tp.Topic)
		t := m.topics[tp.Topic]
		switch {
		case !t.has(tp.Partition) || t.err != kerr.None:
			none[tp] = failedOffset(kerr.UnknownTopicOrPartition)
		case t.partitions[tp.Partition].Leader < 0:
			none[tp] = failedOffset(kerr.LeaderNotAvailable)
		default:
			l := t.partitions[tp.Partition].Leader
			byLeader[l] = append(byLeader[l], tp)
		}
	}
	if len(none) > 0 {
		got(none)
	}
	answers := make(chan map[TopicPartition]listedOffset, len(byLeader))
	for leader, tps := range byLeader {
		go func() { answers <- c.listOffsetsAt(ctx, leader, m, tps, ask, isolation) }()
	}
	for range byLeader {
		got(<-answers)
	}
}

func failedOffset(err error) listedOffset {
	return listedOffset{offset: -1, timestamp: -1, epoch: -1, err: err}
}

// listOffsetsAt asks one leader. Its result has every one of tps.
func (c *cluster) listOffsetsAt(ctx context.Context, leader int32, m *metadata, tps []TopicPartition, ask map[TopicPartition]int64, isolation int8) map[TopicPartition]listedOffset {
	out := make(map[TopicPartition]listedOffset, len(tps))
	resp, err := c.askOffsets(ctx, leader, offsetsRequest(m, tps, ask, isolation, c.o.RequestTimeout))
	if err == nil {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out[TopicPartition{t.Name, p.PartitionIndex}] = listedOffset{p.Offset, p.Timestamp, p.LeaderEpoch, codeOf(p.ErrorCode)}
			}
		}
	}
	asked := make(map[TopicPartition]listedOffset, len(tps))
	for _, tp := range tps {
		answer, ok := out[tp]
		switch {
		case ok:
		case err != nil:
			answer = failedOffset(err)
		default:
			answer = failedOffset(fmt.Errorf("%w: ListOffsets answer leaves out %v", errLost, tp))
		}
		asked[tp] = answer
	}
	return asked
}

func offsetsRequest(m *metadata, tps []TopicPartition, ask map[TopicPartition]int64, isolation int8, timeout time.Duration) *msg.ListOffsetsRequest {
	req := &msg.ListOffsetsRequest{ReplicaId: -1, IsolationLevel: isolation, TimeoutMs: int32(timeout.Milliseconds())}
	at := make(map[string]int)
	for _, tp := range tps {
		i, ok := at[tp.Topic]
		if !ok {
			i = len(req.Topics)
			at[tp.Topic] = i
			req.Topics = append(req.Topics, msg.ListOffsetsRequestListOffsetsTopic{Name: tp.Topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, msg.ListOffsetsRequestListOffsetsPartition{
			PartitionIndex: tp.Partition, CurrentLeaderEpoch: m.topics[tp.Topic].partitions[tp.Partition].LeaderEpoch, Timestamp: ask[tp]})
	}
	return req
}

func (c *cluster) askOffsets(ctx context.Context, leader int32, req *msg.ListOffsetsRequest) (*msg.ListOffsetsResponse, error) {
	cn, err := c.broker(ctx, leader, forAdmin)
	if err != nil {
		return nil, err
	}
	v, err := cn.Version(wire.ListOffsets)
	if err != nil {
		return nil, err
	}
	resp := new(msg.ListOffsetsResponse)
	return resp, lost(cn.DoVersion(ctx, req, resp, v, 0), cn)
}

// find looks up positions, trying again what may be mended, until ctx ends.
func (c *cluster) find(ctx context.Context, want map[TopicPartition]Position, isolation int8) (map[TopicPartition]int64, error) {
	out := make(map[TopicPartition]int64, len(want))
	ask := make(map[TopicPartition]int64)
	for tp, p := range want {
		if !p.lookup {
			out[tp] = p.n
			continue
		}
		ask[tp] = p.asked(time.Now())
	}
	err := c.retryFor(ctx, "ListOffsets", func() error {
		var again error
		for tp, l := range c.listOffsets(ctx, ask, isolation) {
			switch {
			case l.err != nil && retriable(l.err):
				again = fmt.Errorf("offset of %v: %w", tp, l.err)
			case l.err != nil:
				return fmt.Errorf("offset of %v: %w", tp, l.err)
			case l.offset < 0 && ask[tp] >= 0: // nothing so late
				ask[tp] = -1
				again = kerr.OffsetNotAvailable
			default:
				out[tp] = max(l.offset+want[tp].n, 0)
				delete(ask, tp)
			}
		}
		return again
	})
	return out, err
}
