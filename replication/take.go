package replication

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
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
			moved, err := f.takeOne(l, x, d)
			f.settle(x, moved, err)
		}
	}
	return nil
}

// settle follows up what came of a partition.
func (f *fetcher) settle(x *followed, moved bool, err error) {
	o := &f.of.r.o
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.gone {
		return
	}
	if err == nil {
		x.fine, x.pause = true, 0
		if moved && x.inSession && !x.stale {
			x.stale = true
			f.told = append(f.told, x)
		}
		return
	}
	x.fine = false
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

// takeOne does with a partition what the leader's answer asks for. It reports whether the
// log has moved, so that the leader must learn of it.
func (f *fetcher) takeOne(l *lane, x *followed, d *msg.FetchResponsePartitionData) (moved bool, err error) {
	p := x.p
	switch code := kerr.Code(d.ErrorCode); {
	case code == kerr.OffsetOutOfRange:
		l.outside = append(l.outside, x)
		return false, errAskAgain
	case code != kerr.None:
		return false, code
	case d.DivergingEpoch.Epoch >= 0:
		return true, f.diverge(x, d.DivergingEpoch.Epoch, d.DivergingEpoch.EndOffset)
	}
	end := p.log.EndOffset()
	err = log.Caught(f.lg, "replicate", func() error {
		_, err := p.AppendAsFollower(x.epoch, d.Records.B, d.HighWatermark, d.LogStartOffset)
		return err
	})
	return p.log.EndOffset() != end, err
}

// diverge cuts the log to where it parts from the leader's, of which epoch is the newest
// that is not above this log's last one, and end where it ends there (KIP-101, KIP-279).
// Where this log has no such epoch it is cut to the end of the one before, and the next
// answer tells more.
func (f *fetcher) diverge(x *followed, epoch int32, end int64) error {
	l := x.p.log
	cut := min(end, l.EndOffset())
	if own, ownEnd := l.EpochEndOffset(epoch); own >= 0 {
		cut = min(cut, ownEnd)
	}
	cut = max(cut, l.StartOffset())
	f.lg.Info("cut to where the leader's log is another one", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index),
		zap.Int64("from", l.EndOffset()), zap.Int64("to", cut), zap.Int64("high_watermark", l.HighWatermark()), zap.Int32("leader_epoch", x.epoch))
	return log.Caught(f.lg, "truncate", func() error { return x.p.TruncateIn(x.epoch, cut) })
}

// errAskAgain has a partition whose log is about to be changed asked for again.
var errAskAgain = errors.New("the leader has no such offset")

// meetRanges has logs begin or end where the leader's do, whose ends it does not have.
func (l *lane) meetRanges() {
	for _, x := range l.outside {
		if err := l.meetRange(x); err != nil && l.f.ctx.Err() == nil {
			l.f.lg.Warn("cannot begin where the leader's log does", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index), zap.Error(err))
		}
	}
	l.outside = l.outside[:0]
}

// meetRange cuts a log that ends behind the leader's to its end, and has one that ends
// before it begin there with nothing.
func (l *lane) meetRange(x *followed) error {
	const latest, earliest = -1, -2
	own := x.p.log.EndOffset()
	end, err := l.offset(x, latest)
	if err != nil {
		return err
	}
	if end < own {
		l.f.lg.Warn("cut to the end of the leader's log", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index), zap.Int64("from", own), zap.Int64("to", end), zap.Int32("leader_epoch", x.epoch))
		return log.Caught(l.f.lg, "truncate", func() error { return x.p.TruncateIn(x.epoch, end) })
	}
	start, err := l.offset(x, earliest)
	if err != nil || start <= own {
		return err
	}
	l.f.lg.Info("begins where the leader's log does", zap.String("topic", x.p.Topic), zap.Int32("partition", x.p.Index), zap.Int64("from", own), zap.Int64("to", start))
	return log.Caught(l.f.lg, "truncate", func() error { return x.p.truncateFullyIn(x.epoch, start) })
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
