package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/wire/record"
)

// ignored are producer and consumer keys that say how Java objects become bytes,
// or tune what this client does not have. They are accepted and do nothing.
var ignored = map[string]bool{
	"key.serializer": true, "value.serializer": true, "key.deserializer": true, "value.deserializer": true,
}

// props reads typed values, of keys that were found valid.
type props struct {
	kind config.Kind
	m    map[string]string
	seen map[string]bool
	// others are keys that are none of this kind, and look like none: of another
	// kind of client, of a serializer, of an interceptor.
	others []string
}

// checkProperties validates keys and values. A key that looks like a slip of the
// pen is an error that names the key that was meant.
func checkProperties(kind config.Kind, m map[string]string) (*props, error) {
	p := &props{kind: kind, m: make(map[string]string), seen: make(map[string]bool)}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		err := config.Validate(kind, name, m[name])
		var unknown *config.UnknownKeyError
		if errors.As(err, &unknown) && (!unknown.Typo() || config.OfClient(name)) {
			p.others = append(p.others, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		k, _ := config.Lookup(kind, name)
		v, err := k.Normalize(m[name])
		if err != nil {
			return nil, err
		}
		p.m[name] = v
	}
	return p, nil
}

func (p *props) get(name string) (string, bool) {
	p.seen[name] = true
	v, ok := p.m[name]
	return v, ok
}

// num sets *to; a zero of the key is written as -1, since 0 stands for the
// default in options.
func num[T ~int | ~int64](p *props, name string, to *T) {
	v, ok := p.get(name)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("client: %s is not a number after validation: %v", name, err))
	}
	if *to = T(n); n == 0 {
		*to = -1
	}
}

func (p *props) ms(name string, to *time.Duration) {
	var n int64
	num(p, name, &n)
	switch {
	case n < 0:
		*to = -1
	case n > int64(time.Duration(1<<63-1)/time.Millisecond):
		*to = 1<<63 - 1
	default:
		*to = time.Duration(n) * time.Millisecond
	}
}

func (p *props) yes(name string, def bool) bool {
	v, ok := p.get(name)
	if !ok {
		return def
	}
	return v == "true"
}

func (p *props) common(o *Options) {
	if v, ok := p.get("bootstrap.servers"); ok && v != "" {
		o.BootstrapServers = strings.Split(v, ",")
	}
	o.ClientID, _ = p.get("client.id")
	p.ms("request.timeout.ms", &o.RequestTimeout)
	p.ms("socket.connection.setup.timeout.ms", &o.ConnectTimeout)
	p.ms("connections.max.idle.ms", &o.ConnectionsMaxIdle)
	p.ms("metadata.max.age.ms", &o.MetadataMaxAge)
	p.ms("metadata.max.idle.ms", &o.MetadataMaxIdle)
	p.ms("retry.backoff.ms", &o.RetryBackoff)
	p.ms("retry.backoff.max.ms", &o.RetryBackoffMax)
	p.ms("reconnect.backoff.ms", &o.ReconnectBackoff)
	p.ms("reconnect.backoff.max.ms", &o.ReconnectBackoffMax)
}

// unused returns the keys that were given and do nothing, sorted.
func (p *props) unused() (names []string) {
	for name := range p.m {
		if !p.seen[name] && !ignored[name] {
			names = append(names, name)
		}
	}
	names = append(names, p.others...)
	slices.Sort(names)
	return names
}

// refuse fails where ignoring a key would send records in the clear or
// without their transaction.
func (p *props) refuse(names ...string) error {
	for _, name := range names {
		v, ok := p.get(name)
		if ok && v != "" && !strings.EqualFold(v, "PLAINTEXT") {
			return fmt.Errorf("%w: %s=%s is not supported yet", ErrConfig, name, v)
		}
	}
	return nil
}

// ConfigFromProperties makes producer options of Kafka's keys. A key that is close
// to a known one is an error that names it. unused are the keys that this producer
// does not act on: known ones, and those of others, such as serializers.
func ConfigFromProperties(m map[string]string) (o ProducerOptions, unused []string, err error) {
	p, err := checkProperties(config.KindProducer, m)
	if err != nil {
		return o, nil, err
	}
	if err := p.refuse("security.protocol", "transactional.id"); err != nil {
		return o, nil, err
	}
	p.common(&o.Options)
	acks, _ := p.get("acks")
	o.Acks = map[string]Acks{"": AcksAll, "all": AcksAll, "-1": AcksAll, "1": AcksLeader, "0": AcksNone}[acks]
	if v, ok := p.get("enable.idempotence"); ok {
		o.Idempotence = map[string]Toggle{"true": On, "false": Off}[v]
	}
	if v, ok := p.get("compression.type"); ok {
		if o.Compression, err = record.ParseCodec(v); err != nil {
			return o, nil, err
		}
	}
	for _, c := range []record.Codec{record.Gzip, record.LZ4, record.Zstd} {
		name := "compression." + c.String() + ".level"
		if v, ok := p.get(name); ok && o.Compression == c {
			if o.CompressionLevel, err = strconv.Atoi(v); err != nil {
				return o, nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	num(p, "batch.size", &o.BatchSize)
	p.ms("linger.ms", &o.Linger)
	num(p, "buffer.memory", &o.BufferMemory)
	p.ms("max.block.ms", &o.MaxBlock)
	num(p, "max.request.size", &o.MaxRequestSize)
	num(p, "max.in.flight.requests.per.connection", &o.MaxInFlight)
	p.ms("delivery.timeout.ms", &o.DeliveryTimeout)
	num(p, "retries", &o.Retries)
	o.IgnoreKeys = p.yes("partitioner.ignore.keys", false)
	o.NoAdaptivePartitions = !p.yes("partitioner.adaptive.partitioning.enable", true)
	p.ms("partitioner.availability.timeout.ms", &o.AvailabilityTimeout)
	checked := o.withDefaults()
	return o, p.unused(), checked.validate()
}

// ConsumerConfigFromProperties makes consumer options of Kafka's keys, as
// ConfigFromProperties does.
func ConsumerConfigFromProperties(m map[string]string) (o ConsumerOptions, unused []string, err error) {
	p, err := checkProperties(config.KindConsumer, m)
	if err != nil {
		return o, nil, err
	}
	if err := p.refuse("security.protocol"); err != nil {
		return o, nil, err
	}
	if v, _ := p.get("group.protocol"); strings.EqualFold(v, "consumer") {
		return o, nil, fmt.Errorf("%w: group.protocol=consumer is not supported yet", ErrConfig)
	}
	p.common(&o.Options)
	o.Group, _ = p.get("group.id")
	o.InstanceID, _ = p.get("group.instance.id")
	o.Rack, _ = p.get("client.rack")
	if o.Assignors, err = assignors(p); err != nil {
		return o, nil, err
	}
	reset, _ := p.get("auto.offset.reset")
	if d, ok := strings.CutPrefix(reset, "by_duration:"); ok {
		age, err := config.ParseISODuration(d)
		if err != nil {
			return o, nil, err
		}
		at := AtAge(age)
		o.ResetTo = &at
	}
	o.Reset = map[string]Reset{"earliest": ResetEarliest, "none": ResetNone}[reset]
	isolation, _ := p.get("isolation.level")
	o.ReadCommitted = isolation == "read_committed"
	o.NoAutoCommit = !p.yes("enable.auto.commit", true)
	p.ms("auto.commit.interval.ms", &o.AutoCommitEvery)
	p.ms("session.timeout.ms", &o.SessionTimeout)
	p.ms("heartbeat.interval.ms", &o.HeartbeatInterval)
	p.ms("max.poll.interval.ms", &o.MaxPollInterval)
	num(p, "max.poll.records", &o.MaxPollRecords)
	num(p, "fetch.min.bytes", &o.FetchMinBytes)
	num(p, "fetch.max.bytes", &o.FetchMaxBytes)
	p.ms("fetch.max.wait.ms", &o.FetchMaxWait)
	num(p, "max.partition.fetch.bytes", &o.PartitionMaxBytes)
	o.NoCheckCRCs = !p.yes("check.crcs", true)
	o.NoAutoCreateTopics = !p.yes("allow.auto.create.topics", true)
	checked := o.withDefaults()
	return o, p.unused(), checked.validate()
}

// assignors reads partition.assignment.strategy: names, or Kafka's class names.
func assignors(p *props) (all []Assignor, err error) {
	v, ok := p.get("partition.assignment.strategy")
	if !ok || v == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(v, ",") {
		switch short := strings.TrimPrefix(name, "org.apache.kafka.clients.consumer."); short {
		case "RangeAssignor", string(Range):
			all = append(all, Range)
		case "StickyAssignor", string(Sticky):
			all = append(all, Sticky)
		default:
			return nil, fmt.Errorf("%w: partition.assignment.strategy %s: there are range and sticky", ErrConfig, name)
		}
	}
	return all, nil
}

// AdminConfigFromProperties makes admin options of Kafka's keys, as
// ConfigFromProperties does.
func AdminConfigFromProperties(m map[string]string) (o AdminOptions, unused []string, err error) {
	p, err := checkProperties(config.KindAdmin, m)
	if err != nil {
		return o, nil, err
	}
	if err := p.refuse("security.protocol"); err != nil {
		return o, nil, err
	}
	p.common(&o.Options)
	p.ms("default.api.timeout.ms", &o.APITimeout)
	num(p, "retries", &o.Retries)
	return o, p.unused(), nil
}
