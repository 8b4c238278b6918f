package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// conn is one client connection. Its reader goroutine reads a frame, runs the
// handler in a slot of the pool and writes the answer. Where a produce's answer
// is not ready yet, the connection goes on to the produces behind it, and a
// second goroutine writes the answers in order as they get ready. Only a
// produce starts behind a parked produce; any other request waits until all
// before it are answered, so that a client observes no other order than Kafka's.
type conn struct {
	srv     *server
	nc      net.Conn
	session api.Session
	frames  *frames
	out     writer

	ctx    context.Context
	cancel context.CancelFunc

	// touched is when the last request came, was answered, or a part of an
	// answer was taken by the peer, in Unix nanoseconds. Idle connections are
	// closed by it.
	touched atomic.Int64
	busy    atomic.Bool // a request is being handled
	rested  atomic.Bool // no request came since it was asked to rest
	slot    slot

	// mu guards pending: the answers that wait for their turn, oldest first.
	mu      sync.Mutex
	pending []parked
	size    int       // bytes that pending holds
	fewer   sync.Cond // one of pending was written
}

// What a connection may have pending before no more is read from it. Kafka reads
// no request before the last one is answered.
const (
	maxParked      = 1000
	maxParkedBytes = 1 << 20
)

// parked is an answer in its place in the order.
type parked struct {
	header wire.RequestHeader
	answer api.Answer
}

func newConn(ctx context.Context, srv *server, nc net.Conn, listener *listener, id uint64) *conn {
	c := &conn{srv: srv, nc: nc}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.fewer.L = &c.mu
	c.frames = newFrames(c.ctx, nc, &srv.buffers, srv.memory)
	c.out = writer{conn: nc, pool: &srv.buffers, progress: c.touch, network: srv.networks[listener]}
	c.slot.pool = srv.pool
	if listener.kind == api.Controller {
		c.slot.pool = srv.controller
	}
	c.session = api.Session{ID: id, Listener: listener.name, Kind: listener.kind}
	if listener.open {
		c.session.Principal = anonymous
	}
	c.session.LocalHost, c.session.LocalPort = hostPort(nc.LocalAddr())
	c.session.RemoteHost, _ = hostPort(nc.RemoteAddr())
	c.touch()
	return c
}

// anonymous is the principal of a connection on a listener without
// authentication.
const anonymous = "User:ANONYMOUS"

func hostPort(a net.Addr) (string, int32) {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.IP.String(), int32(t.Port)
	}
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	n, _ := strconv.Atoi(port)
	return host, int32(n)
}

// log returns a logger that names the connection. It is made when it is needed:
// most connections never log.
func (c *conn) log() *zap.Logger {
	return c.srv.lg.With(zap.Uint64("conn", c.session.ID), zap.Stringer("peer", c.nc.RemoteAddr()))
}

func (c *conn) touch() { c.touched.Store(c.srv.now().UnixNano()) }

// run serves the connection on a goroutine of its own.
//
// The stack of a goroutine grows with the requests that it handles, and the
// runtime does not make it small again. One that has waited for a while starts
// anew: see rest.
func (c *conn) run() {
	err := c.contained()
	if errors.Is(err, errRoused) {
		go c.run()
		return
	}
	var taken *takenError
	if errors.As(err, &taken) {
		c.leave(taken.by)
		return
	}
	c.end(err)
	c.srv.forget(c)
}

// restAfter is for how long a connection must have been idle to rest.
const restAfter = time.Second

// rest has a connection that is idle for a while give its stack back. It reports
// whether this one was.
func (c *conn) rest(now time.Time) bool {
	if c.frames.socket == nil || c.rested.Load() || !c.idle() || now.UnixNano()-c.touched.Load() < int64(restAfter) {
		return false
	}
	c.rested.Store(true)
	c.frames.rouse()
	return true
}

// end ends the connection: the peer has closed it, a request was malformed, or
// the broker stops.
func (c *conn) end(err error) {
	c.cancel()
	c.wait() // each parked answer gets complete: by its commit, its deadline, or c.cancel
	c.nc.Close()
	c.frames.close()
	c.session.Close()
	c.ended(err)
}

// takenError means that a connection is to be taken over.
type takenError struct{ by func(net.Conn) }

func (*takenError) Error() string { return "the connection is taken over" }

// leave gives the connection away. The server knows it no more.
func (c *conn) leave(by func(net.Conn)) {
	c.cancel()
	c.frames.close()
	c.session.Close()
	c.srv.forget(c)
	c.nc.SetDeadline(time.Time{})
	by(c.srv.process.conn(c.nc))
}

// ended logs why a connection ends.
func (c *conn) ended(err error) {
	var encode *encodeError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	case errors.Is(err, errPanic):
		c.log().Error("closed a connection over a panic", zap.Error(err))
	case errors.As(err, &encode):
		c.log().Error("closed a connection over an answer that cannot be encoded", zap.Stringer("api_key", encode.key), zap.Int16("version", encode.version), zap.Error(encode.err))
	case errors.Is(err, api.ErrMalformed), errors.Is(err, wire.ErrFrameSize), errors.Is(err, wire.ErrUnknownAPI):
		// A client that is closed connects and asks again: it is named once a minute.
		kind := ""
		for _, is := range []error{api.ErrMalformed, wire.ErrFrameSize, wire.ErrUnknownAPI} {
			if errors.Is(err, is) {
				kind = is.Error()
			}
		}
		if skipped, ok := c.srv.repeats.Allow(c.session.RemoteHost + " " + c.frames.clientID + " " + kind); ok {
			c.log().Warn("closed a connection over a bad request", zap.Error(err), zap.String("client_id", c.frames.clientID),
				zap.String("software", c.session.SoftwareName), zap.String("software_version", c.session.SoftwareVersion), zap.Int("not_logged_before", skipped))
		}
	default:
		c.log().Debug("connection ended", zap.Error(err))
	}
}

// errPanic means that a handler panicked.
var errPanic = errors.New("panic in a request handler")

// contained is loop, whose panics end this connection and no other.
//
// Only those are caught that arise where a request is decoded, judged and
// answered: what they leave behind belongs to the connection. A panic below
// that, in the code that owns the logs, the metadata or the coordinators, may
// leave a lock held or a half-made change behind, and ends the process, which
// recovers from its disk.
func (c *conn) contained() (err error) {
	defer func() {
		if c.slot.held {
			c.slot.Release()
		}
		if p := recover(); p != nil {
			err = c.contain(p)
		}
	}()
	return c.loop()
}

// contain makes an error of a panic that is being recovered, or panics again.
func (c *conn) contain(p any) error {
	if where := stateOwner(); where != "" {
		c.log().Error("panic in code that owns state", zap.String("in", where), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		panic(p)
	}
	return fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
}

// frameLimit is the size of the largest frame that may come now. Who is not
// authenticated has little to say (sasl.server.max.receive.size).
func (c *conn) frameLimit() int {
	if c.session.Principal == "" {
		return min(c.srv.maxRequest, maxUnauthenticated)
	}
	return c.srv.maxRequest
}

// maxUnauthenticated is Kafka's default of sasl.server.max.receive.size.
const maxUnauthenticated = 512 << 10

func (c *conn) loop() error {
	for {
		c.frames.release()
		c.room()
		if err := c.frames.await(); err != nil {
			return err
		}
		if c.rested.Load() && c.rested.Swap(false) {
			c.srv.restless()
		}
		frame, err := c.frames.next(c.frameLimit())
		if err != nil {
			return err
		}
		if err := c.srv.process.pass(); err != nil {
			return err
		}
		c.touch()
		if !c.begin() {
			return nil // stopping: what was not begun is not answered
		}
		err = c.handle(frame)
		c.touch()
		c.busy.Store(false)
		if err != nil {
			return err
		}
		if c.srv.stopping.Load() {
			return nil
		}
	}
}

// begin marks the connection busy, unless the broker is stopping.
//
// The order matters: stop sets stopping and then looks at busy, and this sets
// busy and then looks at stopping, so that either this request is waited for or
// it is not begun.
func (c *conn) begin() bool {
	c.busy.Store(true)
	if c.srv.stopping.Load() {
		c.busy.Store(false)
		return false
	}
	return true
}

func (c *conn) parse(frame []byte) (wire.RequestHeader, []byte, error) {
	c.out.network.enter()
	defer c.out.network.leave()
	return wire.ParseRequestHeader(frame, c.frames.clientID)
}

func (c *conn) handle(frame []byte) error {
	header, body, err := c.parse(frame)
	if header.ClientID != "" || err == nil {
		c.frames.clientID = header.ClientID
	}
	if err != nil {
		if header.Key == wire.ApiVersions && errors.Is(err, wire.ErrUnknownAPI) {
			return c.versionUnknown(header)
		}
		return fmt.Errorf("%w: %w", api.ErrMalformed, err)
	}
	row := c.srv.tables[c.session.Kind].Lookup(header.Key)
	if row == nil {
		return fmt.Errorf("%w: %s is not served", wire.ErrUnknownAPI, header.Key)
	}
	if header.Key != wire.Produce {
		c.wait()
	}
	if err := c.slot.Acquire(c.ctx); err != nil {
		return err
	}
	call := api.Call{Context: c.ctx, Header: header, Session: &c.session, Slot: &c.slot}
	answer, err := row.Handle(&call, body)
	c.slot.Release()
	if err != nil {
		return err
	}
	if err := c.answer(header, answer); err != nil || answer.Take == nil {
		return err
	}
	if c.frames.start < c.frames.end {
		return fmt.Errorf("%w: more came before the answer to %s", api.ErrMalformed, header.Key)
	}
	return &takenError{answer.Take}
}

// versionUnknown answers an ApiVersions request of a version that this broker
// lacks: in version 0, with the range that it has (KIP-511).
func (c *conn) versionUnknown(header wire.RequestHeader) error {
	c.wait()
	row, _ := wire.Lookup(wire.ApiVersions)
	resp := &msg.ApiVersionsResponse{ErrorCode: int16(kerr.UnsupportedVersion)}
	low, high := row.Advertised()
	resp.ApiKeys = append(resp.ApiKeys, msg.ApiVersionsResponseApiVersion{ApiKey: int16(wire.ApiVersions), MinVersion: low, MaxVersion: high})
	header.Version = 0
	return c.send(header, api.Answer{Response: resp})
}

// answer sends an answer, now or in its turn.
func (c *conn) answer(header wire.RequestHeader, a api.Answer) error {
	c.mu.Lock()
	if a.Wait == nil && len(c.pending) == 0 {
		c.mu.Unlock()
		return c.send(header, a)
	}
	c.pending = append(c.pending, parked{header, a})
	c.size += a.Size
	first := len(c.pending) == 1
	c.mu.Unlock()
	if first {
		c.srv.goroutines.Go(c.writeParked)
	}
	return nil
}

func (c *conn) send(header wire.RequestHeader, a api.Answer) error {
	err := c.srv.process.pass()
	if a.Response != nil && err == nil {
		err = c.out.write(header, a.Response)
	}
	if a.Done != nil {
		a.Done.Release()
	}
	return err
}

// writeParked writes parked answers in order until none is left. The first of
// them keeps its place in pending until it is written, so that nobody else
// writes meanwhile.
func (c *conn) writeParked() {
	for {
		c.mu.Lock()
		p := c.pending[0]
		c.mu.Unlock()
		if err := c.sendParked(p); err != nil {
			c.ended(err)
			c.nc.Close() // the reader notices
		}
		c.touch()
		c.mu.Lock()
		c.pending[0] = parked{}
		c.pending = c.pending[1:]
		c.size -= p.answer.Size
		c.fewer.Broadcast()
		if len(c.pending) == 0 {
			c.pending = nil
			c.mu.Unlock()
			if c.srv.stopping.Load() && !c.busy.Load() {
				c.nc.Close() // it was not idle when the others were closed
			}
			return
		}
		c.mu.Unlock()
	}
}

// sendParked waits until an answer is complete and sends it. Its panics end the
// connection only.
func (c *conn) sendParked(a parked) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = c.contain(p)
		}
	}()
	if a.answer.Wait != nil {
		a.answer.Wait()
	}
	return c.send(a.header, a.answer)
}

// wait waits until no answer is parked.
func (c *conn) wait() {
	c.mu.Lock()
	for len(c.pending) > 0 {
		c.fewer.Wait()
	}
	c.mu.Unlock()
}

// room waits until another answer may be parked.
func (c *conn) room() {
	c.mu.Lock()
	for len(c.pending) >= maxParked || c.size >= maxParkedBytes {
		c.fewer.Wait()
	}
	c.mu.Unlock()
}

// idle reports whether the connection waits for a request.
func (c *conn) idle() bool {
	if c.busy.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == 0
}
