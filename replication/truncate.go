package replication

import (
	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/kerr"
)

// TruncateTo drops every batch that ends at or after offset, durably. A follower
// does so where its log diverges from the leader's (KIP-101).
func (p *Partition) TruncateTo(offset int64) error {
	return p.truncate(-1, nil, offset, p.log.TruncateTo)
}

// TruncateFullyAndStartAt drops everything; the next offset is offset. A follower
// does so whose log end is below the leader's log start.
func (p *Partition) TruncateFullyAndStartAt(offset int64) error {
	return p.truncate(-1, nil, offset, p.log.TruncateFullyAndStartAt)
}

// truncate cuts the log, and then lowers every checkpoint of it, durably, before
// anything is appended: a recovery point above the new log end would have a start
// after a crash trust what was written there since and never synced; a high
// watermark above it would show what is not committed.
//
// What is known of how far the log was compacted is lowered too, as what is written
// from there on never was (LogCleanerManager.maybeTruncateCheckpoint): before, for
// the sake of a crash between the two, and after, as the batch that held offset may
// have begun before it. A round of the cleaner that was under way does not raise it
// again: it sees that there was a truncation, or ends before it.
//
// epoch is the leader epoch in which a follower has learned where to cut, -1 for any: once
// another one has begun, nothing is cut. Nor is it if the log has moved since the leader was
// asked, with what asked says; it may be nil.
func (p *Partition) truncate(epoch int32, asked *Fetch, offset int64, cut func(int64) error) error {
	p.leadership.Lock()
	defer p.leadership.Unlock()
	if v := p.view.Load(); epoch >= 0 && (v.role != Follower || v.leaderEpoch != epoch || p.closed.Load()) {
		if !bugs.Planted(bugs.TruncateByOldFetcher) {
			return kerr.FencedLeaderEpoch
		}
	}
	if asked != nil && !p.stands(*asked) && !bugs.Planted(bugs.TruncateByOldFetcher) {
		return errMoved
	}
	name := dirs.Name(p.Topic, p.Index)
	if err := p.Dir.LowerFirstDirty(name, offset); err != nil {
		return err
	}
	if err := cut(offset); err != nil {
		return err
	}
	p.truncations.Add(1)
	p.mu.Lock()
	p.wake() // consumers may wait here, behind the end that the log has now
	p.mu.Unlock()
	if err := p.Dir.LowerFirstDirty(name, p.log.EndOffset()); err != nil {
		return err
	}
	return p.truncated(p.Dir)
}

// Compacted notes up to where a round of the cleaner came that began after so many
// truncations, unless the partition is gone: another one may have its name.
func (p *Partition) Compacted(next, truncations int64) error {
	return p.Dir.SetFirstDirty(dirs.Name(p.Topic, p.Index), next, func() bool { return !p.closed.Load() && p.truncations.Load() == truncations })
}
