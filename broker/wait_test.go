package broker

import (
	"testing"
	"time"
)

// eventually waits until holds does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	expired := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-expired:
			t.Fatalf("not in time: %s", what)
		}
	}
}
