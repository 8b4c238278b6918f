package replication

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// session calls f with what the controller has heard of the brokers.
func (c *Controller) session(f func(*control.Sessions)) {
	c.sessionsMu.Lock()
	defer c.sessionsMu.Unlock()
	f(c.sessions)
}

// alone reports whether nobody but this broker could tell that it lives.
func (c *Controller) alone(m *meta.Image, id int32) bool {
	if c.o.Streams != nil {
		return false
	}
	for _, b := range m.Brokers() {
		if b.ID != id {
			return false
		}
	}
	return true
}

// Stay has this controller fence nobody any more: all brokers are about to stop.
func (c *Controller) Stay() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staying = true
	c.stopWatching()
}

const (
	// lookTimeout bounds a look whether a broker listens.
	lookTimeout = time.Second
	// fenceAgain is the pause after a fencing that failed.
	fenceAgain = 50 * time.Millisecond
)

// watchSessions fences the brokers that are not heard of, while the controller is active
// in term: until ctx ends. It begins anew with each activation: every broker has a full
// session, but those whose processes are gone.
func (c *Controller) watchSessions(ctx context.Context, term uint64) {
	c.beginSessions()
	for _, b := range c.Image().Brokers() {
		if !b.Fenced {
			c.BrokerSilent(b.ID, b.Epoch)
		}
	}
	for ctx.Err() == nil {
		now := c.o.Clock.Now()
		expired, next, some := c.expired(now)
		for _, b := range expired {
			c.lg.Warn("a broker is not heard of any more and is fenced", zap.Int32("broker_id", b.ID), zap.Int64("broker_epoch", b.Epoch))
			if err := c.fence(ctx, term, b); err != nil && ctx.Err() == nil {
				c.lg.Error("cannot fence a broker", zap.Int32("broker_id", b.ID), zap.Error(err))
				_ = clock.Sleep(ctx, c.o.Clock, fenceAgain) // the loop looks whether it is to end
			}
		}
		if len(expired) > 0 {
			continue
		}
		wait := c.o.Session
		if some {
			wait = min(wait, max(next.Sub(now), time.Millisecond))
		}
		alarm, timer := clock.After(c.o.Clock, wait)
		select {
		case <-alarm:
		case <-c.expiring:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// beginSessions gives every broker that is not fenced a full session.
func (c *Controller) beginSessions() {
	m := c.Image()
	c.session(func(s *control.Sessions) {
		s.Begin(m, c.o.Clock.Now())
		clear(c.linked)
	})
}

// expired returns the brokers that are to be fenced now, and when there may be others.
func (c *Controller) expired(now time.Time) (expired []control.BrokerName, next time.Time, some bool) {
	c.session(func(s *control.Sessions) {
		expired = s.Expired(c.Image(), now)
		next, some = s.Next()
	})
	return expired, next, some
}

// fence fences a broker, if it was not heard of since.
func (c *Controller) fence(ctx context.Context, term uint64, b control.BrokerName) error {
	_, err := c.commit(ctx, func(m *meta.Image) (out []meta.Record, err error) {
		heard := false
		c.session(func(s *control.Sessions) { heard = s.Alive(b.ID, b.Epoch, c.o.Clock.Now()) })
		if heard || c.term.Load() != term {
			return nil, nil
		}
		return control.FenceBroker(c.facts(m), b.ID, b.Epoch)
	})
	return err
}

// heldByOther reports whether another process than b's has the id of b: one that was heard
// of not long ago. A process on the same log directories, which only one at a time can
// lock, takes the place of one that has no connection open.
func (c *Controller) heldByOther(m *meta.Image, b control.Registration) (held bool) {
	old := m.Broker(b.Broker)
	if old == nil {
		return false
	}
	c.session(func(s *control.Sessions) { held = s.Alive(old.ID, old.Epoch, c.o.Clock.Now()) })
	if held && len(old.LogDirs) > 0 && c.linkedEpoch(old.ID) != old.Epoch {
		held = slices.ContainsFunc(old.LogDirs, func(dir prim.UUID) bool { return !slices.Contains(b.LogDirs, dir) })
	}
	return held
}

// BrokerLinked notes that a broker has a connection open that it sends its heartbeats on.
func (c *Controller) BrokerLinked(id int32, epoch int64) {
	c.sessionsMu.Lock()
	defer c.sessionsMu.Unlock()
	c.linked[id] = epoch
}

func (c *Controller) linkedEpoch(id int32) int64 {
	c.sessionsMu.Lock()
	defer c.sessionsMu.Unlock()
	return c.linked[id]
}

// BrokerSilent follows the end of the connection that a broker sent its heartbeats on. If
// nothing listens where it did, its process is gone, and its session has ended: others
// need not wait for it. It does not block.
func (c *Controller) BrokerSilent(id int32, epoch int64) {
	c.sessionsMu.Lock()
	if c.linked[id] == epoch {
		delete(c.linked, id)
	}
	c.sessionsMu.Unlock()
	c.look(id, epoch)
}

// lost follows the end of a connection with another node of the quorum, whose process may
// be gone.
func (c *Controller) lost(node int32) {
	if c.term.Load() == 0 {
		return
	}
	if b := c.Image().Broker(node); b != nil {
		c.look(node, b.Epoch)
	}
}

// look ends the session of a broker where nothing listens any more. It does not block.
func (c *Controller) look(id int32, epoch int64) {
	b := c.Image().Broker(id)
	if c.term.Load() == 0 || c.o.Listens == nil || b == nil || b.Epoch != epoch || b.Fenced || id == c.o.NodeID {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	c.done.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, lookTimeout)
		defer cancel()
		if c.o.Listens(ctx, b) || c.ctx.Err() != nil {
			return
		}
		c.session(func(s *control.Sessions) { s.Gone(id, epoch) })
		signal(c.expiring)
	})
}
