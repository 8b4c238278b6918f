package client

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// TestCoordinatorMoves: a member keeps its generation when another broker
// coordinates its group, whether the old one says so, refuses connections or is
// silent, and while it works as well as in Poll. It joined again, or kept trying
// the dead one until the session was nearly over.
func TestCoordinatorMoves(t *testing.T) {
	for _, how := range []string{"resigns", "refuses", "silent"} {
		for _, in := range []string{"Poll", "work"} {
			t.Run(how+" in "+in, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t, 1, 2)
					f.topic("t", 2, 2)
					f.fill("t", 0, record.None, 1, 5)
					a := newMemberConsumer(t, f, ConsumerOptions{}, "t")
					pollN(t, a, 5)
					asked := f.count(wire.JoinGroup)
					f.moveGroup("g", 2)
					moved := time.Now()
					var beats []time.Time // that the new one got
					f.mu.Lock()
					f.script = func(id int32, h wire.RequestHeader, _ msg.Request) (msg.Response, string) {
						if h.Key == wire.Heartbeat && id == 2 {
							f.mu.Lock()
							defer f.mu.Unlock()
							beats = append(beats, time.Now())
						}
						if id == 1 && how == "silent" {
							return nil, "silent"
						}
						return nil, ""
					}
					f.mu.Unlock()
					if how == "refuses" {
						f.listen[1].Close()
						f.n.Reset("client", "b1")
					}
					if in == "Poll" {
						pollFor(t, a, 4*time.Minute)
					} else {
						time.Sleep(4 * time.Minute)
					}
					f.mu.Lock()
					n := len(beats)
					var first time.Duration
					if n > 0 {
						first = beats[0].Sub(moved)
					}
					f.mu.Unlock()
					within := 5 * time.Second
					if how == "silent" {
						within = 25 * time.Second
					}
					if n < 60 || first > within {
						t.Errorf("%d heartbeats, the first after %v", n, first)
					}
					f.fill("t", 0, record.None, 1, 5)
					checkRun(t, pollN(t, a, 5), 5)
					if err := a.Commit(background(t)); err != nil {
						t.Error(err)
					}
					if g, joins, x := generationOf(f), f.count(wire.JoinGroup), expiredMembers(f); g != 1 || joins != asked || x != 0 {
						t.Errorf("generation %d, %d JoinGroups after %d, %d expired", g, joins, asked, x)
					}
				})
			})
		}
	}
}

// TestCommittedDuringAJoin: the application asks for committed offsets while the
// coordinator holds JoinGroup back. It has its answer at once, and the join is not
// lost with a request that waits behind it.
func TestCommittedDuringAJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		const held = 100 * time.Second // longer than request.timeout.ms
		delay(f, wire.JoinGroup, held)
		c := newMemberConsumer(t, f, ConsumerOptions{}, "t")
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(held + held/2) // the second JoinGroup, with the member id, is held back
			began := time.Now()
			if _, err := c.Committed(background(t), TopicPartition{"t", 0}); err != nil || time.Since(began) > time.Second {
				t.Errorf("committed offsets after %v, %v", time.Since(began), err)
			}
		}()
		pollFor(t, c, 2*held+5*time.Second)
		<-done
		if n := f.count(wire.JoinGroup); n != 2 || len(c.Assignment()) != 1 {
			t.Errorf("%d JoinGroups, assigned %v", n, c.Assignment())
		}
	})
}

// TestJoinOutlivesAnotherConnection: a JoinGroup that the coordinator holds back is not
// given up because another connection to that broker has ended.
func TestJoinOutlivesAnotherConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.topic("t", 1)
		var dropped atomic.Bool
		began := time.Now()
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			switch r := req.(type) {
			case *msg.JoinGroupRequest:
				if r.MemberId != "" {
					time.Sleep(20 * time.Second) // others are slow to join
				}
			case *msg.MetadataRequest:
				if time.Since(began) > 5*time.Second && !dropped.Swap(true) {
					return nil, "before"
				}
			}
			return nil, ""
		}
		c := newMemberConsumer(t, f, ConsumerOptions{}, "t", "missing") // a missing topic has metadata asked for
		pollFor(t, c, 25*time.Second)
		if n := f.count(wire.JoinGroup); n != 2 || len(c.Assignment()) != 1 || !dropped.Load() {
			t.Errorf("%d JoinGroups, assigned %v", n, c.Assignment())
		}
	})
}
