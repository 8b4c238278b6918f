package history

import (
	"cmp"
	"fmt"
	"slices"
)

// known is an offset that somebody was told at some time.
type known struct {
	time   int64
	offset int64
	event  int
}

// realTime finds sends that were invoked after an offset was told to anybody, by an
// acknowledgement or a poll, and that are not behind it.
func realTime(x *index) (out []Anomaly) {
	told := make(map[Partition][]known)
	for i, e := range x.events {
		if e.Returned == Forever || e.Kind != Poll && (e.Kind != Send || e.Status != OK) {
			continue
		}
		for _, op := range e.Ops {
			if op.Offset >= 0 && !x.o.Lossy(op.Topic) {
				told[op.at()] = append(told[op.at()], known{e.Returned, op.Offset, i})
			}
		}
	}
	for _, t := range told {
		slices.SortStableFunc(t, func(a, b known) int { return cmp.Compare(a.time, b.time) })
	}
	type scan struct {
		next int
		top  known
	}
	scans := make(map[Partition]*scan)
	for i, e := range x.events { // by the time when they were invoked
		if e.Kind != Send {
			continue
		}
		for _, op := range e.Ops {
			w := x.writers[op.Value]
			if !x.must(w) || x.o.Lossy(op.Topic) {
				continue
			}
			at, s := op.at(), scans[op.at()]
			if s == nil {
				s = &scan{top: known{offset: -1}}
				scans[at] = s
			}
			for ; s.next < len(told[at]) && told[at][s.next].time < e.Invoked; s.next++ {
				if k := told[at][s.next]; k.offset > s.top.offset {
					s.top = k
				}
			}
			if place := x.place(w); place >= 0 && place <= s.top.offset {
				out = append(out, Anomaly{Name: "realtime-order", Partition: at, Offsets: []int64{s.top.offset, place},
					Detail: fmt.Sprintf("value %d was sent %.3f s after offset %d was told, and is at offset %d",
						op.Value, seconds(e.Invoked-s.top.time), s.top.offset, place),
					Events: []int{s.top.event, i}})
			}
		}
	}
	return out
}

// ends finds ends of a partition that go back in real time while its leader epoch is the same.
func ends(x *index) (out []Anomaly) {
	type reign struct {
		at    Partition
		epoch int32
	}
	told := make(map[reign][]known)
	for i, e := range x.events {
		if e.Kind != End || e.Status != OK {
			continue
		}
		for _, op := range e.Ops {
			if !x.o.Lossy(op.Topic) {
				r := reign{op.at(), op.Epoch}
				told[r] = append(told[r], known{e.Returned, op.Offset, i})
			}
		}
	}
	for r, t := range told {
		asked := slices.Clone(t) // in the order in which they were invoked
		slices.SortStableFunc(t, func(a, b known) int { return cmp.Compare(a.time, b.time) })
		top, next := known{offset: -1}, 0
		for _, k := range asked {
			for ; next < len(t) && t[next].time < x.events[k.event].Invoked; next++ {
				if t[next].offset > top.offset {
					top = t[next]
				}
			}
			if k.offset < top.offset {
				out = append(out, Anomaly{Name: "end-went-back", Partition: r.at, Offsets: []int64{top.offset, k.offset},
					Detail: fmt.Sprintf("in leader epoch %d the end was %d and later %d", r.epoch, top.offset, k.offset),
					Events: []int{top.event, k.event}})
			}
		}
	}
	return out
}

// producerIDs finds producer ids that were given out twice.
func producerIDs(x *index) (out []Anomaly) {
	type block struct {
		first, count int64
		event        int
	}
	var blocks []block
	for i, e := range x.events {
		if e.Kind == ProducerID && e.Status == OK {
			blocks = append(blocks, block{e.First, e.Count, i})
		}
	}
	slices.SortStableFunc(blocks, func(a, b block) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(blocks); i++ {
		a, b := blocks[i-1], blocks[i]
		if a.first+a.count > b.first {
			out = append(out, Anomaly{Name: "producer-id-twice", Events: []int{a.event, b.event},
				Detail: fmt.Sprintf("producer ids [%d,%d) and [%d,%d) were both given out", a.first, a.first+a.count, b.first, b.first+b.count)})
		}
		if a.first+a.count > b.first+b.count {
			blocks[i] = a // it reaches further
		}
	}
	return out
}
