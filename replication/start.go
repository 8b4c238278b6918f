package replication

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
)

// Start opens every partition that image gives this broker, and from then on
// follows Apply. image must be the newest.
func (r *Replicas) Start(image func() *meta.Image) error {
	gate := make(chan struct{})
	defer close(gate)
	r.jobs.hold(gate)
	r.mu.Lock()
	r.live = true
	m := image()
	m.Topics("", func(t *meta.Topic) bool {
		r.adopt(t)
		return true
	})
	r.mu.Unlock()
	if err := r.sweep(m); err != nil {
		return err
	}
	var known time.Time // when a broker was last here
	for _, d := range r.o.Dirs {
		if info, err := r.o.FS.Stat(d.file(log.RecoveryPointFile)); err == nil && info.ModTime().After(known) {
			known = info.ModTime()
		}
	}
	if !known.IsZero() {
		r.steady.before(known, r.began)
	}
	all := r.toOpen(m)
	// Checking logs after an unclean stop is a matter of reading, opening them
	// otherwise one of many small calls: both take as many threads as were asked
	// for. Leader epochs may have to be synced, so that they take more.
	progress := &progress{o: &r.o, lg: r.lg, total: len(all), last: r.o.Clock.Now()}
	workers := max(1, r.o.Broker.RecoveryThreads*len(r.o.Dirs))
	inParallel(len(all), workers, func(i int) {
		j := all[i]
		p, err := r.open(j.topic, j.index, j.config, progress.checkedSome)
		if err == nil {
			j.into.partition.Store(p)
			r.count.Add(1)
		} else {
			r.quarantine(j.topic, j.index, err)
			j.into.failed.Store(true)
		}
		progress.openedOne()
	})
	assign, sync := r.epochSyncing(len(all))
	inParallel(len(all), syncers, func(i int) {
		j := all[i]
		if p := j.into.partition.Load(); p != nil {
			if err := caught(r.lg, "transition", func() error {
				_, err := p.transition(j.topic.Partitions[j.index], assign)
				return err
			}); err != nil {
				r.lg.Error("partition is offline", zap.String("topic", j.topic.Name), zap.Int32("partition", j.index), zap.Error(err))
			}
		}
	})
	for _, d := range r.o.Dirs {
		if d.Err() == nil {
			if err := sync(d); err != nil {
				d.fail(err)
			}
		}
	}
	r.started = true
	if r.o.Became != nil {
		for _, j := range all {
			if p := j.into.partition.Load(); p != nil {
				r.o.Became(p)
			}
		}
	}
	return nil
}

// opening is a partition that Start opens.
type opening struct {
	topic  *meta.Topic
	config *config.Topic
	index  int32
	into   *slot
}

// toOpen returns the partitions that this broker holds.
func (r *Replicas) toOpen(m *meta.Image) (all []opening) {
	m.Topics("", func(t *meta.Topic) bool {
		v, ok := r.byID.Load(t.ID)
		if !ok {
			return true // deleted since
		}
		into := v.(*replicatedTopic)
		c, err := r.TopicConfig(m, t.Name)
		if err != nil {
			r.lg.Error("partitions are offline: the topic's config does not resolve", zap.String("topic", t.Name), zap.Error(err))
		}
		for i, p := range t.Partitions {
			switch name := dirName(t.Name, int32(i)); {
			case !slices.Contains(p.Replicas, r.o.NodeID):
			case err != nil:
				into.slots[i].failed.Store(true)
				if d := r.foundAt(name); d != nil {
					d.keep(name)
				}
			default:
				all = append(all, opening{t, &c, int32(i), into.slots[i]})
			}
		}
		return true
	})
	return all
}

// foundAt returns the directory that had a partition at the start, or nil.
func (r *Replicas) foundAt(name string) *Dir {
	r.foundMu.Lock()
	defer r.foundMu.Unlock()
	return r.found[name]
}

// forgetFound is foundAt once the partition is gone.
func (r *Replicas) forgetFound(name string) *Dir {
	r.foundMu.Lock()
	defer r.foundMu.Unlock()
	d := r.found[name]
	delete(r.found, name)
	return d
}

// manyLogs is from how many on logs of a directory are synced together.
const manyLogs = 64

// epochSyncing returns how leader epochs are assigned to n partitions at the
// start, and how a directory is synced after that: of many partitions all files
// at once, if the system can, since after an unclean stop each has a new epoch.
func (r *Replicas) epochSyncing(n int) (assign func(l *log.Log, epoch int32, start int64) error, sync func(*Dir) error) {
	assign, sync = (*log.Log).AssignEpoch, func(d *Dir) error { return r.o.FS.SyncDir(d.Path) }
	if n < manyLogs || !slices.ContainsFunc(r.o.Dirs, func(d *Dir) bool { return !d.clean }) || slices.ContainsFunc(r.o.Dirs, func(d *Dir) bool { return d.syncer == nil }) {
		return assign, sync
	}
	return (*log.Log).AssignEpochUnsynced, func(d *Dir) error { return d.syncer.Sync() }
}

// progress tells how far Start has come: to who wants to know, and in the log
// where it takes long.
type progress struct {
	o       *Options
	lg      *zap.Logger
	total   int
	opened  atomic.Int64
	checked atomic.Int64

	mu   sync.Mutex // guards last
	last time.Time  // when it was told last
}

func (p *progress) openedOne() {
	p.opened.Add(1)
	p.tell()
}

// progressStep is how many bytes are checked before that is told.
const progressStep = 8 << 20

func (p *progress) checkedSome(bytes int64) {
	if now := p.checked.Add(bytes); now/progressStep != (now-bytes)/progressStep {
		p.tell()
	}
}

func (p *progress) tell() {
	now := Progress{int(p.opened.Load()), p.total, p.checked.Load()}
	if p.o.Progress != nil {
		p.o.Progress(now)
	}
	const often = 5 * time.Second
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.o.Clock.Now(); at.Sub(p.last) > often {
		p.last = at
		p.lg.Info("opening partitions", zap.Int("opened", now.Opened), zap.Int("total", now.Total), zap.Int64("bytes_checked", now.Checked))
	}
}

// quarantine leaves a partition alone whose log does not open: it is offline, and
// its files stay as they are.
func (r *Replicas) quarantine(t *meta.Topic, index int32, err error) {
	fields := []zap.Field{zap.String("topic", t.Name), zap.Int32("partition", index), zap.Error(err)}
	if d := r.foundAt(dirName(t.Name, index)); d != nil {
		d.keep(dirName(t.Name, index))
		dir := d.file(dirName(t.Name, index))
		fields = append(fields, zap.String("advice", "look at it with 'klamm log verify "+dir+"', then stop the broker and see what 'klamm log repair --dry-run "+dir+"' would do"))
	}
	r.lg.Error("partition is offline: its log does not open", fields...)
}

// sweep removes directories that wait for removal, sets aside those of topics
// that no longer exist, and notes where the others are.
func (r *Replicas) sweep(m *meta.Image) error {
	r.found = make(map[string]*Dir)
	for _, d := range r.o.Dirs {
		for _, name := range d.unreadable {
			r.lg.Error("checkpoint file is damaged and not used", zap.String("file", d.file(name)))
		}
		names, err := r.o.FS.List(d.Path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, deleteSuffix) {
				if err := r.o.FS.RemoveAll(d.file(name)); err != nil {
					return err
				}
				continue
			}
			topic, index, ok := parseDirName(name)
			if !ok || topic == meta.MetadataTopic || strings.HasSuffix(name, straySuffix) {
				continue
			}
			if p := m.Partition(topic, index); p == nil || !slices.Contains(p.Replicas, r.o.NodeID) {
				if err := r.setAside(d, topic, index); err != nil {
					return err
				}
				continue
			}
			has := d
			if other := r.found[name]; other != nil {
				if has, err = r.choose(other, d, m.Topic(topic), index); err != nil {
					return err
				}
				other.lose()
			}
			r.found[name] = has
			has.gain()
		}
	}
	for _, d := range r.o.Dirs {
		// A partition that is made anew must not be taken for another one of its name.
		if err := d.dropFound(func(name string) bool { return r.found[name] != d }); err != nil {
			r.lg.Error("cannot take partitions out of checkpoint files", zap.String("dir", d.Path), zap.Error(err))
		}
	}
	return nil
}

// choose returns in which of two log directories a partition is that both have.
// One may be of a topic of the same name that was deleted while that directory
// was offline, or whose removal a power cut has undone: it is set aside.
func (r *Replicas) choose(first, second *Dir, t *meta.Topic, index int32) (*Dir, error) {
	name := dirName(t.Name, index)
	const stray, unknown, own = 0, 1, 2
	rank := func(d *Dir) int {
		switch id, err := log.ReadTopicID(r.o.FS, d.file(name)); {
		case err != nil || id.IsZero():
			return unknown
		case id != t.ID:
			return stray
		}
		return own
	}
	is, other := rank(first), rank(second)
	if other > is {
		first, second, is, other = second, first, other, is
	}
	if other == stray || is == own && other == unknown && r.unwritten(second.file(name)) {
		return first, r.setAside(second, t.Name, index)
	}
	r.lg.Error("partition is in two log directories, one is left alone", zap.String("used", first.file(name)), zap.String("left", second.file(name)))
	return first, nil
}

// unwritten reports whether a partition's directory has no records.
func (r *Replicas) unwritten(dir string) bool {
	names, err := r.o.FS.List(dir)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, segment.LogSuffix) })
}

// setAside renames the directory of a partition that this broker does not hold.
func (r *Replicas) setAside(d *Dir, topic string, index int32) error {
	full := d.file(dirName(topic, index))
	r.lg.Warn("set aside a stray partition", zap.String("dir", full))
	return r.o.FS.Rename(full, d.file(strayName(topic, index)))
}

func strayName(topic string, index int32) string {
	u := prim.RandomUUID()
	suffix := fmt.Sprintf("-%d.%x%s", index, u[:], straySuffix)
	return topic[:min(len(topic), 255-len(suffix))] + suffix
}

// open opens the log of a partition, in the directory that has it, else in the
// one with the fewest partitions.
func (r *Replicas) open(t *meta.Topic, index int32, c *config.Topic, checked func(bytes int64)) (p *Partition, err error) {
	err = caught(r.lg, "open", func() error {
		p, err = r.openOne(t, index, c, checked)
		return err
	})
	return p, err
}

func (r *Replicas) openOne(t *meta.Topic, index int32, c *config.Topic, checked func(bytes int64)) (*Partition, error) {
	name := dirName(t.Name, index)
	dir := r.foundAt(name)
	known := dir != nil
	if !known {
		var err error
		if dir, err = r.emptiest(); err != nil {
			return nil, err
		}
	}
	l, err := r.openLog(dir, t, index, c, known, checked)
	if errors.Is(err, log.ErrTopicID) { // a topic of the same name that was deleted while this broker was not there
		if err = r.setAside(dir, t.Name, index); err == nil {
			err = r.dropOffsets(dir, name)
		}
		if err == nil {
			known = false
			l, err = r.openLog(dir, t, index, c, known, checked)
		}
	}
	if err != nil {
		return nil, err
	}
	if known {
		l.SetHighWatermark(min(max(dir.foundIn(dir.high, name), l.StartOffset()), l.EndOffset()))
	}
	return r.newPartition(t, index, dir, l, c.MinInsyncReplicas), nil
}

// dropOffsets takes a partition out of the checkpoint files before another one
// gets its name.
func (r *Replicas) dropOffsets(d *Dir, name string) error {
	if !r.started {
		return d.dropFound(func(x string) bool { return x == name })
	}
	d.forget(name)
	return r.checkpointGone([]string{name})
}

// openLog opens a log; known tells that it was there before.
func (r *Replicas) openLog(dir *Dir, t *meta.Topic, index int32, c *config.Topic, known bool, checked func(bytes int64)) (*log.Log, error) {
	name := dirName(t.Name, index)
	o := log.Options{FS: r.o.FS, Dir: path.Join(dir.Path, name), Topic: t.Name, Partition: index, TopicID: t.ID,
		Config: LogConfig(c), CleanShutdown: true, ProducerExpiry: r.o.Broker.ProducerIDExpiration, Now: r.o.Clock.Now, Logger: r.lg,
		Fault: &dir.fault, Background: r.background.do, Discard: r.trash.later, Checked: checked}
	if known {
		o.CleanShutdown, o.RecoveryPoint, o.StartOffset = dir.clean, dir.foundIn(dir.recovery, name), dir.foundIn(dir.start, name)
		_, cleaned := dir.firstDirty(name)
		o.Sparse = c.Compact || cleaned
	}
	return log.Open(o)
}

// emptiest returns the directory with the fewest partitions that is well, for
// one more.
func (r *Replicas) emptiest() (*Dir, error) {
	var least *Dir
	for _, d := range r.o.Dirs {
		if d.Err() == nil && (least == nil || d.count() < least.count()) {
			least = d
		}
	}
	if least == nil {
		return nil, fmt.Errorf("%w: every log directory is offline: %w", log.ErrStorage, r.o.Dirs[0].Err())
	}
	least.gain()
	return least, nil
}
