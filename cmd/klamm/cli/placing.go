package cli

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/client"
)

// placing chooses brokers for replicas: in as many racks as there are, then evenly,
// and with few moves. It is pure.
type placing struct {
	allowed []client.BrokerInfo // that may have replicas, by id
	rack    map[int32]string    // of the allowed ones; those without a name are one rack
	own     map[int32]int       // replicas of the partitions that are placed, by broker
	total   map[int32]int       // replicas of all topics; it decides where own is equal
	leads   map[int32]int       // partitions whose first replica a broker is
	parts   []*placed
}

// placed is a partition on its way to its place.
type placed struct {
	tp       client.TopicPartition
	from     []int32
	replicas []int32 // with a slot for each of from; nobody in those that are to be filled
}

// nobody is in a slot that has no replica yet.
const nobody = -1

// tooFewError says that a partition cannot keep its number of replicas.
type tooFewError struct {
	tp      client.TopicPartition
	factor  int
	brokers []int32 // that may have a replica
}

func (e *tooFewError) Error() string {
	left := "and no broker is left"
	switch len(e.brokers) {
	case 0:
	case 1:
		left = fmt.Sprintf("and only broker %d is left", e.brokers[0])
	default:
		left = fmt.Sprintf("and only the brokers %s are left", idList(e.brokers))
	}
	return fmt.Sprintf("%s-%d has %s, %s for them", e.tp.Topic, e.tp.Partition, counted(e.factor, "replica"), left)
}

// newPlacing places on the allowed brokers. total and leads are what each broker has of
// other partitions than those that are placed.
func newPlacing(allowed []client.BrokerInfo, total, leads map[int32]int) *placing {
	p := &placing{allowed: allowed, rack: make(map[int32]string), own: make(map[int32]int), total: total, leads: leads}
	for _, b := range allowed {
		p.rack[b.ID] = b.Rack
	}
	return p
}

// add adds a partition, of which the replicas on allowed brokers stay for now.
func (p *placing) add(tp client.TopicPartition, from []int32) {
	x := &placed{tp: tp, from: from, replicas: slices.Clone(from)}
	for i, id := range x.replicas {
		if _, ok := p.rack[id]; ok {
			p.own[id]++
		} else {
			x.replicas[i] = nobody
		}
	}
	p.parts = append(p.parts, x)
}

// fill fills the slots that have nobody.
func (p *placing) fill() error {
	for _, x := range p.parts {
		for i, id := range x.replicas {
			if id != nobody {
				continue
			}
			best := p.best(x, i)
			if best == nobody {
				var ids []int32
				for _, b := range p.allowed {
					ids = append(ids, b.ID)
				}
				return &tooFewError{x.tp, len(x.from), ids}
			}
			x.replicas[i] = best
			p.own[best]++
		}
	}
	return nil
}

// crowd returns how many replicas of a partition, but for that in slot i, are in the
// rack of a broker.
func (p *placing) crowd(x *placed, i int, id int32) (n int) {
	for j, other := range x.replicas {
		if j != i && other != nobody && p.rack[other] == p.rack[id] {
			n++
		}
	}
	return n
}

// best returns the broker that is best for a slot and has no replica of the partition,
// nobody if there is none.
func (p *placing) best(x *placed, slot int) int32 {
	best := int32(nobody)
	for _, b := range p.allowed {
		if slices.Contains(x.replicas, b.ID) {
			continue
		}
		if best == nobody || cmp.Or(cmp.Compare(p.crowd(x, slot, b.ID), p.crowd(x, slot, best)), cmp.Compare(p.own[b.ID], p.own[best]),
			cmp.Compare(p.total[b.ID]+p.own[b.ID], p.total[best]+p.own[best])) < 0 {
			best = b.ID
		}
	}
	return best
}

// spread moves replicas until no move makes a rack less crowded, or a broker that has
// two more than another one have one less. It ends, since each move makes the crowds
// smaller, or leaves them as they are and the sum of the squares of own smaller.
func (p *placing) spread() {
	for moved := true; moved; {
		moved = false
		for _, x := range p.parts {
			for i, id := range x.replicas {
				best := p.best(x, i)
				if best == nobody {
					continue
				}
				now, then := p.crowd(x, i, id), p.crowd(x, i, best)
				if then < now || then == now && p.own[id]-p.own[best] > 1 {
					x.replicas[i] = best
					p.own[id]--
					p.own[best]++
					moved = true
				}
			}
		}
	}
}

// lead puts the replica first that is to lead: the one that is first already, or if that
// has gone, the one that is first for the fewest partitions. One that has the records
// goes before one that has not. With even, leaders are spread over the brokers also
// where nobody has gone.
func (p *placing) lead(even bool) {
	for _, x := range p.parts {
		if len(x.from) > 0 && x.replicas[0] == x.from[0] {
			p.leads[x.replicas[0]]++
		}
	}
	for _, x := range p.parts {
		if len(x.from) > 0 && x.replicas[0] != x.from[0] {
			first := 0
			for i := range x.replicas {
				if p.leadsBefore(x, i, first) {
					first = i
				}
			}
			x.swap(first)
			p.leads[x.replicas[0]]++
		}
	}
	for moved := even; moved; {
		moved = false
		for _, x := range p.parts {
			for i, id := range x.replicas {
				if p.leads[x.replicas[0]]-p.leads[id] > 1 {
					p.leads[x.replicas[0]]--
					p.leads[id]++
					x.swap(i)
					moved = true
				}
			}
		}
	}
}

// leadsBefore reports whether the replica in slot i is to lead rather than that in j.
func (p *placing) leadsBefore(x *placed, i, j int) bool {
	a, b := x.replicas[i], x.replicas[j]
	if has, other := slices.Contains(x.from, a), slices.Contains(x.from, b); has != other {
		return has
	}
	return p.leads[a] < p.leads[b]
}

// swap swaps the first replica with another one.
func (x *placed) swap(i int) {
	x.replicas[0], x.replicas[i] = x.replicas[i], x.replicas[0]
}

// moves returns the partitions whose replicas are others now, or in another order.
func (p *placing) moves() (out []move) {
	for _, x := range p.parts {
		if !slices.Equal(x.from, x.replicas) {
			out = append(out, move{x.tp, x.from, x.replicas})
		}
	}
	return out
}

// move gives a partition other replicas.
type move struct {
	tp       client.TopicPartition
	from, to []int32
}

// drained plans how all replicas leave a broker. A partition whose move takes it off the
// broker already is left alone. If one partition cannot be moved, there is no plan: the error
// names it, and says how many there are.
func drained(l *layout, id int32) ([]move, error) {
	allowed := slices.DeleteFunc(slices.Clone(l.cluster.Brokers), func(b client.BrokerInfo) bool { return b.ID == id })
	total, leads := make(map[int32]int), make(map[int32]int)
	p := newPlacing(allowed, total, leads)
	l.each(func(tp client.TopicPartition, _ client.PartitionInfo, target []int32) {
		if slices.Contains(target, id) {
			// Replicas on brokers that are down stay where they are.
			for _, other := range target {
				if _, ok := p.rack[other]; !ok && other != id {
					p.rack[other] = rackOf(l.cluster.Fenced, other)
				}
			}
			p.add(tp, target)
			return
		}
		for i, other := range target {
			total[other]++
			if i == 0 {
				leads[other]++
			}
		}
	})
	stuck := 0
	for _, x := range p.parts {
		if !p.hasRoom(x) {
			stuck++
		}
	}
	if err := p.fill(); err != nil {
		if stuck > 1 {
			return nil, fmt.Errorf("%w; %s cannot be moved in all", err, counted(stuck, "partition"))
		}
		return nil, err
	}
	p.lead(false)
	return p.moves(), nil
}

// hasRoom reports whether the empty slots of a partition can be filled.
func (p *placing) hasRoom(x *placed) bool {
	empty, free := 0, 0
	for _, id := range x.replicas {
		if id == nobody {
			empty++
		}
	}
	for _, b := range p.allowed {
		if !slices.Contains(x.replicas, b.ID) {
			free++
		}
	}
	return empty <= free
}

func rackOf(brokers []client.BrokerInfo, id int32) string {
	for _, b := range brokers {
		if b.ID == id {
			return b.Rack
		}
	}
	return ""
}

// generated plans how all replicas of topics come onto some brokers, evenly and with few
// moves.
func generated(l *layout, topics []string, on []client.BrokerInfo) ([]move, error) {
	total := make(map[int32]int)
	p := newPlacing(on, total, make(map[int32]int))
	l.each(func(tp client.TopicPartition, _ client.PartitionInfo, target []int32) {
		if slices.Contains(topics, tp.Topic) {
			p.add(tp, target)
			return
		}
		for _, id := range target {
			total[id]++
		}
	})
	if err := p.fill(); err != nil {
		return nil, err
	}
	p.spread()
	p.lead(true)
	return p.moves(), nil
}
