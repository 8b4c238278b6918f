package client

import (
	"time"

	"github.com/klamm-io/klamm/wire/record"
)

// Header is one header of a record. A nil Value is null.
type Header = record.Header

// Record is what a producer sends and a consumer returns.
type Record struct {
	Topic     string
	Key       []byte // nil is null
	Value     []byte // nil is null, a tombstone in a compacted topic
	Headers   []Header
	Timestamp time.Time // zero means the time of Send

	// Partition is where the record was read. A record to be sent goes to it
	// only if Explicit is set, and else where the partitioner says.
	Partition int32
	Explicit  bool

	Offset        int64 // of a record that was read
	LeaderEpoch   int32 // of a record that was read; -1 if not known
	LogAppendTime bool  // of a record that was read: Timestamp is the broker's
}

// RecordMetadata says where a record was written.
type RecordMetadata struct {
	Topic     string
	Partition int32
	Offset    int64     // -1 with acks 0, or if the broker no longer knows it
	Timestamp time.Time // the broker's with LogAppendTime
}
