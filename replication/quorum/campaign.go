package quorum

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"
)

const (
	// spare is what the heartbeat timeout is lowered by to have raft look at it at once.
	spare = time.Millisecond
	// turn is how long a node leaves the next election to each of those before it.
	turn = 50 * time.Millisecond
	// streamsKept is how many connections to a node are kept for the next message.
	streamsKept = 3
	// streamTimeout bounds the sending of a message. A larger one has longer.
	streamTimeout = 10 * time.Second
	// nobody is the id of no node.
	nobody = -1
	// probeTimeout bounds a look whether a node still listens.
	probeTimeout = time.Second
)

// before returns how many voters come before this node, in the order of ids, when a new
// leader is looked for; without is not one of them. ok is false if this node is no voter.
func (n *Node) before(without int32) (turns int, ok bool) {
	ids := slices.DeleteFunc(n.voters(), func(id int32) bool { return id == without })
	return slices.BinarySearch(ids, n.o.NodeID)
}

// pause waits for d, and reports whether the node is still open then.
func (n *Node) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-n.stop:
		return false
	}
}

// first has the node look for a leader soon after its start, and not only after a
// timeout. Where another one leads, the others keep to it: they are asked whether they
// would vote before there is an election.
func (n *Node) first() {
	turns, ok := n.before(nobody)
	if !ok || !n.pause(time.Duration(turns)*turn) {
		return
	}
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout -= spare
	if _, leader := n.raft.LeaderWithID(); leader == "" {
		if err := n.raft.ReloadConfig(c); err != nil {
			n.lg.Warn("raft keeps its timeouts", zap.Error(err))
		}
	}
}

// lost follows the end of a connection from a peer. If the peer led, and nothing listens
// where it did, its process is gone. A new leader is elected at once then: those that
// are left campaign in turn. A peer that is only silent is waited for.
func (n *Node) lost(peer int32) {
	if n.o.Lost != nil && peer != n.o.NodeID {
		n.o.Lost(peer)
	}
	leader := serverID(peer)
	if _, id := n.raft.LeaderWithID(); id != leader || peer == n.o.NodeID || n.hurrying.Swap(true) {
		return
	}
	go func() {
		defer n.hurrying.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
		defer cancel()
		conn, err := n.o.Streams.dial(ctx, n.peer(peer))
		if err == nil {
			conn.Close()
			return
		}
		turns, ok := n.before(peer)
		if !ok || !refused(err) || !n.pause(time.Duration(turns)*turn) {
			return
		}
		if _, id := n.raft.LeaderWithID(); id != leader && id != "" || n.raft.State() != raft.Follower {
			return
		}
		n.lg.Info("the leader of the metadata quorum is gone", zap.Int32("leader", peer))
		if err := n.campaign(); err != nil {
			n.lg.Warn("cannot campaign", zap.Error(err))
		}
	}()
}

// campaign begins an election in which the others vote even if they know a leader.
func (n *Node) campaign() error {
	id := serverID(n.o.NodeID)
	return n.transport.TimeoutNow(id, n.transport.LocalAddr(), &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, new(raft.TimeoutNowResponse))
}

// handOver has another voter lead before this node leaves, if it leads and there is one.
func (n *Node) handOver() {
	if n.o.Streams == nil || n.broken.Load() || n.raft.State() != raft.Leader || len(n.voters()) == 1 {
		return
	}
	done := make(chan error, 1)
	go func() { done <- n.raft.LeadershipTransfer().Error() }()
	late := time.NewTimer(handOverTimeout)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			n.lg.Info("nobody takes the leadership of the metadata quorum over", zap.Error(err))
		}
	case <-late.C:
		n.lg.Warn("nobody took the leadership of the metadata quorum over in time")
	case <-n.disk.failed:
	}
}

// handOverTimeout bounds how long a leader that is about to leave looks for another one.
const handOverTimeout = 5 * time.Second
