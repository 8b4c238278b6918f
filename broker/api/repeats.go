package api

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/klamm-io/klamm/config/clock"
)

// Repeats keeps lines out of the log that say again what was said a moment ago:
// a client that is refused tries again, and thousands may do the same at once. It
// is safe for concurrent use.
type Repeats struct {
	clock clock.Clock
	burst int

	mu   sync.Mutex
	seed maphash.Seed
	keys map[uint64]*repeat // by the hash of the key, which may be long
}

// repeat is what is known of one key.
type repeat struct {
	since   time.Time // when its period began
	said    int
	skipped int
}

const (
	repeatPeriod = time.Minute
	// repeatKeys bounds what is remembered: the keys come from clients.
	repeatKeys = 1000
)

// NewRepeats returns a Repeats that allows burst lines a minute for each key.
func NewRepeats(c clock.Clock, burst int) *Repeats {
	return &Repeats{clock: c, burst: burst, seed: maphash.MakeSeed(), keys: make(map[uint64]*repeat)}
}

// Allow reports whether a line may be written for key, and how many were not since
// the last one that was.
func (r *Repeats) Allow(key string) (skipped int, ok bool) {
	now, hash := r.clock.Now(), maphash.String(r.seed, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[hash]
	if k == nil {
		if len(r.keys) >= repeatKeys {
			r.forget(now)
		}
		k = &repeat{since: now}
		r.keys[hash] = k
	}
	if now.Sub(k.since) >= repeatPeriod {
		k.since, k.said = now, 0
	}
	if k.said >= r.burst {
		k.skipped++
		return 0, false
	}
	k.said++
	skipped, k.skipped = k.skipped, 0
	return skipped, true
}

// forget drops the keys whose period is over, or all if there is none: it costs
// little to say something twice.
func (r *Repeats) forget(now time.Time) {
	for key, k := range r.keys {
		if now.Sub(k.since) >= repeatPeriod {
			delete(r.keys, key)
		}
	}
	if len(r.keys) >= repeatKeys {
		clear(r.keys)
	}
}
