package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/klamm-io/klamm/tests/systems"
)

var (
	seeds   = flag.Int("chaos.seeds", 1, "seeds of each row of the failure matrix")
	many    = flag.Int("chaos.rounds", 1, "rounds of faults in a run; 0 means as many as a row of the matrix says")
	verbose = flag.Bool("chaos.verbose", false, "log all that the brokers of TestMemory say")
	jvm     = flag.Bool("chaos.jvm", false, "play TestJVM: needs Java and Maven")
	others  = flag.Bool("chaos.foreign", false, "play TestForeign: needs Java, Maven, and the Python environment of the conformance suite")
	first   = flag.Uint64("chaos.first", 1, "the first seed")
)

// TestMemory plays every row of the failure matrix in memory.
func TestMemory(t *testing.T) {
	for _, w := range rows {
		t.Run(w.name, func(t *testing.T) {
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { inMemory(t, w, seed) })
			}
		})
	}
}

// TestProcesses plays the rows of the failure matrix that need no disk in memory with three
// processes of klamm on loopback.
func TestProcesses(t *testing.T) {
	if os.Getenv("KLAMM") == "" {
		t.Skip("KLAMM names no binary: make chaos does")
	}
	of, err := systems.KlammCommands()
	if err != nil {
		t.Fatal(err)
	}
	onProcesses(t, of, 5)
}

// TestJVM plays the same with three JVM brokers, if asked to: what the checker takes for right must
// be what Kafka does.
func TestJVM(t *testing.T) {
	if !*jvm {
		t.Skip("-chaos.jvm asks for it")
	}
	of, err := systems.JVMCommands()
	if err != nil {
		t.Fatal(err)
	}
	onProcesses(t, of, 2)
}

func onProcesses(t *testing.T, of systems.Commands, faster time.Duration) {
	for _, w := range rows {
		if w.alone {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { inProcesses(t, of, w, seed, faster) })
			}
		})
	}
}
