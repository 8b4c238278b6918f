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
	return fmt.Sprintf("the answer of %s to %s has %d bytes, the limit is %d", e.Addr, e.API, e.Size, e.Limit)
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
