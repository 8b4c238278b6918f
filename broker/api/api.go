// Package api answers the requests of the Kafka protocol: one file an API, and
// one table that says which are served. It knows nothing of sockets; package
// broker frames the bytes and lends each request a slot to run in.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Slot is the place in the request-handler pool that a request runs in
// (num.io.threads). A handler that waits for something gives it back meanwhile.
type Slot interface {
	Release()
	Acquire(ctx context.Context) error
}

// Session is the lasting state of one connection. It is owned by the goroutine
// that reads the connection.
type Session struct {
	ID         uint64
	Listener   string // name of the listener that accepted it
	Kind       Kind   // of that listener
	LocalHost  string // the address that the client dialled, as the socket has it
	LocalPort  int32
	RemoteHost string
	Principal  string // such as User:ANONYMOUS; "" until the client is authenticated

	// Forwarded means that another broker asks for its client, which it has checked.
	Forwarded bool

	SoftwareName, SoftwareVersion string // from ApiVersions (KIP-511)

	// Ended, if not nil, is called when the connection has ended. It must not block.
	Ended func()

	fetch *fetchScratch // of the fetch whose answer was not written yet
	alarm *alarm        // that its fetches wait with; nil before the first
}

// Close gives back what an answer held that was not sent. It may be called once
// the connection's last handler has returned.
func (s *Session) Close() {
	if s.fetch != nil {
		s.fetch.Release()
	}
	if s.Ended != nil {
		s.Ended()
	}
}

// Kind says whom the clients of a listener talk to: this process as a broker, or as a
// controller (controller.listener.names). Each kind has a table of APIs of its own.
type Kind int

// The kinds of listeners.
const (
	Broker Kind = iota
	Controller
	kinds
)

// Call is one request on its way through a handler. It is valid until the
// handler returns.
type Call struct {
	Context context.Context // ends when the broker stops or the connection is closed
	Header  wire.RequestHeader
	Session *Session
	Slot    Slot
}

// Version returns the version of the request.
func (c *Call) Version() int16 { return c.Header.Version }

// Park runs wait without holding the call's slot. The error is that of the
// call's context.
func (c *Call) Park(wait func()) error {
	c.Slot.Release()
	wait()
	// The slot is taken back even when the broker stops, so that the answer
	// still goes out.
	return c.Slot.Acquire(context.WithoutCancel(c.Context))
}

// parked is Park for a wait that may fail, and returns that error too.
func (c *Call) parked(wait func() error) (err error) {
	if e := c.Park(func() { err = wait() }); e != nil {
		return e
	}
	return err
}

// Answer is what a handler has to say.
type Answer struct {
	// Response is nil where nothing is to be sent: a produce with acks=0.
	Response msg.Response
	// Wait, where not nil, returns once Response is complete. It is called once,
	// when the answers before this one are written. Only a produce leaves its
	// answer pending; it has run its ordered part by then.
	Wait func()
	// Size is about what the answer holds in memory while it is pending, in bytes.
	Size int
	// Done, if not nil, is notified when Response was written or dropped.
	Done Releaser
	// Take, if not nil, gets the connection once Response is written: no more requests
	// are read from it.
	Take func(net.Conn)
}

// Releaser takes back what an answer holds.
type Releaser interface{ Release() }

// Row is one line of the table of APIs.
type Row struct {
	API    *wire.API
	Handle func(c *Call, body []byte) (Answer, error)
	// Hidden rows are served and not advertised.
	Hidden bool
}

// ErrMalformed means that a request could not be decoded. Its connection is
// closed without an answer.
var ErrMalformed = errors.New("malformed request")

// decode reads a request. As in Kafka, bytes behind it are not looked at:
// librdkafka sends some behind a Metadata request for all topics.
func decode(req msg.Request, body []byte, version int16) error {
	r := prim.NewReader(body)
	req.DecodeFrom(&r, version)
	return r.Err()
}

// row makes the line of one API from its handler.
func row[R any, P interface {
	*R
	msg.Request
}, S msg.Response](key wire.Key, handle func(*Call, P) (S, error)) Row {
	api, _ := wire.Lookup(key)
	return Row{API: api, Handle: func(c *Call, body []byte) (Answer, error) {
		req := P(new(R))
		if err := decode(req, body, c.Header.Version); err != nil {
			return Answer{}, malformed(c, err)
		}
		resp, err := handle(c, req)
		if err != nil {
			return Answer{}, err
		}
		return Answer{Response: resp}, nil
	}}
}

// hidden returns a row that is served and not advertised.
func hidden(r Row) Row {
	r.Hidden = true
	return r
}

func malformed(c *Call, err error) error {
	return fmt.Errorf("%w: %s version %d: %w", ErrMalformed, c.Header.Key, c.Header.Version, err)
}

// code returns the protocol's code for an error from inside the broker.
func (h *Handlers) code(err error) kerr.Code {
	if err == nil {
		return kerr.None
	}
	var c kerr.Code
	if errors.As(err, &c) {
		return c
	}
	if c, ok := logCode(err); ok {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return kerr.RequestTimedOut
	}
	level := zap.ErrorLevel
	if errors.Is(err, context.Canceled) { // the client has gone, or the broker stops
		level = zap.DebugLevel
	}
	h.Logger.Log(level, "request failed", zap.Error(err))
	return kerr.UnknownServerError
}

// maxText bounds what an error says to a client: what it quotes may be long.
const maxText = 8 << 10

// text returns the message to send with an error, nil for none: what the error
// says beyond its code.
func text(err error) *string {
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	s := err.Error()
	var c kerr.Code
	if errors.As(err, &c) && s == c.Error() {
		s = c.Message()
	}
	return shortened(s)
}

// shortened returns what of s may be sent.
func shortened(s string) *string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return &s
}

// words is text without the words that stand for a bare code.
func words(err error) *string {
	var c kerr.Code
	if errors.As(err, &c) && err.Error() == c.Error() {
		return nil
	}
	return text(err)
}

// within bounds a call by a timeout that a request carries, in milliseconds.
func within(c *Call, ms int32) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context, time.Duration(max(ms, 0))*time.Millisecond)
}
