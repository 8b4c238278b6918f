package quorum_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
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

// voter is one of three nodes that are joined in memory.
type voter struct {
	*quorum.Node
	id        int
	fs        *vfs.Mem
	transport *raft.InmemTransport
	elections chan bool
	fatal     chan error

	mu      sync.Mutex
	updates []quorum.Update
}

type voters struct {
	t       *testing.T
	servers []raft.Server
	all     []*voter
	trail   uint64 // entries that are kept in the log though a snapshot has them
}

// threeVoters starts a quorum of three in a synctest bubble.
func threeVoters(t *testing.T) *voters {
	q := &voters{t: t, trail: 1}
	for i := range 3 {
		addr, transport := raft.NewInmemTransportWithTimeout(raft.ServerAddress(fmt.Sprint("n", i+1)), time.Second)
		q.servers = append(q.servers, raft.Server{ID: raft.ServerID(strconv.Itoa(i + 1)), Address: addr})
		q.all = append(q.all, &voter{id: i + 1, fs: disk(t), transport: transport, elections: make(chan bool, 100), fatal: make(chan error, 1)})
	}
	for _, v := range q.all {
		q.join(v)
		q.start(v, v.fs)
	}
	return q
}

func (q *voters) join(v *voter) {
	for _, o := range q.all {
		if o != v {
			v.transport.Connect(o.transport.LocalAddr(), o.transport)
			o.transport.Connect(v.transport.LocalAddr(), v.transport)
		}
	}
}

func (q *voters) cut(v *voter) {
	for _, o := range q.all {
		v.transport.Disconnect(o.transport.LocalAddr())
		o.transport.Disconnect(v.transport.LocalAddr())
	}
}

func (q *voters) start(v *voter, fs vfs.FS) {
	q.t.Helper()
	n, err := quorum.StartNode(quorum.NodeOptions{NodeID: int32(v.id), FS: fs, Dir: dir, Clock: clock.System(), Logger: zap.NewNop(),
		Transport: v.transport, Voters: q.servers,
		Timing: func(c *raft.Config) {
			c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = q.trail, 5, time.Second
		},
		Subscribers: []quorum.Subscriber{func(u quorum.Update) {
			v.mu.Lock()
			v.updates = append(v.updates, u)
			v.mu.Unlock()
		}},
		Elected: func(leads bool) { v.elections <- leads },
		Fatal:   func(err error) { v.fatal <- err }})
	if err != nil {
		q.t.Fatal(err)
	}
	v.Node = n
	q.t.Cleanup(func() { n.Close() })
}

// leader waits for a leader other than not, and returns it with its term.
func (q *voters) leader(not *voter) (*voter, uint64) {
	q.t.Helper()
	for range 1000 {
		for _, v := range q.all {
			if v == not {
				continue
			}
			ctx, cancel := context.WithTimeout(q.t.Context(), time.Second)
			term, err := v.Barrier(ctx)
			cancel()
			if err == nil {
				return v, term
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	q.t.Fatal("nobody leads")
	return nil, 0
}

// settled waits until a node has applied an entry.
func (v *voter) settled(t *testing.T, index uint64) {
	t.Helper()
	for range 1000 {
		if v.Image().Index >= index {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("node %d is at entry %d, want %d", v.id, v.Image().Index, index)
}

func topicRecords(i int) []meta.Record {
	id := prim.UUID{1, byte(i >> 8), byte(i)}
	return []meta.Record{&msg.TopicRecord{Name: fmt.Sprintf("t%04d", i), TopicId: id}, &msg.PartitionRecord{TopicId: id, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}}
}

func dumpImage(t testing.TB, m *meta.Image) []byte {
	t.Helper()
	var b []byte
	for _, r := range m.Records() {
		var err error
		if b, err = meta.AppendRecord(b, r); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// TestQuorumOfThree: what one leader has written is there under the next, each
// node's subscribers are told of it once and in order, and what was decided under
// an earlier leadership changes nothing.
func TestQuorumOfThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := threeVoters(t)
		first, term := q.leader(nil)
		var index uint64
		for i := range 3 {
			var err error
			if index, err = first.Append(term, topicRecords(i)); err != nil {
				t.Fatal(err)
			}
			if got := first.Image().Index; got != index {
				t.Fatalf("entry %d was answered while the image is at %d", index, got)
			}
		}
		broker := &msg.RegisterBrokerRecord{BrokerId: 7, BrokerEpoch: meta.EpochOfEntry}
		index, err := first.Append(term, []meta.Record{broker})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range q.all {
			v.settled(t, index)
			if b := v.Image().Broker(7); b == nil || b.Epoch != int64(index) {
				t.Errorf("node %d: broker %+v, want epoch %d", v.id, b, index)
			}
		}
		other := q.all[first.id%3]
		if _, err := other.Append(term, topicRecords(50)); !errors.Is(err, kerr.NotController) {
			t.Errorf("a follower took an entry: %v", err)
		}

		q.cut(first)
		second, next := q.leader(first)
		if next <= term {
			t.Errorf("term %d after %d", next, term)
		}
		if _, err := second.Append(term, topicRecords(51)); !errors.Is(err, quorum.ErrStale) {
			t.Errorf("an entry of term %d in %d: %v", term, next, err)
		}
		if index, err = second.Append(next, topicRecords(3)); err != nil {
			t.Fatal(err)
		}
		q.join(first)
		want := dumpImage(t, second.Image())
		for _, v := range q.all {
			v.settled(t, index)
			if !bytes.Equal(dumpImage(t, v.Image()), want) {
				t.Errorf("node %d has another image than node %d", v.id, second.id)
			}
			if v.Image().Topic("t0051") != nil {
				t.Errorf("node %d has a topic that was decided on too early", v.id)
			}
			v.mu.Lock()
			last := meta.Empty()
			for i, u := range v.updates {
				if u.Old.Index != last.Index || u.New.Index != u.Index || u.Index <= u.Old.Index {
					t.Errorf("node %d: update %d goes from %d to %d (%d) after %d", v.id, i, u.Old.Index, u.New.Index, u.Index, last.Index)
				}
				last = u.New
			}
			v.mu.Unlock()
		}
		if leads := <-first.elections; !leads {
			t.Error("the first leader was not told that it leads")
		}
		if leads := <-first.elections; leads {
			t.Error("the first leader was not told that it no longer leads")
		}
	})
}

// TestInstalledSnapshot: a node that missed more than the log still holds is sent a
// snapshot. It is the leader's to the byte, the node is told what it changed,
// topics that were made again included, and what follows has the leader's offsets.
func TestInstalledSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := threeVoters(t)
		leader, term := q.leader(nil)
		behind := q.all[leader.id%3]
		appendAll := func(records ...[]meta.Record) (index uint64) {
			for _, r := range records {
				var err error
				if index, err = leader.Append(term, r); err != nil {
					t.Fatal(err)
				}
			}
			return index
		}
		behind.settled(t, appendAll(topicRecords(1), topicRecords(2), topicRecords(3)))
		q.cut(behind)
		again := topicRecords(2)
		again[0].(*msg.TopicRecord).TopicId[15], again[1].(*msg.PartitionRecord).TopicId[15] = 9, 9
		appendAll([]meta.Record{&msg.RemoveTopicRecord{TopicId: prim.UUID{1, 0, 1}}}, []meta.Record{&msg.RemoveTopicRecord{TopicId: prim.UUID{1, 0, 2}}}, again)
		for i := range 40 {
			appendAll(topicRecords(100 + i))
		}
		time.Sleep(10 * time.Second) // raft snapshots, and drops the log
		index := appendAll(topicRecords(200))
		time.Sleep(10 * time.Second)
		behind.mu.Lock()
		before := len(behind.updates)
		behind.mu.Unlock()
		q.join(behind)
		behind.settled(t, index)
		index = appendAll(topicRecords(201))
		behind.settled(t, index)
		if !bytes.Equal(dumpImage(t, behind.Image()), dumpImage(t, leader.Image())) {
			t.Error("the images differ")
		}
		behind.mu.Lock()
		u := behind.updates[before]
		behind.mu.Unlock()
		gone := make(map[prim.UUID]bool)
		for _, topic := range u.Delta.Deleted {
			gone[topic.ID] = true
		}
		_, recreated := u.Delta.Topics[prim.UUID{1, 0, 2, 15: 9}]
		_, untouched := u.Delta.Topics[prim.UUID{1, 0, 3}]
		if len(gone) != 2 || !gone[prim.UUID{1, 0, 1}] || !gone[prim.UUID{1, 0, 2}] || !recreated || untouched || len(u.Delta.Topics) < 40 {
			t.Errorf("the snapshot is told as %d topics deleted (%v) and %d changed (again %t, untouched %t)", len(gone), gone, len(u.Delta.Topics), recreated, untouched)
		}
		ids := func(v *voter) (all []string) {
			store, err := quorum.OpenSnapshots(v.fs, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			list, err := store.List()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range list {
				all = append(all, m.ID)
			}
			return all
		}
		shared := 0
		for _, id := range ids(behind) {
			ours, err := vfs.ReadFile(behind.fs, dir+"/"+id+".checkpoint")
			theirs, err2 := vfs.ReadFile(leader.fs, dir+"/"+id+".checkpoint")
			if err == nil && err2 == nil && bytes.Equal(ours, theirs) {
				shared++
			}
		}
		if shared == 0 {
			t.Errorf("no snapshot is the leader's: %v and %v", ids(behind), ids(leader))
		}
		if a, b := leader.Standing().EndOffset, behind.Standing().EndOffset; a != b {
			t.Errorf("the log ends at offset %d, the leader's at %d", b, a)
		}
	})
}

// TestANodeThatCannotGoOnSaysSo: a follower whose vote or log cannot be written,
// and one that does not know a record, end; they do not go on with less.
func TestANodeThatCannotGoOnSaysSo(t *testing.T) {
	for name, breaks := range map[string]func(file string) bool{
		"log":  func(file string) bool { return len(file) > 4 && file[len(file)-4:] == ".log" },
		"vote": func(file string) bool { return bytes.Contains([]byte(file), []byte("quorum-state")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := threeVoters(t)
				leader, term := q.leader(nil)
				sick := q.all[leader.id%3]
				sick.Close()
				var broken bool
				var mu sync.Mutex
				q.start(sick, vfs.Inject(sick.fs, func(op vfs.Op, file string) error {
					mu.Lock()
					defer mu.Unlock()
					if broken && op != vfs.OpRead && breaks(file) {
						return errors.New("planned")
					}
					return nil
				}))
				q.join(sick) // closing cut it off
				mu.Lock()
				broken = true
				mu.Unlock()
				if name == "log" {
					if _, err := leader.Append(term, topicRecords(1)); err != nil {
						t.Fatal(err)
					}
				} else {
					q.cut(leader) // an election, in which it votes
				}
				select {
				case <-sick.fatal:
				case <-time.After(time.Minute):
					t.Error("nobody was told")
				}
			})
		})
	}
}

// TestUnknownRecord: an entry with a record that this version does not know is
// fatal, and nothing after it is applied.
func TestUnknownRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := threeVoters(t)
		leader, term := q.leader(nil)
		if _, err := leader.Append(term, []meta.Record{unknownRecord{new(msg.NoOpRecord)}}); !errors.Is(err, quorum.ErrUnknownEntry) {
			t.Errorf("the entry was answered with %v", err)
		}
		for _, v := range q.all {
			select {
			case err := <-v.fatal:
				if !errors.Is(err, quorum.ErrUnknownEntry) {
					t.Errorf("node %d: %v", v.id, err)
				}
			case <-time.After(time.Minute):
				t.Errorf("node %d goes on", v.id)
			}
		}
		if _, err := leader.Append(term, topicRecords(1)); err == nil || leader.Image().Topic("t0001") != nil {
			t.Errorf("a later entry was applied: %v", err)
		}
	})
}

// unknownRecord is of a type that there is not.
type unknownRecord struct{ *msg.NoOpRecord }

func (unknownRecord) RecordType() int16 { return 9999 }

// TestIdeal: the ideal log is a metadata log like the other.
func TestIdeal(t *testing.T) {
	q := new(quorum.Ideal)
	var told []uint64
	a := q.Join(1, nil, func(u quorum.Update) { told = append(told, u.Index) })
	b := q.Join(2, nil)
	var _ quorum.MetadataLog = a
	if _, err := a.Append(1, topicRecords(1)); !errors.Is(err, kerr.NotController) {
		t.Errorf("nobody leads: %v", err)
	}
	q.Elect(a)
	term, err := a.Barrier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if index, err := a.Append(term, topicRecords(i)); err != nil || index != uint64(i+1) {
			t.Fatalf("entry %d: %v", index, err)
		}
	}
	if _, err := a.Append(term, topicRecords(1)); err == nil { // the topic is there
		t.Error("an entry that contradicts the image was applied")
	}
	if b.Image().Index != 0 {
		t.Errorf("a node that was not told to has applied entry %d", b.Image().Index)
	}
	q.Elect(b)
	if _, err := a.Append(term, topicRecords(8)); !errors.Is(err, kerr.NotController) {
		t.Errorf("the old leader: %v", err)
	}
	if term, err = b.Barrier(t.Context()); err != nil || !bytes.Equal(dumpImage(t, a.Image()), dumpImage(t, b.Image())) {
		t.Errorf("the new leader does not have what the old one wrote: %v", err)
	}
	if _, err := b.Append(term-1, topicRecords(8)); !errors.Is(err, quorum.ErrStale) {
		t.Errorf("an entry of the old term: %v", err)
	}
	if _, err := b.Append(term, topicRecords(9)); err != nil {
		t.Error(err)
	}
	for more := true; more; {
		if more, err = a.Step(); err != nil {
			t.Error(err)
		}
	}
	if want := []uint64{1, 2, 3, 5}; !reflect.DeepEqual(told, want) {
		t.Errorf("told of entries %v, want %v", told, want)
	}
}
