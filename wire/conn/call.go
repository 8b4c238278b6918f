package conn

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"reflect"
	"strings"
	"sync"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// buffers hold encoded requests, record bytes left out.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// maxPooled is the largest buffer that is kept for reuse.
const maxPooled = 64 << 10

// encode writes size, header and body into the call's buffer.
func (call *Call) encode(clientID string) error {
	b := append((*call.buf)[:0], 0, 0, 0, 0)
	b, err := wire.AppendRequestHeader(b, wire.RequestHeader{
		Key: wire.Key(call.Req.APIKey()), Version: call.Version, CorrelationID: call.id, ClientID: clientID,
	})
	if err != nil {
		return err
	}
	b = call.Req.AppendSplit(b, call.Version, &call.enc)
	*call.buf = b
	if err := call.enc.Err(); err != nil {
		return fmt.Errorf("encode %s: %w", call.Req.MessageName(), err)
	}
	size := len(b) - 4 + call.enc.CutBytes()
	if size > math.MaxInt32 {
		return fmt.Errorf("encode %s: %d bytes do not fit a frame", call.Req.MessageName(), size)
	}
	for _, cut := range call.enc.Cuts {
		if cut.Records.Region != nil {
			return fmt.Errorf("encode %s: records of a file in a request", call.Req.MessageName())
		}
	}
	binary.BigEndian.PutUint32(b, uint32(size))
	return nil
}

// appendBuffers appends the pieces of the frame: the encoded bytes, and between
// them the record bytes where they lie.
func (call *Call) appendBuffers(bufs net.Buffers) net.Buffers {
	b, at := *call.buf, 0
	for _, cut := range call.enc.Cuts {
		bufs = append(bufs, b[at:cut.At], cut.Records.B)
		at = cut.At
	}
	if at < len(b) {
		bufs = append(bufs, b[at:])
	}
	return bufs
}

// free gives the buffer back and drops the record bytes.
func (call *Call) free() {
	if call.buf != nil && cap(*call.buf) <= maxPooled {
		buffers.Put(call.buf)
	}
	call.buf = nil
	clear(call.enc.Cuts)
	call.enc.Cuts = call.enc.Cuts[:0]
}

// decode reads the body of an answer. A broker that does not know the version
// of an ApiVersions request answers in version 0 with error 35 (KIP-511).
func decode(call *Call, body []byte) error {
	if v, ok := call.Resp.(*msg.ApiVersionsResponse); ok && call.Version > 0 && len(body) >= 2 && binary.BigEndian.Uint16(body) == 35 {
		return v.Decode(body, 0)
	}
	return call.Resp.Decode(body, call.Version)
}

// apiName returns the name of the API of a request, for errors.
func apiName(req msg.Request) string { return strings.TrimSuffix(req.MessageName(), "Request") }

// move makes dst, a pointer to a response, hold what src points to.
func move(dst, src msg.Response) {
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(src).Elem())
}
