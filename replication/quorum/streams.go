package quorum

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Streams are the connections that raft speaks over, between this node and the others.
// Those that others open come by Take, from the listener of the controllers.
//
// A node that has no such listener cannot be dialled. It opens reverse streams instead, which
// come by TakeReverse: on those this node speaks first, as if it had opened them.
//
// It implements raft.StreamLayer, and is safe for concurrent use.
type Streams struct {
	node     int32
	dial     Dial
	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once

	mu      sync.Mutex            // guards the fields below
	open    map[*stream]bool      // that are not closed yet
	taken   map[int32][]*stream   // those of open that a peer has opened, the oldest first
	known   func(peer int32) bool // reports whether the quorum's configuration has a node; may be nil. It does not block
	waiting map[int32][]*reversed // reverse streams on which nothing was said yet, the oldest first
	more    chan struct{}         // closed when a reverse stream comes, or waits are to end
	leaving bool                  // nobody is waited for any more
	waits   int                   // raised when the waits under way are to end
	lost    func(peer int32)      // called when a peer has ended a connection; may be nil
	came    func()                // called when a reverse stream has come; may be nil
}

// Dial opens a connection to another node that raft can speak over: the other node's
// Streams have taken its end over. Its error is ErrNoListener if the node has none.
type Dial func(ctx context.Context, to Peer) (net.Conn, error)

// ErrNoListener means that a node cannot be dialled: it is waited for.
var ErrNoListener = errors.New("the node has no listener for controllers that is known")

// How many streams are held open for others. A peer that opens another one loses its oldest:
// of a peer that has come back it is one of before.
const (
	streamsOfPeer = 12
	// streamsOfStrangers is how many there are of nodes that the configuration does not
	// have, all in all. More are refused.
	streamsOfStrangers = 240
)

// NewStreams returns the streams of a node.
func NewStreams(node int32, dial Dial) *Streams {
	return &Streams{node: node, dial: dial, accepted: make(chan net.Conn), closed: make(chan struct{}), open: make(map[*stream]bool),
		taken: make(map[int32][]*stream), waiting: make(map[int32][]*reversed), more: make(chan struct{})}
}

// Take takes a connection over that another node has opened.
func (s *Streams) Take(conn net.Conn, peer int32) {
	c := s.take(conn, peer)
	if c == nil {
		return
	}
	select {
	case s.accepted <- c:
	case <-s.closed:
		c.Close()
	}
}

// take notes that a peer has opened a connection. It closes it and returns nil if there are
// too many.
func (s *Streams) take(conn net.Conn, peer int32) *stream {
	c := s.keep(conn, peer)
	s.mu.Lock()
	var out *stream
	switch {
	case s.stranger(peer) && s.strangers() >= streamsOfStrangers:
		out = c
	case s.open[c]:
		c.taken = true
		s.taken[peer] = append(s.taken[peer], c)
		if len(s.taken[peer]) > streamsOfPeer {
			out = s.taken[peer][0]
		}
	}
	s.mu.Unlock()
	if out != nil {
		out.Close()
	}
	if out == c {
		return nil
	}
	return c
}

// stranger reports whether the configuration does not have a node. mu is held.
func (s *Streams) stranger(peer int32) bool {
	return peer != s.node && s.known != nil && !s.known(peer)
}

// strangers returns how many streams nodes have opened that the configuration does not have.
// mu is held.
func (s *Streams) strangers() (n int) {
	for peer, of := range s.taken {
		if s.stranger(peer) {
			n += len(of)
		}
	}
	return n
}

// Accept implements raft.StreamLayer.
func (s *Streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer. A node reaches itself too.
func (s *Streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, err := parsePeer(address)
	if err != nil {
		return nil, err
	}
	if to.ID == s.node {
		here, there := net.Pipe()
		go s.Take(there, s.node)
		return here, nil
	}
	if c := s.reverse(to); c != nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.dial(ctx, to)
	if errors.Is(err, ErrNoListener) {
		return s.awaitReverse(to)
	}
	if err != nil {
		return nil, err
	}
	return s.keep(conn, to.ID), nil
}

// keep notes that a connection is open.
func (s *Streams) keep(conn net.Conn, peer int32) *stream {
	c := &stream{Conn: conn, of: s, peer: peer}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
	select {
	case <-s.closed:
		conn.Close() // Close may have looked already
	default:
	}
	return c
}

// Close implements raft.StreamLayer. It closes every connection, too.
func (s *Streams) Close() error {
	s.close.Do(func() { close(s.closed) })
	s.mu.Lock()
	var all []*stream
	for c := range s.open {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	return nil
}

// Addr implements raft.StreamLayer.
func (s *Streams) Addr() net.Addr { return nodeAddr(s.node) }

type nodeAddr int32

func (nodeAddr) Network() string  { return "node" }
func (a nodeAddr) String() string { return strconv.Itoa(int(a)) }

// watch has lost called when a peer ends a connection, and came when a reverse stream has
// come. known reports whether the quorum's configuration has a node.
func (s *Streams) watch(lost func(peer int32), came func(), known func(peer int32) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost, s.came, s.known = lost, came, known
}

// stream is a connection with a peer.
type stream struct {
	net.Conn
	of   *Streams
	peer int32
	once sync.Once

	taken bool // guarded by of.mu: the peer has opened it
}

// Read implements net.Conn.
func (c *stream) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.end(true)
	}
	return n, err
}

// Close implements net.Conn.
func (c *stream) Close() error {
	c.end(false)
	return c.Conn.Close()
}

func (c *stream) end(byPeer bool) {
	c.once.Do(func() {
		s := c.of
		s.mu.Lock()
		delete(s.open, c)
		if c.taken {
			if s.taken[c.peer] = slices.DeleteFunc(s.taken[c.peer], func(o *stream) bool { return o == c }); len(s.taken[c.peer]) == 0 {
				delete(s.taken, c.peer)
			}
		}
		lost := s.lost
		s.mu.Unlock()
		if byPeer && lost != nil {
			lost(c.peer)
		}
	})
}

// refused reports whether a dial failed since nothing listens at the address: the
// process that did is gone.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
