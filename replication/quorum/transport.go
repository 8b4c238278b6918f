package quorum

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ErrTerm means that a message or an entry is of a term that the metadata log cannot hold: a
// batch has 31 bits for it.
var ErrTerm = errors.New("the term is above 2147483647, which the metadata log cannot hold")

// checkTerm returns the error of a term that is too large.
func checkTerm(term uint64) error {
	if term > math.MaxInt32 {
		return fmt.Errorf("%w: %d", ErrTerm, term)
	}
	return nil
}

// watched is raft's transport, with two things added. Messages and answers of a term that
// cannot be stored are refused: raft would take the term over. And it notes how far each
// peer has come, which raft itself knows but does not tell.
type watched struct {
	raft.Transport
	now      func() time.Time
	last     func() uint64 // index of this node's last entry
	consumer chan raft.RPC
	stop     <-chan struct{}

	mu       sync.Mutex // guards progress
	progress map[raft.ServerID]Progress
}

// Progress is how far a node has come, as the leader knows it.
type Progress struct {
	Term     uint64    // in which the leader heard of it
	Index    uint64    // of the last entry that it has for certain; 0 if that is not known
	Heard    time.Time // when it answered last
	CaughtUp time.Time // when it had all that the leader had, last; zero for never
}

// preVoting is what raft looks for in a transport that can ask for votes before an election.
type preVoting interface {
	raft.Transport
	raft.WithPreVote
}

func newWatched(t raft.Transport, now func() time.Time, last func() uint64, stop <-chan struct{}) *watched {
	return &watched{Transport: t, now: now, last: last, consumer: make(chan raft.RPC), stop: stop, progress: make(map[raft.ServerID]Progress)}
}

// run passes the messages of others on until the node is closed.
func (t *watched) run() {
	for {
		select {
		case rpc := <-t.Transport.Consumer():
			if refuse(rpc) {
				continue
			}
			select {
			case t.consumer <- rpc:
			case <-t.stop:
				return
			}
		case <-t.stop:
			return
		}
	}
}

// refuse answers a message of a term that is too large, and reports whether it did.
func refuse(rpc raft.RPC) bool {
	var term uint64
	switch m := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		term = m.Term
		for _, e := range m.Entries {
			term = max(term, e.Term)
		}
	case *raft.RequestVoteRequest:
		term = m.Term
	case *raft.RequestPreVoteRequest:
		term = m.Term
	case *raft.InstallSnapshotRequest:
		term = max(m.Term, m.LastLogTerm)
	}
	err := checkTerm(term)
	if err != nil {
		rpc.Respond(nil, err)
	}
	return err != nil
}

// Consumer implements raft.Transport.
func (t *watched) Consumer() <-chan raft.RPC { return t.consumer }

// SetHeartbeatHandler implements raft.Transport.
func (t *watched) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		t.Transport.SetHeartbeatHandler(nil)
		return
	}
	t.Transport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !refuse(rpc) {
			handle(rpc)
		}
	})
}

// AppendEntries implements raft.Transport.
func (t *watched) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	last := t.last() // what it has then, it has when it answers
	if err := t.Transport.AppendEntries(id, target, req, resp); err != nil {
		return err
	}
	if err := checkTerm(resp.Term); err != nil {
		return err
	}
	if resp.Term == req.Term {
		t.answered(id, req, resp, last)
	}
	return nil
}

func (t *watched) answered(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.progress[id]
	if p.Term != req.Term {
		p = Progress{Term: req.Term, CaughtUp: p.CaughtUp}
	}
	p.Heard = t.now()
	if resp.Success { // a heartbeat names no entry
		p.Index = max(p.Index, req.PrevLogEntry)
		if n := len(req.Entries); n > 0 {
			p.Index = max(p.Index, req.Entries[n-1].Index)
		}
	}
	if p.Index > 0 && p.Index >= last {
		p.CaughtUp = p.Heard
	}
	t.progress[id] = p
}

// of returns how far a node has come in a term.
func (t *watched) of(id raft.ServerID, term uint64) (Progress, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.progress[id]
	return p, ok && p.Term == term
}

// forget drops what is known of nodes other than those of a configuration.
func (t *watched) forget(keep map[raft.ServerID]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.progress {
		if !keep[id] {
			delete(t.progress, id)
		}
	}
}

// AppendEntriesPipeline implements raft.Transport. What is sent on a pipeline would go
// unseen.
func (t *watched) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// RequestVote implements raft.Transport.
func (t *watched) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.Transport.RequestVote(id, target, req, resp); err != nil {
		return err
	}
	return checkTerm(resp.Term)
}

// RequestPreVote implements raft.WithPreVote.
func (t *watched) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.Transport.(preVoting).RequestPreVote(id, target, req, resp); err != nil {
		return err
	}
	return checkTerm(resp.Term)
}

// InstallSnapshot implements raft.Transport.
func (t *watched) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.Transport.InstallSnapshot(id, target, req, resp, data); err != nil {
		return err
	}
	if err := checkTerm(resp.Term); err != nil {
		return err
	}
	if resp.Success && resp.Term == req.Term {
		t.mu.Lock()
		defer t.mu.Unlock()
		p := t.progress[id]
		t.progress[id] = Progress{Term: req.Term, Index: max(p.Index, req.LastLogIndex), Heard: t.now(), CaughtUp: p.CaughtUp}
	}
	return nil
}

// Close implements raft.WithClose.
func (t *watched) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
