package control

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// checkConfigs checks the configs that a resource is going to have.
func checkConfigs(m *meta.Image, kind config.Kind, r meta.Resource, values map[string]string, static *config.Static) error {
	switch kind {
	case config.KindTopic:
		return checkTopicConfig(m, values, static)
	case config.KindBroker:
		return checkBrokerConfig(m, r.Name, values, static)
	case config.KindGroup:
		return checkGroupConfig(m, values, static)
	}
	return checkClientMetrics(values)
}

// checkTopicConfig checks the configs of a topic, each and together.
func checkTopicConfig(m *meta.Image, values map[string]string, static *config.Static) error {
	t, err := config.TopicFrom(values, nil, m.Config(meta.Resource{Type: meta.BrokerResource}), static)
	var unknown *config.UnknownKeyError
	switch {
	case errors.As(err, &unknown):
		return kerr.Refuse(kerr.InvalidConfig, "Unknown topic config name: %s", unknown.Name)
	case err != nil:
		return kerr.Refuse(kerr.InvalidConfig, "%s", err)
	case t.RemoteStorage:
		return kerr.Refuse(kerr.InvalidConfig, "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	return nil
}

// checkGroupConfig checks the configs of a group, each and against the bounds
// that the broker sets.
func checkGroupConfig(m *meta.Image, values map[string]string, static *config.Static) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key, ok := config.Lookup(config.KindGroup, name)
		if !ok {
			return kerr.Refuse(kerr.InvalidConfig, "Unknown group config name: %s", name)
		}
		if err := key.Validate(values[name]); err != nil {
			return kerr.Refuse(kerr.InvalidConfig, "%s", err)
		}
	}
	l := config.Layers{DynamicDefault: m.Config(meta.Resource{Type: meta.BrokerResource}), Static: static}
	if err := config.CheckGroupBounds(values, l); err != nil {
		return kerr.Refuse(kerr.InvalidConfig, "%s", err)
	}
	return nil
}

// checkClientMetrics checks the configs of a client-metrics subscription.
func checkClientMetrics(values map[string]string) error {
	names := slices.Sorted(maps.Keys(values))
	for _, name := range names {
		if _, ok := config.Lookup(config.KindClientMetrics, name); !ok {
			return kerr.Refuse(kerr.InvalidRequest, "Unknown client metrics configuration: %s", name)
		}
	}
	const lowest, highest = 100, 3_600_000
	for _, name := range names {
		value := strings.TrimSpace(values[name])
		switch name {
		case "interval.ms":
			ms, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return kerr.Refuse(kerr.InvalidConfig, "%s", config.Validate(config.KindClientMetrics, name, value))
			}
			if ms < lowest || ms > highest {
				return kerr.Refuse(kerr.InvalidRequest, "Invalid value %d for interval.ms, interval must be between %d and %d (1 hour)", ms, lowest, highest)
			}
		case "match":
			for _, item := range splitList(value) {
				if config.Validate(config.KindClientMetrics, name, item) != nil {
					return kerr.Refuse(kerr.InvalidConfig, "Illegal client matching pattern: %s", item)
				}
			}
		}
	}
	return nil
}
