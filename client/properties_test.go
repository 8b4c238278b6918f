package client

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/wire/record"
)

func TestConfigFromProperties(t *testing.T) {
	o, unused, err := ConfigFromProperties(map[string]string{
		"bootstrap.servers": "a:1, b:2", "acks": "1", "linger.ms": "0", "batch.size": "100", "compression.type": "zstd",
		"compression.zstd.level": "7", "compression.gzip.level": "9", "delivery.timeout.ms": "60000", "enable.idempotence": "false",
		"retries": "0", "max.block.ms": "9223372036854775807", "key.serializer": "x", "metrics.num.samples": "3", "partitioner.ignore.keys": "TRUE",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.BootstrapServers, []string{"a:1", "b:2"}) || o.Acks != AcksLeader || o.Compression != record.Zstd || o.CompressionLevel != 7 || o.Idempotence != Off || !o.IgnoreKeys {
		t.Errorf("%+v", o)
	}
	full := o.withDefaults()
	if full.Linger != 0 || full.BatchSize != 100 || full.Retries != 0 || full.DeliveryTimeout != time.Minute || full.MaxBlock != 1<<63-1 {
		t.Errorf("%+v", full)
	}
	if !slices.Equal(unused, []string{"metrics.num.samples"}) {
		t.Errorf("unused %v", unused)
	}
}

// A properties file may be of several clients, and of what stands beside them: only
// what looks like a slip of the pen is refused.
func TestKeysOfOthers(t *testing.T) {
	m := map[string]string{"linger.ms": "7", "group.id": "g", "schema.registry.url": "http://x", "max.poll.records": "9"}
	o, unused, err := ConfigFromProperties(m)
	if err != nil || o.Linger != 7*time.Millisecond || !slices.Equal(unused, []string{"group.id", "max.poll.records", "schema.registry.url"}) {
		t.Errorf("%v, %v, %v", o.Linger, unused, err)
	}
	c, unused, err := ConsumerConfigFromProperties(m)
	if err != nil || c.Group != "g" || c.MaxPollRecords != 9 || !slices.Equal(unused, []string{"linger.ms", "schema.registry.url"}) {
		t.Errorf("%s, %v, %v", c.Group, unused, err)
	}
}

func TestPropertyErrors(t *testing.T) {
	for _, c := range []struct{ key, value, want string }{
		{"linger", "1", `"linger.ms"`},
		{"linger.ms", "x", "linger.ms"},
		{"acks", "2", "acks"},
		{"max.in.flight.requests.per.connection", "0", "at least 1"},
		{"transactional.id", "x", "not supported"},
		{"security.protocol", "SASL_SSL", "not supported"},
		{"delivery.timeout.ms", "10", "delivery.timeout.ms"},
	} {
		if _, _, err := ConfigFromProperties(map[string]string{c.key: c.value}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v; want %s in it", c.key, c.value, err, c.want)
		}
	}
	for _, c := range []struct{ key, value string }{{"group.protocol", "Consumer"}, {"partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"}, {"max.poll.records", "0"}} {
		if _, _, err := ConsumerConfigFromProperties(map[string]string{c.key: c.value}); !errors.Is(err, ErrConfig) && !errors.Is(err, config.ErrInvalid) {
			t.Errorf("%s=%s: %v", c.key, c.value, err)
		}
	}
}

func TestConsumerConfigFromProperties(t *testing.T) {
	o, _, err := ConsumerConfigFromProperties(map[string]string{
		"group.id": "g", "auto.offset.reset": "by_duration:PT1H", "isolation.level": "read_committed", "enable.auto.commit": "false",
		"partition.assignment.strategy": "org.apache.kafka.clients.consumer.StickyAssignor,range", "max.poll.records": "7",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Group != "g" || o.ResetTo == nil || !o.ReadCommitted || !o.NoAutoCommit || !slices.Equal(o.Assignors, []Assignor{Sticky, Range}) || o.MaxPollRecords != 7 {
		t.Errorf("%+v", o)
	}
	for _, now := range []int64{7200_000, 9200_000, 100} { // counted from each reset
		if at := o.ResetTo.asked(time.UnixMilli(now)); at != max(now-3600_000, 0) {
			t.Errorf("reset to %d at %d", at, now)
		}
	}
	a, _, err := AdminConfigFromProperties(map[string]string{"default.api.timeout.ms": "5"})
	if err != nil || a.APITimeout != 5*time.Millisecond {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestKeysActedOn: what the table says is acted on, the readers look at.
func TestKeysActedOn(t *testing.T) {
	for kind, read := range map[config.Kind]func(map[string]string) ([]string, error){
		config.KindProducer: func(m map[string]string) ([]string, error) { _, u, err := ConfigFromProperties(m); return u, err },
		config.KindConsumer: func(m map[string]string) ([]string, error) {
			_, u, err := ConsumerConfigFromProperties(m)
			return u, err
		},
		config.KindAdmin: func(m map[string]string) ([]string, error) { _, u, err := AdminConfigFromProperties(m); return u, err },
	} {
		for _, k := range config.Keys(kind) {
			if k.Acted != config.ActedYes || k.Default == nil || k.Name == "partition.assignment.strategy" || k.Name == "group.instance.id" {
				continue
			}
			value := *k.Default
			unused, err := read(map[string]string{k.Name: value})
			if err != nil {
				t.Errorf("%v %s=%s: %v", kind, k.Name, value, err)
			}
			if len(unused) > 0 {
				t.Errorf("%v %s is said to be acted on, but nothing reads it", kind, k.Name)
			}
		}
	}
}
