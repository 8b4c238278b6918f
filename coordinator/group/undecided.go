package group

import (
	"maps"
	"slices"
	"strings"
)

// place is what an offset is committed for.
type place struct {
	group, topic string
	partition    int32
}

// waiting is an offset that waits for the end of its transaction.
type waiting struct {
	value  []byte
	offset int64 // of the record
}

// undecided are the offsets that were committed in transactions which have not ended.
//
// Invariant: both maps have the same places and producers, and nothing empty.
type undecided struct {
	byProducer map[int64]map[place]waiting
	byGroup    map[string]map[place]map[int64]struct{} // producers
}

func newUndecided() undecided {
	return undecided{make(map[int64]map[place]waiting), make(map[string]map[place]map[int64]struct{})}
}

// add enters an offset. One that the same producer has committed there before is
// replaced.
func (u *undecided) add(producer int64, p place, w waiting) {
	if u.byProducer[producer] == nil {
		u.byProducer[producer] = make(map[place]waiting)
	}
	u.byProducer[producer][p] = w
	if u.byGroup[p.group] == nil {
		u.byGroup[p.group] = make(map[place]map[int64]struct{})
	}
	if u.byGroup[p.group][p] == nil {
		u.byGroup[p.group][p] = make(map[int64]struct{})
	}
	u.byGroup[p.group][p][producer] = struct{}{}
}

// end takes out what a producer has committed.
func (u *undecided) end(producer int64) map[place]waiting {
	out := u.byProducer[producer]
	delete(u.byProducer, producer)
	for p := range out {
		u.remove(producer, p)
	}
	return out
}

// forget drops what any producer has committed for a place.
func (u *undecided) forget(p place) {
	for producer := range u.byGroup[p.group][p] {
		if of := u.byProducer[producer]; len(of) == 1 {
			delete(u.byProducer, producer)
		} else {
			delete(of, p)
		}
		u.remove(producer, p)
	}
}

// remove takes a producer out of byGroup.
func (u *undecided) remove(producer int64, p place) {
	places := u.byGroup[p.group]
	delete(places[p], producer)
	if len(places[p]) == 0 {
		delete(places, p)
	}
	if len(places) == 0 {
		delete(u.byGroup, p.group)
	}
}

// has reports whether an offset waits for a place.
func (u *undecided) has(p place) bool { return len(u.byGroup[p.group][p]) > 0 }

// of returns the places of a group, in order.
func (u *undecided) of(group string) []place {
	return slices.SortedFunc(maps.Keys(u.byGroup[group]), func(a, b place) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.partition) - int(b.partition)
	})
}
