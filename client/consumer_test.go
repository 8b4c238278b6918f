package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

func newConsumer(t *testing.T, f *fake, o ConsumerOptions) *Consumer {
	t.Helper()
	o.Options = f.options()
	c, err := NewConsumer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// fill appends batches of n records each, values counting up.
func (f *fake) fill(topic string, partition int, codec record.Codec, batches, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.topics[topic][partition]
	for range batches {
		b := record.NewBuilder(codec, codec.DefaultLevel())
		for i := range n {
			at := p.end + int64(i)
			b.Append(1000+at, []byte("k"), []byte(fmt.Sprint(at)), []Header{{Key: "h", Value: []byte(fmt.Sprint(at))}})
		}
		data, err := b.Finish(record.NoProducer)
		if err != nil {
			f.t.Fatal(err)
		}
		f.push(p, data)
	}
}

func (f *fake) push(p *fakePartition, data []byte) {
	b := record.Batch(slices.Clone(data))
	b.SetBaseOffset(p.end)
	b.SetLeaderEpoch(p.epoch)
	p.end += int64(b.LastOffsetDelta()) + 1
	p.batches = append(p.batches, b)
}

// pollN polls until it has n records.
func pollN(t *testing.T, c *Consumer, n int) (all []Record) {
	t.Helper()
	for len(all) < n {
		rs, err := c.Poll(background(t))
		if err != nil {
			t.Fatalf("poll after %d records: %v", len(all), err)
		}
		all = append(all, rs...)
	}
	return all
}

func checkRun(t *testing.T, rs []Record, from int64) {
	t.Helper()
	for i, r := range rs {
		want := from + int64(i)
		if r.Offset != want || string(r.Value) != fmt.Sprint(want) || r.Timestamp.UnixMilli() != 1000+want || string(r.Headers[0].Value) != fmt.Sprint(want) {
			t.Fatalf("record %d: offset %d, value %s, headers %v; want offset %d", i, r.Offset, r.Value, r.Headers, want)
		}
	}
}

func TestConsumeAssigned(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Zstd} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1, 2)
			f.topic("t", 1, 2)
			f.fill("t", 0, codec, 20, 60)
			f.fill("t", 1, codec, 2, 3)
			c := newConsumer(t, f, ConsumerOptions{MaxPollRecords: 100, PartitionMaxBytes: 3000})
			tp := TopicPartition{"t", 0}
			c.Assign(map[TopicPartition]Position{tp: AtStart(0)})
			rs, err := c.Poll(background(t))
			if err != nil || len(rs) != 100 {
				t.Fatalf("%d records, %v", len(rs), err)
			}
			checkRun(t, append(rs, pollN(t, c, 1100)...), 0)
			if next, end, ok := c.Position(tp); next != 1200 || end != 1200 || !ok {
				t.Errorf("position %d of %d, %t", next, end, ok)
			}
			for name, p := range map[string]struct {
				at   Position
				want int64
			}{
				"offset": {AtOffset(77), 77}, "before the end": {AtEnd(5), 1195}, "after the start": {AtStart(7), 7}, "time": {AtTime(time.UnixMilli(1500)), 500},
			} {
				if err := c.Seek(tp, p.at); err != nil {
					t.Fatal(err)
				}
				rs := pollN(t, c, 1)
				checkRun(t, rs, p.want)
				_ = name
			}
			c.Assign(map[TopicPartition]Position{{"t", 1}: AtTime(time.UnixMilli(1e12))})
			ctx, cancel := context.WithTimeout(background(t), time.Second)
			defer cancel()
			if rs, err := c.Poll(ctx); len(rs) > 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("past the end: %d records, %v", len(rs), err)
			}
			f.fill("t", 1, codec, 1, 2)
			checkRun(t, pollN(t, c, 2), 6)
		})
	}
}

func TestConsumerFollowsTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 5)
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		checkRun(t, pollN(t, c, 5), 0)
		time.Sleep(6 * time.Minute) // longer than metadata.max.idle.ms
		f.move("t", 0, 2)
		f.fill("t", 0, record.None, 1, 5)
		checkRun(t, pollN(t, c, 5), 5)
		f.n.Reset("client", "b2")
		f.fill("t", 0, record.None, 1, 5)
		checkRun(t, pollN(t, c, 5), 10)
	})
}

func TestOutOfRange(t *testing.T) {
	for name, c := range map[string]struct {
		reset Reset
		want  int64 // -1: error
	}{"earliest": {ResetEarliest, 10}, "latest": {ResetLatest, 20}, "none": {ResetNone, -1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 2, 10)
				f.topics["t"][0].start = 10
				cons := newConsumer(t, f, ConsumerOptions{Reset: c.reset})
				cons.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(3)})
				if c.want < 0 {
					if _, err := cons.Poll(background(t)); !errors.Is(err, ErrNoReset) || !errors.Is(err, kerr.OffsetOutOfRange) {
						t.Errorf("got %v", err)
					}
					return
				}
				if c.reset == ResetLatest {
					go func() { time.Sleep(5 * time.Second); f.fill("t", 0, record.None, 1, 1) }()
				}
				if rs := pollN(t, cons, 1); rs[0].Offset != c.want {
					t.Errorf("first offset %d, want %d", rs[0].Offset, c.want)
				}
			})
		})
	}
}

func TestReadCommitted(t *testing.T) {
	for _, committed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1)
			f.topic("t", 1)
			p := f.topics["t"][0]
			add := func(pid int64, txn bool, value string) {
				b := record.NewBuilder(record.None, 0)
				b.Append(0, nil, []byte(value), nil)
				data, err := b.Finish(record.Producer{ID: pid, Transactional: txn})
				if err != nil {
					t.Fatal(err)
				}
				f.push(p, data)
			}
			end := func(pid int64, commit bool) { f.push(p, record.BuildEndTxn(nil, commit, pid, 0, 0, 0)) }
			add(1, true, "aborted") // 0
			add(2, true, "other")   // 1
			end(1, false)           // 2
			add(1, true, "kept")    // 3
			end(1, true)            // 4
			add(-1, false, "plain") // 5
			end(2, true)            // 6
			f.aborted = []msg.FetchResponseAbortedTransaction{{ProducerId: 1, FirstOffset: 0}}
			c := newConsumer(t, f, ConsumerOptions{ReadCommitted: committed})
			c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
			want := []string{"other", "kept", "plain"}
			if !committed {
				want = []string{"aborted", "other", "kept", "plain"}
			}
			var got []string
			for _, r := range pollN(t, c, len(want)) {
				got = append(got, string(r.Value))
			}
			if !slices.Equal(got, want) {
				t.Errorf("committed %t: %v, want %v", committed, got, want)
			}
			if next, _, _ := c.Position(TopicPartition{"t", 0}); next != 7 {
				t.Errorf("position %d, want 7: markers are passed over", next)
			}
		})
	}
}

func TestCorruptBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 2, 5)
		f.topics["t"][0].batches[1][70] ^= 1
		c := newConsumer(t, f, ConsumerOptions{})
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(0)})
		checkRun(t, pollN(t, c, 5), 0)
		if _, err := c.Poll(background(t)); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("got %v", err)
		}
	})
}

func TestGroup(t *testing.T) {
	for _, assignor := range []Assignor{Range, Sticky} {
		t.Run(string(assignor), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", 1, 2, 1, 2)
				for i := range 4 {
					f.fill("t", i, record.None, 1, 10)
				}
				o := ConsumerOptions{Group: "g", Reset: ResetEarliest, Assignors: []Assignor{assignor}}
				a := newConsumer(t, f, o)
				if err := a.Subscribe("t"); err != nil {
					t.Fatal(err)
				}
				seen := map[TopicPartition]int{}
				count := func(rs []Record) {
					for _, r := range rs {
						seen[TopicPartition{r.Topic, r.Partition}]++
					}
				}
				count(pollN(t, a, 40))
				if n := len(a.Assignment()); n != 4 {
					t.Errorf("one member has %d partitions", n)
				}

				// A second member: a gives up two partitions, with their offsets.
				b := newConsumer(t, f, o)
				if err := b.Subscribe("t"); err != nil {
					t.Fatal(err)
				}
				type polled struct {
					rs  []Record
					err error
				}
				results := make(chan polled)
				ctx, cancel := context.WithCancel(background(t))
				for _, c := range []*Consumer{a, b} {
					go func() {
						for {
							rs, err := c.Poll(ctx)
							if err != nil {
								results <- polled{nil, err}
								return
							}
							results <- polled{rs, nil}
						}
					}()
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if x, y := len(a.Assignment()), len(b.Assignment()); x != 2 || y != 2 {
					t.Errorf("two members have %d and %d partitions", x, y)
				}
				for i := range 4 {
					f.fill("t", i, record.None, 1, 5)
				}
				for n := 0; n < 20; {
					r := <-results
					if r.err != nil {
						t.Fatal(r.err)
					}
					n += len(r.rs)
					count(r.rs)
				}
				cancel()
				for range 2 {
					for r := range results {
						if r.err != nil {
							break
						}
						count(r.rs)
					}
				}
				for tp, n := range seen {
					if n != 15 {
						t.Errorf("%v: %d records, want 15 once each", tp, n)
					}
				}

				// b leaves: its offsets are committed, and a gets all.
				if err := b.Close(context.Background()); err != nil {
					t.Error(err)
				}
				deadline, stop := context.WithTimeout(background(t), 20*time.Second)
				defer stop()
				if rs, err := a.Poll(deadline); len(rs) > 0 {
					t.Errorf("%d records came again, %v", len(rs), err)
				}
				if n := len(a.Assignment()); n != 4 {
					t.Errorf("the last member has %d partitions", n)
				}
				if err := a.Close(context.Background()); err != nil {
					t.Error(err)
				}
				for i := range int32(4) {
					if at := f.commits["g"]["t"][i]; at != 15 {
						t.Errorf("partition %d: committed %d, want 15", i, at)
					}
				}
			})
		})
	}
}

func TestGroupIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 5)
		c := newConsumer(t, f, ConsumerOptions{Group: "g", Reset: ResetEarliest, NoAutoCommit: true})
		if err := c.Subscribe("t"); err != nil {
			t.Fatal(err)
		}
		pollN(t, c, 5)
		if err := c.Commit(background(t)); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.groups["g"] = &fakeGroup{f: f, nextMember: 10} // the coordinator lost all
		f.mu.Unlock()
		if err := c.CommitOffsets(background(t), map[TopicPartition]Offset{{"t", 0}: {At: 3}}); !errors.Is(err, ErrNotMember) {
			t.Errorf("commit of a stranger: %v", err)
		}
		go func() { time.Sleep(10 * time.Second); f.fill("t", 0, record.None, 1, 5) }()
		checkRun(t, pollN(t, c, 5), 5)
		got, err := c.Committed(background(t), TopicPartition{"t", 0})
		if err != nil || got[TopicPartition{"t", 0}].At != 5 {
			t.Errorf("committed %v, %v", got, err)
		}
	})
}

func TestPollMustCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 5)
		c := newConsumer(t, f, ConsumerOptions{Group: "g", Reset: ResetEarliest, MaxPollInterval: time.Minute})
		if err := c.Subscribe("t"); err != nil {
			t.Fatal(err)
		}
		pollN(t, c, 5)
		time.Sleep(2 * time.Minute)
		f.mu.Lock()
		left := len(f.groups["g"].members)
		f.mu.Unlock()
		if left != 0 {
			t.Errorf("%d members left", left)
		}
		if n := f.count(wire.LeaveGroup); n != 1 {
			t.Errorf("%d goodbyes", n)
		}
	})
}

func TestPauseAndAutoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1, 1)
		f.fill("t", 0, record.None, 1, 5)
		f.fill("t", 1, record.None, 1, 5)
		c := newConsumer(t, f, ConsumerOptions{Group: "g"})
		zero, one := TopicPartition{"t", 0}, TopicPartition{"t", 1}
		c.Assign(map[TopicPartition]Position{zero: AtOffset(0), one: AtOffset(0)})
		c.Pause(zero)
		for _, r := range pollN(t, c, 5) {
			if r.Partition != 1 {
				t.Errorf("record of a paused partition")
			}
		}
		ctx, cancel := context.WithTimeout(background(t), 6*time.Second)
		defer cancel()
		if rs, err := c.Poll(ctx); err == nil {
			t.Errorf("%d records of a paused partition", len(rs))
		}
		c.Resume(zero)
		pollN(t, c, 5)
		f.mu.Lock()
		at := f.commits["g"]["t"][1]
		f.mu.Unlock()
		if at != 5 {
			t.Errorf("auto-commit stored %d, want 5", at)
		}
	})
}

func TestAssignors(t *testing.T) {
	show := func(m map[string][]TopicPartition) (s string) {
		for _, id := range []string{"a", "b", "c"} {
			s += id + ":"
			for _, t := range byTopic(m[id]) {
				s += fmt.Sprint(t.topic, t.partitions)
			}
			s += " "
		}
		return s
	}
	tps := func(topic string, ps ...int32) (out []TopicPartition) {
		for _, p := range ps {
			out = append(out, TopicPartition{topic, p})
		}
		return out
	}
	for _, c := range []struct {
		name    string
		assign  func([]*groupMember, map[string]int32) map[string][]TopicPartition
		members []*groupMember
		counts  map[string]int32
		want    string
	}{
		{"range gives the first one more", assignRange, []*groupMember{{id: "b", topics: []string{"t"}}, {id: "a", topics: []string{"t"}}}, map[string]int32{"t": 5}, "a:t[0 1 2] b:t[3 4] c: "},
		{"range goes topic by topic", assignRange, []*groupMember{{id: "a", topics: []string{"t", "u"}}, {id: "b", topics: []string{"u"}}}, map[string]int32{"t": 2, "u": 1}, "a:t[0 1]u[0] b: c: "},
		{"range puts static members first", assignRange, []*groupMember{{id: "a", topics: []string{"t"}}, {id: "b", instance: "z", topics: []string{"t"}}}, map[string]int32{"t": 1}, "a: b:t[0] c: "},
		{"sticky shares evenly", assignSticky, []*groupMember{{id: "a", topics: []string{"t"}}, {id: "b", topics: []string{"t"}}}, map[string]int32{"t": 5}, "a:t[0 2 4] b:t[1 3] c: "},
		{"sticky moves only what it must", assignSticky, []*groupMember{{id: "a", topics: []string{"t"}, owned: tps("t", 0, 2, 4)}, {id: "b", topics: []string{"t"}, owned: tps("t", 1, 3)}, {id: "c", topics: []string{"t"}}}, map[string]int32{"t": 6}, "a:t[0 2] b:t[1 3] c:t[4 5] "},
		{"sticky believes the newer claim", assignSticky, []*groupMember{{id: "a", topics: []string{"t"}, owned: tps("t", 0), generation: 1}, {id: "b", topics: []string{"t"}, owned: tps("t", 0), generation: 2}}, map[string]int32{"t": 1}, "a: b:t[0] c: "},
		{"sticky drops what is gone or not wanted", assignSticky, []*groupMember{{id: "a", topics: []string{"u"}, owned: append(tps("t", 0), tps("u", 7)...)}, {id: "b", topics: []string{"t"}}}, map[string]int32{"t": 1, "u": 1}, "a:u[0] b:t[0] c: "},
	} {
		if got := show(c.assign(c.members, c.counts)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	owned, generation := parseStickyUserData(stickyUserData(tps("t", 1, 2), 7))
	if generation != 7 || !slices.Equal(owned, tps("t", 1, 2)) {
		t.Errorf("user data reads as %v of %d", owned, generation)
	}
	if owned, generation := parseStickyUserData([]byte{1, 2, 3}); owned != nil || generation != -1 {
		t.Errorf("garbage reads as %v of %d", owned, generation)
	}
}

func FuzzGroupBytes(f *testing.F) {
	f.Add(stickyUserData([]TopicPartition{{"t", 1}}, 2))
	if b, err := encodeAssignment([]TopicPartition{{"t", 1}}); err == nil {
		f.Add(b)
	}
	if b, err := encodeSubscription([]string{"t"}, nil, 1, "r"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStickyUserData(b)
		if tps, err := parseAssignment(b); err == nil {
			if _, err := encodeAssignment(tps); err != nil {
				t.Error(err)
			}
		}
		var s msg.ConsumerProtocolSubscription
		parseVersioned(b, &s)
	})
}
