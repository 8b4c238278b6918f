package chaos_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	seeds   = flag.Int("chaos.seeds", 1, "seeds of each row of the failure matrix")
	many    = flag.Int("chaos.rounds", 1, "rounds of faults in a run; 0 means as many as a row of the matrix says")
	verbose = flag.Bool("chaos.verbose", false, "log all that the brokers of TestMemory say")
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
	for _, w := range rows {
		if w.alone {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			for seed := *first; seed < *first+uint64(*seeds); seed++ {
				t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { inProcesses(t, w, seed) })
			}
		})
	}
}
