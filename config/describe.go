package config

import "slices"

// ConfigSource is the place of a value as DescribeConfigs numbers it.
type ConfigSource int8

const (
	TopicConfig          ConfigSource = 1
	DynamicBrokerConfig  ConfigSource = 2
	DynamicDefaultConfig ConfigSource = 3
	StaticBrokerConfig   ConfigSource = 4
	DefaultConfig        ConfigSource = 5
	BrokerLoggerConfig   ConfigSource = 6
	ClientMetricsConfig  ConfigSource = 7
	GroupConfig          ConfigSource = 8
)

// String returns Kafka's name of the source.
func (s ConfigSource) String() string {
	switch s {
	case TopicConfig:
		return "TOPIC_CONFIG"
	case DynamicBrokerConfig:
		return "DYNAMIC_BROKER_CONFIG"
	case DynamicDefaultConfig:
		return "DYNAMIC_DEFAULT_BROKER_CONFIG"
	case StaticBrokerConfig:
		return "STATIC_BROKER_CONFIG"
	case DefaultConfig:
		return "DEFAULT_CONFIG"
	case BrokerLoggerConfig:
		return "DYNAMIC_BROKER_LOGGER_CONFIG"
	case ClientMetricsConfig:
		return "CLIENT_METRICS_CONFIG"
	case GroupConfig:
		return "GROUP_CONFIG"
	}
	return "UNKNOWN"
}

// Described is one key in an answer to DescribeConfigs.
type Described struct {
	Name      string
	Value     *string // nil: null, or a secret
	Source    ConfigSource
	Sensitive bool
	ReadOnly  bool
	Type      Type
	Doc       string
	Synonyms  []DescribedSynonym // the first one gives the value
	Key       *Key
}

// DescribedSynonym is one place that gives, or would give, a key its value.
type DescribedSynonym struct {
	Name   string
	Value  *string
	Source ConfigSource
}

// Describe answers DescribeConfigs for a topic, a broker, a group or a
// client-metrics subscription: the keys named, or all if names is empty. Keys
// that are internal, or that only some brokers have, are listed where they are
// set. Names that no key has, or that came before, are left out; those that no
// key has and that were set on a broker all the same are shown as secrets.
func Describe(kind Kind, l Layers, names []string) []Described {
	var all []Described
	keys := tableOf(kind).keys
	if len(names) == 0 {
		for i := range keys {
			if !keys[i].Internal || l.isSet(kind, keys[i].Name) {
				all = append(all, l.describe(kind, &keys[i]))
			}
		}
		if kind != KindBroker {
			return all
		}
		names = l.otherKeys()
	}
	said := make(map[string]bool)
	for _, n := range names {
		if said[n] {
			continue
		}
		said[n] = true
		k, ok := Lookup(kind, n)
		switch {
		case ok && (!onlyDynamic[n] || l.isSet(kind, n)):
			all = append(all, l.describe(kind, k))
		case !ok && kind == KindBroker && l.isSet(kind, n):
			all = append(all, l.unknown(n))
		}
	}
	return all
}

// isSet reports whether a key has a value of its own somewhere.
func (l Layers) isSet(kind Kind, name string) bool {
	if kind != KindBroker {
		_, ok := l.Own[name]
		return ok
	}
	_, one := l.DynamicBroker[name]
	_, all := l.DynamicDefault[name]
	return one || all || l.Static != nil && l.Static.Explicit(name)
}

// unknown describes a key that was set on a broker and that this version does
// not know: its value may be anything, a password too.
func (l Layers) unknown(name string) Described {
	d := Described{Name: name, Sensitive: true, ReadOnly: true}
	d.Synonyms = l.chain(&d, []string{name})
	d.Source = d.Synonyms[0].Source
	return d
}

// otherKeys returns the keys that were set and are not in the table: those of
// single listeners, and unknown ones.
func (l Layers) otherKeys() (names []string) {
	add := func(n string) {
		if _, plain := tableOf(KindBroker).byName[n]; !plain {
			names = append(names, n)
		}
	}
	for n := range l.DynamicBroker {
		add(n)
	}
	for n := range l.DynamicDefault {
		add(n)
	}
	if l.Static != nil {
		for n := range l.Static.set {
			add(n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (l Layers) describe(kind Kind, k *Key) Described {
	d := Described{
		Name: k.Name, Type: k.Type, Sensitive: k.Sensitive(), Doc: k.Doc, Key: k,
		ReadOnly: kind == KindBroker && k.Update == ReadOnly,
	}
	if !d.Sensitive {
		// What was accepted resolves; a value that a newer version stored and
		// this one refuses is shown as null.
		d.Value, _, _ = l.resolve(kind, k.Name)
	}
	if v, ok := l.Own[k.Name]; ok && kind != KindBroker {
		d.Synonyms = append(d.Synonyms, d.synonym(k.Name, v, ownSource(kind)))
	}
	if kind == KindBroker {
		d.Synonyms = append(d.Synonyms, l.chain(&d, brokerSynonyms(k.Name))...)
	} else if len(k.Synonyms) > 0 {
		d.Synonyms = append(d.Synonyms, l.chain(&d, brokerSynonyms(k.Synonyms[0].Name))...)
	}
	if kind == KindGroup && len(k.Synonyms) == 0 && k.Default != nil {
		d.Synonyms = append(d.Synonyms, d.synonym(k.Name, *k.Default, DefaultConfig))
	}
	d.Source = DefaultConfig
	if len(d.Synonyms) > 0 {
		d.Source = d.Synonyms[0].Source
	}
	return d
}

func ownSource(kind Kind) ConfigSource {
	switch kind {
	case KindGroup:
		return GroupConfig
	case KindClientMetrics:
		return ClientMetricsConfig
	}
	return TopicConfig
}

func (d *Described) synonym(name, value string, s ConfigSource) DescribedSynonym {
	if d.Sensitive {
		return DescribedSynonym{name, nil, s}
	}
	return DescribedSynonym{name, &value, s}
}

// brokerSynonyms returns a broker key and those that stand in for it when it
// has no value, as log.retention.hours for log.retention.ms.
func brokerSynonyms(name string) []string {
	keys := tableOf(KindTopic).keys
	for i := range keys {
		syn := keys[i].Synonyms
		for j, s := range syn {
			if s.Name != name {
				continue
			}
			var names []string
			for _, s := range syn[j:] {
				names = append(names, s.Name)
			}
			return names
		}
	}
	return []string{name}
}

// chain lists, place by place, the values of a broker key and its stand-ins. As
// in Kafka, stand-ins before the key's own first value are left out.
func (l Layers) chain(d *Described, names []string) (chain []DescribedSynonym) {
	add := func(source ConfigSource, get func(name string) (string, bool)) {
		for _, n := range names {
			if v, ok := get(n); ok && (n == names[0] || len(chain) > 0) {
				chain = append(chain, d.synonym(n, v, source))
			}
		}
	}
	in := func(m map[string]string) func(string) (string, bool) {
		return func(n string) (string, bool) { v, ok := m[n]; return v, ok }
	}
	add(DynamicBrokerConfig, in(l.DynamicBroker))
	add(DynamicDefaultConfig, in(l.DynamicDefault))
	if s := l.Static; s != nil {
		add(StaticBrokerConfig, func(n string) (string, bool) { v, ok := s.set[n]; return v.value, ok })
		add(DefaultConfig, s.fallback)
	} else {
		add(DefaultConfig, (&Static{}).fallback)
	}
	return chain
}
