package control

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// keyStores are the keys of stores of certificates and keys. They change while a
// broker runs for one listener at a time.
var keyStores = []string{"ssl.key.password", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.keystore.location",
	"ssl.keystore.password", "ssl.keystore.type", "ssl.truststore.certificates", "ssl.truststore.location",
	"ssl.truststore.password", "ssl.truststore.type"}

// threadCounts are keys that change by a factor of two at most.
var threadCounts = []string{"num.io.threads", "num.network.threads", "num.replica.fetchers", "num.recovery.threads.per.data.dir", "background.threads"}

// checkBrokerConfig checks the dynamic configs of a broker, or of all where name
// is empty. Keys that nobody knows are taken, for a plug-in may know them.
func checkBrokerConfig(m *meta.Image, name string, values map[string]string, static *config.Static) error {
	names := slices.Sorted(maps.Keys(values))
	refuse := func(why string, these func(key string, k *config.Key) bool) error {
		var bad []string
		for _, n := range names {
			if k, ok := config.Lookup(config.KindBroker, n); ok && these(n, k) {
				bad = append(bad, n)
			}
		}
		if bad == nil {
			return nil
		}
		return kerr.Refuse(kerr.InvalidRequest, "%s: [%s]", why, strings.Join(bad, ", "))
	}
	if err := refuse("Cannot update these configs dynamically", func(_ string, k *config.Key) bool { return k.Update == config.ReadOnly }); err != nil {
		return err
	}
	if err := refuse("These security configs can be dynamically updated only per-listener using the listener prefix", func(n string, _ *config.Key) bool { return slices.Contains(keyStores, n) }); err != nil {
		return err
	}
	for _, n := range names {
		if k, ok := config.Lookup(config.KindBroker, n); ok {
			if err := k.Validate(values[n]); err != nil {
				return kerr.Refuse(kerr.InvalidRequest, "%s", err)
			}
		}
	}
	if name == "" {
		if err := refuse("Cannot update these configs at default cluster level, broker id must be specified", func(_ string, k *config.Key) bool { return k.Update == config.PerBroker }); err != nil {
			return err
		}
	}
	return checkThreads(m, name, values, static)
}

// checkThreads refuses numbers of threads that are more than twice or less than
// half of what they are now.
func checkThreads(m *meta.Image, name string, values map[string]string, static *config.Static) error {
	resource := meta.Resource{Type: meta.BrokerResource, Name: name}
	now := config.Layers{DynamicBroker: m.Config(resource), DynamicDefault: m.Config(meta.Resource{Type: meta.BrokerResource}), Static: static}
	next := now
	if next.DynamicBroker = values; name == "" {
		now.DynamicBroker, next.DynamicBroker, next.DynamicDefault = nil, nil, values
	}
	for _, key := range threadCounts {
		was, is := number(now, key), number(next, key)
		switch {
		case is < was/2:
			return badThreads("Dynamic thread count update validation failed for %s=%d, value should be at least half the current value %d", key, is, was)
		case is > was*2:
			return badThreads("Dynamic thread count update validation failed for %s=%d, value should not be greater than double the current value %d", key, is, was)
		}
	}
	const cleaners = "log.cleaner.threads"
	switch was, is := number(now, cleaners), number(next, cleaners); {
	case is < was/2:
		return badThreads("Log cleaner threads cannot be reduced to less than half the current value %d", was)
	case is > was*2:
		return badThreads("Log cleaner threads cannot be increased to more than double the current value %d", was)
	}
	return nil
}

// badThreads says it as Kafka does, whose error has gone through another one.
func badThreads(format string, args ...any) error {
	return kerr.Refuse(kerr.InvalidRequest, "Invalid value org.apache.kafka.common.config.ConfigException: "+format+" for configuration Invalid dynamic configuration", args...)
}

// number returns the value that a broker key has, 0 if it has none.
func number(l config.Layers, key string) int64 {
	for _, d := range config.Describe(config.KindBroker, l, []string{key}) {
		if d.Value != nil {
			n, _ := strconv.ParseInt(*d.Value, 10, 64)
			return n
		}
	}
	return 0
}
