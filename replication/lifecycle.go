package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// LifecycleOptions say how a broker belongs to its cluster.
type LifecycleOptions struct {
	// Registration is what the broker registers with. Its Incarnation is set by
	// NewLifecycle.
	Registration control.Registration
	Channel      Channel
	// Applied returns the index of the last entry of the metadata log that was applied.
	Applied func() uint64
	// Offline returns the log directories that have failed.
	Offline  func() []prim.UUID
	Interval time.Duration // of heartbeats (broker.heartbeat.interval.ms)
	// Lease is renewed with each heartbeat, and Suspend called when it is over. Nil and nil
	// where nobody else could lead.
	Lease   *Lease
	Suspend func()
	Clock   clock.Clock
	Logger  *zap.Logger
}

// Lifecycle is how a broker belongs to its cluster: it registers, tells the controller
// that it lives, and asks to leave. Register comes first, then Start, Ready and Leave in
// this order; Close ends it at any time.
//
// Invariant: the epoch never falls, and is that of the last registration.
type Lifecycle struct {
	o      LifecycleOptions
	lg     *zap.Logger
	epoch  atomic.Int64
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // holds one: a heartbeat is wanted at once

	mu       sync.Mutex // guards the fields below
	ready    bool       // it wants to serve
	leaving  bool       // it wants to end
	unfenced chan struct{}
	released chan struct{} // closed once the controller lets it end
	lost     error         // why the last heartbeat was not answered
	failing  time.Time     // since when none was; zero while they are
	giveUp   func()        // ends the heartbeat under way; nil while there is none
}

// NewLifecycle returns the lifecycle of a broker that nobody knows yet.
func NewLifecycle(o LifecycleOptions) *Lifecycle {
	l := &Lifecycle{o: o, lg: o.Logger.Named("lifecycle"), wake: make(chan struct{}, 1), unfenced: make(chan struct{}), released: make(chan struct{})}
	l.o.Registration.Incarnation = prim.RandomUUID()
	l.epoch.Store(-1)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Epoch returns that of the registration, -1 before it. A nil Lifecycle has none.
func (l *Lifecycle) Epoch() int64 {
	if l == nil {
		return -1
	}
	return l.epoch.Load()
}

const (
	// registerAgain is how long a broker waits whose id another process still has.
	registerAgain = 100 * time.Millisecond
	// heartbeatAgain is the first pause after a heartbeat that failed.
	heartbeatAgain = 10 * time.Millisecond
	// heartbeatTimeout bounds one heartbeat.
	heartbeatTimeout = 2 * time.Second
)

// Register puts the broker into the metadata. While another process has its id, as the
// one before it may for a while, it tries again until ctx ends
// (initial.broker.registration.timeout.ms).
func (l *Lifecycle) Register(ctx context.Context) error {
	warned := false
	for {
		epoch, err := l.o.Channel.RegisterBroker(ctx, l.o.Registration)
		switch {
		case err == nil:
			l.epoch.Store(epoch)
			return nil
		case ctx.Err() != nil || refusedForGood(err):
			return err
		}
		if !warned {
			warned = true
			l.lg.Warn("cannot register yet", zap.Error(err))
		}
		if clock.Sleep(ctx, l.o.Clock, registerAgain) != nil {
			return err
		}
	}
}

// refusedForGood reports whether trying again does not help.
func refusedForGood(err error) bool {
	for _, code := range []kerr.Code{kerr.InconsistentClusterId, kerr.InvalidRequest, kerr.InvalidRegistration, kerr.UnsupportedVersion, kerr.ClusterAuthorizationFailed} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// Nudge has the next heartbeat sent at once: another controller does not know yet that this
// broker lives.
func (l *Lifecycle) Nudge() {
	l.mu.Lock()
	giveUp := l.giveUp
	l.mu.Unlock()
	if giveUp != nil {
		giveUp() // it may wait for a controller that is silent
	}
	signal(l.wake)
}

// Start begins to send heartbeats.
func (l *Lifecycle) Start() {
	l.done.Go(l.run)
	if l.o.Lease != nil {
		l.o.Lease.Renew(l.o.Clock.Now()) // it has been registered
		l.done.Go(l.watchLease)
	}
}

// Ready says that the broker can serve, and waits until the controller lets it.
func (l *Lifecycle) Ready(ctx context.Context) error {
	l.mu.Lock()
	l.ready = true
	l.mu.Unlock()
	signal(l.wake)
	select {
	case <-l.unfenced:
		return nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("the controller has not let this broker serve: %w", errors.Join(ctx.Err(), l.lost))
	}
}

// Leave says that the broker wants to end, and waits until others have taken over what it
// leads, ctx ends, or there is no controller.
func (l *Lifecycle) Leave(ctx context.Context) error {
	l.mu.Lock()
	l.leaving = true
	l.mu.Unlock()
	signal(l.wake)
	select {
	case <-l.released:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lost
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the heartbeats.
func (l *Lifecycle) Close() {
	l.cancel()
	l.done.Wait()
}

// watchLease calls Suspend whenever the lease is over.
func (l *Lifecycle) watchLease() {
	for clock.Sleep(l.ctx, l.o.Clock, l.o.Lease.Left()) == nil {
		if !l.o.Lease.Over() {
			continue // it was renewed meanwhile
		}
		l.mu.Lock()
		serves := l.ready && !l.leaving
		lost := l.lost
		l.mu.Unlock()
		if serves {
			l.lg.Warn("leads nothing until the controller is heard of again", zap.Error(lost))
		}
		l.o.Suspend()
		for l.o.Lease.Over() {
			if clock.Sleep(l.ctx, l.o.Clock, l.o.Interval) != nil {
				return
			}
		}
	}
}

// run sends heartbeats.
func (l *Lifecycle) run() {
	pause := time.Duration(0)
	for l.ctx.Err() == nil {
		quick, err := l.beat()
		l.failed(err)
		wait := l.o.Interval
		if err != nil || quick {
			pause = min(max(2*pause, heartbeatAgain), l.o.Interval)
			wait = pause
		} else {
			pause = 0
		}
		if err != nil && wait == l.o.Interval && l.ctx.Err() == nil {
			l.lg.Warn("a heartbeat failed", zap.Error(err))
		}
		alarm, timer := clock.After(l.o.Clock, wait)
		select {
		case <-alarm:
		case <-l.wake:
		case <-l.ctx.Done():
		}
		timer.Stop()
	}
}

// failed notes how a heartbeat went. One that wants to end does not wait for a controller
// that there is not, as where all brokers end.
func (l *Lifecycle) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Clock.Now()
	switch {
	case err == nil:
		l.failing = time.Time{}
	case l.failing.IsZero():
		l.failing = now
	case l.leaving && now.Sub(l.failing) > leaveGrace:
		closeOnce(l.released)
	}
	l.lost = err
}

// leaveGrace is how long a broker that wants to end waits for a controller.
const leaveGrace = 2 * time.Second

// beat sends one heartbeat. quick means that the next one is not to wait: the controller
// has yet to do what was asked for.
func (l *Lifecycle) beat() (quick bool, err error) {
	h := l.heartbeat()
	ctx, cancel := context.WithTimeout(l.ctx, min(heartbeatTimeout, 2*l.o.Interval))
	defer cancel()
	l.mu.Lock()
	l.giveUp = cancel
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.giveUp = nil
		l.mu.Unlock()
	}()
	sent := l.o.Clock.Now()
	answer, err := l.o.Channel.Heartbeat(ctx, h)
	if unknown(err) {
		l.lg.Warn("the controller does not know this broker any more; it registers again", zap.Int64("broker_epoch", h.Epoch), zap.Error(err))
		var epoch int64
		if epoch, err = l.o.Channel.RegisterBroker(ctx, l.o.Registration); err == nil {
			l.epoch.Store(epoch)
			return true, nil
		}
	}
	if err != nil {
		return false, err
	}
	l.o.Lease.Renew(sent)
	return l.answered(h, answer), nil
}

// heartbeat returns the next heartbeat.
func (l *Lifecycle) heartbeat() control.Heartbeat {
	l.mu.Lock()
	h := control.Heartbeat{Broker: l.o.Registration.Broker, Epoch: l.epoch.Load(), Applied: int64(l.o.Applied()), WantFence: !l.ready, WantShutdown: l.leaving}
	l.mu.Unlock()
	if l.o.Offline != nil {
		h.OfflineDirs = l.o.Offline()
	}
	return h
}

// unknown reports whether a heartbeat was refused since the controller does not know the
// broker, which has to register again.
func unknown(err error) bool {
	return errors.Is(err, kerr.StaleBrokerEpoch) || errors.Is(err, kerr.BrokerIdNotRegistered)
}

// answered follows the answer to a heartbeat. quick is that of beat.
func (l *Lifecycle) answered(h control.Heartbeat, answer control.HeartbeatAnswer) (quick bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !answer.Fenced && !h.WantFence {
		closeOnce(l.unfenced)
	}
	if answer.ShutDown && h.WantShutdown {
		closeOnce(l.released)
	}
	return h.WantShutdown && !answer.ShutDown || !h.WantFence && answer.Fenced
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
