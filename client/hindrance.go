package client

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/wire/kerr"
)

// hindrance returns what last kept a batch from being delivered, nil if nothing
// did. The caller holds mu.
func (p *Producer) hindrance(b *batch) error {
	part := b.part
	switch {
	case b.lastErr != nil:
		return b.lastErr
	case p.o.Idempotence == On && p.who.hindrance() != nil:
		return p.who.hindrance()
	case part.node != nil:
		return part.node.failed
	}
	if err := p.cl.failure(); err != nil {
		return err
	}
	if t := p.cl.now().topics[part.topic.name]; t != nil && t.err != kerr.None {
		return fmt.Errorf("topic %s: %w", part.topic.name, t.err)
	}
	return fmt.Errorf("partition %d of topic %s: %w", part.index, part.topic.name, kerr.LeaderNotAvailable)
}

// hindranceOf returns what last kept the batch with an outcome from being
// delivered. A nil producer has none.
func (p *Producer) hindranceOf(o *outcome) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.batch == nil {
		return nil
	}
	return p.hindrance(o.batch)
}

// undelivered returns what last kept the oldest batch from being delivered, nil
// if nothing did. The caller holds mu.
func (p *Producer) undelivered() error {
	for b := range p.open.undecided() {
		return p.hindrance(b)
	}
	return nil
}

// awaited returns the topics of batches that are not reported yet: where their leaders
// are must be asked for until then.
func (p *Producer) awaited() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, t := range p.topics {
		if slices.ContainsFunc(t.partitions, func(part *partition) bool { return len(part.order) > 0 }) {
			names = append(names, name)
		}
	}
	return names
}

// leaderless reports whether a batch waits for its partition to have a leader.
func (p *Producer) leaderless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.topics {
		for _, part := range t.partitions {
			if part.node == nil && len(part.queue) > 0 {
				return true
			}
		}
	}
	return false
}
