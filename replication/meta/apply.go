package meta

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Delta says what one entry of the metadata log changed.
type Delta struct {
	Topics  map[prim.UUID]struct{} // created or with changed partitions
	Deleted []*Topic               // as they were
	Configs map[Resource]struct{}
	Brokers map[int32]struct{}
}

// ErrUnknownRecord means that this version does not know a record of the metadata
// log. To leave it out would make its image another one than that of the others.
var ErrUnknownRecord = errors.New("not known to this version")

// change is an image under construction.
type change struct {
	*Image
	delta    Delta
	topics   *iradix.Txn
	ids      *iradix.Txn
	brokers  *iradix.Txn
	configs  *iradix.Txn
	features *iradix.Txn
	kept     *iradix.Txn
	owned    map[prim.UUID]*Topic // copied in this change already
	fresh    map[Resource]map[string]string
}

// Apply returns the image after the records of the entry at index, written by
// controller epoch, and what they changed. A record that contradicts the image
// is an error, and then m stands: replicas that apply the same entries hold the
// same images.
func (m *Image) Apply(index uint64, epoch int32, records []Record) (*Image, Delta, error) {
	next := *m
	next.Index, next.Epoch = index, epoch
	c := &change{Image: &next, topics: m.topics.Txn(), ids: m.ids.Txn(), brokers: m.brokers.Txn(), configs: m.configs.Txn(), features: m.features.Txn(), kept: m.kept.Txn()}
	for _, r := range records {
		if err := c.apply(r); err != nil {
			return m, Delta{}, fmt.Errorf("metadata entry %d: %s: %w", index, r.MessageName(), err)
		}
	}
	next.topics, next.ids, next.brokers = c.topics.Commit(), c.ids.Commit(), c.brokers.Commit()
	next.configs, next.features, next.kept = c.configs.Commit(), c.features.Commit(), c.kept.Commit()
	return &next, c.delta, nil
}

func (c *change) apply(r Record) error {
	switch r := r.(type) {
	case *msg.TopicRecord:
		return c.createTopic(r)
	case *msg.PartitionRecord:
		return c.putPartition(r)
	case *msg.PartitionChangeRecord:
		return c.changePartition(r)
	case *msg.RemoveTopicRecord:
		return c.removeTopic(r.TopicId)
	case *msg.ConfigRecord:
		c.config(Resource{ResourceType(r.ResourceType), r.ResourceName}, r.Name, r.Value)
	case *msg.RegisterBrokerRecord:
		c.register(r)
	case *msg.BrokerRegistrationChangeRecord:
		return c.changeBroker(r.BrokerId, r.BrokerEpoch, func(b *Broker) {
			if r.Fenced != 0 {
				b.Fenced = r.Fenced > 0
			}
			if r.InControlledShutdown > 0 {
				b.ShuttingDown = true
			}
			if len(r.LogDirs) > 0 {
				b.LogDirs = slices.Clone(r.LogDirs)
			}
			if r.CordonedLogDirs != nil {
				b.CordonedLogDirs = slices.Clone(r.CordonedLogDirs)
			}
		})
	case *msg.FenceBrokerRecord:
		return c.changeBroker(r.Id, r.Epoch, func(b *Broker) { b.Fenced = true })
	case *msg.UnfenceBrokerRecord:
		return c.changeBroker(r.Id, r.Epoch, func(b *Broker) { b.Fenced = false })
	case *msg.UnregisterBrokerRecord:
		c.brokers.Delete(brokerKey(r.BrokerId))
		c.touchBroker(r.BrokerId)
	case *msg.FeatureLevelRecord:
		if r.FeatureLevel == 0 {
			c.features.Delete([]byte(r.Name))
		} else {
			c.features.Insert([]byte(r.Name), r.FeatureLevel)
		}
	case *msg.ProducerIdsRecord:
		c.nextProducerID = r.NextProducerId
	case *msg.ClearElrRecord:
		return c.clearEligible(r.TopicName)
	case *msg.NoOpRecord, *msg.BeginTransactionRecord, *msg.EndTransactionRecord, *msg.ZkMigrationStateRecord:
	default:
		if !c.keep(r) {
			return ErrUnknownRecord
		}
	}
	return nil
}

// own returns the topic with that id, copied so that this change may alter it.
func (c *change) own(id prim.UUID) (*Topic, error) {
	if t := c.owned[id]; t != nil {
		return t, nil
	}
	v, ok := c.ids.Get(id[:])
	if !ok {
		return nil, fmt.Errorf("no topic with id %s", id)
	}
	old := v.(*Topic)
	t := &Topic{Name: old.Name, ID: old.ID, Partitions: slices.Clone(old.Partitions)}
	c.put(t)
	return t, nil
}

func (c *change) put(t *Topic) {
	c.topics.Insert([]byte(t.Name), t)
	c.ids.Insert(slices.Clone(t.ID[:]), t)
	if c.owned == nil {
		c.owned = make(map[prim.UUID]*Topic)
		c.delta.Topics = make(map[prim.UUID]struct{})
	}
	c.owned[t.ID] = t
	c.delta.Topics[t.ID] = struct{}{}
}

func (c *change) createTopic(r *msg.TopicRecord) error {
	if _, ok := c.topics.Get([]byte(r.Name)); ok {
		return fmt.Errorf("topic %s exists", r.Name)
	}
	if _, ok := c.ids.Get(r.TopicId[:]); ok {
		return fmt.Errorf("topic id %s exists", r.TopicId)
	}
	c.put(&Topic{Name: r.Name, ID: r.TopicId})
	return nil
}

func (c *change) putPartition(r *msg.PartitionRecord) error {
	t, err := c.own(r.TopicId)
	if err != nil {
		return err
	}
	if r.PartitionId < 0 || int(r.PartitionId) > len(t.Partitions) {
		return fmt.Errorf("partition %d of %s after %d", r.PartitionId, t.Name, len(t.Partitions))
	}
	p := &Partition{
		Replicas: slices.Clone(r.Replicas), InSync: slices.Clone(r.Isr),
		Removing: slices.Clone(r.RemovingReplicas), Adding: slices.Clone(r.AddingReplicas),
		Directories: slices.Clone(r.Directories), EligibleLeader: slices.Clone(r.EligibleLeaderReplicas),
		LastKnownELR: slices.Clone(r.LastKnownElr), Leader: r.Leader, LeaderEpoch: r.LeaderEpoch,
		PartitionEpoch: r.PartitionEpoch, Recovering: r.LeaderRecoveryState == 1,
	}
	if int(r.PartitionId) == len(t.Partitions) {
		t.Partitions = append(t.Partitions, p)
		c.partitions++
	} else {
		t.Partitions[r.PartitionId] = p
	}
	return nil
}

func (c *change) changePartition(r *msg.PartitionChangeRecord) error {
	t, err := c.own(r.TopicId)
	if err != nil {
		return err
	}
	if r.PartitionId < 0 || int(r.PartitionId) >= len(t.Partitions) {
		return fmt.Errorf("no partition %d of %s", r.PartitionId, t.Name)
	}
	t.Partitions[r.PartitionId] = t.Partitions[r.PartitionId].Changed(r)
	return nil
}

// Unchanged is the leader in a PartitionChangeRecord that changes no leader.
const Unchanged = -2

// Changed returns what a change makes of p.
func (p *Partition) Changed(r *msg.PartitionChangeRecord) *Partition {
	next := *p
	set := func(dst *[]int32, src []int32) {
		if src != nil {
			*dst = slices.Clone(src)
		}
	}
	set(&next.InSync, r.Isr)
	set(&next.Replicas, r.Replicas)
	set(&next.Removing, r.RemovingReplicas)
	set(&next.Adding, r.AddingReplicas)
	set(&next.EligibleLeader, r.EligibleLeaderReplicas)
	set(&next.LastKnownELR, r.LastKnownElr)
	if r.Directories != nil {
		next.Directories = slices.Clone(r.Directories)
	}
	if r.LeaderRecoveryState >= 0 {
		next.Recovering = r.LeaderRecoveryState == 1
	}
	if r.Leader != Unchanged { // naming a leader, even the same one, starts an epoch
		next.Leader = r.Leader
		if !bugs.Planted(bugs.SameLeaderEpoch) {
			next.LeaderEpoch++
		}
	}
	next.PartitionEpoch++
	return &next
}

// clearEligible forgets the eligible leaders of a topic, or of all topics if name
// is empty (TopicsDelta.replay of ClearElrRecord).
func (c *change) clearEligible(name string) error {
	var topics []*Topic
	if name == "" {
		it := c.topics.Root().Iterator()
		for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
			topics = append(topics, v.(*Topic))
		}
	} else {
		v, ok := c.topics.Get([]byte(name))
		if !ok {
			return fmt.Errorf("no topic %s", name)
		}
		topics = []*Topic{v.(*Topic)}
	}
	for _, t := range topics {
		for i, p := range t.Partitions {
			if len(p.EligibleLeader) == 0 && len(p.LastKnownELR) == 0 {
				continue
			}
			r := new(msg.PartitionChangeRecord)
			r.SetDefaults()
			r.TopicId, r.PartitionId, r.EligibleLeaderReplicas, r.LastKnownElr = t.ID, int32(i), []int32{}, []int32{}
			if err := c.changePartition(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *change) removeTopic(id prim.UUID) error {
	v, ok := c.ids.Get(id[:])
	if !ok {
		return fmt.Errorf("no topic with id %s", id)
	}
	t := v.(*Topic)
	c.ids.Delete(id[:])
	c.topics.Delete([]byte(t.Name))
	resource := Resource{TopicResource, t.Name}
	delete(c.fresh, resource)
	if _, ok := c.configs.Delete(resource.key()); ok {
		c.touchConfig(resource)
	}
	c.partitions -= len(t.Partitions)
	delete(c.owned, id)
	delete(c.delta.Topics, id)
	c.delta.Deleted = append(c.delta.Deleted, t)
	return nil
}

func (c *change) touchConfig(r Resource) {
	if c.delta.Configs == nil {
		c.delta.Configs = make(map[Resource]struct{})
	}
	c.delta.Configs[r] = struct{}{}
}

func (c *change) touchBroker(id int32) {
	if c.delta.Brokers == nil {
		c.delta.Brokers = make(map[int32]struct{})
	}
	c.delta.Brokers[id] = struct{}{}
}

func (c *change) config(r Resource, name string, value *string) {
	own := c.fresh[r]
	if own == nil {
		v, _ := c.configs.Get(r.key())
		old, _ := v.(map[string]string)
		if own = maps.Clone(old); own == nil {
			own = make(map[string]string)
		}
		if c.fresh == nil {
			c.fresh = make(map[Resource]map[string]string)
		}
		c.fresh[r] = own
	}
	if value == nil {
		delete(own, name)
	} else {
		own[name] = *value
	}
	if len(own) == 0 {
		c.configs.Delete(r.key())
	} else {
		c.configs.Insert(r.key(), own)
	}
	c.touchConfig(r)
}

// EpochOfEntry stands for the epoch of a broker in the record that registers it:
// the index of its entry, which nobody knows before the entry is in the log.
const EpochOfEntry = -1

func (c *change) register(r *msg.RegisterBrokerRecord) {
	epoch := r.BrokerEpoch
	if epoch == EpochOfEntry {
		epoch = int64(c.Index)
	}
	b := &Broker{ID: r.BrokerId, Epoch: epoch, Incarnation: r.IncarnationId, Rack: r.Rack,
		Fenced: r.Fenced, ShuttingDown: r.InControlledShutdown, LogDirs: slices.Clone(r.LogDirs), CordonedLogDirs: slices.Clone(r.CordonedLogDirs)}
	for _, f := range r.Features {
		b.Features = append(b.Features, Feature{f.Name, f.MinSupportedVersion, f.MaxSupportedVersion})
	}
	for _, e := range r.EndPoints {
		b.Endpoints = append(b.Endpoints, Endpoint{e.Name, e.Host, e.Port, e.SecurityProtocol})
	}
	c.brokers.Insert(brokerKey(b.ID), b)
	c.touchBroker(b.ID)
}

func (c *change) changeBroker(id int32, epoch int64, f func(*Broker)) error {
	v, ok := c.brokers.Get(brokerKey(id))
	if !ok {
		return fmt.Errorf("broker %d is not registered", id)
	}
	b := *v.(*Broker)
	if b.Epoch != epoch {
		return fmt.Errorf("broker %d has epoch %d, not %d", id, b.Epoch, epoch)
	}
	f(&b)
	c.brokers.Insert(brokerKey(id), &b)
	c.touchBroker(id)
	return nil
}

// Records returns the records that make up the image, in an order that Apply
// takes, so that a snapshot can be written and two images compared.
func (m *Image) Records() []Record {
	var out []Record
	// The versions of the records that follow depend on metadata.version, so that
	// the JVM broker wants it first (FeaturesImage.write).
	if level := m.Feature("metadata.version"); level != 0 {
		out = append(out, &msg.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: level})
	}
	it := m.features.Root().Iterator()
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if string(k) != "metadata.version" {
			out = append(out, &msg.FeatureLevelRecord{Name: string(k), FeatureLevel: v.(int16)})
		}
	}
	for _, b := range m.Brokers() {
		r := &msg.RegisterBrokerRecord{BrokerId: b.ID, BrokerEpoch: b.Epoch, IncarnationId: b.Incarnation, Rack: b.Rack,
			Fenced: b.Fenced, InControlledShutdown: b.ShuttingDown, LogDirs: b.LogDirs, CordonedLogDirs: b.CordonedLogDirs}
		for _, f := range b.Features {
			r.Features = append(r.Features, msg.RegisterBrokerRecordBrokerFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
		}
		for _, e := range b.Endpoints {
			r.EndPoints = append(r.EndPoints, msg.RegisterBrokerRecordBrokerEndpoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.Protocol})
		}
		out = append(out, r)
	}
	m.Topics("", func(t *Topic) bool {
		out = append(out, &msg.TopicRecord{Name: t.Name, TopicId: t.ID})
		for i, p := range t.Partitions {
			out = append(out, p.Record(t.ID, int32(i)))
		}
		return true
	})
	configs := m.configs.Root().Iterator()
	for k, v, ok := configs.Next(); ok; k, v, ok = configs.Next() {
		values := v.(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			value := values[name]
			out = append(out, &msg.ConfigRecord{ResourceType: int8(k[0]), ResourceName: string(k[1:]), Name: name, Value: &value})
		}
	}
	if m.nextProducerID != 0 {
		out = append(out, &msg.ProducerIdsRecord{BrokerId: -1, BrokerEpoch: -1, NextProducerId: m.nextProducerID})
	}
	return append(out, m.Kept()...)
}

// Record returns the record that creates p.
func (p *Partition) Record(topic prim.UUID, index int32) *msg.PartitionRecord {
	r := &msg.PartitionRecord{PartitionId: index, TopicId: topic, Replicas: p.Replicas, Isr: p.InSync,
		RemovingReplicas: p.Removing, AddingReplicas: p.Adding, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch,
		PartitionEpoch: p.PartitionEpoch, Directories: p.Directories}
	if len(p.EligibleLeader) > 0 {
		r.EligibleLeaderReplicas = p.EligibleLeader
	}
	if len(p.LastKnownELR) > 0 {
		r.LastKnownElr = p.LastKnownELR
	}
	if p.Recovering {
		r.LeaderRecoveryState = 1
	}
	return r
}
