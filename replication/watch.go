package replication

// Watcher is notified when a partition has new records to read.
type Watcher interface {
	// Moved is called with the lock of the partition held, for each time that the mark
	// moves or the role changes. It must not block, and must not call a method of the
	// partition.
	Moved(p *Partition)
}

// Mark is what a watcher of a partition waits for.
type Mark uint8

// The marks.
const (
	HighWatermark Mark = iota // consumers read up to it
	LogEnd                    // followers read up to it
	marks
)

// Watch is one watcher of one partition. The zero value watches nothing; it must
// not be copied while it watches. Beginning and ending cost the same however many
// watch the partition.
type Watch struct {
	p    *Partition // nil while it watches nothing
	w    Watcher
	mark Mark
	at   int // in p.watchers[mark]; guarded by p.mu
}

// Watch has w notified when mark moves, or the partition's role changes, until x ends.
func (p *Partition) Watch(x *Watch, mark Mark, w Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := &p.watchers[mark]
	*x = Watch{p, w, mark, len(*list)}
	*list = append(*list, x)
}

// End ends a Watch. It may be called more than once.
func (x *Watch) End() {
	p := x.p
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.watchers[x.mark]
	last := len(list) - 1
	list[x.at] = list[last]
	list[x.at].at = x.at
	list[last] = nil
	p.watchers[x.mark] = list[:last]
	*x = Watch{}
}

// moved notifies those that watch a mark. p.mu is held.
func (p *Partition) moved(mark Mark) {
	for _, x := range p.watchers[mark] {
		x.w.Moved(p)
	}
}

// wake notifies all that watch. p.mu is held.
func (p *Partition) wake() {
	for mark := range marks {
		p.moved(mark)
	}
}
