// Package client is a Kafka client: [Producer], [Consumer] and [Admin], with
// the words and the behaviour of the Java clients.
//
// The parts are those of the Java producer: records gather in batches by
// partition, a sender per broker drains them, a cluster keeps metadata and
// connections.
//
// What trying again may mend is tried again, with growing pauses, and logged;
// everything else is returned. Where a context ends a wait the error is a
// [*WaitError], which wraps the context's error and the last one met.
package client

import (
	"errors"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

var (
	// ErrClosed means that the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrDeliveryTimeout means that a record was not acknowledged within
	// delivery.timeout.ms. It may have been written all the same.
	ErrDeliveryTimeout = errors.New("record was not delivered in time")
	// ErrMaxBlock means that Send waited max.block.ms for metadata or memory.
	ErrMaxBlock = errors.New("no metadata or memory within max.block.ms")
	// ErrRecordTooLarge means that a record exceeds max.request.size or
	// buffer.memory, or that a batch does not fit max.partition.fetch.bytes.
	ErrRecordTooLarge = errors.New("record is too large")
	// ErrNoBroker means that no broker could be reached.
	ErrNoBroker = errors.New("no broker reachable")
	// ErrConfig means that options contradict each other or are out of range.
	ErrConfig = errors.New("invalid options")
)

// codeOf returns the error of a code, nil for none.
func codeOf(c int16) error { return kerr.Code(c).Err() }

// retriable reports whether doing the same again may help: a code that says so,
// or a connection that was lost.
func retriable(err error) bool {
	var c kerr.Code
	if errors.As(err, &c) {
		return c.Retriable()
	}
	return isLost(err) && !broken(err)
}

// broken reports whether err is that of an answer that is no good, or cannot be:
// the same question has the same answer.
func broken(err error) bool {
	var large *conn.AnswerTooLargeError
	return errors.As(err, &large) || errors.Is(err, conn.ErrProtocol) || errors.Is(err, conn.ErrVersion) || errors.Is(err, prim.ErrUnsupported)
}
