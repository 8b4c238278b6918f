package chaos_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// condition is what a link does with what is sent over it.
type condition int

const (
	open      condition = iota
	blackhole           // keeps it until the link is mended, as if TCP sent it again and again
	delayed             // passes it on half a second later
)

// direction is a link from one broker to another.
type direction struct{ from, to int32 }

// links are proxies in front of the listeners of brokers. Who has connected is known from the
// client id in the first request, "broker-1".
type links struct {
	t     testing.TB
	front map[string]string // address of the proxy by that of the listener
	wg    sync.WaitGroup
	lns   []net.Listener

	mu      sync.Mutex // guards the fields below
	changed *sync.Cond
	state   map[direction]condition
	conns   map[net.Conn]bool
	closed  bool
}

// newLinks starts a proxy for each listener of each broker. The listeners of a kind are in the
// order of the brokers.
func newLinks(t testing.TB, kinds ...[]string) *links {
	l := &links{t: t, front: make(map[string]string), state: make(map[direction]condition), conns: make(map[net.Conn]bool)}
	l.changed = sync.NewCond(&l.mu)
	for _, listeners := range kinds {
		for i, back := range listeners {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.lns, l.front[back] = append(l.lns, ln), ln.Addr().String()
			l.wg.Go(func() { l.accept(ln, back, brokers[i]) })
		}
	}
	return l
}

func (l *links) set(from, to int32, c condition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state[direction{from, to}] = c
	l.changed.Broadcast()
}

func (l *links) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.state)
	l.changed.Broadcast()
}

func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		c.Close()
	}
	l.changed.Broadcast()
	l.mu.Unlock()
	for _, ln := range l.lns {
		ln.Close()
	}
	l.wg.Wait()
}

func (l *links) accept(ln net.Listener, back string, to int32) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			l.t.Errorf("a proxy cannot accept: %v", err)
			return
		}
		l.wg.Go(func() { l.join(c, back, to) })
	}
}

// keep notes a connection, to be closed with the links. It reports whether they are open.
func (l *links) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return !l.closed
}

// join connects what came to a proxy with the listener behind it.
func (l *links) join(c net.Conn, back string, to int32) {
	defer l.drop(c)
	if !l.keep(c) {
		return
	}
	first, from := hello(c)
	if from == 0 {
		return // it said nothing, as when somebody looks whether anybody listens
	}
	b, err := net.Dial("tcp", back)
	if err != nil {
		return // the broker does not run
	}
	defer l.drop(b)
	if !l.keep(b) || !l.pass(direction{from, to}) {
		return
	}
	if _, err := b.Write(first); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(b, c, direction{from, to}) })
	both.Go(func() { l.pump(c, b, direction{to, from}) })
	both.Wait()
}

func (l *links) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// hello reads the beginning of the first request, and who sends it; 0 if that is nobody.
//
//	int32 size | int16 key | int16 version | int32 correlation id | int16 length | client id
func hello(c net.Conn) (first []byte, from int32) {
	const before = 14
	first = make([]byte, before)
	if _, err := io.ReadFull(c, first); err != nil {
		return nil, 0
	}
	name := make([]byte, min(binary.BigEndian.Uint16(first[before-2:]), 100))
	if _, err := io.ReadFull(c, name); err != nil {
		return nil, 0
	}
	if _, err := fmt.Sscanf(string(name), "broker-%d", &from); err != nil {
		return nil, 0
	}
	return append(first, name...), from
}

// pass waits until a link lets something pass. It reports whether the links are open still.
func (l *links) pass(d direction) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state[d] == blackhole && !l.closed {
		l.changed.Wait()
	}
	return !l.closed
}

// pump passes on what is sent in one direction until either end is closed.
func (l *links) pump(to, from net.Conn, d direction) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil || !l.pass(d) {
			return
		}
		l.mu.Lock()
		late := l.state[d] == delayed
		l.mu.Unlock()
		if late {
			time.Sleep(500 * time.Millisecond)
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
