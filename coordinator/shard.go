// Package coordinator runs the shards of a coordinator. A shard is one partition of
// an internal topic: its records are its state. Every command follows one path:
//
//	decide   the machine looks at its state and returns records
//	append   the shard writes them to its log as one batch
//	replay   the machine applies them, as it does when it loads the log
//	answer   once they are committed
//
// Loading, failover and live traffic share the one Replay, so a machine that was
// loaded is the machine that wrote the log.
//
// A [Shard] is a small runner (a goroutine, a queue of commands and a timer) around a
// core that has none of these, so that a simulation can walk through it step by step.
// A [Service] has the shards of one kind of coordinator on this broker.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// Options say what a shard is made of.
type Options[M Machine] struct {
	// New makes a machine without state, to be loaded. It is called again where
	// the shard has to be loaded again.
	New     func() M
	Storage Storage
	Clock   clock.Clock
	Codec   record.Codec // of the records
	Logger  *zap.Logger  // nil logs nothing
}

// Shard runs one machine on one partition. Its methods are safe for concurrent use, and
// none of them may be called by the machine or by a command, which would wait for itself.
//
// Invariant: only the shard's goroutine uses the core, and commands run in the order in
// which Send took them.
type Shard[M Machine] struct {
	storage Storage
	clock   clock.Clock
	lg      *zap.Logger

	wake    chan struct{} // holds one: a command came, or time is up
	stop    context.CancelFunc
	ctx     context.Context
	stopped chan struct{}

	mu       sync.Mutex
	commands []command[M] // that were taken and have not run
	loaded   bool
	err      error // why no more commands are taken

	// The fields below are the goroutine's.
	core  *core[M]
	timer clock.Timer
	armed time.Time // when it rings; the zero time for never
}

type command[M Machine] struct {
	decide Command[M]
	failed func(err error)
}

// Start loads a shard in the background and runs it until Stop. Commands are
// refused with kerr.CoordinatorLoadInProgress until it is loaded.
func Start[M Machine](o Options[M]) *Shard[M] {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	s := &Shard[M]{storage: o.Storage, clock: o.Clock, lg: o.Logger, wake: make(chan struct{}, 1), stopped: make(chan struct{}), core: newCore(o)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	go s.run()
	return s
}

// Stop ends the shard: commands are refused with kerr.NotCoordinator from then
// on, and so are callers that wait.
func (s *Shard[M]) Stop() {
	s.stop()
	<-s.stopped
}

// Do runs decide on the shard's goroutine and returns once what it decided is
// committed. Then of the decision runs before Do returns.
func (s *Shard[M]) Do(ctx context.Context, decide Command[M]) error {
	done := make(chan error, 2) // of Then, and of a panic in it
	err := s.Send(func(m M, now time.Time) Decision {
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
func (s *Shard[M]) Send(decide Command[M], failed func(error)) error {
	s.mu.Lock()
	switch {
	case s.err != nil:
		defer s.mu.Unlock()
		return s.err
	case !s.loaded:
		defer s.mu.Unlock()
		return kerr.CoordinatorLoadInProgress
	}
	// The end of the shard takes the list and sets err in one step, so that no
	// command is left behind.
	s.commands = append(s.commands, command[M]{decide, failed})
	s.mu.Unlock()
	s.nudge()
	return nil
}

// Post is Send for a command that nobody waits for. It runs once the shard is loaded,
// before all that is sent after that, and also where the shard is loaded again before it
// has run. The end of the shard drops it.
func (s *Shard[M]) Post(decide Command[M]) {
	s.mu.Lock()
	if s.err == nil {
		s.commands = append(s.commands, command[M]{decide, func(err error) {
			if errors.Is(err, kerr.CoordinatorLoadInProgress) {
				s.Post(decide)
			}
		}})
	}
	s.mu.Unlock()
	s.nudge()
}

func (s *Shard[M]) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Ready returns nil if the shard takes commands.
func (s *Shard[M]) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.loaded {
		return kerr.CoordinatorLoadInProgress
	}
	return s.err
}

// run gives the core one life after the other. A shard that cannot be loaded has
// ended, and waits for Stop.
func (s *Shard[M]) run() {
	defer close(s.stopped)
	short := 0 // lives in a row that did not last
	for s.ctx.Err() == nil {
		err := s.load()
		if s.ctx.Err() != nil {
			break // what was loaded may be a part of the log: no command may see it
		}
		if err != nil {
			s.lg.Error("cannot load a coordinator's state", zap.Error(err))
			s.end(fmt.Errorf("%w: load: %w", kerr.CoordinatorNotAvailable, err))
			<-s.ctx.Done()
			break
		}
		born := s.clock.Now()
		s.serve()
		if short++; s.clock.Now().Sub(born) > lastRetry {
			short = 0
		}
		if short > 1 { // what ended it would do so again at once
			s.sleep(min(firstRetry<<min(short-2, 10), lastRetry))
		}
	}
	s.end(kerr.NotCoordinator)
}

// sleep waits for d, or until the shard is to end.
func (s *Shard[M]) sleep(d time.Duration) {
	over := make(chan struct{})
	timer := s.clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
	case <-s.ctx.Done():
	}
}

// load makes a machine of what the log has.
func (s *Shard[M]) load() error {
	s.core.begin()
	err := s.storage.Load(s.ctx, func(b record.Batch) error {
		if err := s.ctx.Err(); err != nil {
			return err // nobody wants it any more
		}
		return s.core.load(b)
	})
	if err != nil {
		return err
	}
	return s.core.loaded(s.clock.Now())
}

// serve runs commands until the shard ends or its machine is lost.
func (s *Shard[M]) serve() {
	s.open(s.core.live)
	s.tick()
	for s.core.live {
		s.arm(s.core.next())
		select {
		case <-s.wake:
		case <-s.core.committing():
		case <-s.ctx.Done():
			return
		}
		for _, c := range s.take() {
			s.core.decide(s.clock.Now(), c.decide, c.failed)
		}
		s.core.settle()
		s.tick()
	}
	s.open(false)
	for _, c := range s.take() {
		c.failed(kerr.CoordinatorLoadInProgress)
	}
}

// tick does what is due, unless the shard is to end.
func (s *Shard[M]) tick() {
	if s.ctx.Err() == nil {
		s.core.tick(s.clock.Now())
	}
}

// open says whether commands are taken.
func (s *Shard[M]) open(loaded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = loaded
}

// take returns the commands that wait.
func (s *Shard[M]) take() []command[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.commands
	s.commands = nil
	return out
}

// arm sets the timer.
func (s *Shard[M]) arm(next time.Time) {
	if next.Equal(s.armed) {
		return
	}
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if s.armed = next; !next.IsZero() {
		s.timer = s.clock.AfterFunc(max(next.Sub(s.clock.Now()), 0), s.nudge)
	}
}

// end makes the shard refuse everything with err and answers callers that wait. The
// first error stands.
func (s *Shard[M]) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	waiting := s.commands
	s.commands = nil
	s.mu.Unlock()
	s.arm(time.Time{})
	for _, c := range waiting {
		c.failed(err)
	}
	s.core.end(err)
}
