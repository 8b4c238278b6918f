package replication

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
)

// placements tells the controller which log directory of this broker has a replica, where
// the metadata do not say so (KIP-858): only then does it know what is lost with one.
type placements struct {
	o      *Options
	lg     *zap.Logger
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one

	mu    sync.Mutex // guards queue
	queue map[*Partition]bool
}

// newPlacements returns nil where nobody asks.
func newPlacements(o *Options, lg *zap.Logger) *placements {
	if o.Place == nil || len(o.Dirs) < 2 {
		return nil
	}
	s := &placements{o: o, lg: lg, done: make(chan struct{}), wake: make(chan struct{}, 1), queue: make(map[*Partition]bool)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return s
}

// placed looks whether the metadata know where a replica is.
func (s *placements) placed(p *Partition, m *meta.Partition) {
	if s == nil || p.TopicID.IsZero() {
		return
	}
	for i, id := range m.Replicas {
		if id == s.o.NodeID && i < len(m.Directories) && m.Directories[i] == p.Dir.ID {
			return
		}
	}
	s.mu.Lock()
	s.queue[p] = true
	s.mu.Unlock()
	signal(s.wake)
}

// placeTogether is how long placements are collected: those of a topic come together.
const placeTogether = 10 * time.Millisecond

func (s *placements) run() {
	defer close(s.done)
	pause := placeTogether
	for {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
		if clock.Sleep(s.ctx, s.o.Clock, pause) != nil {
			return
		}
		s.mu.Lock()
		all := make([]*Partition, 0, len(s.queue))
		for p := range s.queue {
			all = append(all, p)
		}
		clear(s.queue)
		s.mu.Unlock()
		err := s.send(all)
		if err == nil {
			pause = placeTogether
			continue
		}
		pause = min(2*pause, lastProposalPause)
		if pause == lastProposalPause {
			s.lg.Warn("cannot tell the controller where replicas are", zap.Int("replicas", len(all)), zap.Error(err))
		}
		s.mu.Lock()
		for _, p := range all {
			s.queue[p] = true
		}
		s.mu.Unlock()
		signal(s.wake)
	}
}

// send tells the controller where partitions are. What it refuses of one, such as a topic
// that was deleted meanwhile, is no error: the metadata will say more.
func (s *placements) send(all []*Partition) error {
	var out []control.DirAssignment
	for _, p := range all {
		if !p.closed.Load() && p.Dir.Err() == nil {
			out = append(out, control.DirAssignment{Dir: p.Dir.ID, Topic: p.TopicID, Partition: p.Index})
		}
	}
	if len(out) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, proposalTimeout)
	defer cancel()
	_, err := s.o.Place(ctx, s.o.NodeID, s.o.Fetching.Epoch(), out)
	return err
}

func (s *placements) close() {
	if s != nil {
		s.cancel()
		<-s.done
	}
}
