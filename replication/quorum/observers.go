package quorum

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
)

const (
	// lookAgain is how often the leader looks whether a node has caught up.
	lookAgain = 20 * time.Millisecond
	// observersEvery is how often the leader looks after observers that have gone.
	observersEvery = 10 * time.Second
	// absence is how long an observer that is no broker may be gone (KRaft forgets one after
	// as long).
	absence = 5 * time.Minute
	// observersAtMost is how many observers there may be that are no brokers.
	observersAtMost = 100
	// changeTimeout bounds one change.
	changeTimeout = 10 * time.Second
)

// sleep waits for d, and reports whether neither ctx nor the node has ended then.
func (n *Node) sleep(ctx context.Context, d time.Duration) bool {
	alarm, timer := clock.After(n.o.Clock, d)
	defer timer.Stop()
	select {
	case <-alarm:
		return true
	case <-ctx.Done():
	case <-n.stop:
	}
	return false
}

// keepObservers has the leader take nodes that open reverse streams in as observers, and let those
// go that are no members of the cluster any more, until the node is closed.
func (n *Node) keepObservers() {
	gone := make(map[int32]time.Time) // since when observers have no stream
	for {
		if n.raft.State() == raft.Leader {
			n.addObservers()
			n.removeObservers(gone)
		} else {
			clear(gone)
		}
		alarm, timer := clock.After(n.o.Clock, observersEvery)
		select {
		case <-n.look:
		case <-alarm:
		case <-n.stop:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// lookSoon has keepObservers look. It does not block.
func (n *Node) lookSoon() {
	select {
	case n.look <- struct{}{}:
	default:
	}
}

// addObservers takes in every node that has a reverse stream and is not in the configuration.
func (n *Node) addObservers() {
	others := 0
	for _, m := range n.Members() {
		if !m.Voter && n.Image().Broker(m.ID) == nil {
			others++
		}
	}
	for _, p := range n.o.Streams.reachable() {
		old, known := n.member(p.ID)
		switch {
		case known && (old.Directory == p.Directory || old.Voter):
			continue
		case !known && others >= observersAtMost && n.Image().Broker(p.ID) == nil:
			n.lg.Warn("a node is not taken in as an observer: there are too many that are no brokers", zap.Int32("node", p.ID), zap.Int("observers", others))
			continue
		}
		if n.reconfigure("takes a node in as an observer", p, func(ctx context.Context) error { return n.observe(ctx, p) }) {
			others++
		}
	}
}

// removeObservers lets observers go that are no brokers and have no stream: at once if they
// were brokers, and else after a while.
func (n *Node) removeObservers(gone map[int32]time.Time) {
	now := n.o.Clock.Now()
	for _, m := range n.Members() {
		if m.Voter || n.o.Streams.connected(m.ID) || n.Image().Broker(m.ID) != nil || now.Sub(m.Heard) < observersEvery {
			delete(gone, m.ID)
			continue
		}
		since, ok := gone[m.ID]
		if !ok {
			gone[m.ID], since = now, now
		}
		if now.Sub(since) < absence && !n.wasBroker(m.ID) {
			continue
		}
		if n.reconfigure("lets an observer go", m.Peer, func(ctx context.Context) error { return n.letGo(ctx, m.Peer) }) {
			delete(gone, m.ID)
			n.unregistered.Delete(m.ID)
		}
	}
}

// noteUnregistered notes which brokers are none any more, in order that they are no observers
// for long. It does not block.
func (n *Node) noteUnregistered(u Update) {
	for id := range u.Delta.Brokers {
		switch {
		case u.New.Broker(id) != nil:
			n.unregistered.Delete(id)
		case u.Old.Broker(id) != nil:
			n.unregistered.Store(id, true)
			n.lookSoon()
		}
	}
}

// wasBroker reports whether a node was a broker and was unregistered.
func (n *Node) wasBroker(id int32) bool {
	_, was := n.unregistered.Load(id)
	return was
}

// reconfigure makes one change, and reports whether it is made.
func (n *Node) reconfigure(what string, p Peer, change func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	if err := change(ctx); err != nil {
		if !n.isClosed() && n.raft.State() == raft.Leader {
			n.lg.Warn("the members of the metadata quorum are not changed", zap.String("what", what), zap.Int32("node", p.ID), zap.Error(err))
		}
		return false
	}
	n.lg.Info(what, zap.Int32("node", p.ID))
	return true
}
