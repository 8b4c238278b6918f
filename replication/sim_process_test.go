package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/prim"
)

// Times of a simulated cluster. They are shorter than those of a real one, so that more
// happens in as many events.
const (
	simSession   = 2 * time.Second        // broker.session.timeout.ms
	simHeartbeat = 400 * time.Millisecond // broker.heartbeat.interval.ms
	simLag       = 2 * time.Second        // replica.lag.time.max.ms
	simWait      = 400 * time.Millisecond // replica.fetch.wait.max.ms
	simTimeout   = time.Second            // of requests
	simLate      = 3 * time.Second        // that a request is on its way at most
	simAgain     = 30 * time.Millisecond  // after an error
)

// process is one process of a broker, from its start to its end.
type process struct {
	s      *sim
	id     int32
	run    int // which of the broker's processes it is
	dead   bool
	frozen time.Duration // it does nothing before
	skew   time.Duration // of its clock

	disk     *vfs.Mem
	dir      *dirs.Dir
	ctrl     *Controller
	node     *quorum.IdealNode
	life     *Lifecycle
	replicas *Replicas // nil before it has registered

	following map[*Partition]*following
	parked    []*parked
	waits     []*wait
	proposing bool // a request of its proposals is under way
	pumping   bool // an entry of the metadata log is on its way
	leaving   bool
}

var background = context.Background()

// start begins a process of a broker on its disk.
func (s *sim) start(id int32) {
	if s.procs[id] != nil {
		return
	}
	s.runs[id]++
	p := &process{s: s, id: id, run: s.runs[id], disk: s.disks[id], following: make(map[*Partition]*following)}
	if p.disk == nil {
		p.disk = vfs.NewMem()
		s.disks[id] = p.disk
	}
	clk := simClock{s, &p.skew}
	p.disk.SetNow(clk.Now)
	var err error
	if p.dir, _, err = dirs.Open(p.disk, "/d", dirs.Identity{ClusterID: "sim", NodeID: id}); err != nil {
		s.fail("start", "broker %d: %v", id, err)
		return
	}
	p.ctrl = newController(ControllerOptions{NodeID: id, Clock: clk, Logger: zap.NewNop(), Streams: new(quorum.Streams), Session: simSession, Static: s.static,
		Applied: func(old, next *meta.Image, delta meta.Delta) {
			s.applied(p, old, next, delta)
			if p.replicas != nil {
				p.replicas.Apply(old, next, delta)
				s.check.settle(p) // there may be more entries before the event ends
			}
		}})
	p.ctrl.Stay() // sessions end in events
	p.node = s.quorum.Join(id, p.ctrl.elected, p.ctrl.applied)
	p.ctrl.open(p.node)
	p.life = NewLifecycle(LifecycleOptions{Clock: clk, Logger: zap.NewNop(), Applied: func() uint64 { return p.node.Image().Index },
		Registration: control.Registration{Broker: id, PreviousEpoch: p.dir.CleanEpoch(), Unclean: !p.dir.Clean(), LogDirs: []prim.UUID{p.dir.ID}}})
	s.procs[id] = p
	s.later(p, 0, "starts", p.register)
}

// follow does what the process does on its own after each event.
func (p *process) follow() {
	if p.replicas == nil {
		return
	}
	p.propose()
	p.unpark()
	p.answer()
}

// register puts the broker into the metadata.
func (p *process) register() {
	again := func() { p.s.later(p, 100*time.Millisecond, "registers again", p.register) }
	p.ask("register", func(c *Controller) func() {
		epoch, err := c.RegisterBroker(background, p.life.o.Registration)
		return func() {
			if err != nil {
				again()
				return
			}
			p.life.epoch.Store(epoch)
			p.open()
		}
	}, func(error) { again() })
}

// open opens the logs, once the registration has reached this node.
func (p *process) open() {
	if p.node.Image().Index < uint64(p.life.Epoch()) {
		p.s.later(p, 5*time.Millisecond, "waits for its registration", p.open)
		return
	}
	conf, err := p.s.static.Broker()
	if err != nil {
		p.s.fail("start", "%v", err)
		return
	}
	clk := simClock{p.s, &p.skew}
	r := NewReplicas(Options{NodeID: p.id, FS: p.disk, Dirs: []*dirs.Dir{p.dir}, Broker: conf, Static: p.s.static, Clock: clk, Logger: zap.NewNop(), inline: true,
		Fetching: Fetching{Epoch: p.life.Epoch}, Became: p.became,
		Alter: func(context.Context, control.AlterPartitionsRequest) (control.AlterPartitionsResult, error) {
			return control.AlterPartitionsResult{}, errLost
		}})
	if err := r.Start(p.node.Image); err != nil {
		p.s.fail("start", "broker %d: %v", p.id, err)
		return
	}
	p.replicas = r
	if p.quarantined() {
		return
	}
	p.life.ready = true
	p.beat()
	p.s.every(p, simLag/2, "looks who lags", func() { r.Shrink(simLag) })
	p.s.every(p, time.Second+time.Duration(p.id)*77*time.Millisecond, "checkpoint", func() {
		if err := r.CheckpointIfMoved(); err != nil {
			p.s.fail("checkpoint", "broker %d: %v", p.id, err)
		}
	})
}

// quarantined reports whether the log of a replica does not open: a power cut has torn it in
// the middle, and klamm leaves that to a person. The sim's removes the replica, and starts
// the broker again.
func (p *process) quarantined() bool {
	s := p.s
	found := false
	for i := range int32(s.plan.partitions) {
		if p.replicas.Offline(simTopic, i) {
			found = true
			if err := p.disk.RemoveAll(p.dir.File(dirs.Name(simTopic, i))); err != nil {
				s.fail("start", "broker %d: %v", p.id, err)
			}
		}
	}
	if found {
		s.stats["quarantined"]++
		s.dirty[p.id] = true
		s.kill(p, processDeath)
		s.later(nil, 100*time.Millisecond, fmt.Sprintf("start %d without what is damaged", p.id), func() { s.start(p.id) })
	}
	return found
}

// beat sends a heartbeat, and others after it.
func (p *process) beat() {
	h := p.life.heartbeat()
	next := func(d time.Duration) { p.s.later(p, d, "heartbeat", p.beat) }
	what := "heartbeat"
	if h.WantShutdown {
		what = "heartbeat that asks for the end"
	}
	p.ask(what, func(c *Controller) func() {
		answer, err := c.Heartbeat(background, h)
		return func() {
			switch {
			case unknown(err):
				p.again(next)
				return
			case err != nil:
				next(simAgain)
				return
			}
			quick := p.life.answered(h, answer)
			if p.leaving && released(p.life) {
				p.stop()
				return
			}
			if quick {
				next(20 * time.Millisecond)
			} else {
				next(simHeartbeat)
			}
		}
	}, func(error) { next(simAgain) })
}

// again registers in the same process.
func (p *process) again(next func(time.Duration)) {
	p.ask("register again", func(c *Controller) func() {
		epoch, err := c.RegisterBroker(background, p.life.o.Registration)
		return func() {
			if err == nil {
				p.life.epoch.Store(epoch)
			}
			next(simAgain)
		}
	}, func(error) { next(simAgain) })
}

func released(l *Lifecycle) bool {
	select {
	case <-l.released:
		return true
	default:
		return false
	}
}

// leave begins a controlled shutdown, which ends after a while in any case.
func (p *process) leave() {
	if p.replicas == nil || p.leaving {
		return
	}
	p.leaving, p.life.leaving = true, true
	p.s.later(p, 10*time.Second, "stops without leave", p.stop)
}

// stop ends the process cleanly.
func (p *process) stop() {
	if err := errors.Join(p.replicas.Close(p.life.Epoch()), p.dir.Close()); err != nil {
		p.s.fail("stop", "broker %d: %v", p.id, err)
	}
	p.s.ended(p)
}

// ended takes a process that has ended out of the cluster.
func (s *sim) ended(p *process) {
	if p.replicas != nil {
		s.check.settle(p)
	}
	p.dead = true
	delete(s.procs, p.id)
	if s.leader == p {
		s.quorum.Elect(nil)
		s.leader = nil
	}
	p.ctrl.cancel()
}

// kill ends a process at once. What it has written stays, unless the power fails: then
// policy says what is lost.
func (s *sim) kill(p *process, policy vfs.CrashPolicy) {
	s.disks[p.id] = p.disk.CrashClone(policy)
	s.ended(p)
}

// powerCut returns what a power cut leaves.
func powerCut(r *rand.Rand) vfs.CrashPolicy {
	p := vfs.CrashPolicy{KeepEntries: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		p.Torn = rand.New(rand.NewPCG(r.Uint64(), 0))
	}
	return p
}

var processDeath = vfs.CrashPolicy{KeepData: true, KeepEntries: true}

// pump has the next entry of the metadata log on its way, if there is one.
func (p *process) pump() {
	s := p.s
	if p.pumping || int64(p.node.Image().Index) >= p.node.Standing().HighWatermark {
		return
	}
	p.pumping = true
	d := 200*time.Microsecond + time.Duration(s.net.Int64N(int64(3*time.Millisecond)))
	switch n := s.net.IntN(1000); {
	case n < s.plan.lag:
		d = time.Duration(s.net.Int64N(int64(2 * time.Second)))
	case n < 3*s.plan.lag:
		d *= 20
	}
	s.later(p, d, "metadata", p.applies)
}

func (p *process) applies() {
	s := p.s
	p.pumping = false
	limit, behind := s.behind[p.id]
	if s.leader == nil || !s.reaches(s.leader.id, p.id) || behind && p.node.Image().Index >= limit {
		p.pumping = true
		s.later(p, 50*time.Millisecond, "waits for metadata", p.applies)
		return
	}
	if _, err := p.node.Step(); err != nil {
		s.fail("M1", "broker %d cannot apply an entry: %v", p.id, err)
	}
}

// state tells of the replicas.
func (p *process) state() string {
	if p.replicas == nil || p.dead {
		return ""
	}
	var b strings.Builder
	for i := range int32(p.s.plan.partitions) {
		part := p.replicas.Get(simTopic, i)
		if part == nil {
			continue
		}
		l := part.Log()
		fmt.Fprintf(&b, " | %d %s e%d [%d,%d,%d)", i, part.Role(), part.LeaderEpoch(), l.StartOffset(), l.HighWatermark(), l.EndOffset())
		part.mu.Lock()
		if part.state != nil {
			fmt.Fprintf(&b, " isr%v", part.state.InSync())
		}
		part.mu.Unlock()
	}
	return b.String()
}
