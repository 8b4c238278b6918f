package prim

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// UUID is a 16-byte identifier. The zero UUID means "none".
type UUID [16]byte

// String returns the 22-character URL-safe base64 form that Kafka prints.
func (u UUID) String() string { return base64.RawURLEncoding.EncodeToString(u[:]) }

// IsZero reports whether u is the zero UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID parses the form that [UUID.String] prints.
func ParseUUID(s string) (u UUID, err error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(u) {
		return UUID{}, fmt.Errorf("uuid %q: want 22 characters of URL-safe base64", s)
	}
	return UUID(b), nil
}

// Tag is a tagged field that the schema in use does not know. Value aliases the
// input it was decoded from.
type Tag struct {
	ID    uint32
	Value []byte
}

// Tags are unknown tagged fields in rising order of tag.
type Tags []Tag

// Records are the record bytes of a Produce request or a Fetch response: either
// B, which aliases the frame it was decoded from, or a Region of a file. The
// zero value is null.
type Records struct {
	B      []byte
	Region *Region
}

// IsNull reports whether r stands for a null on the wire.
func (r Records) IsNull() bool { return r.B == nil && r.Region == nil }

// Len returns the number of record bytes.
func (r Records) Len() int {
	if r.Region != nil {
		return r.Region.Len()
	}
	return len(r.B)
}

// ErrUnsupported means that a message holds something that the version it is
// written in cannot carry.
var ErrUnsupported = errors.New("not supported in this version")

// Cut marks a place in encoded bytes where record bytes belong that were not
// copied there.
type Cut struct {
	At      int // offset into the encoded bytes
	Records Records
}

// Encoder carries the state of one encoding: its first error, and the cuts
// where Split asks for them. The zero value copies records into place.
type Encoder struct {
	// Split leaves records of at least this many bytes out and notes a Cut
	// instead; 0 copies all. A Region is always left out.
	Split int
	Cuts  []Cut
	err   error
}

// Err returns the first error, or nil.
func (e *Encoder) Err() error { return e.err }

// Fail latches err, unless an earlier error is latched.
func (e *Encoder) Fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// Unsupported latches that field cannot be written in version v.
func (e *Encoder) Unsupported(field string, v int16) {
	e.Fail(fmt.Errorf("%w: %s in version %d", ErrUnsupported, field, v))
}

// NullNotAllowed latches that field must not be null in version v.
func (e *Encoder) NullNotAllowed(field string, v int16) {
	e.Fail(fmt.Errorf("%w: null %s in version %d", ErrUnsupported, field, v))
}

// CutBytes returns the number of record bytes left out.
func (e *Encoder) CutBytes() int {
	n := 0
	for _, c := range e.Cuts {
		n += c.Records.Len()
	}
	return n
}
