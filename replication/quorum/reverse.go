package quorum

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// reversed is a reverse stream on which nothing was said yet. Its end is watched for, so that
// one whose peer has gone is not taken for one that waits.
type reversed struct {
	*stream
	from  Peer
	ended chan struct{} // closed when watching has ended
	err   error         // why; set before that
}

// TakeReverse takes a connection over that another node has opened for this one to speak on
// first.
func (s *Streams) TakeReverse(conn net.Conn, peer Peer) {
	c := s.take(conn, peer.ID)
	if c == nil {
		return
	}
	r := &reversed{stream: c, from: peer, ended: make(chan struct{})}
	s.mu.Lock()
	s.waiting[peer.ID] = append(s.waiting[peer.ID], r)
	close(s.more)
	s.more = make(chan struct{})
	came := s.came
	s.mu.Unlock()
	go s.watchReverse(r)
	if came != nil {
		came()
	}
}

var errSpoke = errors.New("the peer spoke first on a reverse stream")

// watchReverse reads from a reverse stream, on which nothing comes, until it has ended or its
// deadline says that it is wanted.
func (s *Streams) watchReverse(r *reversed) {
	defer close(r.ended)
	n, err := r.Conn.Read(make([]byte, 1))
	if err == nil || n > 0 {
		err = errSpoke
	}
	r.err = err
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	s.drop(r)
	r.Conn.Close()
	r.end(true)
}

// drop takes a reverse stream off those that wait, and reports whether it was one.
func (s *Streams) drop(r *reversed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.waiting[r.peer]
	for i, o := range of {
		if o == r {
			if s.waiting[r.peer] = append(of[:i:i], of[i+1:]...); len(of) == 1 {
				delete(s.waiting, r.peer)
			}
			return true
		}
	}
	return false
}

// reverse returns a reverse stream of a node to speak on, nil if none waits. It is the
// newest: the others may be of a process that is gone without a word. One of a process with
// another directory than is looked for is not it: that does not know what the node has
// acknowledged, nor whom it has voted for.
func (s *Streams) reverse(to Peer) net.Conn {
	for {
		r := s.newest(to)
		if r == nil {
			return nil
		}
		if !s.drop(r) {
			continue
		}
		if err := r.Conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
			r.Close()
			continue
		}
		<-r.ended
		if errors.Is(r.err, os.ErrDeadlineExceeded) && r.Conn.SetReadDeadline(time.Time{}) == nil {
			return r.stream
		}
		r.Close()
	}
}

// newest returns the newest reverse stream of a node that waits, nil for none.
func (s *Streams) newest(of Peer) *reversed {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Backward(s.waiting[of.ID]) {
		if of.is(r.from) {
			return r
		}
	}
	return nil
}

// reverseWait is how long a node that cannot be dialled is waited for. Raft tries again after
// an error, at pauses that grow: one that comes back would have to wait for the next.
const reverseWait = time.Minute

// awaitReverse waits for a reverse stream of a node.
func (s *Streams) awaitReverse(to Peer) (net.Conn, error) {
	late := time.NewTimer(reverseWait)
	defer late.Stop()
	s.mu.Lock()
	waits := s.waits
	s.mu.Unlock()
	for {
		s.mu.Lock()
		more, over := s.more, s.waits != waits || s.leaving
		s.mu.Unlock()
		if over {
			return nil, fmt.Errorf("%w: node %d", ErrNoListener, to.ID)
		}
		if c := s.reverse(to); c != nil {
			return c, nil
		}
		select {
		case <-more:
		case <-late.C:
			return nil, fmt.Errorf("%w: node %d has opened no stream for %s", ErrNoListener, to.ID, reverseWait)
		case <-s.closed:
			return nil, net.ErrClosed
		}
	}
}

// endWaits ends the waits for reverse streams that are under way.
func (s *Streams) endWaits() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits++
	close(s.more)
	s.more = make(chan struct{})
}

// leave ends the waits for reverse streams, for good.
func (s *Streams) leave() {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	s.endWaits()
}

// reachable returns the nodes that have a reverse stream which waits.
func (s *Streams) reachable() (peers []Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.waiting {
		peers = append(peers, of[len(of)-1].from)
	}
	return peers
}

// connected reports whether a node has opened a stream that is not closed.
func (s *Streams) connected(peer int32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken[peer]) > 0
}
