package client

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// maxReason is how many bytes of a broker's words an error keeps.
const maxReason = 500

// RecordError is the error of a record whose batch a broker refused for the sake
// of some of its records (KIP-467). None of the batch was written. It unwraps to
// Code.
type RecordError struct {
	Code   kerr.Code // of the batch
	Reason string    // the broker's words on this record; "" if it found no fault with it
	// Refused is how many records of the batch the broker found fault with.
	Refused int
}

func (e *RecordError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%v: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("%v: not written, since %d other records of its batch were refused", e.Code, e.Refused)
}

func (e *RecordError) Unwrap() error { return e.Code }

// refusal is a broker's answer to a batch with records at fault. It becomes the
// error of a record only when one asks, so that a large batch costs the producer
// nothing while it holds its lock.
type refusal struct {
	code    kerr.Code
	reason  string // on the batch, may be ""
	records []msg.ProduceResponseBatchIndexAndErrorMessage
}

func (e *refusal) Error() string {
	return fmt.Sprintf("%v: %d records of the batch were refused%s", e.code, len(e.records), colon(e.reason))
}

func (e *refusal) Unwrap() error { return e.code }

// newRefusal keeps what an answer says of single records.
func newRefusal(r *msg.ProduceResponsePartitionProduceResponse) *refusal {
	e := &refusal{code: kerr.Code(r.ErrorCode), reason: shortened(text(r.ErrorMessage)), records: r.RecordErrors}
	slices.SortFunc(e.records, func(a, b msg.ProduceResponseBatchIndexAndErrorMessage) int {
		return int(a.BatchIndex) - int(b.BatchIndex)
	})
	return e
}

// of returns the error of the i-th record of the batch.
func (e *refusal) of(i int32) error {
	at, named := slices.BinarySearchFunc(e.records, i, func(r msg.ProduceResponseBatchIndexAndErrorMessage, i int32) int {
		return int(r.BatchIndex) - int(i)
	})
	if !named {
		return &RecordError{Code: e.code, Refused: len(e.records)}
	}
	reason := shortened(text(e.records[at].BatchIndexErrorMessage))
	if reason == "" {
		reason = e.reason
	}
	if reason == "" {
		reason = "the broker refused the record"
	}
	return &RecordError{Code: e.code, Reason: reason, Refused: len(e.records)}
}

// describe makes an error of a partition's answer.
func describe(r *msg.ProduceResponsePartitionProduceResponse) error {
	err := codeOf(r.ErrorCode)
	switch {
	case err == nil:
		return nil
	case len(r.RecordErrors) > 0:
		return newRefusal(r)
	case text(r.ErrorMessage) != "":
		return fmt.Errorf("%w: %s", err, shortened(*r.ErrorMessage))
	}
	return err
}

func shortened(s string) string {
	if len(s) > maxReason {
		return s[:maxReason] + "…"
	}
	return s
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
