package control_test

import (
	"slices"
	"testing"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// ledger is what the replicas of a cluster hold, in the coarsest way: each the last
// record that was committed when it was in sync. A leader commits while it has
// min.insync.replicas in sync, or always where there are no eligible leaders (KIP-966).
//
// Invariant: who is in sync or eligible holds the last committed record (R1, R10, R11).
// Only an unclean election waives it, which the partition then says of itself.
type ledger struct {
	t          *testing.T
	last       int // the records of all partitions are numbered
	partitions map[slot]*account
}

// slot names a partition.
type slot struct {
	topic prim.UUID
	index int32
}

type account struct {
	committed int
	holds     map[int32]int
}

// follow does what a change of a partition from was to p means for its records. lost says
// which replicas have lost theirs; with join those that came into the in-sync set are
// known to hold all.
func (l *ledger) follow(m *meta.Image, at slot, p, was *meta.Partition, minISR int, join bool, lost func(*meta.Partition, int32) bool) {
	a := l.partitions[at]
	if a == nil {
		a = &account{holds: make(map[int32]int)}
		l.partitions[at] = a
		l.commit(a, p)
		return
	}
	for _, id := range p.Replicas {
		if !lost(was, id) {
			continue
		}
		delete(a.holds, id)
		if slices.Equal(p.InSync, []int32{id}) && slices.Equal(was.InSync, p.InSync) {
			l.restart(a, p, id) // it was all there is
		}
	}
	// The records of a partition that still recovers from an unclean election do not say
	// that there was another one.
	clean := !lost(was, p.Leader) && (slices.Contains(was.InSync, p.Leader) || slices.Contains(was.EligibleLeader, p.Leader))
	if p.Leader != meta.NoLeader && p.Recovering && (!was.Recovering || p.Leader != was.Leader && !clean) {
		l.restart(a, p, p.Leader)
	}
	for _, id := range p.InSync {
		if join && !slices.Contains(was.InSync, id) {
			a.holds[id] = a.committed
		}
		if a.holds[id] != a.committed {
			l.t.Errorf("R1, R10: %d is in sync and holds %d, committed is %d", id, a.holds[id], a.committed)
		}
	}
	for _, id := range p.EligibleLeader {
		if a.holds[id] != a.committed {
			l.t.Errorf("R11: %d is eligible and holds %d, committed is %d", id, a.holds[id], a.committed)
		}
	}
	if p.Leader != meta.NoLeader && (len(p.InSync) >= min(minISR, len(p.Replicas)) || m.Feature("eligible.leader.replicas.version") == 0) {
		l.commit(a, p)
	}
}

func (l *ledger) commit(a *account, p *meta.Partition) {
	l.last++
	a.committed = l.last
	for _, id := range p.InSync {
		a.holds[id] = l.last
	}
}

// restart makes what one replica holds all there is.
func (l *ledger) restart(a *account, p *meta.Partition, id int32) {
	l.last++
	a.committed, a.holds = l.last, map[int32]int{id: l.last}
}
