package quorum

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Streams are the connections that raft speaks over, between this node and the others.
// Those that others open come by Take, from the listener of the controllers. A node is
// addressed by its id; where it listens is Dial's to know.
//
// It implements raft.StreamLayer, and is safe for concurrent use.
type Streams struct {
	node     int32
	dial     Dial
	accepted chan net.Conn
	closed   chan struct{}
	close    sync.Once

	mu   sync.Mutex        // guards the fields below
	open map[net.Conn]bool // that are not closed yet
	lost func(peer int32)  // called when a peer has ended a connection; may be nil
}

// Dial opens a connection to another node that raft can speak over: the other node's
// Streams have taken its end over.
type Dial func(ctx context.Context, node int32) (net.Conn, error)

// NewStreams returns the streams of a node.
func NewStreams(node int32, dial Dial) *Streams {
	return &Streams{node: node, dial: dial, accepted: make(chan net.Conn), closed: make(chan struct{}), open: make(map[net.Conn]bool)}
}

// Address returns what raft takes for the address of a node.
func Address(node int32) raft.ServerAddress { return raft.ServerAddress(strconv.Itoa(int(node))) }

// Take takes a connection over that another node has opened.
func (s *Streams) Take(conn net.Conn, peer int32) {
	c := s.keep(conn, peer)
	select {
	case s.accepted <- c:
	case <-s.closed:
		c.Close()
	}
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
	node, err := strconv.ParseInt(string(address), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("raft address %q is no node id: %w", address, err)
	}
	if int32(node) == s.node {
		here, there := net.Pipe()
		go s.Take(there, s.node)
		return here, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := s.dial(ctx, int32(node))
	if err != nil {
		return nil, err
	}
	return s.keep(conn, int32(node)), nil
}

// keep notes that a connection is open.
func (s *Streams) keep(conn net.Conn, peer int32) net.Conn {
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
	var all []net.Conn
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

// watch has lost called when a peer ends a connection.
func (s *Streams) watch(lost func(peer int32)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = lost
}

// stream is a connection with a peer.
type stream struct {
	net.Conn
	of   *Streams
	peer int32
	once sync.Once
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
