package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// Topic is the configuration of a topic with everything resolved: its own keys,
// else the broker's, else the defaults. The key of a field stands beside it.
type Topic struct {
	Compact bool // cleanup.policy holds compact
	Delete  bool // cleanup.policy holds delete

	CompressionType string // compression.type
	GzipLevel       int    // compression.gzip.level
	LZ4Level        int    // compression.lz4.level
	ZstdLevel       int    // compression.zstd.level

	SegmentBytes       int           // segment.bytes, or internal.segment.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration // segment.jitter.ms
	SegmentIndexBytes  int           // segment.index.bytes
	IndexIntervalBytes int           // index.interval.bytes
	Preallocate        bool          // preallocate

	FlushMessages   int64         // flush.messages; math.MaxInt64 leaves it to the system
	FlushInterval   time.Duration // flush.ms; math.MaxInt64 leaves it to the system
	FileDeleteDelay time.Duration // file.delete.delay.ms

	RetentionBytes int64         // retention.bytes; -1 means no limit
	Retention      time.Duration // retention.ms; negative means forever

	MaxMessageBytes   int           // max.message.bytes
	MinInsyncReplicas int           // min.insync.replicas
	LogAppendTime     bool          // message.timestamp.type
	TimestampBefore   time.Duration // message.timestamp.before.max.ms
	TimestampAfter    time.Duration // message.timestamp.after.max.ms

	DeleteRetention        time.Duration // delete.retention.ms
	MinCompactionLag       time.Duration // min.compaction.lag.ms
	MaxCompactionLag       time.Duration // max.compaction.lag.ms
	MinCleanableDirtyRatio float64       // min.cleanable.dirty.ratio

	UncleanLeaderElection bool     // unclean.leader.election.enable
	LeaderThrottled       []string // leader.replication.throttled.replicas
	FollowerThrottled     []string // follower.replication.throttled.replicas

	RemoteStorage         bool          // remote.storage.enable
	RemoteCopyDisable     bool          // remote.log.copy.disable
	RemoteDeleteOnDisable bool          // remote.log.delete.on.disable
	LocalRetentionBytes   int64         // local.retention.bytes; -2 means RetentionBytes
	LocalRetention        time.Duration // local.retention.ms; -2 ms means Retention
}

// Layers are the places where a value can come from, the dynamic ones as the
// cluster's metadata holds them.
type Layers struct {
	Own            map[string]string // of the topic, group or client-metrics resource
	DynamicBroker  map[string]string // of this broker
	DynamicDefault map[string]string // of all brokers
	Static         *Static           // nil means defaults
}

// TopicFrom resolves a topic's configuration. The error says which key, or
// which two, are wrong.
func TopicFrom(topicOverrides, dynamicBroker, dynamicDefault map[string]string, static *Static) (Topic, error) {
	l := Layers{topicOverrides, dynamicBroker, dynamicDefault, static}
	names := slices.Sorted(maps.Keys(topicOverrides))
	for _, name := range names {
		if _, ok := Lookup(KindTopic, name); !ok {
			return Topic{}, unknown(KindTopic, name)
		}
	}
	for _, name := range names {
		if err := Validate(KindTopic, name, topicOverrides[name]); err != nil {
			return Topic{}, err
		}
	}
	r := resolver{l: l, kind: KindTopic}
	policy := splitList(r.str("cleanup.policy"))
	t := Topic{
		Compact: slices.Contains(policy, "compact"),
		Delete:  slices.Contains(policy, "delete"),

		CompressionType: r.str("compression.type"),
		GzipLevel:       r.int("compression.gzip.level"),
		LZ4Level:        r.int("compression.lz4.level"),
		ZstdLevel:       r.int("compression.zstd.level"),

		SegmentBytes:       r.int("segment.bytes"),
		SegmentAge:         r.ms("segment.ms"),
		SegmentJitter:      r.ms("segment.jitter.ms"),
		SegmentIndexBytes:  r.int("segment.index.bytes"),
		IndexIntervalBytes: r.int("index.interval.bytes"),
		Preallocate:        r.bool("preallocate"),

		FlushMessages:   r.long("flush.messages"),
		FlushInterval:   r.ms("flush.ms"),
		FileDeleteDelay: r.ms("file.delete.delay.ms"),

		RetentionBytes: r.long("retention.bytes"),
		Retention:      r.ms("retention.ms"),

		MaxMessageBytes:   r.int("max.message.bytes"),
		MinInsyncReplicas: r.int("min.insync.replicas"),
		LogAppendTime:     r.str("message.timestamp.type") == "LogAppendTime",
		TimestampBefore:   r.ms("message.timestamp.before.max.ms"),
		TimestampAfter:    r.ms("message.timestamp.after.max.ms"),

		DeleteRetention:        r.ms("delete.retention.ms"),
		MinCompactionLag:       r.ms("min.compaction.lag.ms"),
		MaxCompactionLag:       r.ms("max.compaction.lag.ms"),
		MinCleanableDirtyRatio: r.double("min.cleanable.dirty.ratio"),

		UncleanLeaderElection: r.bool("unclean.leader.election.enable"),
		LeaderThrottled:       splitList(r.str("leader.replication.throttled.replicas")),
		FollowerThrottled:     splitList(r.str("follower.replication.throttled.replicas")),

		RemoteStorage:         r.bool("remote.storage.enable"),
		RemoteCopyDisable:     r.bool("remote.log.copy.disable"),
		RemoteDeleteOnDisable: r.bool("remote.log.delete.on.disable"),
		LocalRetentionBytes:   r.long("local.retention.bytes"),
		LocalRetention:        r.ms("local.retention.ms"),
	}
	if small := r.long("internal.segment.bytes"); small > 0 {
		t.SegmentBytes = int(small)
	}
	return t, errors.Join(r.err, t.validate())
}

// ClashError says which two keys do not go together, in Kafka's words.
type ClashError struct{ what string }

// Error implements error.
func (e *ClashError) Error() string { return e.what }

// Unwrap returns ErrInvalid.
func (e *ClashError) Unwrap() error { return ErrInvalid }

// validate checks what single keys cannot.
func (t *Topic) validate() error {
	if t.MinCompactionLag > t.MaxCompactionLag {
		return &ClashError{fmt.Sprintf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", t.MinCompactionLag.Milliseconds(), t.MaxCompactionLag.Milliseconds())}
	}
	if !t.RemoteStorage {
		return nil
	}
	switch {
	case t.Compact:
		return fmt.Errorf("%w: remote.storage.enable with a cleanup.policy of compact", ErrInvalid)
	case t.LocalRetention >= 0 && t.Retention >= 0 && t.LocalRetention > t.Retention:
		return fmt.Errorf("%w: local.retention.ms (%v) is more than retention.ms (%v)", ErrInvalid, t.LocalRetention, t.Retention)
	case t.LocalRetentionBytes >= 0 && t.RetentionBytes >= 0 && t.LocalRetentionBytes > t.RetentionBytes:
		return fmt.Errorf("%w: local.retention.bytes (%d) is more than retention.bytes (%d)", ErrInvalid, t.LocalRetentionBytes, t.RetentionBytes)
	}
	return nil
}

// resolver reads typed values of keys and latches the first error.
type resolver struct {
	l    Layers
	kind Kind
	err  error
}

func (r *resolver) str(name string) string {
	v, _, err := r.l.resolve(r.kind, name)
	if err != nil && r.err == nil {
		r.err = err
	}
	if v == nil {
		return ""
	}
	return *v
}

func (r *resolver) long(name string) int64 {
	v := r.str(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%w %q for %s", ErrInvalid, v, name)
	}
	return n
}

func (r *resolver) int(name string) int          { return int(r.long(name)) }
func (r *resolver) ms(name string) time.Duration { return millis(r.long(name)) }
func (r *resolver) bool(name string) bool        { return r.str(name) == "true" }

func (r *resolver) double(name string) float64 {
	f, err := strconv.ParseFloat(r.str(name), 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return f
}

// resolve returns the effective value of a key, nil for null, and whether it is
// the key's own.
func (l Layers) resolve(kind Kind, name string) (value *string, own bool, err error) {
	k, ok := Lookup(kind, name)
	if !ok {
		return nil, false, unknown(kind, name)
	}
	if v, ok := l.Own[name]; ok && kind != KindBroker {
		v, err := k.Normalize(v)
		return &v, true, err
	}
	if kind == KindBroker {
		v, err := l.brokerValue(k)
		return v, false, err
	}
	for _, s := range k.Synonyms {
		bk, ok := Lookup(KindBroker, s.Name)
		if !ok {
			continue
		}
		v, err := l.brokerValue(bk)
		if err != nil {
			return nil, false, err
		}
		if v == nil {
			continue
		}
		if s.Factor != 1 {
			*v = times(*v, s.Factor)
		}
		if name == "retention.ms" && len(*v) > 0 && (*v)[0] == '-' {
			*v = "-1" // any negative time of the broker means forever
		}
		return v, false, nil
	}
	if k.Default == nil {
		return nil, false, nil
	}
	v := *k.Default
	return &v, false, nil
}

// times multiplies a number, up to the largest int64.
func times(v string, factor int64) string {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return v // the table's tests hold that only numbers have factors
	}
	if n > math.MaxInt64/factor {
		return strconv.FormatInt(math.MaxInt64, 10)
	}
	return strconv.FormatInt(n*factor, 10)
}

// ReplicationRate returns a rate of throttled replicas (leader.replication.throttled.rate,
// follower.replication.throttled.rate) of the broker, in bytes per second; +Inf if none is set.
func (l Layers) ReplicationRate(name string) (float64, error) {
	k, _ := Lookup(KindBroker, name)
	v, err := l.brokerValue(k)
	if err != nil || v == nil {
		return math.Inf(1), err
	}
	return strconv.ParseFloat(*v, 64)
}

// brokerValue returns the effective value of a broker key.
func (l Layers) brokerValue(k *Key) (*string, error) {
	for _, m := range []map[string]string{l.DynamicBroker, l.DynamicDefault} {
		if v, ok := m[k.Name]; ok {
			v, err := k.Normalize(v)
			return &v, err
		}
	}
	if l.Static == nil {
		if k.Default == nil {
			return nil, nil
		}
		v := *k.Default
		return &v, nil
	}
	v, _, ok := l.Static.Get(k.Name)
	if !ok {
		return nil, nil
	}
	return &v, nil
}
