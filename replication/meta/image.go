// Package meta holds the cluster's metadata as an immutable image: brokers,
// topics and their partitions, dynamic configs, features and producer ids. An
// image changes only by [Image.Apply], which takes the records of one entry of
// the metadata log and returns the next image; what did not change is shared
// between the two, so that an apply costs what it changes.
//
// It is pure, and every image is safe for concurrent use.
package meta

import (
	"encoding/binary"
	"slices"
	"strings"

	iradix "github.com/hashicorp/go-immutable-radix"

	"github.com/klamm-io/klamm/wire/prim"
)

// NoLeader is the leader of a partition that has none.
const NoLeader = -1

// Partition is one partition as the controller knows it. It does not change: an apply
// makes another one.
//
// Invariants: InSync and EligibleLeader are disjoint parts of Replicas; Leader is NoLeader
// or one of InSync; every change of the partition raises PartitionEpoch, and every change
// of its leader LeaderEpoch. InSync is empty only while there is no leader.
type Partition struct {
	Replicas       []int32     // broker ids, the preferred leader first
	InSync         []int32     // of Replicas: who has all that is committed
	Removing       []int32     // of Replicas: those that a reassignment takes out
	Adding         []int32     // of Replicas: those that a reassignment brings in
	Directories    []prim.UUID // of the replicas, in their order
	EligibleLeader []int32     // not in sync, and have all that is committed (KIP-966)
	LastKnownELR   []int32     // were EligibleLeader, and stopped uncleanly since (KIP-966)
	Leader         int32       // a broker id, or NoLeader
	LeaderEpoch    int32
	PartitionEpoch int32
	Recovering     bool // elected uncleanly, and not yet recovered
}

// Topic is one topic. It does not change.
type Topic struct {
	Name       string
	ID         prim.UUID    // that no topic before it had, whatever its name
	Partitions []*Partition // by partition id
}

// Internal reports whether the topic is one of the cluster's own.
func (t *Topic) Internal() bool { return InternalTopic(t.Name) }

// InternalTopic reports whether a topic of that name is one of the cluster's
// own, which clients must not write to.
func InternalTopic(name string) bool {
	return name == GroupTopic || name == TransactionTopic || name == ShareTopic
}

// The cluster's own topics.
const (
	GroupTopic       = "__consumer_offsets"
	TransactionTopic = "__transaction_state"
	ShareTopic       = "__share_group_state"
	MetadataTopic    = "__cluster_metadata"
)

// Endpoint is where a broker listens.
type Endpoint struct {
	Name     string // of the listener
	Host     string
	Port     uint16
	Protocol int16 // security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}

// Broker is one registered broker. It does not change: an apply makes another one.
type Broker struct {
	ID           int32
	Epoch        int64     // of the registration: the index of its entry
	Incarnation  prim.UUID // of the process
	Endpoints    []Endpoint
	Rack         *string // nil for none
	Fenced       bool    // leads nothing, and is in no in-sync set
	ShuttingDown bool    // gives up what it leads
	LogDirs      []prim.UUID
	// CordonedLogDirs get no new partitions; nil means that the broker did not
	// say. It and Features are kept for the JVM broker.
	CordonedLogDirs []prim.UUID
	Features        []Feature
}

// Feature is a range of levels of a feature that a broker supports.
type Feature struct {
	Name     string
	Min, Max int16
}

// Supports returns the levels of a feature that the broker knows, 0 and 0 if it does not
// know the feature.
func (b *Broker) Supports(feature string) (low, high int16) {
	for _, f := range b.Features {
		if f.Name == feature {
			return f.Min, f.Max
		}
	}
	return 0, 0
}

// ResourceType says what a config belongs to; the values are the protocol's.
type ResourceType int8

// The resource types that have configs.
const (
	TopicResource         ResourceType = 2
	BrokerResource        ResourceType = 4
	BrokerLoggerResource  ResourceType = 8
	ClientMetricsResource ResourceType = 16
	GroupResource         ResourceType = 32
)

// String returns Kafka's name of the type.
func (t ResourceType) String() string {
	switch t {
	case TopicResource:
		return "TOPIC"
	case BrokerResource:
		return "BROKER"
	case BrokerLoggerResource:
		return "BROKER_LOGGER"
	case ClientMetricsResource:
		return "CLIENT_METRICS"
	case GroupResource:
		return "GROUP"
	}
	return "UNKNOWN"
}

// Resource names something that has configs. The broker of name "" stands for
// the defaults of all brokers.
type Resource struct {
	Type ResourceType
	Name string
}

func (r Resource) key() []byte { return append([]byte{byte(r.Type)}, r.Name...) }

// Image is the metadata of the cluster after one entry of its log.
type Image struct {
	topics   *iradix.Tree // name -> *Topic
	ids      *iradix.Tree // topic id -> *Topic
	brokers  *iradix.Tree // broker id, big-endian -> *Broker
	configs  *iradix.Tree // Resource.key -> map[string]string, never changed in place
	features *iradix.Tree // name -> int16
	kept     *iradix.Tree // keptKey -> Record that klamm does not act on

	// Index is that of the last entry applied.
	Index uint64
	// Epoch is the controller epoch that wrote it.
	Epoch          int32
	nextProducerID int64
	partitions     int // of all topics
}

// Empty returns the image of a cluster without any metadata.
func Empty() *Image {
	return &Image{topics: iradix.New(), ids: iradix.New(), brokers: iradix.New(), configs: iradix.New(), features: iradix.New(), kept: iradix.New()}
}

// Topic returns the topic of that name, or nil.
func (m *Image) Topic(name string) *Topic {
	t, _ := m.topics.Get([]byte(name))
	topic, _ := t.(*Topic)
	return topic
}

// TopicByID returns the topic with that id, or nil.
func (m *Image) TopicByID(id prim.UUID) *Topic {
	t, _ := m.ids.Get(id[:])
	topic, _ := t.(*Topic)
	return topic
}

// Partition returns a partition by topic name and index, or nil.
func (m *Image) Partition(topic string, index int32) *Partition {
	t := m.Topic(topic)
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[index]
}

// Topics calls f for every topic in order of name, from the first name that is
// not below from, until f returns false.
func (m *Image) Topics(from string, f func(*Topic) bool) {
	it := m.topics.Root().Iterator()
	it.SeekLowerBound([]byte(from))
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		if !f(t.(*Topic)) {
			return
		}
	}
}

// Partitions calls f for every partition, in order of topic name and index. It costs
// what all of them cost: who looks for those of one broker goes through them once.
func (m *Image) Partitions(f func(t *Topic, index int32, p *Partition)) {
	it := m.topics.Root().Iterator()
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		t := v.(*Topic)
		for i, p := range t.Partitions {
			f(t, int32(i), p)
		}
	}
}

// TopicCount returns the number of topics.
func (m *Image) TopicCount() int { return m.topics.Len() }

// PartitionCount returns the number of partitions of all topics.
func (m *Image) PartitionCount() int { return m.partitions }

// Colliding returns a topic whose name equals name once '.' is read as '_', or
// nil: metric names could not distinguish the two.
func (m *Image) Colliding(name string) *Topic {
	if !strings.ContainsAny(name, "._") {
		return nil
	}
	flat := strings.ReplaceAll(name, ".", "_")
	prefix, _, _ := strings.Cut(flat, "_")
	var found *Topic
	it := m.topics.Root().Iterator()
	it.SeekPrefix([]byte(prefix))
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		t := v.(*Topic)
		if t.Name != name && strings.ReplaceAll(t.Name, ".", "_") == flat {
			found = t
			break
		}
	}
	return found
}

// Broker returns the broker with that id, or nil.
func (m *Image) Broker(id int32) *Broker {
	b, _ := m.brokers.Get(brokerKey(id))
	broker, _ := b.(*Broker)
	return broker
}

// Brokers returns every registered broker in order of id.
func (m *Image) Brokers() []*Broker {
	out := make([]*Broker, 0, m.brokers.Len())
	it := m.brokers.Root().Iterator()
	for _, b, ok := it.Next(); ok; _, b, ok = it.Next() {
		out = append(out, b.(*Broker))
	}
	return out
}

// Live returns the brokers that are neither fenced nor shutting down.
func (m *Image) Live() []*Broker {
	return slices.DeleteFunc(m.Brokers(), func(b *Broker) bool { return b.Fenced || b.ShuttingDown })
}

func brokerKey(id int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(id)) }

// Config returns the dynamic configs of a resource, which the caller must not
// change. It is nil where there are none.
func (m *Image) Config(r Resource) map[string]string {
	c, _ := m.configs.Get(r.key())
	config, _ := c.(map[string]string)
	return config
}

// Resources returns every resource of a type that has dynamic configs.
func (m *Image) Resources(t ResourceType) []Resource {
	var out []Resource
	it := m.configs.Root().Iterator()
	it.SeekPrefix([]byte{byte(t)})
	for k, _, ok := it.Next(); ok; k, _, ok = it.Next() {
		out = append(out, Resource{t, string(k[1:])})
	}
	return out
}

// Feature returns the finalized level of a feature, 0 where it is off.
func (m *Image) Feature(name string) int16 {
	v, _ := m.features.Get([]byte(name))
	level, _ := v.(int16)
	return level
}

// Features returns every finalized feature with its level.
func (m *Image) Features() map[string]int16 {
	out := make(map[string]int16, m.features.Len())
	it := m.features.Root().Iterator()
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		out[string(k)] = v.(int16)
	}
	return out
}

// NextProducerID returns the first producer id that is in no block yet.
func (m *Image) NextProducerID() int64 { return m.nextProducerID }
