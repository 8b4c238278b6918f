package top

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// State is a cluster as it was watched. It is pure, and owned by one goroutine.
//
// Invariant: the leader epoch of a partition never falls, whatever order answers come in:
// brokers that are asked may lag behind each other.
type State struct {
	meta    Metadata
	brokers map[int32]client.BrokerInfo // ever seen, also those that have gone
	led     map[client.TopicPartition]lead
	active  int32 // the controller that was seen last, noController before any was

	ends    map[client.TopicPartition]at[int64]
	records map[client.TopicPartition]float64 // a second, of those that the last answer has
	sizes   map[replica]at[int64]
	bytes   map[replica]float64 // a second
	disk    map[int32]int64     // by broker
	groups  []Group
	minISR  map[string]int

	elections []Election // newest first
	trouble   map[string]error
}

// at is a value and when it held.
type at[T any] struct {
	v    T
	when time.Time
}

// lead is who leads a partition.
type lead struct {
	topic         prim.UUID
	leader, epoch int32
}

// replica is a partition on a broker.
type replica struct {
	broker int32
	tp     client.TopicPartition
}

// noController is no broker's id.
const noController = -1

// Election is a change of who leads a partition, or the controllers.
type Election struct {
	At         time.Time
	Controller bool
	TP         client.TopicPartition
	From, To   int32 // -1 for nobody
	Epoch      int32 // of the partition
}

// keepElections is how many elections are kept: the newest.
const keepElections = 1000

// NewState returns the state of which nothing is known.
func NewState() *State {
	return &State{brokers: make(map[int32]client.BrokerInfo), led: make(map[client.TopicPartition]lead), active: noController,
		ends: make(map[client.TopicPartition]at[int64]), sizes: make(map[replica]at[int64]), disk: make(map[int32]int64), trouble: make(map[string]error)}
}

// Known reports whether any answer has come.
func (s *State) Known() bool { return !s.meta.At.IsZero() }

// Take takes a fact: Metadata, Ends, Dirs, Groups or MinISR.
func (s *State) Take(fact any) {
	switch f := fact.(type) {
	case Metadata:
		s.note("metadata", f.Err)
		if f.Err == nil {
			s.takeMetadata(f)
		}
	case Ends:
		s.note("offsets", f.Err)
		s.records = make(map[client.TopicPartition]float64)
		for tp, end := range f.Of {
			if r, ok := rate(s.ends[tp], end, f.At); ok {
				s.records[tp] = r
			}
			s.ends[tp] = at[int64]{end, f.At}
		}
	case Dirs:
		s.note("sizes", f.Err)
		s.takeDirs(f)
	case Groups:
		s.note("groups", f.Err)
		if f.Err == nil || len(f.Groups) > 0 {
			s.groups = f.Groups
		}
	case MinISR:
		s.note("configs", f.Err)
		if f.Err == nil {
			s.minISR = f.Of
		}
	}
}

// note notes what went wrong with a kind of fact, nil for nothing.
func (s *State) note(what string, err error) {
	if delete(s.trouble, what); err != nil {
		s.trouble[what] = err
	}
}

// Trouble returns what went wrong last, the metadata first; "" and nil if nothing did.
func (s *State) Trouble() (what string, err error) {
	if err := s.trouble["metadata"]; err != nil {
		return "metadata", err
	}
	for _, what := range slices.Sorted(maps.Keys(s.trouble)) {
		return what, s.trouble[what]
	}
	return "", nil
}

// rate returns how fast a value has grown; a value that has fallen, as the size of a log
// does, has not grown.
func rate(before at[int64], now int64, when time.Time) (float64, bool) {
	d := when.Sub(before.when).Seconds()
	if before.when.IsZero() || d <= 0 {
		return 0, false
	}
	return float64(max(now-before.v, 0)) / d, true
}

func (s *State) takeMetadata(m Metadata) {
	s.meta = m
	for _, b := range slices.Concat(m.Cluster.Brokers, m.Cluster.Fenced) {
		s.brokers[b.ID] = b
	}
	if m.Controller >= 0 && m.Controller != s.active {
		if s.active != noController {
			s.elected(Election{At: m.At, Controller: true, From: s.active, To: m.Controller})
		}
		s.active = m.Controller
	}
	there := make(map[client.TopicPartition]bool)
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			tp := client.TopicPartition{Topic: t.Name, Partition: p.Partition}
			there[tp] = true
			now := lead{t.ID, p.Leader, p.LeaderEpoch}
			before, known := s.led[tp]
			switch {
			case !known || before.topic != now.topic: // it is new, or was made again
				s.led[tp] = now
			case now.epoch > before.epoch:
				s.elected(Election{At: m.At, TP: tp, From: before.leader, To: now.leader, Epoch: now.epoch})
				s.led[tp] = now
			}
		}
	}
	maps.DeleteFunc(s.led, func(tp client.TopicPartition, _ lead) bool { return !there[tp] })
	maps.DeleteFunc(s.ends, func(tp client.TopicPartition, _ at[int64]) bool { return !there[tp] })
}

func (s *State) elected(e Election) {
	s.elections = slices.Insert(s.elections, 0, e)
	s.elections = s.elections[:min(len(s.elections), keepElections)]
}

// leader returns who leads a partition by the newest epoch that was seen.
func (s *State) leader(tp client.TopicPartition) int32 {
	if l, ok := s.led[tp]; ok {
		return l.leader
	}
	return -1
}

func (s *State) takeDirs(f Dirs) {
	s.bytes = make(map[replica]float64)
	next := make(map[replica]at[int64])
	answered := make(map[int32]bool)
	for _, d := range f.Dirs {
		if !answered[d.Broker] {
			answered[d.Broker], s.disk[d.Broker] = true, 0
		}
		for _, p := range d.Partitions {
			if p.Future {
				continue
			}
			r := replica{d.Broker, p.TopicPartition}
			if grown, ok := rate(s.sizes[r], p.Size, f.At); ok {
				s.bytes[r] = grown
			}
			next[r] = at[int64]{p.Size, f.At}
			s.disk[d.Broker] += p.Size
		}
	}
	for r, size := range s.sizes { // those of brokers that did not answer stay
		if !answered[r.broker] {
			next[r] = size
		}
	}
	s.sizes = next
}

// count is what is counted of partitions: of all, of a topic, or of a broker.
type count struct {
	partitions, underReplicated, underMin, offline int
	records, bytes                                 float64
	size                                           int64 // of the leaders' replicas
	rated                                          bool  // records or bytes are known of one
}

// add counts a partition of a topic.
func (c *count) add(s *State, t *client.TopicInfo, p *client.PartitionInfo) {
	tp := client.TopicPartition{Topic: t.Name, Partition: p.Partition}
	leader := s.leader(tp)
	c.partitions++
	if len(p.ISR) < len(p.Replicas) {
		c.underReplicated++
	}
	if want, ok := s.minISR[t.Name]; ok && len(p.ISR) < want {
		c.underMin++
	}
	if p.Leader < 0 || p.Err != nil && !errors.Is(p.Err, kerr.ReplicaNotAvailable) {
		c.offline++
	}
	if r, ok := s.records[tp]; ok {
		c.records, c.rated = c.records+r, true
	}
	at := replica{leader, tp}
	if b, ok := s.bytes[at]; ok {
		c.bytes, c.rated = c.bytes+b, true
	}
	c.size += s.sizes[at].v
}

// total counts all partitions.
func (s *State) total() (c count) {
	for i := range s.meta.Topics {
		t := &s.meta.Topics[i]
		for j := range t.Partitions {
			c.add(s, t, &t.Partitions[j])
		}
	}
	return c
}

// Facts are what a frame says of the whole cluster.
type Facts struct {
	At                                                time.Time
	Cluster                                           string
	Controller                                        int32 // -1 for none
	Partitions, UnderReplicated, UnderMinISR, Offline int
}

// Facts returns what there is to say of the whole cluster.
func (s *State) Facts() Facts {
	c := s.total()
	return Facts{s.meta.At, s.meta.Cluster.ID, s.meta.Controller, c.partitions, c.underReplicated, c.underMin, c.offline}
}

// lag returns how far a group is behind, in records of the partitions that it has committed
// offsets of; known is false if the end of one is not known.
func (s *State) lag(g *Group) (lag int64, known bool) {
	known = true
	for tp, committed := range g.Committed {
		end, ok := s.ends[tp]
		if !ok {
			known = false
			continue
		}
		lag += max(end.v-committed, 0)
	}
	return lag, known
}

// brokerIDs returns every broker ever seen, sorted.
func (s *State) brokerIDs() []int32 { return slices.Sorted(maps.Keys(s.brokers)) }

// up reports whether a broker serves.
func (s *State) up(id int32) bool {
	return slices.ContainsFunc(s.meta.Cluster.Brokers, func(b client.BrokerInfo) bool { return b.ID == id })
}
