package replication

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// maxTopicName is the longest topic name, in bytes: the name of its directory
// with the partition and a suffix must fit a file name.
const maxTopicName = 249

// CheckTopicName returns why name is no legal topic name.
func CheckTopicName(name string) error {
	bad := func(why string) error {
		return kerr.Refuse(kerr.InvalidTopicException, "Topic name is invalid: %s", why)
	}
	switch {
	case name == "":
		return bad("the empty string is not allowed")
	case name == "." || name == "..":
		return bad(fmt.Sprintf("'%s' is not allowed", name))
	case len(name) > maxTopicName:
		return bad(fmt.Sprintf("the length of '%s' is longer than the max allowed length %d", name, maxTopicName))
	}
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			continue
		}
		return bad(fmt.Sprintf("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name))
	}
	return nil
}

// TopicSpec asks for a topic.
type TopicSpec struct {
	Name              string
	Partitions        int32             // -1 means the broker's num.partitions
	ReplicationFactor int16             // -1 means default.replication.factor
	Assignment        map[int32][]int32 // partition -> replicas, instead of the two
	Configs           map[string]*string
}

// TopicResult is what became of one TopicSpec, of a deletion, or of a request
// for more partitions.
type TopicResult struct {
	Name              string
	ID                prim.UUID
	Partitions        int32
	ReplicationFactor int16
	Err               error
}

// Defaults are the numbers that a topic gets which asks for none.
type Defaults struct {
	Partitions        int32
	ReplicationFactor int16
	Static            *config.Static
}

// CreateTopics creates topics, each on its own: one that is refused does not
// hinder the others. The error is that of the quorum, and then nothing is known.
func (c *Controller) CreateTopics(ctx context.Context, specs []TopicSpec, d Defaults, validateOnly bool) ([]TopicResult, error) {
	results := make([]TopicResult, len(specs))
	if err := checkTotal(specs, d); err != nil {
		for i, s := range specs {
			results[i] = TopicResult{Name: s.Name, Err: err}
		}
		return results, nil
	}
	err := c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		var out []meta.Record
		names := make(map[string]int)
		for _, s := range specs {
			names[s.Name]++
		}
		for i, s := range specs {
			results[i] = TopicResult{Name: s.Name}
			if names[s.Name] > 1 {
				results[i].Err = kerr.Refuse(kerr.InvalidRequest, "Duplicate topic name.")
				continue
			}
			records, result := planTopic(m, s, d)
			if result.Err == nil {
				result.Err = c.homeless(records)
			}
			results[i] = result
			if result.Err == nil {
				out = append(out, records...)
			}
		}
		if len(out) > maxRecords {
			for i, s := range specs {
				results[i] = TopicResult{Name: s.Name, Err: errTooManyRecords}
			}
			return nil, nil
		}
		if validateOnly {
			return nil, nil
		}
		return out, nil
	})
	return results, err
}

// homeless returns why no new partition among records can be kept, if one of them
// has its replicas on this broker alone and no log directory of it is well. Kafka
// has no such state: its broker ends with its last directory.
func (c *Controller) homeless(records []meta.Record) error {
	if c.o.Storage == nil {
		return nil
	}
	err := c.o.Storage()
	if err == nil {
		return nil
	}
	for _, r := range records {
		if p, ok := r.(*msg.PartitionRecord); ok && len(p.Replicas) == 1 && p.Replicas[0] == c.o.NodeID {
			return kerr.Refuse(kerr.KafkaStorageError, "Every log directory of broker %d is offline: %v", c.o.NodeID, err)
		}
	}
	return nil
}

// planTopic returns the records that create one topic.
func planTopic(m *meta.Image, s TopicSpec, d Defaults) ([]meta.Record, TopicResult) {
	r := TopicResult{Name: s.Name}
	fail := func(err error) ([]meta.Record, TopicResult) {
		r.Err = err
		return nil, r
	}
	if err := CheckTopicName(s.Name); err != nil {
		return fail(err)
	}
	if s.Name == meta.MetadataTopic {
		return fail(kerr.Refuse(kerr.TopicAuthorizationFailed, "Creation of internal topic %s is prohibited.", s.Name))
	}
	if m.Topic(s.Name) != nil {
		return fail(kerr.Refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", s.Name))
	}
	if t := m.Colliding(s.Name); t != nil {
		return fail(kerr.Refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", s.Name, t.Name))
	}
	assignment, err := assign(m, s, d)
	if err != nil {
		return fail(err)
	}
	configs := make(map[string]string, len(s.Configs))
	var nulls []string
	for k, v := range s.Configs {
		if v == nil {
			nulls = append(nulls, k)
			continue
		}
		configs[k] = *v
	}
	if nulls != nil {
		slices.Sort(nulls)
		return fail(kerr.Refuse(kerr.InvalidConfig, "Null value not supported for topic configs: %s", strings.Join(nulls, ",")))
	}
	if err := checkTopicConfig(m, configs, d.Static); err != nil {
		return fail(err)
	}
	r.ID = NewUUID()
	r.Partitions, r.ReplicationFactor = int32(len(assignment)), int16(len(assignment[0]))
	out := []meta.Record{&msg.TopicRecord{Name: s.Name, TopicId: r.ID}}
	for name, v := range configs {
		out = append(out, &msg.ConfigRecord{ResourceType: int8(meta.TopicResource), ResourceName: s.Name, Name: name, Value: &v})
	}
	slices.SortFunc(out[1:], func(a, b meta.Record) int {
		return strings.Compare(a.(*msg.ConfigRecord).Name, b.(*msg.ConfigRecord).Name)
	})
	for i, replicas := range assignment {
		out = append(out, newPartition(m, r.ID, int32(i), replicas))
	}
	return out, r
}

// newPartition returns the record of a partition at its beginning: the first
// live replica leads.
func newPartition(m *meta.Image, topic prim.UUID, index int32, replicas []int32) *msg.PartitionRecord {
	var live []int32
	directories := make([]prim.UUID, len(replicas))
	for i, id := range replicas {
		b := m.Broker(id)
		if b == nil {
			continue
		}
		if !b.Fenced {
			live = append(live, id)
		}
		if len(b.LogDirs) == 1 {
			directories[i] = b.LogDirs[0]
		}
	}
	leader := int32(meta.NoLeader)
	if len(live) > 0 {
		leader = live[0]
	} else {
		live = replicas
	}
	return &msg.PartitionRecord{PartitionId: index, TopicId: topic, Replicas: replicas, Isr: live, Leader: leader, Directories: directories}
}

// assign returns the replicas of every partition of a new topic.
func assign(m *meta.Image, s TopicSpec, d Defaults) ([][]int32, error) {
	if len(s.Assignment) > 0 {
		switch {
		case s.ReplicationFactor != -1:
			return nil, kerr.Refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but replication factor was not set to -1.")
		case s.Partitions != -1:
			return nil, kerr.Refuse(kerr.InvalidRequest, "A manual partition assignment was specified, but numPartitions was not set to -1.")
		}
		return explicit(m, s.Assignment, 0, 0)
	}
	partitions, factor := s.Partitions, s.ReplicationFactor
	if partitions == -1 {
		partitions = d.Partitions
	}
	if factor == -1 {
		factor = d.ReplicationFactor
	}
	if partitions <= 0 {
		return nil, kerr.Refuse(kerr.InvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	if factor <= 0 {
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	}
	return place(m, 0, partitions, factor)
}

// maxPartitions bounds what one request may create, in all: the records of one
// change must fit one entry of the metadata log (MAX_PARTITIONS_PER_BATCH).
const maxPartitions = 10_000

// maxRecords bounds the records of one change that a client asks for
// (MAX_RECORDS_PER_USER_OP).
const maxRecords = 10_000

var errTooManyRecords = kerr.Refuse(kerr.PolicyViolation, "Unable to perform excessively large batch operation.")

// checkTotal counts the partitions that a request for topics asks for. Topics
// that are refused for their names alone, since they stand there twice or are the
// cluster's, do not count; any other does.
func checkTotal(specs []TopicSpec, d Defaults) error {
	names := make(map[string]int)
	for _, s := range specs {
		names[s.Name]++
	}
	total := int64(0)
	for _, s := range specs {
		switch {
		case names[s.Name] > 1 || s.Name == meta.MetadataTopic:
		case len(s.Assignment) > 0:
			total += int64(len(s.Assignment))
		case s.Partitions == -1:
			total += int64(d.Partitions)
		default:
			total += int64(max(s.Partitions, 0))
		}
	}
	if total > maxPartitions {
		return kerr.Refuse(kerr.PolicyViolation, "Excessively large number of partitions per request.")
	}
	return nil
}

// explicit checks an assignment that the client made. Its partitions must be
// numbered from first on; factor is the number of replicas of each, 0 for any
// as long as all agree.
func explicit(m *meta.Image, assignment map[int32][]int32, first, factor int) ([][]int32, error) {
	out := make([][]int32, len(assignment))
	for i := range out {
		replicas, ok := assignment[int32(first+i)]
		if !ok {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
		}
		if err := checkReplicas(m, replicas); err != nil {
			return nil, err
		}
		if factor == 0 {
			factor = len(replicas)
		}
		if len(replicas) != factor {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes partition %d with %d replica(s), but this is not consistent with previous partitions, which have %d replica(s).", first+i, len(replicas), factor)
		}
		out[i] = replicas
	}
	return out, nil
}

func checkReplicas(m *meta.Image, replicas []int32) error {
	if len(replicas) == 0 {
		return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	seen := make(map[int32]bool)
	for _, id := range replicas {
		if m.Broker(id) == nil {
			return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes broker %d, but no such broker is registered.", id)
		}
		if seen[id] {
			return kerr.Refuse(kerr.InvalidReplicaAssignment, "The manual partition assignment includes the broker %d more than once.", id)
		}
		seen[id] = true
	}
	return nil
}

// place spreads the replicas of partitions over the live brokers: leaders go
// round robin from a random broker on, followers follow their leader.
func place(m *meta.Image, first int, partitions int32, factor int16) ([][]int32, error) {
	live := m.Live()
	if int(factor) > len(live) {
		return nil, kerr.Refuse(kerr.InvalidReplicationFactor, "Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because only %d broker(s) are registered or some brokers have all their log directories cordoned.", factor, factor, len(live))
	}
	start := 0
	if len(live) > 1 {
		u := NewUUID()
		start = int(u[0])<<8 + int(u[1])
	}
	out := make([][]int32, partitions)
	for i := range out {
		replicas := make([]int32, factor)
		at := start + first + i
		for r := range replicas {
			replicas[r] = live[(at+r)%len(live)].ID
		}
		out[i] = replicas
	}
	return out, nil
}

// NewUUID returns a random UUID that is not one of Kafka's reserved ones.
func NewUUID() (u prim.UUID) {
	for {
		rand.Read(u[:])
		if !u.IsZero() && u.String()[0] != '-' { // Kafka avoids a leading dash: it reads as a flag in a shell
			return u
		}
	}
}

// DeleteTopics deletes topics by id.
func (c *Controller) DeleteTopics(ctx context.Context, ids []prim.UUID) ([]TopicResult, error) {
	results := make([]TopicResult, len(ids))
	err := c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		var out []meta.Record
		gone := make(map[prim.UUID]bool)
		for i, id := range ids {
			t := m.TopicByID(id)
			if t == nil || gone[id] {
				results[i] = TopicResult{ID: id, Err: kerr.UnknownTopicId}
				continue
			}
			gone[id] = true
			results[i] = TopicResult{Name: t.Name, ID: id}
			out = append(out, &msg.RemoveTopicRecord{TopicId: id})
		}
		return out, nil
	})
	return results, err
}

// PartitionsSpec asks for more partitions of a topic.
type PartitionsSpec struct {
	Name       string
	Count      int32
	Assignment [][]int32 // of the new partitions; nil leaves it to the controller
}

// CreatePartitions adds partitions to topics, each on its own.
func (c *Controller) CreatePartitions(ctx context.Context, specs []PartitionsSpec, validateOnly bool) ([]TopicResult, error) {
	results := make([]TopicResult, len(specs))
	err := c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		var out []meta.Record
		room := maxPartitions
		for i, s := range specs {
			records, err := planPartitions(m, s, room)
			if err == nil {
				if err = c.homeless(records); err != nil {
					records = nil
				}
			}
			results[i] = TopicResult{Name: s.Name, Err: err}
			out = append(out, records...)
			if room -= len(records); err == errFull {
				room = 0
			}
		}
		if validateOnly {
			return nil, nil
		}
		return out, nil
	})
	return results, err
}

// errFull means that a request asks for more partitions than one change may
// make. As in Kafka, whose batch of records is full then and has no code for it,
// nothing that comes after it in the request fits either.
var errFull error = kerr.UnknownServerError

// planPartitions returns the records that add partitions to one topic, at most
// room.
func planPartitions(m *meta.Image, s PartitionsSpec, room int) ([]meta.Record, error) {
	t := m.Topic(s.Name)
	if t == nil {
		return nil, kerr.UnknownTopicOrPartition
	}
	have := int32(len(t.Partitions))
	switch {
	case s.Count == have:
		return nil, kerr.Refuse(kerr.InvalidPartitions, "Topic already has %d partition(s).", have)
	case s.Count < have:
		return nil, kerr.Refuse(kerr.InvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", s.Name, have, s.Count)
	}
	factor := len(t.Partitions[0].Replicas)
	var assignment [][]int32
	var err error
	if s.Assignment != nil {
		if len(s.Assignment) != int(s.Count-have) {
			return nil, kerr.Refuse(kerr.InvalidReplicaAssignment, "Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", s.Count-have, len(s.Assignment))
		}
	}
	if int(s.Count-have) > room {
		return nil, errFull
	}
	if s.Assignment != nil {
		byIndex := make(map[int32][]int32)
		for i, replicas := range s.Assignment {
			byIndex[have+int32(i)] = replicas
		}
		assignment, err = explicit(m, byIndex, int(have), factor)
	} else {
		assignment, err = place(m, int(have), s.Count-have, int16(factor))
	}
	if err != nil {
		return nil, err
	}
	var out []meta.Record
	for i, replicas := range assignment {
		out = append(out, newPartition(m, t.ID, have+int32(i), replicas))
	}
	return out, nil
}

// producerIDBlock is how many producer ids a broker gets at a time.
const producerIDBlock = 1000

// AllocateProducerIDs returns the first and the number of a block of producer
// ids that nobody else gets.
func (c *Controller) AllocateProducerIDs(ctx context.Context, broker int32, brokerEpoch int64) (first int64, n int32, err error) {
	err = c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		first = m.NextProducerID()
		return []meta.Record{&msg.ProducerIdsRecord{BrokerId: broker, BrokerEpoch: brokerEpoch, NextProducerId: first + producerIDBlock}}, nil
	})
	return first, producerIDBlock, err
}

// NewEpochs returns the records that begin a new leader epoch in every partition
// that node leads.
func NewEpochs(m *meta.Image, node int32) []meta.Record {
	var out []meta.Record
	m.Topics("", func(t *meta.Topic) bool {
		for i, p := range t.Partitions {
			if p.Leader != node {
				continue
			}
			r := new(msg.PartitionChangeRecord)
			r.SetDefaults()
			r.TopicId, r.PartitionId, r.Leader = t.ID, int32(i), node
			out = append(out, r)
		}
		return true
	})
	return out
}
