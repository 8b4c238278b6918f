package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
)

// group runs the member of a consumer: it hands it events, and does what it
// wants done. A goroutine wakes it at its deadline; each request has one that
// waits for the answer. It is safe for concurrent use.
//
// Rebalances happen in Poll: what Poll has returned counts as processed, so the
// offsets are committed and the partitions given up only when the application
// comes back for more. What follows does not need Poll, so that one that is
// short of time can return and a later one wait on.
type group struct {
	c    *Consumer
	id   string
	wake chan struct{} // buffered: Poll is to look again
	kick chan struct{} // buffered: the deadline is earlier than it was

	mu       sync.Mutex // guards the fields below; taken before Consumer.mu
	m        *member
	requests map[uint64]context.CancelFunc // under way
	waiters  map[uint64]chan error         // of commits
	waiterID uint64
	timed    time.Time  // what the timer of run is set to; zero for nothing
	left     chan error // buffered: how close ended
}

func newGroup(c *Consumer) *group {
	o := &c.o
	_, reset := o.reset()
	g := &group{
		c: c, id: o.Group, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), left: make(chan error, 1),
		requests: make(map[uint64]context.CancelFunc), waiters: make(map[uint64]chan error),
		m: newMember(memberOptions{
			group: o.Group, instance: o.InstanceID, auto: !o.NoAutoCommit, reset: reset,
			autoEvery: o.AutoCommitEvery, heartbeat: o.HeartbeatInterval, maxPoll: o.MaxPollInterval, requestTimeout: o.RequestTimeout,
			pauseFirst: o.RetryBackoff, pauseLimit: o.RetryBackoffMax, jitter: 0.8 + 0.4*rand.Float64(),
		}),
	}
	c.work.Go(g.run)
	return g
}

// run calls the member when it wants to be called.
func (g *group) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		g.mu.Lock()
		at := g.m.deadline()
		g.timed = at
		g.mu.Unlock()
		wait := time.Hour
		if !at.IsZero() {
			wait = time.Until(at)
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
			g.event((*member).tick)
		case <-g.kick:
		case <-g.c.ctx.Done():
			return
		}
	}
}

// event hands the member an event, and does what comes of it.
func (g *group) event(f func(m *member, now time.Time)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g.m, time.Now())
	for _, a := range g.m.take() {
		g.perform(a)
	}
	if at := g.m.deadline(); !at.IsZero() && (g.timed.IsZero() || at.Before(g.timed)) {
		notify(g.kick)
	}
}

// notify puts a token into a buffered channel unless there is one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// perform does one thing. The caller holds mu.
func (g *group) perform(a action) {
	switch a := a.(type) {
	case findRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			broker, err := g.c.cl.findCoordinator(ctx, g.id, g.patience()/3)
			return func(m *member, now time.Time) { m.found(now, a.id, broker, err) }
		})
	case joinRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			answer, err := g.sendJoin(ctx, a)
			return func(m *member, now time.Time) { m.groupJoined(now, a.id, answer, err) }
		})
	case shareRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			shares, counts, err := g.share(ctx, a.answer)
			return func(m *member, now time.Time) { m.shared(now, a.id, shares, counts, err) }
		})
	case syncRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			mine, err := g.sendSync(ctx, a)
			return func(m *member, now time.Time) { m.groupSynced(now, a.id, mine, err) }
		})
	case beatRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			err := g.sendBeat(ctx, a)
			return func(m *member, now time.Time) { m.beaten(now, a.id, err) }
		})
	case commitRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			instance := g.instance()
			if a.who == noGroup {
				instance = nil
			}
			failed, err := g.c.cl.commitOffsets(ctx, a.broker, g.id, a.who, instance, a.offsets)
			return func(m *member, now time.Time) { m.committed(now, a.id, failed, err) }
		})
	case placeRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			have, failed, err := g.c.cl.offsetsOf(ctx, a.broker, forGroup, g.id, a.tps, true)
			return func(m *member, now time.Time) { m.located(now, a.id, have, failed, err) }
		})
	case leaveRequest:
		g.send(a.id, func(ctx context.Context) func(*member, time.Time) {
			err := g.sendLeave(ctx, a)
			return func(m *member, now time.Time) { m.left(now, a.id, err) }
		})
	case forget:
		if cancel := g.requests[a.id]; cancel != nil {
			cancel()
		}
	case dropAssignment:
		g.c.mu.Lock()
		g.c.replace(nil)
		g.c.mu.Unlock()
	case giveAssignment:
		g.c.give(a.tps)
	case beginAt:
		g.c.begin(a.tps, a.committed)
	case storedOffsets:
		g.c.stored(a.offsets)
	case tellPoll:
		g.c.fail(a.err)
	case wakePoll:
		notify(g.wake)
	case answerCommit:
		g.waiters[a.waiter] <- a.err
		delete(g.waiters, a.waiter)
	case groupClosed:
		g.left <- a.err
	case logged:
		log := g.c.lg.Warn
		if a.change {
			log = g.c.lg.Info
		}
		log(a.what, zap.String("group", g.id), zap.String("member", g.m.who.member), zap.Int32("generation", g.m.who.generation), zap.Stringer("state", g.m.state), zap.Error(a.err))
	default:
		panic(fmt.Sprintf("group: action %T", a))
	}
}

// send runs a request on a goroutine of its own, and hands in what it returns.
// The caller holds mu.
func (g *group) send(id uint64, f func(ctx context.Context) func(*member, time.Time)) {
	ctx, cancel := context.WithCancel(g.c.ctx)
	g.requests[id] = cancel
	g.c.work.Go(func() {
		answer := f(ctx)
		g.event(func(m *member, now time.Time) {
			delete(g.requests, id)
			if ctx.Err() == nil { // neither forgotten nor closed
				answer(m, now)
			}
		})
		cancel()
	})
}

func (g *group) subscribe(topics []string) {
	g.event(func(m *member, now time.Time) { m.subscribe(now, topics, g.c.positions) })
}

// assign is called before partitions are assigned by hand.
func (g *group) assign() {
	g.event(func(m *member, now time.Time) { m.assign(now, g.c.positions) })
}

// brokerLost has the coordinator be looked for again if it is that broker, whichever
// connection to it was lost.
func (g *group) brokerLost(id int32) {
	g.event(func(m *member, now time.Time) { m.brokerLost(now, id) })
}

func (g *group) seeked(tp TopicPartition) {
	g.event(func(m *member, _ time.Time) { m.seeked(tp) })
}

// polled says that the application is in Poll, and reports whether Poll may
// return records.
func (g *group) polled() (reads bool) {
	g.event(func(m *member, now time.Time) {
		m.repartitioned(now, g.partitions)
		m.polled(now, g.c.positions)
		reads = m.reads()
	})
	return reads
}

func (g *group) returned() { g.event((*member).returned) }

func (g *group) metadataChanged() {
	g.event(func(m *member, now time.Time) { m.repartitioned(now, g.partitions) })
}

// partitions returns how many partitions a topic has, if that is known.
func (g *group) partitions(topic string) (n int32, known bool) {
	if t := g.c.cl.now().topics[topic]; t != nil && t.err == kerr.None {
		return int32(len(t.partitions)), true
	}
	return 0, false
}

// commit commits offsets of the application's choice, until ctx ends.
func (g *group) commit(ctx context.Context, offsets map[TopicPartition]Offset) error {
	if len(offsets) == 0 {
		return nil
	}
	done := make(chan error, 1)
	var id uint64
	g.event(func(m *member, now time.Time) {
		g.waiterID++
		id = g.waiterID
		g.waiters[id] = done
		m.commit(now, id, offsets)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	var last error
	g.event(func(m *member, now time.Time) {
		last = m.cancelCommit(now, id)
		delete(g.waiters, id)
	})
	select {
	case err := <-done: // at the same moment
		return err
	default:
		return g.waited(ctx, last, "commit")
	}
}

// leave commits and leaves the group, until ctx ends.
func (g *group) leave(ctx context.Context) error {
	g.event(func(m *member, now time.Time) { m.close(now, g.c.positions) })
	select {
	case err := <-g.left:
		return err
	case <-ctx.Done():
	}
	var last error
	g.event(func(m *member, _ time.Time) { last = m.abort() })
	select {
	case err := <-g.left:
		return err
	default:
		return g.waited(ctx, last, "last commit")
	}
}

// waited returns the error of a wait for the coordinator.
func (g *group) waited(ctx context.Context, last error, what string) error {
	g.mu.Lock()
	coordinator := g.m.coordinator
	g.mu.Unlock()
	if coordinator < 0 {
		return waited(ctx, last, "%s to group %s: its coordinator from %s", what, g.id, g.c.cl.asked())
	}
	return waited(ctx, last, "%s to group %s at %s", what, g.id, g.c.cl.name(coordinator))
}

// outside says what Poll waits for while the consumer is no member with an
// assignment, and why, as far as is known. It says nothing of a member.
func (g *group) outside() (what string, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.m
	switch {
	case m.state == memberIdle || m.state == memberStable && len(m.owned) > 0 && len(m.unplaced) == 0:
		return "", nil
	case m.state == memberStable && len(m.owned) == 0:
		return fmt.Sprintf("a partition from group %s", g.id), m.lastErr
	case m.coordinator < 0:
		return fmt.Sprintf("coordinator of group %s from %s", g.id, g.c.cl.asked()), m.lastErr
	case m.state == memberStable:
		return fmt.Sprintf("committed offsets of group %s from %s", g.id, g.c.cl.name(m.coordinator)), m.lastErr
	case m.state == memberPreparing:
		return fmt.Sprintf("commit to group %s at %s before a rebalance", g.id, g.c.cl.name(m.coordinator)), m.lastErr
	}
	return fmt.Sprintf("joining group %s at %s", g.id, g.c.cl.name(m.coordinator)), m.lastErr
}

// subscribed returns the topics of the subscription, and those that the member
// assigns to others.
func (g *group) subscribed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := append([]string(nil), g.m.topics...)
	for t := range g.m.leads {
		names = append(names, t)
	}
	return names
}
