package replication

import (
	"errors"
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
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// Options says how the replicas of a broker are opened.
type Options struct {
	NodeID int32
	FS     vfs.FS
	Dirs   []*Dir
	Broker *config.Broker
	Static *config.Static
	Clock  clock.Clock
	Logger *zap.Logger
	// Flushing, if not nil, is called when a topic gets a flush.ms: FlushEvery may
	// say something else then.
	Flushing func()
	// Progress, if not nil, is told from time to time while Start opens
	// partitions. It is called by several goroutines.
	Progress func(Progress)
}

// Progress is how far the opening of partitions has come.
type Progress struct {
	Opened, Total int   // partitions
	Checked       int64 // bytes of batches, after an unclean stop
}

// Replicas are the partitions that this broker holds. They follow the metadata:
// [Replicas.Apply] creates, changes and deletes them.
type Replicas struct {
	o  Options
	lg *zap.Logger

	// byName and byID hold topics. They are read on every request and change
	// with the metadata only, so each change replaces the map's value for one
	// topic.
	byName sync.Map // string -> *replicatedTopic
	byID   sync.Map // prim.UUID -> *replicatedTopic

	// mu is held while the metadata is followed: by Start, Apply and Close, one
	// at a time.
	mu      sync.Mutex
	live    bool
	started bool            // every partition that was there is open, or stays as it is
	found   map[string]*Dir // partition directories that were there at the start, until their topic is deleted

	trash      *trash
	background background
	syncs      chan struct{} // holds one for each log that is synced for its producers
	cleaner    *cleaner
	steady     steadyClock   // Retain's
	began      time.Time     // by the clock
	count      atomic.Int64  // of partitions
	sum        atomic.Uint64 // of the offsets at the last checkpoint
}

// replicatedTopic holds this broker's partitions of a topic, by index; nil
// where another broker holds them.
type replicatedTopic struct {
	name       string
	id         prim.UUID
	partitions []*Partition
}

// NewReplicas returns replicas that hold nothing until Start.
func NewReplicas(o Options) *Replicas {
	r := &Replicas{o: o, lg: o.Logger.Named("replicas"), began: o.Clock.Now()}
	r.cleaner = newCleaner(r)
	r.trash = newTrash(o.FS, o.Clock, r.lg)
	r.background.threads, r.background.lg = max(1, o.Broker.BackgroundThreads), r.lg
	r.syncs = make(chan struct{}, syncers)
	for _, d := range o.Dirs {
		d.fault.Watch(func(err error) {
			r.lg.Error("log directory is offline", zap.String("dir", d.Path), zap.Error(err))
			r.background.do(func() { r.offline(d) })
		})
	}
	return r
}

// offline answers those who wait for partitions of a directory that has failed.
func (r *Replicas) offline(d *Dir) {
	r.Each(func(p *Partition) bool {
		if p.Dir == d {
			p.fail(kerr.KafkaStorageError)
		}
		return true
	})
}

// Get returns a partition by topic name, or nil if this broker does not hold it.
func (r *Replicas) Get(topic string, index int32) *Partition {
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
	return t.(*replicatedTopic).get(index)
}

func (t *replicatedTopic) get(index int32) *Partition {
	if index < 0 || int(index) >= len(t.partitions) {
		return nil
	}
	return t.partitions[index]
}

// Offline reports whether the log of a partition that this broker is to hold
// cannot be used.
func (r *Replicas) Offline(topic string, index int32) bool {
	p := r.Get(topic, index)
	return p == nil || p.log.Err() != nil
}

// Each calls f for every partition until it returns false.
func (r *Replicas) Each(f func(*Partition) bool) {
	r.byName.Range(func(_, v any) bool {
		for _, p := range v.(*replicatedTopic).partitions {
			if p != nil && !f(p) {
				return false
			}
		}
		return true
	})
}

// Count returns the number of partitions.
func (r *Replicas) Count() int { return int(r.count.Load()) }

// Apply follows a change of the metadata. It is called in order.
func (r *Replicas) Apply(old, image *meta.Image, delta meta.Delta) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return
	}
	for _, t := range delta.Deleted {
		r.remove(t, old)
	}
	for id := range delta.Topics {
		if err := r.follow(image.TopicByID(id), image, syncers); err != nil {
			r.lg.Error("cannot follow the metadata of a topic", zap.String("topic", image.TopicByID(id).Name), zap.Error(err))
		}
	}
	r.reconfigure(image, delta)
}

// reconfigure hands changed configs to the logs.
func (r *Replicas) reconfigure(image *meta.Image, delta meta.Delta) {
	all := false
	for res := range delta.Configs {
		switch res.Type {
		case meta.TopicResource:
			if t, ok := r.byName.Load(res.Name); ok {
				r.configure(t.(*replicatedTopic), image)
			}
		case meta.BrokerResource:
			all = true
		}
	}
	if all {
		r.byName.Range(func(_, t any) bool {
			r.configure(t.(*replicatedTopic), image)
			return true
		})
	}
}

func (r *Replicas) configure(t *replicatedTopic, image *meta.Image) {
	c, err := r.TopicConfig(image, t.name)
	if err != nil {
		r.lg.Error("topic config does not resolve, the old one stays", zap.String("topic", t.name), zap.Error(err))
		return
	}
	for _, p := range t.partitions {
		if p != nil {
			p.log.SetConfig(LogConfig(&c))
			p.setMinISR(c.MinInsyncReplicas)
		}
	}
	r.flushes(&c)
}

// flushes tells of a topic with a flush.ms.
func (r *Replicas) flushes(c *config.Topic) {
	if r.o.Flushing != nil && LogConfig(c).FlushInterval > 0 {
		r.o.Flushing()
	}
}

// TopicConfig resolves the configuration of a topic.
func (r *Replicas) TopicConfig(image *meta.Image, topic string) (config.Topic, error) {
	return config.TopicFrom(
		image.Config(meta.Resource{Type: meta.TopicResource, Name: topic}),
		image.Config(meta.Resource{Type: meta.BrokerResource, Name: strconv.Itoa(int(r.o.NodeID))}),
		image.Config(meta.Resource{Type: meta.BrokerResource}),
		r.o.Static)
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

// syncers is how many logs are opened or closed at once where that is a matter of
// syncing files rather than of reading them: the file system does several syncs
// for little more than one.
const syncers = 32

// follow opens the partitions of a topic that this broker holds and is missing,
// workers at a time, and tells the others what changed.
func (r *Replicas) follow(t *meta.Topic, image *meta.Image, workers int) error {
	var old []*Partition
	if v, ok := r.byName.Load(t.Name); ok {
		old = v.(*replicatedTopic).partitions
	}
	c, err := r.TopicConfig(image, t.Name)
	if err != nil {
		return err
	}
	next := &replicatedTopic{name: t.Name, id: t.ID, partitions: make([]*Partition, len(t.Partitions))}
	copy(next.partitions, old)
	var names []string // of partitions that are missing
	for i, p := range next.partitions {
		if p == nil {
			names = append(names, dirName(t.Name, int32(i)))
		}
	}
	failed := r.checkpointGone(names)
	var mu sync.Mutex            // guards failed and fresh
	fresh := make(map[*Dir]bool) // directories that have got a partition
	inParallel(len(t.Partitions), workers, func(i int) {
		m := t.Partitions[i]
		if !slices.Contains(m.Replicas, r.o.NodeID) {
			return
		}
		p := next.partitions[i]
		var err error
		if p == nil {
			if p, err = r.open(t, int32(i), &c, nil); err == nil {
				next.partitions[i] = p
				r.count.Add(1)
				mu.Lock()
				fresh[p.Dir] = true
				mu.Unlock()
			}
		}
		if err == nil {
			err = caught(r.lg, "apply", func() error { return p.apply(m, (*log.Log).AssignEpoch) })
		}
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
	})
	for d := range fresh {
		if err := r.o.FS.SyncDir(d.Path); err != nil {
			failed = errors.Join(failed, d.fail(err)) // a power cut could take away what the partition is to hold
		}
	}
	r.byName.Store(t.Name, next)
	r.byID.Store(t.ID, next)
	if len(fresh) > 0 {
		r.flushes(&c)
	}
	return failed
}

// inParallel calls f for 0 to n-1 on at most workers goroutines and waits for
// them.
func inParallel(n, workers int, f func(i int)) {
	if workers = min(n, workers); workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var at atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := at.Add(1) - 1; i < int64(n); i = at.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

// remove takes a deleted topic's partitions away. Their files follow later
// (file.delete.delay.ms), for the sake of readers.
func (r *Replicas) remove(t *meta.Topic, image *meta.Image) {
	delay := time.Minute
	if c, err := r.TopicConfig(image, t.Name); err == nil {
		delay = c.FileDeleteDelay
	}
	var partitions []*Partition
	if v, ok := r.byID.LoadAndDelete(t.ID); ok {
		r.byName.CompareAndDelete(t.Name, v)
		partitions = v.(*replicatedTopic).partitions
	}
	for i := range t.Partitions {
		name := dirName(t.Name, int32(i))
		d := r.found[name]
		delete(r.found, name) // another topic of that name begins anew
		if i < len(partitions) && partitions[i] != nil {
			d = partitions[i].Dir
			r.count.Add(-1)
			partitions[i].abandon()
		}
		if d == nil {
			continue
		}
		d.lose()
		d.forget(name)
		from, to := d.file(name), d.file(deletedName(t.Name, int32(i)))
		if err := r.o.FS.Rename(from, to); err != nil {
			r.lg.Error("cannot set a deleted partition aside", zap.String("dir", from), zap.Error(err))
			continue
		}
		r.trash.later([]string{to}, delay)
	}
}

// Missing returns why this broker has no replica to answer from, as the code
// that a client is told: the topic or partition does not exist, is led
// elsewhere, or its log cannot be opened.
func (r *Replicas) Missing(image *meta.Image, topic string, index int32) error {
	p := image.Partition(topic, index)
	switch {
	case p == nil:
		return kerr.UnknownTopicOrPartition
	case !slices.Contains(p.Replicas, r.o.NodeID):
		return kerr.NotLeaderOrFollower
	}
	return kerr.KafkaStorageError
}
