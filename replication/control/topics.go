package control

import (
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
	Name              string             // checked by the decision
	Partitions        int32              // -1 means the broker's num.partitions
	ReplicationFactor int16              // -1 means default.replication.factor
	Assignment        map[int32][]int32  // partition -> replicas, instead of the two
	Configs           map[string]*string // a nil value is refused
}

// TopicResult is what became of one TopicSpec, of a deletion, or of a request
// for more partitions. Where Err is not nil, nothing was done, and of the other fields
// only what the request named is set.
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

// CreateTopics decides on topics to create, each on its own: one that is refused
// does not hinder the others. The results are in the order of specs.
func CreateTopics(f Facts, specs []TopicSpec, d Defaults) ([]meta.Record, []TopicResult) {
	results := make([]TopicResult, len(specs))
	all := func(err error) ([]meta.Record, []TopicResult) {
		for i, s := range specs {
			results[i] = TopicResult{Name: s.Name, Err: err}
		}
		return nil, results
	}
	if err := checkTotal(specs, d); err != nil {
		return all(err)
	}
	names := make(map[string]int)
	for _, s := range specs {
		names[s.Name]++
	}
	var out []meta.Record
	for i, s := range specs {
		if names[s.Name] > 1 {
			results[i] = TopicResult{Name: s.Name, Err: kerr.Refuse(kerr.InvalidRequest, "Duplicate topic name.")}
			continue
		}
		var records []meta.Record
		if records, results[i] = planTopic(f, s, d); results[i].Err == nil {
			out = append(out, records...)
		}
	}
	if len(out) > maxRecords {
		return all(errTooManyRecords)
	}
	return out, results
}

// planTopic returns the records that create one topic.
func planTopic(f Facts, s TopicSpec, d Defaults) ([]meta.Record, TopicResult) {
	m := f.Image
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
	assignment, err := assign(f, s, d)
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
	r.ID = f.Chance.UUID()
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
	if err := f.homeless(assignment); err != nil {
		return fail(err)
	}
	return out, r
}

// maxPartitions bounds what one request may create, in all: the records of one
// change must fit one entry of the metadata log (MAX_PARTITIONS_PER_BATCH).
const maxPartitions = 10_000

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

// DeleteTopics decides on topics to delete, by id. The results are in the order of
// ids.
func DeleteTopics(m *meta.Image, ids []prim.UUID) ([]meta.Record, []TopicResult) {
	results := make([]TopicResult, len(ids))
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
	return out, results
}
