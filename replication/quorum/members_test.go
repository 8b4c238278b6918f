package quorum_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// crew is a quorum of nodes that are joined by pipes, in a synctest bubble. Nodes that do not
// listen open reverse streams with those that do.
type crew struct {
	t      *testing.T
	voters []quorum.Peer

	mu  sync.Mutex // guards all
	all map[int32]*crewMember
}

type crewMember struct {
	*quorum.Node
	id      int32
	fs      *vfs.Mem
	streams *quorum.Streams
	listens bool
	gone    chan struct{} // closed when it is killed
}

func (m *crewMember) up() bool {
	select {
	case <-m.gone:
		return false
	default:
		return true
	}
}

// member returns the newest process of a node, nil if there was none.
func (c *crew) member(id int32) *crewMember {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[id]
}

func (c *crew) members() (out []*crewMember) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.all {
		out = append(out, m)
	}
	return out
}

func directoryOf(id int32) prim.UUID { return prim.UUID{0xd, byte(id)} }

// newCrew starts nodes 1 to n as the voters of a quorum.
func newCrew(t *testing.T, n int32) *crew {
	c := &crew{t: t, all: make(map[int32]*crewMember)}
	for id := int32(1); id <= n; id++ {
		c.voters = append(c.voters, c.at(id))
	}
	for id := int32(1); id <= n; id++ {
		c.start(id, true, disk(t))
	}
	t.Cleanup(func() {
		for _, m := range c.members() {
			c.kill(m.id)
		}
	})
	return c
}

func (c *crew) at(id int32) quorum.Peer {
	return quorum.Peer{ID: id, Directory: directoryOf(id)}
}

// start starts a node. One that is no first voter is an observer.
func (c *crew) start(id int32, listens bool, fs *vfs.Mem) *crewMember {
	c.t.Helper()
	m := &crewMember{id: id, fs: fs, listens: listens, gone: make(chan struct{})}
	m.streams = quorum.NewStreams(id, func(_ context.Context, to quorum.Peer) (net.Conn, error) {
		o := c.member(to.ID)
		switch {
		case o == nil || !o.listens:
			return nil, quorum.ErrNoListener
		case !o.up():
			return nil, errors.New("refused")
		}
		here, there := net.Pipe()
		go o.streams.Take(there, id)
		return here, nil
	})
	o := quorum.NodeOptions{NodeID: id, FS: fs, Dir: dir, Clock: clock.System(), Logger: zap.NewNop(), Streams: m.streams,
		Timing: func(c *raft.Config) { c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 1, 5, time.Second }}
	if int(id) <= len(c.voters) {
		o.Voters = quorum.Servers(c.voters)
	} else {
		o.Observer = true
	}
	var err error
	if m.Node, err = quorum.StartNode(o); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.all[id] = m
	c.mu.Unlock()
	if o.Observer {
		for to := range int32(len(c.voters)) {
			go c.reverse(m, to+1)
		}
	}
	return m
}

// reverse keeps a stream open for a voter to speak on.
func (c *crew) reverse(m *crewMember, to int32) {
	for m.up() {
		if o := c.member(to); o != nil && o.up() {
			here, there := net.Pipe()
			o.streams.TakeReverse(there, quorum.Peer{ID: m.id, Directory: directoryOf(m.id)})
			first := make([]byte, 1)
			if _, err := here.Read(first); err == nil {
				m.streams.Take(&quorumPrefixed{here, first}, to)
				continue
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-m.gone:
			return
		}
	}
}

// quorumPrefixed is a connection of which some was read already.
type quorumPrefixed struct {
	net.Conn
	first []byte
}

func (c *quorumPrefixed) Read(b []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// kill ends a node.
func (c *crew) kill(id int32) {
	m := c.member(id)
	if m.up() {
		close(m.gone)
		m.streams.Close()
		m.Close()
	}
}

// await waits until ok.
func (c *crew) await(what string, ok func() bool) {
	c.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.t.Fatal("in vain: ", what)
}

// leader waits for a leader, and returns it with its term.
func (c *crew) leader() (m *crewMember, term uint64) {
	c.t.Helper()
	c.await("a leader", func() bool {
		for _, m = range c.members() {
			if !m.up() {
				continue
			}
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
			var err error
			term, err = m.Barrier(ctx)
			cancel()
			if err == nil {
				return true
			}
		}
		return false
	})
	return m, term
}

// write writes an entry, and waits until nodes have it.
func (c *crew) write(i int, ids ...int32) {
	c.t.Helper()
	var index uint64
	c.await("an entry", func() bool {
		l, term := c.leader()
		var err error
		index, err = l.Append(term, topicRecords(i))
		return err == nil
	})
	for _, id := range ids {
		c.await(fmt.Sprintf("node %d has entry %d", id, index), func() bool { return c.member(id).Image().Index >= index })
	}
}

// roll says who is in the configuration, as the leader has it.
func (c *crew) roll() string {
	l, _ := c.leader()
	var out []string
	for _, m := range l.Members() {
		kind := "observer"
		if m.Voter {
			kind = "voter"
		}
		out = append(out, fmt.Sprint(kind, " ", m.ID))
	}
	return strings.Join(out, ", ")
}

func (c *crew) rollIs(want string) {
	c.t.Helper()
	c.await(want, func() bool { return c.roll() == want })
}

// TestObservers: a node that cannot be dialled gets the metadata over streams that it opens
// itself, and after it was away, in a snapshot too; it is let go when it is gone.
func TestObservers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 3)
		c.write(1, 1, 2, 3)
		c.start(4, false, disk(t))
		c.rollIs("voter 1, voter 2, voter 3, observer 4")
		c.write(2, 1, 2, 3, 4)

		// Another leader finds it.
		old, _ := c.leader()
		c.kill(old.id)
		c.write(3, 4)

		// It was away for longer than the log goes back.
		fs := c.member(4).fs
		c.kill(4)
		for i := range 30 {
			c.write(10 + i)
			time.Sleep(time.Second) // snapshots are made in between
		}
		c.start(4, false, fs)
		c.write(50, 4)
		l, _ := c.leader()
		if first, _ := l.Members()[3].Index, 0; first == 0 {
			t.Error("the leader does not know how far the observer is")
		}
		if got, want := string(dumpImage(t, c.member(4).Image())), string(dumpImage(t, l.Image())); got != want {
			t.Error("the observer's image is another one")
		}

		// It is no broker, and is let go after a while.
		c.kill(4)
		time.Sleep(6 * time.Minute)
		c.rollIs("voter 1, voter 2, voter 3")
	})
}

// TestUnregisteredObserver: an observer that was a broker is let go when it is none any more;
// while it is one it stays, for as long as it may be away.
func TestUnregisteredObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1)
		l, term := c.leader()
		c.start(4, false, disk(t))
		c.rollIs("voter 1, observer 4")
		if _, err := l.Append(term, []meta.Record{&msg.RegisterBrokerRecord{BrokerId: 4, BrokerEpoch: 7}}); err != nil {
			t.Fatal(err)
		}
		c.kill(4)
		time.Sleep(time.Hour)
		c.rollIs("voter 1, observer 4")
		if _, err := l.Append(term, []meta.Record{&msg.UnregisterBrokerRecord{BrokerId: 4, BrokerEpoch: l.Image().Broker(4).Epoch}}); err != nil {
			t.Fatal(err)
		}
		c.rollIs("voter 1")
	})
}

// TestVotersChange: an observer becomes a voter once it has all, a voter becomes an observer,
// the leader too; each of what cannot be is refused with Kafka's code.
func TestVotersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.write(1, 1)
		l, _ := c.leader()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		refused := func(what string, want kerr.Code, err error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		refused("add a voter that is one", kerr.DuplicateVoter, l.AddVoter(ctx, c.at(1), nil))
		short, end := context.WithTimeout(ctx, time.Second)
		refused("add a node that is not there", kerr.RequestTimedOut, l.AddVoter(short, c.at(9), nil))
		end()
		refused("remove the last voter", kerr.InvalidRequest, l.RemoveVoter(ctx, c.at(1)))
		refused("remove a voter that is none", kerr.VoterNotFound, l.RemoveVoter(ctx, c.at(2)))
		refused("remove a voter with another directory", kerr.VoterNotFound, l.RemoveVoter(ctx, quorum.Peer{ID: 1, Directory: directoryOf(2)}))
		refused("what only a voter may be asked", kerr.VoterNotFound, l.MustVote(c.at(2), "update"))
		for id := int32(2); id <= 3; id++ {
			c.start(id, true, disk(t))
			c.await("an observer", func() bool { return strings.Contains(c.roll(), fmt.Sprint("observer ", id)) })
			wrong := c.at(id)
			wrong.Directory = directoryOf(7)
			refused("add a node that has another directory", kerr.RequestTimedOut, l.AddVoter(ctx, wrong, nil))
			if err := l.AddVoter(ctx, c.at(id), nil); err != nil {
				t.Fatal(err)
			}
		}
		c.await("three voters", func() bool { return strings.HasPrefix(c.roll(), "voter 1, voter 2, voter 3") })
		// The new ones count: without the first there is a majority.
		c.kill(1)
		c.write(2, 2, 3)
		l, _ = c.leader()
		if l.id == 1 {
			t.Fatal("node 1 is gone and leads")
		}
		// Node 1 is gone: the two that are left remove it, and then one of them goes on alone.
		if err := l.RemoveVoter(ctx, c.at(1)); err != nil {
			t.Fatal(err)
		}
		refused("remove it twice", kerr.VoterNotFound, l.RemoveVoter(ctx, c.at(1)))
		first := l
		l.HandOver()
		c.await("another leader", func() bool { l, _ = c.leader(); return l != first })
		if err := l.RemoveVoter(ctx, c.at(first.id)); err != nil {
			t.Fatal(err)
		}
		c.kill(first.id)
		c.write(3, l.id)
	})
}

// TestStreamsAreBounded: nobody can have a node hold more than so many streams open, whatever
// ids they give.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1)
		l, _ := c.leader()
		open := 0
		closed := make(chan struct{}, 10000)
		offer := func(from int32, reverse bool) {
			here, there := net.Pipe()
			open++
			go func() {
				_, _ = here.Read(make([]byte, 1)) // it ends when the other side is closed
				closed <- struct{}{}
			}()
			if reverse {
				l.streams.TakeReverse(there, quorum.Peer{ID: from})
			} else {
				l.streams.Take(there, from)
			}
		}
		for range 500 {
			offer(7, true)
			offer(8, false)
		}
		synctest.Wait()
		if left := open - len(closed); left > 24 {
			t.Errorf("two nodes hold %d streams open", left)
		}
		for id := range int32(300) {
			offer(100+id, true)
		}
		synctest.Wait()
		if left := open - len(closed); left > 240+100*12 {
			t.Errorf("strangers hold %d streams open", left)
		}
		if n := len(l.Members()); n > 1+100 {
			t.Errorf("there are %d members", n)
		}
		l.streams.Close()
		l.Close()
	})
}

// TestTermThatCannotBeStored: a message of a term above 2^31-1 is refused, and changes
// nothing; a batch has no room for it.
func TestTermThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := threeVoters(t)
		leader, term := q.leader(nil)
		_, other := raft.NewInmemTransportWithTimeout("n9", time.Second)
		for _, v := range q.all {
			other.Connect(v.transport.LocalAddr(), v.transport)
		}
		head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("2"), Addr: []byte("n2")}
		const huge = math.MaxInt32 + 1
		for _, v := range q.all {
			to := raft.ServerID(fmt.Sprint(v.id))
			addr := v.transport.LocalAddr()
			for what, err := range map[string]error{
				"AppendEntries": other.AppendEntries(to, addr, &raft.AppendEntriesRequest{RPCHeader: head, Term: huge}, new(raft.AppendEntriesResponse)),
				"an entry": other.AppendEntries(to, addr, &raft.AppendEntriesRequest{RPCHeader: head, Term: term, PrevLogEntry: 1, PrevLogTerm: 1,
					Entries: []*raft.Log{{Index: 2, Term: huge}}}, new(raft.AppendEntriesResponse)),
				"RequestVote":     other.RequestVote(to, addr, &raft.RequestVoteRequest{RPCHeader: head, Term: huge, LeadershipTransfer: true}, new(raft.RequestVoteResponse)),
				"RequestPreVote":  other.RequestPreVote(to, addr, &raft.RequestPreVoteRequest{RPCHeader: head, Term: huge}, new(raft.RequestPreVoteResponse)),
				"InstallSnapshot": other.InstallSnapshot(to, addr, &raft.InstallSnapshotRequest{RPCHeader: head, Term: huge}, new(raft.InstallSnapshotResponse), strings.NewReader("")),
			} {
				if err == nil || !strings.Contains(err.Error(), fmt.Sprint(huge)) {
					t.Errorf("%s to node %d: %v, want one that names the term", what, v.id, err)
				}
			}
		}
		if _, err := leader.Append(term, topicRecords(1)); err != nil {
			t.Errorf("the quorum goes on: %v", err)
		}
		// By elections of its own a node gets there too: it ends.
		fs := disk(t)
		if err := fs.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		state, err := quorum.OpenState(fs, dir)
		if err != nil {
			t.Fatal(err)
		}
		poisoned := make(chan error, 1)
		state.Poisons(func(err error) { poisoned <- err })
		if err := state.SetUint64([]byte("CurrentTerm"), huge); err != nil {
			t.Error(err) // raft would panic
		}
		if err := <-poisoned; !errors.Is(err, quorum.ErrTerm) {
			t.Errorf("it is poisoned by %v", err)
		}
		if err := state.Set([]byte("LastVoteCand"), []byte("2")); !errors.Is(err, quorum.ErrTerm) {
			t.Errorf("it votes: %v", err)
		}
	})
}

// TestReverseStreamsAreOfTheDirectory: where a node is looked for that cannot be dialled, a
// reverse stream of a process with another directory is not taken for its: that may vote a
// second time, or have nothing of what the node has acknowledged.
func TestReverseStreamsAreOfTheDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quorum.NewStreams(1, func(context.Context, quorum.Peer) (net.Conn, error) { return nil, quorum.ErrNoListener })
		defer s.Close()
		offer := func(directory int32) net.Conn {
			here, there := net.Pipe()
			s.TakeReverse(there, quorum.Peer{ID: 3, Directory: directoryOf(directory)})
			return here
		}
		offer(3)
		wiped := offer(7)
		heard := make(chan error, 1)
		go func() {
			_, err := wiped.Read(make([]byte, 1))
			heard <- err
		}()
		for range 2 { // the second one waits for another stream
			go func() {
				time.Sleep(time.Second)
				offer(7)
				offer(3)
			}()
			c, err := s.Dial(raft.ServerAddress("3/"+directoryOf(3).String()), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			go c.Write([]byte{1})
			synctest.Wait()
		}
		select {
		case err := <-heard:
			t.Errorf("the process with another directory is spoken to: %v", err)
		default:
		}
		if c, err := s.Dial("3", time.Second); err != nil || c == nil {
			t.Errorf("any directory will do, and there is none: %v", err)
		}
	})
}

// TestNodesComeWhileAVoterIsAwaited: while a node that is to vote is waited for, others are
// taken in as observers; and the wait ends, whatever time there is for it.
func TestNodesComeWhileAVoterIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.write(1, 1)
		l, _ := c.leader()
		added := make(chan error, 1)
		begun := time.Now()
		go func() { added <- l.AddVoter(t.Context(), c.at(9), nil) }()
		c.rollIs("voter 1, observer 9")
		c.start(4, true, disk(t))
		c.rollIs("voter 1, observer 4, observer 9")
		c.write(2, 4)
		select {
		case err := <-added:
			t.Fatalf("nobody waits for node 9 any more: %v", err)
		default:
		}
		if err := <-added; !errors.Is(err, kerr.RequestTimedOut) || time.Since(begun) > 10*time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// TestAVoterIsNotTakenForAnObserver: a process with another directory that comes while a node
// is about to vote does not have the voter let go.
func TestAVoterIsNotTakenForAnObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrew(t, 1)
		c.write(1, 1)
		l, _ := c.leader()
		c.start(4, true, disk(t))
		c.rollIs("voter 1, observer 4")
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			first <- l.AddVoter(ctx, c.at(9), nil)
		}()
		synctest.Wait()
		go func() { second <- l.AddVoter(t.Context(), c.at(4), nil) }()
		synctest.Wait()
		here, there := net.Pipe()
		defer here.Close()
		l.streams.TakeReverse(there, quorum.Peer{ID: 4, Directory: directoryOf(7)})
		<-first
		err := <-second
		time.Sleep(20 * time.Second)
		if votes := strings.Contains(c.roll(), "voter 4"); votes != (err == nil) {
			t.Errorf("node 4 was to vote: %v; there are %s", err, c.roll())
		}
	})
}
