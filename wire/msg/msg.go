// Package msg holds the messages of the Kafka protocol, generated from
// wire/schema: requests and responses, headers, and the records of the
// coordinator and metadata logs.
//
// The zero value of a message is not always its default: a field whose default
// is -1 or null-less needs [Message.SetDefaults]. Decode sets every field, and
// uses the memory that the message holds already, so that a message may be
// decoded into again and again without allocating. Record bytes alias the
// input.
//
// A message is owned by one goroutine at a time.
package msg

import "github.com/klamm-io/klamm/wire/prim"

//go:generate go run ../gen -dir ..

// Message is any message of this package.
type Message interface {
	MessageName() string
	Versions() (low, high int16)
	SetDefaults()
	Decode(b []byte, v int16) error
	DecodeFrom(r *prim.Reader, v int16)
	AppendTo(b []byte, v int16) ([]byte, error)
	AppendSplit(b []byte, v int16, e *prim.Encoder) []byte
	Size(v int16) int
}

// Request is the request of an API.
type Request interface {
	Message
	APIKey() int16
}

// Response is the response of an API.
type Response interface {
	Message
	APIKey() int16
}
