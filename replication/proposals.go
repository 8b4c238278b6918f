package replication

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// proposals carries the in-sync sets that this broker's leaders propose to the controller:
// all that have come together in one request, and one request at a time (KIP-497).
type proposals struct {
	o      *Options
	lg     *zap.Logger
	image  atomic.Pointer[meta.Image] // newest that is followed
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	wake  chan struct{} // holds one
	mu    sync.Mutex    // guards queue
	queue []*proposal
}

// newProposals returns nil where nobody else could be in sync.
func newProposals(o *Options, lg *zap.Logger) *proposals {
	if o.Alter == nil {
		return nil
	}
	s := &proposals{o: o, lg: lg, wake: make(chan struct{}, 1), done: make(chan struct{})}
	s.image.Store(meta.Empty())
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if o.inline {
		close(s.done)
		return s
	}
	go s.run()
	return s
}

// registered returns the epoch of a broker's registration, 0 if there is none.
func (s *proposals) registered(id int32) int64 {
	if b := s.image.Load().Broker(id); b != nil {
		return b.Epoch
	}
	return 0
}

// eligible reports whether a broker that has fetched in an epoch may be in sync.
func (s *proposals) eligible(id int32, epoch int64) bool {
	b := s.image.Load().Broker(id)
	if bugs.Planted(bugs.AnyBrokerEpoch) {
		epoch = 0
	}
	return b != nil && !b.Fenced && !b.ShuttingDown && (epoch <= 0 || epoch == b.Epoch) || bugs.Planted(bugs.IneligibleJoins)
}

// add sends a proposal. It does not block.
func (s *proposals) add(x *proposal) {
	s.mu.Lock()
	s.queue = append(s.queue, x)
	s.mu.Unlock()
	signal(s.wake)
}

// Pauses between two tries grow from the first to the last.
const (
	firstProposalPause = 5 * time.Millisecond
	lastProposalPause  = 500 * time.Millisecond
	// proposalTimeout bounds one try. The answer may be lost.
	proposalTimeout = 5 * time.Second
)

func (s *proposals) run() {
	defer close(s.done)
	pause := time.Duration(0)
	for {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
		again, err := s.send(s.take())
		if len(again) == 0 {
			pause = 0
			continue
		}
		pause = min(max(2*pause, firstProposalPause), lastProposalPause)
		if pause == lastProposalPause {
			s.lg.Warn("cannot change in-sync sets", zap.Int("partitions", len(again)), zap.Error(err))
		}
		if clock.Sleep(s.ctx, s.o.Clock, pause) != nil {
			return
		}
		s.putBack(again)
	}
}

// take returns what is to be sent, which nobody else sends.
func (s *proposals) take() []*proposal {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.queue
	s.queue = nil
	return all
}

// putBack has proposals sent again, before others.
func (s *proposals) putBack(again []*proposal) {
	s.mu.Lock()
	s.queue = append(again, s.queue...)
	s.mu.Unlock()
	signal(s.wake)
}

// send asks for all proposals that stand, and returns those that are to be sent again.
func (s *proposals) send(all []*proposal) (again []*proposal, err error) {
	req, sent := s.request(all)
	if len(sent) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, proposalTimeout)
	defer cancel()
	result, err := s.o.Alter(ctx, req)
	return s.answered(sent, result, err)
}

// request returns the request for those of all that stand, and which they are.
func (s *proposals) request(all []*proposal) (req control.AlterPartitionsRequest, sent []*proposal) {
	req = control.AlterPartitionsRequest{Broker: s.o.NodeID, BrokerEpoch: s.o.Fetching.Epoch()}
	topics := make(map[prim.UUID]int)
	for _, x := range all {
		if !x.current() {
			continue
		}
		at, ok := topics[x.p.TopicID]
		if !ok {
			at = len(req.Topics)
			topics[x.p.TopicID] = at
			req.Topics = append(req.Topics, control.AlterTopic{ID: x.p.TopicID})
		}
		sent = append(sent, x)
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, control.AlterPartition{Index: x.p.Index, LeaderEpoch: x.leaderEpoch, PartitionEpoch: x.partitionEpoch,
			NewISR: x.members, Recovering: x.recovering})
	}
	return req, sent
}

// answered follows the answer to a request, and returns what is to be sent again. err is
// that of the way to the controller: nothing is known then of what was asked for.
func (s *proposals) answered(sent []*proposal, result control.AlterPartitionsResult, err error) ([]*proposal, error) {
	if err == nil {
		err = result.Err
	}
	if err != nil {
		for _, x := range sent {
			// A request that was surely not decided on leaves no doubt.
			if bugs.Planted(bugs.ForgetLostProposal) {
				x.decided(nil, kerr.IneligibleReplica)
				continue
			}
			if !errors.Is(err, kerr.NotController) && !errors.Is(err, kerr.StaleBrokerEpoch) {
				x.maybe, x.lost = true, s.o.Clock.Now()
			}
		}
		return sent, err
	}
	type key struct {
		topic prim.UUID
		index int32
	}
	answers := make(map[key]control.AlteredPartition)
	for _, t := range result.Topics {
		for _, a := range t.Partitions {
			answers[key{t.ID, a.Index}] = a
		}
	}
	var again []*proposal
	for _, x := range sent {
		a, ok := answers[key{x.p.TopicID, x.p.Index}]
		if !ok { // nothing was said of it
			again = append(again, x)
			continue
		}
		var epoch *int32
		if a.State != nil {
			epoch = &a.State.PartitionEpoch
		}
		if x.decided(epoch, a.Err) {
			again, err = append(again, x), a.Err
		}
	}
	return again, err
}

func (s *proposals) close() {
	if s != nil {
		s.cancel()
		<-s.done
	}
}

// Shrink has the leaders here do without followers that lag behind for longer than
// maxLag (replica.lag.time.max.ms).
func (r *Replicas) Shrink(maxLag time.Duration) {
	r.Each(func(p *Partition) bool {
		if p.Leads() {
			p.shrink(maxLag)
		}
		return true
	})
}
