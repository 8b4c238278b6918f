// Package coordinator runs the shards of a coordinator. A shard is one
// partition of an internal topic: its records are its state. Every command
// follows one path:
//
//	decide   the machine looks at its state and returns records
//	append   the shard writes them to its log as one batch
//	replay   the machine applies them, as it does when it loads the log
//	answer   once they are committed
//
// Loading, failover and live traffic share the one Replay, so a machine that
// was loaded is the machine that wrote the log.
package coordinator

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
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
type Machine interface {
	// Replay applies one record. What r holds is used again after the call.
	Replay(r Record, from Origin) error
	// Ended applies the end of a transaction.
	Ended(m Marker) error
	// Loaded is called once after the log was replayed.
	Loaded(now time.Time) Decision
	// Next returns when Tick must be called, the zero time for never.
	Next() time.Time
	// Tick does what is due at now.
	Tick(now time.Time) Decision
	// Unload is told that this broker no longer coordinates: whoever waits must
	// be answered with err.
	Unload(err error)
}

// Decision is what a command has decided: records to write, and what to do once
// they are committed.
type Decision struct {
	Records []Record
	// Divisible allows to write the records as several batches, in their order,
	// where they are too many for one. A failure may then leave the first of them
	// written. Without it they are written together or not at all.
	Divisible bool
	// Then is called once, on the shard's goroutine: with nil when the records
	// are committed and replayed, or with the error that kept them from it, and
	// then the state is as it was before.
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

// Options say what a shard is made of.
type Options struct {
	// New makes a machine without state, to be loaded. It is called again where
	// the shard has to be loaded again.
	New     func() Machine
	Storage Storage
	Clock   clock.Clock
	Codec   record.Codec // of the records
	Logger  *zap.Logger  // nil logs nothing
}

// Shard runs one machine on one partition.
type Shard struct {
	o  Options
	lg *zap.Logger

	wake    chan struct{} // holds one: a command came, or time is up
	stop    context.CancelFunc
	ctx     context.Context
	stopped chan struct{}

	mu       sync.Mutex
	commands []command // that were taken and have not run
	loaded   bool
	err      error // why no more commands are taken

	// The fields below are the goroutine's.
	machine Machine
	pending []pendingCommit
	owed    owed
	build   *record.Builder
	timer   clock.Timer
	armed   time.Time
	next    time.Time // when the machine wants to be called
}

// Command is what runs on a shard's goroutine, with its machine.
type Command func(m Machine, now time.Time) Decision

type command struct {
	decide Command
	failed func(err error)
}

// pendingCommit is a decision whose records are written and not yet committed.
type pendingCommit struct {
	done   <-chan struct{}
	result func() error
	then   func(error)
}

// Start loads a shard in the background and runs it until Stop. Commands are
// refused with kerr.CoordinatorLoadInProgress until it is loaded.
func Start(o Options) *Shard {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	sh := &Shard{o: o, lg: o.Logger, wake: make(chan struct{}, 1), stopped: make(chan struct{}), build: record.NewBuilder(o.Codec, o.Codec.DefaultLevel())}
	sh.ctx, sh.stop = context.WithCancel(context.Background())
	go sh.run()
	return sh
}

// Stop ends the shard: commands are refused with kerr.NotCoordinator from then
// on, and whoever waits is answered so.
func (s *Shard) Stop() {
	s.stop()
	<-s.stopped
}

// Do runs decide on the shard's goroutine and returns once what it decided is
// committed. Then of the decision runs before Do returns.
func (s *Shard) Do(ctx context.Context, decide Command) error {
	done := make(chan error, 2) // of Then, and of a panic in it
	err := s.Send(func(m Machine, now time.Time) Decision {
		d := decide(m, now)
		then := d.Then
		d.Then = func(err error) {
			defer func() { done <- err }() // whatever becomes of then
			if then != nil {
				then(err)
			}
		}
		return d
	}, func(err error) { done <- err })
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Send hands a command to the shard's goroutine and returns. failed is called if
// the shard ends before the command has run, or if the command panics, and then
// its answer may have been given already.
func (s *Shard) Send(decide Command, failed func(error)) error {
	s.mu.Lock()
	switch {
	case s.err != nil:
		defer s.mu.Unlock()
		return s.err
	case !s.loaded:
		defer s.mu.Unlock()
		return kerr.CoordinatorLoadInProgress
	}
	// Whoever ends the shard takes the list and sets err at once, so that no
	// command is left behind.
	s.commands = append(s.commands, command{decide, failed})
	s.mu.Unlock()
	s.nudge()
	return nil
}

func (s *Shard) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Ready returns nil if the shard takes commands.
func (s *Shard) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.loaded {
		return kerr.CoordinatorLoadInProgress
	}
	return s.err
}

func (s *Shard) run() {
	defer close(s.stopped)
	for s.ctx.Err() == nil {
		if s.begin() {
			s.serve()
		}
		if s.lost() {
			continue
		}
		<-s.ctx.Done()
	}
	s.end(kerr.NotCoordinator)
}

// begin loads a machine. It reports whether that went well, and else has ended
// the shard.
func (s *Shard) begin() bool {
	s.machine, s.armed = s.o.New(), time.Time{}
	err := s.load()
	if err == nil {
		var d Decision
		if err = s.guard("loaded", func() { d = s.machine.Loaded(s.o.Clock.Now()) }); err == nil {
			s.carryOut(d)
		}
	}
	if s.ctx.Err() != nil {
		s.machine = nil
		return false
	}
	if err != nil {
		s.lg.Error("cannot load a coordinator's state", zap.Error(err))
		s.end(fmt.Errorf("%w: load: %w", kerr.CoordinatorNotAvailable, err))
		return false
	}
	if s.machine == nil {
		return false
	}
	s.mu.Lock()
	s.loaded = true
	s.mu.Unlock()
	return true
}

// serve runs commands until the shard ends or its machine is lost.
func (s *Shard) serve() {
	s.tick()
	for s.machine != nil {
		s.arm()
		select {
		case <-s.wake:
		case <-s.firstPending():
		case <-s.ctx.Done():
			return
		}
		for _, c := range s.take() {
			s.run1(c)
		}
		s.settle()
		s.tick()
	}
}

// take returns the commands that wait.
func (s *Shard) take() []command {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.commands
	s.commands = nil
	return out
}

// run1 runs one command.
func (s *Shard) run1(c command) {
	if s.machine == nil { // a command before it lost the machine
		c.failed(kerr.CoordinatorLoadInProgress)
		return
	}
	var d Decision
	if err := s.guard("command", func() { d = c.decide(s.machine, s.o.Clock.Now()) }); err != nil {
		c.failed(kerr.UnknownServerError)
		s.lose()
		return
	}
	s.carryOut(d)
}

// guard runs a piece of the machine and makes an error of its panic.
func (s *Shard) guard(what string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.lg.Error("panic of a coordinator: its state is loaded again", zap.String("in", what), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	f()
	return nil
}

// lose gives up the machine: what it has in memory may be half a change. Whoever
// waits is told to look for the coordinator again.
func (s *Shard) lose() {
	m := s.machine
	if m == nil {
		return
	}
	s.machine = nil
	s.mu.Lock()
	s.loaded = false
	s.mu.Unlock()
	// What is written and not yet committed is loaded with the rest, if it gets
	// committed: loading waits until that is known.
	s.drop(m, kerr.NotCoordinator)
}

// lost reports whether the machine must be loaded again.
func (s *Shard) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.loaded
}

func (s *Shard) load() (err error) {
	return s.o.Storage.Load(s.ctx, func(b record.Batch) error {
		if err := s.ctx.Err(); err != nil {
			return err // nobody wants it any more
		}
		if b.Attributes().Control() {
			return s.ended(b)
		}
		from := Origin{Producer: record.NoProducer}
		if b.Attributes().Transactional() {
			from.Producer = record.Producer{ID: b.ProducerID(), Epoch: b.ProducerEpoch()}
		}
		it := b.Iterate(maxLoad)
		defer it.Close()
		for it.Next() {
			r := it.Record()
			if r.Key == nil {
				continue
			}
			// The iterator's memory is used again; the machine keeps what it wants.
			from.Offset = it.Offset()
			if err := s.replay(Record{r.Key, r.Value}, from); err != nil {
				return fmt.Errorf("offset %d: %w", it.Offset(), err)
			}
		}
		return it.Err()
	})
}

// maxLoad bounds what a batch of the log may decompress to.
const maxLoad = 256 << 20

// ended has the machine apply a control batch that ends a transaction. Others say
// nothing to it.
func (s *Shard) ended(b record.Batch) (err error) {
	c, err := record.ParseControl(b)
	if err != nil {
		return fmt.Errorf("offset %d: %w", b.BaseOffset(), err)
	}
	if c.Type != record.ControlCommit && c.Type != record.ControlAbort {
		return nil
	}
	m := Marker{Offset: b.BaseOffset(), ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(), Commit: c.Type == record.ControlCommit}
	if e := s.guard("marker", func() { err = s.machine.Ended(m) }); e != nil {
		return e
	}
	return err
}

func (s *Shard) replay(r Record, from Origin) (err error) {
	if e := s.guard("replay", func() { err = s.machine.Replay(r, from) }); e != nil {
		return e
	}
	return err
}

// tick does what is due.
func (s *Shard) tick() {
	if s.machine != nil && s.owed.due(s.o.Clock.Now()) {
		_ = s.pay() // it keeps what it cannot write
	}
	for s.machine != nil {
		now, due := s.o.Clock.Now(), false
		var d Decision
		err := s.guard("tick", func() {
			s.next = s.machine.Next()
			if due = !s.next.IsZero() && !s.next.After(now) && s.ctx.Err() == nil; due {
				d = s.machine.Tick(now)
			}
		})
		if err != nil {
			s.lose()
			return
		}
		if !due {
			return
		}
		s.carryOut(d)
	}
}

// arm sets the timer to the next deadline.
func (s *Shard) arm() {
	next := s.next
	if retry := s.owed.retry; !retry.IsZero() && (next.IsZero() || retry.Before(next)) {
		next = retry
	}
	if next.Equal(s.armed) {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	s.armed = next
	if next.IsZero() {
		return
	}
	s.timer = s.o.Clock.AfterFunc(max(next.Sub(s.o.Clock.Now()), 0), s.nudge)
}

// end makes the shard refuse everything with err and answers whoever waits. A
// shard ends once.
func (s *Shard) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	waiting := s.commands
	s.commands = nil
	s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, c := range waiting {
		c.failed(err)
	}
	s.owed = owed{}
	if m := s.machine; m != nil {
		s.machine = nil
		s.drop(m, err)
	}
	s.pending = nil
}

// drop answers with err whoever waits for the machine or for a commit.
func (s *Shard) drop(m Machine, err error) {
	pending := s.pending
	s.pending = nil
	for _, p := range pending {
		s.answer(p.then, err)
	}
	// Its own panic was logged, and there is nobody else to tell.
	_ = s.guard("unload", func() { m.Unload(err) })
}

// answer calls what waits for a decision.
func (s *Shard) answer(then func(error), err error) {
	if then == nil {
		return
	}
	if e := s.guard("answer", func() { then(err) }); e != nil {
		s.lose()
	}
}
