package replication

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
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
	mu       sync.Mutex
	live     bool
	removals map[string]clock.Timer // of deleted partitions, by their directories' new names

	countsMu sync.Mutex // guards counts
	counts   map[*Dir]int
	count    atomic.Int64
	sum      atomic.Uint64 // of the offsets at the last checkpoint
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
	return &Replicas{o: o, lg: o.Logger.Named("replicas"), counts: make(map[*Dir]int), removals: make(map[string]clock.Timer)}
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

// Start opens every partition that image gives this broker, and from then on
// follows Apply. image must be the newest.
func (r *Replicas) Start(image func() *meta.Image) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = true
	m := image()
	if err := r.sweep(m); err != nil {
		return err
	}
	m.Topics("", func(t *meta.Topic) bool {
		// A partition that cannot be opened is offline; the others serve.
		if err := r.follow(t, m, max(1, r.o.Broker.RecoveryThreads*len(r.o.Dirs))); err != nil {
			r.lg.Error("partitions are offline", zap.String("topic", t.Name), zap.Error(err))
		}
		return true
	})
	return nil
}

// sweep removes directories that wait for removal, and sets aside those of
// topics that no longer exist.
func (r *Replicas) sweep(m *meta.Image) error {
	for _, d := range r.o.Dirs {
		names, err := r.o.FS.List(d.Path)
		if err != nil {
			return err
		}
		for _, name := range names {
			full := d.file(name)
			if strings.HasSuffix(name, deleteSuffix) {
				if err := r.o.FS.RemoveAll(full); err != nil {
					return err
				}
				continue
			}
			topic, index, ok := parseDirName(name)
			if !ok || topic == meta.MetadataTopic || strings.HasSuffix(name, straySuffix) {
				continue
			}
			p := m.Partition(topic, index)
			id, err := log.ReadTopicID(r.o.FS, full)
			if err != nil && !errors.Is(err, log.ErrCorrupt) { // opening the log decides on that
				return fmt.Errorf("%s: %w", full, err)
			}
			if p != nil && slices.Contains(p.Replicas, r.o.NodeID) && (id.IsZero() || id == m.Topic(topic).ID) {
				r.counts[d]++
				continue
			}
			r.lg.Warn("set aside a stray partition", zap.String("dir", full))
			if err := r.o.FS.Rename(full, d.file(strayName(topic, index))); err != nil {
				return err
			}
		}
	}
	return nil
}

func strayName(topic string, index int32) string {
	u := NewUUID()
	return fmt.Sprintf("%s-%d.%x%s", topic, index, u[:], straySuffix)
}

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
		IndexIntervalBytes: t.IndexIntervalBytes, SegmentIndexBytes: t.SegmentIndexBytes, MaxMessageBytes: t.MaxMessageBytes,
		Compact: t.Compact, LogAppendTime: t.LogAppendTime, TimestampBeforeMax: t.TimestampBefore, TimestampAfterMax: t.TimestampAfter,
		Compression: compression, CompressionLevel: levels[compression],
		FlushMessages: flushMessages, FlushInterval: flushInterval,
	}
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
	var mu sync.Mutex // guards the two below
	var failed error
	fresh := make(map[*Dir]bool) // directories that have got a partition
	inParallel(len(t.Partitions), workers, func(i int) {
		m := t.Partitions[i]
		if !slices.Contains(m.Replicas, r.o.NodeID) {
			return
		}
		p := next.partitions[i]
		var err error
		if p == nil {
			if p, err = r.open(t, int32(i), &c); err == nil {
				next.partitions[i] = p
				r.count.Add(1)
				mu.Lock()
				fresh[p.Dir] = true
				mu.Unlock()
			}
		}
		if err == nil {
			err = p.apply(m)
		}
		if err != nil {
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		}
	})
	for d := range fresh {
		failed = errors.Join(failed, r.o.FS.SyncDir(d.Path))
	}
	r.byName.Store(t.Name, next)
	r.byID.Store(t.ID, next)
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

// open opens the log of a partition, in the directory that has it, else in the
// one with the fewest partitions.
func (r *Replicas) open(t *meta.Topic, index int32, c *config.Topic) (*Partition, error) {
	name := dirName(t.Name, index)
	dir := r.find(name)
	clean := true
	var recovery, high, start int64
	if dir != nil {
		clean, recovery, high, start = dir.clean, dir.recovery[name], dir.high[name], dir.start[name]
	} else {
		dir = r.emptiest()
	}
	l, err := log.Open(log.Options{FS: r.o.FS, Dir: path.Join(dir.Path, name), Topic: t.Name, Partition: index, TopicID: t.ID,
		Config: LogConfig(c), CleanShutdown: clean, RecoveryPoint: recovery, StartOffset: start,
		ProducerExpiry: r.o.Broker.ProducerIDExpiration, Now: r.o.Clock.Now, Logger: r.lg})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path.Join(dir.Path, name), err)
	}
	l.SetHighWatermark(min(max(high, l.StartOffset()), l.EndOffset()))
	return openPartition(t.Name, t.ID, index, dir, l, r.o.NodeID, c.MinInsyncReplicas, r.o.Clock.Now), nil
}

// emptiest returns the directory with the fewest partitions, for one more.
func (r *Replicas) emptiest() *Dir {
	r.countsMu.Lock()
	defer r.countsMu.Unlock()
	dir := r.o.Dirs[0]
	for _, d := range r.o.Dirs[1:] {
		if r.counts[d] < r.counts[dir] {
			dir = d
		}
	}
	r.counts[dir]++
	return dir
}

// find returns the directory that holds a partition, or nil.
func (r *Replicas) find(name string) *Dir {
	for _, d := range r.o.Dirs {
		if _, err := r.o.FS.Stat(d.file(name)); err == nil {
			return d
		}
	}
	return nil
}

// remove takes a deleted topic's partitions away. Their files follow later
// (file.delete.delay.ms), for the sake of readers.
func (r *Replicas) remove(t *meta.Topic, image *meta.Image) {
	delay := time.Minute
	if c, err := r.TopicConfig(image, t.Name); err == nil {
		delay = c.FileDeleteDelay
	}
	v, ok := r.byID.LoadAndDelete(t.ID)
	if !ok {
		return
	}
	r.byName.CompareAndDelete(t.Name, v)
	for _, p := range v.(*replicatedTopic).partitions {
		if p == nil {
			continue
		}
		r.count.Add(-1)
		r.countsMu.Lock()
		r.counts[p.Dir]--
		r.countsMu.Unlock()
		if err := p.close(); err != nil {
			r.lg.Warn("close of a deleted partition failed", zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Error(err))
		}
		from, to := p.Dir.file(dirName(p.Topic, p.Index)), p.Dir.file(deletedName(p.Topic, p.Index))
		if err := r.o.FS.Rename(from, to); err != nil {
			r.lg.Error("cannot set a deleted partition aside", zap.String("dir", from), zap.Error(err))
			continue
		}
		r.removeLater(to, delay)
	}
}

func (r *Replicas) removeLater(dir string, delay time.Duration) {
	r.removals[dir] = r.o.Clock.AfterFunc(delay, func() {
		if err := r.o.FS.RemoveAll(dir); err != nil {
			r.lg.Error("cannot remove a deleted partition", zap.String("dir", dir), zap.Error(err))
		}
		r.mu.Lock()
		delete(r.removals, dir)
		r.mu.Unlock()
	})
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

// Checkpoint writes the checkpoint files of every directory: recovery points,
// high watermarks, and log start offsets.
func (r *Replicas) Checkpoint() error {
	type files struct{ recovery, high, start map[string]int64 }
	byDir := make(map[*Dir]*files)
	for _, d := range r.o.Dirs {
		byDir[d] = &files{make(map[string]int64), make(map[string]int64), make(map[string]int64)}
	}
	r.Each(func(p *Partition) bool {
		f, name := byDir[p.Dir], dirName(p.Topic, p.Index)
		f.recovery[name] = p.log.RecoveryPoint()
		f.high[name] = p.log.HighWatermark()
		if p.log.StartOffset() > p.log.FirstSegmentOffset() {
			f.start[name] = p.log.StartOffset()
		}
		return true
	})
	var err error
	for d, f := range byDir {
		err = errors.Join(err,
			writeCheckpoint(r.o.FS, d.file(recoveryFile), f.recovery),
			writeCheckpoint(r.o.FS, d.file(highWatermarkFile), f.high),
			writeCheckpoint(r.o.FS, d.file(logStartFile), f.start))
	}
	return err
}

// CheckpointIfMoved is Checkpoint where anything has changed since the last one.
func (r *Replicas) CheckpointIfMoved() error {
	var sum uint64
	r.Each(func(p *Partition) bool {
		// A change of any offset changes the sum but by an unlucky accident, and
		// then the next change is written.
		sum += uint64(p.log.HighWatermark())*0x9e3779b97f4a7c15 ^ uint64(p.log.StartOffset())*0xbf58476d1ce4e5b9 ^ uint64(p.log.RecoveryPoint())
		return true
	})
	sum += uint64(r.Count()) << 32
	if r.sum.Swap(sum) == sum {
		return nil
	}
	return r.Checkpoint()
}

// Close syncs and closes every log and marks the directories as cleanly shut
// down. It does not unlock them.
func (r *Replicas) Close(brokerEpoch int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return nil
	}
	r.live = false
	for _, t := range r.removals {
		t.Stop()
	}
	var all []*Partition
	r.Each(func(p *Partition) bool {
		all = append(all, p)
		return true
	})
	var mu sync.Mutex // guards failed
	failed := make(map[*Dir]error)
	inParallel(len(all), syncers, func(i int) {
		p := all[i]
		if err := p.close(); err != nil {
			mu.Lock()
			failed[p.Dir] = errors.Join(failed[p.Dir], fmt.Errorf("close %s-%d: %w", p.Topic, p.Index, err))
			mu.Unlock()
		}
	})
	err := r.Checkpoint()
	for _, d := range r.o.Dirs {
		if failed[d] != nil || err != nil {
			err = errors.Join(err, failed[d])
			continue
		}
		err = errors.Join(err, d.markClean(brokerEpoch))
	}
	return err
}
