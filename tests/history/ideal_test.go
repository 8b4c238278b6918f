package history

import (
	"math/rand/v2"
	"slices"
)

// ideal makes the history of a cluster that does nothing wrong: clients that do several things
// at once, sends whose outcome nobody sees, and a final reader.
type ideal struct {
	*rand.Rand
	now    int64
	value  int64
	logs   map[Partition][]int64 // values
	events []*Event
	late   []func() // appends that happen after their client has given up
}

const (
	idealPartitions = 3
	idealProducers  = 3
	idealConsumers  = 3
	idealGroup      = 100 // process of the group's member
	idealFinal      = 200
)

func (d *ideal) begin(e Event) *Event {
	d.now += 1 + d.Int64N(5)
	e.Invoked, e.Returned, e.Status = d.now, Forever, Info
	d.events = append(d.events, &e)
	return &e
}

func (d *ideal) end(e *Event, s Status) {
	d.now += 1 + d.Int64N(5)
	e.Returned, e.Status = d.now, s
}

func (d *ideal) append(at Partition, value int64) int64 {
	d.logs[at] = append(d.logs[at], value)
	return int64(len(d.logs[at]) - 1)
}

// send sends several records at once from one process, so that they are under way together.
func (d *ideal) send(process int) {
	var open []*Event
	for range 1 + d.IntN(4) {
		d.value++
		op := Op{Topic: "t", Partition: int32(d.IntN(idealPartitions)), Value: d.value, Offset: -1}
		open = append(open, d.begin(Event{Process: process, Kind: Send, Idempotent: true, Ops: []Op{op}}))
	}
	for _, e := range open {
		op := &e.Ops[0]
		switch n := d.IntN(20); {
		case n == 0:
			d.end(e, Fail)
		case n == 1: // lost on its way
		case n == 2:
			d.late = append(d.late, func() { d.append(op.at(), op.Value) })
		default:
			op.Offset = d.append(op.at(), op.Value)
			d.end(e, OK)
		}
	}
	for len(d.late) > 0 && d.IntN(3) == 0 {
		i := d.IntN(len(d.late))
		d.late[i]()
		d.late = slices.Delete(d.late, i, i+1)
	}
}

// read polls once, from where the process is.
func (d *ideal) read(process int, at map[Partition]int64, assigned, final bool) (n int) {
	e := d.begin(Event{Process: process, Kind: Poll, Assigned: assigned, Final: final})
	for p := range int32(idealPartitions) {
		tp := Partition{"t", p}
		from, held := at[tp]
		if !held {
			continue
		}
		log := d.logs[tp]
		upTo := min(int64(len(log)), from+d.Int64N(6))
		if final {
			upTo = min(int64(len(log)), from+10)
		}
		for o := from; o < upTo; o++ {
			e.Ops = append(e.Ops, Op{Topic: "t", Partition: p, Value: log[o], Offset: o})
		}
		at[tp] = upTo
	}
	d.end(e, OK)
	return len(e.Ops)
}

func (d *ideal) assign(process int, final bool) map[Partition]int64 {
	at := make(map[Partition]int64)
	e := d.begin(Event{Process: process, Kind: Assign, Assigned: true, Final: final})
	for p := range int32(idealPartitions) {
		tp := Partition{"t", p}
		if !final && d.IntN(3) == 0 {
			continue
		}
		at[tp] = 0
		if !final {
			at[tp] = d.Int64N(int64(len(d.logs[tp]) + 1))
		}
		e.Ops = append(e.Ops, Op{Topic: "t", Partition: p, Offset: at[tp]})
	}
	d.end(e, OK)
	return at
}

// goodHistory is what the clients of a cluster that does nothing wrong have seen.
func goodHistory(seed uint64, steps int) []Event {
	d := &ideal{Rand: rand.New(rand.NewPCG(seed, 0)), logs: make(map[Partition][]int64)}
	var positions [idealConsumers]map[Partition]int64
	group := map[Partition]int64{{"t", 0}: 0}
	for range steps {
		switch n := d.IntN(10); {
		case n < 5:
			d.send(d.IntN(idealProducers))
		case n < 8:
			c := d.IntN(idealConsumers)
			if positions[c] == nil || d.IntN(32) == 0 {
				positions[c] = d.assign(10+c, false)
			}
			d.read(10+c, positions[c], true, false)
		case n == 8:
			if d.IntN(8) == 0 { // the group is rebalanced, and goes back
				p := Partition{"t", d.Int32N(idealPartitions)}
				group = map[Partition]int64{p: d.Int64N(int64(len(d.logs[p]) + 1))}
			}
			d.read(idealGroup, group, false, false)
		default:
			p := d.Int32N(idealPartitions)
			e := d.begin(Event{Process: 50, Kind: End})
			e.Ops = []Op{{Topic: "t", Partition: p, Epoch: 1, Offset: int64(len(d.logs[Partition{"t", p}]))}}
			d.end(e, OK)
		}
	}
	for at := d.assign(idealFinal, true); d.read(idealFinal, at, true, true) > 0; {
	}
	out := make([]Event, len(d.events))
	for i, e := range d.events {
		out[i] = *e
	}
	return out
}
