package replication

import "sync"

// movedStarts are the partitions of a fetcher whose log start offset has moved up since their
// leader was told of it. The leader sends consumers only where their offset still is
// (KIP-392), and a partition without new records is not asked for again by itself.
//
// The lock is taken with locks of a log held, and no other is taken below it.
type movedStarts struct {
	mu   sync.Mutex
	list []*followed
}

// take returns those that have moved since the last call.
func (m *movedStarts) take() []*followed {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.list
	m.list = nil
	return list
}

// StartMoved implements log.StartWatcher. The watch is over then, so that a partition is in
// the list once for each time that its leader was asked.
func (x *followed) StartMoved() {
	x.began.mu.Lock()
	defer x.began.mu.Unlock()
	x.began.list = append(x.began.list, x)
}

// tell has the next request of the session name a partition of it again. mu is held.
func (f *fetcher) tell(x *followed) {
	if x.inSession && !x.stale && !x.gone {
		x.stale = true
		f.told = append(f.told, x)
	}
}
