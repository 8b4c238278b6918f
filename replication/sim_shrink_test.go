package replication

import (
	"slices"

	"github.com/klamm-io/klamm/config"
)

// shrink looks for a plan with fewer faults and events that fails by the same rule, and
// returns its run.
func shrink(failed *sim, static *config.Static) *sim {
	best := failed
	tries := 0
	try := func(p plan) bool {
		if tries++; tries > 600 {
			return false
		}
		s := simulate(p, static)
		if s.failure == nil || s.failure.check != failed.failure.check {
			return false
		}
		best = s
		return true
	}
	// Chaos need not go on after what has failed.
	short := best.plan
	short.steps = best.count + 1
	try(short)
	for size := max(len(best.plan.faults)/2, 1); size >= 1; size /= 2 {
		for at := 0; at < len(best.plan.faults); {
			fewer := best.plan
			fewer.faults = slices.Delete(slices.Clone(best.plan.faults), at, min(at+size, len(best.plan.faults)))
			if !try(fewer) {
				at += size
			}
		}
	}
	for _, change := range []func(*plan){func(p *plan) { p.partitions = 1 }, func(p *plan) { p.producers = 1 }, func(p *plan) { p.producers = 2 }, func(p *plan) { p.producers = 4 }} {
		smaller := best.plan
		change(&smaller)
		if smaller.partitions < best.plan.partitions || smaller.producers < best.plan.producers {
			try(smaller)
		}
	}
	return best
}
