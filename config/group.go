package config

import (
	"fmt"
	"strconv"
	"strings"
)

// groupBound is a broker key that bounds a key of groups.
type groupBound struct {
	key, bound string
	upper      bool
}

var groupBounds = []groupBound{
	{"consumer.heartbeat.interval.ms", "group.consumer.min.heartbeat.interval.ms", false},
	{"consumer.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms", true},
	{"consumer.session.timeout.ms", "group.consumer.min.session.timeout.ms", false},
	{"consumer.session.timeout.ms", "group.consumer.max.session.timeout.ms", true},
	{"consumer.assignment.interval.ms", "group.consumer.min.assignment.interval.ms", false},
	{"consumer.assignment.interval.ms", "group.consumer.max.assignment.interval.ms", true},
	{"share.heartbeat.interval.ms", "group.share.min.heartbeat.interval.ms", false},
	{"share.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms", true},
	{"share.session.timeout.ms", "group.share.min.session.timeout.ms", false},
	{"share.session.timeout.ms", "group.share.max.session.timeout.ms", true},
	{"share.assignment.interval.ms", "group.share.min.assignment.interval.ms", false},
	{"share.assignment.interval.ms", "group.share.max.assignment.interval.ms", true},
	{"share.record.lock.duration.ms", "group.share.min.record.lock.duration.ms", false},
	{"share.record.lock.duration.ms", "group.share.max.record.lock.duration.ms", true},
	{"share.delivery.count.limit", "group.share.min.delivery.count.limit", false},
	{"share.delivery.count.limit", "group.share.max.delivery.count.limit", true},
	{"share.partition.max.record.locks", "group.share.min.partition.max.record.locks", false},
	{"share.partition.max.record.locks", "group.share.max.partition.max.record.locks", true},
	{"streams.heartbeat.interval.ms", "group.streams.min.heartbeat.interval.ms", false},
	{"streams.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms", true},
	{"streams.session.timeout.ms", "group.streams.min.session.timeout.ms", false},
	{"streams.session.timeout.ms", "group.streams.max.session.timeout.ms", true},
	{"streams.assignment.interval.ms", "group.streams.min.assignment.interval.ms", false},
	{"streams.assignment.interval.ms", "group.streams.max.assignment.interval.ms", true},
	{"streams.num.standby.replicas", "group.streams.max.standby.replicas", true},
}

// CheckGroupBounds checks valid values of a group's own keys against the bounds
// that the broker has in l.
func CheckGroupBounds(values map[string]string, l Layers) error {
	for _, b := range groupBounds {
		v, ok := values[b.key]
		if !ok {
			continue
		}
		k, ok := Lookup(KindBroker, b.bound)
		if !ok {
			return unknown(KindBroker, b.bound)
		}
		limit, err := l.brokerValue(k)
		if err != nil {
			return err
		}
		value, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		if err != nil || limit == nil {
			continue
		}
		at, err := strconv.ParseInt(*limit, 10, 64)
		switch {
		case err != nil:
			return err
		case !b.upper && value < at:
			return fmt.Errorf("%s must be greater than or equal to %s", b.key, b.bound)
		case b.upper && value > at:
			return fmt.Errorf("%s must be less than or equal to %s", b.key, b.bound)
		}
	}
	return nil
}
