package quorum_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
)

// hanger is a disk of which operations can be made to hang.
type hanger struct {
	mu   sync.Mutex // guards the fields below
	op   vfs.Op
	end  string // of the names of the files
	over chan struct{}
	hung bool // an operation hangs
}

func (h *hanger) on(fs vfs.FS) vfs.FS {
	return vfs.Inject(fs, func(op vfs.Op, name string) error {
		h.mu.Lock()
		over := h.over
		if over == nil || op != h.op || !strings.HasSuffix(name, h.end) {
			h.mu.Unlock()
			return nil
		}
		h.hung = true
		h.mu.Unlock()
		<-over
		return nil
	})
}

func (h *hanger) hang(op vfs.Op, end string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.op, h.end, h.over = op, end, make(chan struct{})
}

func (h *hanger) goOn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over != nil {
		close(h.over)
	}
	h.over = nil
}

func (h *hanger) hangs() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hung
}

// TestAHungDiskEndsTheNode: where the disk of a node does not answer, whatever it was asked
// for, the node fails within ten seconds, and closes. If it led, another one leads by then.
// What the disk does later is not acknowledged, and the node can start again on it.
func TestAHungDiskEndsTheNode(t *testing.T) {
	for _, on := range []struct {
		name  string
		op    vfs.Op
		end   string // of the name of the file
		of    func(q *voters, leader *voter) *voter
		cause func(q *voters, leader *voter, term uint64, hung func() bool) error
	}{
		{"a sync of the leader's log", vfs.OpSync, ".log", theLeader, changes},
		{"a write to the leader's log", vfs.OpWrite, ".log", theLeader, changes},
		{"a read of the leader's log", vfs.OpRead, ".log", theLeader, changes},
		{"a sync of a follower's log", vfs.OpSync, ".log", aFollower, changes},
		{"a write to a follower's log", vfs.OpWrite, ".log", aFollower, changes},
		{"a cut of the log", vfs.OpTruncate, ".log", theLeader, divergence},
		{"the vote of a follower", vfs.OpRename, "quorum-state", aFollower, election},
		{"the beginning of a snapshot", vfs.OpOpen, ".part", theLeader, changes},
		{"a write to a snapshot", vfs.OpWrite, ".part", theLeader, changes},
		{"a sync of a snapshot", vfs.OpSync, ".part", theLeader, changes},
		{"the end of a snapshot", vfs.OpRename, ".checkpoint", theLeader, changes},
		{"the removal of a snapshot", vfs.OpRemove, ".checkpoint", theLeader, changes},
		{"the start of the log", vfs.OpRename, "raft-start", theLeader, changes},
	} {
		t.Run(on.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { hungDisk(t, on.op, on.end, on.of, on.cause) })
		})
	}
}

func theLeader(_ *voters, leader *voter) *voter { return leader }
func aFollower(q *voters, leader *voter) *voter { return q.all[leader.id%3] }

// changes has the leader write until a disk hangs: there is a snapshot after some.
func changes(_ *voters, leader *voter, term uint64, hung func() bool) error {
	for i := 100; i < 200 && !hung(); i++ {
		if _, err := leader.Append(term, topicRecords(i)); err != nil {
			return err
		}
		time.Sleep(300 * time.Millisecond)
	}
	return nil
}

// election has another one lead.
func election(q *voters, leader *voter, _ uint64, _ func() bool) error {
	q.cut(leader)
	return nil
}

// divergence gives the leader an entry that the next one does not have.
func divergence(q *voters, leader *voter, term uint64, _ func() bool) error {
	q.cut(leader)
	_, err := leader.Append(term, topicRecords(100))
	if err == nil {
		return errors.New("a change was made by a minority")
	}
	next, term := q.leader(leader)
	if _, err := next.Append(term, topicRecords(101)); err != nil {
		return err
	}
	q.join(leader)
	return nil
}

func hungDisk(t *testing.T, op vfs.Op, end string, of func(*voters, *voter) *voter, cause func(*voters, *voter, uint64, func() bool) error) {
	q := threeVoters(t)
	q.trail = 10 // raft never gets a node on that has gone another way for longer
	disks := make(map[*voter]*hanger)
	for _, v := range q.all {
		disks[v] = new(hanger)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		q.join(v)
		q.start(v, disks[v].on(v.fs))
	}
	leader, term := q.leader(nil)
	index, err := leader.Append(term, topicRecords(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range q.all {
		v.settled(t, index)
	}
	sick := of(q, leader)
	disks[sick].hang(op, end)
	caused := make(chan error, 1)
	go func() { caused <- cause(q, leader, term, disks[sick].hangs) }()
	for range 1000 {
		if disks[sick].hangs() {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !disks[sick].hangs() {
		t.Fatal("the disk was not asked")
	}
	hung := time.Now()
	err = <-sick.fatal
	if took := time.Since(hung); !errors.Is(err, vfs.ErrHung) || took > 10*time.Second {
		t.Errorf("fatal after %s: %v", took, err)
	}
	err = <-caused
	if stored := sick == leader && end == ".log" && (op == vfs.OpSync || op == vfs.OpWrite); stored && !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("a change that cannot be written: %v", err)
	}
	for _, v := range q.all {
		if v != sick {
			q.join(v)
		}
	}
	next, term := q.leader(sick)
	if took := time.Since(hung); took > 10*time.Second {
		t.Errorf("node %d leads after %s", next.id, took)
	}
	if _, err := next.Append(term, topicRecords(50)); err != nil {
		t.Errorf("a change through the next leader: %v", err)
	}
	if _, err := sick.Append(term, topicRecords(51)); err == nil {
		t.Error("the node that failed takes changes")
	}
	closing := time.Now()
	_ = sick.Close() // that it returns is what counts
	if took := time.Since(closing); took > 10*time.Second {
		t.Errorf("closed after %s", took)
	}
	at := sick.Image().Index
	disks[sick].goOn()
	time.Sleep(time.Minute)
	if got := sick.Image().Index; got != at {
		t.Errorf("a node that failed has applied entries up to %d, from %d", got, at)
	}
	q.join(sick)
	q.start(sick, sick.fs)
	last, err := next.Append(term, topicRecords(52))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range q.all {
		v.settled(t, last)
		if v.Image().Topic("t0051") != nil || v.Image().Topic("t0050") == nil {
			t.Errorf("node %d: a refused change is there, or one that was taken is not", v.id)
		}
		if string(dumpImage(t, v.Image())) != string(dumpImage(t, next.Image())) {
			t.Errorf("node %d has another image than node %d", v.id, next.id)
		}
	}
}

// TestASlowDiskIsWaitedFor: a disk that answers in time ends nothing.
func TestASlowDiskIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := vfs.Inject(disk(t), func(op vfs.Op, _ string) error {
			if op == vfs.OpSync {
				time.Sleep(2 * time.Second)
			}
			return nil
		})
		fatal := make(chan error, 1)
		n, err := quorum.StartNode(quorum.NodeOptions{NodeID: 1, FS: slow, Dir: dir, Clock: clock.System(), Logger: zap.NewNop(), Fatal: func(err error) { fatal <- err }})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var term uint64
		for term == 0 && ctx.Err() == nil {
			if term, err = n.Barrier(ctx); err != nil {
				time.Sleep(time.Second)
			}
		}
		for i := range 10 {
			if _, err := n.Append(term, topicRecords(i)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-fatal:
			t.Error(err)
		default:
		}
	})
}

// TestAHungLeaderIsReplaced is a quorum on the streams that a broker uses: the leader's disk
// hangs in a sync, and a client's change goes to another leader.
func TestAHungLeaderIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 3
		streams, voters := piped(nodes)
		var disks [nodes + 1]hanger
		var all [nodes + 1]*quorum.Node
		type end struct {
			id  int32
			err error
		}
		fatal := make(chan end, nodes)
		for id := int32(1); id <= nodes; id++ {
			n, err := quorum.StartNode(quorum.NodeOptions{NodeID: id, FS: disks[id].on(disk(t)), Dir: dir, Clock: clock.System(), Logger: zap.NewNop(),
				Streams: streams[id], Voters: quorum.Servers(voters), Timeouts: quorum.Timeouts{Election: time.Second, Fetch: 2 * time.Second},
				Fatal: func(err error) { fatal <- end{id, err} }})
			if err != nil {
				t.Fatal(err)
			}
			all[id] = n
			defer n.Close()
		}
		lead := func(not int32) (int32, uint64) {
			for range 1000 {
				for id := int32(1); id <= nodes; id++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					term, err := all[id].Barrier(ctx)
					cancel()
					if err == nil && id != not {
						return id, term
					}
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Fatal("nobody leads")
			return 0, 0
		}
		first, term := lead(0)
		if _, err := all[first].Append(term, topicRecords(1)); err != nil {
			t.Fatal(err)
		}
		disks[first].hang(vfs.OpSync, ".log")
		begun := time.Now()
		if _, err := all[first].Append(term, topicRecords(2)); !errors.Is(err, kerr.KafkaStorageError) {
			t.Errorf("a change that cannot be written: %v", err)
		}
		second, next := lead(first)
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("another one leads after %s", took)
		}
		if _, err := all[second].Append(next, topicRecords(3)); err != nil {
			t.Error(err)
		}
		if at := <-fatal; at.id != first || !errors.Is(at.err, vfs.ErrHung) {
			t.Errorf("node %d failed: %v", at.id, at.err)
		}
		closing := time.Now()
		_ = all[first].Close() // that it returns is what counts
		if took := time.Since(closing); took > 10*time.Second {
			t.Errorf("closed after %s", took)
		}
		disks[first].goOn()
		time.Sleep(time.Minute)
		if m := all[second].Image(); m.Topic("t0002") != nil || m.Topic("t0003") == nil {
			t.Error("what was refused is there, or what was taken is not")
		}
	})
}

// TestANodeWithoutOthersWaitsForItsDisk: nobody can take over from a node that has no others,
// so that a disk which answers late is waited for, and what it was asked for is done.
func TestANodeWithoutOthersWaitsForItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(hanger)
		n, err := quorum.StartNode(quorum.NodeOptions{NodeID: 1, FS: h.on(disk(t)), Dir: dir, Clock: clock.System(), Logger: zap.NewNop(),
			Fatal: func(err error) { t.Errorf("the node fails: %v", err) }})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		term, err := n.Barrier(t.Context())
		for err != nil {
			time.Sleep(10 * time.Millisecond)
			term, err = n.Barrier(t.Context())
		}
		h.hang(vfs.OpSync, ".log")
		time.AfterFunc(time.Hour, h.goOn)
		if _, err := n.Append(term, topicRecords(1)); err != nil || !h.hangs() {
			t.Errorf("a disk that hangs (%v) for an hour: %v", h.hangs(), err)
		}
	})
}
