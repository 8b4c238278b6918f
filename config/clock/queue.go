package clock

import (
	"container/heap"
	"time"
)

// queue holds timers by due time, equal ones in the order they were set. It is
// guarded by the mutex of the clock it belongs to.
type queue struct {
	heap []*timer
	seq  uint64
}

// host is a clock that keeps its timers in a queue.
type host interface {
	stop(*timer) bool
	reset(*timer, time.Duration) bool
}

type timer struct {
	host host
	f    func()
	due  time.Time
	seq  uint64
	at   int // index in the heap, -1 when not waiting
}

func (t *timer) Stop() bool                 { return t.host.stop(t) }
func (t *timer) Reset(d time.Duration) bool { return t.host.reset(t, d) }

func (q *queue) set(t *timer, due time.Time) {
	q.remove(t)
	q.seq++
	t.due, t.seq = due, q.seq
	heap.Push(q, t)
}

func (q *queue) remove(t *timer) bool {
	if t.at < 0 {
		return false
	}
	heap.Remove(q, t.at)
	return true
}

// next returns the earliest timer if it is due at now.
func (q *queue) next(now time.Time) *timer {
	if len(q.heap) == 0 || q.heap[0].due.After(now) {
		return nil
	}
	return heap.Pop(q).(*timer)
}

func (q *queue) Len() int { return len(q.heap) }

func (q *queue) Less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	if !a.due.Equal(b.due) {
		return a.due.Before(b.due)
	}
	return a.seq < b.seq
}

func (q *queue) Swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].at, q.heap[j].at = i, j
}

func (q *queue) Push(x any) {
	t := x.(*timer)
	t.at = len(q.heap)
	q.heap = append(q.heap, t)
}

func (q *queue) Pop() any {
	t := q.heap[len(q.heap)-1]
	q.heap[len(q.heap)-1] = nil
	q.heap = q.heap[:len(q.heap)-1]
	t.at = -1
	return t
}
