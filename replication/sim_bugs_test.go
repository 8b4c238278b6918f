//go:build klammbugs

package replication

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/config"
)

var (
	bugBudget = flag.Int("bug.seeds", 1500, "seeds within which TestPlantedBugs has to find each bug")
	bugOnly   = flag.String("bug.only", "", "words of the only bugs to plant")
)

// inScenario returns the number of the scenario that finds the bug that is planted, and the
// check that it was; "" for none.
func inScenario(b bugs.Bug, static *config.Static) (name, check string) {
	for _, x := range scenarios {
		if x.naive != b {
			continue
		}
		if s := x.direct(static); s.failure != nil {
			name, _, _ = strings.Cut(x.name, " ")
			return name, s.failure.check
		}
	}
	return "", ""
}

// Every planted bug is found by the simulation: by seeds, or else by a scenario.
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
		s, seeds := hunt(b, *bugBudget, static)
		if s == nil {
			if name, check := inScenario(b, static); name != "" {
				fmt.Fprintf(w, ">%d\t%s in %s\t\t%s\n", seeds, check, name, b)
				continue
			}
			t.Errorf("not found with %d seeds: %s", seeds, b)
			fmt.Fprintf(w, ">%d\tnothing\t\t%s\n", seeds, b)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\n", seeds, s.failure.check, s.count, b)
	}
	w.Flush()
	t.Logf("\n%s", &table)
}

// hunt runs seeds until one fails that does not without the bug, and returns its run and how
// many it took; nil if none does.
func hunt(b bugs.Bug, most int, static *config.Static) (*sim, int) {
	for n := 1; n <= most; n++ {
		p := newPlan(uint64(n), 3000)
		bugs.Plant(b)
		s := simulate(p, static)
		if s.failure == nil {
			continue
		}
		bugs.Plant("")
		well := simulate(p, static).failure == nil
		bugs.Plant(b)
		if well {
			return s, n
		}
	}
	return nil, most
}

// Every scenario fails with the naive rule that it is there for.
func TestScenariosFindBugs(t *testing.T) {
	static := simStatic(t)
	defer bugs.Plant("")
	for _, x := range scenarios {
		bugs.Plant(x.naive)
		if s := x.direct(static); s.failure == nil {
			t.Errorf("%s: nothing is found though %s", x.name, x.naive)
		} else {
			t.Logf("%s: %s", x.name, s.failure.check)
		}
	}
}
