package log

import (
	"math"
	"runtime"
	"testing"
	"time"
)

// Logs with equal configurations share one, for as long as any of them has it.
func TestConfigsAreShared(t *testing.T) {
	kept := func() int {
		configs.Lock()
		defer configs.Unlock()
		return len(configs.m)
	}
	before := kept()
	a, b := shared(Config{SegmentBytes: 4711}.withDefaults()), shared(Config{SegmentBytes: 4711}.withDefaults())
	if a != b {
		t.Error("two copies of one configuration")
	}
	if c := shared(Config{SegmentBytes: 4712}.withDefaults()); c == a || c.SegmentBytes != 4712 {
		t.Errorf("another configuration is %+v", c)
	}
	nan := Config{DirtyRatio: math.NaN()}.withDefaults()
	if c, d := shared(nan), shared(nan); c != d {
		t.Error("a ratio of NaN is shared with nobody and kept for ever")
	}
	runtime.KeepAlive(a)
	for deadline := time.Now().Add(10 * time.Second); kept() > before; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("%d configurations are kept, %d are in use", kept(), before)
		}
	}
}
