package history

import "fmt"

// pollOrder finds polls that go back, or leave out what is there: within one poll, and from one
// to the next of a process that no group moves.
func pollOrder(x *index) (out []Anomaly) {
	type cursor struct {
		event int
		after int64 // the offset before the next one
	}
	positions := make(map[int]map[Partition]cursor) // by process
	for i, e := range x.events {
		switch e.Kind {
		case Assign:
			positions[e.Process] = make(map[Partition]cursor)
			for _, op := range e.Ops {
				if op.Offset >= 0 {
					positions[e.Process][op.at()] = cursor{i, op.Offset - 1}
				}
			}
		case Poll:
			within := make(map[Partition]cursor)
			for _, op := range e.Ops {
				if x.o.Lossy(op.Topic) && !e.Final {
					continue
				}
				at := op.at()
				prefix, from := "internal-", cursor{}
				var known bool
				if from, known = within[at]; !known && e.Assigned {
					prefix = ""
					from, known = positions[e.Process][at]
				}
				if known {
					out = append(out, x.step(prefix, at, from.event, i, from.after, op.Offset)...)
				}
				within[at] = cursor{i, op.Offset}
			}
			if p := positions[e.Process]; e.Assigned && p != nil {
				for at, c := range within {
					p[at] = c
				}
			}
		}
	}
	return out
}

// step judges one move of a reader, from the offset after to the offset to.
func (x *index) step(prefix string, at Partition, before, event int, after, to int64) []Anomaly {
	a := Anomaly{Partition: at, Offsets: []int64{after, to}, Events: []int{before, event}}
	if to <= after {
		a.Name, a.Detail = prefix+"nonmonotonic-poll", fmt.Sprintf("offset %d is read after offset %d", to, after)
		return []Anomaly{a}
	}
	if some, n := x.parts[at].skipped(after, to); n > 0 {
		a.Name, a.Detail = prefix+"poll-skip", fmt.Sprintf("between offsets %d and %d, %d are left out: %v", after, to, n, some)
		return []Anomaly{a}
	}
	return nil
}
