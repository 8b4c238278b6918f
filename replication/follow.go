package replication

import (
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/wire/kerr"
)

// next returns what a follower asks its leader for in a leader epoch: all from its log end
// on, if the leader's log is the same up to there.
func (p *Partition) next(epoch int32) Fetch {
	return Fetch{Reader: Replica, Follower: p.node, Offset: p.log.EndOffset(), LeaderEpoch: epoch, LastEpoch: p.log.LatestEpoch()}
}

// Answer is what a leader answers to the fetch of a follower.
type Answer struct {
	Code        kerr.Code
	Batches     []byte // as they are in the leader's log, from the follower's log end on
	High, Start int64  // the leader's high watermark and log start offset
	// DivergingEpoch and DivergingEnd are those of [Fetched]; the epoch is -1 where the
	// logs agree.
	DivergingEpoch int32
	DivergingEnd   int64
}

// Take does what the leader's answer to a fetch asks for, if the partition still follows in
// that leader epoch. It reports whether the log has moved, so that the leader must learn
// of it. Where the leader does not have the follower's log end, the error is
// kerr.OffsetOutOfRange, and [Partition.Meet] is what helps.
func (p *Partition) Take(epoch int32, a Answer) (moved bool, err error) {
	switch {
	case a.Code != kerr.None:
		return false, a.Code
	case a.DivergingEpoch >= 0:
		return true, p.diverge(epoch, a.DivergingEpoch, a.DivergingEnd)
	}
	end := p.log.EndOffset()
	err = log.Caught(p.lg, "replicate", func() error {
		_, err := p.AppendAsFollower(epoch, a.Batches, a.High, a.Start)
		return err
	})
	return p.log.EndOffset() != end, err
}

// diverge cuts the log to where it parts from the leader's, of which of is the newest
// epoch that is not above this log's last one, and end where it ends there (KIP-101,
// KIP-279). Where this log has no such epoch it is cut to the end of the one before, and
// the next answer tells more.
func (p *Partition) diverge(epoch, of int32, end int64) error {
	cut := min(end, p.log.EndOffset())
	if own, ownEnd := p.log.EpochEndOffset(of); own >= 0 {
		cut = min(cut, ownEnd)
	}
	cut = max(cut, p.log.StartOffset())
	p.lg.Info("cuts the log to where the leader's is another one", zap.String("topic", p.Topic), zap.Int32("partition", p.Index),
		zap.Int64("from", p.log.EndOffset()), zap.Int64("to", cut), zap.Int64("high_watermark", p.log.HighWatermark()), zap.Int32("leader_epoch", epoch))
	return log.Caught(p.lg, "truncate", func() error { return p.TruncateIn(epoch, cut) })
}

// Meet has a log that ends behind the leader's end there, and one that ends before the
// leader's begins begin there with nothing.
func (p *Partition) Meet(epoch int32, start, end int64) error {
	own := p.log.EndOffset()
	fields := []zap.Field{zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Int64("log_end", own), zap.Int64("leader_log_start", start), zap.Int64("leader_log_end", end), zap.Int32("leader_epoch", epoch)}
	switch {
	case end < own:
		p.lg.Warn("cuts the log to the end of the leader's", fields...)
		return log.Caught(p.lg, "truncate", func() error { return p.TruncateIn(epoch, end) })
	case start > own:
		p.lg.Info("begins where the leader's log does", fields...)
		return log.Caught(p.lg, "truncate", func() error { return p.truncateFullyIn(epoch, start) })
	}
	return nil
}
