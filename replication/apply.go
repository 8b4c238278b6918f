package replication

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
)

// replicatedTopic is a topic that the metadata know. It does not change: a topic
// that gets more partitions is replaced by another that shares its slots.
type replicatedTopic struct {
	topic *meta.Topic // as it was made or grown; only its name and id count
	slots []*slot     // by partition
}

// slot is the place of a partition: this broker may hold it, or not.
type slot struct {
	partition atomic.Pointer[Partition] // nil while it is not held, or not open
	failed    atomic.Bool               // it should be held, and cannot be opened
}

func (t *replicatedTopic) get(index int32) *slot {
	if index < 0 || int(index) >= len(t.slots) {
		return nil
	}
	return t.slots[index]
}

// Apply follows an update of the metadata. It is called in order, and waits for
// nothing: a topic that is deleted is gone when it returns, all else is done by
// jobs, in order for each partition. See Settled.
func (r *Replicas) Apply(old, image *meta.Image, delta meta.Delta) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return
	}
	if r.proposals != nil {
		r.proposals.image.Store(image)
	}
	for _, t := range delta.Deleted {
		r.remove(t, old, image.Index)
	}
	for id := range delta.Topics {
		r.follow(old.TopicByID(id), image.TopicByID(id), image)
	}
	r.reconfigure(image, delta)
	if len(delta.Brokers) > 0 && r.proposals != nil {
		r.jobs.add(image.Index, nil, r.regrow)
	}
}

// regrow proposes followers that may be in sync now that their brokers are not fenced any
// more: they have nothing to fetch that would tell.
func (r *Replicas) regrow() {
	r.Each(func(p *Partition) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.state != nil && !p.closed.Load() {
			p.grow()
		}
		return true
	})
}

// Settled waits until what the update at index asked for has been done, or ctx
// ends.
func (r *Replicas) Settled(ctx context.Context, index uint64) error {
	return r.jobs.settled(ctx, index)
}

// adopt makes a topic known, with a slot for each partition. mu is held.
func (r *Replicas) adopt(t *meta.Topic) *replicatedTopic {
	next := &replicatedTopic{topic: t, slots: make([]*slot, len(t.Partitions))}
	have := 0
	if v, ok := r.byID.Load(t.ID); ok {
		have = copy(next.slots, v.(*replicatedTopic).slots)
		if have == len(t.Partitions) {
			return v.(*replicatedTopic)
		}
	}
	own := make([]slot, len(t.Partitions)-have)
	for i := range own {
		next.slots[have+i] = &own[i]
	}
	r.byID.Store(t.ID, next)
	r.byName.Store(t.Name, next)
	return next
}

// follow gives out the work that a change of a topic means for this broker: one
// job for all partitions that are new here, and one for each that changed. old is
// the topic as it was, nil for a new one. mu is held.
func (r *Replicas) follow(old, t *meta.Topic, image *meta.Image) {
	into := r.adopt(t)
	var fresh []int32
	for i, p := range t.Partitions {
		index := int32(i)
		held := slices.Contains(p.Replicas, r.o.NodeID)
		var was *meta.Partition
		if old != nil && i < len(old.Partitions) {
			was = old.Partitions[i]
		}
		switch wasHeld := was != nil && slices.Contains(was.Replicas, r.o.NodeID); {
		case was == p:
		case held && !wasHeld:
			fresh = append(fresh, index)
		case held:
			r.jobs.add(image.Index, []string{dirs.Name(t.Name, index)}, func() { r.change(into.slots[i], p) })
		case wasHeld:
			r.release(t, index, into.slots[i], image)
		}
	}
	if len(fresh) == 0 {
		return
	}
	names := make([]string, len(fresh))
	for i, index := range fresh {
		names[i] = dirs.Name(t.Name, index)
	}
	r.jobs.add(image.Index, names, func() { r.create(t, fresh, names, into, image) })
}

// release gives up a partition that this broker does not hold any more. It takes no
// more records at once. mu is held.
func (r *Replicas) release(t *meta.Topic, index int32, s *slot, image *meta.Image) {
	p := s.partition.Swap(nil)
	if p != nil {
		p.stop()
	}
	delay := r.deleteDelay(image, t.Name)
	r.jobs.add(image.Index, []string{dirs.Name(t.Name, index)}, func() {
		if p == nil {
			p = s.partition.Swap(nil) // it was being opened
		}
		s.failed.Store(false)
		r.discard(t, index, p, delay)
	})
}

// change has a partition take over what the metadata say of it.
func (r *Replicas) change(s *slot, m *meta.Partition) {
	p := s.partition.Load()
	if p == nil {
		return // it could not be opened, which was logged
	}
	r.workers <- struct{}{}
	defer func() { <-r.workers }()
	r.transition(p, m, (*log.Log).AssignEpoch)
}

// transition gives a partition the role that the metadata say, and calls Became.
func (r *Replicas) transition(p *Partition, m *meta.Partition, assign func(l *log.Log, epoch int32, start int64) error) {
	changed := false
	err := log.Caught(r.lg, "transition", func() (err error) {
		changed, err = p.transition(m, assign)
		return err
	})
	switch {
	case err != nil:
		r.lg.Error("partition is offline", zap.String("topic", p.Topic), zap.Int32("partition", p.Index), zap.Error(err))
	case changed:
		r.placements.placed(p, m)
		r.fetchers.follow(p)
		if r.o.Became != nil {
			r.o.Became(p)
		}
	}
}

// create opens the partitions of a topic that are new on this broker.
func (r *Replicas) create(t *meta.Topic, indexes []int32, names []string, into *replicatedTopic, image *meta.Image) {
	fail := func(index int32, err error) {
		into.slots[index].failed.Store(true)
		r.lg.Error("cannot follow the metadata of a partition", zap.String("topic", t.Name), zap.Int32("partition", index), zap.Error(err))
	}
	c, err := r.TopicConfig(image, t.Name)
	if err == nil {
		err = r.checkpointGone(names)
	}
	if err != nil {
		for _, index := range indexes {
			fail(index, err)
		}
		return
	}
	opened := make([]*Partition, len(indexes))
	r.inParallel(len(indexes), func(i int) {
		var err error
		if opened[i], err = r.open(t, indexes[i], &c, nil); err != nil {
			opened[i] = nil
			fail(indexes[i], err)
		}
	})
	fresh := make(map[*dirs.Dir]error) // directories that have got a partition
	for _, p := range opened {
		if p != nil {
			fresh[p.Dir] = nil
		}
	}
	for d := range fresh {
		if err := r.o.FS.SyncDir(d.Path); err != nil {
			fresh[d] = d.Fail(err) // a power cut could take away what the partition is to hold
		}
	}
	r.inParallel(len(indexes), func(i int) {
		p := opened[i]
		if p == nil {
			return
		}
		if err := fresh[p.Dir]; err != nil {
			r.lg.Error("partition is offline", zap.String("topic", t.Name), zap.Int32("partition", p.Index), zap.Error(err))
		}
		r.count.Add(1)
		into.slots[p.Index].partition.Store(p)
		r.transition(p, t.Partitions[p.Index], (*log.Log).AssignEpoch)
	})
	if len(fresh) > 0 {
		r.flushes(&c)
	}
}

// remove takes a deleted topic's partitions away. Nobody finds them from then on.
// Their files follow later (file.delete.delay.ms), for the sake of readers. mu is
// held.
func (r *Replicas) remove(t *meta.Topic, old *meta.Image, index uint64) {
	delay := r.deleteDelay(old, t.Name)
	var slots []*slot
	if v, ok := r.byID.LoadAndDelete(t.ID); ok {
		r.byName.CompareAndDelete(t.Name, v)
		slots = v.(*replicatedTopic).slots
	}
	names := make([]string, len(t.Partitions))
	for i := range t.Partitions {
		names[i] = dirs.Name(t.Name, int32(i))
	}
	r.jobs.add(index, names, func() {
		r.inParallel(len(t.Partitions), func(i int) {
			var p *Partition
			if i < len(slots) {
				p = slots[i].partition.Swap(nil)
			}
			r.discard(t, int32(i), p, delay)
		})
	})
}

func (r *Replicas) deleteDelay(image *meta.Image, topic string) time.Duration {
	if c, err := r.TopicConfig(image, topic); err == nil {
		return c.FileDeleteDelay
	}
	return time.Minute
}

// discard ends a partition that this broker is not to hold any more, p or one that
// is not open, and sets its files aside.
func (r *Replicas) discard(t *meta.Topic, index int32, p *Partition, delay time.Duration) {
	name := dirs.Name(t.Name, index)
	d := r.forgetFound(name) // another topic of that name begins empty
	if p != nil {
		d = p.Dir
		r.count.Add(-1)
		p.stop()
		r.fetchers.leave(p)
		p.abandon()
		if r.o.Ended != nil {
			r.o.Ended(p)
		}
	}
	if d == nil {
		return
	}
	d.Lose()
	d.Forget(name)
	from, to := d.File(name), d.File(dirs.DeletedName(t.Name, index))
	if err := r.o.FS.Rename(from, to); err != nil {
		r.lg.Error("cannot set a deleted partition aside", zap.String("dir", from), zap.Error(err))
		return
	}
	r.trash.Later([]string{to}, delay)
}

// reconfigure hands changed configs to the logs. mu is held.
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
		r.setRates(image)
		r.byName.Range(func(_, t any) bool {
			r.configure(t.(*replicatedTopic), image)
			return true
		})
	}
}

// setRates takes over the rates of throttled replicas.
func (r *Replicas) setRates(image *meta.Image) {
	if err := r.throttles.configure(r.brokerConfig(image)); err != nil {
		r.lg.Error("rates of throttled replicas do not resolve, the old ones stay", zap.Error(err))
	}
}

// configure gives the partitions of a topic its configs. mu is held.
func (r *Replicas) configure(t *replicatedTopic, image *meta.Image) {
	name := t.topic.Name
	c, err := r.TopicConfig(image, name)
	if err != nil {
		r.lg.Error("topic config does not resolve, the old one stays", zap.String("topic", name), zap.Error(err))
		return
	}
	names := make([]string, len(t.slots))
	for i := range t.slots {
		names[i] = dirs.Name(name, int32(i))
	}
	r.jobs.add(image.Index, names, func() {
		for _, s := range t.slots {
			if p := s.partition.Load(); p != nil {
				p.log.SetConfig(LogConfig(&c))
				p.setMinISR(c.MinInsyncReplicas)
				p.throttled.set(&c, p.Index, p.node)
			}
		}
		r.flushes(&c)
	})
}

// flushes notes that a topic has a flush.ms.
func (r *Replicas) flushes(c *config.Topic) {
	if r.o.Flushing != nil && LogConfig(c).FlushInterval > 0 {
		r.o.Flushing()
	}
}

// syncers is how many logs are opened or closed at once where that is a matter of
// syncing files rather than of reading them: the file system does several syncs
// for little more than one.
const syncers = 32

// inParallel calls f for 0 to n-1, side by side with what other jobs do, and waits
// for all. Together they have syncers goroutines at work.
func (r *Replicas) inParallel(n int, f func(i int)) {
	inParallel(n, r.threads(syncers), func(i int) {
		r.workers <- struct{}{}
		defer func() { <-r.workers }()
		f(i)
	})
}

// threads returns how many goroutines do what n would do at most.
func (r *Replicas) threads(n int) int {
	if r.o.inline {
		return 1
	}
	return n
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
