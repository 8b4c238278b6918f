package replication

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestJobs: jobs with a key in common run in their order, however long one takes,
// and do not hold up others; who waits for an update waits for its jobs alone.
func TestJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJobs()
		gate := make(chan struct{})
		j.hold(gate)
		var mu sync.Mutex
		var done []string
		release := make(map[string]chan struct{})
		add := func(index uint64, name string, keys ...string) {
			release[name] = make(chan struct{})
			until := release[name]
			j.add(index, keys, func() {
				<-until
				mu.Lock()
				done = append(done, name)
				mu.Unlock()
			})
		}
		ended := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			got := slices.Sorted(slices.Values(done))
			if !slices.Equal(got, want) {
				t.Fatalf("%v ended, want %v", got, want)
			}
		}
		add(1, "a", "p")
		add(2, "b", "p", "q")
		add(3, "c", "q")
		add(3, "d", "r")
		add(4, "e", "p", "r")
		close(release["d"])
		ended() // the gate is shut
		close(gate)
		ended("d")
		close(release["c"])
		close(release["b"])
		ended("d") // b waits for a, and c for b
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := j.settled(ctx, 3); !errors.Is(err, context.Canceled) {
			t.Errorf("update 3 settled: %v", err)
		}
		if err := j.settled(ctx, 9); err != nil {
			t.Errorf("an update without jobs: %v", err)
		}
		close(release["a"])
		ended("a", "b", "c", "d")
		if err := j.settled(t.Context(), 3); err != nil {
			t.Error(err)
		}
		close(release["e"])
		j.wait()
		ended("a", "b", "c", "d", "e")
		if len(j.last) > 0 || len(j.open) > 0 {
			t.Errorf("%d keys and %d jobs are left", len(j.last), len(j.open))
		}
	})
}
