package api

import (
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/levels"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
)

// describeLoggers describes the levels of the loggers named, or of all. They are
// this broker's, and end with it.
func (h *Handlers) describeLoggers(broker string, keys []string) ([]config.Described, error) {
	if broker == "" {
		return nil, kerr.Refuse(kerr.InvalidRequest, "Broker id must not be empty")
	}
	id, err := strconv.ParseInt(broker, 10, 32)
	if err != nil {
		return nil, kerr.Refuse(kerr.InvalidRequest, "Broker id must be an integer, but it is: %s", broker)
	}
	if int32(id) != h.NodeID {
		return nil, kerr.Refuse(kerr.InvalidRequest, "Unexpected broker id, expected %d but received %s", h.NodeID, broker)
	}
	var out []config.Described
	for _, name := range h.Loggers {
		if len(keys) == 0 || slices.Contains(keys, name) {
			level := h.Levels.Level(name)
			out = append(out, config.Described{Name: name, Value: &level, Source: config.BrokerLoggerConfig})
		}
	}
	return out, nil
}

// changeLoggers changes the levels of loggers: all that is asked for, or nothing.
// A logger that is to have no level of its own takes that of the one above it.
func (h *Handlers) changeLoggers(broker string, changes []control.ConfigChange, validateOnly bool) error {
	id, err := strconv.ParseInt(broker, 10, 32)
	if err != nil {
		return kerr.Refuse(kerr.InvalidRequest, "Node id must be an integer, but it is: %s", broker)
	}
	if int32(id) != h.NodeID {
		return kerr.Refuse(kerr.InvalidRequest, "Unexpected node id. Expected %d, but received %s", h.NodeID, broker)
	}
	known := levels.Names()
	for _, c := range changes {
		switch c.Op {
		case control.SetConfig, control.DeleteConfig:
		case control.AppendConfig:
			return kerr.Refuse(kerr.InvalidRequest, "APPEND operation is not allowed for the BROKER_LOGGER resource")
		case control.SubtractConfig:
			return kerr.Refuse(kerr.InvalidRequest, "SUBTRACT operation is not allowed for the BROKER_LOGGER resource")
		default:
			return kerr.Refuse(kerr.InvalidRequest, "Unknown operation type %d for logger %s.", c.Op, c.Name)
		}
		if !slices.Contains(h.Loggers, c.Name) {
			return kerr.Refuse(kerr.InvalidConfig, "Logger %s does not exist!", c.Name)
		}
		if c.Op == control.DeleteConfig {
			if c.Name == levels.Root {
				return kerr.Refuse(kerr.InvalidRequest, "Removing the log level of the root logger is not allowed")
			}
			continue
		}
		if !slices.Contains(known, *c.Value) {
			return kerr.Refuse(kerr.InvalidConfig, "Cannot set the log level of %s to %s as it is not a supported log level. Valid log levels are %s", c.Name, *c.Value, strings.Join(known, ", "))
		}
	}
	if validateOnly {
		return nil
	}
	for _, c := range changes {
		level := ""
		if c.Op == control.SetConfig {
			level = *c.Value
		}
		h.Levels.Set(c.Name, level)
	}
	return nil
}
