package coordinator

import (
	"context"
	"time"

	"github.com/klamm-io/klamm/wire/record"
)

// Record is one record of a shard. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Origin says where a record stands in the log, and who wrote it.
type Origin struct {
	Offset int64
	// Producer is who wrote the record in a transaction: it counts only once a Marker
	// says so. Its ID is -1 for a record that counts at once.
	Producer record.Producer
}

// Marker ends a transaction in the log: what its producer has written in it counts
// from then on, or never.
type Marker struct {
	Offset     int64
	ProducerID int64
	Epoch      int16
	Commit     bool
}

// Machine is the state of a shard. It is deterministic: it has no clock, no
// randomness that matters and no I/O, and is called by the shard's goroutine
// only. A panic of it costs the command that it handles, and the state in memory,
// which is loaded again.
//
// The calls come in this order: Replay and Ended for what the log has, Loaded, then
// commands, Tick, Replay and Ended as they come, and Unload as the last.
type Machine interface {
	// Replay applies one record. What r holds is used again after the call.
	Replay(r Record, from Origin) error
	// Ended applies the end of a transaction.
	Ended(m Marker) error
	// Loaded is called once after the log was replayed.
	Loaded(now time.Time) Decision
	// Next returns when Tick must be called, the zero time for never.
	Next() time.Time
	// Tick does what is due at now. Afterwards Next is later than now, or the zero
	// time.
	Tick(now time.Time) Decision
	// Unload says that this broker no longer coordinates: requests that wait must
	// be answered with err.
	Unload(err error)
}

// Command looks at a machine and decides. It must not change what Replay changes.
type Command[M Machine] func(m M, now time.Time) Decision

// Decision is what a command has decided: records to write, and what to do once
// they are committed.
type Decision struct {
	Records []Record
	// Divisible allows to write the records as several batches, in their order,
	// where they are too many for one. A failure may then leave the first of them
	// written. Without it they are written together or not at all.
	Divisible bool
	// Then is called once, on the shard's goroutine: with nil when the records
	// are committed and replayed, or with the error that kept them from it. The state
	// is as it was before then, where they were not written; where they were and are
	// not committed they have been replayed, and the machine is unloaded next.
	//
	// It may be nil. Nobody waits for such records: where they cannot be written
	// they are kept and tried again, before anything that is decided later.
	Then func(err error)
}

// Storage is the partition that a shard's records are in.
type Storage interface {
	// Append writes a batch. A batch that is too large to be written ever is
	// kerr.MessageTooLarge or kerr.RecordListTooLarge. Nothing is written once
	// another leader epoch has begun than the one that the shard was started in.
	Append(batch []byte) (Appended, error)
	// MaxBatch returns the size in bytes of the largest batch that Append takes.
	MaxBatch() int
	// Load waits until all that is in the log is committed, and calls f for every
	// batch. It ends early with ctx, and with an error once nothing more can be
	// committed here.
	Load(ctx context.Context, f func(record.Batch) error) error
}

// Appended is a batch that was written.
type Appended struct {
	Base int64 // offset of the first record
	// Done is nil if the batch is committed already, else it is closed once Result is
	// known.
	Done   <-chan struct{}
	Result func() error
}
