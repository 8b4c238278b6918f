package replication

import (
	"fmt"
	"testing"
	"time"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// scene is a simulated cluster of three brokers, in which only what a scenario says goes
// wrong. Partition 0 of the topic has replicas 1, 2 and 3, and broker 1 leads at first;
// broker 2 leads the quorum.
type scene struct {
	*sim
}

// scenario is a script for a scene.
type scenario struct {
	name    string
	minISR  int
	unclean bool
	play    func(s *scene)
	// naive is a rule with which the scenario must fail.
	naive bugs.Bug
}

// direct plays a scenario, and heals the cluster after it.
func (x scenario) direct(static *config.Static) *scene {
	s := &scene{sim: newSim(plan{seed: 1, steps: 1 << 30, brokers: 3, partitions: 1, minISR: x.minISR, unclean: x.unclean, strict: !x.unclean}, static)}
	for id := int32(1); id <= 3; id++ {
		s.start(id)
	}
	s.elect(s.procs[2])
	s.campaign()
	s.createTopic()
	s.consume()
	s.until("all is well", func() bool { return s.image.Topic(simTopic) != nil && s.check.parts[0].ill() == "" })
	x.play(s)
	if s.failure == nil {
		s.appointed = false
		s.heal()
	}
	return s
}

// Scenarios of the rules (S1 to S28 without those of transactions and groups), each with what
// must hold, and the checks of the simulation besides.
func TestScenarios(t *testing.T) {
	static := simStatic(t)
	for _, x := range scenarios {
		t.Run(x.name, func(t *testing.T) {
			if s := x.direct(static); s.failure != nil {
				t.Error(s.report())
			}
		})
	}
}

// until runs the cluster until something is so.
func (s *scene) until(what string, ok func() bool) {
	end := s.at + 30*time.Second
	s.run(func() bool { return ok() || s.at > end })
	if s.failure == nil && !ok() {
		s.fail("scenario", "it does not come that %s", what)
	}
}

// pass lets time pass.
func (s *scene) pass(d time.Duration) {
	end := s.at + d
	s.later(nil, d, "time passes", func() {})
	s.run(func() bool { return s.at >= end })
}

// part returns the replica of a broker.
func (s *scene) part(id int32) *Partition {
	if p := s.procs[id]; p != nil && p.replicas != nil {
		return p.replicas.Get(simTopic, 0)
	}
	return nil
}

func (s *scene) end(id int32) int64 {
	if p := s.part(id); p != nil {
		return p.log.EndOffset()
	}
	return -1
}

func (s *scene) high(id int32) int64 {
	if p := s.part(id); p != nil {
		return p.HighWatermark()
	}
	return -1
}

func (s *scene) leads(id int32) bool { return s.part(id) != nil && s.part(id).Leads() }

func (s *scene) inSync(ids ...int32) func() bool {
	return func() bool { return fmt.Sprint(s.image.Partition(simTopic, 0).InSync) == fmt.Sprint(ids) }
}

// written is a produce of a scenario.
type written struct {
	answered bool
	err      error
	info     log.AppendInfo
}

func (w *written) ok() bool { return w.answered && w.err == nil }

// write has a broker append a batch of one record. sequence is that of producer 7, -1 for
// none; a batch is the same whenever it has the same value.
func (s *scene) write(id int32, acks Acks, value string, sequence int32) *written {
	w := new(written)
	p := s.procs[id]
	s.later(p, 0, "write "+value, func() {
		b := record.NewBuilder(record.None, 0)
		b.Append(simStart.UnixMilli(), nil, []byte(value), nil)
		who := record.NoProducer
		if sequence >= 0 {
			who = record.Producer{ID: 7, Sequence: sequence}
		}
		out, err := b.Finish(who)
		if err != nil {
			s.fail("scenario", "%v", err)
			return
		}
		own := ack{crc: record.Batch(out).CRC(), all: acks == AcksAll}
		part := s.part(id)
		own.topic = part.TopicID
		info, commit, err := part.Append(out, acks, log.AppendOptions{})
		finish := func(err error) {
			w.answered, w.err, w.info = true, err, info
			if err == nil {
				own.base, own.epoch = info.BaseOffset, part.LeaderEpoch()
				s.check.acks = append(s.check.acks, own)
			}
		}
		if err != nil || commit == nil {
			finish(err)
			return
		}
		p.waits = append(p.waits, &wait{commit: commit, until: 1 << 62, part: part, answer: finish})
	})
	return w
}

// cut has nothing come through between two brokers, until mend.
func (s *scene) cut(a, b int32) {
	s.blocked[[2]int32{a, b}], s.blocked[[2]int32{b, a}] = true, true
}

// appoint makes a broker lead the quorum, whoever it reaches.
func (s *scene) appoint(id int32) {
	s.appointed = true
	s.elect(s.procs[id])
}

func (s *scene) mend() { clear(s.blocked) }

// hold keeps back what one broker sends to another from now on.
func (s *scene) hold(from, to int32) { s.held[[2]int32{from, to}] = []func(){} }

// release lets through what was held back.
func (s *scene) release(from, to int32) {
	link := [2]int32{from, to}
	for _, deliver := range s.held[link] {
		deliver()
	}
	delete(s.held, link)
}

func (s *scene) dies(id int32)     { s.kill(s.procs[id], processDeath) }
func (s *scene) powerCut(id int32) { s.kill(s.procs[id], vfs.CrashPolicy{}) }

// expect ends the scenario if something is not so.
func (s *scene) expect(ok bool, format string, args ...any) {
	if !ok {
		s.fail("scenario", format, args...)
	}
}
