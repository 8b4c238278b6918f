package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pair is one connection: two ends and the two streams between them. Its mutex
// guards all four; nobody waits while holding it (sync.Cond releases it).
type pair struct {
	n      *Network
	mu     sync.Mutex
	a, b   Conn   // dialling and accepting end
	ab, ba stream // a to b, b to a
}

func newPair(n *Network, from, to Addr, buffer int) *pair {
	p := &pair{n: n}
	p.ab.init(&p.mu, buffer)
	p.ba.init(&p.mu, buffer)
	p.a = Conn{p: p, local: from, remote: to, in: &p.ba, out: &p.ab}
	p.b = Conn{p: p, local: to, remote: from, in: &p.ab, out: &p.ba}
	return p
}

// reset breaks the connection for both ends.
func (p *pair) reset() {
	p.mu.Lock()
	p.ab.breakOff(true)
	p.ba.breakOff(true)
	p.mu.Unlock()
	p.forget()
}

// forget drops the pair from the network.
func (p *pair) forget() {
	p.n.mu.Lock()
	delete(p.n.pairs, p)
	p.n.mu.Unlock()
}

// Conn is one end of a connection. It implements net.Conn, and CloseWrite and
// CloseRead as net.TCPConn does.
type Conn struct {
	p             *pair
	local, remote Addr
	in, out       *stream
	closed        bool // guarded by p.mu
}

// LocalAddr returns an Addr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns an Addr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

func (c *Conn) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Read returns what has arrived, waiting for at least one byte.
func (c *Conn) Read(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	n, err := c.read(b)
	return n, c.fail("read", err)
}

func (c *Conn) read(b []byte) (int, error) {
	s := c.in
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case s.readEnd.passed():
			return 0, os.ErrDeadlineExceeded
		case s.readerGone: // CloseRead
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		if n := s.take(b); n > 0 {
			return n, nil
		}
		if err := s.ended(); err != nil {
			return 0, err
		}
		s.wait(&s.readable)
	}
}

// Write waits until the peer's buffer has taken all of b. Concurrent writes do
// not mix.
func (c *Conn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	n, err := c.write(b)
	return n, c.fail("write", err)
}

func (c *Conn) write(b []byte) (done int, err error) {
	s := c.out
	for s.writing {
		if err := c.writeError(); err != nil {
			return 0, err
		}
		s.writable.Wait()
	}
	s.writing = true
	defer func() {
		s.writing = false
		s.writable.Broadcast()
	}()
	for {
		if err := c.writeError(); err != nil {
			return done, err
		}
		if done == len(b) {
			return done, nil
		}
		n, broke := s.put(b[done:])
		done += n
		if broke {
			c.in.breakOff(false)
			c.out.breakOff(false)
			return len(b), nil
		}
		if done < len(b) && n == 0 {
			s.writable.Wait()
		}
	}
}

// writeError returns why nothing can be written now, if so. The end of the
// reader is news that travels against the stream, so a block there hides it.
func (c *Conn) writeError() error {
	s := c.out
	switch {
	case c.closed:
		return net.ErrClosed
	case s.broken:
		return syscall.ECONNRESET
	case s.fin:
		return syscall.EPIPE
	case s.writeEnd.passed():
		return os.ErrDeadlineExceeded
	case s.readerGone && !c.in.held():
		return syscall.EPIPE
	}
	return nil
}

// Close ends both directions. The peer reads what was written, then io.EOF, or
// a reset if this end had not read all that was sent to it.
func (c *Conn) Close() error {
	c.p.mu.Lock()
	if c.closed {
		c.p.mu.Unlock()
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.out.finish(c.in.len() > 0)
	c.in.readerGone = true
	c.in.drop()
	c.in.readEnd.stop()
	c.out.writeEnd.stop()
	c.in.wake()
	both := c.p.a.closed && c.p.b.closed
	if both {
		c.p.ab.free()
		c.p.ba.free()
	}
	c.p.mu.Unlock()
	if both {
		c.p.forget()
	}
	return nil
}

// CloseWrite ends the outgoing stream: the peer reads io.EOF after what was
// written, and may still send.
func (c *Conn) CloseWrite() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.out.finish(false)
	return nil
}

// CloseRead drops what arrives from now on; the peer's writes fail.
func (c *Conn) CloseRead() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.in.readerGone = true
	c.in.drop()
	c.in.wake()
	return nil
}

// SetDeadline sets both deadlines; the zero time means none.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(&t, &t)
}

// SetReadDeadline bounds current and later reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(&t, nil) }

// SetWriteDeadline bounds current and later writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *Conn) setDeadlines(read, write *time.Time) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	if read != nil {
		c.in.readEnd.set(*read, &c.in.readable, &c.p.mu)
	}
	if write != nil {
		c.out.writeEnd.set(*write, &c.out.writable, &c.p.mu)
	}
	return nil
}

// deadline is a time after which a wait on a condition must end. It is guarded
// by the pair's mutex.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *deadline) set(at time.Time, cond *sync.Cond, mu *sync.Mutex) {
	d.at = at
	switch {
	case at.IsZero():
		d.stop()
	case d.timer == nil && time.Until(at) > 0:
		d.timer = time.AfterFunc(time.Until(at), func() {
			mu.Lock()
			cond.Broadcast()
			mu.Unlock()
		})
	case d.timer != nil:
		d.timer.Reset(time.Until(at))
	}
	cond.Broadcast()
}
