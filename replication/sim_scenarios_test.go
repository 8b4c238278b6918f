package replication

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// scenarios are those that need more than two replicas and the commands of TestScripts,
// which has the scripts of KIP-101, KIP-279 and KIP-320.
var scenarios = []scenario{
	{"S2 a leader comes back with records that were never committed, and takes over the new leader's", 1, false, func(s *scene) {
		s.write(1, AcksAll, "m0", -1)
		s.until("all have m0", func() bool { return s.end(2) == 1 && s.end(3) == 1 })
		s.cut(1, 2)
		s.cut(1, 3)
		m1 := s.write(1, AcksAll, "m1", -1)
		s.until("another leads", func() bool { return s.leads(2) || s.leads(3) })
		s.expect(!m1.ok(), "m1 is answered by a leader that nobody follows")
		s.write(s.leading(), AcksAll, "n1", -1)
		s.mend()
	}, bugs.AckAtAppend},
	{"S6 (KIP-320) a leader does not count a follower that knows another leader epoch", 1, false, func(s *scene) {
		s.appoint(1)
		all := func(id int32) bool { return s.procs[id].node.Image().Index == s.image.Index }
		s.until("all know", func() bool { return all(2) && all(3) })
		s.behind[3] = s.image.Index // it goes on to follow 1 in epoch 0
		s.lead(2)
		s.until("2 leads in epoch 1", func() bool { return s.leads(2) && all(2) })
		first := s.image.Index
		s.behind[2] = first // it goes on to lead
		s.lead(1)
		s.blocked[[2]int32{2, 1}] = true
		s.until("2 is fenced", func() bool { return s.inSync(1, 3)() && s.leads(1) && s.image.Partition(simTopic, 0).LeaderEpoch == 2 })
		s.write(1, AcksAll, "a", -1)
		s.pass(500 * time.Millisecond)
		s.behind[3] = first
		s.until("3 follows 2", func() bool { return s.part(3).LeaderEpoch() == 1 })
		s.pass(500 * time.Millisecond)
		clear(s.behind)
		s.mend()
	}, bugs.FetchOfAnyEpoch},
	{"S7 (KIP-497) a leader counts who is to leave until that is decided", 1, false, func(s *scene) {
		s.cut(1, 2)
		s.cut(1, 3)
		w := s.write(1, AcksAll, "a", -1)
		s.until("the controller has another leader", func() bool { return s.image.Partition(simTopic, 0).Leader != 1 })
		s.pass(2 * time.Second)
		s.expect(!w.ok(), "a produce is answered that nobody else has")
		s.mend()
	}, bugs.ShrinkAtOnce},
	{"S7 (KIP-497) a leader counts who may have joined, though the answer is lost", 1, false, func(s *scene) {
		s.out(3)
		s.appoint(3)
		s.mend()
		s.until("3 is proposed", func() bool { return s.part(1).proposal != nil })
		s.cutOut(1, 3) // so that the leader is not answered, and hears of no metadata
		s.until("3 joins", func() bool { return len(s.image.Partition(simTopic, 0).InSync) == 3 })
		s.cut(1, 3)
		s.pass(simTimeout + 100*time.Millisecond)
		w := s.write(1, AcksAll, "b", -1)
		s.pass(500 * time.Millisecond)
		s.expect(!w.ok(), "a produce is answered that 3 does not have")
		s.mend()
	}, bugs.ForgetLostProposal},
	{"S8 (KIP-320) a follower joins a new leader where its epoch began, whatever the high watermark is", 2, false, func(s *scene) {
		s.appoint(1)
		s.cutOut(3, 1)
		w := s.write(1, AcksAll, "a", -1)
		s.until("2 has it", func() bool { return s.end(2) == 1 })
		s.cutOut(2, 1)
		s.until("it is committed without 3", w.ok)
		s.expect(s.high(2) == 0 && s.end(3) == 0, "2 knows high watermark %d, 3 has log end %d", s.high(2), s.end(3))
		s.dies(1)
		s.mend()
		s.appoint(2)
		s.until("2 leads, and 3 is about to fetch", func() bool { return s.leads(2) && s.part(3).LeaderEpoch() == s.part(2).LeaderEpoch() })
		s.cutOut(3, 2)
		s.pass(500 * time.Millisecond)
		s.expect(s.inSync(2)(), "3 is in sync")
		s.mend()
	}, bugs.GrowAtHighWatermark},
	{"S9 (KIP-903) a fetch of a process that has ended does not count for the next one", 1, false, func(s *scene) {
		s.write(1, AcksAll, "a", -1)
		s.until("all have it", func() bool { return s.high(2) == 1 && s.high(3) == 1 })
		s.pass(simWait)
		s.hold(3, 1)
		s.pass(2 * simWait) // the next fetch, from offset 1, does not arrive
		s.powerCut(3)
		s.start(3)
		s.until("3 is out of sync", s.inSync(1, 2))
		s.until("3 runs", func() bool { return s.part(3) != nil && !s.image.Broker(3).Fenced })
		s.until("the leader knows", func() bool {
			return len(s.part(1).state.InSync()) == 2 && s.procs[1].node.Image().Index == s.image.Index
		})
		s.cutOut(3, 1)
		s.release(3, 1)
		s.pass(500 * time.Millisecond)
		s.expect(!slices.Contains(s.image.Partition(simTopic, 0).InSync, 3), "3 is in sync with log end %d", s.end(3))
		s.mend()
	}, bugs.AnyBrokerEpoch},
	{"S10 (KIP-966) a broker that restarts within its session, and has lost the end of its log, is out of sync", 1, false, func(s *scene) {
		s.write(1, AcksAll, "a", -1)
		s.until("all have it", func() bool { return s.high(2) == 1 && s.high(3) == 1 })
		s.powerCut(1)
		s.start(1)
		s.until("another leads", func() bool { return s.leading() != 0 && s.leading() != 1 })
		s.expect(s.stats["fenced"] == 0, "its session has ended")
	}, bugs.UncleanStaysInSync},
	{"S11 (KIP-966) the last replica standing loses its end, and those that stopped before it are elected", 2, false, func(s *scene) {
		s.write(1, AcksAll, "a", -1)
		s.until("all have it", func() bool { return s.high(2) == 1 && s.high(3) == 1 })
		s.shut(3)
		s.shut(2)
		s.until("1 is alone", s.inSync(1))
		s.powerCut(1)
		s.start(1)
		s.pass(time.Second)
		s.start(2)
		s.start(3)
		s.until("2 or 3 leads", func() bool { return s.leading() == 2 || s.leading() == 3 })
		s.expect(s.end(s.leading()) == 1, "the leader's log ends at %d", s.end(s.leading()))
	}, bugs.UncleanStaysEligible},
	{"S12 a broker with an empty disk is no member of the in-sync set", 1, false, func(s *scene) {
		s.write(1, AcksAll, "a", -1)
		s.until("all have it", func() bool { return s.high(2) == 1 && s.high(3) == 1 })
		s.dies(3)
		s.disks[3] = vfs.NewMem()
		s.start(3)
		s.until("3 is out of sync", s.inSync(1, 2))
	}, bugs.UncleanStaysInSync},
	{"S13 (KIP-841) a broker that is fenced goes on to fetch, and is not proposed again and again", 1, false, func(s *scene) {
		s.cut(3, 2)
		s.until("3 is fenced", func() bool { return s.image.Broker(3).Fenced })
		before := s.stats["proposals"]
		s.pass(5 * time.Second)
		s.expect(!slices.Contains(s.image.Partition(simTopic, 0).InSync, 3), "3 is in sync")
		s.expect(s.stats["proposals"]-before < 5, "%d proposals", s.stats["proposals"]-before)
		s.mend()
	}, bugs.IneligibleJoins},
	{"S14 a batch that is sent again to the next leader has the offset that it had", 1, false, func(s *scene) {
		for i := range int32(5) {
			s.write(1, AcksAll, fmt.Sprint("v", i), i)
		}
		s.until("all have them", func() bool { return s.high(2) == 5 && s.high(3) == 5 })
		s.dies(3) // it has to find the sequences in its log
		s.start(3)
		s.until("3 is in sync", func() bool { return s.part(3) != nil && s.check.parts[0].ill() == "" })
		s.dies(1)
		s.until("another leads", func() bool { return s.leads(2) || s.leads(3) })
		for i := range int32(5) {
			w := s.write(s.leading(), AcksAll, fmt.Sprint("v", i), i)
			s.until("it is answered", func() bool { return w.answered })
			s.expect(w.err == nil && w.info.Duplicate && w.info.BaseOffset == int64(i), "batch %d is answered %v, %+v", i, w.err, w.info)
		}
	}, bugs.ProducersOfLeaderOnly},
	{"S25 a process is not fenced for the one before it", 1, false, func(s *scene) {
		old := control.BrokerName{ID: 3, Epoch: s.image.Broker(3).Epoch}
		s.dies(3)
		s.start(3)
		s.until("3 is back", func() bool { return s.image.Broker(3).Epoch != old.Epoch && !s.image.Broker(3).Fenced })
		s.elect(s.procs[1])
		c := s.procs[1].ctrl
		s.expect(c.fence(background, c.term.Load(), old) == nil, "fencing fails")
		s.expect(!s.image.Broker(3).Fenced, "the new process is fenced")
	}, bugs.UncleanStaysInSync},
	{"S26 a topic is deleted and created again while a follower is away: the old log is no log of it", 1, false, func(s *scene) {
		s.write(1, AcksAll, "old", -1)
		s.until("all have it", func() bool { return s.high(3) == 1 })
		s.dies(3)
		old := s.image.Topic(simTopic).ID
		s.command("delete the topic", func(c *Controller) error {
			_, err := c.DeleteTopics(background, []prim.UUID{old})
			return err
		})
		s.until("it is there again", func() bool {
			return s.image.Topic(simTopic) != nil && s.image.Topic(simTopic).ID != old && s.leads(1) && s.end(1) == 0
		})
		s.write(1, AcksAll, "new", -1)
		s.start(3)
		s.until("3 is in sync", func() bool { return s.check.parts[0].ill() == "" })
		s.expect(s.end(3) == 1, "3 has log end %d", s.end(3))
	}, bugs.StrayKept},
	{"S27 min.insync.replicas is raised above what is in sync: nothing is committed any more", 1, false, func(s *scene) {
		s.shut(3)
		s.appoint(1)
		s.dies(2)
		s.until("1 is alone", s.inSync(1))
		s.setMinISR(2)
		s.until("the leader knows", func() bool { return s.part(1).state.MinISR() == 2 })
		high := s.high(1)
		all := s.write(1, AcksAll, "a", -1)
		s.until("it is answered", func() bool { return all.answered })
		s.expect(errors.Is(all.err, kerr.NotEnoughReplicas), "acks=all is answered with %v", all.err)
		s.write(1, AcksLeader, "b", -1)
		s.pass(time.Second)
		s.expect(s.high(1) == high, "high watermark %d, was %d", s.high(1), high)
		s.expect(len(s.image.Partition(simTopic, 0).EligibleLeader) == 0, "eligible %v", s.image.Partition(simTopic, 0).EligibleLeader)
	}, bugs.IgnoreMinISR},
	{"S28 the old leader lives behind a partition while others elect one: it answers no acks=all", 2, true, func(s *scene) {
		s.cut(1, 2)
		s.cut(1, 3)
		s.until("another leads", func() bool { return s.leads(2) || s.leads(3) })
		s.expect(s.leads(1), "1 knows of that")
		w := s.write(1, AcksAll, "a", -1)
		s.pass(3 * time.Second)
		s.expect(!w.ok(), "it is answered")
		s.mend()
		s.until("1 follows", func() bool { return !s.leads(1) })
		s.pass(10 * time.Millisecond)
		s.expect(w.answered && w.err != nil, "it is not refused")
	}, bugs.AckAtDemotion},
	{"a proposal is refused after one whose answer was lost, and the follower joins all the same", 1, false, func(s *scene) {
		s.out(3)
		s.mend()
		s.hold(1, 2) // the proposal does not arrive
		s.until("3 is proposed", func() bool { return s.part(1).proposal != nil })
		s.pass(simTimeout + 100*time.Millisecond)
		s.powerCut(3)
		delete(s.held, [2]int32{1, 2}) // it never will
		s.start(3)
		s.until("3 is in sync", s.inSync(1, 2, 3))
	}, bugs.KeepLostProposal},
}

// leading returns who leads as the controller has it, 0 if that one does not know yet.
func (s *scene) leading() int32 {
	if p := s.image.Partition(simTopic, 0); p.Leader != meta.NoLeader && s.leads(p.Leader) {
		return p.Leader
	}
	return 0
}

// cutOut has nothing come back to one broker from another.
func (s *scene) cutOut(id, from int32) { s.blocked[[2]int32{from, id}] = true }

// out has a follower leave the in-sync set: nothing comes through to it from the leader, until
// mend.
func (s *scene) out(id int32) {
	s.cut(id, 1)
	s.write(1, AcksLeader, "for the lag", -1)
	s.until("it lags, and the leader knows", func() bool {
		return !slices.Contains(s.image.Partition(simTopic, 0).InSync, id) && !slices.Contains(s.part(1).state.InSync(), id)
	})
}

// shut stops a broker cleanly.
func (s *scene) shut(id int32) {
	s.procs[id].leave()
	s.until("it has stopped", func() bool { return s.procs[id] == nil })
}

func (s *scene) setMinISR(n int) {
	text := fmt.Sprint(n)
	s.command("min.insync.replicas "+text, func(c *Controller) error {
		_, err := c.ChangeConfigs(background, []control.ResourceChange{{Resource: meta.Resource{Type: meta.TopicResource, Name: simTopic},
			Changes: []control.ConfigChange{{Name: "min.insync.replicas", Op: control.SetConfig, Value: &text}}}}, s.static, false)
		return err
	})
}

// lead has another broker lead: it becomes the preferred leader.
func (s *scene) lead(id int32) {
	move := control.Move{PartitionName: control.PartitionName{Topic: simTopic}, Replicas: []int32{id}}
	for _, other := range []int32{1, 2, 3} {
		if other != id {
			move.Replicas = append(move.Replicas, other)
		}
	}
	s.command(fmt.Sprintf("replicas %v, and the first leads", move.Replicas), func(c *Controller) error {
		_, err := c.AlterReassignments(background, []control.Move{move}, true)
		if err == nil {
			_, err = c.ElectLeaders(background, control.PreferredElection, []control.PartitionName{move.PartitionName})
		}
		return err
	})
}
