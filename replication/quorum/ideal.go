package quorum

import (
	"context"
	"fmt"
	"sync"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// Ideal is a metadata quorum without disk, network and time, for tests and
// simulation: an entry is committed when it is appended, and each node applies it
// when it is asked to. It is safe for concurrent use.
type Ideal struct {
	mu      sync.Mutex
	entries []idealEntry
	leader  *IdealNode // nil for none
	term    uint64
}

type idealEntry struct {
	term    uint64
	records []meta.Record // that must not change any more
}

// IdealNode is one node's view of an Ideal.
type IdealNode struct {
	quorum      *Ideal
	id          int32
	subscribers []Subscriber
	elected     func(leads bool)

	// applying is held while entries are applied and subscribers are notified.
	applying sync.Mutex
	applied  int
	image    *meta.Image // guarded by quorum.mu
}

// Join adds a node that has applied nothing yet. elected may be nil.
func (q *Ideal) Join(id int32, elected func(leads bool), subscribers ...Subscriber) *IdealNode {
	return &IdealNode{quorum: q, id: id, subscribers: subscribers, elected: elected, image: meta.Empty()}
}

// Elect makes n the leader of a new term, nil nobody.
func (q *Ideal) Elect(n *IdealNode) {
	q.mu.Lock()
	old := q.leader
	q.leader = n
	q.term++
	q.mu.Unlock()
	if old != nil && old.elected != nil {
		old.elected(false)
	}
	if n != nil && n.elected != nil {
		n.elected(true)
	}
}

// Step applies the next entry that n has not applied, and reports whether there
// was one. A refused entry, which contradicts the image, changes nothing.
func (n *IdealNode) Step() (bool, error) {
	n.applying.Lock()
	defer n.applying.Unlock()
	return n.step()
}

func (n *IdealNode) step() (bool, error) {
	q := n.quorum
	q.mu.Lock()
	if n.applied == len(q.entries) {
		q.mu.Unlock()
		return false, nil
	}
	e, old := q.entries[n.applied], n.image
	q.mu.Unlock()
	n.applied++
	index := uint64(n.applied)
	next, delta, err := old.Apply(index, int32(e.term), e.records)
	if err != nil {
		return true, err
	}
	q.mu.Lock()
	n.image = next
	q.mu.Unlock()
	for _, told := range n.subscribers {
		told(Update{Old: old, New: next, Delta: delta, Index: index})
	}
	return true, nil
}

// Image implements MetadataLog.
func (n *IdealNode) Image() *meta.Image {
	n.quorum.mu.Lock()
	defer n.quorum.mu.Unlock()
	return n.image
}

// Append implements MetadataLog.
func (n *IdealNode) Append(term uint64, records []meta.Record) (uint64, error) {
	n.applying.Lock()
	defer n.applying.Unlock()
	q := n.quorum
	q.mu.Lock()
	switch {
	case q.leader != n:
		q.mu.Unlock()
		return 0, fmt.Errorf("%w: node %d does not lead", kerr.NotController, n.id)
	case q.term != term:
		q.mu.Unlock()
		return 0, ErrStale
	}
	q.entries = append(q.entries, idealEntry{term, records})
	index := len(q.entries)
	q.mu.Unlock()
	for {
		_, err := n.step()
		if n.applied == index {
			return uint64(index), err
		}
	}
}

// Barrier implements MetadataLog.
func (n *IdealNode) Barrier(context.Context) (uint64, error) {
	n.applying.Lock()
	defer n.applying.Unlock()
	for {
		// What contradicts the image was returned to its appender.
		if more, _ := n.step(); !more {
			break
		}
	}
	n.quorum.mu.Lock()
	defer n.quorum.mu.Unlock()
	if n.quorum.leader != n {
		return 0, kerr.NotController
	}
	return n.quorum.term, nil
}

// Standing implements MetadataLog. An entry counts as one offset.
func (n *IdealNode) Standing() Standing {
	q := n.quorum
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Standing{Leader: -1, Epoch: int32(q.term), HighWatermark: int64(len(q.entries)), EndOffset: int64(len(q.entries))}
	if q.leader != nil {
		s.Leader = q.leader.id
		s.Voters = []int32{q.leader.id}
	}
	return s
}

// EndOf implements MetadataLog.
func (n *IdealNode) EndOf(index uint64) int64 { return int64(index) }

// Close implements MetadataLog. It has nothing to give back.
func (n *IdealNode) Close() error { return nil }
