package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// parseServers parses HOST:PORT[,HOST:PORT...]; what says where it comes from.
func parseServers(what, s string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if why := badServer(part); why != "" {
			return nil, usagef("%s %q: %s; want HOST:PORT[,HOST:PORT...]", what, s, why)
		}
		out = append(out, part)
	}
	return out, nil
}

// badServer returns what is wrong with the address of a broker, "" if nothing
// is.
func badServer(s string) string {
	if s == "" {
		return "an address is empty"
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return fmt.Sprintf("%s has a scheme (%s://)", s, scheme)
	}
	host, port, err := net.SplitHostPort(s)
	var bad *net.AddrError
	switch {
	case errors.As(err, &bad) && strings.Contains(bad.Err, "missing port"):
		return s + " has no port"
	case err != nil:
		return s + " is no address; brackets belong around one of IPv6, as in [::1]:9092"
	case host == "" || strings.ContainsAny(host, " \t/@"):
		return fmt.Sprintf("%s has no usable host (%q)", s, host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Sprintf("port %q of %s is no number from 1 to 65535", port, s)
	}
	return ""
}

// reach dials brokers and reports which cannot be reached, each once until it is
// reached again. It is safe for concurrent use.
type reach struct {
	w io.Writer // nil says nothing

	mu      sync.Mutex // guards the fields below
	failing map[string]bool
	err     error // of the last dial, nil if it succeeded
}

// last returns the error of the last dial, nil if it succeeded.
func (r *reach) last() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// slowDial is how long a connection may take before that is reported.
const slowDial = 800 * time.Millisecond

func (r *reach) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	slow := time.AfterFunc(slowDial, func() { r.failed(addr, "no connection yet") })
	defer slow.Stop()
	nc, err := new(net.Dialer).DialContext(ctx, network, addr)
	switch {
	case err == nil:
	case ctx.Err() == nil:
		r.failed(addr, cause(err))
	default:
		return nc, err
	}
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	if tcp, ok := nc.(*net.TCPConn); ok {
		nc = r.listenTo(tcp, addr)
	}
	return nc, err
}

// answering is a connection that reports a broker which does not answer what is
// sent first. It embeds the TCP connection itself, which writes many buffers with
// one call.
type answering struct {
	*net.TCPConn
	r        *reach
	addr     string
	silence  *time.Timer
	answered atomic.Bool
}

func (r *reach) listenTo(tcp *net.TCPConn, addr string) net.Conn {
	a := &answering{TCPConn: tcp, r: r, addr: addr}
	a.silence = time.AfterFunc(slowDial, func() { r.failed(addr, "it takes the connection and does not answer") })
	return a
}

// Read implements net.Conn.
func (a *answering) Read(p []byte) (int, error) {
	n, err := a.TCPConn.Read(p)
	if !a.answered.Load() && n > 0 {
		a.answered.Store(true)
		a.silence.Stop()
		a.r.reached(a.addr)
	}
	return n, err
}

// Close implements net.Conn.
func (a *answering) Close() error {
	a.silence.Stop()
	return a.TCPConn.Close()
}

// cause is what a failed dial says besides the address.
func cause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}

// unreached reports whether there is a broker that cannot be reached.
func (r *reach) unreached() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failing) > 0
}

func (r *reach) failed(addr, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing[addr] || r.w == nil {
		return
	}
	if r.failing == nil {
		r.failing = make(map[string]bool)
	}
	r.failing[addr] = true
	fmt.Fprintf(r.w, "klamm: cannot reach %s: %s; still trying\n", addr, why)
}

func (r *reach) reached(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing[addr] {
		delete(r.failing, addr)
		fmt.Fprintf(r.w, "klamm: reached %s\n", addr)
	}
}

// syncWriter lets several goroutines write to one writer.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
