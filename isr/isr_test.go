package isr_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/isr"
)

type fetch struct {
	id     int32
	offset int64
}

func TestHighWatermark(t *testing.T) {
	tests := []struct {
		name    string
		inSync  []int32
		minISR  int
		end     int64
		fetches []fetch
		want    int64
	}{
		{"a lone leader commits what it appends", []int32{1}, 1, 7, nil, 7},
		{"slowest in-sync follower decides", []int32{1, 2, 3}, 1, 9, []fetch{{2, 7}, {3, 4}}, 4},
		{"a follower out of sync does not hold it back", []int32{1, 2}, 1, 9, []fetch{{2, 7}, {3, 4}}, 7},
		{"a lower fetch does not move it back", []int32{1, 2}, 1, 9, []fetch{{2, 7}, {2, 3}}, 7},
		{"a stranger's fetch changes nothing", []int32{1, 2}, 1, 9, []fetch{{8, 9}}, 0},
		{"too few in sync: it stays", []int32{1}, 2, 9, nil, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := isr.New(1, []int32{1, 2, 3}, test.inSync, test.minISR, 0, 0, time.Unix(0, 0))
			s.Appended(test.end)
			for _, f := range test.fetches {
				s.Fetched(f.id, f.offset, time.Unix(1, 0))
			}
			if got := s.HighWatermark(); got != test.want {
				t.Errorf("high watermark %d, want %d", got, test.want)
			}
		})
	}
}

func TestGrowNeedsTheEpochStart(t *testing.T) {
	// A new leader knows high watermark 50 while 80 is committed (scenario S8).
	s := isr.New(1, []int32{1, 2}, []int32{1}, 1, 80, 50, time.Unix(0, 0))
	s.Fetched(2, 60, time.Unix(1, 0))
	if got := s.Grow(); len(got) != 0 {
		t.Errorf("follower at 60 may join: %v; the epoch starts at 80", got)
	}
	s.Fetched(2, 80, time.Unix(2, 0))
	if got := s.Grow(); !slices.Equal(got, []int32{2}) {
		t.Errorf("candidates %v, want [2]", got)
	}
	s.Propose([]int32{2})
	if s.Appended(90) {
		t.Error("the high watermark moved past a proposed member")
	}
	if !s.Fetched(2, 90, time.Unix(3, 0)) || s.HighWatermark() != 90 {
		t.Errorf("high watermark %d, want 90", s.HighWatermark())
	}
}

func TestLagging(t *testing.T) {
	t0 := time.Unix(0, 0)
	s := isr.New(1, []int32{1, 2}, []int32{1, 2}, 1, 0, 0, t0)
	s.Appended(10)
	s.Fetched(2, 0, t0.Add(time.Second))
	s.Appended(20)
	s.Fetched(2, 10, t0.Add(2*time.Second)) // all that existed a second ago
	if got := s.Lagging(t0.Add(31*time.Second), 30*time.Second); len(got) != 0 {
		t.Errorf("lagging %v: it was caught up at 1 s", got)
	}
	if got := s.Lagging(t0.Add(32*time.Second), 30*time.Second); !slices.Equal(got, []int32{2}) {
		t.Errorf("lagging %v, want [2]", got)
	}
}

// TestInvariant walks random histories and checks the invariant after each step.
func TestInvariant(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		s := isr.New(1, []int32{1, 2, 3}, []int32{1, 2, 3}, 1+r.IntN(2), 0, 0, time.Unix(0, 0))
		ends := map[int32]int64{2: 0, 3: 0}
		last := int64(0)
		for step := range 100 {
			switch r.IntN(4) {
			case 0:
				s.Appended(s.End() + r.Int64N(5))
			case 1:
				id := int32(2 + r.IntN(2))
				ends[id] = min(s.End(), ends[id]+r.Int64N(6))
				s.Fetched(id, ends[id], time.Unix(int64(step), 0))
			case 2:
				if out := s.Grow(); len(out) > 0 {
					s.Propose(out)
					s.Commit(append(slices.Clone(s.InSync()), out...))
				}
			case 3:
				if n := len(s.InSync()); n > 1 {
					s.Commit(slices.Clone(s.InSync()[:n-1]))
				}
			}
			high := s.HighWatermark()
			if high < last || high > s.End() {
				t.Fatalf("seed %d: high watermark %d after %d, log end %d", seed, high, last, s.End())
			}
			for _, id := range s.InSync() {
				if end, ok := ends[id]; ok && high > end {
					t.Fatalf("seed %d: high watermark %d above the end %d of in-sync %d", seed, high, end, id)
				}
			}
			last = high
		}
	}
}

// A consumer may read an offset from the followers that are in sync and have it.
func TestReachable(t *testing.T) {
	type follower struct {
		id         int32
		start, end int64
	}
	for _, test := range []struct {
		name    string
		inSync  []int32
		fetches []follower
		offset  int64
		want    []isr.Reachable
	}{
		{"all that are in sync", []int32{1, 2, 3}, []follower{{2, 0, 9}, {3, 0, 9}}, 4, []isr.Reachable{{ID: 2, End: 9}, {ID: 3, End: 9}}},
		{"not one out of sync", []int32{1, 3}, []follower{{2, 0, 9}, {3, 0, 9}}, 4, []isr.Reachable{{ID: 3, End: 9}}},
		{"not one that ends before", []int32{1, 2, 3}, []follower{{2, 0, 3}, {3, 0, 4}}, 4, []isr.Reachable{{ID: 3, End: 4, Lag: 5 * time.Second}}},
		{"not one that begins behind", []int32{1, 2, 3}, []follower{{2, 5, 9}, {3, 4, 9}}, 4, []isr.Reachable{{ID: 3, End: 9}}},
		{"not one that has not fetched yet", []int32{1, 2, 3}, []follower{{3, 0, 9}}, 0, []isr.Reachable{{ID: 3, End: 9}}},
		{"not the leader", []int32{1}, nil, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := isr.New(1, []int32{1, 2, 3}, test.inSync, 1, 0, 0, time.Unix(0, 0))
			s.Appended(9)
			for _, f := range test.fetches {
				s.Began(f.id, f.start)
				s.Fetched(f.id, f.end, time.Unix(1, 0))
			}
			s.Began(8, 0) // a stranger
			if got := s.Reachable(test.offset, time.Unix(5, 0)); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
