package conformance_test

import (
	"sync"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// brokerConfigs is held by the one client that changes configs of the brokers.
var brokerConfigs [2]sync.Mutex

var adminScenarios = []scenario{
	{"topics", nil, func(s *session) {
		topic := s.create("t", 3, set("retention.ms", "1000000"), set("cleanup.policy", "compact,delete"))
		s.describes(topic, 3)
		if got := s.listed("list_topics"); got != topic {
			s.Errorf("listed are %q, want %q", got, topic)
		}
		create := func(name string, partitions int32, replicas int16, configs ...driver.Config) driver.Op {
			return driver.Op{Op: "create_topic", Topic: name, Partitions: partitions, Replicas: replicas, Configs: configs}
		}
		s.fails(create(topic, 1, 1), "TOPIC_ALREADY_EXISTS")
		bad := s.name("bad")
		s.fails(create(bad+"/:", 1, 1), "INVALID_TOPIC_EXCEPTION", "client: *")
		s.fails(create(bad, 0, 1), "INVALID_PARTITIONS", "client: *")
		s.fails(create(bad, 1, 2), "INVALID_REPLICATION_FACTOR")
		s.fails(create(bad, 1, 0), "INVALID_REPLICATION_FACTOR", "client: *")
		s.fails(create(bad, 1, 1, set("no.such.config", "1")), "INVALID_CONFIG")
		s.fails(create(bad, 1, 1, set("retention.ms", "soon")), "INVALID_CONFIG")
		s.fails(create(bad, 1, 1, set("segment.bytes", "1")), "INVALID_CONFIG")
		s.fails(create(bad, 1, 1, set("cleanup.policy", "burn")), "INVALID_CONFIG")
		only := create(bad, 1, 1)
		only.ValidateOnly = true
		s.ok(only)
		s.fails(driver.Op{Op: "describe_topic", Topic: bad}, "UNKNOWN_TOPIC_OR_PARTITION")
		only.Topic = topic
		s.fails(only, "TOPIC_ALREADY_EXISTS")

		defaults := s.name("defaults")
		s.ok(create(defaults, -1, -1))
		s.ready(defaults, 1)
		s.describes(defaults, 1)

		grow := driver.Op{Op: "create_partitions", Topic: topic, Partitions: 5, ValidateOnly: true}
		s.ok(grow)
		s.describes(topic, 3)
		grow.ValidateOnly = false
		s.ok(grow)
		s.ready(topic, 5)
		s.describes(topic, 5)
		s.fails(grow, "INVALID_PARTITIONS", "client: *")
		grow.Partitions = 2
		s.fails(grow, "INVALID_PARTITIONS", "client: *")
		grow.Topic = s.name("missing")
		s.fails(grow, "UNKNOWN_TOPIC_OR_PARTITION")
		s.produce(driver.Op{Topic: topic}, recs(4, 0, 1)...)
		s.reads(topic, 4, 0, recs(4, 0, 1))

		s.ok(driver.Op{Op: "delete_topic", Topic: topic})
		s.fails(driver.Op{Op: "delete_topic", Topic: topic}, "UNKNOWN_TOPIC_OR_PARTITION")
		s.gone(topic)
		s.create("t", 1)
		s.describes(topic, 1)
		if end := s.ok(driver.Op{Op: "list_offsets", Topic: topic, Timestamp: driver.Latest}).Offset; end != 0 {
			s.Errorf("a topic created again ends at %d", end)
		}
	}},
	{"topic configs", nil, func(s *session) {
		topic := s.create("t", 1, set("retention.ms", "1000000"))
		names := []driver.Config{{Name: "retention.ms"}, {Name: "cleanup.policy"}, {Name: "max.message.bytes"}, {Name: "compression.type"}, {Name: "segment.bytes"}}
		describe := driver.Op{Op: "describe_configs", Resource: "topic", Name: topic, Configs: names}
		s.config(describe, "retention.ms", "1000000", "DYNAMIC_TOPIC_CONFIG")
		s.config(describe, "cleanup.policy", "delete", "DEFAULT_CONFIG")
		s.fails(driver.Op{Op: "describe_configs", Resource: "topic", Name: s.name("missing")}, "UNKNOWN_TOPIC_OR_PARTITION")
		if !s.has("alter_configs") {
			return
		}
		alter := func(name string, configs ...driver.Config) driver.Op {
			return driver.Op{Op: "alter_configs", Resource: "topic", Name: name, Configs: configs}
		}
		change := func(op, name, value string) driver.Config { return driver.Config{Op: op, Name: name, Value: &value} }
		s.ok(alter(topic, set("max.message.bytes", "2000000"), set("retention.ms", "2000000")))
		s.config(describe, "max.message.bytes", "2000000", "DYNAMIC_TOPIC_CONFIG")
		s.config(describe, "retention.ms", "2000000", "DYNAMIC_TOPIC_CONFIG")
		s.ok(alter(topic, change("append", "cleanup.policy", "compact")))
		s.config(describe, "cleanup.policy", "delete,compact", "DYNAMIC_TOPIC_CONFIG")
		s.ok(alter(topic, change("subtract", "cleanup.policy", "delete")))
		s.config(describe, "cleanup.policy", "compact", "DYNAMIC_TOPIC_CONFIG")
		s.ok(alter(topic, driver.Config{Op: "delete", Name: "cleanup.policy"}))
		s.config(describe, "cleanup.policy", "delete", "DEFAULT_CONFIG")

		only := alter(topic, set("retention.ms", "3000000"))
		only.ValidateOnly = true
		s.ok(only)
		s.config(describe, "retention.ms", "2000000", "DYNAMIC_TOPIC_CONFIG")
		only.Configs[0] = set("retention.ms", "never")
		s.fails(only, "INVALID_CONFIG")

		s.fails(alter(topic, set("retention.ms", "never")), "INVALID_CONFIG")
		s.fails(alter(topic, set("retention.ms", "-2")), "INVALID_CONFIG")
		s.fails(alter(topic, set("no.such.config", "1")), "INVALID_CONFIG")
		s.fails(alter(topic, change("append", "retention.ms", "1")), "INVALID_CONFIG")
		s.fails(alter(s.name("missing"), set("retention.ms", "1")), "UNKNOWN_TOPIC_OR_PARTITION")
		s.config(describe, "retention.ms", "2000000", "DYNAMIC_TOPIC_CONFIG")
	}},
	{"broker configs", nil, func(s *session) {
		for i, b := range brokers() {
			if b == s.broker {
				brokerConfigs[i].Lock()
				defer brokerConfigs[i].Unlock()
			}
		}
		const key = "log.index.interval.bytes"
		describe := driver.Op{Op: "describe_configs", Resource: "broker", Name: "1", Configs: []driver.Config{{Name: key}, {Name: "message.max.bytes"}, {Name: "num.partitions"}, {Name: "log.retention.ms"}, {Name: "log.retention.hours"}}}
		s.config(describe, key, "4096", "DEFAULT_CONFIG")
		if !s.has("alter_configs") {
			return
		}
		alter := driver.Op{Op: "alter_configs", Resource: "broker", Name: "1", Configs: []driver.Config{set(key, "8192")}}
		s.ok(alter)
		s.config(describe, key, "8192", "DYNAMIC_BROKER_CONFIG")
		alter.Configs = []driver.Config{{Op: "delete", Name: key}}
		s.ok(alter)
		s.config(describe, key, "4096", "DEFAULT_CONFIG")
		alter.Configs = []driver.Config{set("node.id", "7")}
		s.fails(alter, "INVALID_REQUEST")
		alter.Configs = []driver.Config{set(key, "many")}
		s.fails(alter, "INVALID_REQUEST")
		alter.Configs = []driver.Config{set(key, "8192")}
		alter.ValidateOnly = true
		s.ok(alter)
		s.config(describe, key, "4096", "DEFAULT_CONFIG")
	}},
	{"list offsets", nil, func(s *session) {
		topic := s.create("t", 2)
		list := func(timestamp int64) driver.Op {
			return driver.Op{Op: "list_offsets", Topic: topic, Timestamp: timestamp}
		}
		want := func(timestamp, offset int64) {
			s.Helper()
			if got := s.ok(list(timestamp)).Offset; got != offset {
				s.Errorf("offset for %d is %d, want %d", timestamp-past, got, offset)
			}
		}
		want(driver.Earliest, 0)
		want(driver.Latest, 0)
		records := recs(0, 0, 10)
		for i, after := range []int64{0, 1, 2, 3, 9, 4, 5, 6, 7, 8} {
			records[i].Timestamp = past + after*1000
			s.produce(driver.Op{Topic: topic}, records[i])
		}
		want(driver.Earliest, 0)
		want(driver.Latest, 10)
		if s.has("max_timestamp") {
			want(driver.MaxTimestamp, 4)
		}
		if s.has("list_offsets_by_time") {
			want(past, 0)
			want(past-1, 0)
			want(past+1500, 2)
			want(past+3001, 4)
			want(past+9000, 4)
			want(past+9001, -1)
		}
		missing := list(driver.Latest)
		missing.Topic = s.name("missing")
		s.fails(missing, "UNKNOWN_TOPIC_OR_PARTITION", "client: *")
	}},
	{"delete records", []string{"delete_records"}, func(s *session) {
		topic := s.create("t", 1)
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 10)...)
		remove := func(offset int64) driver.Op {
			return driver.Op{Op: "delete_records", Topic: topic, Offset: offset}
		}
		for _, upTo := range []int64{4, 4, 2} {
			if low := s.ok(remove(upTo)).Offset; low != 4 {
				s.Errorf("low watermark after deleting up to %d is %d, want 4", upTo, low)
			}
		}
		s.equal(s.consume(topic, 0, driver.Earliest, 6), 0, 4, recs(0, 4, 6))
		if s.has("out_of_range") {
			s.fails(driver.Op{Op: "consume", Topic: topic, Offset: 3, Count: 1}, "OFFSET_OUT_OF_RANGE")
		}
		s.fails(remove(11), "OFFSET_OUT_OF_RANGE", "client: *")
		if low := s.ok(remove(-1)).Offset; low != 10 {
			s.Errorf("low watermark after deleting all is %d, want 10", low)
		}
		s.produce(driver.Op{Topic: topic}, recs(0, 10, 1)...)
		s.equal(s.consume(topic, 0, driver.Earliest, 1), 0, 10, recs(0, 10, 1))
	}},
}

// describes checks how many partitions a topic has, of one replica each.
func (s *session) describes(topic string, partitions int) {
	s.Helper()
	if r := s.ok(driver.Op{Op: "describe_topic", Topic: topic}); r.Partitions != partitions || r.Replicas != 1 {
		s.Errorf("%s has %d partitions of %d replicas, want %d of 1", topic, r.Partitions, r.Replicas, partitions)
	}
}

// config checks the value and source of one of the configs that an operation
// describes.
func (s *session) config(describe driver.Op, name, value, source string) {
	s.Helper()
	var r driver.Result
	// The JVM broker answers a change before the part of it that describes has
	// heard of it.
	deadline := s.deadline()
	for !deadline() {
		r = s.quiet(describe)
		for _, c := range r.Configs {
			if c.Name == name && c.Value != nil && *c.Value == value && c.Source == source {
				s.note(describe, r)
				return
			}
		}
	}
	s.Fatalf("%s of %s %s is not %s from %s: %+v", name, describe.Resource, describe.Name, value, source, r)
}

// gone waits until a topic cannot be described any more.
func (s *session) gone(topic string) {
	s.Helper()
	op := driver.Op{Op: "describe_topic", Topic: topic}
	var r driver.Result
	for deadline := s.deadline(); !deadline(); {
		if r = s.quiet(op); r.Error == "UNKNOWN_TOPIC_OR_PARTITION" {
			s.note(op, r)
			return
		}
	}
	s.Fatalf("%s is still there: %+v", topic, r)
}
