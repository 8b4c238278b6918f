// Package memnet is a network in memory: listeners and buffered connections
// with the semantics of TCP on one machine, and faults on demand (latency,
// partition, reset, bytes lost, half-open connections).
//
// It starts no goroutine and takes time only from package time, so that whole
// clusters run on it inside a testing/synctest bubble: every wait is on a
// channel or a sync.Cond, and no mutex is held while waiting.
//
// A place on the network is a host name or a host:port; any name will do. The
// faults take such places, and "*" for any.
package memnet

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	defaultBuffer = 128 << 10 // bytes held per direction before a writer waits
	backlog       = 128       // connections a listener holds that were not accepted
	firstPort     = 32768     // port 0 picks from here up
)

// Network is a set of listeners and the connections between them. It is safe
// for concurrent use.
type Network struct {
	mu        sync.Mutex // guards the fields below; taken before pair.mu
	listeners map[Addr]*listener
	pairs     map[*pair]struct{}
	rules     []rule
	changed   chan struct{} // closed and replaced when rules change
	nextPort  int
	buffer    int
	closed    bool
}

// New returns an empty network without faults.
func New() *Network {
	return &Network{
		listeners: make(map[Addr]*listener),
		pairs:     make(map[*pair]struct{}),
		changed:   make(chan struct{}),
		nextPort:  firstPort,
		buffer:    defaultBuffer,
	}
}

// Addr is an address on a Network.
type Addr struct {
	Host string
	Port int
}

// Network implements net.Addr.
func (Addr) Network() string { return "tcp" }

// String returns host:port.
func (a Addr) String() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

func parse(network, addr string) (Addr, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return Addr{}, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Addr{}, err
	}
	p, err := strconv.Atoi(port)
	if err != nil || p < 0 || p > 65535 {
		return Addr{}, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "0.0.0.0", "::":
		host = ""
	}
	return Addr{host, p}, nil
}

// SetBuffer sets how many bytes a later connection holds in each direction
// before its writer has to wait; 0 means 128 KiB.
func (n *Network) SetBuffer(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buffer = bytes
	if bytes <= 0 {
		n.buffer = defaultBuffer
	}
}

// Conns returns the number of connections that at least one side has open.
func (n *Network) Conns() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pairs)
}

// Close closes every listener and resets every connection.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed = true
	n.signal()
	var ls []*listener
	for _, l := range n.listeners {
		ls = append(ls, l)
	}
	var ps []*pair
	for p := range n.pairs {
		ps = append(ps, p)
	}
	n.mu.Unlock()
	for _, l := range ls {
		l.Close()
	}
	for _, p := range ps {
		p.reset()
	}
	return nil
}

// Listen listens on addr, host:port with any host name. An empty host accepts
// connections to every host that nothing else listens on; port 0 picks one.
func (n *Network) Listen(network, addr string) (net.Listener, error) {
	a, err := parse(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: a, Err: net.ErrClosed}
	}
	if a.Port == 0 {
		if a.Port, err = n.freePort(); err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Addr: a, Err: err}
		}
	}
	if n.listeners[a] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: a, Err: syscall.EADDRINUSE}
	}
	l := &listener{n: n, addr: a, queue: make(chan *Conn, backlog), done: make(chan struct{})}
	n.listeners[a] = l
	return l, nil
}

// freePort returns a port that no host uses. The caller holds n.mu.
func (n *Network) freePort() (int, error) {
	for range 65536 - firstPort {
		p := n.nextPort
		if n.nextPort++; n.nextPort > 65535 {
			n.nextPort = firstPort
		}
		if !n.portUsed(p) {
			return p, nil
		}
	}
	return 0, syscall.EADDRNOTAVAIL
}

func (n *Network) portUsed(p int) bool {
	for a := range n.listeners {
		if a.Port == p {
			return true
		}
	}
	return false
}

// Dial connects to addr from a host named "client". Across a partition it waits
// for ctx or for the partition to heal; where nothing listens it is refused.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.dialFrom(ctx, "client", network, addr)
}

// Host is the network as one of its hosts sees it.
type Host struct {
	n    *Network
	name string
}

// Host returns the network as the host called name sees it.
func (n *Network) Host(name string) *Host { return &Host{n, name} }

// Dial connects to addr from this host.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.n.dialFrom(ctx, h.name, network, addr)
}

// Listen listens on addr, whose empty host means this host.
func (h *Host) Listen(network, addr string) (net.Listener, error) {
	if a, err := parse(network, addr); err == nil && a.Host == "" {
		addr = Addr{h.name, a.Port}.String()
	}
	return h.n.Listen(network, addr)
}

func (n *Network) dialFrom(ctx context.Context, host, network, addr string) (net.Conn, error) {
	to, err := parse(network, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c, err := n.connect(ctx, host, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: to, Err: err}
	}
	return c, nil
}

func (n *Network) connect(ctx context.Context, host string, to Addr) (*Conn, error) {
	from, wait, err := n.reach(ctx, host, to)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n.mu.Lock()
	l := n.listeners[to]
	if l == nil {
		l = n.listeners[Addr{"", to.Port}]
	}
	if l == nil || n.closed {
		n.mu.Unlock()
		return nil, syscall.ECONNREFUSED
	}
	p := newPair(n, from, to, n.buffer)
	n.pairs[p] = struct{}{}
	n.applyTo(p)
	n.mu.Unlock()
	select {
	case l.queue <- &p.b:
		// A listener that closed meanwhile may have drained its queue before
		// this connection entered it.
		select {
		case <-l.done:
			l.drain()
		default:
		}
		return &p.a, nil
	case <-l.done:
		p.reset()
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		p.reset()
		return nil, ctx.Err()
	}
}

// reach waits until packets pass between host and to in both directions. It
// returns the local address and the time that a handshake takes.
func (n *Network) reach(ctx context.Context, host string, to Addr) (Addr, time.Duration, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Addr{}, 0, err
		}
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			return Addr{}, 0, net.ErrClosed
		}
		from := Addr{Host: host}
		out, back := n.linkState(from, to), n.linkState(to, from)
		if !out.blocked && !back.blocked {
			var err error
			from.Port, err = n.freePort()
			n.mu.Unlock()
			return from, out.latency + back.latency, err
		}
		changed := n.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// listener implements net.Listener.
type listener struct {
	n     *Network
	addr  Addr
	queue chan *Conn
	done  chan struct{}
	once  sync.Once
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.closedError()
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, l.closedError()
	}
}

func (l *listener) closedError() error {
	return &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

// Close stops listening and resets the connections that nobody accepted.
func (l *listener) Close() error {
	err := error(&net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed})
	l.once.Do(func() {
		l.n.mu.Lock()
		delete(l.n.listeners, l.addr)
		l.n.mu.Unlock()
		close(l.done)
		l.drain()
		err = nil
	})
	return err
}

func (l *listener) drain() {
	for {
		select {
		case c := <-l.queue:
			c.p.reset()
		default:
			return
		}
	}
}

// IsReset reports whether err is that of a connection that the peer or a fault
// reset.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
