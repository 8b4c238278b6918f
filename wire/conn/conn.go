// Package conn is one client connection to a broker: requests are written in
// order, answered in order, and several may be under way at once.
//
// A connection has two goroutines, a writer and a reader. The memory of record
// bytes that a request carries is not copied; it belongs to the connection until
// the request's done function runs, which is never before the write of that
// request has ended, whatever happens in between. So a buffer that is reused
// after done can never be sent under another request's name.
package conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Options of a connection. The zero value works.
type Options struct {
	Dial            func(ctx context.Context, network, addr string) (net.Conn, error) // nil dials TCP
	TLS             *tls.Config                                                       // nil means plain
	Authenticate    func(ctx context.Context, c *Conn) error                          // runs after ApiVersions, before anything else; nil for none
	ClientID        string                                                            // client.id
	SoftwareName    string                                                            // "" means klamm
	SoftwareVersion string                                                            // "" means 0
	MaxInFlight     int                                                               // 0 means 5 (max.in.flight.requests.per.connection)
	RequestTimeout  time.Duration                                                     // 0 means 30 s (request.timeout.ms)
	ConnectTimeout  time.Duration                                                     // 0 means 10 s, handshakes included (socket.connection.setup.timeout.ms)
	MaxIdle         time.Duration                                                     // 0 means never (connections.max.idle.ms)
	MaxResponse     int                                                               // bytes; 0 means 128 MiB

	// OnClose is called once, when the connection closes for whatever reason, with
	// what Err returns from then on. No request under way is told of the end before
	// OnClose has returned. It must not block, and must not call Close. It is called
	// for a connection that Dial does not return too. nil for none.
	OnClose func(err error)
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		d := &net.Dialer{}
		o.Dial = d.DialContext
	}
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&o.SoftwareName, "klamm")
	set(&o.SoftwareVersion, "0")
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 5
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 30 * time.Second
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = 128 << 20
	}
	return o
}

// splitAt is the size from which record bytes are written from where they are.
const splitAt = 1024

// Conn is a connection to one broker. It is safe for concurrent use.
type Conn struct {
	o        Options
	addr     string
	nc       net.Conn
	versions map[wire.Key]versionRange
	slots    chan struct{} // one for each request under way
	finished chan struct{} // closed when both goroutines have ended
	reported chan struct{} // closed when OnClose has returned

	mu      sync.Mutex // guards the fields below; not held while waiting for the network
	changed sync.Cond  // queue, written, err or writerDone changed
	queue   []*Call    // not yet given to the network
	pending []*Call    // expecting an answer, in order
	nextID  int32
	err     error // why the connection is closed, nil while it is open
	fault   error // what was wrong with the answer to the first of pending, if that closed the connection
	writing bool

	answers    int       // that came and could be read
	lastAnswer time.Time // when the last of them came
	mutedUntil time.Time // nothing is written before
	unmute     *time.Timer
	timer      *time.Timer
	wakeAt     time.Time // when timer fires; zero if it is not set
	lastUse    time.Time
}

type versionRange struct{ min, max int16 }

// Call is one request and what is to become of its answer. The caller fills in
// the exported fields and gives it to Send.
type Call struct {
	Req     msg.Request
	Resp    msg.Response  // decoded into; nil for a request that has no answer
	Version int16         // negotiated by Version
	Timeout time.Duration // 0 means Options.RequestTimeout

	// Keep leaves the memory of the answer to Resp, whose record bytes alias
	// it. Otherwise they are valid only until Done returns.
	Keep bool

	// Done is called once with how it went, on a goroutine of the connection: it must
	// not block, and must not call Close. Resp is filled in if err is nil.
	Done func(err error)

	id       int32
	sent     time.Time // when it was given to the connection
	deadline time.Time
	buf      *[]byte
	enc      prim.Encoder
	written  bool
}

// Dial connects to addr, negotiates versions and authenticates.
func Dial(ctx context.Context, network, addr string, o Options) (*Conn, error) {
	o = o.withDefaults()
	within, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	c, err := dial(within, network, addr, o)
	if err != nil && within.Err() != nil && ctx.Err() == nil { // our time is over, not the caller's
		return nil, fmt.Errorf("%w: no connection to %s within %v", ErrTimeout, addr, o.ConnectTimeout)
	}
	return c, err
}

// open opens the socket, with TLS where it is asked for.
func open(ctx context.Context, network, addr string, o Options) (net.Conn, error) {
	nc, err := o.Dial(ctx, network, addr)
	if err != nil || o.TLS == nil {
		return nc, err
	}
	cfg := o.TLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg = cfg.Clone()
		if cfg.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			cfg.ServerName = addr
		}
	}
	t := tls.Client(nc, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	return t, nil
}

func dial(ctx context.Context, network, addr string, o Options) (*Conn, error) {
	nc, err := open(ctx, network, addr, o)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		o: o, addr: addr, nc: nc,
		slots:    make(chan struct{}, o.MaxInFlight),
		finished: make(chan struct{}),
		reported: make(chan struct{}),
		lastUse:  time.Now(),
	}
	c.changed.L = &c.mu
	c.writing = true
	go c.writeLoop()
	go c.readLoop()
	if err := c.setUp(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("set up connection to %s: %w", addr, err)
	}
	return c, nil
}

func (c *Conn) setUp(ctx context.Context) error {
	if err := c.negotiate(ctx); err != nil {
		return err
	}
	if c.o.Authenticate != nil {
		return c.o.Authenticate(ctx, c)
	}
	return nil
}

// Addr returns the address that was dialled.
func (c *Conn) Addr() string { return c.addr }

// MaxResponse returns how many bytes an answer may have.
func (c *Conn) MaxResponse() int { return c.o.MaxResponse }

// Err returns why the connection is closed, nil while it is open.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Answers returns how many requests were answered, those of Dial included.
func (c *Conn) Answers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers
}

// LastAnswer returns when the last of those answers came.
func (c *Conn) LastAnswer() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastAnswer
}

// InFlight returns the number of requests that wait for their answer.
func (c *Conn) InFlight() int { return len(c.slots) }

// Close closes the connection and waits until every request under way has been
// told so.
func (c *Conn) Close() error {
	c.Abort(ErrClosed)
	<-c.finished
	return nil
}

// Abort closes the connection without waiting; requests under way fail with err.
func (c *Conn) Abort(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		if c.timer != nil {
			c.timer.Stop()
		}
		if c.unmute != nil {
			c.unmute.Stop()
		}
		c.changed.Broadcast()
	}
	c.mu.Unlock()
	if first {
		if c.o.OnClose != nil {
			c.o.OnClose(err)
		}
		close(c.reported)
		c.nc.Close()
	}
}

// Send gives a request to the connection and returns at once. It fails with
// ErrBusy if too many requests are in flight, and with other errors if the
// request cannot be written at all; Done is not called then.
func (c *Conn) Send(call *Call) error {
	select {
	case c.slots <- struct{}{}:
	default:
		return ErrBusy
	}
	if err := c.enqueue(call, splitAt); err != nil {
		<-c.slots
		return err
	}
	return nil
}

// Do sends a request and waits for the answer, which may alias memory of its
// own. It waits for its turn if too many requests are in flight. A context that
// ends does not take back what was sent.
func (c *Conn) Do(ctx context.Context, req msg.Request, resp msg.Response) error {
	v, err := c.Version(wire.Key(req.APIKey()))
	if err != nil {
		return err
	}
	return c.DoVersion(ctx, req, resp, v, 0)
}

// DoVersion is Do in a version, with a timeout in place of
// Options.RequestTimeout unless it is 0. A nil resp is for a request that has no
// answer.
func (c *Conn) DoVersion(ctx context.Context, req msg.Request, resp msg.Response, version int16, timeout time.Duration) error {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s to %s, behind %d other requests: %w", apiName(req), c.addr, cap(c.slots), ctx.Err())
	case <-c.finished:
		return c.Err()
	}
	done := make(chan error, 1)
	call := &Call{Req: req, Version: version, Timeout: timeout, Keep: true, Done: func(err error) { done <- err }}
	if resp != nil {
		// The answer is decoded into memory of its own, since the caller's is
		// its own again once ctx has ended.
		call.Resp = msg.NewResponse(req.APIKey())
	}
	if err := c.enqueue(call, 0); err != nil {
		<-c.slots
		return err
	}
	select {
	case err := <-done:
		if err == nil && resp != nil {
			move(resp, call.Resp)
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer to %s from %s: %w", apiName(req), c.addr, ctx.Err())
	}
}

// enqueue encodes the request, so that all but its large record bytes are the
// caller's again, and queues it. The caller has taken a slot.
func (c *Conn) enqueue(call *Call, split int) error {
	call.buf = buffers.Get().(*[]byte)
	call.enc = prim.Encoder{Split: split, Cuts: call.enc.Cuts[:0]}
	call.written = false
	timeout := call.Timeout
	if timeout <= 0 {
		timeout = c.o.RequestTimeout
	}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		call.free()
		return err
	}
	call.id = c.nextID
	c.nextID++
	c.mu.Unlock()
	if err := call.encode(c.o.ClientID); err != nil {
		call.free()
		return err
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		call.free()
		return c.err
	}
	call.sent, call.deadline = now, now.Add(timeout)
	if c.mutedUntil.After(now) {
		call.deadline = c.mutedUntil.Add(timeout)
	}
	c.lastUse = now
	c.queue = append(c.queue, call)
	c.pending = append(c.pending, call)
	c.arm(call.deadline)
	c.changed.Broadcast()
	return nil
}

// arm makes the timer fire at the latest at a time. The caller holds mu.
func (c *Conn) arm(at time.Time) {
	if !c.wakeAt.IsZero() && !at.Before(c.wakeAt) {
		return
	}
	c.wakeAt = at
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(at), c.expire)
	} else {
		c.timer.Reset(time.Until(at))
	}
}

// expire closes the connection if a request is overdue or nothing was asked for
// long, and else resets the timer.
func (c *Conn) expire() {
	now := time.Now()
	c.mu.Lock()
	c.wakeAt = time.Time{}
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	var why error
	var next time.Time
	for _, p := range c.pending {
		if !p.deadline.After(now) {
			why = &TimeoutError{API: apiName(p.Req), Addr: c.addr, After: now.Sub(p.sent)}
			break
		}
		if next.IsZero() || p.deadline.Before(next) {
			next = p.deadline
		}
	}
	if len(c.pending) == 0 && c.o.MaxIdle > 0 {
		if next = c.lastUse.Add(c.o.MaxIdle); !next.After(now) {
			why = fmt.Errorf("%w for %v", ErrIdle, c.o.MaxIdle)
		}
	}
	if why == nil && !next.IsZero() {
		c.arm(next)
	}
	c.mu.Unlock()
	if why != nil {
		c.Abort(why)
	}
}

// writeLoop writes what is queued until the connection closes.
func (c *Conn) writeLoop() {
	var batch []*Call
	var bufs net.Buffers
	out := newGatherer(c.nc)
	for {
		c.mu.Lock()
		for !c.mayWrite() && c.err == nil {
			c.changed.Wait()
		}
		if c.err != nil {
			c.writing = false
			c.changed.Broadcast()
			c.mu.Unlock()
			return
		}
		batch, c.queue = c.queue, batch[:0]
		c.mu.Unlock()

		bufs = bufs[:0]
		for _, call := range batch {
			bufs = call.appendBuffers(bufs)
		}
		err := out.write(bufs)
		clear(bufs)
		if err != nil {
			c.Abort(fmt.Errorf("write to %s: %w", c.addr, err))
			continue
		}
		c.wrote(batch)
		clear(batch)
	}
}

// wrote notes that calls are with the network, and ends those without answer.
func (c *Conn) wrote(batch []*Call) {
	silent := 0
	c.mu.Lock()
	for _, call := range batch {
		call.written = true
		if call.Resp == nil {
			silent++
		}
	}
	c.changed.Broadcast()
	// A call without answer ends here when no answer is awaited before it, and
	// else in its turn, so that Done is called in the order of Send.
	var done []*Call
	if silent > 0 {
		done = c.popSilent()
	}
	c.mu.Unlock()
	for _, call := range done {
		c.finish(call, nil)
	}
}

// popSilent takes the written calls without answer off the head of pending. The
// caller holds mu.
func (c *Conn) popSilent() (done []*Call) {
	for len(c.pending) > 0 && c.pending[0].written && c.pending[0].Resp == nil {
		done = append(done, c.pending[0])
		c.pop()
	}
	return done
}

func (c *Conn) pop() {
	copy(c.pending, c.pending[1:])
	c.pending[len(c.pending)-1] = nil
	c.pending = c.pending[:len(c.pending)-1]
	if len(c.pending) == 0 && c.o.MaxIdle > 0 {
		c.arm(c.lastUse.Add(c.o.MaxIdle))
	}
}

func (c *Conn) finish(call *Call, err error) {
	call.free()
	<-c.slots
	call.Done(err)
}

// readLoop reads answers until the connection closes, then fails the calls that
// are left.
func (c *Conn) readLoop() {
	r := bufio.NewReaderSize(c.nc, 32<<10)
	var frame []byte
	for {
		var err error
		if frame, err = wire.ReadFrame(r, frame, c.o.MaxResponse); err != nil {
			c.unreadable(err)
			break
		}
		kept, err := c.answer(frame)
		if err != nil {
			c.Abort(fmt.Errorf("%w: %v", ErrClosed, err))
			break
		}
		if kept {
			frame = nil
		}
	}
	<-c.reported
	c.mu.Lock()
	for c.writing {
		c.changed.Wait()
	}
	left, err, fault := c.pending, c.err, c.fault
	c.pending, c.queue = nil, nil
	c.mu.Unlock()
	for _, call := range left {
		if fault != nil {
			c.finish(call, fault)
			fault = nil
			continue
		}
		c.finish(call, err)
	}
	close(c.finished)
}

// answer hands a frame to the call that it answers.
func (c *Conn) answer(frame []byte) (kept bool, err error) {
	c.mu.Lock()
	silent := c.popSilent()
	var call *Call
	if len(c.pending) > 0 {
		call = c.pending[0]
	}
	// The answer can be here before the writer has noticed that it is done.
	for call != nil && !call.written && c.err == nil {
		c.changed.Wait()
	}
	if c.err != nil {
		err = c.err
		c.mu.Unlock()
		c.finishAll(silent)
		return false, err // it is closed already: this one changes nothing
	}
	if call == nil {
		c.mu.Unlock()
		c.finishAll(silent)
		return false, fmt.Errorf("%w: %s sent %d bytes that nobody asked for", ErrProtocol, c.addr, len(frame))
	}
	id, body, err := wire.ParseResponseHeader(frame, wire.Key(call.Req.APIKey()), call.Version)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: header of the answer of %s to %s: %w", ErrProtocol, c.addr, apiName(call.Req), err)
	case id != call.id:
		err = fmt.Errorf("%w: %s answered request %d, want %d (%s)", ErrProtocol, c.addr, id, call.id, apiName(call.Req))
	}
	if err != nil { // the call is still pending and will be completed
		c.fault = err
		c.mu.Unlock()
		c.finishAll(silent)
		return false, err
	}
	c.pop()
	c.answers++
	c.lastAnswer = time.Now()
	after := c.popSilent()
	c.mu.Unlock()
	c.finishAll(silent)
	if err = decode(call, body); err != nil {
		err = fmt.Errorf("%w: answer to %s from %s: %w", ErrProtocol, apiName(call.Req), c.addr, err)
	} else if d := throttle(call.Resp, call.Version); d > 0 {
		c.mute(d)
	}
	kept = call.Keep
	c.finish(call, err)
	c.finishAll(after)
	return kept, err
}

func (c *Conn) finishAll(calls []*Call) {
	for _, call := range calls {
		c.finish(call, nil)
	}
}
