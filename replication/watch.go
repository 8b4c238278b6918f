package replication

import (
	"sync/atomic"

	"github.com/klamm-io/klamm/log"
)

// Watcher is notified when a partition has new records to read.
type Watcher interface {
	// Moved is called with a lock of the partition held, for each time that the mark
	// moves or the role changes. It must not block, and must not call a method of the
	// partition, nor begin or end a watch.
	Moved(p *Partition)
}

// Mark is what a watcher of a partition waits for.
type Mark uint8

// The marks. Those of news also tell of a log start that moved up.
const (
	HighWatermark Mark = iota // consumers read up to it
	LogEnd                    // followers read up to it
	ConsumerNews              // the high watermark; for WatchOnce
	FollowerNews              // the log end or the high watermark; for WatchOnce
	marks
)

// Watch is one watcher of one partition. The zero value watches nothing; it must
// not be copied while it watches. Beginning and ending cost the same however many
// watch the partition.
type Watch struct {
	p     atomic.Pointer[Partition] // nil while it watches nothing; changes with p.mu held
	w     Watcher
	mark  Mark
	at    int            // in p.watchers[mark]; guarded by p.mu
	start log.StartWatch // of news
}

// Watch has w notified when mark moves, or the partition's role changes, until x ends.
func (p *Partition) Watch(x *Watch, mark Mark, w Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.register(x, mark, w)
}

// register puts x, which watches nothing, among the watchers. p.mu is held.
func (p *Partition) register(x *Watch, mark Mark, w Watcher) {
	list := &p.watchers[mark]
	x.w, x.mark, x.at = w, mark, len(*list)
	x.p.Store(p)
	*list = append(*list, x)
}

// WatchOnce has w notified the next time that there is news of a kind, or the
// partition's role changes, or the partition ends. Then x watches no more, so that a
// watcher who does not ask again costs nothing. It may be notified of the log start
// before, and once more then. If x watches for the same already, it goes on; if for
// something else, that ends.
//
// What a caller reads of the partition after it called WatchOnce, it is notified of the
// next change of.
func (p *Partition) WatchOnce(x *Watch, news Mark, w Watcher) {
	if old := x.p.Load(); old != nil && (old != p || x.mark != news) {
		x.End()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return // whoever reads it learns of that
	}
	if x.p.Load() == nil {
		p.register(x, news, w)
	}
	p.log.WatchStart(&x.start, x)
}

// StartMoved implements log.StartWatcher.
func (x *Watch) StartMoved() {
	if p := x.p.Load(); p != nil {
		x.w.Moved(p)
	}
}

// Watches reports whether x watches.
func (x *Watch) Watches() bool { return x.p.Load() != nil }

// End ends a Watch. It may be called more than once.
func (x *Watch) End() {
	p := x.p.Load()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.p.Load() == nil {
		return // notified meanwhile, of something that it was to be notified of once
	}
	list := p.watchers[x.mark]
	last := len(list) - 1
	list[x.at] = list[last]
	list[x.at].at = x.at
	list[last] = nil
	p.watchers[x.mark] = list[:last]
	x.over()
}

// over has x watch nothing. The lock of its partition is held.
func (x *Watch) over() {
	x.start.End()
	x.p.Store(nil)
}

// moved notifies those that watch a mark. p.mu is held.
func (p *Partition) moved(mark Mark) {
	for _, x := range p.watchers[mark] {
		x.w.Moved(p)
	}
	p.notifyOnce(FollowerNews)
	if mark == HighWatermark {
		p.notifyOnce(ConsumerNews)
	}
}

// notifyOnce notifies those that wait for news of a kind. p.mu is held.
func (p *Partition) notifyOnce(news Mark) {
	list := p.watchers[news]
	for i, x := range list {
		list[i] = nil
		x.w.Moved(p)
		x.over()
	}
	p.watchers[news] = list[:0]
}

// wake notifies all that watch. p.mu is held.
func (p *Partition) wake() {
	p.moved(HighWatermark)
	p.moved(LogEnd)
}
