package log

import "sync"

// StartWatcher is notified when the start offset of a log has moved up.
type StartWatcher interface {
	// StartMoved is called with locks of the log held. It must not block, and must not call
	// a method of the log, nor end or begin a watch.
	StartMoved()
}

// StartWatch is one watcher of one log, which is notified once. The zero value watches
// nothing; it must not be copied while it watches. Beginning and ending cost the same
// however many watch the log.
type StartWatch struct {
	in *startWatches // nil until it has watched; its owner's
	w  StartWatcher
	at int // in in.list, plus one; 0 while it watches nothing; guarded by in.mu
}

// startWatches are the watchers of one log. Its lock is taken below all others of the
// log, and of the partition that the log is of.
type startWatches struct {
	mu   sync.Mutex
	list []*StartWatch
}

// WatchStart has w notified the next time that the start offset moves up. If x watches
// the log already, nothing changes. The owner of x ends it before it watches another log.
func (l *Log) WatchStart(x *StartWatch, w StartWatcher) {
	in := &l.starts
	in.mu.Lock()
	defer in.mu.Unlock()
	if x.at > 0 {
		return
	}
	in.list = append(in.list, x)
	x.in, x.w, x.at = in, w, len(in.list)
}

// End ends a watch. It may be called more than once, by the owner or by who notifies it.
func (x *StartWatch) End() {
	in := x.in
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if x.at == 0 {
		return
	}
	last := len(in.list) - 1
	in.list[x.at-1] = in.list[last]
	in.list[x.at-1].at = x.at
	in.list[last] = nil
	in.list, x.at = in.list[:last], 0
}

// moved notifies those who watch, who then no longer do.
func (s *startWatches) moved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.list {
		x.at, s.list[i] = 0, nil
		x.w.StartMoved()
	}
	s.list = s.list[:0]
}

// moveStart sets the start offset, and notifies those who watch it.
func (l *Log) moveStart(offset int64) {
	l.start.Store(offset)
	l.starts.moved()
}
