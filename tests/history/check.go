package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Options say what a history may hold.
type Options struct {
	// Lossy are topics that may lose what was acknowledged, as those that are not flushed do
	// when all brokers lose power at once. What is left of them at the end is still checked
	// for records that nobody sent, or that are there twice.
	Lossy func(topic string) bool
}

// Anomaly is something that must not be in a history.
type Anomaly struct {
	Name      string
	Partition Partition // of the records; the zero value if it is not about records
	Offsets   []int64
	Detail    string
	Events    []int // indexes of the operations in the history
}

// Report is the outcome of a check.
type Report struct {
	Anomalies []Anomaly
	Events    int // looked at
	Sends     int // records sent, by how their send ended
	Acked     int
	Failed    int
	Unknown   int
	Survived  int // records of unknown sends that were read
	Reads     int // records read
	history   []Event
}

// String names every anomaly with the operations that it is made of.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d events: %d records sent, %d acknowledged, %d failed, %d unknown (%d of them read); %d records read; %d anomalies\n",
		r.Events, r.Sends, r.Acked, r.Failed, r.Unknown, r.Survived, r.Reads, len(r.Anomalies))
	count := make(map[string]int)
	for _, a := range r.Anomalies {
		if count[a.Name]++; count[a.Name] > 10 {
			continue
		}
		fmt.Fprintf(&b, "%s: ", a.Name)
		if a.Partition.Topic != "" {
			fmt.Fprintf(&b, "%s offsets %v: ", a.Partition, a.Offsets)
		}
		fmt.Fprintf(&b, "%s\n", a.Detail)
		for _, i := range a.Events[:min(len(a.Events), 6)] {
			fmt.Fprintf(&b, "    %d: %s\n", i, r.history[i])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "%d of %s\n", count[name], name)
	}
	return b.String()
}

// pass looks for anomalies of some kinds.
type pass func(*index) []Anomaly

// passes are run in this order. Each is linear in the history, or n log n.
var passes = []pass{inconsistentOffsets, duplicates, wrongReads, pollOrder, sendOrder, lostWrites, realTime, ends, producerIDs}

// Check looks for everything that must not be in a history. An error means that the history
// itself makes no sense, as when a value was sent twice.
func Check(events []Event, o Options) (*Report, error) {
	if o.Lossy == nil {
		o.Lossy = func(string) bool { return false }
	}
	x, err := newIndex(events, o)
	if err != nil {
		return nil, err
	}
	r := &Report{Events: len(events), history: events}
	for _, p := range passes {
		r.Anomalies = append(r.Anomalies, p(x)...)
	}
	for _, w := range x.writers {
		r.Sends++
		switch w.status {
		case OK:
			r.Acked++
		case Fail:
			r.Failed++
		default:
			r.Unknown++
			if len(x.readers[w.value]) > 0 {
				r.Survived++
			}
		}
	}
	for _, reads := range x.readers {
		r.Reads += len(reads)
	}
	return r, nil
}

// writer is the send of one value.
type writer struct {
	event      int
	at         Partition
	value      int64
	offset     int64 // that it was told; -1 if none
	status     Status
	idempotent bool
}

// reading is one record that a poll returned.
type reading struct {
	event  int
	at     Partition
	offset int64
}

// index is pass 0: who wrote what, who read it, and what each partition holds.
type index struct {
	o       Options
	events  []Event
	writers map[int64]writer
	readers map[int64][]reading
	parts   map[Partition]*partition
	order   []Partition // the partitions, sorted
}

// partition is what is known of a partition: pass 1.
type partition struct {
	values  map[int64][]sighting // by offset
	offsets []int64              // of values, sorted: a place in it is a dense index
	final   map[int64]bool       // values of the final read
	wasRead bool                 // by a final reader
	end     int64                // highest offset that anybody has read, -1 for none
}

// sighting is a value that an event saw at an offset.
type sighting struct {
	value int64
	event int
}

func newIndex(events []Event, o Options) (*index, error) {
	x := &index{o: o, events: events, writers: make(map[int64]writer), readers: make(map[int64][]reading), parts: make(map[Partition]*partition)}
	for i, e := range events {
		if i > 0 && e.Invoked < events[i-1].Invoked {
			return nil, fmt.Errorf("event %d is invoked before event %d: %s", i, i-1, e)
		}
		if e.Returned < e.Invoked {
			return nil, fmt.Errorf("event %d returns before it is invoked: %s", i, e)
		}
		for _, op := range e.Ops {
			switch e.Kind {
			case Send:
				if w, ok := x.writers[op.Value]; ok {
					return nil, fmt.Errorf("value %d is sent by event %d and event %d: %s", op.Value, w.event, i, e)
				}
				w := writer{i, op.at(), op.Value, -1, e.Status, e.Idempotent}
				if e.Status == OK {
					w.offset = op.Offset
				}
				x.writers[op.Value] = w
				if p := x.partition(op.at()); w.offset >= 0 && !o.Lossy(op.Topic) {
					p.see(w.offset, op.Value, i)
				}
			case Poll:
				x.readers[op.Value] = append(x.readers[op.Value], reading{i, op.at(), op.Offset})
				p := x.partition(op.at())
				p.end = max(p.end, op.Offset)
				if e.Final {
					p.final[op.Value] = true
				}
				if e.Final || !o.Lossy(op.Topic) {
					p.see(op.Offset, op.Value, i)
				}
			case Assign:
				if p := x.partition(op.at()); e.Final {
					p.wasRead = true
				}
			}
		}
	}
	for at, p := range x.parts {
		x.order = append(x.order, at)
		p.offsets = slices.Sorted(maps.Keys(p.values))
	}
	slices.SortFunc(x.order, func(a, b Partition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Index, b.Index))
	})
	return x, nil
}

func (x *index) partition(at Partition) *partition {
	p := x.parts[at]
	if p == nil {
		p = &partition{values: make(map[int64][]sighting), final: make(map[int64]bool), end: -1}
		x.parts[at] = p
	}
	return p
}

// see notes a value at an offset, the first time that it is seen there.
func (p *partition) see(offset, value int64, event int) {
	for _, s := range p.values[offset] {
		if s.value == value {
			return
		}
	}
	p.values[offset] = append(p.values[offset], sighting{value, event})
}

// skipped are the known offsets between two, as a few of them and their number.
func (p *partition) skipped(after, before int64) (some []int64, n int) {
	from, found := slices.BinarySearch(p.offsets, after)
	if found {
		from++
	}
	to, _ := slices.BinarySearch(p.offsets, before)
	if to <= from {
		return nil, 0
	}
	return p.offsets[from:min(to, from+8)], to - from
}

// must reports whether a send is known to have happened: it was acknowledged, or read.
func (x *index) must(w writer) bool {
	return w.status == OK || w.status == Info && len(x.readers[w.value]) > 0
}

// place is the offset of a send that is known to have happened, -1 if nobody knows it.
func (x *index) place(w writer) int64 {
	if w.offset >= 0 {
		return w.offset
	}
	if r := x.readers[w.value]; len(r) > 0 {
		return r[0].offset
	}
	return -1
}
