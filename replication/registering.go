package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// Registering keeps a controller registered: the metadata say where it listens, and which
// process of it runs (KIP-919). It is safe for concurrent use.
type Registering struct {
	c      *Controller
	r      control.ControllerRegistration
	clock  clock.Clock
	lg     *zap.Logger
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu   sync.Mutex // guards the field below
	last error      // of the last try
}

// The pauses between two registrations: after one that failed, and before one that takes the
// place of another process's.
const firstRegistering, lastRegistering = 20 * time.Millisecond, 5 * time.Second

// StartRegistering begins to register a controller, as a new process. Close ends it.
func StartRegistering(c *Controller, r control.ControllerRegistration, k clock.Clock, lg *zap.Logger) *Registering {
	r.Incarnation = prim.RandomUUID()
	g := &Registering{c: c, r: r, clock: k, lg: lg.Named("controller")}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.done.Go(func() { g.run(ctx) })
	return g
}

// Close ends it.
func (g *Registering) Close() {
	g.cancel()
	g.done.Wait()
}

func (g *Registering) registered(m *meta.Image) bool {
	old := m.Controller(g.r.Controller)
	return old != nil && old.IncarnationId == g.r.Incarnation
}

// Registered waits until the controller is registered in the metadata as this node has them.
func (g *Registering) Registered(ctx context.Context) error {
	err := g.c.Await(ctx, g.registered)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		err = errors.Join(err, g.last)
	}
	return err
}

func (g *Registering) run(ctx context.Context) {
	pause := firstRegistering
	for ctx.Err() == nil {
		if g.registered(g.c.Image()) {
			if g.c.Await(ctx, func(m *meta.Image) bool { return !g.registered(m) }) != nil {
				return
			}
			g.lg.Warn("another process registers with the id of this controller")
			pause = lastRegistering
		} else {
			one, cancel := context.WithTimeout(ctx, lastRegistering)
			err := g.c.RegisterController(one, g.r)
			if err == nil { // it counts once it is applied here
				err = g.c.Await(one, g.registered)
			}
			cancel()
			g.failed(err)
			if err == nil {
				continue
			}
			if errors.Is(err, kerr.UnsupportedVersion) {
				pause = lastRegistering // until the cluster is upgraded
			}
		}
		if clock.Sleep(ctx, g.clock, pause) != nil {
			return
		}
		pause = min(2*pause, lastRegistering)
	}
}

func (g *Registering) failed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && g.last == nil {
		g.lg.Info("cannot register as a controller yet", zap.Error(err))
	}
	g.last = err
}
