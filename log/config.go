package log

import (
	"math"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/klamm-io/klamm/wire/record"
)

// Config is the part of a topic's configuration that its logs obey. Zero values
// mean Kafka's defaults.
type Config struct {
	SegmentBytes       int64         // roll before a segment exceeds this; 0 means 1 GiB (segment.bytes)
	SegmentAge         time.Duration // roll after this much time between first and next timestamp; 0 means 7 days (segment.ms)
	SegmentJitter      time.Duration // taken off SegmentAge (segment.jitter.ms, already drawn)
	SegmentIndexBytes  int           // roll when an index reaches this; 0 means 10 MiB (segment.index.bytes)
	IndexIntervalBytes int           // 0 means 4096 (index.interval.bytes)
	MaxMessageBytes    int           // largest batch; 0 means 1048588 (max.message.bytes)

	Compact       bool // cleanup.policy contains compact: keys must not be null
	LogAppendTime bool // message.timestamp.type
	// Accepted distance of create times from now; 0 means no bound for the past
	// and one hour for the future (message.timestamp.before.max.ms, .after.max.ms).
	TimestampBeforeMax, TimestampAfterMax time.Duration

	// Compression is compression.type: "" or "producer" keeps what producers
	// send, any other name recompresses.
	Compression      string
	CompressionLevel int // of that codec; 0 means its default (compression.*.level)

	FlushMessages int64         // fsync after this many records; 0 leaves it to the OS (flush.messages)
	FlushInterval time.Duration // the owner calls Flush so often; 0 leaves it to the OS (flush.ms)

	Delete          bool          // cleanup.policy contains delete: Retain obeys the next two
	Retention       time.Duration // remove segments whose records are all older; 0 keeps them (retention.ms)
	RetentionBytes  int64         // remove the oldest segments while the rest has as many; 1 keeps none, 0 all (retention.bytes)
	FileDeleteDelay time.Duration // between taking a segment out and removing its files; 0 means 1 minute (file.delete.delay.ms)
	Preallocate     bool          // reserve SegmentBytes on disk for a new segment (preallocate)

	DirtyRatio       float64       // compact when this share of the log is not; 0 means 0.5, NaN never (min.cleanable.dirty.ratio)
	MinCompactionLag time.Duration // leave younger records alone (min.compaction.lag.ms)
	MaxCompactionLag time.Duration // compact records that are older whatever the ratio; 0 means never (max.compaction.lag.ms)
	DeleteRetention  time.Duration // how long tombstones stay after they were compacted; 0 means 1 day (delete.retention.ms)
}

func orDefault[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.SegmentBytes, 1<<30)
	c.SegmentBytes = min(c.SegmentBytes, math.MaxInt32)
	orDefault(&c.SegmentAge, 7*24*time.Hour)
	orDefault(&c.SegmentIndexBytes, 10<<20)
	orDefault(&c.IndexIntervalBytes, 4096)
	orDefault(&c.MaxMessageBytes, 1048588)
	orDefault(&c.TimestampBeforeMax, math.MaxInt64)
	orDefault(&c.TimestampAfterMax, time.Hour)
	orDefault(&c.FileDeleteDelay, time.Minute)
	orDefault(&c.MaxCompactionLag, math.MaxInt64)
	orDefault(&c.DeleteRetention, 24*time.Hour)
	orDefault(&c.DirtyRatio, 0.5)
	if math.IsNaN(c.DirtyRatio) {
		c.DirtyRatio = math.Inf(1) // no ratio is above it, as of NaN
	}
	return c
}

// configs holds one copy of each configuration that is in use. Thousands of
// partitions mostly have few: that saves memory, and the writer's cache.
var configs = struct {
	sync.Mutex
	m map[Config]weak.Pointer[Config]
}{m: make(map[Config]weak.Pointer[Config])}

// shared returns the copy of c that all logs share.
func shared(c Config) *Config {
	configs.Lock()
	defer configs.Unlock()
	if p := configs.m[c].Value(); p != nil {
		return p
	}
	p := &c
	configs.m[c] = weak.Make(p)
	runtime.AddCleanup(p, func(c Config) {
		configs.Lock()
		defer configs.Unlock()
		if configs.m[c].Value() == nil { // nobody has made it again
			delete(configs.m, c)
		}
	}, c)
	return p
}

// codec returns the codec that a batch compressed with from is stored in.
func (c *Config) codec(from record.Codec) (record.Codec, error) {
	if c.Compression == "" || c.Compression == "producer" {
		return from, nil
	}
	return record.ParseCodec(c.Compression)
}

func (c *Config) level(codec record.Codec) int {
	if c.CompressionLevel != 0 {
		return c.CompressionLevel
	}
	return codec.DefaultLevel()
}
