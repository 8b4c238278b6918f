package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klamm-io/klamm/wire/prim"
)

// ErrUnknownAPI means that a request names an API or a version that is not in
// the table.
var ErrUnknownAPI = errors.New("unknown api")

// RequestHeader is the header in front of a request, version 1 or 2.
//
//	int16 api key, int16 version, int32 correlation id, nullable string client id,
//	tagged fields (header version 2)
//
// The client id keeps the int16-length form in both versions.
type RequestHeader struct {
	Key           Key
	Version       int16
	CorrelationID int32
	ClientID      string // a null client id reads as ""
}

// maxHeaderTags bounds the tagged fields of a request header, which is read
// before anything is known about the client (CVE-2026-111115).
const maxHeaderTags = 16

// ParseRequestHeader parses the header at the start of frame, which is a
// request without its size, and returns the body. Of a request for an API that
// is not in the table only the fixed part is parsed, and the error is
// ErrUnknownAPI; so is that for a version out of range, but an ApiVersions
// request has its correlation id set, since it is to be answered (KIP-511).
//
// The client id is old's where the two are equal, which saves the copy.
func ParseRequestHeader(frame []byte, old string) (h RequestHeader, body []byte, err error) {
	r := prim.NewReader(frame)
	h.Key, h.Version, h.CorrelationID = Key(r.Int16()), r.Int16(), r.Int32()
	if r.Err() != nil {
		return h, nil, fmt.Errorf("request header: %w", r.Err())
	}
	api, ok := Lookup(h.Key)
	if !ok {
		return h, nil, fmt.Errorf("%w: key %d", ErrUnknownAPI, h.Key)
	}
	outside := h.Version < api.Min || h.Version > api.Max
	if outside {
		return h, nil, fmt.Errorf("%w: %s version %d, not in %d-%d", ErrUnknownAPI, api.Name, h.Version, api.Min, api.Max)
	}
	if n := r.Int16(); n >= 0 {
		if int(n) > r.Len() {
			return h, nil, fmt.Errorf("request header: %w: client id of %d bytes", prim.ErrShort, n)
		}
		text := r.Rest()[:n]
		if string(text) == old {
			h.ClientID = old
		} else {
			h.ClientID = string(text)
		}
		r.Skip(int(n))
	} // any negative length is null, as in Kafka
	if api.RequestHeaderVersion(h.Version) >= 2 {
		last := int64(-1)
		n := r.TagCount()
		if n > maxHeaderTags {
			return h, nil, fmt.Errorf("request header: %w: %d tagged fields", prim.ErrMalformed, n)
		}
		for ; n > 0; n-- {
			tag, end := r.Tag(last)
			last = int64(tag)
			r.Skip(end - r.Offset())
		}
	}
	if r.Err() != nil {
		return h, nil, fmt.Errorf("request header: %w", r.Err())
	}
	return h, r.Rest(), nil
}

// AppendRequestHeader appends the header of a request.
func AppendRequestHeader(b []byte, h RequestHeader) ([]byte, error) {
	api, ok := Lookup(h.Key)
	if !ok {
		return b, fmt.Errorf("%w: key %d", ErrUnknownAPI, h.Key)
	}
	b = prim.AppendInt16(b, int16(h.Key))
	b = prim.AppendInt16(b, h.Version)
	b = prim.AppendInt32(b, h.CorrelationID)
	var e prim.Encoder
	b = prim.AppendString(b, h.ClientID, false, &e)
	if api.RequestHeaderVersion(h.Version) >= 2 {
		b = append(b, 0)
	}
	return b, e.Err()
}

// AppendResponseHeader appends the header of a response to a request of the
// given API and version.
func AppendResponseHeader(b []byte, key Key, version int16, correlationID int32) []byte {
	b = prim.AppendInt32(b, correlationID)
	if api, ok := Lookup(key); ok && api.ResponseHeaderVersion(version) >= 1 {
		b = append(b, 0)
	}
	return b
}

// ParseResponseHeader parses the header at the start of frame, a response
// without its size, to a request of the given API and version.
func ParseResponseHeader(frame []byte, key Key, version int16) (correlationID int32, body []byte, err error) {
	r := prim.NewReader(frame)
	correlationID = r.Int32()
	if api, ok := Lookup(key); ok && api.ResponseHeaderVersion(version) >= 1 {
		last := int64(-1)
		for n := r.TagCount(); n > 0 && r.Err() == nil; n-- {
			tag, end := r.Tag(last)
			last = int64(tag)
			r.Skip(end - r.Offset())
		}
	}
	if r.Err() != nil {
		return 0, nil, fmt.Errorf("response header: %w", r.Err())
	}
	return correlationID, r.Rest(), nil
}

// ErrFrameSize means that a frame announced a size that is negative or above
// the limit.
var ErrFrameSize = errors.New("frame size out of range")

// ReadFrame reads one frame from r into buf, growing it as bytes arrive rather
// than by the announced size alone, and returns the frame without its size.
func ReadFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err
	}
	size := int32(binary.BigEndian.Uint32(head[:]))
	if size < 0 || int(size) > limit {
		return buf, &FrameSizeError{Size: int(size), Limit: limit}
	}
	return ReadFull(r, buf[:0], int(size))
}

// FrameSizeError is an ErrFrameSize with the numbers.
type FrameSizeError struct {
	Size  int // bytes, as the peer says; negative from one that does not speak the protocol
	Limit int
}

func (e *FrameSizeError) Error() string {
	return fmt.Sprintf("%v: %d, limit %d", ErrFrameSize, e.Size, e.Limit)
}

// Unwrap returns ErrFrameSize.
func (e *FrameSizeError) Unwrap() error { return ErrFrameSize }

// growStep is how far ReadFull allocates ahead of the bytes that have come.
const growStep = 1 << 20

// ReadFull reads n bytes from r behind those in buf. Memory grows with what has
// arrived: a size that a peer only claims costs at most growStep.
func ReadFull(r io.Reader, buf []byte, n int) ([]byte, error) {
	for end := len(buf) + n; len(buf) < end; {
		at := len(buf)
		next := end
		if end > cap(buf) {
			next = min(end, max(2*at, growStep))
			if next > cap(buf) {
				grown := make([]byte, at, next)
				copy(grown, buf)
				buf = grown
			}
		}
		if _, err := io.ReadFull(r, buf[at:next]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return buf[:at], err
		}
		buf = buf[:next]
	}
	return buf, nil
}
