package api

import (
	"testing"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// follow opens a session on so many partitions of a topic, of which one is written
// to, and returns a function that writes a record there and fetches it: how often a
// partition was read for that is returned.
func follow(t testing.TB, f *fetchRig, topic string, partitions int) (step func() int64) {
	f.create(topic, int32(partitions))
	p := f.Replicas.Get(topic, int32(partitions/2))
	r := f.reader(12)
	all := asked(topic, make([]int64, partitions)...)
	if code, got := r.fetch(r.request(0, all)); code != 0 || len(got) != partitions || r.id == 0 {
		t.Fatalf("%v, %d partitions, session %d", code, len(got), r.id)
	}
	fetch := func() (next int64) {
		code, got := r.fetch(r.request(0))
		if code != 0 || len(got) != 1 || len(got[0].values) != 1 || got[0].index != p.Index {
			t.Fatalf("%s", shown(code, got))
		}
		return got[0].next
	}
	moved := func(next int64) {
		ask := asked(topic)
		ask.Partitions = append(ask.Partitions, askedAt(p.Index, next))
		if code, got := r.fetch(r.request(0, ask)); code != 0 || len(got) != 0 {
			t.Fatalf("%s", shown(code, got))
		}
	}
	return func() int64 {
		before := f.fetchReads.Load()
		f.append(p, "v")
		moved(fetch())
		return f.fetchReads.Load() - before
	}
}

// TestFetchSessionVisits: a fetch of a session costs what changed, not how much it is
// of: of 5,000 partitions it reads as many as of one.
func TestFetchSessionVisits(t *testing.T) {
	f := newFetchRig(t)
	one, many := follow(t, f, "one", 1), follow(t, f, "many", 5000)
	for i := range 10 {
		if a, b := one(), many(); a != b || b != 2 {
			t.Errorf("round %d: a session of one partition has read %d, one of 5,000 has read %d, want 2", i, a, b)
		}
	}
	r := f.reader(12)
	if _, got := r.fetch(r.request(0, asked("many", make([]int64, 4000)...))); len(got) != 4000 {
		t.Fatalf("%d partitions", len(got))
	}
	r.fetch(r.request(0)) // one has records, and stays
	for _, c := range []struct {
		name string
		do   func()
		want int64
	}{
		{"nothing", func() {}, 1},
		{"a record elsewhere", func() { f.append(f.Replicas.Get("many", 4500), "v") }, 1},
		{"records in three", func() {
			for i := range int32(3) {
				f.append(f.Replicas.Get("many", i), "v")
				f.append(f.Replicas.Get("many", i), "v")
			}
		}, 4},
		{"the same again, for the offsets stay", func() {}, 4},
	} {
		c.do()
		before := f.fetchReads.Load()
		r.fetch(r.request(0))
		if got := f.fetchReads.Load() - before; got != c.want {
			t.Errorf("%s: %d reads, want %d", c.name, got, c.want)
		}
	}
}

// A reader of committed records is at the end of a partition with a transaction that
// is open, and visits it no more until it ends.
func TestFetchSessionVisitsOpenTransaction(t *testing.T) {
	f := newFetchRig(t)
	f.create("t", 1)
	p := f.Replicas.Get("t", 0)
	r := f.reader(12)
	fetch := func(topics ...msg.FetchRequestFetchTopic) (reads int64, answer string) {
		req := r.request(0, topics...)
		req.IsolationLevel = 1
		before := f.fetchReads.Load()
		code, got := r.fetch(req)
		return f.fetchReads.Load() - before, shown(code, got)
	}
	fetch(asked("t", 0))
	b := valuesBatch(t, record.Producer{ID: 7, Transactional: true}, "v")
	if _, _, err := p.Append(b, replication.AcksLeader, log.AppendOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int64{1, 0, 0} {
		if reads, _ := fetch(); reads != want {
			t.Errorf("fetch %d while the transaction is open: %d reads, want %d", i, reads, want)
		}
	}
	end := record.BuildEndTxn(nil, true, 7, 0, 1, written)
	if _, _, err := p.Append(end, replication.AcksLeader, log.AppendOptions{Origin: log.Coordinator}); err != nil {
		t.Fatal(err)
	}
	if _, got := fetch(); got != `NONE | t-0 0..2 ["v" "\x00\x00\x00\x00\x00\x00"]` && got != `NONE | t-0 0..2 ["v" "\x00\x00\x00\x00\x00\x01"]` {
		t.Errorf("when it has ended: %s", got)
	}
}

// TestFetchSessionGivesBack: a session that ends watches nothing, however it ends, and
// neither does one that nobody uses once it was told.
func TestFetchSessionGivesBack(t *testing.T) {
	f := newFetchRig(t)
	f.create("t", 3)
	watched := func(s *fetchSession) (n int) {
		for _, p := range s.parts {
			if p.in.watch.Watches() {
				n++
			}
		}
		return n
	}
	open := func() (*reader, *fetchSession) {
		r := f.reader(12)
		r.fetch(r.request(0, asked("t", 0, 0, 0)))
		s := f.sessions.all[r.id]
		if s == nil || watched(s) != 3 {
			t.Fatalf("session %d watches %d", r.id, watched(s))
		}
		return r, s
	}
	r, s := open()
	gone := s.index[fetchKey{topic: "t", index: 1}]
	forget := r.request(0)
	forget.ForgottenTopicsData = append(forget.ForgottenTopicsData, forgotten("t", 1))
	if r.fetch(forget); watched(s) != 2 || gone.in.watch.Watches() {
		t.Errorf("a partition was forgotten: %d watched", watched(s))
	}
	r.epoch = finalEpoch
	if r.fetch(r.request(0)); watched(s) != 0 || len(f.sessions.all) != 0 {
		t.Errorf("the session was closed: %d watched", watched(s))
	}

	r, s = open()
	r.epoch = initialEpoch
	if r.fetch(r.request(0, asked("t", 0))); watched(s) != 0 || len(f.sessions.all) != 1 {
		t.Errorf("the session was replaced: %d watched, %d sessions", watched(s), len(f.sessions.all))
	}

	f.sessions.close(r.id)
	_, s = open()
	f.sessions.slots = 1
	s.created = s.created.Add(-2 * evictAfter)
	s.used = s.created
	if _, other := open(); watched(s) != 0 || watched(other) != 3 || len(f.sessions.all) != 1 {
		t.Errorf("the session was evicted: %d watched, %d sessions", watched(s), len(f.sessions.all))
	}
	f.sessions.slots = 10

	_, s = open()
	for range 3 {
		f.append(f.Replicas.Get("t", 0), "v")
	}
	if watched(s) != 2 || len(s.news.marked) != 1 {
		t.Errorf("after three records: %d watched, %d marked", watched(s), len(s.news.marked))
	}
	f.remove("t")
	if watched(s) != 0 || len(s.news.marked) != 3 {
		t.Errorf("the topic was deleted: %d watched, %d marked", watched(s), len(s.news.marked))
	}

	// A session that is closed while it is busy is released by its request.
	f.create("t", 3)
	r, s = open()
	busy, code := f.sessions.take(r.id, r.epoch, false)
	if code != 0 || busy != s {
		t.Fatal(code)
	}
	f.sessions.close(r.id)
	if watched(s) != 3 {
		t.Errorf("the request's session was taken from it: %d watched", watched(s))
	}
	f.sessions.end(&turn{session: s})
	if watched(s) != 0 {
		t.Errorf("the request has ended: %d watched", watched(s))
	}
}

// TestFetchSessionNotices goes through what may happen to a partition that a session
// has read to its end: the next answer tells of it.
func TestFetchSessionNotices(t *testing.T) {
	f := newFetchRig(t)
	id := f.create("t", 4)
	r := f.reader(firstWithRacks - 1) // a consumer of a later version goes on at a follower
	r.fetch(r.request(0, asked("t", 0, 0, 0, 0), asked("later", 0)))
	const later = `NONE | later-0 UNKNOWN_TOPIC_OR_PARTITION -1..-1 []` // an error is told of each time
	p := func() *replication.Partition { return f.Replicas.Get("t", 2) }
	for _, c := range []struct {
		name string
		do   func()
		want string
	}{
		{"nothing", func() {}, later},
		{"a record", func() { f.append(p(), "a") }, `NONE | t-2 0..1 ["a"] | later-0 UNKNOWN_TOPIC_OR_PARTITION -1..-1 []`},
		{"it comes again, behind the others", func() {}, later + ` | t-2 0..1 ["a"]`},
		{"the log start", func() {
			ask := asked("t")
			ask.Partitions = append(ask.Partitions, askedAt(2, 1))
			if code, got := r.fetch(r.request(0, ask)); code != 0 || len(got) != 1 {
				t.Error(shown(code, got))
			}
			if _, err := p().DeleteRecords(1); err != nil {
				t.Error(err)
			}
		}, later + ` | t-2 1..1 []`},
		{"another leader", func() { f.write(f.partition(id, 2, 2, []int32{2, 1})) }, later + ` | t-2 NOT_LEADER_OR_FOLLOWER -1..-1 []`},
		{"the error lasts", func() {}, later + ` | t-2 NOT_LEADER_OR_FOLLOWER -1..-1 []`},
		{"the leader again", func() { f.write(f.partition(id, 2, 1, []int32{1})) }, later + ` | t-2 1..1 []`},
		{"a topic that comes", func() { f.create("later", 1) }, `NONE | later-0 0..0 []`},
		{"it is there", func() {}, `NONE`},
		{"the topic goes", func() { f.remove("t") },
			`NONE | t-0 UNKNOWN_TOPIC_OR_PARTITION -1..-1 [] | t-1 UNKNOWN_TOPIC_OR_PARTITION -1..-1 [] | t-3 UNKNOWN_TOPIC_OR_PARTITION -1..-1 [] | t-2 UNKNOWN_TOPIC_OR_PARTITION -1..-1 []`},
		{"the topic comes again", func() { f.create("t", 4) }, `NONE | t-0 0..0 [] | t-1 0..0 [] | t-3 0..0 [] | t-2 OFFSET_OUT_OF_RANGE -1..-1 []`},
	} {
		c.do()
		if got := shown(r.fetch(r.request(0))); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// BenchmarkFetchSession writes a record and fetches it, in sessions of one partition
// and of 5,000.
func BenchmarkFetchSession(b *testing.B) {
	f := newFetchRig(b)
	for _, c := range []struct {
		name       string
		partitions int
	}{{"1", 1}, {"5000", 5000}} {
		step := follow(b, f, "t"+c.name, c.partitions)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				step()
			}
		})
	}
}
