package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// plan is all that a run depends on.
type plan struct {
	seed       uint64
	steps      int // events before all is healed
	brokers    int32
	partitions int
	producers  int
	minISR     int
	unclean    bool // elections
	// strict means that not more than one broker at a time may have lost something: then
	// nothing that is committed may be lost by any rule of the cluster.
	strict bool
	pace   time.Duration // of producers
	late   int           // of 1,000 messages that come very late
	lag    int           // of 1,000 metadata entries that do
	faults []fault
}

// fault is something that goes wrong, or that somebody does.
type fault struct {
	at   time.Duration
	kind string
	a, b int32 // brokers
	d    time.Duration
	r    uint64
}

func (f fault) String() string {
	return fmt.Sprintf("%.3fs %s %d %d for %v (%x)", f.at.Seconds(), f.kind, f.a, f.b, f.d.Round(time.Millisecond), f.r)
}

// faultKinds are the kinds with their weights.
var faultKinds = []struct {
	kind   string
	weight int
}{
	{"kill", 10}, {"power cut", 10}, {"wipe", 3}, {"shutdown", 8}, {"isolate", 12}, {"one way", 14}, {"deaf", 6}, {"freeze", 10}, {"clock", 3}, {"controller", 8}, {"preferred", 4},
	{"reassign", 8}, {"delete records", 4}, {"min isr", 3}, {"flush", 6}, {"roll", 4}, {"slow", 5}, {"power cut of all", 1}, {"recreate", 2},
}

// newPlan returns the plan of a seed.
func newPlan(seed uint64, steps int) plan {
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{seed: seed, steps: steps, brokers: 3, partitions: 2, producers: 6, minISR: 1 + r.IntN(2), unclean: r.IntN(5) == 0, pace: 20*time.Millisecond + time.Duration(r.Int64N(int64(150*time.Millisecond)))}
	if r.IntN(3) == 0 {
		p.brokers = 4
	}
	p.late, p.lag = []int{2, 10, 10, 60}[r.IntN(4)], []int{5, 20, 20, 150}[r.IntN(4)]
	p.strict = p.minISR == 2 && !p.unclean && r.IntN(3) > 0
	total := 0
	for _, k := range faultKinds {
		total += k.weight
	}
	for at := time.Second; len(p.faults) < max(steps/50, 3); {
		at += 50*time.Millisecond + time.Duration(r.ExpFloat64()*float64(400*time.Millisecond))
		f := fault{at: at, a: 1 + r.Int32N(p.brokers), b: 1 + r.Int32N(p.brokers), d: 100*time.Millisecond + time.Duration(r.ExpFloat64()*float64(1500*time.Millisecond)), r: r.Uint64()}
		n := r.IntN(total)
		for _, k := range faultKinds {
			if n -= k.weight; n < 0 {
				f.kind = k.kind
				break
			}
		}
		p.faults = append(p.faults, f)
	}
	return p
}

// simulate runs a plan: chaos first, and then a cluster that heals.
func simulate(p plan, static *config.Static) *sim {
	s := newSim(p, static)
	s.simulate()
	return s
}

func (s *sim) simulate() {
	for id := int32(1); id <= s.plan.brokers; id++ {
		s.start(id)
	}
	s.campaign()
	s.createTopic()
	s.startClients()
	for _, f := range s.plan.faults {
		s.later(nil, f.at, f.String(), func() {
			if !s.quiet {
				s.happens(f)
			}
		})
	}
	chaos := s.plan.faults
	last := 3 * time.Second
	if len(chaos) > 0 {
		last = max(last, chaos[len(chaos)-1].at+2*time.Second)
	}
	s.run(func() bool { return s.count >= s.plan.steps || s.at >= last })
	s.heal()
}

// settleTime is how long a cluster may take until all is well again.
const settleTime = 60 * time.Second

// heal ends all that is wrong, and checks that the cluster is well within a bounded time.
func (s *sim) heal() {
	s.quiet = true
	clear(s.blocked)
	clear(s.slow)
	for id := int32(1); id <= s.plan.brokers; id++ {
		if p := s.procs[id]; p != nil {
			p.frozen = min(p.frozen, s.at)
		}
		s.every(nil, 300*time.Millisecond, fmt.Sprintf("start %d", id), func() { s.start(id) })
	}
	s.every(nil, settleTime/6, "who has no leader", s.electByHand)
	end := s.at + settleTime
	ill := func() string {
		for _, x := range s.check.parts {
			if why := x.ill(); why != "" {
				return fmt.Sprintf("partition %d: %s", x.index, why)
			}
		}
		for _, p := range s.clients {
			if p.batch != nil && p.idem {
				return fmt.Sprintf("producer %d waits for an answer to sequence %d", p.id, p.batch.sequence)
			}
		}
		return ""
	}
	s.run(func() bool { return s.at >= end || s.count%16 == 0 && ill() == "" })
	if s.failure != nil {
		return
	}
	if why := ill(); why != "" {
		s.fail("heals", "%v after the last fault: %s", settleTime, why)
		return
	}
	for _, x := range s.check.parts {
		x.healed()
	}
}

// electByHand does what a person does for a partition of which nobody is known to have what
// is committed: all in sync have stopped uncleanly, and then min.insync.replicas was changed,
// which also clears who led last.
func (s *sim) electByHand() {
	for _, x := range s.check.parts {
		if p := s.image.Partition(simTopic, x.index); p != nil && p.Leader == meta.NoLeader && len(p.InSync)+len(p.EligibleLeader)+len(p.LastKnownELR) == 0 {
			s.stats["elections by hand"]++
			s.command(fmt.Sprintf("elect a leader of %d uncleanly", x.index), func(c *Controller) error {
				_, err := c.ElectLeaders(background, control.UncleanElection, []control.PartitionName{{Topic: simTopic, Partition: x.index}})
				return err
			})
		}
	}
}

// happens has a fault happen.
func (s *sim) happens(f fault) {
	p := s.procs[f.a]
	s.stats[f.kind]++
	end := func(what string, undo func()) { s.later(nil, f.d, what, undo) }
	restart := func(id int32) { end(fmt.Sprintf("start %d", id), func() { s.start(id) }) }
	r := rand.New(rand.NewPCG(f.r, 0))
	switch f.kind {
	case "kill", "power cut", "wipe":
		if p == nil || !s.mayLose(f.a) {
			return
		}
		switch f.kind {
		case "kill":
			s.kill(p, processDeath)
		case "power cut":
			s.kill(p, powerCut(r))
		default:
			s.kill(p, processDeath)
			s.disks[f.a] = vfs.NewMem()
		}
		s.dirty[f.a] = true
		restart(f.a)
	case "power cut of all":
		if s.plan.strict {
			return
		}
		for _, id := range s.ids() {
			s.kill(s.procs[id], powerCut(r))
			s.dirty[id] = true
			restart(id)
		}
	case "shutdown":
		if p != nil {
			p.leave()
			s.later(nil, f.d+2*time.Second, fmt.Sprintf("start %d", f.a), func() { s.start(f.a) })
		}
	case "isolate":
		for id := int32(1); id <= s.plan.brokers; id++ {
			if id != f.a {
				s.block(f.a, id, f.d)
				s.block(id, f.a, f.d)
			}
		}
	case "deaf": // it is heard, and hears nothing
		for id := int32(1); id <= s.plan.brokers; id++ {
			if id != f.a {
				s.block(id, f.a, f.d)
			}
		}
	case "one way":
		if f.a != f.b {
			s.block(f.a, f.b, f.d)
		}
	case "freeze":
		if p != nil {
			p.frozen = s.at + f.d
		}
	case "clock":
		if p != nil {
			p.skew += f.d
		}
	case "controller":
		s.later(nil, 0, "another controller", func() {
			if len(s.ids()) > 0 {
				id := s.ids()[int(f.r%uint64(len(s.ids())))]
				if q := s.procs[id]; s.fit(q) {
					s.elect(q)
				}
			}
		})
	case "preferred":
		s.command("preferred leaders", func(c *Controller) error {
			return c.Change(background, func(m *meta.Image) ([]meta.Record, error) { return control.PreferredElections(c.facts(m)), nil })
		})
	case "reassign":
		replicas := r.Perm(int(s.plan.brokers))[:3]
		move := control.Move{PartitionName: control.PartitionName{Topic: simTopic, Partition: int32(r.IntN(s.plan.partitions))}}
		for _, i := range replicas {
			move.Replicas = append(move.Replicas, int32(i)+1)
		}
		if r.IntN(4) == 0 {
			move.Replicas = nil
		}
		s.command(fmt.Sprintf("move %d to %v", move.Partition, move.Replicas), func(c *Controller) error {
			_, err := c.AlterReassignments(background, []control.Move{move}, true)
			return err
		})
	case "delete records":
		index := int32(r.IntN(s.plan.partitions))
		if q := s.leaderOf(s.image, index); q != nil && q.replicas != nil {
			s.later(q, 0, fmt.Sprintf("delete records of %d", index), func() {
				if part := q.replicas.Get(simTopic, index); part != nil && part.Leads() {
					start, high := part.log.StartOffset(), part.HighWatermark()
					_, _ = part.DeleteRecords(start + r.Int64N(high-start+1))
				}
			})
		}
	case "min isr":
		if s.plan.strict {
			return
		}
		n := fmt.Sprint(1 + r.IntN(2))
		s.command("min.insync.replicas "+n, func(c *Controller) error {
			_, err := c.ChangeConfigs(background, []control.ResourceChange{{Resource: meta.Resource{Type: meta.TopicResource, Name: simTopic},
				Changes: []control.ConfigChange{{Name: "min.insync.replicas", Op: control.SetConfig, Value: &n}}}}, s.static, false)
			return err
		})
	case "recreate":
		if t := s.image.Topic(simTopic); t != nil {
			s.command("delete the topic", func(c *Controller) error {
				_, err := c.DeleteTopics(background, []prim.UUID{t.ID})
				return err
			})
		}
	case "flush", "roll":
		if p == nil {
			return
		}
		s.later(p, 0, f.kind, func() {
			if p.replicas == nil {
				return
			}
			part := p.replicas.Get(simTopic, int32(r.IntN(s.plan.partitions)))
			if part == nil {
				return
			}
			var err error
			if f.kind == "flush" {
				err = part.log.Flush()
			} else {
				err = part.log.Roll()
			}
			if err != nil {
				s.fail(f.kind, "broker %d: %v", p.id, err)
			}
		})
	case "slow":
		if f.a != f.b {
			link := [2]int32{f.a, f.b}
			s.slow[link] = true
			end(fmt.Sprintf("%d to %d is fast again", f.a, f.b), func() { delete(s.slow, link) })
		}
	}
}

// block has nothing come through from one broker to another for a while.
func (s *sim) block(from, to int32, d time.Duration) {
	link := [2]int32{from, to}
	s.blocked[link] = true
	s.later(nil, d, fmt.Sprintf("%d reaches %d again", from, to), func() { delete(s.blocked, link) })
}

// mayLose reports whether a broker may lose something: in a strict run only if no other
// one has, that is not in sync with everybody again.
func (s *sim) mayLose(id int32) bool {
	for other := range s.dirty {
		p, b, t := s.procs[other], s.image.Broker(other), s.image.Topic(simTopic)
		whole := p != nil && b != nil && !b.Fenced && b.Epoch == p.life.Epoch() && t != nil
		for i := 0; whole && i < len(t.Partitions); i++ {
			whole = !slices.Contains(t.Partitions[i].Replicas, other) || slices.Contains(t.Partitions[i].InSync, other)
		}
		if whole {
			delete(s.dirty, other)
		}
	}
	delete(s.dirty, id)
	return !s.plan.strict || len(s.dirty) == 0
}

// report tells what has failed, of which plan.
func (s *sim) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", s.failure)
	fmt.Fprintf(&b, "%d brokers, min.insync.replicas %d, unclean elections %t, strict %t; faults:\n", s.plan.brokers, s.plan.minISR, s.plan.unclean, s.plan.strict)
	for _, f := range s.plan.faults {
		if f.at <= s.at {
			fmt.Fprintf(&b, "\t%v\n", f)
		}
	}
	for _, line := range s.lines {
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}
