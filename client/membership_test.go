package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// newMemberConsumer returns a consumer of group g that has subscribed to topics.
func newMemberConsumer(t *testing.T, f *fake, o ConsumerOptions, topics ...string) *Consumer {
	t.Helper()
	o.Group, o.Reset = "g", max(o.Reset, ResetEarliest)
	c := newConsumer(t, f, o)
	if err := c.Subscribe(topics...); err != nil {
		t.Fatal(err)
	}
	return c
}

// pollFor polls for d and returns the records. No error but that of the time is
// expected.
func pollFor(t *testing.T, c *Consumer, d time.Duration) (all []Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for ctx.Err() == nil {
		rs, err := c.Poll(ctx)
		if err != nil && ctx.Err() == nil {
			t.Errorf("poll: %v", err)
		}
		all = append(all, rs...)
	}
	return all
}

// look returns what see says of the group, with the fake held still.
func lookAt[T any](f *fake, see func(*fakeGroup) T) T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return see(f.group("g"))
}

func expiredMembers(f *fake) int { return lookAt(f, func(g *fakeGroup) int { return g.expired }) }

func generationOf(f *fake) int32 { return lookAt(f, func(g *fakeGroup) int32 { return g.generation }) }

func committedIn(f *fake, topic string, partition int32) int64 {
	return lookAt(f, func(*fakeGroup) int64 { return f.commits["g"][topic][partition] })
}

// TestBeatsDuringRebalance: a member that works while the group rebalances is
// not expired, and no record is read twice. It stopped its heartbeats with the
// first REBALANCE_IN_PROGRESS.
func TestBeatsDuringRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1, 1)
		for i := range 2 {
			f.fill("t", i, record.None, 1, 5)
		}
		a := newMemberConsumer(t, f, ConsumerOptions{}, "t")
		seen := map[string]int{}
		count := func(rs []Record) {
			for _, r := range rs {
				seen[fmt.Sprintf("%d/%d", r.Partition, r.Offset)]++
			}
		}
		count(pollN(t, a, 10))
		b := newMemberConsumer(t, f, ConsumerOptions{}, "t")
		var others []Record
		var work sync.WaitGroup
		work.Go(func() { others = pollFor(t, b, 5*time.Minute) })
		time.Sleep(3 * time.Minute) // a works: more than a session, less than max.poll.interval.ms
		count(pollFor(t, a, 2*time.Minute))
		work.Wait()
		count(others)
		if n := expiredMembers(f); n != 0 {
			t.Errorf("%d members were thrown out", n)
		}
		for at, n := range seen {
			if n != 1 {
				t.Errorf("record %s was read %d times", at, n)
			}
		}
		if len(seen) != 10 || len(a.Assignment()) != 1 || len(b.Assignment()) != 1 {
			t.Errorf("%d records; %v and %v", len(seen), a.Assignment(), b.Assignment())
		}
	})
}

// TestThrownOutMemberDoesNotCommit: whoever asks for the commit, a consumer that
// is in no generation sends none, and says so. It committed as no group's
// member, which a group that is Empty takes: the offset went back.
func TestThrownOutMemberDoesNotCommit(t *testing.T) {
	for _, how := range []string{"commit", "poll", "close", "commit before the heartbeat"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 5)
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if r, ok := req.(*msg.OffsetCommitRequest); ok && r.GenerationIdOrMemberEpoch < 0 {
						t.Errorf("a commit from outside the group")
					}
					return nil, ""
				}
				a := newMemberConsumer(t, f, ConsumerOptions{}, "t")
				pollN(t, a, 5)
				f.mu.Lock()
				f.remove("g", f.groups["g"].members[0].id)
				f.commits["g"] = map[string]map[int32]int64{"t": {0: 100}} // another was here meanwhile
				f.topics["t"][0].end = 100
				f.mu.Unlock()
				if how != "commit before the heartbeat" {
					time.Sleep(10 * time.Second)
				}
				var err error
				switch how {
				case "poll":
					pollFor(t, a, 20*time.Second)
				case "close":
					err = a.Close(background(t))
				default:
					err = a.Commit(background(t))
				}
				if how != "poll" && !errors.Is(err, ErrNotMember) {
					t.Errorf("%s: %v", how, err)
				}
				if at := committedIn(f, "t", 0); at != 100 {
					t.Errorf("committed %d, want 100", at)
				}
			})
		})
	}
}

// TestPollDoesNotWaitForItsCommit: records come, and a rebalance ends, whatever
// becomes of the commits that nobody waits for. Poll tried them again until they
// succeeded.
func TestPollDoesNotWaitForItsCommit(t *testing.T) {
	for _, code := range []kerr.Code{kerr.None, kerr.UnknownTopicOrPartition, kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.GroupAuthorizationFailed} {
		t.Run(code.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1)
				f.script = func(_ int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
					r, ok := req.(*msg.OffsetCommitRequest)
					if !ok {
						return nil, ""
					}
					if code == kerr.None { // no answer at all
						return nil, "silent"
					}
					resp := new(msg.OffsetCommitResponse)
					for _, t := range r.Topics {
						rt := msg.OffsetCommitResponseTopic{Name: t.Name}
						for _, p := range t.Partitions {
							rt.Partitions = append(rt.Partitions, msg.OffsetCommitResponsePartition{PartitionIndex: p.PartitionIndex, ErrorCode: int16(code)})
						}
						resp.Topics = append(resp.Topics, rt)
					}
					return resp, ""
				}
				a := newMemberConsumer(t, f, ConsumerOptions{}, "t")
				closeSoon := func() error {
					end, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					return a.Close(end)
				}
				t.Cleanup(func() { closeSoon() }) // also when the test fails: its commit is never stored
				read := 0
				for range 30 {
					f.fill("t", 0, record.None, 1, 1)
					began := time.Now()
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					rs, err := a.Poll(ctx)
					cancel()
					if d := time.Since(began); err != nil || read > 0 && d > time.Second {
						t.Fatalf("record %d came after %v: %v", read, d, err)
					}
					read += len(rs)
					time.Sleep(time.Second)
				}
				f.mu.Lock()
				f.groups["g"].rebalance()
				f.mu.Unlock()
				time.Sleep(4 * time.Second) // a heartbeat
				f.fill("t", 0, record.None, 1, 1)
				began := time.Now()
				pollN(t, a, 1)
				if d := time.Since(began); d > 31*time.Second { // request.timeout.ms, and a join
					t.Errorf("the rebalance took %v", d)
				} else if code == kerr.UnknownTopicOrPartition && d > time.Second {
					t.Errorf("the rebalance waited %v for a topic that is gone", d)
				}
				if err := closeSoon(); err == nil {
					t.Errorf("Close says nothing of its commit")
				}
			})
		})
	}
}

// TestPollWithoutNewsIsAlive: an application that waits in one long Poll is no
// dead one. The member left the group after max.poll.interval.ms, and joined
// again at once.
func TestPollWithoutNewsIsAlive(t *testing.T) {
	for _, how := range []string{"standby", "paused", "no leader"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 5)
				o := ConsumerOptions{MaxPollInterval: time.Minute}
				members := []*Consumer{newMemberConsumer(t, f, o, "t")}
				pollN(t, members[0], 5)
				switch how {
				case "standby":
					members = append(members, newMemberConsumer(t, f, o, "t"))
				case "paused":
					members[0].Pause(TopicPartition{"t", 0})
				case "no leader":
					f.move("t", 0, -1)
				}
				var work sync.WaitGroup
				for _, c := range members {
					work.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
						defer cancel()
						if rs, err := c.Poll(ctx); len(rs) > 0 || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%d records, %v", len(rs), err)
						}
					})
				}
				work.Wait()
				if n := f.count(wire.LeaveGroup); n != 0 {
					t.Errorf("%d goodbyes", n)
				}
				if n := generationOf(f); n > 3 {
					t.Errorf("generation %d", n)
				}
				if how == "standby" && lookAt(f, func(g *fakeGroup) int { return len(g.members) }) != 2 {
					t.Errorf("not two members")
				}
			})
		})
	}
}

// TestOffsetsDoNotEndTheMembership: a partition that cannot begin keeps neither
// the others nor the group. Each answer threw the whole join away.
func TestOffsetsDoNotEndTheMembership(t *testing.T) {
	zero, one := TopicPartition{"t", 0}, TopicPartition{"t", 1}
	setUp := func(t *testing.T, o ConsumerOptions) (*fake, *Consumer) {
		f := newFake(t, 1)
		f.topic("t", 1, 1)
		f.fill("t", 0, record.None, 1, 5)
		f.fill("t", 1, record.None, 1, 5)
		f.commits["g"] = map[string]map[int32]int64{"t": {1: 2}}
		return f, newMemberConsumer(t, f, o, "t")
	}
	t.Run("unstable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := setUp(t, ConsumerOptions{})
			began := time.Now()
			f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
				r, ok := req.(*msg.OffsetFetchRequest)
				if !ok || time.Since(began) > 30*time.Second {
					return nil, ""
				}
				resp := f.committed(r)
				for _, t := range resp.Groups[0].Topics {
					for i := range t.Partitions {
						if p := &t.Partitions[i]; p.PartitionIndex == 0 {
							p.ErrorCode = int16(kerr.UnstableOffsetCommit)
						}
					}
				}
				return resp, ""
			}
			rs := pollN(t, c, 3)
			checkRun(t, rs, 2)
			if time.Since(began) > time.Second {
				t.Errorf("partition 1 waited %v for partition 0", time.Since(began))
			}
			rs = pollN(t, c, 5)
			checkRun(t, rs, 0)
			if g, asked := generationOf(f), f.count(wire.OffsetFetch); g != 1 || asked > 60 {
				t.Errorf("generation %d, %d OffsetFetches", g, asked)
			}
		})
	})
	t.Run("missing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, c := setUp(t, ConsumerOptions{Reset: ResetNone})
			ctx, cancel := context.WithTimeout(background(t), 30*time.Second)
			defer cancel()
			var all []Record
			told := 0
			for ctx.Err() == nil {
				rs, err := c.Poll(ctx)
				all = append(all, rs...)
				if errors.Is(err, ErrNoReset) {
					told++
				} else if err != nil && ctx.Err() == nil {
					t.Fatal(err)
				}
			}
			checkRun(t, all, 2)
			if told < 10 || told > 100 {
				t.Errorf("Poll said %d times that there is no position", told)
			}
			if err := c.Seek(zero, AtOffset(4)); err != nil {
				t.Fatal(err)
			}
			for n := 0; n == 0; {
				rs, err := c.Poll(background(t))
				if err != nil && !errors.Is(err, ErrNoReset) { // one may have been on its way
					t.Fatal(err)
				}
				if n = len(rs); n > 0 {
					checkRun(t, rs, 4)
				}
			}
			pollFor(t, c, time.Minute) // and no error any more
			if g := generationOf(f); g != 1 {
				t.Errorf("generation %d", g)
			}
			if !slices.Equal(c.Assignment(), []TopicPartition{zero, one}) {
				t.Errorf("assigned %v", c.Assignment())
			}
		})
	})
}

// delay holds back what is asked with a key, for d. Metadata is held back from a
// join on: before, there would be none.
func delay(f *fake, k wire.Key, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = func(_ int32, h wire.RequestHeader, _ msg.Request) (msg.Response, string) {
		if h.Key == k && (k != wire.Metadata || f.count(wire.JoinGroup) > 0) {
			time.Sleep(d)
		}
		return nil, ""
	}
}

// TestSubscribeCountsInEveryState: the last Subscribe or Assign decides what is
// read, whatever was under way. A Subscribe during a join was lost, and a join
// overruled an Assign.
func TestSubscribeCountsInEveryState(t *testing.T) {
	phases := map[string]func(t *testing.T, f *fake, c *Consumer){
		"before Poll": func(*testing.T, *fake, *Consumer) {},
		"while joining": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.JoinGroup, 5*time.Second)
			pollFor(t, c, time.Second)
		},
		"while the leader shares out": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.Metadata, 5*time.Second)
			pollFor(t, c, time.Second)
		},
		"while syncing": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.SyncGroup, 5*time.Second)
			pollFor(t, c, time.Second)
		},
		"while offsets are asked for": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.OffsetFetch, 5*time.Second)
			pollFor(t, c, time.Second)
		},
		"while stable": func(t *testing.T, f *fake, c *Consumer) { pollN(t, c, 5) },
		"while the group rebalances": func(t *testing.T, f *fake, c *Consumer) {
			pollN(t, c, 5)
			f.mu.Lock()
			f.groups["g"].rebalance()
			f.mu.Unlock()
			time.Sleep(4 * time.Second)
		},
		"while committing for a change": func(t *testing.T, f *fake, c *Consumer) {
			delay(f, wire.OffsetCommit, 5*time.Second)
			pollN(t, c, 5)
			f.mu.Lock()
			f.groups["g"].rebalance()
			f.mu.Unlock()
			time.Sleep(4 * time.Second)
			pollFor(t, c, time.Second)
		},
		"thrown out": func(t *testing.T, f *fake, c *Consumer) {
			pollN(t, c, 5)
			f.mu.Lock()
			f.remove("g", f.groups["g"].members[0].id)
			f.mu.Unlock()
			time.Sleep(4 * time.Second)
		},
	}
	for phase, reach := range phases {
		for _, by := range []string{"subscribe", "assign"} {
			t.Run(by+" "+phase, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, 1)
					f.topic("t", 1)
					f.topic("u", 1)
					f.fill("t", 0, record.None, 1, 5)
					f.fill("u", 0, record.None, 1, 7)
					c := newMemberConsumer(t, f, ConsumerOptions{}, "t")
					reach(t, f, c)
					u := TopicPartition{"u", 0}
					if by == "subscribe" {
						if err := c.Subscribe("u"); err != nil {
							t.Fatal(err)
						}
					} else {
						c.Assign(map[TopicPartition]Position{u: AtStart(0)})
					}
					rs := pollFor(t, c, time.Minute)
					checkRun(t, rs, 0)
					if len(rs) != 7 || rs[0].Topic != "u" {
						t.Errorf("%d records", len(rs))
					}
					if !slices.Equal(c.Assignment(), []TopicPartition{u}) {
						t.Errorf("assigned %v", c.Assignment())
					}
					members := lookAt(f, func(g *fakeGroup) int { return len(g.members) })
					if want := map[string]int{"subscribe": 1, "assign": 0}[by]; members != want {
						t.Errorf("%d members, want %d", members, want)
					}
					if at := committedIn(f, "u", 0); at != 7 {
						t.Errorf("committed %d, want 7", at)
					}
				})
			})
		}
	}
}

// TestCloseDuringAJoin: Close does not wait for the others of the group, and the
// group does not wait for the one that is gone. Close took as long as a request
// may, since LeaveGroup was behind the JoinGroup that the broker held back.
func TestCloseDuringAJoin(t *testing.T) {
	for _, phase := range []wire.Key{wire.JoinGroup, wire.Metadata, wire.SyncGroup, wire.OffsetFetch} {
		t.Run(apiName(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1)
				f.fill("t", 0, record.None, 1, 5)
				var other *Consumer
				if phase == wire.JoinGroup { // which waits for the first member
					other = newMemberConsumer(t, f, ConsumerOptions{}, "t")
					pollN(t, other, 5)
				}
				c := newMemberConsumer(t, f, ConsumerOptions{}, "t")
				if other == nil {
					delay(f, phase, 20*time.Second)
				}
				pollFor(t, c, time.Second)
				began := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := c.Close(ctx); err != nil {
					t.Errorf("close: %v", err)
				}
				if d := time.Since(began); d > time.Second {
					t.Errorf("Close took %v", d)
				}
				left := lookAt(f, func(g *fakeGroup) int { return len(g.members) })
				if other != nil {
					left--
				}
				if left != 0 || f.count(wire.LeaveGroup) != 1 {
					t.Errorf("%d members are left, %d goodbyes", left, f.count(wire.LeaveGroup))
				}
				f.mu.Lock()
				f.script = nil
				f.mu.Unlock()
				if other != nil {
					began := time.Now()
					pollFor(t, other, 5*time.Second)
					if len(other.Assignment()) != 1 {
						t.Errorf("the other has %v after %v", other.Assignment(), time.Since(began))
					}
				}
			})
		})
	}
}

// TestFencedMember: of two consumers with one group.instance.id the older is told
// so by Poll and Commit, and leaves the newer alone until it subscribes again.
func TestFencedMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.fill("t", 0, record.None, 1, 5)
		o := ConsumerOptions{InstanceID: "i", NoAutoCommit: true}
		a := newMemberConsumer(t, f, o, "t")
		pollN(t, a, 5)
		b := newMemberConsumer(t, f, o, "t")
		pollN(t, b, 5)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		joins, told := 0, 0
		for ctx.Err() == nil {
			_, err := a.Poll(ctx)
			switch {
			case errors.Is(err, kerr.FencedInstanceId):
				if told++; told == 1 {
					joins = f.count(wire.JoinGroup)
				}
			case ctx.Err() == nil:
				t.Fatalf("poll: %v", err)
			}
		}
		if n := f.count(wire.JoinGroup) - joins; n != 0 || told < 10 || told > 100 {
			t.Errorf("told %d times, %d JoinGroups since", told, n)
		}
		if err := a.CommitOffsets(background(t), map[TopicPartition]Offset{{"t", 0}: {At: 1}}); !errors.Is(err, ErrNotMember) || !errors.Is(err, kerr.FencedInstanceId) {
			t.Errorf("commit: %v", err)
		}
		if err := b.Commit(background(t)); err != nil || committedIn(f, "t", 0) != 5 {
			t.Errorf("the newer committed %d: %v", committedIn(f, "t", 0), err)
		}
		if err := a.Close(background(t)); err != nil || lookAt(f, func(g *fakeGroup) int { return len(g.members) }) != 1 {
			t.Errorf("close: %v", err)
		}
		f.fill("t", 0, record.None, 1, 5)
		checkRun(t, pollN(t, b, 5), 5)
		if n := f.count(wire.LeaveGroup); n != 0 {
			t.Errorf("%d goodbyes of static members", n)
		}
	})
}
