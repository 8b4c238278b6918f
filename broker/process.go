package broker

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// process is what a broker of a cluster in one process has of a process of its own: it can
// be stopped in its tracks, and be killed. While it is paused, it reads and writes nothing,
// on the network or the disk; the system takes connections and bytes for it meanwhile, as
// for a process that is sent SIGSTOP. Its timers go on. Once it is killed, its disk takes
// nothing more. The methods of a nil process do nothing. It is safe for concurrent use.
type process struct {
	paused atomic.Pointer[pause]
	dead   atomic.Bool
}

// pause ends when over is closed.
type pause struct{ over chan struct{} }

// ErrKilled is the error of the disk of a broker that was killed.
var ErrKilled = errors.New("the broker was killed")

// pass waits while the process is paused. The error says that it is dead.
func (p *process) pass() error {
	if p == nil {
		return nil
	}
	for at := p.paused.Load(); at != nil; at = p.paused.Load() {
		<-at.over
	}
	if p.dead.Load() {
		return ErrKilled
	}
	return nil
}

// stopped reports whether the process is paused.
func (p *process) stopped() bool { return p != nil && p.paused.Load() != nil }

// pause pauses the process. It reports whether it was not paused yet.
func (p *process) pause() bool {
	return p.paused.CompareAndSwap(nil, &pause{make(chan struct{})})
}

// resume ends a pause. It reports whether there was one.
func (p *process) resume() bool {
	at := p.paused.Swap(nil)
	if at != nil {
		close(at.over)
	}
	return at != nil
}

// kill ends what the process does to the disk, and its pause.
func (p *process) kill() {
	p.dead.Store(true)
	p.resume()
}

// dial returns a dial whose connections are the process's.
func (p *process) dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := p.pass(); err != nil {
			return nil, err
		}
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return p.conn(nc), nil
	}
}

// conn returns a connection as the process has it.
func (p *process) conn(nc net.Conn) net.Conn {
	if p == nil {
		return nc
	}
	return &processConn{nc, p}
}

type processConn struct {
	net.Conn
	p *process
}

// Read implements net.Conn. What has come while the process was paused is read after that.
func (c *processConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if e := c.p.pass(); e != nil {
		return 0, e
	}
	return n, err
}

// Write implements net.Conn.
func (c *processConn) Write(b []byte) (int, error) {
	if err := c.p.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// muted returns a core that drops what a broker logs once it is killed: that its disk and
// its connections are gone is no news.
func (p *process) muted(c zapcore.Core) zapcore.Core {
	if p == nil {
		return c
	}
	return mutedCore{c, p}
}

type mutedCore struct {
	zapcore.Core
	p *process
}

// With implements zapcore.Core.
func (m mutedCore) With(fields []zapcore.Field) zapcore.Core {
	return mutedCore{m.Core.With(fields), m.p}
}

// Check implements zapcore.Core.
func (m mutedCore) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if m.p.dead.Load() {
		return c
	}
	return m.Core.Check(e, c)
}
