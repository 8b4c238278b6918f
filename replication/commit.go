package replication

import (
	"cmp"
	"slices"
)

// Commit is an append that waits until all in-sync replicas hold it, or until it
// is on disk where a topic asks for that (flush.messages).
//
// The partition's mutex guards its unexported fields until Done is closed.
type Commit struct {
	offset  int64 // the log end behind it
	done    chan struct{}
	err     error
	settled bool // done is closed
	gone    bool // nobody waits any more
	list    *commits
}

// Done is closed once the append is committed, or cannot be.
func (c *Commit) Done() <-chan struct{} { return c.done }

// Err returns why the append was not committed, nil if it was. It may be called
// once Done is closed.
func (c *Commit) Err() error { return c.err }

// commits are the appends of a partition that wait, in the order of their
// offsets. What each operation costs does not depend on how many wait, but for
// one that is added out of order, as the repetition of a batch is.
//
// Invariant: the offsets of queue rise.
type commits struct {
	queue []*Commit
	gone  int // of queue, that were abandoned
}

// add enters a new Commit.
func (l *commits) add(offset int64) *Commit {
	c := &Commit{offset: offset, done: make(chan struct{}), list: l}
	if n := len(l.queue); n == 0 || l.queue[n-1].offset <= offset {
		l.queue = append(l.queue, c)
		return c
	}
	at, _ := slices.BinarySearchFunc(l.queue, offset+1, func(x *Commit, offset int64) int { return cmp.Compare(x.offset, offset) })
	l.queue = slices.Insert(l.queue, at, c)
	return c
}

// settle answers with err those that wait for offset or less.
func (l *commits) settle(offset int64, err error) {
	n := 0
	for n < len(l.queue) && l.queue[n].offset <= offset {
		c := l.queue[n]
		l.queue[n] = nil
		if c.gone {
			l.gone--
		}
		c.err, c.settled = err, true
		close(c.done)
		n++
	}
	l.queue = l.queue[n:]
	l.sweep()
}

// abandon takes c off the list. It stays in its place until half of the list has
// gone, so that many that time out at once do not each move the others.
func (l *commits) abandon(c *Commit) {
	if c.gone {
		return
	}
	c.gone = true
	l.gone++
	l.sweep()
}

// sweep drops those that have gone once they are more than half of the list.
func (l *commits) sweep() {
	if len(l.queue) == 0 {
		l.queue = nil
	}
	if 2*l.gone <= len(l.queue) {
		return
	}
	kept := make([]*Commit, 0, len(l.queue)-l.gone)
	for _, x := range l.queue {
		if !x.gone {
			kept = append(kept, x)
		}
	}
	l.queue, l.gone = kept, 0
}
