package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// mutation makes a good history bad. It reports whether what it did is an anomaly for certain;
// the reason is with each.
type mutation struct {
	what string
	do   func(h *good) bool
}

// good is a history without anomalies and what is known of it.
type good struct {
	*rand.Rand
	events []Event
	sends  map[int64]int // event by value
	seen   map[int64]int // polls that have returned a value
}

func newGood(seed uint64) *good {
	h := &good{rand.New(rand.NewPCG(seed, 1)), goodHistory(seed, 150), make(map[int64]int), make(map[int64]int)}
	for i, e := range h.events {
		h.events[i].Ops = slices.Clone(e.Ops)
		for _, op := range e.Ops {
			switch e.Kind {
			case Send:
				h.sends[op.Value] = i
			case Poll:
				h.seen[op.Value]++
			}
		}
	}
	return h
}

// pick returns an event that fits, nil if there is none.
func (h *good) pick(ok func(*Event) bool) *Event {
	var fit []*Event
	for i := range h.events {
		if ok(&h.events[i]) {
			fit = append(fit, &h.events[i])
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[h.IntN(len(fit))]
}

func acked(e *Event) bool { return e.Kind == Send && e.Status == OK }

func polls(n int) func(*Event) bool {
	return func(e *Event) bool { return e.Kind == Poll && len(e.Ops) >= n }
}

// confirmed reports whether a value has been seen at its offset by somebody else than one poll.
func (h *good) confirmed(value int64) bool {
	return h.events[h.sends[value]].Status == OK || h.seen[value] > 1
}

var mutations = []mutation{
	{"two offsets in a poll are swapped", func(h *good) bool {
		e := h.pick(polls(2))
		i := h.IntN(len(e.Ops) - 1)
		a, b := &e.Ops[i], &e.Ops[i+1]
		if a.at() != b.at() {
			return false // the records of two partitions: nothing is swapped
		}
		a.Offset, b.Offset = b.Offset, a.Offset
		return true // the poll goes back
	}},
	{"two values in a poll are swapped", func(h *good) bool {
		e := h.pick(polls(2))
		i, j := h.IntN(len(e.Ops)), h.IntN(len(e.Ops))
		a, b := &e.Ops[i], &e.Ops[j]
		a.Value, b.Value = b.Value, a.Value
		// Where only this poll has seen either, and nobody was told where it is, the two may as
		// well have been written in this order.
		return a.Value != b.Value && (a.at() != b.at() || h.confirmed(a.Value) || h.confirmed(b.Value))
	}},
	{"two acknowledged offsets are swapped", func(h *good) bool {
		a, b := h.pick(acked), h.pick(acked)
		a.Ops[0].Offset, b.Ops[0].Offset = b.Ops[0].Offset, a.Ops[0].Offset
		return a.Ops[0].Offset != b.Ops[0].Offset // the final reader sees them at others
	}},
	{"a record is dropped from a poll", func(h *good) bool {
		e := h.pick(func(e *Event) bool { return polls(3)(e) })
		i := 1 + h.IntN(len(e.Ops)-2)
		gone := e.Ops[i]
		inside := e.Ops[i-1].at() == gone.at() && e.Ops[i+1].at() == gone.at()
		e.Ops = slices.Delete(e.Ops, i, i+1)
		// At the end of a poll of a consumer that is given something else then, it may never have
		// come so far. And what only this poll has seen need not be there.
		return (inside || e.Final) && h.confirmed(gone.Value)
	}},
	{"a record is dropped from every poll", func(h *good) bool {
		e := h.pick(acked)
		for i := range h.events {
			if h.events[i].Kind == Poll {
				h.events[i].Ops = slices.DeleteFunc(h.events[i].Ops, func(op Op) bool { return op.Value == e.Ops[0].Value })
			}
		}
		return true // it was acknowledged
	}},
	{"a poll is dropped", func(h *good) bool {
		var i int
		for i = h.IntN(len(h.events)); !polls(1)(&h.events[i]); {
			i = h.IntN(len(h.events))
		}
		gone := h.events[i]
		h.events = slices.Delete(h.events, i, i+1)
		if !gone.Assigned {
			return false // a group's members may start anywhere
		}
		// It is missed if the same process goes on reading the same partition, and what it read
		// is known from others.
		for _, e := range h.events[i:] {
			if e.Process == gone.Process && e.Kind == Assign {
				return false
			}
			if e.Process == gone.Process && e.Kind == Poll {
				return slices.ContainsFunc(gone.Ops, func(op Op) bool {
					return h.confirmed(op.Value) && slices.ContainsFunc(e.Ops, func(o Op) bool { return o.at() == op.at() })
				})
			}
		}
		return false
	}},
	{"a send is dropped", func(h *good) bool {
		i := h.sends[h.pick(acked).Ops[0].Value]
		h.events = slices.Delete(h.events, i, i+1)
		return true // nobody sent what the final reader reads
	}},
	{"a record is read twice in a poll", func(h *good) bool {
		e := h.pick(polls(1))
		i := h.IntN(len(e.Ops))
		e.Ops = slices.Insert(e.Ops, i, e.Ops[i])
		return true
	}},
	{"a record is there again at the end", func(h *good) bool {
		e := h.pick(func(e *Event) bool { return e.Final && polls(1)(e) })
		last := e.Ops[len(e.Ops)-1]
		op := e.Ops[h.IntN(len(e.Ops))]
		op.Partition, op.Offset = last.Partition, last.Offset+1
		e.Ops = append(e.Ops, op)
		return true // at one more offset, or in another partition
	}},
	{"a poll is shifted", func(h *good) bool {
		e := h.pick(polls(1))
		by := int64(1 + h.IntN(3))
		if h.IntN(2) == 0 {
			by = -by
		}
		sure := false
		for i := range e.Ops {
			e.Ops[i].Offset += by
			sure = sure || h.confirmed(e.Ops[i].Value)
		}
		return sure
	}},
	{"an acknowledged offset is shifted", func(h *good) bool {
		h.pick(acked).Ops[0].Offset += int64(1 + h.IntN(3))
		return true
	}},
	{"an acknowledged record goes to another partition", func(h *good) bool {
		op := &h.pick(acked).Ops[0]
		op.Partition = (op.Partition + 1) % idealPartitions
		return true
	}},
	{"an acknowledgement becomes a failure", func(h *good) bool {
		h.pick(acked).Status = Fail
		return true // the final reader reads it
	}},
	{"a failure becomes an acknowledgement", func(h *good) bool {
		e := h.pick(func(e *Event) bool { return e.Kind == Send && e.Status == Fail })
		if e == nil {
			return false
		}
		e.Status, e.Ops[0].Offset = OK, int64(h.IntN(5))
		return true // nobody reads it
	}},
	{"a send happens after it was read", func(h *good) bool {
		e := *h.pick(acked)
		i := h.sends[e.Ops[0].Value]
		h.events = slices.Delete(h.events, i, i+1)
		last := h.events[len(h.events)-1].Returned
		e.Invoked, e.Returned = last+1, last+2
		h.events = append(h.events, e)
		return true
	}},
	{"the value of a record that was read is another", func(h *good) bool {
		e := h.pick(polls(1))
		e.Ops[h.IntN(len(e.Ops))].Value = 1 << 40
		return true
	}},
	{"an end goes back", func(h *good) bool {
		e := h.pick(func(e *Event) bool { return e.Kind == End && e.Ops[0].Offset > 0 })
		if e == nil {
			return false
		}
		top := int64(0)
		for _, b := range h.events {
			if b.Kind == End && b.Returned < e.Invoked && b.Ops[0].at() == e.Ops[0].at() {
				top = max(top, b.Ops[0].Offset)
			}
		}
		e.Ops[0].Offset = max(top-1, 0)
		return top > 0
	}},
}

// Every mutation that cannot be the history of a good cluster is found, and no good history is
// called bad.
func TestMutations(t *testing.T) {
	const seeds = 60
	for seed := range uint64(seeds) {
		if r, err := Check(newGood(seed).events, Options{}); err != nil || len(r.Anomalies) > 0 || r.Reads < 100 {
			t.Fatalf("seed %d: a good history is called bad: %v\n%v", seed, err, r)
		}
	}
	made, found := 0, 0
	for _, m := range mutations {
		bad, flagged := 0, 0
		first := ""
		for seed := range uint64(seeds) {
			h := newGood(seed)
			if !m.do(h) {
				continue
			}
			bad++
			if r, err := Check(h.events, Options{}); err != nil || len(r.Anomalies) > 0 {
				flagged++
			} else if first == "" {
				first = fmt.Sprintf(", not so seed %d", seed)
			}
		}
		t.Logf("%s: %d of %d found%s", m.what, flagged, bad, first)
		if bad < seeds/6 {
			t.Errorf("%s: only %d bad histories were made", m.what, bad)
		}
		made, found = made+bad, found+flagged
	}
	t.Logf("%d of %d found", found, made)
	if found*100 < made*99 {
		t.Errorf("%d of %d mutations are found, want 99 %%", found, made)
	}
}

// A history of many events is checked in one go through it.
func TestLongHistory(t *testing.T) {
	r, err := Check(goodHistory(7, 20000), Options{})
	if err != nil || len(r.Anomalies) > 0 {
		t.Fatal(r, err)
	}
	t.Log(r)
}
