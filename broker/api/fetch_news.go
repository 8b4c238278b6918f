package api

import (
	"cmp"
	"slices"
	"sync"

	"github.com/klamm-io/klamm/replication"
)

// member is the place of a partition in a fetch session. A partition is marked when
// it may have news since the session's last answer: somebody who watches it says so, or
// what was found in it last may be found again, or the client asks for something else.
// A fetch of the session visits those that are marked, and no other.
//
// Invariant: between two requests, a member that is not marked has been read without an
// error and up to its end, the client knows all of that, and watch tells of any change.
type member struct {
	session *fetchSession
	f       *fetched
	watch   replication.Watch
	at      int   // in session.parts, -1 once it has left
	order   int64 // in answers, rising

	visited bool // by the request that the session is busy with
	marked  bool // it is in session.news.marked; guarded by its mutex
}

// Moved implements replication.Watcher.
func (m *member) Moved(*replication.Partition) { m.session.news.mark(m) }

// sessionNews are the members of a session that are marked. The mutex is taken with
// the locks of a partition held, and no other is taken below it.
type sessionNews struct {
	mu     sync.Mutex
	marked []*member
	waiter *alarm // of a request that waits, nil for none
}

// mark notes that there may be news of m, and wakes the request that waits.
func (n *sessionNews) mark(m *member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.marked {
		return
	}
	m.marked = true
	n.marked = append(n.marked, m)
	if n.waiter != nil {
		n.waiter.nudge()
	}
}

// wakes sets who is woken by news, those that are there already included; nil for
// nobody.
func (n *sessionNews) wakes(a *alarm) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.waiter = a; a != nil && len(n.marked) > 0 {
		a.nudge()
	}
}

// take adds the members that are marked to those that a request visits, and returns
// them in the order of answers.
func (n *sessionNews) take(visits []*fetched) []*fetched {
	n.mu.Lock()
	before := len(visits)
	for i, m := range n.marked {
		n.marked[i], m.marked = nil, false
		if m.at >= 0 && !m.visited {
			m.visited = true
			visits = append(visits, m.f)
		}
	}
	n.marked = n.marked[:0]
	n.mu.Unlock()
	if len(visits) > before {
		slices.SortFunc(visits, func(a, b *fetched) int { return cmp.Compare(a.in.order, b.in.order) })
	}
	return visits
}

// add puts a partition at the end of a session.
func (f *fetchSession) add(p *fetched) {
	p.in = &member{session: f, f: p, at: len(f.parts), order: f.orders}
	f.orders++
	f.parts = append(f.parts, p)
	f.index[p.key()] = p
	f.news.mark(p.in)
}

// remove takes a partition out of a session.
func (f *fetchSession) remove(p *fetched) {
	last := len(f.parts) - 1
	f.parts[p.in.at] = f.parts[last]
	f.parts[p.in.at].in.at = p.in.at
	f.parts[last] = nil
	f.parts, p.in.at = f.parts[:last], -1
	delete(f.index, p.key())
	p.in.watch.End()
}

// asks notes who reads, as a request says it. Where that changes, all that is known
// of the partitions is void.
func (f *fetchSession) asks(who fetchReader) {
	if f.who == who {
		return
	}
	f.who = who
	for _, p := range f.parts {
		f.news.mark(p.in)
	}
}

// watch has the session notified of what happens to a partition of it from now on.
func (f *fetchSession) watch(m *member, p *replication.Partition) {
	news := replication.ConsumerNews
	if f.who.follower >= 0 {
		news = replication.FollowerNews
	}
	p.WatchOnce(&m.watch, news, m)
}

// settle ends the visits of a request. quiet says of each whether the client knows all
// that there is; the others are visited by the next request too. It is nil if the
// client was sent nothing.
//
// Partitions that were sent with data, as sent says, go to the end, so that the others
// come first next time.
func (f *fetchSession) settle(visits []*fetched, quiet, sent []bool) {
	for i, p := range visits {
		m := p.in
		m.visited = false
		if quiet == nil || !quiet[i] {
			f.news.mark(m)
		}
		if sent != nil && sent[i] {
			m.order = f.orders
			f.orders++
		}
	}
}

// release gives back what a session holds elsewhere. Nobody uses it any more.
func (f *fetchSession) release() {
	for _, p := range f.parts {
		p.in.watch.End()
	}
}
