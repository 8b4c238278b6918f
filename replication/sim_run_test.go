package replication

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klamm-io/klamm/config"
)

var (
	simSeeds = flag.Int("sim.seeds", 100, "seeds that TestSimulation runs")
	simFrom  = flag.Uint64("sim.from", 1, "the first of them")
	simSteps = flag.Int("sim.steps", 3000, "events of each before its cluster is healed")
	simTrace = flag.Bool("sim.trace", false, "print every event")
)

func simStatic(t testing.TB) *config.Static {
	t.Helper()
	static, _, err := config.Load(config.Sources{Overrides: []string{"num.recovery.threads.per.data.dir=1", "producer.id.expiration.ms=2147483647"}})
	if err != nil {
		t.Fatal(err)
	}
	return static
}

// Clusters of brokers whose processes die, whose disks lose what was not synced, that do
// not reach each other or stand still, while clients write and read: nothing that was
// acknowledged is lost, nobody reads what does not stay, and all is well soon after the
// last fault.
func TestSimulation(t *testing.T) {
	static := simStatic(t)
	var next atomic.Uint64
	var mu sync.Mutex // guards the two below
	stats := make(map[string]int)
	events := 0
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < uint64(*simSeeds) && !t.Failed(); n = next.Add(1) - 1 {
				s := newSim(newPlan(*simFrom+n, *simSteps), static)
				if *simTrace {
					s.keep = 1 << 20
				}
				s.simulate()
				if *simTrace {
					t.Log(strings.Join(s.lines, "\n"))
				}
				mu.Lock()
				for k, v := range s.stats {
					stats[k] += v
				}
				events += s.count
				mu.Unlock()
				if s.failure != nil {
					t.Errorf("seed %d: go test ./replication -run TestSimulation$ -sim.from %[1]d -sim.seeds 1 -sim.steps %d -sim.trace\n%v\nshrunk: %s", s.plan.seed, s.plan.steps, s.failure, shrink(s, static).report())
				}
			}
		})
	}
	wg.Wait()
	var line strings.Builder
	for _, k := range slices.Sorted(maps.Keys(stats)) {
		fmt.Fprintf(&line, ", %d %s", stats[k], k)
	}
	t.Logf("%d seeds, %d events%s", *simSeeds, events, line.String())
}

// A seed repeats everything.
func TestSimulationRepeats(t *testing.T) {
	static := simStatic(t)
	for seed := uint64(1); seed <= 3; seed++ {
		first := simulate(newPlan(seed, 1500), static)
		second := simulate(newPlan(seed, 1500), static)
		if first.hash != second.hash || first.count != second.count {
			t.Errorf("seed %d: %d events with hash %x, and then %d with %x", seed, first.count, first.hash, second.count, second.hash)
		}
	}
}
