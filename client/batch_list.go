package client

import "iter"

// batchList holds the batches that were not reported yet, by their id. Parts of a
// split batch stand where it stood.
type batchList struct {
	items []*batch // completed ones at the head are dropped
	live  int
}

func (l *batchList) push(b *batch) {
	l.items = append(l.items, b)
	l.live++
}

func (l *batchList) len() int { return l.live }

// split puts parts in the place of b.
func (l *batchList) split(b *batch, parts []*batch) {
	for i, x := range l.items {
		if x == b {
			l.items = append(l.items[:i:i], append(append([]*batch(nil), parts...), l.items[i+1:]...)...)
			l.live += len(parts) - 1
			return
		}
	}
}

// told drops b, which has been reported.
func (l *batchList) told(b *batch) {
	l.live--
	b.id = 0
	for len(l.items) > 0 && l.items[0].id == 0 {
		l.items[0] = nil
		l.items = l.items[1:]
	}
}

// oldest reports whether a batch up to id is still there.
func (l *batchList) oldest(id uint64) bool { return len(l.items) > 0 && l.items[0].id <= id }

// all returns a copy of the list.
func (l *batchList) all() (all []*batch) {
	for _, b := range l.items {
		if b.id != 0 {
			all = append(all, b)
		}
	}
	return all
}

// undecided ranges over the batches without an outcome, the oldest first. The
// caller may decide the one it is given.
func (l *batchList) undecided() iter.Seq[*batch] {
	return func(yield func(*batch) bool) {
		for _, b := range l.items {
			if b.id != 0 && !b.completed && !yield(b) {
				return
			}
		}
	}
}
