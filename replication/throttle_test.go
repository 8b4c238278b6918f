package replication

import (
	"testing"
	"time"

	"github.com/klamm-io/klamm/config"
)

// TestThrottleRate: a rate is that since the oldest sample, and over one sample at least, so
// that a second's worth of bytes may be copied at once, and not that of a whole window.
func TestThrottleRate(t *testing.T) {
	x := newThrottle(&config.Broker{ReplicationQuotaSamples: 11, ReplicationQuotaSample: time.Second})
	x.setRate(100)
	now := time.Unix(1000, 0)
	for _, step := range []struct {
		after    time.Duration
		bytes    int
		exceeded bool
	}{
		{0, 100, false},
		{0, 1, true},
		{900 * time.Millisecond, 0, true},
		{200 * time.Millisecond, 0, false}, // 101 bytes in 1.1 s
		{0, 100, true},
		{900 * time.Millisecond, 0, true},
		{100 * time.Millisecond, 0, false}, // 201 bytes in 2.1 s
		{11 * time.Second, 0, false},       // all is forgotten
		{0, 100, false}, {0, 1, true},      // and nothing is saved up
	} {
		now = now.Add(step.after)
		if step.bytes > 0 {
			x.record(step.bytes, now)
		}
		if got := x.exceeded(now); got != step.exceeded {
			t.Errorf("%v, %d bytes more: exceeded %v, want %v", now.Sub(time.Unix(1000, 0)), step.bytes, got, step.exceeded)
		}
	}
}
