package replication

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/isr"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// Role is what a broker is to one of its partitions.
type Role uint8

// The roles. A partition begins without one.
const (
	NoRole   Role = iota // it holds the log, and serves nobody: the metadata do not name it, or have not yet
	Follower             // it copies the leader's log
	Leader               // it takes records, and answers consumers and followers
)

// String returns the name of the role in lower case.
func (r Role) String() string { return [...]string{"none", "follower", "leader"}[r] }

// view is what the cluster's metadata says of the partition, and the role that
// follows from it. It does not change.
type view struct {
	role           Role
	leader         int32
	leaderEpoch    int32
	partitionEpoch int32
	epochStart     int64 // log end when this broker became leader of the epoch
}

// noView is that of a partition that the metadata say nothing of.
var noView = view{leader: meta.NoLeader, leaderEpoch: -1, partitionEpoch: -1}

// transition is the one way in which a partition gets a role. assign is
// log.AssignEpoch, or else the caller makes epochs durable before anything is
// served. It reports whether something changed.
//
// Invariant: neither epoch ever falls, and what has the partition epoch that the
// partition has already changes nothing: the in-sync set that a leader has proposed
// since stays proposed. No append is under way during a transition, so that none
// lands in a later epoch than it was checked in. A leader's epoch is in the log's
// epochs, durably, before it serves anything (KAFKA-7415).
func (p *Partition) transition(m *meta.Partition, assign func(l *log.Log, epoch int32, start int64) error) (changed bool, err error) {
	p.leadership.Lock()
	defer p.leadership.Unlock()
	old := p.view.Load()
	if m.LeaderEpoch < old.leaderEpoch || m.PartitionEpoch <= old.partitionEpoch {
		return false, nil
	}
	next := &view{leader: m.Leader, leaderEpoch: m.LeaderEpoch, partitionEpoch: m.PartitionEpoch, epochStart: old.epochStart}
	switch {
	case m.Leader == p.node:
		next.role = Leader
	case slices.Contains(m.Replicas, p.node):
		next.role = Follower
	}
	begins := next.role == Leader && (old.role != Leader || old.leaderEpoch != m.LeaderEpoch)
	if begins {
		next.epochStart = p.log.EndOffset()
		if p.log.LatestEpoch() < m.LeaderEpoch && !bugs.Planted(bugs.EpochNotNoted) {
			if err := assign(p.log, m.LeaderEpoch, next.epochStart); err != nil {
				return false, fmt.Errorf("%s-%d: leader epoch %d: %w", p.Topic, p.Index, m.LeaderEpoch, err)
			}
		}
	}
	if bugs.Planted(bugs.TruncateToHighWatermark) && next.role == Follower && old.leaderEpoch != m.LeaderEpoch {
		if err := p.log.TruncateTo(p.log.HighWatermark()); err != nil {
			return false, err
		}
		p.truncations.Add(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proposal = nil // it is decided, in this way or another
	switch {
	case next.role != Leader:
		p.state, p.epochs = nil, nil
		if bugs.Planted(bugs.AckAtDemotion) {
			p.dropCommits(nil)
		}
		p.dropCommits(kerr.NotLeaderOrFollower)
	case begins:
		p.state = isr.New(p.node, m.Replicas, m.InSync, p.minISR, p.log.AcknowledgeableEnd(), p.log.HighWatermark(), p.now())
		p.advanced()
	default:
		if p.state.Change(m.Replicas, m.InSync, p.now()) {
			p.advanced()
		}
	}
	p.view.Store(next)
	p.wake()
	return true, nil
}

// Role returns what this broker is to the partition.
func (p *Partition) Role() Role { return p.view.Load().role }

// Leads reports whether this broker leads the partition.
func (p *Partition) Leads() bool { return p.Role() == Leader }

// LeaderEpoch returns the current leader epoch.
func (p *Partition) LeaderEpoch() int32 { return p.view.Load().leaderEpoch }

// CheckLeader returns nil if this broker leads the partition in the epoch that
// the client knows, -1 for any.
func (p *Partition) CheckLeader(epoch int32) error { return p.check(epoch, false) }

// checkReplica returns nil if this broker leads or follows the partition in the epoch that
// the client knows, -1 for any.
func (p *Partition) checkReplica(epoch int32) error { return p.check(epoch, true) }

// check is CheckLeader, or checkReplica if a follower will do. A lease that is over keeps
// just a leader from answering: what a follower shows is committed, whatever is decided
// without it.
func (p *Partition) check(epoch int32, follower bool) error {
	v := p.view.Load()
	if epoch != -1 {
		if epoch < v.leaderEpoch {
			return kerr.FencedLeaderEpoch
		}
		if epoch > v.leaderEpoch {
			return kerr.UnknownLeaderEpoch
		}
	}
	serves := v.role == Leader && !p.lease.Over() || v.role == Follower && follower
	if !serves || p.closed.Load() {
		return kerr.NotLeaderOrFollower
	}
	if p.log.Err() != nil {
		return kerr.KafkaStorageError
	}
	return nil
}

// Settled reports whether the high watermark has reached the start of the
// leader's epoch. Until then it may be lower than what consumers were shown by
// the leader before (KIP-207).
func (p *Partition) Settled() bool {
	return p.log.HighWatermark() >= p.view.Load().epochStart
}
