package conn

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// maxHandover bounds the answer to the request of HandOver, in bytes.
const maxHandover = 64 << 10

// HandOver opens a connection to addr, sends it one request and reads the answer into
// resp. What is said on the connection after that is the caller's business: not a byte
// more has been read. It is closed if there is an error.
func HandOver(ctx context.Context, network, addr string, o Options, req msg.Request, version int16, resp msg.Response) (net.Conn, error) {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	nc, err := open(ctx, network, addr, o)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	if err := greet(nc, o.ClientID, req, version, resp); err != nil {
		stop()
		nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%s with %s: %w", apiName(req), addr, err)
	}
	if !stop() { // the deadline is set, or about to be
		nc.Close()
		return nil, ctx.Err()
	}
	return nc, nil
}

// greet sends a request and reads its answer.
func greet(nc net.Conn, clientID string, req msg.Request, version int16, resp msg.Response) error {
	const id = 1
	key := wire.Key(req.APIKey())
	b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: key, Version: version, CorrelationID: id, ClientID: clientID})
	if err != nil {
		return err
	}
	if b, err = req.AppendTo(b, version); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := nc.Write(b); err != nil {
		return err
	}
	frame, err := wire.ReadFrame(exact{nc}, nil, maxHandover)
	if err != nil {
		return err
	}
	got, body, err := wire.ParseResponseHeader(frame, key, version)
	if err != nil {
		return err
	}
	if got != id {
		return fmt.Errorf("%w: an answer to request %d, not %d", ErrProtocol, got, id)
	}
	return resp.Decode(body, version)
}

// exact hides that a connection can do more than read.
type exact struct{ io.Reader }
