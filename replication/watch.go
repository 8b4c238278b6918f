package replication

// Watcher is told when a partition has new records to read. Moved must not
// block.
type Watcher interface{ Moved(p *Partition) }

// Watch is one watcher of one partition. The zero value watches nothing; it must
// not be copied while it watches. Beginning and ending cost the same however many
// watch the partition.
type Watch struct {
	p  *Partition // nil while it watches nothing
	w  Watcher
	at int // in p.watchers; guarded by p.mu
}

// Watch has w told of new records until x ends.
func (p *Partition) Watch(x *Watch, w Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*x = Watch{p, w, len(p.watchers)}
	p.watchers = append(p.watchers, x)
}

// End ends a Watch. It may be called more than once.
func (x *Watch) End() {
	p := x.p
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.watchers) - 1
	p.watchers[x.at] = p.watchers[last]
	p.watchers[x.at].at = x.at
	p.watchers[last] = nil
	p.watchers = p.watchers[:last]
	*x = Watch{}
}

// wake tells who watches. p.mu is held.
func (p *Partition) wake() {
	for _, x := range p.watchers {
		x.w.Moved(p)
	}
}
