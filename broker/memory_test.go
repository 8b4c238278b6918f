package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestMemory takes more than there is from many goroutines.
func TestMemory(t *testing.T) {
	m := newMemory(100)
	var held, most atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if err := m.take(t.Context(), 60); err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), held.Add(60)))
				runtime.Gosched()
				held.Add(-60)
				m.give(60)
			}
		})
	}
	wg.Wait()
	if m.free != 100 || most.Load() > 120 {
		t.Errorf("%d bytes free at the end, %d taken at most", m.free, most.Load())
	}
	m.take(t.Context(), 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("without memory: %v", err)
	}
	var none *memory
	if err := none.take(ctx, 1<<40); err != nil {
		t.Errorf("without a bound: %v", err)
	}
	none.give(1 << 40)
}

// TestFrameMemoryFollowsArrival announces the largest frame and sends little.
func TestFrameMemoryFollowsArrival(t *testing.T) {
	r := serve(t, nil, nil)
	before := heap()
	const peers = 50
	for range peers {
		p := r.dial(t)
		p.send(append(binary.BigEndian.AppendUint32(nil, uint32(r.server.maxRequest)), make([]byte, 100)...))
	}
	eventually(t, "the connections are there", func() bool { return r.connections() == peers })
	if grown := int64(heap()) - int64(before); grown > peers*(ahead+256<<10) {
		t.Errorf("%d connections that announced 100 MiB hold %d bytes", peers, grown)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
