package broker

import (
	"context"
	"sync"
)

// pool is the request-handler pool: num.io.threads requests run at once, and at
// most queued.max.requests more wait for a slot with their frames in memory.
// A request that comes after those does not even queue, and so reads no further from
// its socket.
type pool struct {
	slots chan struct{}
	queue chan struct{}
}

func newPool(threads, queued int) *pool {
	return &pool{slots: make(chan struct{}, max(threads, 1)), queue: make(chan struct{}, max(queued, 1))}
}

// Acquire takes a slot.
func (p *pool) Acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.queue <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.queue }()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release gives the slot back.
func (p *pool) Release() { <-p.slots }

// network is what a listener's network threads are (num.network.threads): so many
// of its connections parse a request or encode a response at once. Waiting for a
// socket is the runtime's business and takes no place.
type network chan struct{}

func newNetwork(threads int) network { return make(network, max(threads, 1)) }

func (n network) enter() { n <- struct{}{} }

func (n network) leave() { <-n }

// buffers keeps large buffers for the next frame or response: most recently
// used first, so that their memory is warm, and at most limit bytes in all.
type buffers struct {
	mu    sync.Mutex
	free  [numClasses][][]byte
	bytes int
	limit int
	used  bool // since the last trim
}

const (
	minClass   = 16 // 64 KiB
	numClasses = 12 // up to 128 MiB
)

// class returns the smallest class whose buffers hold n bytes.
func class(n int) int {
	c := 0
	for c < numClasses-1 && 1<<(minClass+c) < n {
		c++
	}
	return c
}

// get returns an empty buffer with room for n bytes if one is free, and else
// one with room for min(n, atMost) bytes.
func (p *buffers) get(n, atMost int) []byte {
	p.mu.Lock()
	p.used = true
	for c := class(n); c < numClasses; c++ {
		if last := len(p.free[c]) - 1; last >= 0 {
			b := p.free[c][last]
			p.free[c] = p.free[c][:last]
			p.bytes -= cap(b)
			p.mu.Unlock()
			return b[:0]
		}
	}
	p.mu.Unlock()
	return make([]byte, 0, 1<<(minClass+class(min(n, atMost))))
}

// put takes back a buffer.
func (p *buffers) put(b []byte) {
	c := class(cap(b))
	if cap(b) < 1<<(minClass+c) {
		c-- // it holds what the class below promises
	}
	if c < 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+cap(b) > p.limit {
		return
	}
	p.bytes += cap(b)
	p.free[c] = append(p.free[c], b)
}

// trim drops every free buffer if none was asked for since the last trim.
func (p *buffers) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.used {
		p.free = [numClasses][][]byte{}
		p.bytes = 0
	}
	p.used = false
}
