package api

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/msg"
)

// TestFetchSessionsUnderLoad: sessions that wait for what others write, while topics
// come and go and sessions are closed under them, are sent every record once, in order,
// and never wait for the clock: no news is lost.
func TestFetchSessionsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, records, readers = 8, 150, 3
		f := newFetchRig(t)
		f.create("t", partitions)
		began := time.Now()
		var writers, others sync.WaitGroup
		for i := range int32(partitions) {
			p := f.Replicas.Get("t", i)
			writers.Go(func() {
				for n := range records {
					f.append(p, fmt.Sprint(n))
				}
			})
		}
		done := make(chan struct{})
		others.Go(func() { // the metadata have one writer
			for {
				select {
				case <-done:
					return
				default:
				}
				f.create("x", 2)
				f.append(f.Replicas.Get("x", 1), "v")
				f.remove("x")
			}
		})
		var all sync.WaitGroup
		ids := make(chan int32, 1000)
		for range readers {
			all.Go(func() { f.readAllOf(partitions, records, ids) })
		}
		others.Go(func() {
			for id := range ids {
				if id%3 == 0 {
					f.sessions.close(id)
				}
			}
		})
		writers.Wait()
		all.Wait()
		close(done)
		close(ids)
		others.Wait()
		if d := time.Since(began); d > 0 {
			t.Errorf("somebody waited for %v", d)
		}
		f.sessions.mu.Lock()
		defer f.sessions.mu.Unlock()
		for _, s := range f.sessions.all {
			s.release()
			for _, p := range s.parts {
				if p.in.watch.Watches() {
					t.Errorf("%s-%d is watched by a session that has ended", p.topic, p.index)
				}
			}
		}
	})
}

// News that come between the last look and the wait for more end the wait.
func TestNewsBeforeTheWait(t *testing.T) {
	f := newFetchRig(t)
	f.create("t", 2)
	r := f.reader(12)
	r.fetch(r.request(0, asked("t", 0, 0)))
	s, a := f.sessions.all[r.id], &alarm{moved: make(chan struct{}, 1)}
	s.news.wakes(a)
	if len(a.moved) != 0 {
		t.Error("woken without news")
	}
	s.news.wakes(nil)
	f.append(f.Replicas.Get("t", 0), "v")
	if len(a.moved) != 0 {
		t.Error("woken, though nobody waits")
	}
	if s.news.wakes(a); len(a.moved) != 1 {
		t.Fatal("not woken by news that are there")
	}
	<-a.moved
	f.append(f.Replicas.Get("t", 1), "v")
	if len(a.moved) != 1 {
		t.Error("not woken by news that come")
	}
}

// A fetch that does not come to an answer, since its connection ends, leaves its
// news to the next one.
func TestNewsOfAFetchThatEnds(t *testing.T) {
	f := newFetchRig(t)
	f.create("t", 2)
	r := f.reader(12)
	r.fetch(r.request(0, asked("t", 0, 0)))
	s, code := f.sessions.take(r.id, r.epoch, false)
	if code != 0 {
		t.Fatal(code)
	}
	f.append(f.Replicas.Get("t", 1), "v")
	turn := turn{session: s, parts: s.news.take(nil)}
	if len(turn.parts) != 1 {
		t.Fatalf("%d partitions have news, want 1", len(turn.parts))
	}
	f.sessions.end(&turn)
	r.epoch++
	if got := shown(r.fetch(r.request(0))); got != `NONE | t-1 0..1 ["v"]` {
		t.Error(got)
	}
}

// readAllOf reads so many records of each partition of topic t, and checks them. It
// reports each id that its session has.
func (f *fetchRig) readAllOf(partitions, records int, ids chan<- int32) {
	r := f.reader(12)
	next := make([]int64, partitions)
	moved := make([]int32, 0, partitions)
	left := partitions * records
	for rounds := 0; left > 0; rounds++ {
		req := r.request(time.Hour)
		if r.id == 0 {
			req.Topics = []msg.FetchRequestFetchTopic{asked("t", next...), asked("x", 0, 0)}
		} else if len(moved) > 0 {
			ask := asked("t")
			for _, i := range moved {
				ask.Partitions = append(ask.Partitions, askedAt(i, next[i]))
			}
			req.Topics = append(req.Topics, ask)
		}
		if rounds%3 == 0 {
			req.MaxBytes = 200
		}
		moved = moved[:0]
		code, got := r.fetch(req)
		if code != 0 {
			r.id, r.epoch = 0, 0
			continue
		}
		if rounds%10 == 0 {
			select {
			case ids <- r.id:
			default:
			}
		}
		for _, p := range got {
			if p.topic != "t" {
				continue
			}
			if p.code != 0 {
				f.Errorf("%s", shown(code, got))
				return
			}
			for n, v := range p.values {
				if want := fmt.Sprint(next[p.index] + int64(n)); v != want {
					f.Errorf("partition %d: record %s, want %s", p.index, v, want)
					return
				}
			}
			if len(p.values) > 0 && !slices.Contains(moved, p.index) {
				left -= len(p.values)
				next[p.index] = p.next
				moved = append(moved, p.index)
			}
		}
	}
}
