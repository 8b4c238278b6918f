package replication

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
)

// proposal is an in-sync set that a leader asks the controller for.
type proposal struct {
	p              *Partition
	leaderEpoch    int32
	partitionEpoch int32
	members        []control.ISRMember
	recovering     bool
	// maybe means that it was sent and not answered, at lost the last time: it may have been
	// decided on, or may yet.
	maybe bool
	lost  time.Time
}

// forgotten is how long after a request was given up nobody decides on it any more. Its
// connection has ended, so that it takes a controller that stood still, and another one is
// active then.
const forgotten = 2 * proposalTimeout

// open reports whether a try that was not answered may be decided on yet, though a later one
// was refused: not if one of the members has registered since, for which it would be refused
// for ever, nor long after that.
func (x *proposal) open() bool {
	if !x.maybe || x.p.now().Sub(x.lost) > forgotten {
		return false
	}
	return !slices.ContainsFunc(x.members, func(m control.ISRMember) bool {
		return m.Epoch >= 0 && m.Epoch < x.p.proposals.registered(m.Broker)
	})
}

// proposeAgain is how long a leader waits after a proposal that was refused.
const proposeAgain = 500 * time.Millisecond

// grow proposes the followers that have caught up. p.mu is held.
func (p *Partition) grow() {
	if p.proposals == nil || p.proposal != nil {
		return
	}
	add := p.state.Grow()
	if len(add) == 0 {
		return
	}
	add = slices.DeleteFunc(add, func(id int32) bool { return !p.proposals.eligible(id, p.epochs[id]) })
	if len(add) == 0 || p.now().Before(p.proposeFrom) {
		return
	}
	p.state.Propose(add)
	p.propose(append(slices.Clone(p.state.InSync()), add...))
}

// shrink proposes to do without the followers that lag.
func (p *Partition) shrink(maxLag time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == nil || p.proposals == nil || p.proposal != nil || p.now().Before(p.proposeFrom) || p.closed.Load() {
		return
	}
	lag := p.state.Lagging(p.now(), maxLag)
	if len(lag) == 0 {
		return
	}
	p.lg.Warn("followers lag behind and are to leave the in-sync set", zap.String("topic", p.Topic), zap.Int32("partition", p.Index),
		zap.Int32s("lagging", lag), zap.Int32s("in_sync", p.state.InSync()), zap.Int64("high_watermark", p.state.HighWatermark()), zap.Int64("log_end", p.state.End()))
	next := slices.DeleteFunc(slices.Clone(p.state.InSync()), func(id int32) bool { return slices.Contains(lag, id) })
	p.propose(next)
	if bugs.Planted(bugs.ShrinkAtOnce) && p.state.Commit(next) {
		p.advanced()
	}
}

// propose asks for an in-sync set. p.mu is held.
func (p *Partition) propose(inSync []int32) {
	v := p.view.Load()
	x := &proposal{p: p, leaderEpoch: v.leaderEpoch, partitionEpoch: v.partitionEpoch}
	for _, id := range inSync {
		m := control.ISRMember{Broker: id, Epoch: -1}
		switch epoch := p.epochs[id]; {
		case id == p.node:
			m.Epoch = p.proposals.o.Fetching.Epoch()
		case epoch > 0 && !bugs.Planted(bugs.AnyBrokerEpoch):
			m.Epoch = epoch
		}
		x.members = append(x.members, m)
	}
	p.proposal = x
	p.proposals.add(x)
}

// current reports whether a proposal is not decided on, as far as is known.
func (x *proposal) current() bool {
	x.p.mu.Lock()
	defer x.p.mu.Unlock()
	return x.p.proposal == x
}

// decided follows the answer to a proposal. It reports whether it is to be sent again.
//
// What is granted comes about when the metadata say so. So does what may have been granted
// by an answer that was lost: until then everybody counts who could be in sync.
func (x *proposal) decided(state *int32, err error) (again bool) {
	p := x.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proposal != x {
		return false
	}
	var code kerr.Code
	errors.As(err, &code)
	switch {
	case err == nil && state != nil && *state > p.view.Load().partitionEpoch:
		return false
	case err == nil:
	case code == kerr.InvalidUpdateVersion, code == kerr.FencedLeaderEpoch, code == kerr.NewLeaderElected, code == kerr.NotController:
		return false // newer metadata are on their way
	case code == kerr.IneligibleReplica, code == kerr.InvalidRequest, code == kerr.UnknownTopicId, code == kerr.UnknownTopicOrPartition:
		if bugs.Planted(bugs.KeepLostProposal) && x.maybe {
			return false
		}
		if x.open() {
			return true // else it would stand for ever, and no other set could be proposed
		}
		p.lg.Info("the controller refused an in-sync set", zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Any("members", x.members), zap.Error(err))
		p.proposeFrom = p.now().Add(proposeAgain)
	default:
		x.maybe, x.lost = true, p.now()
		return true
	}
	p.proposal = nil
	if p.state != nil && p.state.Commit(slices.Clone(p.state.InSync())) {
		p.advanced()
	}
	return false
}
