package replication

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/isr"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// Acks is how many replicas must hold a record before its producer is answered.
type Acks int16

// The values of acks.
const (
	AcksNone   Acks = 0
	AcksLeader Acks = 1
	AcksAll    Acks = -1
)

// Partition is one replica of a partition on this broker: its log, and while
// this broker leads, what it knows of the followers. It is safe for concurrent
// use. Every method answers in the role that the partition has when it is called.
//
// Invariants:
//   - Records come in by Append only while this broker leads, and by AppendAsFollower only
//     while another does; what was checked in one leader epoch is not appended in another.
//   - Log start <= high watermark <= log end. The high watermark falls only where the
//     metadata have made this broker a follower and its log is truncated.
//   - An append with acks=all is answered without an error once every in-sync replica has
//     its records, and the in-sync set has at least min.insync.replicas.
//   - A truncation has lowered every checkpoint, durably, before anything is appended.
//
// The exported fields do not change.
type Partition struct {
	Topic   string
	TopicID prim.UUID // zero for a topic of a cluster that had none
	Index   int32
	Dir     *dirs.Dir // the log directory that holds it

	log    *log.Log
	node   int32
	now    func() time.Time
	view   atomic.Pointer[view]
	closed atomic.Bool

	truncations atomic.Int64 // so far

	throttles throttles // of the broker
	throttled throttledRoles

	// leadership is held shared by an append and exclusively by a change of the
	// leader, so that no append lands in a later epoch than it was checked in.
	leadership sync.RWMutex

	flusher sync.WaitGroup // the goroutine of flush
	lease   *Lease         // of the broker
	syncs   chan struct{}  // holds one for each log of the broker that is synced so
	lg      *zap.Logger

	proposals *proposals // to the controller; nil where there is none

	// startMoved makes a new log start offset durable.
	startMoved func(*Partition) error
	// truncated makes the checkpoints of a directory durable.
	truncated func(*dirs.Dir) error

	// mu guards the fields below. It is never held over I/O. Lock order: mu
	// before the log's.
	mu          sync.Mutex
	minISR      int
	state       *isr.State      // nil while another broker leads
	epochs      map[int32]int64 // of the brokers that have fetched as followers
	proposal    *proposal       // that the controller has not decided on, as far as is known
	proposeFrom time.Time       // no other proposal before
	commits     commits         // produces that wait for the high watermark
	flushes     commits         // produces that wait for the disk alone (acks=1 with flush.messages)
	syncing     bool            // flush runs
	watchers    [marks][]*Watch
	// unsynced is when the records from unsyncedFrom on were first seen unsynced.
	unsynced     time.Time
	unsyncedFrom int64
}

func (r *Replicas) newPartition(t *meta.Topic, index int32, dir *dirs.Dir, l *log.Log, c *config.Topic) *Partition {
	p := &Partition{Topic: t.Name, TopicID: t.ID, Index: index, Dir: dir, log: l, node: r.o.NodeID, minISR: c.MinInsyncReplicas, throttles: r.throttles, now: r.o.Clock.Now, syncs: r.syncs, lg: r.lg, proposals: r.proposals, lease: r.o.Lease, startMoved: r.checkpointStart, truncated: r.checkpoint}
	p.view.Store(&noView)
	p.throttled.set(c, index, p.node)
	return p
}

// Log returns the partition's log, for reading.
func (p *Partition) Log() *log.Log { return p.log }

// HighWatermark returns the offset below which consumers may read.
func (p *Partition) HighWatermark() int64 { return p.log.HighWatermark() }

// setMinISR changes min.insync.replicas.
func (p *Partition) setMinISR(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.minISR = n
	if p.state != nil && p.state.SetMinISR(n) {
		p.advanced()
	}
}

// Append appends the batches of one produce to the log. It returns a Commit to
// wait for before the producer is answered, or nil if there is nothing to wait
// for.
func (p *Partition) Append(b []byte, acks Acks, o log.AppendOptions) (log.AppendInfo, *Commit, error) {
	return p.AppendIn(-1, b, acks, o)
}

// AppendIn is Append for callers that may write in one leader epoch only, -1 for any: once
// another has begun, nothing is appended and the error is kerr.NotLeaderOrFollower.
func (p *Partition) AppendIn(epoch int32, b []byte, acks Acks, o log.AppendOptions) (log.AppendInfo, *Commit, error) {
	p.leadership.RLock()
	defer p.leadership.RUnlock()
	v := p.view.Load()
	if epoch >= 0 && epoch != v.leaderEpoch {
		return log.AppendInfo{}, nil, kerr.NotLeaderOrFollower
	}
	if v.role != Leader || p.closed.Load() || p.lease.Over() {
		return log.AppendInfo{}, nil, kerr.NotLeaderOrFollower
	}
	if acks == AcksAll {
		p.mu.Lock()
		enough, have, want := p.state.Enough(), len(p.state.InSync()), p.state.MinISR()
		p.mu.Unlock()
		if !enough {
			return log.AppendInfo{}, nil, kerr.Refuse(kerr.NotEnoughReplicas, "The size of the current ISR %d is insufficient to satisfy the min.isr requirement of %d for partition %s-%d", have, want, p.Topic, p.Index)
		}
	}
	o.LeaderEpoch = v.leaderEpoch
	info, err := p.log.Append(b, o)
	if err != nil {
		return info, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log.FlushDue() {
		p.startFlush()
	}
	p.moved(LogEnd)
	if p.state.Appended(p.log.AcknowledgeableEnd()) {
		p.advanced()
	}
	switch {
	case bugs.Planted(bugs.AckAtAppend):
	case acks == AcksAll && info.LastOffset >= p.state.HighWatermark():
		return info, p.commits.add(info.LastOffset + 1), nil
	case acks == AcksLeader && info.LastOffset >= p.state.End():
		return info, p.flushes.add(info.LastOffset + 1), nil
	}
	return info, nil, nil
}

// startFlush has the log synced as far as it must be. p.mu is held.
func (p *Partition) startFlush() {
	if !p.syncing {
		p.syncing = true
		p.flusher.Go(p.flush)
	}
}

// flush syncs the log until all that must be on disk is there. Every sync takes
// in what was appended while the one before it ran, so that many producers share
// one.
func (p *Partition) flush() {
	for {
		// Appends that are about to happen go first and share this sync.
		runtime.Gosched()
		p.syncs <- struct{}{}
		err := log.Caught(p.lg, "flush", p.log.Flush)
		<-p.syncs
		p.mu.Lock()
		if err != nil {
			p.dropCommits(err)
		} else {
			end := p.log.AcknowledgeableEnd()
			p.flushes.settle(end, nil)
			if p.state != nil && p.state.Appended(end) {
				p.advanced()
			}
		}
		p.syncing = err == nil && p.log.FlushDue()
		if !p.syncing {
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// Abandon takes a Commit off the waiting list after its timeout.
func (p *Partition) Abandon(c *Commit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.settled {
		c.list.abandon(c)
	}
}

// advanced publishes a new high watermark, answers the produces below it, and notifies
// who waits for it. mu is held.
func (p *Partition) advanced() {
	high := p.state.HighWatermark()
	p.log.SetHighWatermark(high)
	var err error
	switch {
	case p.lease.Over():
		err = kerr.NotLeaderOrFollower
	case !p.state.Enough():
		err = kerr.NotEnoughReplicasAfterAppend
	}
	p.commits.settle(high, err)
	p.moved(HighWatermark)
}

// dropCommits answers all who wait with err. p.mu is held.
func (p *Partition) dropCommits(err error) {
	p.commits.settle(math.MaxInt64, err)
	p.flushes.settle(math.MaxInt64, err)
}

// fail answers all that wait: the log directory is offline.
func (p *Partition) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropCommits(err)
	p.wake()
}

// DeleteRecords moves the log start offset up to offset, -1 for the high
// watermark, and returns the low watermark. It is durable then.
func (p *Partition) DeleteRecords(offset int64) (low int64, err error) {
	moved, err := p.deleteBelow(offset)
	if err == nil && moved {
		err = p.startMoved(p)
	}
	return p.log.StartOffset(), err
}

// deleteBelow moves the log start offset, which is not durable yet.
func (p *Partition) deleteBelow(offset int64) (moved bool, err error) {
	if err := p.CheckLeader(-1); err != nil {
		return false, err
	}
	high := p.log.HighWatermark()
	if offset == -1 {
		offset = high
	}
	if offset < 0 || offset > high {
		return false, kerr.Refuse(kerr.OffsetOutOfRange, "The specified offset %d is higher than the high watermark %d of the partition %s-%d", offset, high, p.Topic, p.Index)
	}
	if offset <= p.log.StartOffset() {
		return false, nil
	}
	return true, p.log.AdvanceStart(offset)
}

// Deletion asks for the records of a partition below an offset to be deleted, as
// [Partition.DeleteRecords] does it, and holds the result: Low or Err, which are set when
// [Replicas.DeleteRecords] returns.
type Deletion struct {
	Partition *Partition
	Offset    int64
	Low       int64
	Err       error
}

// DeleteRecords carries out deletions. All that are of one log directory are made
// durable together.
func (r *Replicas) DeleteRecords(all []Deletion) {
	moved := make(map[*dirs.Dir]bool)
	for i := range all {
		d := &all[i]
		var yes bool
		if yes, d.Err = d.Partition.deleteBelow(d.Offset); d.Err == nil && yes {
			moved[d.Partition.Dir] = true
		}
	}
	errs := make(map[*dirs.Dir]error, len(moved))
	for dir := range moved {
		errs[dir] = r.checkpointStarts(dir)
	}
	for i := range all {
		d := &all[i]
		if d.Low = d.Partition.log.StartOffset(); d.Err == nil {
			d.Err = errs[d.Partition.Dir]
		}
	}
}

// abandon ends the partition without making anything durable: it is deleted.
func (p *Partition) abandon() {
	p.end()
	p.log.Abandon()
	p.flusher.Wait()
}

// close ends the partition.
func (p *Partition) close() error {
	p.end()
	err := p.log.Close()
	p.flusher.Wait()
	return err
}

// stop has the partition take nothing from then on, but for what is being appended.
func (p *Partition) stop() { p.closed.Store(true) }

// end refuses appends from then on, and wakes those that wait.
func (p *Partition) end() {
	p.leadership.Lock()
	p.closed.Store(true)
	p.leadership.Unlock()
	p.mu.Lock()
	p.dropCommits(kerr.NotLeaderOrFollower)
	p.wake()
	p.mu.Unlock()
}
