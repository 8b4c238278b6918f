package replication

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
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

// ChangeConfigs changes the configs of resources, each on its own, and returns
// an error or nil for each. The second error is that of the quorum.
func (c *Controller) ChangeConfigs(ctx context.Context, changes []ResourceChange, static *config.Static, validateOnly bool) ([]error, error) {
	results := make([]error, len(changes))
	err := c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		var out []meta.Record
		count := make(map[meta.Resource]int)
		for _, r := range changes {
			count[r.Resource]++
		}
		for i, r := range changes {
			if count[r.Resource] > 1 {
				results[i] = Refuse(kerr.InvalidRequest, "Each resource must appear at most once.")
				continue
			}
			records, err := planConfigs(m, r, static)
			results[i] = err
			out = append(out, records...)
		}
		if validateOnly {
			return nil, nil
		}
		return out, nil
	})
	return results, err
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
	seen := make(map[string]bool)
	for _, change := range r.Changes {
		if change.Name == "" {
			return nil, Refuse(kerr.InvalidConfig, "Null or empty config name.")
		}
		if seen[change.Name] {
			return nil, Refuse(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[change.Name] = true
		if err := applyConfig(kind, next, change, r.Resource, m, static); err != nil {
			return nil, err
		}
	}
	if err := checkConfigs(m, kind, r.Resource, next, static); err != nil {
		return nil, err
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
	return out, nil
}

// checkResource checks that a resource can have configs.
func checkResource(m *meta.Image, r meta.Resource) (config.Kind, error) {
	kind, ok := kindOf(r.Type)
	if !ok {
		return 0, Refuse(kerr.InvalidRequest, "Unexpected resource type %d.", r.Type)
	}
	switch r.Type {
	case meta.TopicResource:
		if err := CheckTopicName(r.Name); err != nil {
			return 0, err
		}
		if m.Topic(r.Name) == nil {
			return 0, Refuse(kerr.UnknownTopicOrPartition, "The topic '%s' does not exist.", r.Name)
		}
	case meta.BrokerResource:
		if r.Name == "" {
			break
		}
		if _, err := strconv.ParseInt(r.Name, 10, 32); err != nil {
			return 0, Refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", r.Name)
		}
	case meta.GroupResource:
		if r.Name == "" {
			return 0, Refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
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
		return Refuse(kerr.InvalidRequest, "Unknown operation type %d for config '%s'.", change.Op, change.Name)
	}
	if change.Value == nil {
		return Refuse(kerr.InvalidRequest, "Null value not supported for : %s", change.Name)
	}
	if !known {
		return Refuse(kerr.InvalidConfig, "%s", config.Validate(kind, change.Name, *change.Value))
	}
	if change.Op == SetConfig {
		values[change.Name] = *change.Value
		return nil
	}
	if key.Type != config.TypeList {
		return Refuse(kerr.InvalidConfig, "Can't %s to key %s because its type is not LIST.", map[ConfigOp]string{AppendConfig: "APPEND", SubtractConfig: "SUBTRACT"}[change.Op], change.Name)
	}
	now, ok := values[change.Name]
	if !ok {
		if d := config.Describe(kind, layers(m, r, static), []string{change.Name}); len(d) == 1 && d[0].Value != nil {
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

// layers returns the places that the configs of a resource come from.
func layers(m *meta.Image, r meta.Resource, static *config.Static) config.Layers {
	l := config.Layers{Own: m.Config(r), DynamicDefault: m.Config(meta.Resource{Type: meta.BrokerResource}), Static: static}
	if r.Type == meta.BrokerResource {
		l.DynamicBroker = m.Config(r)
		l.Own = nil
	}
	return l
}

func checkConfigs(m *meta.Image, kind config.Kind, r meta.Resource, values map[string]string, static *config.Static) error {
	if kind == config.KindTopic {
		return checkTopicConfig(m, values, static)
	}
	for name, v := range values {
		if err := config.Validate(kind, name, v); err != nil {
			code := kerr.InvalidConfig
			if kind == config.KindBroker { // its validation is the broker's own, not the controller's
				code = kerr.InvalidRequest
			}
			return Refuse(code, "%s", err)
		}
		if kind != config.KindBroker {
			continue
		}
		key, _ := config.Lookup(kind, name)
		switch {
		case key.Update == config.ReadOnly:
			return Refuse(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]", name)
		case key.Update == config.PerBroker && r.Name == "":
			return Refuse(kerr.InvalidRequest, "Cannot update per-broker configs as cluster defaults: [%s]", name)
		}
	}
	return nil
}

// checkTopicConfig checks the configs of a topic, each and together.
func checkTopicConfig(m *meta.Image, values map[string]string, static *config.Static) error {
	_, err := config.TopicFrom(values, nil, m.Config(meta.Resource{Type: meta.BrokerResource}), static)
	if err == nil {
		return nil
	}
	var unknown *config.UnknownKeyError
	if errors.As(err, &unknown) {
		return Refuse(kerr.InvalidConfig, "Unknown topic config name: %s", unknown)
	}
	return Refuse(kerr.InvalidConfig, "%s", err)
}
