package control

import (
	"maps"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// ConfigOp is what is done to one config key; the values are the protocol's.
type ConfigOp int8

// The operations of IncrementalAlterConfigs.
const (
	SetConfig      ConfigOp = 0
	DeleteConfig   ConfigOp = 1
	AppendConfig   ConfigOp = 2
	SubtractConfig ConfigOp = 3
)

// ConfigChange changes one key of a resource.
type ConfigChange struct {
	Name  string
	Op    ConfigOp
	Value *string
}

// ResourceChange changes configs of one resource: all of it or nothing.
type ResourceChange struct {
	Resource meta.Resource
	Changes  []ConfigChange
	// Replace drops every key that Changes does not set (AlterConfigs).
	Replace bool
}

// ChangeConfigs decides on changes of the configs of resources, each on its own.
// It returns an error or nil for each.
func ChangeConfigs(m *meta.Image, changes []ResourceChange, static *config.Static) ([]meta.Record, []error) {
	results := make([]error, len(changes))
	var out []meta.Record
	count := make(map[meta.Resource]int)
	for _, r := range changes {
		count[r.Resource]++
	}
	for i, r := range changes {
		if count[r.Resource] > 1 {
			results[i] = kerr.Refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
			continue
		}
		records, err := planConfigs(m, r, static)
		results[i] = err
		out = append(out, records...)
	}
	if len(out) > maxRecords {
		for i := range results {
			results[i] = errTooManyRecords
		}
		return nil, results
	}
	return out, results
}

func kindOf(t meta.ResourceType) (config.Kind, bool) {
	switch t {
	case meta.TopicResource:
		return config.KindTopic, true
	case meta.BrokerResource:
		return config.KindBroker, true
	case meta.GroupResource:
		return config.KindGroup, true
	case meta.ClientMetricsResource:
		return config.KindClientMetrics, true
	}
	return 0, false
}

func planConfigs(m *meta.Image, r ResourceChange, static *config.Static) ([]meta.Record, error) {
	kind, err := checkResource(m, r.Resource)
	if err != nil {
		return nil, err
	}
	old := m.Config(r.Resource)
	next := make(map[string]string)
	if !r.Replace {
		maps.Copy(next, old)
	}
	if err := CheckChanges(r.Changes); err != nil {
		return nil, err
	}
	for _, change := range r.Changes {
		if err := applyConfig(kind, next, change, r.Resource, m, static); err != nil {
			return nil, err
		}
	}
	if err := checkConfigs(m, kind, r.Resource, next, static); err != nil {
		return nil, err
	}
	if err := checkMinISR(m, r.Resource, old, next); err != nil {
		return nil, err
	}
	if r.Resource.Type == meta.TopicResource && m.Topic(r.Resource.Name) == nil {
		return nil, kerr.Refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Resource.Name)
	}
	var out []meta.Record
	record := func(name string, value *string) {
		out = append(out, &msg.ConfigRecord{ResourceType: int8(r.Resource.Type), ResourceName: r.Resource.Name, Name: name, Value: value})
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if _, kept := next[name]; !kept {
			record(name, nil)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		value := next[name]
		if was, ok := old[name]; !ok || was != value {
			record(name, &value)
		}
	}
	return append(out, clearEligible(m, out)...), nil
}

// Shown reports whether the value of a key may be shown: it is known, and no
// secret.
func Shown(t meta.ResourceType, name string) bool {
	if t == meta.BrokerLoggerResource {
		return true
	}
	kind, ok := kindOf(t)
	if !ok {
		return false
	}
	key, ok := config.Lookup(kind, name)
	return ok && !key.Sensitive()
}

// CheckChanges checks what concerns a request for changes as a whole.
func CheckChanges(changes []ConfigChange) error {
	seen := make(map[string]bool)
	var nulls []string
	for _, c := range changes {
		if seen[c.Name] {
			return kerr.Refuse(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[c.Name] = true
		if c.Op != DeleteConfig && c.Value == nil {
			nulls = append(nulls, c.Name)
		}
	}
	if nulls != nil {
		return kerr.Refuse(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(nulls, ", "))
	}
	return nil
}

// checkResource checks that there may be a resource of that name which has
// configs. As in Kafka, whether a topic exists is asked when its configs are known
// to be valid.
func checkResource(m *meta.Image, r meta.Resource) (config.Kind, error) {
	kind, ok := kindOf(r.Type)
	if !ok {
		return 0, kerr.Refuse(kerr.InvalidRequest, "Unknown resource type %d", r.Type)
	}
	switch r.Type {
	case meta.TopicResource:
		if r.Name == "" {
			return 0, kerr.Refuse(kerr.InvalidRequest, "Default topic resources are not allowed.")
		}
		if err := CheckTopicName(r.Name); err != nil {
			return 0, err
		}
	case meta.GroupResource:
		if r.Name == "" {
			return 0, kerr.Refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
		}
	case meta.ClientMetricsResource:
		if r.Name == "" {
			return 0, kerr.Refuse(kerr.InvalidRequest, "Subscription name can't be empty")
		}
	}
	return kind, nil
}

// applyConfig does one change to the values of a resource.
func applyConfig(kind config.Kind, values map[string]string, change ConfigChange, r meta.Resource, m *meta.Image, static *config.Static) error {
	key, known := config.Lookup(kind, change.Name)
	switch change.Op {
	case DeleteConfig:
		delete(values, change.Name)
		return nil
	case SetConfig, AppendConfig, SubtractConfig:
	default:
		if kind == config.KindBroker {
			return kerr.Refuse(kerr.InvalidRequest, "Unknown operations type %d", change.Op)
		}
		return kerr.Refuse(kerr.InvalidRequest, "Unknown operation type %d for config '%s'.", change.Op, change.Name)
	}
	if change.Op == SetConfig {
		values[change.Name] = *change.Value
		return nil
	}
	list := known && key.Type == config.TypeList
	appends := change.Op == AppendConfig
	switch {
	case kind == config.KindBroker && !known:
		return kerr.Refuse(kerr.InvalidConfig, "Unknown config name: %s", change.Name)
	case kind == config.KindBroker && !list:
		return kerr.Refuse(kerr.InvalidConfig, "Config value %s is not allowed for config key: %s", map[bool]string{true: "append", false: "subtract"}[appends], change.Name)
	case !list || kind != config.KindBroker && kind != config.KindTopic:
		return kerr.Refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", map[bool]string{true: "APPEND", false: "SUBTRACT"}[appends], change.Name)
	}
	now, ok := values[change.Name]
	if !ok {
		if d := config.Describe(kind, Layers(m, r, static), []string{change.Name}); len(d) == 1 && d[0].Value != nil {
			now = *d[0].Value
		}
	}
	items, asked := splitList(now), splitList(*change.Value)
	drop := make(map[string]int) // how many of each are dropped, from the first on
	have := make(map[string]bool)
	for _, item := range items {
		have[item] = true
	}
	for _, item := range asked {
		switch {
		case change.Op == SubtractConfig:
			drop[item]++
		case !have[item]:
			have[item] = true
			items = append(items, item)
		}
	}
	items = slices.DeleteFunc(items, func(item string) bool {
		drop[item]--
		return drop[item] >= 0
	})
	values[change.Name] = strings.Join(items, ",")
	return nil
}

func splitList(s string) []string {
	var out []string
	for _, item := range strings.Split(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// Layers returns the places that the configs of a resource come from.
func Layers(m *meta.Image, r meta.Resource, static *config.Static) config.Layers {
	l := config.Layers{Own: m.Config(r), DynamicDefault: m.Config(meta.Resource{Type: meta.BrokerResource}), Static: static}
	if r.Type == meta.BrokerResource {
		l.DynamicBroker = m.Config(r)
		l.Own = nil
	}
	return l
}
