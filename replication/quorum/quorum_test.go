package quorum_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

const dir = "/data/__cluster_metadata-0"

// disk is a file system with the directory of a metadata log.
func disk(t testing.TB) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll(dir, 0o755), m.SyncDir("/data"), m.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return m
}

func open(t testing.TB, fs vfs.FS) (*quorum.Log, *log.Log) {
	t.Helper()
	l, err := log.Open(log.Options{FS: fs, Dir: dir, Topic: meta.MetadataTopic, Config: log.Config{SegmentBytes: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := quorum.OpenLog(l, fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s, l
}

func command(t testing.TB, n int) []byte {
	t.Helper()
	var records []meta.Record
	for i := range n%3 + 1 { // entries differ in their number of offsets
		records = append(records, &msg.TopicRecord{Name: fmt.Sprintf("topic-%d-%d", n, i), TopicId: prim.UUID{1: byte(n), 2: byte(i)}})
	}
	b, err := quorum.AppendCommand(nil, records)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry makes an entry of every kind in turn.
func entry(t testing.TB, index, term uint64) *raft.Log {
	l := &raft.Log{Index: index, Term: term, AppendedAt: time.UnixMilli(1_700_000_000_000 + int64(index))}
	switch index % 4 {
	case 0:
		l.Type = raft.LogNoop
	case 1:
		l.Type = raft.LogConfiguration
		l.Data = raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "1", Address: "a:1"}, {Suffrage: raft.Nonvoter, ID: "2", Address: "b:2"}}})
	default:
		l.Type, l.Data = raft.LogCommand, command(t, int(index))
	}
	return l
}

func same(a, b *raft.Log) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data) && a.AppendedAt.Equal(b.AppendedAt)
}

// compare checks a store against the entries that it should hold.
func compare(t *testing.T, s *quorum.Log, want []*raft.Log) {
	t.Helper()
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if len(want) == 0 {
		if first != 0 || last != 0 {
			t.Fatalf("holds %d to %d, want nothing", first, last)
		}
		return
	}
	if first != want[0].Index || last != want[len(want)-1].Index {
		t.Fatalf("holds %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for _, w := range want {
		var got raft.Log
		if err := s.GetLog(w.Index, &got); err != nil {
			t.Fatal(err)
		}
		if !same(&got, w) {
			t.Fatalf("entry %d\n got %+v\nwant %+v", w.Index, got, *w)
		}
	}
	var got raft.Log
	for _, outside := range []uint64{first - 1, last + 1} {
		if err := s.GetLog(outside, &got); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry %d outside of the log: %v", outside, err)
		}
	}
}

// TestModel runs random operations against a slice of entries, with restarts,
// and power cuts that keep nothing that was not synced.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for run := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, run))
		fs := disk(t)
		s, l := open(t, fs)
		var want []*raft.Log
		next, term := uint64(1), uint64(1)
		for range 60 {
			switch n := r.IntN(10); {
			case n < 5:
				var batch []*raft.Log
				for range r.IntN(4) + 1 {
					batch = append(batch, entry(t, next, term))
					next++
				}
				if err := s.StoreLogs(batch); err != nil {
					t.Fatal(err)
				}
				want = append(want, batch...)
			case n == 5 && len(want) > 0: // a new leader takes the end away
				at := r.IntN(len(want))
				if err := s.DeleteRange(want[at].Index, want[len(want)-1].Index); err != nil {
					t.Fatal(err)
				}
				next, want = want[at].Index, want[:at]
				term++
			case n == 6 && len(want) > 0: // a snapshot holds the beginning
				at := r.IntN(len(want) + 1)
				if at > 0 {
					if err := s.DeleteRange(want[0].Index, want[at-1].Index); err != nil {
						t.Fatal(err)
					}
				}
				want = want[at:]
			case n == 7 && len(want) == 0: // a snapshot from the leader
				next += uint64(r.IntN(100))
			case n == 8:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				s, l = open(t, fs)
			case n == 9:
				fs = fs.CrashClone(vfs.CrashPolicy{})
				s, l = open(t, fs)
			}
			compare(t, s, want)
			if t.Failed() {
				t.Fatalf("seed %d run %d", seed, run)
			}
		}
	}
}

// TestAFailedSyncPoisons: what raft would try again must not pass for stored.
func TestAFailedSyncPoisons(t *testing.T) {
	broken := errors.New("broken disk")
	fail := false
	fs := vfs.Inject(disk(t), func(op vfs.Op, _ string) error {
		if fail && op == vfs.OpSync {
			fail = false
			return broken
		}
		return nil
	})
	s, _ := open(t, fs)
	if err := s.StoreLog(entry(t, 1, 1)); err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := s.StoreLog(entry(t, 2, 1)); !errors.Is(err, broken) {
		t.Fatalf("stored over a failed sync: %v", err)
	}
	if err := s.StoreLog(entry(t, 2, 1)); !errors.Is(err, broken) || s.Poisoned() == nil {
		t.Errorf("the next attempt: %v, poisoned %v", err, s.Poisoned())
	}
}

func TestEntriesOutOfOrder(t *testing.T) {
	s, _ := open(t, disk(t))
	if err := s.StoreLog(entry(t, 1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(entry(t, 3, 1)); err == nil {
		t.Error("a gap was stored")
	}
	if err := errors.Join(s.StoreLog(entry(t, 2, 1)), s.StoreLog(entry(t, 3, 1))); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(2, 2); err == nil {
		t.Error("a piece of the middle was deleted")
	}
	compare(t, s, []*raft.Log{entry(t, 1, 1), entry(t, 2, 1), entry(t, 3, 1)})
}

func TestVoteAndTermSurvive(t *testing.T) {
	fs := disk(t)
	s, err := quorum.OpenState(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetUint64([]byte("LastVoteTerm")); v != 0 || err != nil {
		t.Errorf("vote before any: %d, %v", v, err)
	}
	err = errors.Join(s.SetUint64([]byte("CurrentTerm"), 7), s.SetUint64([]byte("LastVoteTerm"), 7), s.Set([]byte("LastVoteCand"), []byte("b:2")))
	if err != nil {
		t.Fatal(err)
	}
	again, err := quorum.OpenState(fs.CrashClone(vfs.CrashPolicy{}), dir)
	if err != nil {
		t.Fatal(err)
	}
	term, _ := again.GetUint64([]byte("CurrentTerm"))
	voted, _ := again.GetUint64([]byte("LastVoteTerm"))
	candidate, _ := again.Get([]byte("LastVoteCand"))
	if term != 7 || voted != 7 || string(candidate) != "b:2" {
		t.Errorf("after a power cut: term %d, vote in %d for %q", term, voted, candidate)
	}
	if err := errors.Join(s.Set([]byte("Other"), nil), s.SetUint64([]byte("Other"), 1)); err == nil {
		t.Error("an unknown key was stored")
	}
	text, err := vfs.ReadFile(fs, dir+"/quorum-state")
	if err != nil || !strings.Contains(string(text), `"leaderEpoch":7`) || !strings.Contains(string(text), `"data_version":10000,`) {
		t.Errorf("quorum-state %s: %v", text, err)
	}
}

func image(t testing.TB, topics int) *meta.Image {
	t.Helper()
	m := meta.Empty()
	for i := range topics {
		id := prim.UUID{1, 14: byte(i >> 8), 15: byte(i)}
		next, _, err := m.Apply(m.Index+1, 1, []meta.Record{&msg.TopicRecord{Name: fmt.Sprint("t", i), TopicId: id},
			&msg.PartitionRecord{TopicId: id, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}})
		if err != nil {
			t.Fatal(err)
		}
		m = next
	}
	return m
}

func TestSnapshots(t *testing.T) {
	fs := disk(t)
	s, _ := open(t, fs)
	for i := range uint64(5) {
		if err := s.StoreLog(entry(t, i+1, 3)); err != nil {
			t.Fatal(err)
		}
	}
	store, err := quorum.OpenSnapshots(fs, dir, s)
	if err != nil {
		t.Fatal(err)
	}
	config := raft.Configuration{Servers: []raft.Server{{ID: "1", Address: "a:1"}}}
	for index := uint64(3); index <= 5; index++ {
		sink, err := store.Create(1, index, 3, config, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := quorum.WriteImage(sink, image(t, int(index)*400)); err != nil {
			t.Fatal(err)
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cancelled, err := store.Create(1, 5, 4, config, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cancelled.Cancel(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(1, 5, 9, config, 1, nil); err != nil { // is never finished
		t.Fatal(err)
	}
	// After a power cut the finished ones are there, and only the newest two.
	after := fs.CrashClone(vfs.CrashPolicy{})
	s, _ = open(t, after)
	if store, err = quorum.OpenSnapshots(after, dir, s); err != nil {
		t.Fatal(err)
	}
	list, err := store.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d snapshots: %v", len(list), err)
	}
	if m := list[0]; m.Index != 5 || m.Term != 3 || m.ConfigurationIndex != 1 || !reflect.DeepEqual(m.Configuration, config) {
		t.Errorf("described as %+v", m)
	}
	about, from, err := store.Open(list[0].ID)
	if err != nil || about.Size == 0 {
		t.Fatalf("%+v: %v", about, err)
	}
	defer from.Close()
	records, err := quorum.ReadImage(from)
	if err != nil {
		t.Fatal(err)
	}
	restored, _, err := meta.Empty().Apply(5, 3, records)
	if err != nil || restored.TopicCount() != 2000 || restored.PartitionCount() != 2000 {
		t.Errorf("restored %d topics: %v", restored.TopicCount(), err)
	}
	names, err := after.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".part") {
			t.Errorf("%s was left behind", name)
		}
	}
}

// TestDamagedSnapshot flips every byte in turn: no flip may go unnoticed.
func TestDamagedSnapshot(t *testing.T) {
	fs := disk(t)
	s, _ := open(t, fs)
	if err := s.StoreLog(entry(t, 1, 1)); err != nil {
		t.Fatal(err)
	}
	store, err := quorum.OpenSnapshots(fs, dir, s)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := store.Create(1, 1, 1, raft.Configuration{}, 1, nil)
	if err == nil {
		err = errors.Join(quorum.WriteImage(sink, image(t, 2)), sink.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	list, err := store.List()
	if err != nil {
		t.Fatal(err)
	}
	name := dir + "/" + list[0].ID + ".checkpoint"
	whole, err := vfs.ReadFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	good, err := quorum.ReadImage(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		records, err := quorum.ReadImage(bytes.NewReader(bad))
		if err != nil {
			continue
		}
		// The offset and epoch of a batch are outside of its checksum, and mean
		// nothing to the image.
		if !reflect.DeepEqual(records, good) {
			t.Errorf("byte %d of %d flipped: read as another image", i, len(whole))
		}
	}
	for n := range whole {
		if _, err := quorum.ReadImage(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", n, len(whole))
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add(command(f, 2))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = quorum.ParseCommand(b) })
}

// An error in writing where the log begins, after a snapshot took its place, poisons the log:
// raft tries again, and entries that were stored then would have other indexes after a
// restart.
func TestNewBeginningIsDurableOrNone(t *testing.T) {
	mem := disk(t)
	failing := false
	fs := vfs.Inject(mem, func(op vfs.Op, name string) error {
		if failing && op == vfs.OpRename && strings.Contains(name, "raft-start") {
			return errors.New("planned")
		}
		return nil
	})
	open := func() (*log.Log, *quorum.Log) {
		l, err := log.Open(log.Options{FS: fs, Dir: dir, Topic: meta.MetadataTopic, Config: log.Config{SegmentBytes: 1 << 20}, Now: time.Now, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		s, err := quorum.OpenLog(l, fs, dir)
		if err != nil {
			t.Fatal(err)
		}
		return l, s
	}
	l, s := open()
	put := func(i uint64) error { return s.StoreLog(&raft.Log{Index: i, Term: 1, Type: raft.LogNoop}) }
	for i := range uint64(50) {
		if err := put(i + 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, 50); err != nil {
		t.Fatal(err)
	}
	failing = true
	if err := put(101); err == nil || s.Poisoned() == nil {
		t.Errorf("stored: %v, poisoned: %v", err, s.Poisoned())
	}
	failing = false
	if err := put(101); err == nil {
		t.Error("stored after that")
	}
	l.Close()
	l, s = open()
	defer l.Close()
	if err := put(101); err != nil {
		t.Fatal(err)
	}
	if first, _ := s.FirstIndex(); first != 101 {
		t.Errorf("the first index is %d", first)
	}
}
