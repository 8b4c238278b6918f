package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestValues(t *testing.T) {
	for _, c := range []struct {
		kind        Kind
		name, value string
		want        string // "!" for refused
	}{
		{KindTopic, "retention.ms", " 5 ", "5"},
		{KindTopic, "retention.ms", "-1", "-1"},
		{KindTopic, "retention.ms", "-2", "!"},
		{KindTopic, "retention.ms", "1.5", "!"},
		{KindTopic, "retention.ms", "", "!"},
		{KindTopic, "retention.ms", "9223372036854775807", "9223372036854775807"},
		{KindTopic, "retention.ms", "9223372036854775808", "!"},
		{KindTopic, "segment.bytes", "1048576", "1048576"},
		{KindTopic, "segment.bytes", "1048575", "!"},
		{KindTopic, "segment.bytes", "2147483648", "!"},
		{KindTopic, "compression.gzip.level", "-1", "-1"},
		{KindTopic, "compression.gzip.level", "0", "!"},
		{KindTopic, "compression.gzip.level", "9", "9"},
		{KindTopic, "compression.gzip.level", "10", "!"},
		{KindTopic, "cleanup.policy", "compact , delete", "compact,delete"},
		{KindTopic, "cleanup.policy", "", ""},
		{KindTopic, "cleanup.policy", "compact,compact", "compact"},
		{KindTopic, "cleanup.policy", "delete,compact, delete,compact", "delete,compact"},
		{KindTopic, "cleanup.policy", "delete,delete,", "!"},
		{KindTopic, "cleanup.policy", "erase", "!"},
		{KindTopic, "cleanup.policy", "compact,,delete", "!"},
		{KindTopic, "compression.type", "lz4", "lz4"},
		{KindTopic, "compression.type", "LZ4", "!"},
		{KindTopic, "preallocate", "TRUE", "true"},
		{KindTopic, "preallocate", "yes", "!"},
		{KindTopic, "min.cleanable.dirty.ratio", "1", "1.0"},
		{KindTopic, "min.cleanable.dirty.ratio", "1.01", "!"},
		{KindTopic, "min.cleanable.dirty.ratio", "NaN", "NaN"},
		{KindTopic, "min.cleanable.dirty.ratio", "nan", "!"},
		{KindTopic, "min.cleanable.dirty.ratio", "Infinity", "!"},
		{KindTopic, "leader.replication.throttled.replicas", "*", "*"},
		{KindTopic, "leader.replication.throttled.replicas", "0:1,1:2", "0:1,1:2"},
		{KindTopic, "leader.replication.throttled.replicas", "0-1", "!"},
		{KindTopic, "no.such.key", "1", "!"},
		{KindBroker, "log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", "1.7976931348623157E308"},
		{KindBroker, "log.cleaner.io.max.bytes.per.second", "1e7", "1.0E7"},
		{KindBroker, "transaction.state.log.replication.factor", "32768", "!"},
		{KindBroker, "process.roles", "", "!"},
		{KindBroker, "process.roles", "broker,controller", "broker,controller"},
		{KindBroker, "process.roles", "broker,broker", "broker"},
		{KindBroker, "process.roles", "zookeeper", "!"},
		{KindBroker, "group.consumer.migration.policy", "Upgrade", "Upgrade"},
		{KindBroker, "remote.log.manager.task.retry.jitter", "0.6", "!"},
		{KindBroker, "controller.quorum.voters", "", ""},
		{KindProducer, "transactional.id", "", "!"},
		{KindProducer, "acks", "-1", "-1"},
		{KindProducer, "acks", "2", "!"},
		{KindConsumer, "auto.offset.reset", "by_duration:P1DT2H", "by_duration:P1DT2H"},
		{KindConsumer, "auto.offset.reset", "by_duration:-P1D", "!"},
		{KindConsumer, "auto.offset.reset", "by_duration:1d", "!"},
		{KindConsumer, "share.acquire.mode", "record_limit", "record_limit"},
		{KindConsumer, "share.acquire.mode", "other", "!"},
		{KindGroup, "consumer.session.timeout.ms", "0", "!"},
		{KindClientMetrics, "match", "client_id=a.*, client_software_name=kgo", "client_id=a.*,client_software_name=kgo"},
		{KindClientMetrics, "match", "host=a", "!"},
		{KindClientMetrics, "match", "client_id=(", "!"},
		{KindQuota, "request_percentage", "50", "50.0"},
	} {
		k, ok := Lookup(c.kind, c.name)
		got, err := "", error(nil)
		if ok {
			got, err = k.Normalize(c.value)
		}
		if refused := !ok || err != nil; refused != (c.want == "!") || !refused && got != c.want {
			t.Errorf("%s=%q: %q, %v; want %q", c.name, c.value, got, err, c.want)
		}
		if verr := Validate(c.kind, c.name, c.value); (verr == nil) != (c.want != "!") {
			t.Errorf("Validate(%s, %q) = %v", c.name, c.value, verr)
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%v is not ErrInvalid", err)
		}
	}
}

func TestPasswordsDoNotShow(t *testing.T) {
	p := Password("secret")
	for _, s := range []string{fmt.Sprint(p), fmt.Sprintf("%v %s %q %#v", p, p, p, struct{ P Password }{p})} {
		if strings.Contains(s, "secret") {
			t.Errorf("password in %q", s)
		}
	}
	if p.Reveal() != "secret" {
		t.Error("Reveal does not")
	}
}

func TestISODuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"P1D": 24 * time.Hour, "PT1.5S": 1500 * time.Millisecond, "pt2h3m": 2*time.Hour + 3*time.Minute,
		"P1DT-1H": 23 * time.Hour, "PT0S": 0, "PT0,5S": 500 * time.Millisecond,
	} {
		if got, err := ParseISODuration(in); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "P", "PT", "P1DT", "1D", "P1H", "-PT1S", "PT1S ", "P1Y"} {
		if got, err := ParseISODuration(in); err == nil {
			t.Errorf("%q reads as %v", in, got)
		}
	}
}

// FuzzNormalize: no value makes it panic, and what it returns it takes again
// unchanged.
func FuzzNormalize(f *testing.F) {
	for _, v := range []string{"", "1", "-1", "a,b", "true", "0.5", "by_duration:PT1S", "client_id=x", " 7 ", "1e309", ",", "[hidden]", "NaN", "b,a,b"} {
		f.Add(v, uint16(len(v)))
	}
	var keys []Key
	for _, kind := range allKinds {
		keys = append(keys, Keys(kind)...)
	}
	f.Fuzz(func(t *testing.T, v string, i uint16) {
		k := &keys[int(i)%len(keys)]
		once, err := k.Normalize(v)
		if err != nil {
			return
		}
		if twice, err := k.Normalize(once); err != nil || twice != once {
			t.Errorf("%s: %q reads as %q, which reads as %q, %v", k.Name, v, once, twice, err)
		}
	})
}
