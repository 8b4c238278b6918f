package control

import (
	"slices"
	"strings"

	"github.com/klamm-io/klamm/replication/meta"
)

// rack is what stands or falls together: the brokers that name it, or all that name none.
type rack struct {
	name         string
	live, fenced []int32 // in order of id
	start        int     // where among live the first leader is
}

// racks place replicas: those that have live brokers come first, for only these lead.
type racks struct {
	all   []*rack
	leads int // how many of all have live brokers
	start int // which of them has the first leader
}

// newRacks returns the racks of brokers. live has one broker at least.
func newRacks(chance Chance, live, fenced []*meta.Broker) *racks {
	byName := make(map[string]*rack)
	rs := new(racks)
	of := func(b *meta.Broker) *rack {
		name := ""
		if b.Rack != nil {
			name = *b.Rack
		}
		if byName[name] == nil {
			byName[name] = &rack{name: name}
			rs.all = append(rs.all, byName[name])
		}
		return byName[name]
	}
	for _, b := range live {
		r := of(b)
		r.live = append(r.live, b.ID)
	}
	rs.leads = len(rs.all)
	for _, b := range fenced {
		r := of(b)
		r.fenced = append(r.fenced, b.ID)
	}
	byRack := func(a, b *rack) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(rs.all[:rs.leads], byRack)
	slices.SortFunc(rs.all[rs.leads:], byRack)
	draw := func(n int) int {
		if n < 2 {
			return 0
		}
		return chance.Intn(n)
	}
	rs.start = draw(rs.leads)
	for _, r := range rs.all {
		r.start = draw(len(r.live))
	}
	return rs
}

// place returns the replicas of the partition at index, at most as many as there are
// brokers: one in each rack, beginning with the leader's, then another one in each.
//
// The leaders of partitions one after the other are in one rack after the other, and come
// to the next broker of a rack with each round. The distance between the places of a
// leader and of its followers grows when every broker has led, so that the partitions of
// one leader are not all followed by the same brokers.
func (rs *racks) place(index, factor int) []int32 {
	replicas := make([]int32, 0, factor)
	lead := (rs.start + index) % rs.leads
	round := index / rs.leads
	for pick := 0; len(replicas) < factor; pick++ {
		for j := range rs.all {
			at := (lead + j) % len(rs.all)
			r := rs.all[at]
			shift := 0
			if j > 0 && len(r.live) > 0 {
				shift = round / len(r.live)
			}
			switch {
			case len(replicas) == factor:
			case pick < len(r.live):
				replicas = append(replicas, r.live[(r.start+round+shift+pick)%len(r.live)])
			case pick < len(r.live)+len(r.fenced):
				replicas = append(replicas, r.fenced[(r.start+round+pick-len(r.live))%len(r.fenced)])
			}
		}
	}
	return replicas
}
