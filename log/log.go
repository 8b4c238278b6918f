// Package log is one partition: segments of record batches, the state of its
// idempotent producers, and where its leader epochs began.
//
// One goroutine at a time appends, truncates or flushes; a mutex sees to that.
// Readers take no lock that is held during I/O: they go through an immutable
// list of segments and read limits in atomics. A log starts no goroutine.
//
// Any error of the file system while writing latches the log: from then on it
// refuses to append, as what is on disk is unknown until it is opened again.
package log

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
)

// Options say which log to open and how.
type Options struct {
	FS        vfs.FS // nil means the operating system
	Dir       string // of the partition
	Topic     string
	Partition int32
	TopicID   prim.UUID // checked against partition.metadata, or written there; zero skips both
	Config    Config

	CleanShutdown  bool          // the log was closed in order: batches need no checking
	RecoveryPoint  int64         // below, all is known to be on disk; checking begins there
	StartOffset    int64         // log start offset as checkpointed; 0 none
	Sparse         bool          // compaction may have left out offsets between segments
	ProducerExpiry time.Duration // of silent producers; 0 means 1 day (producer.id.expiration.ms)
	Now            func() time.Time
	Logger         *zap.Logger

	// Fault is shared by the logs of a directory: a storage error of one stops
	// all of them. Nil means that the log has its own.
	Fault *Fault
	// Checked, if not nil, is called during recovery with the number of bytes that were checked.
	Checked func(bytes int64)
	// HighWatermark is that which the replica had, 0 if it is not known. A transaction whose
	// marker is not below it is not decided before SetHighWatermark is called.
	HighWatermark int64
	// Background runs f soon, on another goroutine, or not at all once the owner
	// is closing. Nil leaves it to Flush to sync what a roll left unsynced.
	Background func(f func())
	// Discard removes files once delay has passed (file.delete.delay.ms). Nil
	// removes them at once.
	Discard func(names []string, delay time.Duration)
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Fault == nil {
		o.Fault = new(Fault)
	}
	orDefault(&o.ProducerExpiry, 24*time.Hour)
	return o
}

// Log is one partition. Make one with Open; safe for concurrent use.
//
// Invariant: start <= high watermark <= end.
type Log struct {
	// What an append touches stands together.

	mu            sync.Mutex // the writer's
	config        atomic.Pointer[Config]
	now           func() time.Time
	fault         *Fault
	failure       atomic.Pointer[error]
	closed        atomic.Bool      // changes under mu
	finished      bool             // Finish was called; guarded by mu
	idSynced      bool             // partition.metadata is durable; guarded by mu
	tail          *segment.Segment // the one that is appended to; guarded by mu
	start         atomic.Int64     // moveStart raises it
	end           atomic.Int64
	highWatermark atomic.Int64
	recoveryPoint atomic.Int64
	flushTo       atomic.Int64 // records below must be on disk before they count (flush.messages); changes under mu
	settled       atomic.Int64 // where the log counted up to when flushTo was raised; changes under mu
	epochs        epochs

	segments    atomic.Pointer[[]*segment.Segment] // rising; the last is appended to
	unsealed    atomic.Int64                       // base of the first sealed segment that was not flushed as such; changes under mu
	swaps       atomic.Int64                       // rounds of compaction that readers see
	txnSegments atomic.Pointer[[]int64]            // base offsets of segments that may have a transaction index, rising
	fs          vfs.FS
	dir         string
	o           *Options

	// shape is held while segments are synced, cut, removed or replaced. It is
	// taken before mu.
	shape sync.Mutex

	producers producers // guarded by mu
	snapshots []int64   // offsets of the producer snapshots, rising; guarded by mu

	starts startWatches

	txnMu    sync.Mutex // never held during I/O
	ended    undecided
	unstable atomic.Int64
	open     int64 // first offset of the oldest open transaction, -1 none
}

// noUnstable stands for a log without transactions under way.
const noUnstable = 1<<63 - 1

func (l *Log) list() []*segment.Segment { return *l.segments.Load() }

func (l *Log) active() *segment.Segment {
	s := l.list()
	return s[len(s)-1]
}

// setList replaces the segments. The caller holds mu, or has not shown l to
// anybody.
func (l *Log) setList(list []*segment.Segment) {
	l.segments.Store(&list)
	l.tail = nil
	if len(list) > 0 {
		l.tail = list[len(list)-1]
	}
}

// Topic returns the name of the topic that the log is of.
func (l *Log) Topic() string { return l.o.Topic }

// Partition returns the index of the partition that the log is of.
func (l *Log) Partition() int32 { return l.o.Partition }

// StartOffset returns the log start offset: records below it are gone.
func (l *Log) StartOffset() int64 { return l.start.Load() }

// EndOffset returns the log end offset: that of the next record.
func (l *Log) EndOffset() int64 { return l.end.Load() }

// HighWatermark returns the stored read limit.
func (l *Log) HighWatermark() int64 { return l.highWatermark.Load() }

// RecoveryPoint returns the offset below which all records are on disk.
func (l *Log) RecoveryPoint() int64 { return l.recoveryPoint.Load() }

// AcknowledgeableEnd returns the offset below which records count: they may be
// acknowledged, and read, as far as this replica is concerned. It is the log end,
// but for records that flush.messages wants on disk first: while those wait for
// a sync, it stands where it stood before them or at what is on disk, whichever
// is higher. It never falls but by a truncation.
func (l *Log) AcknowledgeableEnd() int64 {
	// The end is read first: an append raises flushTo before it shows its records.
	end := l.end.Load()
	if l.recoveryPoint.Load() >= l.flushTo.Load() {
		return end
	}
	return max(l.recoveryPoint.Load(), l.settled.Load())
}

// FlushDue reports whether records wait for a Flush before they count.
func (l *Log) FlushDue() bool { return l.recoveryPoint.Load() < l.flushTo.Load() }

// RecoveryCheckpoint returns the offset at which recovery must begin: below, what
// belongs to the records is on disk too.
func (l *Log) RecoveryCheckpoint() int64 { return min(l.recoveryPoint.Load(), l.unsealed.Load()) }

// Size returns the number of bytes in all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, s := range l.list() {
		n += s.Size()
	}
	return n
}

// Dir returns the partition's directory.
func (l *Log) Dir() string { return l.dir }

// Config returns the configuration, with defaults filled in.
func (l *Log) Config() Config { return *l.config.Load() }

// SetConfig changes the configuration for appends from now on. Segments keep the
// index interval that they began with.
func (l *Log) SetConfig(c Config) {
	l.config.Store(shared(c.withDefaults()))
}

// SetHighWatermark stores the high watermark as a read limit, within the log.
func (l *Log) SetHighWatermark(offset int64) {
	offset = max(min(offset, l.end.Load()), l.start.Load())
	l.highWatermark.Store(offset)
	if l.unstable.Load() == noUnstable {
		return
	}
	l.txnMu.Lock()
	defer l.txnMu.Unlock()
	l.ended.decided(offset)
	l.publishUnstable()
}

// publishUnstable sets the first offset of a transaction that is not decided
// below the high watermark. The caller holds txnMu.
func (l *Log) publishUnstable() {
	first := int64(noUnstable)
	if l.open >= 0 {
		first = l.open
	}
	if bugs.Planted(bugs.StableAtMarker) {
		l.unstable.Store(first)
		return
	}
	l.unstable.Store(min(first, l.ended.first()))
}

// LastStableOffset returns the offset below which every transaction is decided
// and replicated: at most the high watermark.
func (l *Log) LastStableOffset() int64 {
	// Retention may have taken the beginning of a transaction away.
	return min(l.highWatermark.Load(), max(l.unstable.Load(), l.start.Load()))
}

// Producers describes the producers that the log knows, by id.
func (l *Log) Producers() []ProducerState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.list()
}

// ExpireProducers forgets producers that have been silent for too long. The
// owner calls it from time to time.
func (l *Log) ExpireProducers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.expire(l.now(), l.o.ProducerExpiry)
}

// LatestEpoch returns the largest leader epoch that the log knows, -1 none.
func (l *Log) LatestEpoch() int32 { return l.epochs.latest() }

// AssignEpoch notes that a leader epoch begins at startOffset, durably: a new
// leader calls it before it serves (KIP-101).
func (l *Log) AssignEpoch(epoch int32, startOffset int64) error {
	return l.assignEpoch(epoch, startOffset, vfs.WriteFileAtomic)
}

// AssignEpochUnsynced is AssignEpoch for callers that sync many logs with one call, before any
// of them serves ([vfs.Syncer]).
func (l *Log) AssignEpochUnsynced(epoch int32, startOffset int64) error {
	return l.assignEpoch(epoch, startOffset, vfs.WriteFileRenamed)
}

func (l *Log) assignEpoch(epoch int32, startOffset int64, write func(fs vfs.FS, name string, b []byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	return l.latch("assign leader epoch", l.epochs.assign(epoch, startOffset, write))
}

// EpochEndOffset returns the largest known epoch at or below epoch and the
// offset at which it ends; -1, -1 if epoch is above all.
func (l *Log) EpochEndOffset(epoch int32) (foundEpoch int32, endOffset int64) {
	return l.epochs.endOffset(epoch, l.end.Load())
}
