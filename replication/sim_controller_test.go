package replication

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
)

// simTopic is the topic of every simulation.
const simTopic = "t"

// elect makes a process the leader of the quorum, and its controller active.
func (s *sim) elect(p *process) {
	s.quorum.Elect(p.node)
	s.leader = p
	if err := p.ctrl.await(background); err != nil {
		s.fail("controller", "%v", err)
		return
	}
	p.ctrl.beginSessions()
	s.stats["controllers"]++
	s.watch(p)
}

// watch fences who is not heard of any more, while the controller is active.
func (s *sim) watch(p *process) {
	s.later(p, 200*time.Millisecond, "sessions", func() {
		if s.leader != p {
			return
		}
		expired, _, _ := p.ctrl.expired(p.ctrl.o.Clock.Now())
		for _, b := range expired {
			s.stats["fenced"]++
			_ = p.ctrl.fence(background, p.ctrl.term.Load(), b) // the next look tries again
		}
		s.watch(p)
	})
}

// campaign looks whether the quorum has a leader that reaches the others, and elects
// another one if it has not.
func (s *sim) campaign() {
	s.later(nil, 250*time.Millisecond, "campaign", func() {
		s.campaign()
		if s.appointed {
			return
		}
		if p := s.leader; p != nil {
			if s.fit(p) {
				return
			}
			s.quorum.Elect(nil)
			s.leader = nil
			return
		}
		var fit []*process
		for _, id := range s.ids() {
			if s.fit(s.procs[id]) {
				fit = append(fit, s.procs[id])
			}
		}
		if len(fit) > 0 {
			s.elect(fit[s.net.IntN(len(fit))])
		}
	})
}

// fit reports whether a process can lead the quorum: a majority talks with it.
func (s *sim) fit(p *process) bool {
	n := int32(0)
	for _, id := range s.ids() {
		if s.procs[id].frozen <= s.at && s.reaches(p.id, id) && s.reaches(id, p.id) {
			n++
		}
	}
	return p.frozen <= s.at && 2*n > s.plan.brokers
}

// command has the active controller do something, if there is one.
func (s *sim) command(what string, f func(c *Controller) error) {
	if p := s.leader; p != nil {
		s.later(p, 0, what, func() {
			if s.leader == p {
				_ = f(p.ctrl) // what is refused changes nothing
			}
		})
	}
}

// createTopic creates the topic once enough brokers live, and again if it is deleted.
func (s *sim) createTopic() {
	s.later(nil, 50*time.Millisecond, "topic?", func() {
		s.createTopic()
		live := len(s.image.Live())
		if s.image.Topic(simTopic) != nil || live == 0 || s.check.parts[0].topic.IsZero() && live < int(s.plan.brokers) {
			return
		}
		spec := control.TopicSpec{Name: simTopic, Partitions: -1, ReplicationFactor: -1, Assignment: make(map[int32][]int32), Configs: make(map[string]*string)}
		for i := range s.plan.partitions {
			for j := range 3 {
				spec.Assignment[int32(i)] = append(spec.Assignment[int32(i)], int32((i+j)%int(s.plan.brokers))+1)
			}
		}
		minISR, unclean := fmt.Sprint(s.plan.minISR), fmt.Sprint(s.plan.unclean)
		spec.Configs["min.insync.replicas"], spec.Configs["unclean.leader.election.enable"] = &minISR, &unclean
		s.command("create the topic", func(c *Controller) error {
			results, err := c.CreateTopics(background, []control.TopicSpec{spec}, control.Defaults{}, false)
			if err == nil {
				err = results[0].Err
			}
			return err
		})
	})
}

// applied checks an entry of the metadata log that a node has applied. What it changes is
// checked when the first one does.
func (s *sim) applied(p *process, old, next *meta.Image, delta meta.Delta) {
	h := fnv.New64a()
	var b []byte
	for _, r := range next.Records() {
		var err error
		if b, err = meta.AppendRecord(b[:0], r); err != nil {
			s.fail("M1", "%v", err)
		}
		h.Write(b)
	}
	sum := h.Sum64()
	if was, seen := s.check.hashes[next.Index]; seen {
		if was != sum {
			s.fail("M1", "broker %d has another image at %d than others", p.id, next.Index)
		}
		return
	}
	s.check.hashes[next.Index] = sum
	if next.Index <= s.image.Index {
		return
	}
	s.image = next
	if t := next.Topic(simTopic); t != nil && t.ID != s.check.parts[0].topic {
		s.check.begin(t.ID)
		for _, p := range s.clients {
			p.begin()
		}
	}
	for _, x := range s.check.parts {
		t := old.TopicByID(x.topic)
		if t == nil {
			t = new(meta.Topic)
		}
		var was *meta.Partition
		if int(x.index) < len(t.Partitions) {
			was = t.Partitions[x.index]
		}
		s.changed(x, was, next.Partition(simTopic, x.index))
		if s.failure == nil {
			x.members()
		}
	}
}

// changed checks how an entry has changed a partition.
func (s *sim) changed(x *partCheck, old, next *meta.Partition) {
	if next == nil {
		return
	}
	for _, id := range next.InSync {
		if b := s.image.Broker(id); b == nil || b.Fenced {
			x.fail("M5", "broker %d is fenced, and in sync: %v", id, next.InSync)
		}
		if !slices.Contains(next.Replicas, id) {
			x.fail("M10", "broker %d is in sync, and no replica: %v of %v", id, next.InSync, next.Replicas)
		}
		if slices.Contains(next.EligibleLeader, id) {
			x.fail("M10", "broker %d is in sync %v, and eligible %v", id, next.InSync, next.EligibleLeader)
		}
	}
	if next.Leader != meta.NoLeader && !slices.Contains(next.InSync, next.Leader) {
		x.fail("M10", "leader %d is not in sync: %v", next.Leader, next.InSync)
	}
	if old == nil || old == next {
		return
	}
	if next.PartitionEpoch <= old.PartitionEpoch || next.LeaderEpoch < old.LeaderEpoch || next.Leader != old.Leader && next.LeaderEpoch == old.LeaderEpoch {
		x.fail("R14", "leader %d in epoch %d.%d becomes %d in epoch %d.%d", old.Leader, old.LeaderEpoch, old.PartitionEpoch, next.Leader, next.LeaderEpoch, next.PartitionEpoch)
	}
	if next.Leader != meta.NoLeader && next.LeaderEpoch != old.LeaderEpoch && next.Recovering && !slices.Contains(old.InSync, next.Leader) && !slices.Contains(old.EligibleLeader, next.Leader) {
		x.uncleanElection(next.Leader, next.LeaderEpoch, s.plan.unclean || !s.plan.strict)
	}
}
