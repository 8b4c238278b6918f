package conn

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed means that the connection was closed by this side.
	ErrClosed = errors.New("connection closed")
	// ErrTimeout means that an answer, or a connection, did not come in time. The
	// connection is closed then: later answers could not be distinguished from a lost one.
	ErrTimeout = errors.New("request timed out")
	// ErrIdle means that this side closed the connection since nothing was asked for
	// Options.MaxIdle.
	ErrIdle = fmt.Errorf("%w: idle", ErrClosed)
	// ErrBusy means that as many requests are under way as may be.
	ErrBusy = errors.New("too many requests in flight")
	// ErrProtocol means that the broker broke the protocol. The connection is
	// closed then. Only the call whose answer it was gets this error; the others
	// get ErrClosed.
	ErrProtocol = errors.New("broker broke the protocol")
	// ErrVersion means that client and broker have no version of an API in
	// common.
	ErrVersion = errors.New("no common version")
)

// TimeoutError means that the answer to a request did not come in time. It wraps
// ErrTimeout.
type TimeoutError struct {
	API   string
	Addr  string
	After time.Duration // since the request was given to the connection
}

func (e *TimeoutError) Error() string { return fmt.Sprintf("%v: %s to %s", ErrTimeout, e.API, e.Addr) }

// Unwrap returns ErrTimeout.
func (e *TimeoutError) Unwrap() error { return ErrTimeout }
