package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
)

// ControllerOptions says how a controller is started.
type ControllerOptions struct {
	NodeID int32  // of this node
	FS     vfs.FS // that Dir is in
	Dir    string // of the metadata log; made if it is missing
	Clock  clock.Clock
	Logger *zap.Logger
	// Streams join this node to the others of the quorum; nil means that it is the only
	// one. Voters are those that vote in a new quorum. With Observer a new node begins none,
	// and waits until it is taken into one.
	Streams  *quorum.Streams
	Voters   []quorum.Peer
	Observer bool
	Timeouts quorum.Timeouts
	// Paused reports that the process is stopped, see [quorum.NodeOptions].
	Paused func() bool
	// Session is how long a broker may be silent (broker.session.timeout.ms).
	Session time.Duration
	// Elections are held by the active controller.
	Elections Elections
	// Listens looks whether something listens where a broker does. It returns false only
	// if its process is gone for certain. It may be nil.
	Listens func(ctx context.Context, b *meta.Broker) bool
	// Forward returns the way to another node, which leads as far as this one knows; nil
	// if there is no other node. Its error is kerr.NotController where that is worth
	// another try.
	Forward func(leader int32) (Channel, error)
	// Applied is called with every image after it is in place, in order. It must
	// not wait: see quorum.Subscriber.
	Applied func(old, new *meta.Image, delta meta.Delta)
	// Led is notified when another node leads the quorum, -1 for none. It must not block,
	// and may be nil.
	Led func(leader int32)
	// Configured is notified when the members of the quorum change. It must not block, and
	// may be nil.
	Configured func()
	// Settled waits until this broker has done what the entry at an index asks of it,
	// or ctx ends. Change returns after it, so that a topic can be used once its
	// creation is answered. It may be nil.
	Settled func(ctx context.Context, index uint64) error
	// Full returns why a broker can hold no other partition, nil if it can. It may
	// be nil, and must not block.
	Full func(broker int32) error
	// Static are the static configs of this node; nil means the defaults.
	Static *config.Static
	// Fatal is called once if this node can no longer be part of the quorum. The
	// process must end: nothing that depends on metadata is safe from then on.
	Fatal func(error)
}

// Controller is how a broker changes the cluster's metadata. While it is active it has
// package control decide, and the metadata log write; else the active one on another node
// is asked. It is safe for concurrent use.
//
// Invariant: it decides only while it is active, one decision at a time, and each
// sees the image that the one before left. It is active in a term from when it has
// applied all that earlier leaders committed until another election.
type Controller struct {
	o    ControllerOptions
	log  quorum.MetadataLog
	node *quorum.Node // that log is, nil for a log of another kind
	lg   *zap.Logger

	// deciding is held by the change under way. A channel, since a change waits for
	// the disk and the network.
	deciding chan struct{}
	term     atomic.Uint64 // in which it is active, 0 while it is not

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	done   sync.WaitGroup

	sessionsMu sync.Mutex // guards sessions and linked
	sessions   *control.Sessions
	linked     map[int32]int64 // epochs of the brokers that have a connection for heartbeats
	expiring   chan struct{}   // holds one: a session may have ended

	mu        sync.Mutex    // guards the fields below
	leads     bool          // as the metadata log said last
	following bool          // activate runs
	activated chan struct{} // closed while it is active
	applying  chan struct{} // closed with the next update

	stopWatching context.CancelFunc // ends watchSessions
	staying      bool               // it fences nobody
}

// StartController opens the metadata log and joins the quorum. The only voter is active
// when it returns; others may have no leader yet.
func StartController(ctx context.Context, o ControllerOptions) (*Controller, error) {
	c := newController(o)
	if err := dirs.Make(o.FS, o.Dir); err != nil {
		return nil, err
	}
	node, err := quorum.StartNode(quorum.NodeOptions{NodeID: o.NodeID, FS: o.FS, Dir: o.Dir, Clock: o.Clock, Logger: c.lg, Streams: o.Streams,
		Voters: quorum.Servers(o.Voters), Observer: o.Observer, Timeouts: o.Timeouts, Paused: o.Paused, Subscribers: []quorum.Subscriber{c.applied},
		Elected: c.elected, Lost: c.lost, Led: o.Led, Configured: o.Configured, Fatal: o.Fatal})
	if err != nil {
		return nil, err
	}
	c.node = node
	c.open(node)
	if o.Streams != nil {
		return c, nil
	}
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("metadata quorum: %w", err), c.Close())
	}
	return c, nil
}

func newController(o ControllerOptions) *Controller {
	c := &Controller{o: o, lg: o.Logger.Named("controller"), deciding: make(chan struct{}, 1), sessions: control.NewSessions(o.Session), linked: make(map[int32]int64),
		expiring: make(chan struct{}, 1), stopWatching: func() {}, activated: make(chan struct{}), applying: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// open gives the controller its metadata log, which may have elected it already.
func (c *Controller) open(log quorum.MetadataLog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = log
	c.follow()
}

func (c *Controller) applied(u quorum.Update) {
	if c.o.Applied != nil {
		c.o.Applied(u.Old, u.New, u.Delta)
	}
	c.mu.Lock()
	close(c.applying)
	c.applying = make(chan struct{})
	c.mu.Unlock()
}

// Await waits until the metadata as applied on this node are so, or ctx ends.
func (c *Controller) Await(ctx context.Context, ok func(*meta.Image) bool) error {
	for {
		c.mu.Lock()
		next := c.applying
		c.mu.Unlock()
		if ok(c.Image()) {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitApplied waits until the entry at index is applied on this node and what it asks of
// this broker is done, or ctx ends.
func (c *Controller) AwaitApplied(ctx context.Context, index uint64) error {
	err := c.Await(ctx, func(m *meta.Image) bool { return m.Index >= index })
	if err == nil && c.o.Settled != nil {
		err = c.o.Settled(ctx, index)
	}
	return err
}

// Active reports whether this controller decides.
func (c *Controller) Active() bool { return c.term.Load() != 0 }

// elected follows an election.
func (c *Controller) elected(leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leads = leads
	if !leads {
		c.deactivate()
	}
	c.follow()
}

// deactivate ends what began with the last election. mu is held.
func (c *Controller) deactivate() {
	if c.term.Swap(0) != 0 {
		c.activated = make(chan struct{})
		c.stopWatching()
	}
}

// follow has the controller become active, if it leads. mu is held.
func (c *Controller) follow() {
	if c.leads && c.log != nil && !c.following && c.term.Load() == 0 && c.ctx.Err() == nil {
		c.following = true
		c.done.Go(c.activate)
	}
}

// activateAgain is how long activate waits between two tries.
const activateAgain = 10 * time.Millisecond

// activate waits until all that earlier leaders committed is applied, and makes the
// controller active, unless it was not for long that it led. Each election begins
// anew.
func (c *Controller) activate() {
	for {
		term, err := c.log.Barrier(c.ctx)
		c.mu.Lock()
		switch {
		case c.ctx.Err() != nil || !c.leads:
		case err != nil: // another election is about to be reported, or its log has failed
			c.mu.Unlock()
			time.Sleep(activateAgain)
			continue
		default:
			c.term.Store(term)
			close(c.activated)
			if c.o.Streams != nil && !c.staying {
				var ctx context.Context
				ctx, c.stopWatching = context.WithCancel(c.ctx)
				c.done.Go(func() { c.watchSessions(ctx, term) })
				c.done.Go(func() { c.holdElections(ctx, c.o.Elections.Preferred, "preferred", control.PreferredElections) })
				c.done.Go(func() { c.holdElections(ctx, c.o.Elections.Unclean, "unclean", control.UncleanElections) })
			}
			c.lg.Info("controller is active", zap.Uint64("term", term))
		}
		c.following = false
		c.mu.Unlock()
		return
	}
}

// await waits until the controller is active.
func (c *Controller) await(ctx context.Context) error {
	c.mu.Lock()
	activated := c.activated
	c.mu.Unlock()
	select {
	case <-activated:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Image returns the metadata as last applied.
func (c *Controller) Image() *meta.Image { return c.log.Image() }

// Change decides on a change of the metadata and commits it. decide sees the
// newest image and returns the records to write, none for no change; its error
// is returned as it is. No other decision is made meanwhile.
//
// An error from the quorum leaves open whether the change happened, unless it
// is kerr.NotController.
func (c *Controller) Change(ctx context.Context, decide func(*meta.Image) ([]meta.Record, error)) error {
	index, err := c.commit(ctx, decide)
	if err == nil && index > 0 && c.o.Settled != nil {
		err = c.o.Settled(ctx, index)
	}
	return err
}

// commit is Change for what brokers ask for: it does not wait for this broker's own disk,
// which may have much to do. It returns the index of the entry, 0 if there is none.
func (c *Controller) commit(ctx context.Context, decide func(*meta.Image) ([]meta.Record, error)) (uint64, error) {
	select {
	case c.deciding <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	term := c.term.Load()
	if term == 0 {
		<-c.deciding
		return 0, kerr.NotController
	}
	records, err := decide(c.Image())
	if err != nil || len(records) == 0 {
		<-c.deciding
		return 0, err
	}
	// The next decision must see what this one wrote, even if the caller gives up.
	// The quorum itself may wait for ever, for a disk that hangs.
	type outcome struct {
		index uint64
		err   error
	}
	done := make(chan outcome, 1)
	c.done.Go(func() {
		index, err := c.log.Append(term, records)
		<-c.deciding
		if errors.Is(err, quorum.ErrStale) {
			err = fmt.Errorf("%w: %w", kerr.NotController, err)
		}
		done <- outcome{index, err}
	})
	select {
	case of := <-done:
		return of.index, of.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Quorum returns how the quorum stands.
func (c *Controller) Quorum() quorum.Standing { return c.log.Standing() }

// Close leaves the quorum and closes the metadata log.
func (c *Controller) Close() error {
	c.cancel()
	err := c.log.Close()
	c.done.Wait()
	return err
}
