package driver

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Limit is how long a driver waits for records, assignments and answers.
const Limit = 30 * time.Second

// Inbox is what a group member in Go has been given so far. It is safe for
// concurrent use.
type Inbox struct {
	mu       sync.Mutex
	changed  chan struct{}       // closed and replaced at every change
	records  []Record            // not taken yet
	next     map[TopicPart]int64 // where a commit of everything taken stands
	assigned map[TopicPart]bool
	err      error
}

// TopicPart names a partition.
type TopicPart struct {
	Topic     string
	Partition int32
}

// NewInbox returns an empty one.
func NewInbox() *Inbox {
	return &Inbox{changed: make(chan struct{}), next: make(map[TopicPart]int64), assigned: make(map[TopicPart]bool)}
}

func (b *Inbox) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

// Add takes in a record.
func (b *Inbox) Add(r Record) { b.change(func() { b.records = append(b.records, r) }) }

// Fail ends every wait with err.
func (b *Inbox) Fail(err error) { b.change(func() { b.err = err }) }

// Assigned sets the partitions that the member has.
func (b *Inbox) Assigned(parts []TopicPart) {
	b.change(func() {
		clear(b.assigned)
		for _, p := range parts {
			b.assigned[p] = true
		}
	})
}

// Change adds and removes partitions.
func (b *Inbox) Change(add, remove []TopicPart) {
	b.change(func() {
		for _, p := range remove {
			delete(b.assigned, p)
		}
		for _, p := range add {
			b.assigned[p] = true
		}
	})
}

// await waits until ready reports true; ready runs with mu held.
func (b *Inbox) await(what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	for {
		b.mu.Lock()
		if b.err != nil {
			defer b.mu.Unlock()
			return b.err
		}
		if ready() {
			b.mu.Unlock()
			return nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %d records, assigned %v", what, len(b.records), b.assigned)
		}
	}
}

// Poll waits for count records and takes them.
func (b *Inbox) Poll(count int) Result {
	var r Result
	err := b.await(fmt.Sprintf("%d records", count), func() bool {
		if len(b.records) < count {
			return false
		}
		r.Records, b.records = b.records[:count:count], b.records[count:]
		for _, rec := range r.Records {
			p := TopicPart{rec.Topic, rec.Partition}
			b.next[p] = max(b.next[p], rec.Offset+1)
		}
		return true
	})
	if err != nil {
		return Fail(0, err)
	}
	return Normal(r)
}

// Next returns the offset behind the last record taken of each partition that
// the member still has.
func (b *Inbox) Next() map[TopicPart]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[TopicPart]int64)
	for p, o := range b.next {
		if b.assigned[p] {
			out[p] = o
		}
	}
	return out
}

// Assignment waits until the member has count partitions.
func (b *Inbox) Assignment(count int) Result {
	if err := b.await(fmt.Sprintf("%d partitions", count), func() bool { return len(b.assigned) == count }); err != nil {
		return Fail(0, err)
	}
	return Result{Partitions: count}
}
