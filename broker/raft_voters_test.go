package broker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/dirs"
	wireconn "github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// votersRig is a quorum whose voters can be changed: controllers without brokers, of which the
// first is the voter that it began with, and brokers, on a network in memory.
type votersRig struct {
	t   *testing.T
	net *memnet.Network
	id  string
}

func directoryOf(id int32) prim.UUID { return prim.UUID{0xd, byte(id)} }

// node starts a node that was formatted.
func (r *votersRig) node(id int32, role string) *Broker {
	r.t.Helper()
	b := r.nodeOn(r.format(id), id, role)
	r.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			r.t.Errorf("close node %d: %v", id, err)
		}
	})
	return b
}

// format returns the disk of a node that was formatted.
func (r *votersRig) format(id int32) *vfs.Mem {
	r.t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/klamm", 0o755); err != nil {
		r.t.Fatal(err)
	}
	files := map[string]string{"meta.properties": fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", r.id, id, directoryOf(id))}
	if id == 1 {
		files[dirs.InitialControllersFile] = fmt.Sprintf("1@node-1:9093:%s\n", directoryOf(1))
	}
	for name, text := range files {
		if err := vfs.WriteFileAtomic(fs, "/klamm/"+name, []byte(text)); err != nil {
			r.t.Fatal(err)
		}
	}
	return fs
}

// nodeOn starts a node on its disk.
func (r *votersRig) nodeOn(fs *vfs.Mem, id int32, role string) *Broker {
	r.t.Helper()
	listeners := map[string]string{"controller": "CONTROLLER://node-%d:9093", "broker": "PLAINTEXT://node-%d:9092"}[role]
	static, _, err := config.Load(config.Sources{Overrides: []string{fmt.Sprint("node.id=", id), "process.roles=" + role, "log.dirs=/klamm",
		fmt.Sprintf("listeners="+listeners, id), "controller.listener.names=CONTROLLER", "controller.quorum.bootstrap.servers=node-1:9093"}})
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := Start(r.t.Context(), Options{Config: static, FS: fs, Listen: r.net.Listen, Dial: r.net.Host(fmt.Sprint("node-", id)).Dial, Near: true, Logger: zap.NewNop()})
	if err != nil {
		r.t.Fatalf("node %d: %v", id, err)
	}
	return b
}

// ask sends a request to a node.
func (r *votersRig) ask(b *Broker, req msg.Request, resp msg.Response) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	c, err := wireconn.Dial(ctx, "tcp", b.Addr(), wireconn.Options{Dial: r.net.Host("client").Dial})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Do(ctx, req, resp); err != nil {
		r.t.Fatal(err)
	}
}

func newVotersRig(t *testing.T) *votersRig {
	return &votersRig{t, memnet.New(), prim.RandomUUID().String()}
}

func (r *votersRig) voters(b *Broker) string {
	q := b.controller.Quorum()
	return fmt.Sprint(q.Leader, q.Voters)
}

func addRequest(id int32, listener string) *msg.AddRaftVoterRequest {
	return &msg.AddRaftVoterRequest{TimeoutMs: 20_000, VoterId: id, VoterDirectoryId: directoryOf(id), AckWhenCommitted: true,
		Listeners: []msg.AddRaftVoterRequestListener{{Name: listener, Host: fmt.Sprint("node-", id), Port: 9093}}}
}

func updateRequest(id, epoch int32, port uint16) *msg.UpdateRaftVoterRequest {
	return &msg.UpdateRaftVoterRequest{CurrentLeaderEpoch: epoch, VoterId: id, VoterDirectoryId: directoryOf(id),
		Listeners:           []msg.UpdateRaftVoterRequestListener{{Name: "CONTROLLER", Host: fmt.Sprint("node-", id), Port: port}},
		KRaftVersionFeature: msg.UpdateRaftVoterRequestKRaftVersionFeature{MaxSupportedVersion: 1}}
}

// TestRaftVoters: AddRaftVoter, RemoveRaftVoter and UpdateRaftVoter are done, or refused with
// Kafka's codes, whoever is asked: the active controller, another one, or a broker.
func TestRaftVoters(t *testing.T) {
	r := newVotersRig(t)
	first, broker, second := r.node(1, "controller"), r.node(2, "broker"), r.node(3, "controller")
	other := "another"
	add := func(change func(*msg.AddRaftVoterRequest)) func(*Broker) (kerr.Code, *string) {
		return func(b *Broker) (kerr.Code, *string) {
			req, resp := addRequest(3, "CONTROLLER"), new(msg.AddRaftVoterResponse)
			change(req)
			r.ask(b, req, resp)
			return kerr.Code(resp.ErrorCode), resp.ErrorMessage
		}
	}
	remove := func(req *msg.RemoveRaftVoterRequest) func(*Broker) (kerr.Code, *string) {
		return func(b *Broker) (kerr.Code, *string) {
			resp := new(msg.RemoveRaftVoterResponse)
			r.ask(b, req, resp)
			return kerr.Code(resp.ErrorCode), resp.ErrorMessage
		}
	}
	for _, c := range []struct {
		name string
		do   func(*Broker) (kerr.Code, *string)
		want kerr.Code
		text string // of the message
	}{
		{"a voter of another cluster", add(func(q *msg.AddRaftVoterRequest) { q.ClusterId = &other }), kerr.InconsistentClusterId, `The given id "another" doesn't match`},
		{"a voter without an id", add(func(q *msg.AddRaftVoterRequest) { q.VoterId = -1 }), kerr.InvalidRequest, "Add voter request didn't include a valid voter"},
		{"a voter without a directory", add(func(q *msg.AddRaftVoterRequest) { q.VoterDirectoryId = prim.UUID{} }), kerr.InvalidRequest, "Add voter request didn't include a valid voter"},
		{"a voter that listens nowhere", add(func(q *msg.AddRaftVoterRequest) { q.Listeners = nil }), kerr.InvalidRequest, "for the default listener CONTROLLER"},
		{"a voter with another listener", add(func(q *msg.AddRaftVoterRequest) { q.Listeners[0].Name = "OTHER" }), kerr.InvalidRequest, "for the default listener CONTROLLER"},
		{"a voter that is one", add(func(q *msg.AddRaftVoterRequest) { q.VoterId = 1 }), kerr.DuplicateVoter, "is already part of the set of voters"},
		{"a voter that runs with another directory", add(func(q *msg.AddRaftVoterRequest) { q.VoterDirectoryId = directoryOf(9) }), kerr.RequestTimedOut, "Aborted add voter operation"},
		{"a voter that is not there", add(func(q *msg.AddRaftVoterRequest) { q.VoterId, q.VoterDirectoryId, q.TimeoutMs = 9, directoryOf(9), 50 }), kerr.RequestTimedOut, "lagging behind"},
		{"the voter of another cluster", remove(&msg.RemoveRaftVoterRequest{ClusterId: &other, VoterId: 1, VoterDirectoryId: directoryOf(1)}), kerr.InconsistentClusterId, "doesn't match"},
		{"nobody", remove(&msg.RemoveRaftVoterRequest{VoterId: -1, VoterDirectoryId: directoryOf(1)}), kerr.InvalidRequest, "Remove voter request didn't include a valid voter"},
		{"no directory", remove(&msg.RemoveRaftVoterRequest{VoterId: 1}), kerr.InvalidRequest, "Remove voter request didn't include a valid voter"},
		{"another directory", remove(&msg.RemoveRaftVoterRequest{VoterId: 1, VoterDirectoryId: directoryOf(9)}), kerr.VoterNotFound, "Cannot remove voter"},
		{"an observer", remove(&msg.RemoveRaftVoterRequest{VoterId: 3, VoterDirectoryId: directoryOf(3)}), kerr.VoterNotFound, "Cannot remove voter"},
		{"the last voter", remove(&msg.RemoveRaftVoterRequest{VoterId: 1, VoterDirectoryId: directoryOf(1)}), kerr.InvalidRequest, "nobody would be left"},
	} {
		for where, b := range map[string]*Broker{"the active controller": first, "a broker": broker} {
			if got, text := c.do(b); got != c.want || text == nil || !strings.Contains(*text, c.text) {
				t.Errorf("%s, by %s: %v, %v; want %v, %s", c.name, where, got, text, c.want, c.text)
			}
		}
		if got := r.voters(first); got != "1 [1]" {
			t.Fatalf("%s: leader and voters are %s", c.name, got)
		}
	}
	// A controller that is not the active one says so.
	if got, _ := add(func(*msg.AddRaftVoterRequest) {})(second); got != kerr.NotLeaderOrFollower {
		t.Errorf("an observer is asked: %v", got)
	}
	if got, text := add(func(*msg.AddRaftVoterRequest) {})(broker); got != kerr.None {
		t.Fatalf("%v: %v", got, text)
	}
	if got := r.voters(first); got != "1 [1 3]" {
		t.Errorf("leader and voters are %s", got)
	}
	epoch := first.controller.Quorum().Epoch
	for _, c := range []struct {
		name string
		req  *msg.UpdateRaftVoterRequest
		want kerr.Code
	}{
		{"an earlier epoch", updateRequest(3, epoch-1, 9193), kerr.FencedLeaderEpoch},
		{"a later epoch", updateRequest(3, epoch+1, 9193), kerr.UnknownLeaderEpoch},
		{"not a voter", updateRequest(2, epoch, 9193), kerr.VoterNotFound},
		{"nobody", updateRequest(-1, epoch, 9193), kerr.InvalidRequest},
		{"no place", updateRequest(3, epoch, 0), kerr.InvalidRequest},
		{"a voter that is too old", &msg.UpdateRaftVoterRequest{CurrentLeaderEpoch: epoch, VoterId: 3, VoterDirectoryId: directoryOf(3), Listeners: updateRequest(3, 0, 9193).Listeners}, kerr.InvalidRequest},
		{"a voter that moves", updateRequest(3, epoch, 9193), kerr.None},
	} {
		resp := new(msg.UpdateRaftVoterResponse)
		r.ask(first, c.req, resp)
		if got := kerr.Code(resp.ErrorCode); got != c.want || resp.CurrentLeader.LeaderId != 1 || resp.CurrentLeader.LeaderEpoch != epoch || resp.CurrentLeader.Host != "node-1" || resp.CurrentLeader.Port != 9093 {
			t.Errorf("%s: %v, leader %+v; want %v", c.name, got, resp.CurrentLeader, c.want)
		}
	}
	if at := first.Metadata().Controller(3).EndPoints; len(at) != 1 || at[0].Port != 9193 {
		t.Errorf("the metadata say that node 3 listens at %+v", at)
	}
	r.ask(first, updateRequest(3, epoch, 9093), new(msg.UpdateRaftVoterResponse))

	// The active controller goes: another one leads first, and removes it.
	if got, text := remove(&msg.RemoveRaftVoterRequest{VoterId: 1, VoterDirectoryId: directoryOf(1)})(broker); got != kerr.None {
		t.Fatalf("%v: %v", got, text)
	}
	if got := r.voters(second); got != "3 [3]" || first.Active() {
		t.Errorf("leader and voters are %s", got)
	}
}

// TestAVoterThatWasRemovedComesBack: a controller that was removed from the voters while it was
// away, and let go, takes part as an observer when it is there again.
func TestAVoterThatWasRemovedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newVotersRig(t)
		first := r.node(1, "controller")
		r.node(2, "controller")
		disk := r.format(3)
		third := r.nodeOn(disk, 3, "controller")
		for _, id := range []int32{2, 3} {
			resp := new(msg.AddRaftVoterResponse)
			if r.ask(first, addRequest(id, "CONTROLLER"), resp); resp.ErrorCode != 0 {
				t.Fatal(kerr.Code(resp.ErrorCode), resp.ErrorMessage)
			}
		}
		if err := third.Close(); err != nil {
			t.Fatal(err)
		}
		resp := new(msg.RemoveRaftVoterResponse)
		if r.ask(first, &msg.RemoveRaftVoterRequest{VoterId: 3, VoterDirectoryId: directoryOf(3)}, resp); resp.ErrorCode != 0 {
			t.Fatal(kerr.Code(resp.ErrorCode), resp.ErrorMessage)
		}
		time.Sleep(10 * time.Minute)
		if n := len(first.controller.Members()); n != 2 {
			t.Fatalf("there are %d members", n)
		}
		third = r.nodeOn(disk, 3, "controller") // it serves once it has what is committed
		if q := third.controller.Quorum(); q.Votes || q.Leader < 0 || len(q.Voters) != 2 {
			t.Errorf("the node that was removed: %+v", q)
		}
		if err := third.Close(); err != nil {
			t.Error(err)
		}
	})
}
