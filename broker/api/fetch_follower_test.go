package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// parkedFetch is a fetch under way.
type parkedFetch struct {
	answer chan string
	began  time.Time
}

// start sends a request of a follower, -1 for a consumer, that waits for a minute.
func (r *reader) start(follower int32, topics ...msg.FetchRequestFetchTopic) *parkedFetch {
	w := &parkedFetch{make(chan string, 1), time.Now()}
	req := r.request(time.Minute, topics...)
	if r.version >= 15 {
		req.ReplicaState.ReplicaId = follower
	} else {
		req.ReplicaId = follower
	}
	go func() { w.answer <- shown(r.fetch(req)) }()
	synctest.Wait()
	return w
}

// got fails the test unless the answer came at once, or waits still if it is "".
func (w *parkedFetch) got(t *testing.T, what, want string) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-w.answer:
		if got != want || time.Since(w.began) > 0 {
			t.Errorf("%s: after %v: %q, want %q", what, time.Since(w.began), got, want)
		}
	default:
		if want != "" {
			t.Errorf("%s: no answer, want %q", what, want)
			<-w.answer
		}
	}
}

// TestFollowerLearnsOfHighWatermark: a follower with nothing to fetch is answered when
// the high watermark moves, without waiting out replica.fetch.wait.max.ms.
func TestFollowerLearnsOfHighWatermark(t *testing.T) {
	for _, version := range []int16{12, 18} {
		synctest.Test(t, func(t *testing.T) {
			f := newFetchRig(t)
			id := f.create("t", 2, 1, 2, 3)
			p := f.Replicas.Get("t", 1)
			at := func(index int32, offset, high int64) msg.FetchRequestFetchTopic {
				ask := msg.FetchRequestFetchTopic{Topic: "t", TopicId: id, Partitions: []msg.FetchRequestFetchPartition{askedAt(index, offset)}}
				if version >= 18 {
					ask.Partitions[0].HighWatermark = high
				}
				return ask
			}
			name := "t"
			if version >= 13 {
				name = id.String()
			}
			second, third := f.reader(version), f.reader(version)
			second.start(2, at(0, 0, 0), at(1, 0, 0)).got(t, "a session begins", "")
			// A full fetch of a session waits as any other, so that the record ends it.
			third.start(3, at(0, 0, 0), at(1, 0, 0)).got(t, "another begins", "")
			f.append(p, "v")
			synctest.Wait()
			w := second.start(2, at(1, 1, 0))
			w.got(t, "follower 3 has not fetched the record", "")
			third.start(3, at(1, 1, 0)).got(t, "follower 3 asks for what comes next", "NONE | "+name+"-1 0..1 []")
			w.got(t, "the high watermark has moved", "NONE | "+name+"-1 0..1 []")
			w = second.start(2)
			w.got(t, "it knows the high watermark", "")
			f.append(p, "w")
			w.got(t, "another record", "NONE | "+name+"-1 0..1 [\"w\"]")
			if version < 18 {
				return
			}
			// One that says that it does not know it is told, once.
			w = third.start(3, at(1, 1, 0))
			w.got(t, "there is a record", "NONE | "+name+"-1 0..1 [\"w\"]")
			second.start(2, at(1, 2, 1)).got(t, "follower 2 has the record", "")
			third.start(3, at(1, 2, 0)).got(t, "follower 3 has it, and an old high watermark", "NONE | "+name+"-1 0..2 []")
			third.start(3, at(1, 2, 0)).got(t, "it says so again, as one that has started anew", "NONE | "+name+"-1 0..2 []")
			third.start(3).got(t, "it was told", "")
		})
	}
}

// A session that a consumer has begun may be a follower's from some request on: then
// it hears of the log end.
func TestSessionOfAnotherReader(t *testing.T) {
	f := newFetchRig(t)
	f.create("t", 2, 1, 2)
	r := f.reader(12)
	as := func(follower int32) string {
		req := r.request(0)
		if r.id == 0 {
			req.Topics = append(req.Topics, asked("t", 0, 0))
		}
		req.ReplicaId = follower
		return shown(r.fetch(req))
	}
	for i, c := range []struct {
		follower int32
		write    bool
		want     string
	}{
		{-1, false, "NONE | t-0 0..0 [] | t-1 0..0 []"}, {-1, true, "NONE"}, {2, false, `NONE | t-0 0..0 ["v"]`}, {-1, false, "NONE"},
		{-1, true, "NONE"}, {2, false, `NONE | t-0 0..0 ["v" "v"]`}, {2, true, `NONE | t-0 0..0 ["v" "v" "v"]`},
	} {
		if c.write {
			f.append(f.Replicas.Get("t", 0), "v")
		}
		if got := as(c.follower); got != c.want {
			t.Errorf("fetch %d, of %d: %s, want %s", i, c.follower, got, c.want)
		}
	}
	// One that follows from the start on is at the end of t-1, and then it is not.
	as(2)
	f.append(f.Replicas.Get("t", 1), "w")
	if got, want := as(2), `NONE | t-1 0..0 ["w"] | t-0 0..0 ["v" "v" "v"]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestWaitingFetchNotices: a fetch that waits ends when something happens to a
// partition of it that it must be told of, in a session or without one.
func TestWaitingFetchNotices(t *testing.T) {
	for _, kind := range []struct {
		name     string
		follower int32
		session  bool
	}{{"consumer", -1, false}, {"consumer in a session", -1, true}, {"follower", 2, false}, {"follower in a session", 2, true}} {
		for _, c := range []struct {
			name   string
			happen func(f *fetchRig, id prim.UUID)
			want   string
		}{
			{"another leader", func(f *fetchRig, id prim.UUID) { f.write(f.partition(id, 1, 2, []int32{2, 1})) },
				"NONE | t-0 0..0 [] | t-1 NOT_LEADER_OR_FOLLOWER -1..-1 []"},
			{"the topic goes", func(f *fetchRig, _ prim.UUID) { f.remove("t") },
				"NONE | t-0 UNKNOWN_TOPIC_OR_PARTITION -1..-1 [] | t-1 UNKNOWN_TOPIC_OR_PARTITION -1..-1 []"},
			{"nothing", func(*fetchRig, prim.UUID) {}, ""},
		} {
			t.Run(kind.name+"/"+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFetchRig(t)
					id := f.create("t", 2, 1, 2)
					r := f.reader(firstWithRacks - 1) // a consumer of a later version goes on at a follower
					if !kind.session {
						r.epoch = finalEpoch
					}
					w := r.start(kind.follower, asked("t", 0, 0))
					w.got(t, "before", "")
					c.happen(f, id)
					w.got(t, "after", c.want)
				})
			})
		}
	}
}
