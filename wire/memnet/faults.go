package memnet

import "time"

// rule is one fault on the way from one place to another.
type rule struct {
	from, to   string
	block      bool
	latency    time.Duration
	setLatency bool
	breakAfter int64 // bytes; 0 means never
}

// linkState is what the rules together say about one direction.
type linkState struct {
	blocked    bool
	latency    time.Duration
	breakAfter int64
}

func (a Addr) is(place string) bool {
	return place == "*" || place == a.Host || place == a.String()
}

// linkState folds the rules for one direction; of two latencies the later set
// counts. The caller holds n.mu.
func (n *Network) linkState(from, to Addr) (s linkState) {
	for i := range n.rules {
		r := &n.rules[i]
		if !from.is(r.from) || !to.is(r.to) {
			continue
		}
		s.blocked = s.blocked || r.block
		if r.setLatency {
			s.latency = r.latency
		}
		if r.breakAfter > 0 {
			s.breakAfter = r.breakAfter
		}
	}
	return s
}

// signal wakes the dials that wait for a change. The caller holds n.mu.
func (n *Network) signal() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// change edits the rules and lets every connection feel them.
func (n *Network) change(edit func(rules []rule) []rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = edit(n.rules)
	for p := range n.pairs {
		n.applyTo(p)
	}
	n.signal()
}

// applyTo brings p in line with the rules. The caller holds n.mu.
func (n *Network) applyTo(p *pair) {
	ab, ba := n.linkState(p.a.local, p.b.local), n.linkState(p.b.local, p.a.local)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ab.apply(ab)
	p.ba.apply(ba)
}

// Latency delays the bytes from one place to another by d from now on. 0
// removes the delay.
func (n *Network) Latency(from, to string, d time.Duration) {
	n.change(func(rs []rule) []rule {
		return append(rs, rule{from: from, to: to, latency: d, setLatency: true})
	})
}

// Block holds back everything on the way from one place to another: bytes, the
// end of a stream, and dials. Held bytes are delivered when the block is lifted,
// as TCP would send them again.
func (n *Network) Block(from, to string) {
	n.change(func(rs []rule) []rule { return append(rs, rule{from: from, to: to, block: true}) })
}

// Partition blocks both directions between two places.
func (n *Network) Partition(a, b string) {
	n.Block(a, b)
	n.Block(b, a)
}

// Unblock lifts the blocks that were set with exactly these places.
func (n *Network) Unblock(from, to string) {
	n.change(func(rs []rule) []rule {
		kept := rs[:0:0]
		for _, r := range rs {
			if !r.block || r.from != from || r.to != to {
				kept = append(kept, r)
			}
		}
		return kept
	})
}

// Heal lifts every block, latency and BreakAfter. Connections that were made
// half-open or reset stay broken.
func (n *Network) Heal() {
	n.change(func([]rule) []rule { return nil })
}

// BreakAfter breaks each connection once it has carried bytes more bytes (at
// least 1) in the direction from one place to another. What follows in that
// write is lost although the write has succeeded; the reader
// gets what arrived, then both sides see the connection reset.
func (n *Network) BreakAfter(from, to string, bytes int64) {
	n.change(func(rs []rule) []rule {
		return append(rs, rule{from: from, to: to, breakAfter: max(bytes, 1)})
	})
}

// Reset resets every connection between two places and returns their number.
// Bytes on the way are lost.
func (n *Network) Reset(a, b string) int {
	return n.each(a, b, (*pair).reset)
}

// HalfOpen makes every connection between two places half-open, as after the
// crash of a machine or of a NAT in between: neither side hears anything any
// more on it, not even after Heal. Writes succeed until the buffer is full. New
// connections work.
func (n *Network) HalfOpen(a, b string) int {
	return n.each(a, b, func(p *pair) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ab.freeze()
		p.ba.freeze()
	})
}

func (n *Network) each(a, b string, do func(*pair)) int {
	n.mu.Lock()
	var hit []*pair
	for p := range n.pairs {
		x, y := p.a.local, p.b.local
		if x.is(a) && y.is(b) || x.is(b) && y.is(a) {
			hit = append(hit, p)
		}
	}
	n.mu.Unlock()
	for _, p := range hit {
		do(p)
	}
	return len(hit)
}
