package log

import (
	"errors"
	"fmt"
)

var (
	// ErrStorage wraps every error after which the log refuses to append: an I/O
	// error leaves unknown what is on disk (KAFKA_STORAGE_ERROR).
	ErrStorage = errors.New("storage error")
	// ErrClosed means that the log was closed or deleted.
	ErrClosed = errors.New("log is closed")
	// ErrTopicID means that the directory belongs to another topic.
	ErrTopicID = errors.New("directory belongs to another topic id")
	// ErrCorrupt means that a batch's sizes or CRC are wrong (CORRUPT_MESSAGE).
	ErrCorrupt = errors.New("corrupt message")
	// ErrTooLarge means that a batch exceeds max.message.bytes
	// (MESSAGE_TOO_LARGE).
	ErrTooLarge = errors.New("message too large")
	// ErrListTooLarge means that a batch exceeds segment.bytes
	// (RECORD_LIST_TOO_LARGE).
	ErrListTooLarge = errors.New("record list too large for a segment")
	// ErrInvalidRecord means that a batch breaks a rule for producers
	// (INVALID_RECORD).
	ErrInvalidRecord = errors.New("invalid record")
	// ErrNotOneBatch means that an append is not one batch in the format that the
	// log keeps. It is an ErrInvalidRecord.
	ErrNotOneBatch = fmt.Errorf("%w: want one batch", ErrInvalidRecord)
	// ErrInvalidTimestamp means that a timestamp is out of bounds or of the
	// wrong type (INVALID_TIMESTAMP).
	ErrInvalidTimestamp = errors.New("invalid timestamp")
	// ErrUnsupportedCompression means that the request's version may not carry
	// the codec (UNSUPPORTED_COMPRESSION_TYPE).
	ErrUnsupportedCompression = errors.New("unsupported compression type")
	// ErrOutOfOrderSequence means a gap in a producer's sequence numbers
	// (OUT_OF_ORDER_SEQUENCE_NUMBER).
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrProducerEpoch means that a newer instance of the producer has written
	// (INVALID_PRODUCER_EPOCH).
	ErrProducerEpoch = errors.New("producer epoch is older than the current one")
	// ErrTxnState means a plain batch inside an open transaction
	// (INVALID_TXN_STATE).
	ErrTxnState = errors.New("invalid transaction state")
	// ErrCoordinatorFenced means a transaction marker of an old coordinator
	// (TRANSACTION_COORDINATOR_FENCED).
	ErrCoordinatorFenced = errors.New("transaction coordinator is fenced")
	// ErrReplaced means that segments were cut or removed during a round of
	// compaction, which was given up.
	ErrReplaced = errors.New("segments were cut or removed during compaction")
	// ErrOffsetOrder means that replicated batches do not follow the log's end.
	ErrOffsetOrder = errors.New("offsets out of order")
)

// OutOfRangeError means that an offset is outside the log [Start, End].
type OutOfRangeError struct{ Offset, Start, End int64 }

func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d is out of range [%d, %d]", e.Offset, e.Start, e.End)
}

// RecordError says what is wrong with one record of a batch.
type RecordError struct {
	Index   int32 // in the batch
	Message string
}

// BatchError refuses a batch for some of its records. It wraps ErrInvalidRecord
// or ErrInvalidTimestamp.
type BatchError struct {
	Kind    error
	Records []RecordError
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("%v: %d records, the first at index %d: %s", e.Kind, len(e.Records), e.Records[0].Index, e.Records[0].Message)
}

func (e *BatchError) Unwrap() error { return e.Kind }
