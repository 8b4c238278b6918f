package replication

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// A list of commits answers whom a search of all would answer, in any order of
// additions, answers and timeouts, and keeps little of those that have gone.
func TestCommitsAgreeWithASearch(t *testing.T) {
	why := errors.New("why")
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		var l commits
		waiting := make(map[*Commit]bool)
		end, high := int64(0), int64(0)
		for step := range 1000 {
			switch r.IntN(4) {
			case 0, 1:
				end++
				offset := end
				if r.IntN(8) == 0 { // the repetition of a batch
					offset = high + 1 + r.Int64N(end-high)
				}
				waiting[l.add(offset)] = true
			case 2:
				if r.IntN(8) > 0 {
					break
				}
				high += r.Int64N(end - high + 1)
				l.settle(high, why)
				for c := range waiting {
					select {
					case <-c.Done():
						if c.offset > high || !errors.Is(c.Err(), why) {
							t.Fatalf("seed %d, step %d: %d was answered with %v at %d", seed, step, c.offset, c.Err(), high)
						}
						delete(waiting, c)
					default:
						if c.offset <= high {
							t.Fatalf("seed %d, step %d: %d was not answered at %d", seed, step, c.offset, high)
						}
					}
				}
			case 3:
				for c := range waiting {
					l.abandon(c)
					delete(waiting, c)
					break
				}
			}
			if !slices.IsSortedFunc(l.queue, func(a, b *Commit) int { return int(a.offset - b.offset) }) {
				t.Fatalf("seed %d, step %d: out of order", seed, step)
			}
			if len(l.queue) > 2*len(waiting)+1 {
				t.Fatalf("seed %d, step %d: %d kept for %d that wait", seed, step, len(l.queue), len(waiting))
			}
		}
	}
}
