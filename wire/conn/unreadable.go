package conn

import (
	"errors"
	"fmt"

	"github.com/klamm-io/klamm/wire"
)

// AnswerTooLargeError means that an answer has more bytes than
// Options.MaxResponse. Nothing of it was read, and the connection is closed. The
// same question would have the same answer.
type AnswerTooLargeError struct {
	API   string
	Addr  string
	Size  int
	Limit int
}

func (e *AnswerTooLargeError) Error() string {
	said := fmt.Sprintf("the answer of %s to %s has %d bytes, the limit is %d", e.Addr, e.API, e.Size, e.Limit)
	// The size is the first four bytes of what another protocol says.
	const http, tlsAlert = 'H'<<24 | 'T'<<16 | 'T'<<8 | 'P', 0x1503
	switch {
	case e.Size == http:
		said += "; it is an HTTP server's"
	case e.Size>>16 == tlsAlert:
		said += "; it is a TLS server's"
	}
	return said
}

// Unwrap returns wire.ErrFrameSize.
func (e *AnswerTooLargeError) Unwrap() error { return wire.ErrFrameSize }

// unreadable closes the connection after a frame that could not be read.
func (c *Conn) unreadable(err error) {
	var size *wire.FrameSizeError
	if !errors.As(err, &size) {
		c.Abort(fmt.Errorf("read from %s: %w", c.addr, err))
		return
	}
	c.mu.Lock()
	if c.err == nil && len(c.pending) > 0 {
		c.fault = fmt.Errorf("%w: %s claims %d bytes for its answer to %s", ErrProtocol, c.addr, size.Size, apiName(c.pending[0].Req))
		if size.Size >= 0 {
			c.fault = &AnswerTooLargeError{API: apiName(c.pending[0].Req), Addr: c.addr, Size: size.Size, Limit: size.Limit}
		}
	}
	c.mu.Unlock()
	c.Abort(fmt.Errorf("%w: read from %s: %v", ErrClosed, c.addr, err))
}
