//go:build klammbugs

package replication

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/klamm-io/klamm/bugs"
)

var (
	bugBudget = flag.Int("bug.seeds", 1500, "seeds within which TestPlantedBugs has to find each bug")
	bugOnly   = flag.String("bug.only", "", "words of the only bugs to plant")
)

// Every planted bug is found by the simulation.
func TestPlantedBugs(t *testing.T) {
	static := simStatic(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "seeds\tfound by\tevents\tthe bug")
	defer bugs.Plant("")
	for _, b := range bugs.All() {
		if !strings.Contains(string(b), *bugOnly) {
			continue
		}
		bugs.Plant(b)
		s, seeds := hunt(newPlan, *bugBudget, func(p plan) *sim { return simulate(p, static) })
		if s == nil {
			t.Errorf("not found with %d seeds: %s", seeds, b)
			fmt.Fprintf(w, ">%d\tnothing\t\t%s\n", seeds, b)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\n", seeds, s.failure.check, s.count, b)
	}
	w.Flush()
	t.Logf("\n%s", &table)
}

// hunt runs seeds until one fails, and returns its run and how many it took; nil if none
// does.
func hunt(plans func(seed uint64, steps int) plan, most int, run func(plan) *sim) (*sim, int) {
	for n := 1; n <= most; n++ {
		if s := run(plans(uint64(n), 3000)); s.failure != nil {
			return s, n
		}
	}
	return nil, most
}
