package replication

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// Options says how the replicas of a broker are opened.
type Options struct {
	NodeID   int32       // of this broker
	FS       vfs.FS      // that Dirs are in
	Dirs     []*dirs.Dir // open and locked; the caller unlocks them after Close
	Broker   *config.Broker
	Static   *config.Static // what topics inherit
	Clock    clock.Clock
	Logger   *zap.Logger
	Fetching Fetching // how it copies what other brokers lead
	// Alter asks the controller for other in-sync sets. It may be nil where there are no
	// other brokers.
	Alter func(context.Context, control.AlterPartitionsRequest) (control.AlterPartitionsResult, error)
	// Place tells the controller which log directories have replicas. It may be nil where
	// nobody asks.
	Place func(ctx context.Context, broker int32, epoch int64, all []control.DirAssignment) ([]error, error)
	// Lease says whether it may lead; nil for ever.
	Lease *Lease
	// Flushing, if not nil, is called when a topic gets a flush.ms: FlushEvery may
	// say something else then.
	Flushing func()
	// Became, if not nil, is called when a partition has been given a role, and Ended
	// when this broker no longer holds it; in order for each partition. What the
	// metadata say next of it waits for the call.
	Became, Ended func(*Partition)
	// Progress, if not nil, is notified from time to time while Start opens
	// partitions. It is called by several goroutines.
	Progress func(Progress)

	// inline has everything done by the goroutine that asks for it, one thing after the
	// other, and nobody send what is proposed: a simulation decides what happens when.
	inline bool
}

// Progress is how far the opening of partitions has come.
type Progress struct {
	Opened, Total int   // partitions
	Checked       int64 // bytes of batches, after an unclean stop
}

// Replicas are the partitions that this broker holds. They follow the metadata:
// [Replicas.Apply] creates, changes and deletes them. The calls come in this order: Start,
// Apply for each update after the image that Start got, StopCleaning, Close. All else may
// be called by any goroutine in between.
//
// Invariants:
//   - A partition is here if the newest image that was followed names this broker among its
//     replicas, its directory is well and its log could be opened.
//   - What the metadata ask of one partition is done in the order of the entries, one piece
//     of work at a time.
//   - A topic that is created again under its old name never gets the records of the old
//     one: directories go by the topic's id.
type Replicas struct {
	o  Options
	lg *zap.Logger

	// byName and byID hold topics. They are read on every request and change
	// with the metadata only, so each change replaces the map's value for one
	// topic.
	byName sync.Map // string -> *replicatedTopic
	byID   sync.Map // prim.UUID -> *replicatedTopic

	// mu is held by Apply, and by Start and Close for a moment.
	mu   sync.Mutex
	live bool // metadata are followed

	jobs    *jobs
	workers chan struct{} // holds one for each partition that a job works on
	started bool          // every partition that was there is open, or stays as it is; written before any job begins

	foundMu sync.Mutex
	found   map[string]*dirs.Dir // partition directories that were there at the start, until their topic is deleted

	choosing   sync.Mutex // held while a directory for one more partition is looked for
	trash      *dirs.Trash
	background *dirs.Workers
	syncs      chan struct{} // holds one for each log that is synced for its producers
	fetchers   *fetchers
	proposals  *proposals
	throttles  throttles
	placements *placements
	cleaner    *dirs.Cleaner[*Partition]
	retention  *dirs.Retention
	count      atomic.Int64  // of partitions
	sum        atomic.Uint64 // of the offsets at the last checkpoint
}

// NewReplicas returns replicas that hold nothing until Start.
func NewReplicas(o Options) *Replicas {
	r := &Replicas{o: o, lg: o.Logger.Named("replicas")}
	r.fetchers, r.proposals, r.placements = newFetchers(r), newProposals(&r.o, r.lg), newPlacements(&r.o, r.lg)
	r.throttles = throttles{newThrottle(o.Broker), newThrottle(o.Broker)}
	r.cleaner = dirs.NewCleaner(r.Each, o.Clock, r.lg)
	r.retention = dirs.NewRetention(o.Clock.Now(), r.lg)
	r.trash = dirs.NewTrash(o.FS, o.Clock, r.lg)
	r.background = dirs.NewWorkers(o.Broker.BackgroundThreads, r.lg)
	r.syncs = make(chan struct{}, syncers)
	r.jobs, r.workers = newJobs(), make(chan struct{}, syncers)
	r.jobs.inline = o.inline
	for _, d := range o.Dirs {
		d.Fault().Watch(func(err error) {
			r.lg.Error("log directory is offline", zap.String("dir", d.Path), zap.Error(err))
			r.background.Do(func() { r.offline(d) })
		})
	}
	return r
}

// offline answers those who wait for partitions of a directory that has failed.
func (r *Replicas) offline(d *dirs.Dir) {
	r.Each(func(p *Partition) bool {
		if p.Dir == d {
			p.fail(kerr.KafkaStorageError)
		}
		return true
	})
}

// Get returns a partition by topic name, or nil if this broker does not hold it.
func (r *Replicas) Get(topic string, index int32) *Partition {
	if s := r.slot(topic, index); s != nil {
		return s.partition.Load()
	}
	return nil
}

func (r *Replicas) slot(topic string, index int32) *slot {
	t, ok := r.byName.Load(topic)
	if !ok {
		return nil
	}
	return t.(*replicatedTopic).get(index)
}

// GetByID returns a partition by topic id, or nil.
func (r *Replicas) GetByID(id prim.UUID, index int32) *Partition {
	t, ok := r.byID.Load(id)
	if !ok {
		return nil
	}
	if s := t.(*replicatedTopic).get(index); s != nil {
		return s.partition.Load()
	}
	return nil
}

// Offline reports whether the log of a partition that this broker is to hold
// cannot be used. One that is about to be opened is not offline.
func (r *Replicas) Offline(topic string, index int32) bool {
	s := r.slot(topic, index)
	if s == nil {
		return false
	}
	p := s.partition.Load()
	return p == nil && s.failed.Load() || p != nil && p.log.Err() != nil
}

// Each calls f for every partition until it returns false.
func (r *Replicas) Each(f func(*Partition) bool) {
	r.byName.Range(func(_, v any) bool {
		for _, s := range v.(*replicatedTopic).slots {
			if p := s.partition.Load(); p != nil && !f(p) {
				return false
			}
		}
		return true
	})
}

// Count returns the number of partitions.
func (r *Replicas) Count() int { return int(r.count.Load()) }

// TopicConfig resolves the configuration of a topic.
func (r *Replicas) TopicConfig(image *meta.Image, topic string) (config.Topic, error) {
	b := r.brokerConfig(image)
	return config.TopicFrom(image.Config(meta.Resource{Type: meta.TopicResource, Name: topic}), b.DynamicBroker, b.DynamicDefault, b.Static)
}

// brokerConfig returns where the values of this broker come from.
func (r *Replicas) brokerConfig(image *meta.Image) config.Layers {
	return config.Layers{DynamicBroker: image.Config(meta.Resource{Type: meta.BrokerResource, Name: strconv.Itoa(int(r.o.NodeID))}),
		DynamicDefault: image.Config(meta.Resource{Type: meta.BrokerResource}), Static: r.o.Static}
}

// LogConfig returns what a log needs of a topic's configuration.
func LogConfig(t *config.Topic) log.Config {
	levels := map[string]int{"gzip": t.GzipLevel, "lz4": t.LZ4Level, "zstd": t.ZstdLevel}
	compression := t.CompressionType
	if compression == "uncompressed" {
		compression = "none"
	}
	jitter := t.SegmentJitter
	if jitter > 0 {
		jitter = time.Duration(rand.Int64N(int64(jitter)))
	}
	flushMessages, flushInterval := t.FlushMessages, t.FlushInterval
	if flushMessages == math.MaxInt64 {
		flushMessages = 0
	}
	if flushInterval == math.MaxInt64 {
		flushInterval = 0
	}
	return log.Config{
		SegmentBytes: int64(t.SegmentBytes), SegmentAge: t.SegmentAge, SegmentJitter: jitter,
		IndexIntervalBytes: t.IndexIntervalBytes, SegmentIndexBytes: t.SegmentIndexBytes, MaxMessageBytes: max(t.MaxMessageBytes, 1),
		Compact: t.Compact, LogAppendTime: t.LogAppendTime, TimestampBeforeMax: t.TimestampBefore, TimestampAfterMax: t.TimestampAfter,
		Compression: compression, CompressionLevel: levels[compression],
		FlushMessages: flushMessages, FlushInterval: flushInterval,
		Delete: t.Delete, Retention: kept(t.Retention), RetentionBytes: kept(t.RetentionBytes), FileDeleteDelay: max(t.FileDeleteDelay, 1), Preallocate: t.Preallocate,
		DirtyRatio: max(t.MinCleanableDirtyRatio, 1e-12), MinCompactionLag: t.MinCompactionLag, MaxCompactionLag: t.MaxCompactionLag, DeleteRetention: max(t.DeleteRetention, 1),
	}
}

// kept is a limit of retention as a log has it, where 0 means none.
func kept[T ~int64](limit T) T {
	switch {
	case limit < 0:
		return 0
	case limit == 0:
		return 1 // the least
	}
	return limit
}

// Missing returns why this broker has no replica to answer from, as the code
// that a client is sent: the topic or partition does not exist, is led
// elsewhere, or its log cannot be opened.
func (r *Replicas) Missing(image *meta.Image, topic string, index int32) error {
	p := image.Partition(topic, index)
	switch {
	case p == nil:
		return kerr.UnknownTopicOrPartition
	case !slices.Contains(p.Replicas, r.o.NodeID):
		return kerr.NotLeaderOrFollower
	}
	if s := r.slot(topic, index); s == nil || !s.failed.Load() {
		return kerr.NotLeaderOrFollower // it is about to be opened
	}
	return kerr.KafkaStorageError
}
