package replication

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// take appends what an answer brings to the logs. Its error ends the session.
func (f *fetcher) take(l *lane) error {
	resp := &l.resp
	if code := kerr.Code(resp.ErrorCode); code != kerr.None {
		l.session, l.epoch = 0, 0
		if code == kerr.FetchSessionIdNotFound || code == kerr.InvalidFetchSessionEpoch {
			return errSessionLost
		}
		return code
	}
	switch {
	case l.req.SessionEpoch < 0:
	case resp.SessionId == 0: // the leader keeps none
		l.session, l.epoch = 0, 0
	default:
		l.session = resp.SessionId
		if l.epoch++; l.epoch < 0 {
			l.epoch = 1
		}
	}
	for i := range resp.Responses {
		t := &resp.Responses[i]
		for j := range t.Partitions {
			d := &t.Partitions[j]
			x := l.asked[partitionKey{t.TopicId, d.PartitionIndex}]
			if x == nil {
				return fmt.Errorf("%w: an answer for partition %d of topic %s, which was not asked for", conn.ErrProtocol, d.PartitionIndex, t.TopicId)
			}
			moved, err := x.p.Take(x.asked, answer(d))
			if errors.Is(err, kerr.OffsetOutOfRange) {
				l.outside = append(l.outside, x)
			}
			if err == nil {
				x.p.copied(len(d.Records.B))
			}
			f.settle(x, moved, d.HighWatermark > x.p.log.EndOffset(), err)
		}
	}
	return nil
}

// settle follows up what came of a partition. behind says that committed records are missing
// here still.
func (f *fetcher) settle(x *followed, moved, behind bool, err error) {
	o := &f.of.r.o
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.gone {
		return
	}
	if err == nil {
		x.fine, x.pause, x.caughtUp = true, 0, !behind
		if f.restrained(x) { // it comes back when it may go on
			f.unseat(x)
			signal(f.aside)
			return
		}
		if moved {
			f.tell(x)
		}
		return
	}
	x.fine = false
	if x.p.log.Err() != nil { // its log directory is offline for as long as this process lives
		f.leave(x)
		return
	}
	x.pause = min(max(2*x.pause, firstFetchPause), o.Fetching.Backoff)
	x.due = o.Clock.Now().Add(x.pause)
	f.unseat(x)
	signal(f.aside)
	level := zap.DebugLevel
	if x.pause == o.Fetching.Backoff {
		level = zap.WarnLevel
	}
	f.lg.Log(level, "a partition is not copied", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index), zap.Int32("leader_epoch", x.epoch), zap.Error(err))
}

// answer returns what the leader says of one partition.
func answer(d *msg.FetchResponsePartitionData) Answer {
	return Answer{Code: kerr.Code(d.ErrorCode), Batches: d.Records.B, High: d.HighWatermark, Start: d.LogStartOffset,
		DivergingEpoch: d.DivergingEpoch.Epoch, DivergingEnd: d.DivergingEpoch.EndOffset}
}

// meetRanges has logs begin or end where the leader's do, whose ends it does not have.
func (l *lane) meetRanges() {
	for _, x := range l.outside {
		if err := l.meetRange(x); err != nil && l.f.ctx.Err() == nil {
			l.f.lg.Warn("cannot begin where the leader's log does", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index), zap.Error(err))
		}
	}
	l.outside = l.outside[:0]
}

// meetRange asks the leader where its log begins and ends, and has a partition's do so too.
func (l *lane) meetRange(x *followed) error {
	const latest, earliest = -1, -2
	end, err := l.offset(x, latest)
	if err != nil {
		return err
	}
	start, err := l.offset(x, earliest)
	if err != nil {
		return err
	}
	return x.p.Meet(x.asked, start, end)
}

// offset asks the leader for an offset that a timestamp stands for.
func (l *lane) offset(x *followed, timestamp int64) (int64, error) {
	req := &msg.ListOffsetsRequest{ReplicaId: l.f.of.r.o.NodeID, Topics: []msg.ListOffsetsRequestListOffsetsTopic{{Name: x.p.Topic,
		Partitions: []msg.ListOffsetsRequestListOffsetsPartition{{PartitionIndex: x.p.Index, CurrentLeaderEpoch: x.epoch, Timestamp: timestamp}}}}}
	var resp msg.ListOffsetsResponse
	if err := l.conn.Do(l.f.ctx, req, &resp); err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("%w: ListOffsets for one partition is answered with others", conn.ErrProtocol)
	}
	p := &resp.Topics[0].Partitions[0]
	return p.Offset, kerr.Code(p.ErrorCode).Err()
}
