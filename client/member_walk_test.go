package client

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// faultsOfMember are all error codes there are, and a lost connection.
func faultsOfMember() (all []error) {
	for c := kerr.Code(-1); c < 150; c++ {
		if c != kerr.None && c.Known() {
			all = append(all, c)
		}
	}
	return append(all, errLost, fmt.Errorf("%w: no such broker", ErrNoBroker))
}

var memberRequests = []string{"FindCoordinator", "JoinGroup", "share", "SyncGroup", "Heartbeat", "OffsetCommit", "OffsetFetch", "LeaveGroup"}

// errorName is the code of an error, or lost.
func errorName(err error) string {
	if code, ok := codeIn(err); ok {
		return code.Name()
	}
	return "lost"
}

// each runs f with a new member in every state, and every request that it may be
// answered, in time or late.
func eachAnswer(t *testing.T, f func(b *memberBench, a action, err error)) (n int) {
	for _, s := range allStates {
		for _, kind := range memberRequests {
			for _, err := range faultsOfMember() {
				for _, instance := range []string{"", "i"} {
					b := newMemberBench(t, memberOptions{instance: instance, auto: true, reset: true})
					b.reach(s)
					a := b.late[kind]
					if a == nil {
						continue
					}
					f(b, a, err)
					n++
				}
			}
		}
	}
	return n
}

// TestMemberAnswers gives every error to every request in every state, also to
// requests whose answer is of no more use. Whatever comes, the invariants hold,
// and when the broker mends, the member of an application that polls is stable
// again, or Poll has returned an error; nobody waits for ever.
func TestMemberAnswers(t *testing.T) {
	n := eachAnswer(t, func(b *memberBench, a action, err error) {
		state := b.m.state
		kind, _ := kindOf(a)
		b.answer(a, err)
		if kind == "OffsetCommit" || kind == "OffsetFetch" {
			again := newMemberBench(t, b.m.o)
			again.reach(state)
			again.partly(again.late[kind], err)
			again.recover(fmt.Sprintf("%s of a partition to %s in %v", errorName(err), kind, state))
		}
		b.recover(fmt.Sprintf("%s to %s in %v", errorName(err), kind, state))
	})
	if n < 5000 {
		t.Errorf("only %d answers", n)
	}
}

// recover has the broker answer well, and the application poll, for two minutes.
func (b *memberBench) recover(after string) {
	b.t.Helper()
	began := b.m.state
	for range 240 {
		if b.m.state < memberClosing {
			b.poll()
		}
		b.settle()
		b.advance(500 * time.Millisecond)
	}
	if len(b.waiting) > 0 {
		b.t.Fatalf("after %s: a commit is not answered", after)
	}
	switch s := b.m.state; {
	case s == memberStable && len(b.m.unplaced) == 0 && len(b.begun) == 2 && len(b.m.errands) == 0:
	case s == memberIdle && len(b.m.errands) == 0 && len(b.m.topics) == 0:
	case s == memberClosed && (b.over || b.event == "abort" || began == memberClosed):
	case s == memberFenced && len(b.told) > 10:
	default:
		b.t.Fatalf("after %s: %v, %d to begin, %d errands, told %v", after, s, len(b.m.unplaced), len(b.m.errands), b.told)
	}
}

// settle answers well all that is asked.
func (b *memberBench) settle() {
	for range 100 {
		if len(b.pending) == 0 {
			return
		}
		b.answer(b.pending[slices.Min(slices.Collect(maps.Keys(b.pending)))], nil)
	}
	b.t.Fatalf("a hundred requests at once in %v", b.m.state)
}

// TestMemberPace has one request fail for ever with each error, with an
// application that polls and commits in a loop. Requests grow rare, and the
// application or the log is told why.
func TestMemberPace(t *testing.T) {
	for _, kind := range memberRequests {
		for _, err := range faultsOfMember() {
			t.Run(kind+" "+errorName(err), func(t *testing.T) {
				b := newMemberBench(t, memberOptions{auto: true, reset: true})
				b.subscribe("t")
				hit := 0
				for i := range 600 {
					b.poll()
					for range 50 {
						if len(b.pending) == 0 {
							break
						}
						a := b.pending[slices.Min(slices.Collect(maps.Keys(b.pending)))]
						if k, _ := kindOf(a); k == kind {
							hit++
							b.answer(a, err)
						} else {
							b.answer(a, nil)
						}
					}
					b.moved = map[TopicPartition]Offset{{"t", 0}: {At: int64(b.now.Unix())}}
					if kind == "LeaveGroup" && b.m.state == memberStable { // it leaves only if it must
						b.finish()
						b.now = b.now.Add(b.m.o.maxPoll)
						b.do("tick", func() { b.m.tick(b.now) })
					}
					if i%10 == 0 { // once a second
						b.cancel()
						if b.m.holds() {
							b.commit(7)
						}
					}
					b.advance(100 * time.Millisecond)
				}
				if hit == 0 {
					t.Fatal("never asked")
				}
				last := b.now.Add(-10 * time.Second)
				n := 0
				for _, at := range b.sent {
					if at.After(last) {
						n++
					}
				}
				if n > 190 && kind != "LeaveGroup" { // where the clock jumps
					t.Errorf("%d requests in ten seconds", n)
				}
				named := func(all []error) bool {
					return slices.ContainsFunc(all, func(e error) bool { return errors.Is(e, err) })
				}
				if !named(b.told) && !named(b.logged) && b.m.state != memberStable {
					t.Errorf("%v, and nobody knows of %v: told %d, logged %d", b.m.state, err, len(b.told), len(b.logged))
				}
			})
		}
	}
}

// TestMemberCommitsWhatItCan: before a rebalance and a Close, a partition whose
// offset is not to be stored does not keep the others from being stored, and
// they do not wait for it.
func TestMemberCommitsWhatItCan(t *testing.T) {
	zero, one := TopicPartition{"t", 0}, TopicPartition{"t", 1}
	for _, code := range []kerr.Code{kerr.UnknownTopicOrPartition, kerr.TopicAuthorizationFailed} {
		for _, s := range []memberState{memberPreparing, memberClosing} {
			b := newMemberBench(t, memberOptions{auto: true, reset: true})
			b.reach(s)
			b.ok("OffsetCommit") // the application's
			first := b.next("OffsetCommit").(commitRequest)
			delete(b.pending, first.id)
			b.do("OffsetCommit", func() {
				b.m.committed(b.now, first.id, map[TopicPartition]error{zero: code, one: kerr.CoordinatorLoadInProgress}, nil)
			})
			b.advance(time.Second)
			again := b.next("OffsetCommit").(commitRequest)
			if _, ok := again.offsets[one]; !ok || len(again.offsets) != 1 {
				t.Errorf("%v in %v: tried again with %v", code, s, again.offsets)
			}
			b.ok("OffsetCommit")
			switch {
			case s == memberPreparing && b.m.state != memberJoining:
				t.Errorf("%v: then %v", code, b.m.state)
			case s == memberPreparing && !slices.ContainsFunc(b.logged, func(err error) bool { return errors.Is(err, code) }):
				t.Errorf("%v is not logged", code)
			case s == memberClosing && !errors.Is(b.m.closeErr, code):
				t.Errorf("Close returns %v, not %v", b.m.closeErr, code)
			}
		}
	}
}

// TestMemberWalk lets events of all kinds come in random order.
func TestMemberWalk(t *testing.T) {
	faults := faultsOfMember()
	likely := []error{kerr.NotCoordinator, kerr.RebalanceInProgress, kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.CoordinatorLoadInProgress, kerr.FencedInstanceId,
		kerr.MemberIdRequired, kerr.UnstableOffsetCommit, kerr.UnknownTopicOrPartition, kerr.GroupAuthorizationFailed, errLost}
	states := map[memberState]int{}
	for _, s := range seeds(1000) {
		rng := rand.New(rand.NewPCG(s, 7))
		o := memberOptions{auto: rng.IntN(3) > 0, reset: rng.IntN(4) > 0}
		if rng.IntN(3) == 0 {
			o.instance = "i"
		}
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			b := newMemberBench(t, o)
			inPoll := false
			for range 200 {
				states[b.m.state]++
				b.moved = nil
				if rng.IntN(2) == 0 && (b.m.reads() || b.m.holds()) {
					b.moved = map[TopicPartition]Offset{{"t", 0}: {At: rng.Int64N(100)}}
				}
				switch n := rng.IntN(40); {
				case n == 0:
					b.subscribe([]string{"t", "u", "v"}[rng.IntN(3)])
				case n == 1 && rng.IntN(3) == 0:
					b.assign()
				case n == 2 && rng.IntN(10) == 0:
					b.subscribe()
				case n == 3 && rng.IntN(20) == 0:
					b.close()
				case n == 4 && b.m.state == memberClosing:
					b.abort()
				case n == 5:
					b.repartition(int32(1 + rng.IntN(3)))
					if rng.IntN(3) == 0 {
						b.lose(max(b.m.coordinator, 1) - int32(rng.IntN(2)))
					}
				case n == 6 && !inPoll:
					b.commit(rng.Int64N(100))
				case n == 7:
					b.cancel()
				case n == 23 && len(b.given) > 0:
					b.seek(b.given[rng.IntN(len(b.given))])
				case n < 14 && b.m.state < memberClosing:
					b.poll()
					inPoll = true
				case n < 18 && inPoll && b.m.state < memberClosing:
					b.finish()
					inPoll = false
				case n < 22:
					b.advance(time.Duration(rng.Int64N(int64(10 * time.Second))))
				case n == 22:
					b.advance(time.Duration(rng.Int64N(int64(6 * time.Minute))))
				default:
					ids := slices.Sorted(maps.Keys(b.pending))
					if len(ids) == 0 {
						continue
					}
					a := b.pending[ids[rng.IntN(len(ids))]]
					kind, _ := kindOf(a)
					var err error
					switch rng.IntN(8) {
					case 0:
						err = faults[rng.IntN(len(faults))]
					case 1, 2:
						err = likely[rng.IntN(len(likely))]
					}
					if err != nil && (kind == "OffsetCommit" || kind == "OffsetFetch") && rng.IntN(2) == 0 {
						b.partly(a, err)
					} else {
						b.answer(a, err)
					}
				}
			}
			b.m.o.reset = true
			if b.m.state == memberFenced {
				b.subscribe("t")
			}
			b.recover("a walk")
		})
	}
	for _, s := range allStates {
		if states[s] == 0 {
			t.Errorf("never %v", s)
		}
	}
}
