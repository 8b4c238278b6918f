package conformance_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// proxy stands between clients and a broker that advertises it. It cuts
// connections at produces that the broker has answered, before the client sees
// the answer: the records are in the log and the client cannot know.
type proxy struct {
	l    net.Listener
	done sync.WaitGroup

	mu     sync.Mutex
	broker string            // where to connect to
	conns  map[net.Conn]bool // all that are open
	cuts   []int             // at which of its produces a connection is cut, in the order of their first ones
	round  int               // calls of cut
	sent   int               // produces in this round
	used   int               // connections of them
	made   int               // cuts of them
	asked  map[asked]int     // requests, by who sends them and what they ask
	err    error             // why the broker could not be reached
}

// asked is what a proxy counts by.
type asked struct {
	client string // its client id
	key    uint16
}

// requests returns how many requests of each kind came since it was called last.
func (p *proxy) requests() map[asked]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.asked
	p.asked = make(map[asked]int)
	return out
}

// note counts a request.
func (p *proxy) note(frame []byte) {
	a := asked{key: binary.BigEndian.Uint16(frame[4:])}
	if len(frame) > 14 {
		if n := int(int16(binary.BigEndian.Uint16(frame[12:]))); n > 0 && 14+n <= len(frame) {
			a.client = string(frame[14 : 14+n])
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[a]++
}

// newProxy returns a proxy that listens and knows no broker yet.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, conns: make(map[net.Conn]bool), asked: make(map[asked]int)}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		p.done.Wait()
		if p.err != nil {
			t.Error(p.err)
		}
	})
	return p
}

func (p *proxy) port() int { return p.l.Addr().(*net.TCPAddr).Port }

// advertised is the override by which a broker sends its clients here.
func (p *proxy) advertised() string {
	return "advertised.listeners=PLAINTEXT://127.0.0.1:" + strconv.Itoa(p.port())
}

// serves sets the broker behind the proxy.
func (p *proxy) serves(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broker = addr
}

// cut sets at which produce, counted from 1, the next connection that carries
// any is cut, and the one after it, and so on.
func (p *proxy) cut(at ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts, p.sent, p.used, p.made = at, 0, 0, 0
	p.round++
}

// count returns how many produces came and how many of them were cut since cut.
func (p *proxy) count() (sent, made int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent, p.made
}

func (p *proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.done.Go(func() { p.relay(client) })
	}
}

// track registers a connection, or closes it where the proxy has ended.
func (p *proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// relay carries one connection. Both directions end together.
func (p *proxy) relay(client net.Conn) {
	defer p.drop(client)
	if !p.track(client) {
		return
	}
	p.mu.Lock()
	addr := p.broker
	p.mu.Unlock()
	broker, err := net.Dial("tcp", addr)
	if err != nil {
		p.fail(fmt.Errorf("the proxy cannot reach the broker: %w", err))
		return
	}
	defer p.drop(broker)
	if !p.track(broker) {
		return
	}
	var doomed sync.Map // correlation ids of the produces to cut
	p.done.Go(func() {
		defer client.Close()
		for {
			frame, err := readFrame(broker, 4)
			if err != nil {
				return
			}
			if _, ok := doomed.Load(string(frame[4:8])); ok {
				p.mu.Lock()
				p.made++
				p.mu.Unlock()
				return
			}
			if _, err := client.Write(frame); err != nil {
				return
			}
		}
	})
	defer broker.Close()
	var count produces
	for {
		frame, err := readFrame(client, 8)
		if err != nil {
			return
		}
		p.note(frame)
		if binary.BigEndian.Uint16(frame[4:]) == 0 && p.produce(&count) { // Produce
			doomed.Store(string(frame[8:12]), true)
		}
		if _, err := broker.Write(frame); err != nil {
			return
		}
	}
}

// produces is what a connection has carried.
type produces struct {
	round int // in which it was counted
	left  int // until the one to cut
}

// produce counts a produce of a connection and reports whether it is to be cut.
func (p *proxy) produce(c *produces) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	if c.round != p.round {
		*c = produces{round: p.round}
		if p.used < len(p.cuts) {
			c.left = p.cuts[p.used]
		}
		p.used++
	}
	c.left--
	return c.left == 0
}

func (p *proxy) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.conns != nil {
		p.err = err
	}
}

// readFrame returns a frame of at least so many bytes, with its size in front.
func readFrame(r io.Reader, least uint32) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < least || n > 100<<20 {
		return nil, errors.New("no frame of Kafka's protocol")
	}
	frame := append(make([]byte, 0, 4+int(n)), size[:]...)
	frame = frame[:cap(frame)]
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}
