package broker

import (
	"context"
	"runtime"
	"strings"
)

// slot is the place of one connection's request in the pool. It knows whether
// it is held, so that it can be given back after a panic. It is owned by the
// connection's reader.
type slot struct {
	pool *pool
	held bool
}

// Acquire implements api.Slot.
func (s *slot) Acquire(ctx context.Context) error {
	err := s.pool.Acquire(ctx)
	s.held = err == nil
	return err
}

// Release implements api.Slot.
func (s *slot) Release() {
	s.held = false
	s.pool.Release()
}

const module = "github.com/klamm-io/klamm/"

// stateOwners are the packages that keep what outlives a connection. Coordinators
// are none of them: a shard contains its panics itself.
var stateOwners = []string{"log", "segment", "index", "isr", "replication"}

// stateOwner returns the function of such a package that is on the stack of the
// goroutine, "" if there is none. Called while a panic is being recovered, it
// tells where the panic came from: the frames that panicked are still there.
func stateOwner() string {
	pcs := make([]uintptr, 128)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if own, ok := strings.CutPrefix(f.Function, module); ok {
			for _, p := range stateOwners {
				if rest, ok := strings.CutPrefix(own, p); ok && (rest[0] == '.' || rest[0] == '/') {
					return f.Function
				}
			}
		}
		if !more {
			return ""
		}
	}
}

// memory bounds the bytes of requests that are in memory at once
// (queued.max.request.bytes). Like Kafka's pool it lets a request in as long as
// any memory is free, so that one of any size gets through. A nil memory has no
// bound.
type memory struct {
	turn chan struct{} // holds one while the fields below are free to use
	free int64
	more chan struct{} // closed when free rises above 0
}

func newMemory(limit int64) *memory {
	if limit <= 0 {
		return nil
	}
	m := &memory{turn: make(chan struct{}, 1), free: limit, more: make(chan struct{})}
	m.turn <- struct{}{}
	return m
}

// take waits until memory is free and takes n bytes of it.
func (m *memory) take(ctx context.Context, n int) error {
	if m == nil {
		return nil
	}
	for {
		<-m.turn
		if m.free > 0 {
			m.free -= int64(n)
			m.turn <- struct{}{}
			return nil
		}
		more := m.more
		m.turn <- struct{}{}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// give gives n bytes back.
func (m *memory) give(n int) {
	if m == nil {
		return
	}
	<-m.turn
	was := m.free
	m.free += int64(n)
	if was <= 0 && m.free > 0 {
		close(m.more)
		m.more = make(chan struct{})
	}
	m.turn <- struct{}{}
}
