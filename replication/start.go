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
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/segment"
)

// Start opens every partition that image gives this broker, and from then on
// follows Apply. image must be the newest.
func (r *Replicas) Start(image func() *meta.Image) error {
	gate := make(chan struct{})
	defer close(gate)
	r.jobs.hold(gate)
	r.mu.Lock()
	r.live = true
	r.setRates(image())
	m := image()
	if r.proposals != nil {
		r.proposals.image.Store(m)
	}
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
		if info, err := r.o.FS.Stat(d.File(log.RecoveryPointFile)); err == nil && info.ModTime().After(known) {
			known = info.ModTime()
		}
	}
	if !known.IsZero() {
		r.retention.Before(known)
	}
	all := r.toOpen(m)
	// Checking logs after an unclean stop is a matter of reading, opening them
	// otherwise one of many small calls: both take as many threads as were asked
	// for. Leader epochs may have to be synced, so that they take more.
	progress := &progress{o: &r.o, lg: r.lg, total: len(all), last: r.o.Clock.Now()}
	workers := r.threads(max(1, r.o.Broker.RecoveryThreads*len(r.o.Dirs)))
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
	if err := r.lowerCheckpoints(all); err != nil {
		r.lg.Error("cannot lower the checkpoints of logs that have lost their ends", zap.Error(err)) // the directory is offline
	}
	assign, sync := r.epochSyncing(len(all))
	inParallel(len(all), r.threads(syncers), func(i int) {
		j := all[i]
		if p := j.into.partition.Load(); p != nil {
			if err := log.Caught(r.lg, "transition", func() error {
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
				d.Fail(err)
			}
		}
	}
	r.started = true
	for _, j := range all {
		if p := j.into.partition.Load(); p != nil {
			r.placements.placed(p, j.topic.Partitions[j.index])
			r.fetchers.follow(p)
			if r.o.Became != nil {
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

// lowerCheckpoints rewrites the checkpoint files of directories where they say more of a log
// than it has: a power cut has taken its end. Else the next start would take what is
// appended until then for committed, or for synced, if the process died before its first
// checkpoint.
func (r *Replicas) lowerCheckpoints(all []opening) (err error) {
	stale := make(map[*dirs.Dir]bool)
	for _, j := range all {
		p := j.into.partition.Load()
		if p == nil {
			continue
		}
		name := dirs.Name(p.Topic, p.Index)
		for _, file := range []string{log.HighWatermarkFile, log.RecoveryPointFile} {
			stale[p.Dir] = stale[p.Dir] || p.Dir.FoundIn(file, name) > p.log.EndOffset()
		}
	}
	for _, d := range r.o.Dirs {
		if stale[d] && d.Err() == nil {
			err = errors.Join(err, r.checkpoint(d))
		}
	}
	return err
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
			switch name := dirs.Name(t.Name, int32(i)); {
			case !slices.Contains(p.Replicas, r.o.NodeID):
			case err != nil:
				into.slots[i].failed.Store(true)
				if d := r.foundAt(name); d != nil {
					d.Quarantine(name)
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
func (r *Replicas) foundAt(name string) *dirs.Dir {
	r.foundMu.Lock()
	defer r.foundMu.Unlock()
	return r.found[name]
}

// forgetFound is foundAt once the partition is gone.
func (r *Replicas) forgetFound(name string) *dirs.Dir {
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
func (r *Replicas) epochSyncing(n int) (assign func(l *log.Log, epoch int32, start int64) error, sync func(*dirs.Dir) error) {
	assign, sync = (*log.Log).AssignEpoch, func(d *dirs.Dir) error { return r.o.FS.SyncDir(d.Path) }
	if n < manyLogs || !slices.ContainsFunc(r.o.Dirs, func(d *dirs.Dir) bool { return !d.Clean() }) || slices.ContainsFunc(r.o.Dirs, func(d *dirs.Dir) bool { return !d.SyncsAll() }) {
		return assign, sync
	}
	return (*log.Log).AssignEpochUnsynced, (*dirs.Dir).SyncAll
}

// progress reports how far Start has come: to Options.Progress, and in the log
// where it takes long.
type progress struct {
	o       *Options
	lg      *zap.Logger
	total   int
	opened  atomic.Int64
	checked atomic.Int64

	mu   sync.Mutex // guards last
	last time.Time  // when it was reported last
}

func (p *progress) openedOne() {
	p.opened.Add(1)
	p.tell()
}

// progressStep is how many bytes are checked before that is reported.
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
	if d := r.foundAt(dirs.Name(t.Name, index)); d != nil {
		d.Quarantine(dirs.Name(t.Name, index))
		dir := d.File(dirs.Name(t.Name, index))
		fields = append(fields, zap.String("advice", "look at it with 'klamm log verify "+dir+"', then stop the broker and see what 'klamm log repair --dry-run "+dir+"' would do"))
	}
	r.lg.Error("partition is offline: its log does not open", fields...)
}

// sweep removes directories that wait for removal, sets aside those of topics
// that no longer exist, and notes where the others are.
func (r *Replicas) sweep(m *meta.Image) error {
	r.found = make(map[string]*dirs.Dir)
	for _, d := range r.o.Dirs {
		for _, name := range d.Unreadable() {
			r.lg.Error("checkpoint file is damaged and not used", zap.String("file", d.File(name)))
		}
		names, err := r.o.FS.List(d.Path)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, dirs.DeleteSuffix) {
				if err := r.o.FS.RemoveAll(d.File(name)); err != nil {
					return err
				}
				continue
			}
			topic, index, ok := dirs.ParseName(name)
			if !ok || topic == meta.MetadataTopic || strings.HasSuffix(name, dirs.StraySuffix) {
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
				other.Lose()
			}
			r.found[name] = has
			has.Gain()
		}
	}
	for _, d := range r.o.Dirs {
		// A partition that is created again must not be taken for another one of its name.
		if err := d.DropFound(func(name string) bool { return r.found[name] != d }); err != nil {
			r.lg.Error("cannot take partitions out of checkpoint files", zap.String("dir", d.Path), zap.Error(err))
		}
	}
	return nil
}

// choose returns in which of two log directories a partition is that both have.
// One may be of a topic of the same name that was deleted while that directory
// was offline, or whose removal a power cut has undone: it is set aside.
func (r *Replicas) choose(first, second *dirs.Dir, t *meta.Topic, index int32) (*dirs.Dir, error) {
	name := dirs.Name(t.Name, index)
	const stray, unknown, own = 0, 1, 2
	rank := func(d *dirs.Dir) int {
		switch id, err := log.ReadTopicID(r.o.FS, d.File(name)); {
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
	if other == stray || is == own && other == unknown && r.unwritten(second.File(name)) {
		return first, r.setAside(second, t.Name, index)
	}
	r.lg.Error("partition is in two log directories, one is left alone", zap.String("used", first.File(name)), zap.String("left", second.File(name)))
	return first, nil
}

// unwritten reports whether a partition's directory has no records.
func (r *Replicas) unwritten(dir string) bool {
	names, err := r.o.FS.List(dir)
	return err == nil && !slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, segment.LogSuffix) })
}

// setAside renames the directory of a partition that this broker does not hold.
func (r *Replicas) setAside(d *dirs.Dir, topic string, index int32) error {
	full := d.File(dirs.Name(topic, index))
	r.lg.Warn("set aside a stray partition", zap.String("dir", full))
	return r.o.FS.Rename(full, d.File(dirs.StrayName(topic, index)))
}

// open opens the log of a partition, in the directory that has it, else in the
// one with the fewest partitions.
func (r *Replicas) open(t *meta.Topic, index int32, c *config.Topic, checked func(bytes int64)) (p *Partition, err error) {
	err = log.Caught(r.lg, "open", func() error {
		p, err = r.openOne(t, index, c, checked)
		return err
	})
	return p, err
}

func (r *Replicas) openOne(t *meta.Topic, index int32, c *config.Topic, checked func(bytes int64)) (*Partition, error) {
	name := dirs.Name(t.Name, index)
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
		l.SetHighWatermark(min(max(dir.FoundIn(log.HighWatermarkFile, name), l.StartOffset()), l.EndOffset()))
	}
	return r.newPartition(t, index, dir, l, c), nil
}

// dropOffsets takes a partition out of the checkpoint files before another one
// gets its name.
func (r *Replicas) dropOffsets(d *dirs.Dir, name string) error {
	if !r.started {
		return d.DropFound(func(x string) bool { return x == name })
	}
	d.Forget(name)
	return r.checkpointGone([]string{name})
}

// openLog opens a log; known says that it was there before.
func (r *Replicas) openLog(dir *dirs.Dir, t *meta.Topic, index int32, c *config.Topic, known bool, checked func(bytes int64)) (*log.Log, error) {
	name := dirs.Name(t.Name, index)
	o := log.Options{FS: r.o.FS, Dir: path.Join(dir.Path, name), Topic: t.Name, Partition: index, TopicID: t.ID,
		Config: LogConfig(c), CleanShutdown: true, ProducerExpiry: r.o.Broker.ProducerIDExpiration, Now: r.o.Clock.Now, Logger: r.lg,
		Fault: dir.Fault(), Background: r.background.Do, Discard: r.trash.Later, Checked: checked}
	if r.o.inline {
		o.Background = nil
	}
	if known {
		o.HighWatermark = dir.FoundIn(log.HighWatermarkFile, name)
		o.CleanShutdown, o.RecoveryPoint, o.StartOffset = dir.Clean(), dir.FoundIn(log.RecoveryPointFile, name), dir.FoundIn(log.LogStartFile, name)
		_, cleaned := dir.FirstDirty(name)
		o.Sparse = c.Compact || cleaned
	}
	return log.Open(o)
}

// emptiest returns the directory with the fewest partitions that is well, for
// one more.
func (r *Replicas) emptiest() (*dirs.Dir, error) {
	r.choosing.Lock() // two that are opened at once must not count the same
	defer r.choosing.Unlock()
	var least *dirs.Dir
	for _, d := range r.o.Dirs {
		if d.Err() == nil && (least == nil || d.Count() < least.Count()) {
			least = d
		}
	}
	if least == nil {
		return nil, fmt.Errorf("%w: every log directory is offline: %w", log.ErrStorage, r.o.Dirs[0].Err())
	}
	least.Gain()
	return least, nil
}
