package client

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// metadata is what the client knows of the cluster. It is immutable; a newer one
// replaces it.
//
// Requests for metadata are numbered in the order in which they are made, and the
// answer to an earlier one never undoes what a later one said, whenever it comes.
//
// Invariant: for a topic of one id the leader epoch of a partition never falls, and
// no partition vanishes. asked and each topic's asked never fall.
type metadata struct {
	asked      int // number of the latest request that was answered
	clusterID  string
	controller int32
	brokers    map[int32]BrokerInfo
	learned    map[int32]int // brokers that other answers than to Metadata named: how many requests had been made by then
	topics     map[string]*topicInfo
}

// newMetadata returns what is known before the first answer.
func newMetadata() *metadata {
	return &metadata{controller: -1, brokers: map[int32]BrokerInfo{}, learned: map[int32]int{}, topics: map[string]*topicInfo{}}
}

// BrokerInfo is one broker of the cluster.
type BrokerInfo struct {
	ID   int32
	Host string
	Port int32
	Rack string
}

// Addr returns host:port.
func (b BrokerInfo) Addr() string { return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))) }

type topicInfo struct {
	name       string
	id         prim.UUID
	err        kerr.Code
	internal   bool
	partitions []PartitionInfo // by index
	asOf       time.Time       // when a broker said so
	asked      int             // number of the request that it was the answer to
}

// PartitionInfo is one partition of a topic.
type PartitionInfo struct {
	Partition   int32
	Leader      int32 // -1 for none
	LeaderEpoch int32 // -1 if not known
	Replicas    []int32
	ISR         []int32
	Offline     []int32
	Err         error // why there is no leader, if there is none
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// with returns the metadata after the answer to request number n, which came at
// now. Topics that the answer does not name stay.
func (m *metadata) with(r *msg.MetadataResponse, n int, now time.Time) *metadata {
	next := &metadata{asked: max(n, m.asked), clusterID: m.clusterID, controller: m.controller,
		brokers: make(map[int32]BrokerInfo, len(r.Brokers)), learned: make(map[int32]int), topics: maps.Clone(m.topics)}
	for i := range r.Topics {
		t := topicFrom(&r.Topics[i])
		t.asOf, t.asked = now, n
		if old := m.topics[t.name]; old != nil {
			t = old.and(t)
		}
		next.topics[t.name] = t
	}
	if n < m.asked {
		next.brokers, next.learned = m.brokers, m.learned
		return next
	}
	next.clusterID, next.controller = text(r.ClusterId), r.ControllerId
	for _, b := range r.Brokers {
		next.brokers[b.NodeId] = BrokerInfo{b.NodeId, b.Host, b.Port, text(b.Rack)}
	}
	for id, asked := range m.learned {
		if asked >= n { // since the question
			next.brokers[id], next.learned[id] = m.brokers[id], asked
		}
	}
	for _, t := range next.topics { // a leader of a later epoch than the answer knows
		for _, p := range t.partitions {
			if b, known := m.brokers[p.Leader]; known {
				if _, named := next.brokers[p.Leader]; !named {
					next.brokers[p.Leader] = b
				}
			}
		}
	}
	return next
}

// same reports whether two of one cluster say the same.
func (m *metadata) same(other *metadata) bool {
	return m.controller == other.controller && maps.Equal(m.brokers, other.brokers) && maps.EqualFunc(m.topics, other.topics, (*topicInfo).same)
}

func (t *topicInfo) same(other *topicInfo) bool {
	return t == other || t.id == other.id && t.err == other.err && slices.EqualFunc(t.partitions, other.partitions, func(a, b PartitionInfo) bool {
		return a.Leader == b.Leader && a.LeaderEpoch == b.LeaderEpoch && a.Err == b.Err &&
			slices.Equal(a.Replicas, b.Replicas) && slices.Equal(a.ISR, b.ISR) && slices.Equal(a.Offline, b.Offline)
	})
}

// usable reports whether a topic is known and can be written to.
func (t *topicInfo) usable() bool { return t != nil && t.err == kerr.None && len(t.partitions) > 0 }

// has reports whether a topic has a partition of that number.
func (t *topicInfo) has(partition int32) bool {
	return t != nil && partition >= 0 && int(partition) < len(t.partitions)
}

// settled reports whether a topic is known and has a leader for every partition.
func (m *metadata) settled(name string) bool {
	t := m.topics[name]
	return t.usable() && !slices.ContainsFunc(t.partitions, func(p PartitionInfo) bool { return p.Leader < 0 })
}

// missing returns why a partition of a usable topic cannot be read, nil if it can.
func (m *metadata) missing(tp TopicPartition) error {
	t := m.topics[tp.Topic]
	switch {
	case !t.usable():
		return nil
	case !t.has(tp.Partition):
		return fmt.Errorf("%v: %w", tp, kerr.UnknownTopicOrPartition)
	case t.partitions[tp.Partition].Leader < 0:
		return fmt.Errorf("%v: %w", tp, kerr.LeaderNotAvailable)
	}
	return nil
}

func topicFrom(r *msg.MetadataResponseTopic) *topicInfo {
	t := &topicInfo{name: text(r.Name), id: r.TopicId, err: kerr.Code(r.ErrorCode), internal: r.IsInternal}
	for _, p := range r.Partitions {
		info := PartitionInfo{p.PartitionIndex, p.LeaderId, p.LeaderEpoch, slices.Clone(p.ReplicaNodes), slices.Clone(p.IsrNodes), slices.Clone(p.OfflineReplicas), codeOf(p.ErrorCode)}
		if info.Err == kerr.ReplicaNotAvailable {
			info.Err = nil // a replica is down; the leader is not
		}
		t.partitions = append(t.partitions, info)
	}
	slices.SortFunc(t.partitions, func(a, b PartitionInfo) int { return cmp.Compare(a.Partition, b.Partition) })
	for i, p := range t.partitions {
		if p.Partition != int32(i) { // a hole: the broker's view is not whole yet
			t.partitions = t.partitions[:i]
			break
		}
	}
	return t
}

// and returns the topic after another answer about it. Which of the two is later is
// for the numbers of the requests to say, and, about a leader, for its epoch. A topic
// that was made again has another id: the later answer is right then. A broker too
// old to name ids is about the same topic.
func (t *topicInfo) and(other *topicInfo) *topicInfo {
	older, newer := t, other
	if other.asked < t.asked {
		older, newer = other, t
	}
	unknown := prim.UUID{}
	if older.id != newer.id && older.id != unknown && newer.id != unknown {
		return newer
	}
	next := *newer
	if next.id == unknown {
		next.id = older.id
	}
	switch {
	case newer.err == kerr.None:
	case newer.err.Retriable() && newer.err != kerr.UnknownTopicOrPartition && len(newer.partitions) == 0 && len(older.partitions) > 0:
		next.partitions, next.err = older.partitions, kerr.None
		return &next
	default:
		return &next
	}
	next.partitions = slices.Clone(newer.partitions)
	for i, p := range older.partitions {
		switch {
		case i >= len(next.partitions):
			if next.id != unknown { // else it may be another topic, with fewer
				next.partitions = append(next.partitions, p)
			}
		case p.LeaderEpoch > next.partitions[i].LeaderEpoch:
			next.partitions[i] = p
		}
	}
	return &next
}

// withBroker returns the metadata after something else than an answer to Metadata
// told of a broker, when so many requests had been made; m itself if that is no news.
func (m *metadata) withBroker(b BrokerInfo, asked int) *metadata {
	if old, ok := m.brokers[b.ID]; ok && old.Host == b.Host && old.Port == b.Port {
		return m
	}
	next := *m
	next.brokers, next.learned = maps.Clone(m.brokers), maps.Clone(m.learned)
	next.brokers[b.ID], next.learned[b.ID] = b, asked
	return &next
}

// leaderHint is a leader that an answer names for a partition of the topic with that
// id (KIP-951). The id is zero if it was not known.
type leaderHint struct {
	topic         string
	id            prim.UUID
	partition     int32
	leader, epoch int32
}

// withLeaders returns the metadata after a broker named new leaders, and brokers,
// when so many requests had been made; m itself if nothing of that is news. What is
// about a topic that was made again since is not. An answer may name a leader for
// each of thousands of partitions: what they share is copied once.
func (m *metadata) withLeaders(hints []leaderHint, nodes []BrokerInfo, asked int) *metadata {
	unknown := prim.UUID{}
	news := func(t *topicInfo, h *leaderHint) bool {
		return t.has(h.partition) && h.leader >= 0 && h.epoch > t.partitions[h.partition].LeaderEpoch &&
			(h.id == t.id || h.id == unknown || t.id == unknown)
	}
	if !slices.ContainsFunc(hints, func(h leaderHint) bool { return news(m.topics[h.topic], &h) }) {
		return m
	}
	with := m
	for _, b := range nodes {
		with = with.withBroker(b, asked)
	}
	next := *with
	next.topics = maps.Clone(m.topics)
	changed := make(map[string]*topicInfo) // those of next that are copies
	for i := range hints {
		h := &hints[i]
		if _, known := next.brokers[h.leader]; !known || !news(next.topics[h.topic], h) {
			continue
		}
		t := changed[h.topic]
		if t == nil {
			clone := *next.topics[h.topic]
			t = &clone
			t.partitions = slices.Clone(t.partitions)
			changed[h.topic], next.topics[h.topic] = t, t
		}
		p := &t.partitions[h.partition]
		p.Leader, p.LeaderEpoch, p.Err = h.leader, h.epoch, nil
	}
	if len(changed) == 0 {
		return m
	}
	return &next
}
