package control

import (
	"math"
	"slices"
	"strconv"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// election says which replica may lead where the leader cannot stay.
type election int8

const (
	onlineElection    election = iota // one that has all that is committed
	preferredElection                 // the first replica, if it is in sync; else as online
	uncleanElection                   // as online; where there is none, any that is active
)

// partitionChange is a change of one partition on the way to its record. Set the target
// fields to what is asked for, and call record. It is the only place that elects leaders
// and decides on in-sync and eligible sets (PartitionChangeBuilder).
type partitionChange struct {
	topic prim.UUID
	index int32
	was   *meta.Partition

	// What the partition is to have; they begin with what it has.
	inSync, replicas, removing, adding []int32
	directories                        []prim.UUID // of replicas; nil where none are known
	recovering                         bool
	eligible, lastKnown                []int32

	election   election
	acceptable func(id int32) bool // may lead, if its log allows it
	unclean    func(id int32) bool // may have lost the end of its log; nil means none has
	directory  func(id int32) prim.UUID
	newEpoch   bool // a leader epoch begins even if the leader stays
	// eligibility means that the cluster has eligible leaders (KIP-966).
	eligibility bool
	minISR      int // min.insync.replicas of the topic
}

// settings are the configs of a topic that its changes go by.
type settings struct {
	minISR  int  // min.insync.replicas
	unclean bool // unclean.leader.election.enable
}

// settings returns the settings of a topic as the controller resolves them: no broker
// has others of its own.
func (f Facts) settings(t *meta.Topic) settings {
	const unclean = "unclean.leader.election.enable"
	s := settings{minISR: 1}
	for _, d := range config.Describe(config.KindTopic, Layers(f.Image, meta.Resource{Type: meta.TopicResource, Name: t.Name}, f.Static), []string{minISRKey, unclean}) {
		switch {
		case d.Value == nil:
		case d.Name == unclean:
			s.unclean = *d.Value == "true"
		default:
			if n, err := strconv.Atoi(*d.Value); err == nil { // what is no number was never taken
				s.minISR = n
			}
		}
	}
	return s
}

// change begins a change of a partition.
func (f Facts) change(t *meta.Topic, index int32, p *meta.Partition, s settings) *partitionChange {
	c := &partitionChange{topic: t.ID, index: index, was: p, inSync: p.InSync, replicas: p.Replicas, removing: p.Removing, adding: p.Adding,
		directories: p.Directories, recovering: p.Recovering, eligible: p.EligibleLeader, lastKnown: p.LastKnownELR,
		eligibility: f.Image.Feature(eligibleLeaders) > 0, minISR: s.minISR}
	c.acceptable = func(id int32) bool { return active(f.Image, id) && dirOnline(f.Image, p, id) }
	c.directory = func(id int32) prim.UUID { return onlyDir(f.Image, id) }
	if s.unclean {
		c.election = uncleanElection
	}
	return c
}

// sweep returns the records that change partitions: alter sets what each is to have that
// touched picks.
func (f Facts) sweep(touched func(p *meta.Partition) bool, alter func(c *partitionChange)) []meta.Record {
	return f.sweepSome(math.MaxInt, touched, alter)
}

// sweepSome is sweep until there are most records.
func (f Facts) sweepSome(most int, touched func(p *meta.Partition) bool, alter func(c *partitionChange)) (out []meta.Record) {
	var of *meta.Topic
	var s settings
	f.Image.Partitions(func(t *meta.Topic, index int32, p *meta.Partition) {
		if len(out) >= most || !touched(p) {
			return
		}
		if of != t {
			of, s = t, f.settings(t)
		}
		c := f.change(t, index, p, s)
		alter(c)
		if r := c.record(); r != nil {
			out = append(out, r)
		}
	})
	return out
}

// dirOnline reports whether the directory of a replica is one that its broker has, as
// far as the two are known.
func dirOnline(m *meta.Image, p *meta.Partition, id int32) bool {
	at := slices.Index(p.Replicas, id)
	if at < 0 || at >= len(p.Directories) || p.Directories[at].IsZero() {
		return true
	}
	b := m.Broker(id)
	return b == nil || len(b.LogDirs) == 0 || slices.Contains(b.LogDirs, p.Directories[at])
}

// onlyDir returns the directory of a new replica, zero where the broker chooses.
func onlyDir(m *meta.Image, id int32) prim.UUID {
	if b := m.Broker(id); b != nil && len(b.LogDirs) == 1 {
		return b.LogDirs[0]
	}
	return prim.UUID{}
}

// record returns the record of the change, nil if nothing changes.
func (c *partitionChange) record() *msg.PartitionChangeRecord {
	c.completeReassignment()
	c.findEligible()
	leader, unclean := c.elect()
	r := new(msg.PartitionChangeRecord)
	r.SetDefaults()
	r.TopicId, r.PartitionId = c.topic, c.index
	// A replica that is gone must not go on in this epoch.
	left := slices.ContainsFunc(c.was.Replicas, func(id int32) bool { return !slices.Contains(c.replicas, id) })
	if leader != c.was.Leader || unclean || c.newEpoch || left {
		r.Leader = leader
	}
	switch {
	case unclean:
		c.inSync, c.eligible, c.recovering = []int32{leader}, nil, true
	case leader != meta.NoLeader && len(c.inSync) == 0: // it was eligible
		c.inSync, c.eligible = []int32{leader}, without(c.eligible, leader)
	case len(c.inSync) == 0 && !c.eligibility:
		c.inSync = c.was.InSync // only they are known to have every record
	}
	c.rememberLeader(leader)
	set := func(dst *[]int32, was, is []int32) {
		if !slices.Equal(was, is) {
			*dst = append([]int32{}, is...)
		}
	}
	set(&r.Isr, c.was.InSync, c.inSync)
	set(&r.EligibleLeaderReplicas, c.was.EligibleLeader, c.eligible)
	set(&r.LastKnownElr, c.was.LastKnownELR, c.lastKnown)
	set(&r.Replicas, c.was.Replicas, c.replicas)
	set(&r.RemovingReplicas, c.was.Removing, c.removing)
	set(&r.AddingReplicas, c.was.Adding, c.adding)
	r.Directories = c.changedDirectories()
	if c.recovering != c.was.Recovering {
		r.LeaderRecoveryState = 0
		if c.recovering {
			r.LeaderRecoveryState = 1
		}
	}
	if r.Leader == meta.Unchanged && r.Isr == nil && r.EligibleLeaderReplicas == nil && r.LastKnownElr == nil && r.Replicas == nil &&
		r.RemovingReplicas == nil && r.AddingReplicas == nil && r.Directories == nil && r.LeaderRecoveryState < 0 {
		return nil
	}
	return r
}

// completeReassignment ends a reassignment, once every target replica is in sync
// (PartitionReassignmentReplicas.maybeCompleteReassignment).
func (c *partitionChange) completeReassignment() {
	if len(c.removing) == 0 && len(c.adding) == 0 {
		return
	}
	leaves := func(id int32) bool { return slices.Contains(c.removing, id) }
	inSync := slices.DeleteFunc(slices.Clone(c.inSync), leaves)
	replicas := slices.DeleteFunc(slices.Clone(c.replicas), leaves)
	if len(inSync) == 0 || len(replicas) == 0 || slices.ContainsFunc(replicas, func(id int32) bool { return !slices.Contains(inSync, id) }) {
		return
	}
	c.directories = c.directoriesOf(replicas)
	c.inSync, c.replicas, c.removing, c.adding = inSync, replicas, nil, nil
}

// needed is how many replicas in sync leave no need for eligible leaders.
func (c *partitionChange) needed() int { return min(c.minISR, len(c.replicas)) }

// findEligible sets who has all that is committed beside those in sync: while they are
// fewer than min.insync.replicas nothing is committed, so that who leaves them has it
// for as long as that lasts, unless it loses the end of its log.
func (c *partitionChange) findEligible() {
	if !c.eligibility || len(c.inSync) >= c.needed() {
		c.eligible = nil
		return
	}
	had := slices.Clone(c.eligible)
	for _, id := range c.was.InSync {
		if !slices.Contains(had, id) {
			had = append(had, id)
		}
	}
	c.eligible = slices.DeleteFunc(had, func(id int32) bool {
		return slices.Contains(c.inSync, id) || !slices.Contains(c.replicas, id) || c.unclean != nil && c.unclean(id) && !bugs.Planted(bugs.UncleanStaysEligible)
	})
}

// elect returns who leads, and whether records may be lost by it.
func (c *partitionChange) elect() (leader int32, unclean bool) {
	acceptable := func(id int32) bool { return c.acceptable(id) && slices.Contains(c.replicas, id) }
	has := func(id int32) bool {
		return (slices.Contains(c.inSync, id) || bugs.Planted(bugs.AnyReplicaElected) || len(c.inSync) == 0 && slices.Contains(c.eligible, id)) && acceptable(id)
	}
	if c.election == preferredElection && has(c.replicas[0]) {
		return c.replicas[0], false
	}
	if has(c.was.Leader) {
		return c.was.Leader, false
	}
	if at := slices.IndexFunc(c.replicas, has); at >= 0 {
		if bugs.Planted(bugs.AnyReplicaElected) && !slices.Contains(c.inSync, c.replicas[at]) {
			c.inSync = []int32{c.replicas[at]}
		}
		return c.replicas[at], false
	}
	if c.eligibility && len(c.inSync) == 0 && len(c.eligible) == 0 && len(c.was.LastKnownELR) == 1 && acceptable(c.was.LastKnownELR[0]) {
		return c.was.LastKnownELR[0], true
	}
	if c.election == uncleanElection {
		// Those that a reassignment brings in have the least.
		settled := func(id int32) bool { return acceptable(id) && !slices.Contains(c.adding, id) }
		at := slices.IndexFunc(c.replicas, settled)
		if at < 0 {
			at = slices.IndexFunc(c.replicas, acceptable)
		}
		if at >= 0 {
			return c.replicas[at], true
		}
	}
	return meta.NoLeader, false
}

// rememberLeader keeps the last leader of a partition that has nobody in sync any more,
// until it has a leader again. It has no other use for the last known eligible leaders
// (unclean.recovery.strategy=Balanced of KIP-966).
func (c *partitionChange) rememberLeader(leader int32) {
	switch {
	case !c.eligibility:
	case leader != meta.NoLeader:
		c.lastKnown = nil
	case len(c.inSync) > 0 || len(c.was.InSync) == 0:
	case c.was.Leader != meta.NoLeader:
		c.lastKnown = []int32{c.was.Leader}
	case len(c.was.InSync) == 1 && len(c.was.LastKnownELR) == 0:
		c.lastKnown = slices.Clone(c.was.InSync)
	}
}

// directoriesOf returns the directories of replicas: those that they had, and for
// others the one they begin with. It is nil where no directories are known.
func (c *partitionChange) directoriesOf(replicas []int32) []prim.UUID {
	out := make([]prim.UUID, len(replicas))
	for i, id := range replicas {
		if at := slices.Index(c.replicas, id); at >= 0 && at < len(c.directories) {
			out[i] = c.directories[at]
		} else {
			out[i] = c.directory(id)
		}
	}
	return out
}

// changedDirectories returns the directories of the replicas for the record, nil if
// they are what they were.
func (c *partitionChange) changedDirectories() []prim.UUID {
	if slices.Equal(c.directories, c.was.Directories) {
		return nil
	}
	return append([]prim.UUID{}, c.directories...)
}

// setReplicas sets the replicas and where they begin.
func (c *partitionChange) setReplicas(replicas []int32) {
	c.directories = c.directoriesOf(replicas)
	c.replicas = replicas
}

func without(ids []int32, gone int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return id == gone })
}
