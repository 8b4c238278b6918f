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
	"sync"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// Record is one record of a shard. A nil Value is a tombstone.
type Record struct{ Key, Value []byte }

// Machine is the state of a shard. It is deterministic: it has no clock, no
// randomness that matters and no I/O, and is called by the shard's goroutine
// only.
type Machine interface {
	// Replay applies one record.
	Replay(r Record) error
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
	// Then is called once, on the shard's goroutine: with nil when the records
	// are committed and replayed, or with the error that kept them from it, and
	// then the state is as it was before. It may be nil.
	Then func(err error)
}

// Storage is the partition that a shard's records are in.
type Storage interface {
	// Append writes a batch. done is nil if it is committed already, else it is
	// closed once result is known.
	Append(batch []byte) (done <-chan struct{}, result func() error, err error)
	// Load calls f for every batch.
	Load(f func(record.Batch) error) error
}

// Shard runs one machine on one partition.
type Shard struct {
	machine Machine
	storage Storage
	clock   clock.Clock
	codec   record.Codec

	commands chan command
	wake     chan struct{} // a commit has a result, or time is up
	stop     context.CancelFunc
	ctx      context.Context
	stopped  chan struct{}

	mu     sync.Mutex
	loaded bool
	err    error // why it cannot be used any more

	// The fields below are the goroutine's.
	pending []pendingCommit
	build   *record.Builder
	timer   clock.Timer
	armed   time.Time
}

type command struct {
	decide func(now time.Time) Decision
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
func Start(m Machine, s Storage, c clock.Clock, codec record.Codec) *Shard {
	sh := &Shard{machine: m, storage: s, clock: c, codec: codec, commands: make(chan command, 64),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), build: record.NewBuilder(codec, codec.DefaultLevel())}
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
func (s *Shard) Do(ctx context.Context, decide func(now time.Time) Decision) error {
	done := make(chan error, 1)
	err := s.Send(func(now time.Time) Decision {
		d := decide(now)
		then := d.Then
		d.Then = func(err error) {
			if then != nil {
				then(err)
			}
			done <- err
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

// Send hands a command to the shard's goroutine and returns. failed is called
// if the shard ends before the command has run.
func (s *Shard) Send(decide func(now time.Time) Decision, failed func(error)) error {
	s.mu.Lock()
	loaded, err := s.loaded, s.err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if !loaded {
		return kerr.CoordinatorLoadInProgress
	}
	select {
	case s.commands <- command{decide, failed}:
		return nil
	case <-s.ctx.Done():
		return kerr.NotCoordinator
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
	if err := s.load(); err != nil {
		s.end(fmt.Errorf("%w: load: %w", kerr.CoordinatorNotAvailable, err))
		<-s.ctx.Done()
		return
	}
	s.decide(s.machine.Loaded(s.clock.Now()))
	s.mu.Lock()
	s.loaded = true
	s.mu.Unlock()
	for {
		s.arm()
		select {
		case c := <-s.commands:
			s.decide(c.decide(s.clock.Now()))
		case <-s.wake:
		case <-s.firstPending():
		case <-s.ctx.Done():
			s.end(kerr.NotCoordinator)
			return
		}
		s.settle()
		s.tick()
	}
}

func (s *Shard) load() error {
	return s.storage.Load(func(b record.Batch) error {
		if b.Attributes().Control() {
			return nil
		}
		it := b.Iterate(maxLoad)
		defer it.Close()
		for it.Next() {
			r := it.Record()
			if r.Key == nil {
				continue
			}
			// The iterator's memory is used again; the machine keeps what it wants.
			if err := s.machine.Replay(Record{r.Key, r.Value}); err != nil {
				return fmt.Errorf("offset %d: %w", it.Offset(), err)
			}
		}
		return it.Err()
	})
}

// maxLoad bounds what a batch of the log may decompress to.
const maxLoad = 256 << 20

// decide writes and replays the records of a decision and has it answered.
func (s *Shard) decide(d Decision) {
	if len(d.Records) == 0 {
		if d.Then == nil {
			return
		}
		if len(s.pending) == 0 {
			d.Then(nil)
			return
		}
		// What was looked at may not be committed yet: the answer waits for it.
		last := s.pending[len(s.pending)-1]
		s.pending = append(s.pending, pendingCommit{last.done, last.result, d.Then})
		return
	}
	done, result, err := s.write(d.Records)
	if err != nil {
		if d.Then != nil {
			d.Then(err)
		}
		return
	}
	for _, r := range d.Records {
		if err := s.machine.Replay(r); err != nil {
			panic(fmt.Sprintf("coordinator: a record that was just written cannot be replayed: %v", err))
		}
	}
	if done == nil && len(s.pending) == 0 {
		if d.Then != nil {
			d.Then(nil)
		}
		return
	}
	s.pending = append(s.pending, pendingCommit{done, result, d.Then})
}

func (s *Shard) write(records []Record) (<-chan struct{}, func() error, error) {
	now := s.clock.Now().UnixMilli()
	s.build.Reset()
	for _, r := range records {
		s.build.Append(now, r.Key, r.Value, nil)
	}
	batch, err := s.build.Finish(record.NoProducer)
	if err != nil {
		return nil, nil, err
	}
	return s.storage.Append(batch)
}

// firstPending returns the channel that tells of the oldest commit under way.
func (s *Shard) firstPending() <-chan struct{} {
	if len(s.pending) == 0 {
		return nil
	}
	return s.pending[0].done
}

// settle answers the decisions whose records are committed, in order. One whose
// records are not ends the shard: its state holds what its log may not.
func (s *Shard) settle() {
	for len(s.pending) > 0 {
		p := s.pending[0]
		var err error
		if p.done != nil {
			select {
			case <-p.done:
				err = p.result()
			default:
				return
			}
		}
		s.pending = s.pending[1:]
		if p.then != nil {
			p.then(err)
		}
		if err != nil {
			s.end(fmt.Errorf("%w: %w", kerr.CoordinatorNotAvailable, err))
			s.stop()
			return
		}
	}
}

func (s *Shard) tick() {
	for {
		next := s.machine.Next()
		now := s.clock.Now()
		if next.IsZero() || next.After(now) || s.ctx.Err() != nil {
			return
		}
		s.decide(s.machine.Tick(now))
	}
}

// arm sets the timer to the machine's next deadline.
func (s *Shard) arm() {
	next := s.machine.Next()
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
	s.timer = s.clock.AfterFunc(max(next.Sub(s.clock.Now()), 0), func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	})
}

// end makes the shard refuse everything with err and answers whoever waits.
func (s *Shard) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, p := range s.pending {
		if p.then != nil {
			p.then(err)
		}
	}
	s.pending = nil
	for {
		select {
		case c := <-s.commands:
			c.failed(err)
			continue
		default:
		}
		break
	}
	s.machine.Unload(err)
}
