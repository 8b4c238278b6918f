package replication

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

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
	return b != nil && !b.Fenced && !b.ShuttingDown && (epoch <= 0 || epoch == b.Epoch)
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
		s.mu.Lock()
		all := s.queue
		s.queue = nil
		s.mu.Unlock()
		again, err := s.send(all)
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
		s.mu.Lock()
		s.queue = append(again, s.queue...)
		s.mu.Unlock()
		signal(s.wake)
	}
}

// send asks for all proposals that stand, and returns those that are to be sent again.
func (s *proposals) send(all []*proposal) (again []*proposal, err error) {
	req := control.AlterPartitionsRequest{Broker: s.o.NodeID, BrokerEpoch: s.o.Fetching.Epoch()}
	type key struct {
		topic prim.UUID
		index int32
	}
	sent := make(map[key]*proposal)
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
		sent[key{x.p.TopicID, x.p.Index}] = x
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, control.AlterPartition{Index: x.p.Index, LeaderEpoch: x.leaderEpoch, PartitionEpoch: x.partitionEpoch,
			NewISR: x.members, Recovering: x.recovering})
	}
	if len(sent) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, proposalTimeout)
	defer cancel()
	result, err := s.o.Alter(ctx, req)
	if err == nil {
		err = result.Err
	}
	if err != nil {
		for _, x := range sent {
			// A request that was surely not decided on leaves no doubt.
			x.maybe = x.maybe || !errors.Is(err, kerr.NotController) && !errors.Is(err, kerr.StaleBrokerEpoch)
			again = append(again, x)
		}
		return again, err
	}
	for _, t := range result.Topics {
		for _, a := range t.Partitions {
			k := key{t.ID, a.Index}
			x := sent[k]
			if x == nil {
				continue
			}
			delete(sent, k)
			var epoch *int32
			if a.State != nil {
				epoch = &a.State.PartitionEpoch
			}
			if x.decided(epoch, a.Err) {
				again, err = append(again, x), a.Err
			}
		}
	}
	for _, x := range sent { // nothing was said of it
		again = append(again, x)
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
