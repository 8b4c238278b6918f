package replication

import (
	"errors"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// follows returns which leader's log is copied here, in which leader epoch; ok is false
// where none is.
func (p *Partition) follows() (leader, epoch int32, ok bool) {
	v := p.view.Load()
	return v.leader, v.leaderEpoch, v.role == Follower && v.leader != meta.NoLeader && !p.closed.Load()
}

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

// errMoved means that an answer is of no use: the log has moved since the leader was asked.
var errMoved = errors.New("the log is not what it was when the leader was asked")

// stands reports whether the log is as it was when the leader was asked for f.
func (p *Partition) stands(f Fetch) bool {
	return p.log.EndOffset() == f.Offset && p.log.LatestEpoch() == f.LastEpoch || bugs.Planted(bugs.LateAnswer)
}

// Take does what the leader's answer to f asks for, if the partition still follows in that
// leader epoch, and its log still ends where f says. It reports whether the log has moved,
// so that the leader must learn of it. Where the leader does not have the follower's log
// end, the error is kerr.OffsetOutOfRange, and [Partition.Meet] is what helps.
//
// Nothing is done for an answer that comes late: a partition whose metadata change is
// fetched anew in the same leader epoch, and what the leader said to the request before must
// not cut off what it has counted since (AbstractFetcherThread.processFetchRequest).
func (p *Partition) Take(f Fetch, a Answer) (moved bool, err error) {
	switch {
	case a.Code != kerr.None:
		return false, a.Code
	case a.DivergingEpoch >= 0:
		return true, p.diverge(f, a.DivergingEpoch, a.DivergingEnd)
	}
	end := f.Offset
	err = log.Caught(p.lg, "replicate", func() error {
		if base, ok := p.beginsInside(a.Batches); ok {
			if p.log.StartOffset() < f.Offset {
				return p.truncate(f.LeaderEpoch, &f, base, p.log.TruncateTo)
			}
			if err := p.truncate(f.LeaderEpoch, &f, base, p.log.TruncateFullyAndStartAt); err != nil {
				return err
			}
			f.Offset, f.LastEpoch = base, p.log.LatestEpoch()
		}
		_, err := p.follow(f.LeaderEpoch, &f, a.Batches, a.High, a.Start)
		return err
	})
	return p.log.EndOffset() != end, err
}

// beginsInside reports whether the log's end is inside the first of batches, whose base
// offset it returns: the leader's log begins in the middle of that batch, since records were
// deleted, and knows no leader epochs from before. An empty log has to begin with the whole
// batch; its start offset follows the leader's after that (UnexpectedAppendOffsetException).
// Another one has something else there, which ends here.
func (p *Partition) beginsInside(batches []byte) (base int64, ok bool) {
	b, _, err := record.Next(batches)
	if err != nil || b.Magic() < record.Magic {
		return 0, false // older formats are not written any more: their records have their own offsets
	}
	end := p.log.EndOffset()
	return b.BaseOffset(), b.BaseOffset() < end && end <= b.LastOffset() && !bugs.Planted(bugs.WholeBatchRefused)
}

// diverge cuts the log to where it parts from the leader's, of which of is the newest
// epoch that is not above this log's last one, and end where it ends there (KIP-101,
// KIP-279). Where this log has no such epoch it is cut to the end of the one before, and
// the next answer tells more.
func (p *Partition) diverge(f Fetch, of int32, end int64) error {
	cut := min(end, p.log.EndOffset())
	if own, ownEnd := p.log.EpochEndOffset(of); own >= 0 {
		cut = min(cut, ownEnd)
	}
	cut = max(cut, p.log.StartOffset())
	p.lg.Info("cuts the log to where the leader's is another one", zap.String("topic", p.Topic), zap.Int32("partition", p.Index),
		zap.Int64("from", p.log.EndOffset()), zap.Int64("to", cut), zap.Int64("high_watermark", p.log.HighWatermark()), zap.Int32("leader_epoch", f.LeaderEpoch))
	return log.Caught(p.lg, "truncate", func() error { return p.truncate(f.LeaderEpoch, &f, cut, p.log.TruncateTo) })
}

// Meet has a log that ends behind the leader's end there, and one that ends before the
// leader's begins begin there with nothing, if it still ends where f said that had the leader
// answer kerr.OffsetOutOfRange.
func (p *Partition) Meet(f Fetch, start, end int64) error {
	own := p.log.EndOffset()
	fields := []zap.Field{zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Int64("log_end", own), zap.Int64("leader_log_start", start), zap.Int64("leader_log_end", end), zap.Int32("leader_epoch", f.LeaderEpoch)}
	switch {
	case end < own:
		p.lg.Warn("cuts the log to the end of the leader's", fields...)
		return log.Caught(p.lg, "truncate", func() error { return p.truncate(f.LeaderEpoch, &f, end, p.log.TruncateTo) })
	case start > own:
		p.lg.Info("begins where the leader's log does", fields...)
		return log.Caught(p.lg, "truncate", func() error { return p.truncate(f.LeaderEpoch, &f, start, p.log.TruncateFullyAndStartAt) })
	}
	return nil
}
