package quorum

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// notices have the other nodes apply what is committed at once. By itself raft says how
// far that is with the next entry, or after a while. A notice is the message that raft
// would send then, an AppendEntries without entries: it names the entry before, so that
// a node which has another one there refuses it.
type notices struct {
	n    *Node
	wake chan struct{} // holds one

	mu      sync.Mutex // guards the fields below
	index   uint64     // of the last entry that was applied here
	term    uint64     // of that entry
	busy    map[raft.ServerID]bool
	sending sync.WaitGroup
}

func newNotices(n *Node) *notices {
	return &notices{n: n, wake: make(chan struct{}, 1), busy: make(map[raft.ServerID]bool)}
}

// committed notes that an entry was applied here.
func (s *notices) committed(index, term uint64) {
	s.mu.Lock()
	s.index, s.term = index, term
	s.mu.Unlock()
	s.nudge()
}

func (s *notices) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends notices until the node is closed.
func (s *notices) run() {
	defer s.sending.Wait()
	for {
		select {
		case <-s.wake:
			s.send()
		case <-s.n.stop:
			return
		}
	}
}

// send sends a notice to each node that is not being sent one.
func (s *notices) send() {
	r := s.n.raft
	leading := r.CurrentTerm() // read before the state, which changes first
	if r.State() != raft.Leader {
		return
	}
	f := r.GetConfiguration()
	if f.Error() != nil {
		return
	}
	own := serverID(s.n.o.NodeID)
	for _, peer := range f.Configuration().Servers {
		if peer.ID == own {
			continue
		}
		s.mu.Lock()
		index, term, busy := s.index, s.term, s.busy[peer.ID]
		s.busy[peer.ID] = true
		s.mu.Unlock()
		if busy {
			continue // it is looked at again when that has ended
		}
		s.sending.Go(func() {
			for pause := firstAgain; !s.notify(peer, leading, index, term) && pause <= lastAgain; pause *= 2 {
				select {
				case <-time.After(pause): // raft goes by the same clock
				case <-s.n.stop:
					pause = lastAgain
				}
				s.mu.Lock()
				index, term = s.index, s.term
				s.mu.Unlock()
			}
			s.mu.Lock()
			delete(s.busy, peer.ID)
			more := s.index > index
			s.mu.Unlock()
			if more {
				s.nudge()
			}
		})
	}
}

// A node that does not have the entry yet is told again, after pauses that grow from the one
// to the other.
const (
	firstAgain = 10 * time.Millisecond
	lastAgain  = 320 * time.Millisecond
)

// notify sends a notice in a term, and reports whether there is no need of another: the node
// has applied it, or this one does not lead in that term any more.
func (s *notices) notify(peer raft.Server, leading, index, term uint64) (done bool) {
	t, own := s.n.transport, serverID(s.n.o.NodeID)
	var answer raft.AppendEntriesResponse
	// If it fails, raft will say it.
	err := t.AppendEntries(peer.ID, peer.Address, &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(own), Addr: t.EncodePeer(own, t.LocalAddr())},
		Term:      leading, PrevLogEntry: index, PrevLogTerm: term, LeaderCommitIndex: index,
	}, &answer)
	return err == nil && answer.Success || s.n.raft.CurrentTerm() != leading
}
