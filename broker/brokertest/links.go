package brokertest

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// links are those between the brokers of a cluster on loopback, which can be cut. An
// in-memory network has its own.
type links struct {
	mu  sync.Mutex                 // guards the fields below
	at  func(address string) int32 // the broker at an address; nil while all start
	cut map[[2]int32]chan struct{} // pairs that are cut; closed when that ends
}

func newLinks() *links { return &links{cut: make(map[[2]int32]chan struct{})} }

// know is called when all brokers have their addresses.
func (l *links) know(at func(address string) int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
}

// pair is the key of a link, whoever dials.
func pair(a, b int32) [2]int32 { return [2]int32{min(a, b), max(a, b)} }

func (l *links) cutOff(a, b int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut[pair(a, b)] == nil {
		l.cut[pair(a, b)] = make(chan struct{})
	}
}

func (l *links) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, mended := range l.cut {
		close(mended)
		delete(l.cut, of)
	}
}

// mended returns a channel that is closed when the link between a broker and the one at an
// address is whole, nil if it is.
func (l *links) mended(from int32, to string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		return nil
	}
	return l.cut[pair(from, l.at(to))]
}

// dial returns how a broker dials.
func (l *links) dial(id int32) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for at := l.mended(id, address); at != nil; at = l.mended(id, address) {
			select {
			case <-at:
			case <-ctx.Done():
				return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
			}
		}
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &linkConn{Conn: nc, l: l, from: id, to: address, closed: make(chan struct{}), moved: make(chan struct{})}, nil
	}
}

// linkConn is a connection between two brokers, as the one that dialed has it. While their
// link is cut, what either writes waits here.
type linkConn struct {
	net.Conn
	l      *links
	from   int32
	to     string
	held   []byte // was read, and waits for the next Read
	closed chan struct{}
	once   sync.Once

	mu          sync.Mutex    // guards the fields below
	read, write time.Time     // deadlines, zero for none
	moved       chan struct{} // closed when one of them changes
}

// Read implements net.Conn, for one goroutine.
func (c *linkConn) Read(b []byte) (int, error) {
	n, err := copy(b, c.held), error(nil)
	if n == 0 {
		n, err = c.Conn.Read(b)
	}
	if e := c.pass("read", func() time.Time { return c.read }); e != nil {
		if len(c.held) == 0 && n > 0 {
			c.held = append([]byte(nil), b[:n]...)
		}
		return 0, e
	}
	c.held = c.held[min(n, len(c.held)):]
	return n, err
}

// Write implements net.Conn.
func (c *linkConn) Write(b []byte) (int, error) {
	if err := c.pass("write", func() time.Time { return c.write }); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// pass waits while the link is cut.
func (c *linkConn) pass(op string, deadline func() time.Time) error {
	fail := func(err error) error {
		return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	}
	for at := c.l.mended(c.from, c.to); at != nil; at = c.l.mended(c.from, c.to) {
		c.mu.Lock()
		until, moved := deadline(), c.moved
		c.mu.Unlock()
		var over <-chan time.Time
		if !until.IsZero() {
			t := time.NewTimer(time.Until(until))
			defer t.Stop()
			over = t.C
		}
		select {
		case <-at:
		case <-moved:
		case <-over:
			return fail(os.ErrDeadlineExceeded)
		case <-c.closed:
			return fail(net.ErrClosed)
		}
	}
	return nil
}

// Close implements net.Conn.
func (c *linkConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *linkConn) note(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	close(c.moved)
	c.moved = make(chan struct{})
}

// SetDeadline implements net.Conn.
func (c *linkConn) SetDeadline(t time.Time) error {
	c.note(func() { c.read, c.write = t, t })
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *linkConn) SetReadDeadline(t time.Time) error {
	c.note(func() { c.read = t })
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *linkConn) SetWriteDeadline(t time.Time) error {
	c.note(func() { c.write = t })
	return c.Conn.SetWriteDeadline(t)
}
