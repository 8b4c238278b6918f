package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config/clock"
)

// A key may be said so often a minute, and then again with how often it was not.
// However many keys clients make up, few are remembered.
func TestRepeats(t *testing.T) {
	c := clock.NewVirtual(time.UnixMilli(0))
	r := NewRepeats(c, 2)
	said := 0
	for range 10 {
		if _, ok := r.Allow("k"); ok {
			said++
		}
	}
	if said != 2 {
		t.Errorf("said %d times in a minute, want 2", said)
	}
	c.Advance(repeatPeriod)
	if skipped, ok := r.Allow("k"); !ok || skipped != 8 {
		t.Errorf("a minute later: %v, %d skipped, want 8", ok, skipped)
	}
	for i := range 10 * repeatKeys {
		if _, ok := r.Allow(fmt.Sprint(i)); !ok {
			t.Fatalf("key %d is refused", i)
		}
		if len(r.keys) > repeatKeys {
			t.Fatalf("%d keys are remembered", len(r.keys))
		}
	}
}
