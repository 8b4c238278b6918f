package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// channels are controllers of three nodes on an ideal metadata log, which reach each
// other.
type channels struct {
	quorum quorum.Ideal
	nodes  map[int32]*quorum.IdealNode
	c      map[int32]*Controller

	mu     sync.Mutex    // guards the fields below
	asked  map[int32]int // how often each was forwarded to
	broken error         // what it is to reach another node
}

// breaks makes err what it is to reach another node.
func (n *channels) breaks(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = err
}

// forwarded returns how often a node was forwarded to.
func (n *channels) forwarded(id int32) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[id]
}

func newChannels(t *testing.T) *channels {
	n := &channels{nodes: make(map[int32]*quorum.IdealNode), c: make(map[int32]*Controller), asked: make(map[int32]int)}
	for id := range int32(3) {
		c := newController(ControllerOptions{NodeID: id, Clock: clock.System(), Logger: zap.NewNop(), Forward: func(leader int32) (Channel, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.asked[leader]++
			return n.c[leader], n.broken
		}})
		n.nodes[id] = n.quorum.Join(id, c.elected, c.applied)
		n.c[id] = c
		c.open(n.nodes[id])
		t.Cleanup(func() { c.Close() })
	}
	return n
}

// elect makes a node the leader, and has every node learn all there is.
func (n *channels) elect(id int32) {
	n.quorum.Elect(n.nodes[id])
	synctest.Wait()
}

// every are all requests of a Channel in the name of broker 5, in an order in which they
// can be granted.
func every(ctx context.Context, to Channel) map[string]error {
	out := make(map[string]error)
	epoch, err := to.RegisterBroker(ctx, control.Registration{Broker: 5})
	out["RegisterBroker"] = err
	topics, err := to.EnsureTopics(ctx, []control.TopicSpec{{Name: "!"}}, control.Defaults{})
	out["EnsureTopics"] = counted(err, len(topics))
	_, out["Heartbeat"] = to.Heartbeat(ctx, control.Heartbeat{Broker: 5, Epoch: epoch, WantFence: true})
	_, out["AlterPartitions"] = to.AlterPartitions(ctx, control.AlterPartitionsRequest{Broker: 5, BrokerEpoch: epoch})
	errs, err := to.AssignDirs(ctx, 5, epoch, []control.DirAssignment{{Topic: prim.RandomUUID()}})
	out["AssignDirs"] = counted(err, len(errs))
	_, _, out["ProducerIDs"] = to.ProducerIDs(ctx, 5, epoch)
	return out
}

// admin are all changes that clients ask for, of which none finds anything to do.
func admin(ctx context.Context, c *Controller) map[string]error {
	out := make(map[string]error)
	topics, err := c.CreateTopics(ctx, []control.TopicSpec{{Name: "!"}}, control.Defaults{}, false)
	out["CreateTopics"] = counted(err, len(topics))
	topics, err = c.DeleteTopics(ctx, []prim.UUID{prim.RandomUUID()})
	out["DeleteTopics"] = counted(err, len(topics))
	errs, err := c.CreatePartitions(ctx, []control.PartitionsSpec{{Name: "none"}}, false)
	out["CreatePartitions"] = counted(err, len(errs))
	errs, err = c.ChangeConfigs(ctx, []control.ResourceChange{{Resource: meta.Resource{Type: meta.TopicResource, Name: "none"}}}, new(config.Static), false)
	out["ChangeConfigs"] = counted(err, len(errs))
	errs, err = c.ElectLeaders(ctx, 0, []control.PartitionName{{Topic: "none"}})
	out["ElectLeaders"] = counted(err, len(errs))
	errs, err = c.AlterReassignments(ctx, []control.Move{{PartitionName: control.PartitionName{Topic: "none"}}}, true)
	out["AlterReassignments"] = counted(err, len(errs))
	out["UpdateFeatures"] = c.UpdateFeatures(ctx, nil, true)
	out["UnregisterBroker"] = c.UnregisterBroker(ctx, 77)
	return out
}

// What clients ask for is decided by the active controller; any other says so at once, and
// is forwarded nothing.
func TestChangesAreDecidedByTheActiveController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newChannels(t)
		n.elect(1)
		began := time.Now()
		for name, err := range admin(t.Context(), n.c[0]) {
			if !errors.Is(err, kerr.NotController) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, err := range admin(t.Context(), n.c[1]) {
			if err != nil && !(name == "UnregisterBroker" && errors.Is(err, kerr.BrokerIdNotRegistered)) {
				t.Errorf("the active one, %s: %v", name, err)
			}
		}
		if n.forwarded(1) != 0 || time.Since(began) != 0 {
			t.Errorf("%d requests are forwarded, after %v", n.forwarded(1), time.Since(began))
		}
	})
}

// counted is err, or else an error if there is not the one result that was asked for.
func counted(err error, n int) error {
	if n != 1 {
		return errors.Join(err, fmt.Errorf("%d results", n))
	}
	return err
}

// A request is decided by the active controller, whoever was asked, and leaves the same
// metadata behind.
func TestRequestsReachTheActiveController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for asked := range int32(3) {
			n := newChannels(t)
			n.elect(1)
			for name, err := range every(t.Context(), n.c[asked]) {
				if err != nil {
					t.Errorf("node %d is asked, %s: %v", asked, name, err)
				}
			}
			want := 6
			if asked == 1 {
				want = 0
			}
			if n.forwarded(1) != want || n.c[1].Image().Broker(5) == nil || n.c[1].Image().NextProducerID() == 0 {
				t.Errorf("node %d is asked: %d of %d requests are forwarded, broker %v", asked, n.forwarded(1), want, n.c[1].Image().Broker(5))
			}
		}
	})
}

// While there is no leader, or one that is not active yet, a request waits for an
// election; it ends with its context, having done nothing.
func TestRequestsWaitForAnElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newChannels(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		_, err := n.c[0].RegisterBroker(ctx, control.Registration{Broker: 5})
		if took := time.Since(began); !errors.Is(err, kerr.NotController) || took != time.Second {
			t.Errorf("without a leader: %v after %v", err, took)
		}
		done := make(chan error, 1)
		go func() {
			_, err := n.c[0].RegisterBroker(t.Context(), control.Registration{Broker: 6})
			done <- err
		}()
		time.Sleep(time.Minute)
		n.elect(2)
		if err := <-done; err != nil || n.c[2].Image().Broker(6) == nil || n.c[2].Image().Broker(5) != nil {
			t.Errorf("after the election: %v, broker 6 %v, broker 5 %v", err, n.c[2].Image().Broker(6), n.c[2].Image().Broker(5))
		}
		// A leader that is deposed while it is asked has not done it.
		n.elect(1)
		if _, err := n.c[0].RegisterBroker(t.Context(), control.Registration{Broker: 7}); err != nil || n.c[1].Image().Broker(7) == nil {
			t.Errorf("after another election: %v", err)
		}
	})
}

// What keeps a node from the leader is returned, unless it says that another try is
// worth it. Without other nodes nothing waits.
func TestTheWayToTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newChannels(t)
		n.elect(1)
		noRoute := errors.New("no route")
		n.breaks(noRoute)
		for name, err := range every(t.Context(), n.c[0]) {
			if !errors.Is(err, noRoute) {
				t.Errorf("%s: %v", name, err)
			}
		}
		n.breaks(fmt.Errorf("%w: it starts", kerr.NotController))
		done := make(chan error, 1)
		go func() {
			_, err := n.c[0].RegisterBroker(t.Context(), control.Registration{Broker: 5})
			done <- err
		}()
		time.Sleep(time.Hour)
		if tries := n.forwarded(1); tries < 1000 || tries > 50_000 {
			t.Errorf("%d tries in an hour", tries)
		}
		n.breaks(nil)
		if err := <-done; err != nil {
			t.Errorf("once it has started: %v", err)
		}
		alone := newController(ControllerOptions{NodeID: 9, Clock: clock.System(), Logger: zap.NewNop()})
		alone.open(n.quorum.Join(9, alone.elected, alone.applied))
		defer alone.Close()
		began := time.Now()
		for name, err := range every(t.Context(), alone) {
			if !errors.Is(err, kerr.NotController) || time.Since(began) > 0 {
				t.Errorf("%s without other nodes: %v after %v", name, err, time.Since(began))
			}
		}
	})
}
