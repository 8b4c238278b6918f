package api

import (
	"fmt"
	"runtime"
	"strings"
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

// What is remembered of a key does not grow with its length.
func TestRepeatsHoldLittle(t *testing.T) {
	r := NewRepeats(clock.System(), 1)
	var b, a runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&b)
	for i := range 1000 {
		r.Allow(strings.Repeat(string(rune('a'+i%26)), 32767-i) + "x")
	}
	runtime.GC()
	runtime.ReadMemStats(&a)
	if n := (int64(a.HeapAlloc) - int64(b.HeapAlloc)) >> 20; n > 4 {
		t.Errorf("%d MiB are held for 1000 client ids, for ever", n)
	}
	runtime.KeepAlive(r)
}
