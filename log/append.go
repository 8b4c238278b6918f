package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
	"go.uber.org/zap"
)

// Origin says who appends, and with that which rules apply.
type Origin int8

const (
	// Client is a producer: all rules apply.
	Client Origin = iota
	// Replication is a leader's log: what it accepted is accepted.
	Replication
	// Coordinator is this broker: control batches are allowed.
	Coordinator
)

// AppendOptions go with one append.
type AppendOptions struct {
	Origin         Origin
	LeaderEpoch    int32 // of this leader, written into the batch
	ProduceVersion int16 // of the request; 0 means none that limits the codec
}

// AppendInfo describes what an append did.
type AppendInfo struct {
	BaseOffset, LastOffset int64
	LogAppendTime          int64 // ms, -1 with create times
	LogStart               int64
	Duplicate              bool // nothing was appended: it was before, at these offsets
}

// zstdSince is the Produce version that may carry zstd (KIP-110).
const zstdSince = 7

// Append appends one batch as the leader. It checks the batch before it writes
// anything, sets offsets and leader epoch in b itself and writes it once; a
// batch that has to be rebuilt is written from other memory. b must not be
// changed during the call.
//
// Refusals wrap ErrCorrupt, ErrTooLarge, ErrListTooLarge, ErrInvalidRecord,
// ErrInvalidTimestamp, ErrUnsupportedCompression, ErrOutOfOrderSequence,
// ErrProducerEpoch, ErrTxnState or ErrCoordinatorFenced and leave the log as it
// was; a *BatchError describes single records. ErrStorage latches the log.
func (l *Log) Append(b []byte, o AppendOptions) (AppendInfo, error) {
	cfg := l.config.Load()
	now := l.now()
	v := validator{cfg: cfg, origin: o.Origin, version: o.ProduceVersion, now: now.UnixMilli()}
	batch, err := v.run(b)
	if err != nil {
		return AppendInfo{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return AppendInfo{}, err
	}
	if done, ok, err := l.checkProducer(batch); ok || err != nil {
		return done, err
	}
	info := AppendInfo{BaseOffset: l.end.Load(), LogAppendTime: -1, LogStart: l.start.Load()}
	if cfg.LogAppendTime {
		info.LogAppendTime = l.now().UnixMilli() // while it holds mu: they rise with offsets
		batch.SetLogAppendTime(info.LogAppendTime)
	}
	batch.SetBaseOffset(info.BaseOffset)
	batch.SetLeaderEpoch(o.LeaderEpoch)
	info.LastOffset = batch.LastOffset()
	if err := l.write(batch, batch, cfg); err != nil {
		return AppendInfo{}, err
	}
	return info, nil
}

// checkProducer applies the rules of idempotence; ok means that the batch is a
// repetition. The caller holds mu.
func (l *Log) checkProducer(b record.Batch) (done AppendInfo, ok bool, err error) {
	if b.ProducerID() < 0 {
		return done, false, nil
	}
	if b.Attributes().Control() {
		c, err := record.ParseControl(b)
		if err != nil {
			return done, false, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
		}
		return done, false, l.producers.checkMarker(c)
	}
	if was, ok := l.producers.duplicate(b); ok && !bugs.Planted(bugs.DuplicateAppended) {
		done = AppendInfo{BaseOffset: was.lastOffset - int64(was.delta), LastOffset: was.lastOffset, LogAppendTime: -1, LogStart: l.start.Load(), Duplicate: true}
		if l.config.Load().LogAppendTime {
			done.LogAppendTime = was.timestamp
		}
		return done, true, nil
	}
	if bugs.Planted(bugs.DuplicateAppended) {
		return done, false, nil
	}
	return done, false, l.producers.check(b)
}

// AppendAsFollower appends batches with the offsets and epochs that their leader
// gave them. A batch cut off at the end of b is left out.
func (l *Log) AppendAsFollower(b []byte) (AppendInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return AppendInfo{}, err
	}
	first, whole, err := l.checkReplicated(b)
	if err != nil {
		return AppendInfo{}, err
	}
	info := AppendInfo{BaseOffset: l.end.Load(), LastOffset: l.end.Load() - 1, LogAppendTime: -1, LogStart: l.start.Load()}
	if len(whole) == 0 {
		return info, nil
	}
	info.BaseOffset = segment.Describe(first).Base
	cfg := l.config.Load()
	if err := l.write(whole, first, cfg); err != nil {
		return AppendInfo{}, err
	}
	if bugs.Planted(bugs.ProducersOfLeaderOnly) {
		clear(l.producers.m)
	}
	info.LastOffset = l.end.Load() - 1
	return info, nil
}

// checkReplicated checks CRCs and order, and returns the whole batches.
func (l *Log) checkReplicated(b []byte) (first record.Batch, whole []byte, err error) {
	next, epoch := l.end.Load(), l.epochs.latest()
	for rest := b; ; {
		batch, after, err := record.Next(rest)
		if err == io.EOF || errors.Is(err, record.ErrShort) {
			return first, b[:len(b)-len(rest)], nil
		}
		if err == nil {
			err = batch.Validate()
		} else if errors.Is(err, record.ErrMagic) {
			_, err = record.ReadLegacy(nil, batch, 0)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		d := segment.Describe(batch)
		if d.Base < next || d.Last < d.Base {
			return nil, nil, fmt.Errorf("%w: batch at %d to %d, log end %d", ErrOffsetOrder, d.Base, d.Last, next)
		}
		if d.Epoch >= 0 && d.Epoch < epoch {
			l.o.Logger.Warn("replicated batch of an older leader epoch", zap.String("topic", l.o.Topic), zap.Int32("partition", l.o.Partition),
				zap.Int64("offset", d.Base), zap.Int32("leader_epoch", d.Epoch))
		}
		if first == nil {
			first = batch
		}
		next, epoch, rest = d.Last+1, max(epoch, d.Epoch), after
	}
}

// write rolls if it must, writes whole batches, whose first is first, and enters
// them everywhere. The caller holds mu.
func (l *Log) write(b []byte, first record.Batch, cfg *Config) error {
	last, maxTimestamp := lastOf(b)
	seg := l.tail
	if l.shouldRoll(seg, cfg, int64(len(b)), last, maxTimestamp) {
		if err := l.latch("roll", l.roll(segment.Describe(first).Base)); err != nil {
			return err
		}
		seg = l.tail
	}
	if err := l.latch("assign leader epoch", l.assignEpochs(b)); err != nil {
		return err
	}
	if err := l.latch("write leader epochs", l.epochs.persist()); err != nil {
		return err
	}
	if !l.idSynced {
		if err := l.latch("sync topic id", l.syncTopicID()); err != nil {
			return err
		}
	}
	if err := l.latch("append", seg.Append(b)); err != nil {
		return err
	}
	for rest := b; len(rest) > 0; {
		batch, after, err := record.Next(rest)
		if batch == nil {
			return l.latch("append", err)
		}
		if err := l.latch("transaction index", l.replay(batch)); err != nil {
			return err
		}
		rest = after
	}
	l.flushDue(cfg, last+1)
	l.end.Store(last + 1)
	return nil
}

// lastOf returns the last offset and the largest timestamp of whole batches.
func lastOf(b []byte) (last, maxTimestamp int64) {
	maxTimestamp = -1
	for len(b) > 0 {
		batch, rest, _ := record.Next(b)
		if batch == nil {
			break
		}
		d := segment.Describe(batch)
		last, maxTimestamp, b = d.Last, max(maxTimestamp, d.MaxTimestamp), rest
	}
	return last, maxTimestamp
}

// assignEpochs notes the leader epochs that begin in b.
func (l *Log) assignEpochs(b []byte) error {
	epoch := l.epochs.latest()
	for len(b) > 0 {
		batch, rest, _ := record.Next(b)
		if batch == nil {
			return nil
		}
		if d := segment.Describe(batch); d.Epoch > epoch {
			if err := l.epochs.assign(d.Epoch, d.Base, vfs.WriteFileAtomic); err != nil {
				return err
			}
			epoch = d.Epoch
		}
		b = rest
	}
	return nil
}

// replay enters one batch of the log into the producer state.
func (l *Log) replay(b record.Batch) error {
	if b.Magic() < record.Magic || b.ProducerID() < 0 {
		return nil
	}
	return l.replayProducer(b)
}

// replayProducer is replay of a batch that has a producer.
func (l *Log) replayProducer(b record.Batch) error {
	ended := l.producers.replay(b, l.now().UnixMilli())
	if ended == nil && !b.Attributes().Transactional() {
		return nil
	}
	l.txnMu.Lock()
	defer l.txnMu.Unlock()
	l.open = l.producers.firstOpen()
	if ended != nil {
		l.ended.add(*ended)
	}
	l.publishUnstable()
	if ended != nil && ended.aborted {
		return l.noteAborted(*ended)
	}
	return nil
}

// shouldRoll reports whether bytes that end with offset last need a new segment
// (LogSegment.shouldRoll).
func (l *Log) shouldRoll(s *segment.Segment, cfg *Config, bytes, last, maxTimestamp int64) bool {
	size := s.Written()
	switch {
	case size == 0:
		return !s.Fits(last)
	case size > cfg.SegmentBytes-bytes, !s.Fits(last), s.IndexFull(cfg.SegmentIndexBytes):
		return true
	}
	age := cfg.SegmentAge - cfg.SegmentJitter
	if cfg.Compact { // only what is no longer appended to can be compacted
		age = min(age, cfg.MaxCompactionLag)
	}
	return s.Age(maxTimestamp, l.now) > age
}

// Roll begins a new segment at the log's end, unless the active one is empty.
func (l *Log) Roll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if l.active().Size() == 0 {
		return nil
	}
	return l.latch("roll", l.roll(l.end.Load()))
}

// roll is begin for a log that need not keep an empty segment: it is replaced.
func (l *Log) roll(base int64) error { return l.begin(base, l.active().Size() == 0) }

// begin seals the active segment, writes the producer state that it ends with, and
// begins one at base, in the place of the old one or after it. Nothing is synced: that
// would hold up the append that rolls.
func (l *Log) begin(base int64, replace bool) error {
	list := l.list()
	old := list[len(list)-1]
	if err := old.Seal(); err != nil {
		return err
	}
	if err := l.writeSnapshot(base); err != nil {
		return err
	}
	if replace {
		list = list[:len(list)-1]
	}
	grown := append(list[:len(list):len(list)], segment.Create(l.segmentOptions(base)))
	l.setList(grown)
	if replace {
		return errors.Join(old.Delete(), l.removeTxns(old.Base()))
	}
	if l.unsealed.Load() == nothingUnsealed {
		l.unsealed.Store(old.Base())
	}
	if l.o.Background != nil {
		l.o.Background(func() { l.flushSealed() }) // an error is latched
	}
	return nil
}

func (l *Log) segmentOptions(base int64) segment.Options {
	c := l.config.Load()
	o := segment.Options{FS: l.fs, Dir: l.dir, Base: base, Created: l.now(), IndexInterval: c.IndexIntervalBytes}
	if c.Preallocate {
		o.Preallocate = c.SegmentBytes
	}
	return o
}
