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
// Invariant: for a topic of one id the leader epoch of a partition never falls.
type metadata struct {
	clusterID  string
	controller int32
	brokers    map[int32]BrokerInfo
	topics     map[string]*topicInfo
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

// with returns the metadata after an answer that came at now. Topics that the
// answer does not name stay.
func (m *metadata) with(r *msg.MetadataResponse, now time.Time) *metadata {
	next := &metadata{clusterID: text(r.ClusterId), controller: r.ControllerId,
		brokers: make(map[int32]BrokerInfo, len(r.Brokers)), topics: make(map[string]*topicInfo)}
	for _, b := range r.Brokers {
		next.brokers[b.NodeId] = BrokerInfo{b.NodeId, b.Host, b.Port, text(b.Rack)}
	}
	for name, t := range m.topics {
		next.topics[name] = t
	}
	for i := range r.Topics {
		t := topicFrom(&r.Topics[i])
		t.asOf = now
		if old := m.topics[t.name]; old != nil {
			t.keepNewer(old)
		}
		next.topics[t.name] = t
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

// keepNewer takes back what an older broker told about leaders.
func (t *topicInfo) keepNewer(old *topicInfo) {
	if old.id != t.id {
		return
	}
	if t.err != kerr.None && t.err.Retriable() && len(t.partitions) == 0 && len(old.partitions) > 0 && t.err != kerr.UnknownTopicOrPartition {
		t.partitions, t.err = old.partitions, kerr.None
		return
	}
	for i := range t.partitions {
		if i < len(old.partitions) && old.partitions[i].LeaderEpoch > t.partitions[i].LeaderEpoch {
			t.partitions[i] = old.partitions[i]
		}
	}
}

// withLeader returns the metadata after a broker named a new leader (KIP-951),
// or m itself if that is no news.
func (m *metadata) withLeader(topic string, partition, leader, epoch int32, nodes []BrokerInfo) *metadata {
	old := m.topics[topic]
	if !old.has(partition) || leader < 0 || epoch <= old.partitions[partition].LeaderEpoch {
		return m
	}
	next := *m
	next.brokers = make(map[int32]BrokerInfo, len(m.brokers)+len(nodes))
	for id, b := range m.brokers {
		next.brokers[id] = b
	}
	for _, b := range nodes {
		next.brokers[b.ID] = b
	}
	if _, known := next.brokers[leader]; !known {
		return m
	}
	t := *old
	t.partitions = slices.Clone(old.partitions)
	p := &t.partitions[partition]
	p.Leader, p.LeaderEpoch, p.Err = leader, epoch, nil
	next.topics = make(map[string]*topicInfo, len(m.topics))
	for name, other := range m.topics {
		next.topics[name] = other
	}
	next.topics[topic] = &t
	return &next
}
