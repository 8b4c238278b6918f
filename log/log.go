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
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"go.uber.org/zap"
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
	ProducerExpiry time.Duration // of silent producers; 0 means 1 day (producer.id.expiration.ms)
	Now            func() time.Time
	Logger         *zap.Logger
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
	orDefault(&o.ProducerExpiry, 24*time.Hour)
	return o
}

// Log is one partition. Make one with Open; safe for concurrent use.
//
// Invariant: start <= high watermark <= end.
type Log struct {
	fs     vfs.FS
	dir    string
	o      *Options
	config atomic.Pointer[Config]

	segments      atomic.Pointer[[]*segment.Segment] // rising; the last is appended to
	start         atomic.Int64
	end           atomic.Int64
	highWatermark atomic.Int64
	recoveryPoint atomic.Int64
	epochs        epochs
	failure       atomic.Pointer[error]

	mu        sync.Mutex // the writer's; guards what follows
	closed    bool
	idSynced  bool // partition.metadata is durable
	producers producers
	lastFlush time.Time

	txnMu    sync.Mutex // never held during I/O
	ended    []txn      // ended, but the marker is not below the high watermark
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

// StartOffset returns the log start offset: records below it are gone.
func (l *Log) StartOffset() int64 { return l.start.Load() }

// EndOffset returns the log end offset: that of the next record.
func (l *Log) EndOffset() int64 { return l.end.Load() }

// HighWatermark returns the stored read limit.
func (l *Log) HighWatermark() int64 { return l.highWatermark.Load() }

// RecoveryPoint returns the offset below which all is on disk.
func (l *Log) RecoveryPoint() int64 { return l.recoveryPoint.Load() }

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
	c = c.withDefaults()
	l.config.Store(&c)
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
	l.ended = slices.DeleteFunc(l.ended, func(t txn) bool { return t.last < offset })
	l.publishUnstable()
}

// publishUnstable sets the first offset of a transaction that is not decided
// below the high watermark. The caller holds txnMu.
func (l *Log) publishUnstable() {
	first := int64(noUnstable)
	if l.open >= 0 {
		first = l.open
	}
	for _, t := range l.ended {
		first = min(first, t.first)
	}
	l.unstable.Store(first)
}

// LastStableOffset returns the offset below which every transaction is decided
// and replicated: at most the high watermark.
func (l *Log) LastStableOffset() int64 { return min(l.highWatermark.Load(), l.unstable.Load()) }

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
	l.producers.expire(l.o.Now(), l.o.ProducerExpiry)
}

// LatestEpoch returns the largest leader epoch that the log knows, -1 none.
func (l *Log) LatestEpoch() int32 { return l.epochs.latest() }

// AssignEpoch notes that a leader epoch begins at startOffset, durably: a new
// leader calls it before it serves (KIP-101).
func (l *Log) AssignEpoch(epoch int32, startOffset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	return l.latch("assign leader epoch", l.epochs.assign(epoch, startOffset))
}

// EpochEndOffset returns the largest known epoch at or below epoch and the
// offset at which it ends; -1, -1 if epoch is above all.
func (l *Log) EpochEndOffset(epoch int32) (foundEpoch int32, endOffset int64) {
	return l.epochs.endOffset(epoch, l.end.Load())
}

// Err returns the storage error that latched the log, or nil.
func (l *Log) Err() error {
	if e := l.failure.Load(); e != nil {
		return *e
	}
	return nil
}

// latch makes err, if it is one, the error of the log for ever.
func (l *Log) latch(what string, err error) error {
	if err == nil {
		return nil
	}
	return l.latchFailure(what, err)
}

func (l *Log) latchFailure(what string, err error) error {
	err = fmt.Errorf("%w: %s-%d: %s: %w", ErrStorage, l.o.Topic, l.o.Partition, what, err)
	if l.failure.CompareAndSwap(nil, &err) {
		l.o.Logger.Error("latched log after storage error", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition), zap.Error(err))
	}
	return err
}

// writable reports why the log cannot be changed. The caller holds mu.
func (l *Log) writable() error {
	if l.closed {
		return ErrClosed
	}
	return l.Err()
}

// Flush makes the log durable up to its end and moves the recovery point there.
// Appends go on meanwhile.
func (l *Log) Flush() error {
	l.mu.Lock()
	if err := l.writable(); err != nil {
		l.mu.Unlock()
		return err
	}
	end, seg := l.end.Load(), l.active() // segments before it were synced when it began
	l.lastFlush = l.o.Now()
	l.mu.Unlock()
	if end <= l.recoveryPoint.Load() {
		return nil
	}
	if err := seg.Sync(); err == segment.ErrClosed {
		return ErrClosed
	} else if err != nil {
		return l.latch("flush", err)
	}
	l.raiseRecoveryPoint(end)
	return nil
}

func (l *Log) raiseRecoveryPoint(to int64) {
	for {
		at := l.recoveryPoint.Load()
		if at >= to || l.recoveryPoint.CompareAndSwap(at, to) {
			return
		}
	}
}

// Close completes indexes, writes the producer snapshot, makes all durable and
// closes. After it without an error the log may be opened with CleanShutdown.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	err := l.Err()
	if err == nil {
		err = l.latch("close", l.sealAll())
	}
	for _, s := range l.list() {
		if err != nil {
			s.Abandon()
		} else if e := s.Close(); e != nil {
			err = l.latch("close", e)
		}
	}
	return err
}

func (l *Log) sealAll() error {
	if err := l.active().Seal(); err != nil {
		return err
	}
	if l.end.Load() > 0 && l.Size() > 0 {
		if err := l.writeSnapshot(l.end.Load()); err != nil {
			return err
		}
	}
	l.raiseRecoveryPoint(l.end.Load())
	return nil
}

// Delete closes the log and removes its directory. Readers keep what they hold.
func (l *Log) Delete() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		for _, s := range l.list() {
			if err := s.Delete(); err != nil {
				return l.latch("delete", err)
			}
		}
	}
	if err := l.fs.RemoveAll(l.dir); err != nil {
		return l.latch("delete", err)
	}
	return l.latch("delete", l.fs.SyncDir(path.Dir(l.dir)))
}
