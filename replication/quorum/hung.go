package quorum

import (
	"strconv"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log/vfs"
)

const (
	// leaveWithin is how long after its disk has hung a leader is replaced at the latest,
	// where the timeouts of the quorum allow for it.
	leaveWithin = 10 * time.Second
	// passOnTimeout is how long a node that is asked to lead has to say that it will.
	passOnTimeout = 500 * time.Millisecond
)

// diskLimit returns how long an operation on the disk of the metadata log may take before the
// node gives up. Of leaveWithin it leaves as much as the others need to miss a leader that
// nobody takes over from at once. It is never less than what the others wait for a leader
// that is silent: a disk that is slow for that long does less harm than an election.
func diskLimit(heartbeat time.Duration) time.Duration {
	silence := 2 * heartbeat // raft waits up to twice as long
	return max(leaveWithin-silence-2*passOnTimeout, silence)
}

// watchDisk has the node fail when its disk does not answer. Raft would lead on: its
// heartbeats do not wait for the disk. A node without others waits for its disk: nobody
// could take over.
func (n *Node) watchDisk() {
	if n.lone() {
		n.disk = newDisk(nil)
		n.disk.failing(n.fail)
		return
	}
	heartbeat := n.o.Timeouts.Fetch
	if heartbeat == 0 {
		heartbeat = raft.DefaultConfig().HeartbeatTimeout
	}
	n.disk = newDisk(&vfs.Watchdog{Limit: diskLimit(heartbeat), Paused: n.o.Paused, Hung: func(err error) { n.disk.fail(err) }})
	n.disk.failing(n.fail)
	n.o.FS = vfs.Watched(n.o.FS, n.disk.dog)
}

// lone reports whether there are no other nodes.
func (n *Node) lone() bool { return n.o.Transport == nil && n.o.Streams == nil }

// leads reports whether the node leads as far as it knows.
func (n *Node) leads() bool { return n.joined.Load() && n.raft.State() == raft.Leader }

// passOn asks one voter after the other to lead, until one will. What is not on the disk of
// this node it has not sent to anybody, so that a voter that has all that is committed is as
// good as itself; the voters know which has.
func (n *Node) passOn() {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	own := raft.ServerID(strconv.Itoa(int(n.o.NodeID)))
	for _, peer := range f.Configuration().Servers {
		if peer.ID == own || peer.Suffrage != raft.Voter {
			continue
		}
		done := make(chan error, 1)
		go func() {
			done <- n.transport.TimeoutNow(peer.ID, peer.Address, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax,
				ID: []byte(own), Addr: n.transport.EncodePeer(own, n.transport.LocalAddr())}}, new(raft.TimeoutNowResponse))
		}()
		late := time.NewTimer(passOnTimeout)
		select {
		case err := <-done:
			late.Stop()
			if err == nil {
				n.lg.Info("asked another node to lead the metadata quorum", zap.String("node", string(peer.ID)))
				return
			}
		case <-late.C:
		}
	}
}
