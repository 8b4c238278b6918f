package replication

import (
	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/isr"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Reader says who reads a partition, and so which of its records there are for it.
type Reader uint8

// The kinds of readers.
const (
	ReadUncommitted Reader = iota // a consumer: up to the high watermark
	ReadCommitted                 // a consumer: up to the last stable offset, and it is sent the aborted transactions
	Replica                       // a follower: up to the log end
)

// Fetch asks a replica for records: the leader, unless it says that any will do.
type Fetch struct {
	Reader   Reader // who reads
	Follower int32  // of Replica: who it is
	// FollowerEpoch is that of the follower's registration as a broker (KIP-903), 0 or
	// less if it does not say.
	FollowerEpoch int64
	FollowerStart int64 // of Replica: the log start offset of the follower

	// AnyReplica lets a consumer read from a follower too (KIP-392): up to the high watermark
	// that the follower knows, which is not above the leader's.
	AnyReplica bool

	Offset      int64 // of the first record
	LeaderEpoch int32 // that the reader knows of, -1 for any (KIP-320)
	LastEpoch   int32 // of the record before Offset, as the reader has it; -1 if it does not say (KIP-595)
	MaxBytes    int   // of record bytes
	MinOne      bool  // a first batch that is larger comes whole
}

// Fetched is what a partition answers a Fetch.
type Fetched struct {
	// Region is what was read, nil for nothing. The caller releases it.
	Region *prim.Region
	// High, Stable and Start are the high watermark, the last stable offset and the
	// log start offset.
	High, Stable, Start int64
	// DivergingEpoch is the newest epoch of this log that is not above the reader's
	// LastEpoch, and DivergingEnd where it ends, if the reader's log is another one
	// from there on; else the epoch is -1. Nothing was read then.
	DivergingEpoch int32
	DivergingEnd   int64
	Aborted        []index.AbortedTxn // of ReadCommitted
}

// Fetch reads records for a reader. What there is for it is decided here alone.
//
// A follower that asks for an offset has every record below it: that may move the
// high watermark, and wake those that wait for it. The errors are codes, and those of
// the log.
func (p *Partition) Fetch(f Fetch) (out Fetched, err error) {
	out.DivergingEpoch, out.DivergingEnd = -1, -1
	if bugs.Planted(bugs.FetchOfAnyEpoch) && f.Reader == Replica {
		f.LeaderEpoch = -1
	}
	checked := p.LeaderEpoch()
	check := p.CheckLeader
	if f.AnyReplica && f.Reader != Replica {
		check = p.checkReplica
	}
	if err := check(f.LeaderEpoch); err != nil {
		return out, err
	}
	if f.Reader == Replica && !p.isReplica(f.Follower) {
		if f.LeaderEpoch >= 0 { // it may be one in metadata that this broker is about to learn: it tries again
			return out, kerr.UnknownLeaderEpoch
		}
		return out, kerr.NotLeaderOrFollower
	}
	if f.Reader == Replica && f.FollowerEpoch > 0 && p.proposals != nil && f.FollowerEpoch < p.proposals.registered(f.Follower) && !bugs.Planted(bugs.AnyBrokerEpoch) {
		return out, kerr.NotLeaderOrFollower // sent by a process that has ended
	}
	l := p.log
	start := l.StartOffset()
	if bugs.Planted(bugs.CountBeforeDivergence) && f.Reader == Replica {
		p.fetched(checked, &f)
	}
	if f.LastEpoch >= 0 {
		epoch, end := l.EpochEndOffset(f.LastEpoch)
		if bugs.Planted(bugs.EndOfNextEpoch) && epoch >= 0 {
			epoch = f.LastEpoch
		}
		if epoch < 0 || f.Offset < start { // nothing is known of that epoch
			return out, kerr.OffsetOutOfRange
		}
		if epoch < f.LastEpoch || end < f.Offset {
			out.High, out.Stable, out.Start = l.HighWatermark(), l.LastStableOffset(), start
			out.DivergingEpoch, out.DivergingEnd = epoch, end
			return out, nil
		}
	}
	if f.Offset < start || f.Offset > l.EndOffset() {
		return out, kerr.OffsetOutOfRange
	}
	if f.Reader == Replica {
		p.fetched(checked, &f)
	}
	out.High, out.Stable, out.Start = l.HighWatermark(), l.LastStableOffset(), start
	limit := out.High
	switch f.Reader {
	case ReadCommitted:
		limit = out.Stable
	case Replica:
		limit = l.EndOffset()
	}
	if f.Offset >= limit || f.MaxBytes <= 0 && !f.MinOne || f.Reader == Replica && p.holdsBack(f.Follower) {
		return out, nil
	}
	if f.Reader == ReadCommitted {
		out.Region, out.Aborted, err = l.ReadCommitted(f.Offset, limit, max(f.MaxBytes, 0), f.MinOne)
	} else {
		out.Region, err = l.Read(f.Offset, limit, max(f.MaxBytes, 0), f.MinOne)
	}
	if err != nil {
		out.Region = nil
		return out, err
	}
	if out.Region.Len() == 0 {
		out.Region.Release()
		out.Region = nil
	}
	if f.Reader == Replica && out.Region != nil {
		p.sent(out.Region.Len())
	}
	return out, nil
}

// Offsets returns the high watermark, the last stable offset and the log start offset, if
// this broker leads the partition in the epoch that the client knows, -1 for any.
func (p *Partition) Offsets(epoch int32) (high, stable, start int64, err error) {
	if err := p.CheckLeader(epoch); err != nil {
		return -1, -1, -1, err
	}
	return p.log.HighWatermark(), p.log.LastStableOffset(), p.log.StartOffset(), nil
}

// Reachable returns the followers that a consumer may read offset from, none unless this
// broker leads.
func (p *Partition) Reachable(offset int64) []isr.Reachable {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil {
		return nil
	}
	return p.state.Reachable(offset, p.now())
}

func (p *Partition) isReplica(id int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state != nil && p.state.HasFollower(id)
}

// fetched notes that a follower has every record below the offset that it asks for, as was
// checked in one leader epoch.
func (p *Partition) fetched(checked int32, f *Fetch) {
	id, epoch := f.Follower, f.FollowerEpoch
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil || p.view.Load().leaderEpoch != checked { // another epoch has begun since it was checked
		return
	}
	if p.epochs[id] != epoch {
		if p.epochs == nil {
			p.epochs = make(map[int32]int64)
		}
		p.epochs[id] = epoch
	}
	p.state.Began(id, f.FollowerStart)
	if p.state.Fetched(id, f.Offset, p.now()) {
		p.advanced()
	}
	p.grow()
}

// AppendAsFollower appends batches that the leader has given offsets and an epoch.
// high and start are the leader's high watermark and log start offset, which the
// log follows as far as it goes. epoch is the leader epoch that the follower has
// fetched in: once another one has begun, nothing is appended.
func (p *Partition) AppendAsFollower(epoch int32, batches []byte, high, start int64) (log.AppendInfo, error) {
	return p.follow(epoch, nil, batches, high, start)
}

// follow is AppendAsFollower if the log is what it was when the leader was asked; asked may
// be nil.
func (p *Partition) follow(epoch int32, asked *Fetch, batches []byte, high, start int64) (log.AppendInfo, error) {
	p.leadership.RLock()
	defer p.leadership.RUnlock()
	v := p.view.Load()
	switch {
	case v.role != Follower || p.closed.Load():
		return log.AppendInfo{}, kerr.NotLeaderOrFollower
	case v.leaderEpoch != epoch:
		return log.AppendInfo{}, kerr.FencedLeaderEpoch
	case asked != nil && !p.stands(*asked):
		return log.AppendInfo{}, errMoved
	}
	if leavesHole(batches, p.log.EndOffset()) {
		if err := p.noteHoles(); err != nil {
			return log.AppendInfo{}, err
		}
	}
	info, err := p.log.AppendAsFollower(batches)
	if err != nil {
		return info, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if high = min(high, p.log.EndOffset()); high > p.log.HighWatermark() {
		p.log.SetHighWatermark(high)
		p.moved(HighWatermark) // consumers may wait for it here
	}
	if start = min(start, p.log.HighWatermark()); start > p.log.StartOffset() {
		err = p.log.AdvanceStart(start)
	}
	if p.log.FlushDue() {
		p.startFlush()
	}
	return info, err
}

// leavesHole reports whether offsets are missing before a batch, of a log that ends at
// next: the leader's log was compacted.
func leavesHole(batches []byte, next int64) bool {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return false // the log refuses it, or leaves out what is cut off
		}
		if b.BaseOffset() > next {
			return true
		}
		next, batches = b.LastOffset()+1, rest
	}
	return false
}

// noteHoles notes, durably, that the log may have holes, before it has one: with the place
// where its compaction begins, as for a log that was compacted here. Without it a start
// under another cleanup.policy would take a hole for a segment that is missing.
func (p *Partition) noteHoles() error {
	name := dirs.Name(p.Topic, p.Index)
	if _, known := p.Dir.FirstDirty(name); known {
		return nil
	}
	return p.Dir.SetFirstDirty(name, p.log.StartOffset(), func() bool { return !p.closed.Load() })
}
