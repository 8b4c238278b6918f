package coordinator

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// core is what a shard does, without goroutine, clock or lock: its runner says when
// each step happens, and what time it is. The steps of one life are
//
//	begin, then load for each batch of the log, then loaded
//	decide, settle and tick, in any order
//	lose, and then begin again; or end
//
// Invariants:
//   - The state of the machine is what the batches in the log lead to, in their order.
//     Where that may not be so (a panic, a commit that failed) the machine is lost.
//   - A command is answered once, and those whose records are written in the order in
//     which they were decided.
//   - Nothing is written that was decided after records that are owed.
//   - A command that was answered without an error has its records committed, and so
//     is all that it looked at.
type core[M Machine] struct {
	make    func() M
	storage Storage
	build   *record.Builder
	lg      *zap.Logger

	machine M
	live    bool // there is a machine
	pending []pendingCommit
	owed    owed
}

// pendingCommit is a decision whose records are written and not yet committed.
type pendingCommit struct {
	done   <-chan struct{} // nil: it only waits for those before it
	result func() error
	then   func(error)
}

// errLost means that the machine was lost while a decision was carried out: its
// records may be written.
var errLost = fmt.Errorf("%w: the state is loaded again", kerr.UnknownServerError)

func newCore[M Machine](o Options[M]) *core[M] {
	return &core[M]{make: o.New, storage: o.Storage, build: record.NewBuilder(o.Codec, o.Codec.DefaultLevel()), lg: o.Logger}
}

// begin makes a machine without state. There must be none.
func (c *core[M]) begin() { c.machine, c.live = c.make(), true }

// load has the machine replay one batch of the log.
func (c *core[M]) load(b record.Batch) error {
	if b.Attributes().Control() {
		return c.marker(b)
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
		if err := c.replay(Record{r.Key, r.Value}, from); err != nil {
			return fmt.Errorf("offset %d: %w", it.Offset(), err)
		}
	}
	return it.Err()
}

// maxLoad bounds what a batch of the log may decompress to.
const maxLoad = 256 << 20

// marker has the machine apply a control batch that ends a transaction. Others say
// nothing to it.
func (c *core[M]) marker(b record.Batch) (err error) {
	control, err := record.ParseControl(b)
	if err != nil {
		return fmt.Errorf("offset %d: %w", b.BaseOffset(), err)
	}
	if control.Type != record.ControlCommit && control.Type != record.ControlAbort {
		return nil
	}
	m := Marker{Offset: b.BaseOffset(), ProducerID: b.ProducerID(), Epoch: b.ProducerEpoch(), Commit: control.Type == record.ControlCommit}
	if e := c.guard("marker", func() { err = c.machine.Ended(m) }); e != nil {
		return e
	}
	return err
}

// loaded says to the machine that it has the whole log.
func (c *core[M]) loaded(now time.Time) error {
	var d Decision
	if err := c.guard("loaded", func() { d = c.machine.Loaded(now) }); err != nil {
		return err
	}
	c.carryOut(d, now)
	return nil
}

// decide runs one command and carries out what it decides. failed is called if there is
// no machine, or if the command panics.
func (c *core[M]) decide(now time.Time, decide Command[M], failed func(error)) {
	if !c.live { // a command before it lost the machine
		failed(kerr.CoordinatorLoadInProgress)
		return
	}
	var d Decision
	if err := c.guard("command", func() { d = decide(c.machine, now) }); err != nil {
		failed(kerr.UnknownServerError)
		c.lose()
		return
	}
	c.carryOut(d, now)
}

// tick does what is due.
func (c *core[M]) tick(now time.Time) {
	if c.live && c.owed.due(now) {
		_ = c.pay(now) // it keeps what it cannot write
	}
	for c.live {
		due := false
		var d Decision
		err := c.guard("tick", func() {
			next := c.machine.Next()
			if due = !next.IsZero() && !next.After(now); due {
				d = c.machine.Tick(now)
			}
		})
		if err != nil {
			c.lose()
			return
		}
		if !due {
			return
		}
		c.carryOut(d, now)
	}
}

// next returns when tick has something to do, the zero time for never.
func (c *core[M]) next() (next time.Time) {
	if !c.live {
		return time.Time{}
	}
	if err := c.guard("next", func() { next = c.machine.Next() }); err != nil {
		c.lose()
		return time.Time{}
	}
	if retry := c.owed.retry; !retry.IsZero() && (next.IsZero() || retry.Before(next)) {
		next = retry
	}
	return next
}

// committing returns the channel that is closed when settle has something to do, nil
// if no commit is under way.
func (c *core[M]) committing() <-chan struct{} {
	if len(c.pending) == 0 {
		return nil
	}
	return c.pending[0].done
}

// settle answers the decisions whose records are committed, in order. Where records
// are not, the machine is lost and loaded again: its state holds what its log may
// not.
func (c *core[M]) settle() {
	for len(c.pending) > 0 {
		p := c.pending[0]
		var err error
		if p.done != nil {
			select {
			case <-p.done:
				err = p.result()
			default:
				return
			}
		}
		c.pending = c.pending[1:]
		c.answer(p.then, err) // which may lose the machine, and keeps what is pending
		if err != nil {
			c.lg.Warn("records of a coordinator were not committed: its state is loaded again", zap.Error(err))
			c.lose()
			return
		}
	}
}

// lose gives up the machine: what it has in memory may be half a change. Clients that
// wait are sent to look for the coordinator again.
func (c *core[M]) lose() {
	// What is written and not yet committed is loaded with the rest, if it gets
	// committed: loading waits until that is known.
	c.drop(kerr.NotCoordinator)
}

// end gives up the machine and what is owed, for good. Callers that wait get err.
func (c *core[M]) end(err error) {
	c.owed = owed{}
	c.drop(err)
	c.pending = nil
}

// drop answers callers that wait for the machine or for a commit with err.
func (c *core[M]) drop(err error) {
	if !c.live {
		return
	}
	m, pending := c.machine, c.pending
	var none M
	c.machine, c.live, c.pending = none, false, nil
	for _, p := range pending {
		c.answer(p.then, err)
	}
	// Its own panic was logged, and there is nobody else to return it to.
	_ = c.guard("unload", func() { m.Unload(err) })
}

// answer calls what waits for a decision.
func (c *core[M]) answer(then func(error), err error) {
	if then == nil {
		return
	}
	if e := c.guard("answer", func() { then(err) }); e != nil {
		c.lose()
	}
}

// guard runs a piece of the machine and makes an error of its panic.
func (c *core[M]) guard(what string, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.lg.Error("panic of a coordinator: its state is loaded again", zap.String("in", what), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	f()
	return nil
}

func (c *core[M]) replay(r Record, from Origin) (err error) {
	if e := c.guard("replay", func() { err = c.machine.Replay(r, from) }); e != nil {
		return e
	}
	return err
}

// hopeless reports whether what failed with err fails for ever.
func hopeless(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
