package history

import (
	"fmt"
	"maps"
	"slices"
)

// inconsistentOffsets finds offsets at which two values were seen.
func inconsistentOffsets(x *index) (out []Anomaly) {
	for _, at := range x.order {
		p := x.parts[at]
		for _, offset := range p.offsets {
			seen := p.values[offset]
			if len(seen) < 2 {
				continue
			}
			a := Anomaly{Name: "inconsistent-offset", Partition: at, Offsets: []int64{offset}, Detail: "one offset holds several values:"}
			for _, s := range seen {
				a.Detail += fmt.Sprint(" ", s.value)
				a.Events = append(a.Events, s.event)
			}
			out = append(out, a)
		}
	}
	return out
}

// duplicates finds values at two offsets, of producers that must not make them.
func duplicates(x *index) (out []Anomaly) {
	for _, at := range x.order {
		p := x.parts[at]
		first := make(map[int64]int64) // offset by value
		for _, offset := range p.offsets {
			for _, s := range p.values[offset] {
				before, ok := first[s.value]
				if !ok {
					first[s.value] = offset
					continue
				}
				w, known := x.writers[s.value]
				if known && !w.idempotent {
					continue
				}
				a := Anomaly{Name: "duplicate", Partition: at, Offsets: []int64{before, offset},
					Detail: fmt.Sprintf("value %d is there twice", s.value), Events: []int{s.event}}
				if known {
					a.Events = append([]int{w.event}, a.Events...)
				}
				out = append(out, a)
			}
		}
	}
	return out
}

// wrongReads finds values that were read and must not have been.
func wrongReads(x *index) (out []Anomaly) {
	for _, v := range slices.Sorted(maps.Keys(x.readers)) {
		w, sent := x.writers[v]
		for _, r := range x.readers[v] {
			a := Anomaly{Partition: r.at, Offsets: []int64{r.offset}, Events: []int{r.event}}
			switch {
			case !sent:
				a.Name, a.Detail = "phantom", fmt.Sprintf("nobody sent value %d", v)
			case w.at != r.at:
				a.Name, a.Detail = "misplaced", fmt.Sprintf("value %d was sent to %s", v, w.at)
			case w.status == Fail:
				a.Name, a.Detail = "failed-read", fmt.Sprintf("the send of value %d has failed", v)
			case x.events[r.event].Returned < x.events[w.event].Invoked:
				a.Name, a.Detail = "early-read", fmt.Sprintf("value %d was read before it was sent", v)
			default:
				continue
			}
			if sent {
				a.Events = []int{w.event, r.event}
			}
			out = append(out, a)
			break
		}
	}
	return out
}

// lostWrites finds values that must be there and were not read: lost-write if somebody has read
// past their place, and unseen if nobody has come so far.
func lostWrites(x *index) (out []Anomaly) {
	for _, v := range slices.Sorted(maps.Keys(x.writers)) {
		w := x.writers[v]
		p := x.parts[w.at]
		if x.o.Lossy(w.at.Topic) || !x.must(w) || p.final[v] {
			continue
		}
		read := x.readers[v]
		if len(read) > 0 && !p.wasRead {
			continue // it was there, and nobody looks what is left
		}
		a := Anomaly{Partition: w.at, Offsets: []int64{x.place(w)}, Events: []int{w.event}}
		switch {
		case len(read) > 0:
			a.Name, a.Detail = "lost-write", fmt.Sprintf("value %d was read once, and is not there at the end", v)
			a.Events = append(a.Events, read[0].event)
		case a.Offsets[0] <= p.end:
			a.Name, a.Detail = "lost-write", fmt.Sprintf("value %d was acknowledged and never read; offset %d was", v, p.end)
		case p.wasRead:
			a.Name, a.Detail = "unseen", fmt.Sprintf("value %d was acknowledged, and the last offset that anybody has read is %d", v, p.end)
		default:
			continue
		}
		out = append(out, a)
	}
	return out
}

// sendOrder finds records of one idempotent producer that are not in the order in which it sent
// them. Only acknowledged ones count: a producer that gives one up may start anew.
func sendOrder(x *index) (out []Anomaly) {
	type stream struct {
		process int
		at      Partition
	}
	type last struct {
		event  int
		offset int64
		value  int64
	}
	seen := make(map[stream]last)
	for i, e := range x.events {
		if e.Kind != Send || e.Status != OK || !e.Idempotent {
			continue
		}
		for _, op := range e.Ops {
			if op.Offset < 0 || x.o.Lossy(op.Topic) {
				continue
			}
			s := stream{e.Process, op.at()}
			if l, ok := seen[s]; ok && op.Offset <= l.offset {
				name := "nonmonotonic-send"
				if l.event == i {
					name = "internal-nonmonotonic-send"
				}
				out = append(out, Anomaly{Name: name, Partition: op.at(), Offsets: []int64{l.offset, op.Offset},
					Detail: fmt.Sprintf("value %d was sent after value %d", op.Value, l.value), Events: []int{l.event, i}})
			}
			seen[s] = last{i, op.Offset, op.Value}
		}
	}
	return out
}
