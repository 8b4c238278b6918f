package dirs

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
)

const dir = "/var/klamm"

func open(t *testing.T, fs vfs.FS, want Identity) *Dir {
	t.Helper()
	d, _, err := Open(fs, dir, want)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// crash returns what a power cut leaves.
func crash(m *vfs.Mem) *vfs.Mem { return m.CrashClone(vfs.CrashPolicy{}) }

// A directory belongs to one node of one cluster, from its first start on, and to one
// process at a time.
func TestADirectoryBelongsToOneNode(t *testing.T) {
	m := vfs.NewMem()
	d, got, err := Open(m, dir, Identity{NodeID: 3})
	if err != nil || got.ClusterID == "" || got.NodeID != 3 || d.ID.IsZero() || d.Clean() {
		t.Fatalf("first start: %+v, %v", got, err)
	}
	if _, _, err := Open(m, dir, got); !errors.Is(err, vfs.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want Identity
		says string
	}{{Identity{"other", 3}, "belongs to cluster " + got.ClusterID + ", not other"}, {Identity{"", 4}, "belongs to node 3, but node.id is 4"}} {
		if _, _, err := Open(crash(m), dir, c.want); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("opened as %+v: %v", c.want, err)
		}
	}
	again, same, err := Open(crash(m), dir, Identity{NodeID: 3})
	if err != nil || same != got || again.ID != d.ID {
		t.Errorf("after a power cut: %+v, directory %s, %v", same, again.ID, err)
	}
	for name, text := range map[string]string{"node.id": "version=1\ncluster.id=x\nnode.id=many\n", "directory.id": "version=1\ncluster.id=x\nnode.id=3\n"} {
		m := vfs.NewMem()
		if err := errors.Join(Make(m, dir), vfs.WriteFileAtomic(m, path.Join(dir, log.PropertiesFile), []byte(text))); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(m, dir, Identity{NodeID: 3}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without a good %s: %v", name, err)
		}
		if l, err := m.Lock(path.Join(dir, log.LockFile)); err != nil {
			t.Errorf("a directory that was refused stays locked: %v", err)
		} else {
			l.Close()
		}
	}
}

// The mark of a clean shutdown counts once: it is gone, durably, before anything is
// written.
func TestTheCleanMarkCountsOnce(t *testing.T) {
	m := vfs.NewMem()
	d := open(t, m, Identity{NodeID: 1})
	if err := errors.Join(d.MarkClean(7), d.Close()); err != nil {
		t.Fatal(err)
	}
	m = crash(m)
	if d = open(t, m, Identity{NodeID: 1}); !d.Clean() {
		t.Fatal("a clean shutdown is not remembered")
	}
	if d := open(t, crash(m), Identity{NodeID: 1}); d.Clean() {
		t.Error("a power cut after the start brings the mark back")
	}
}

// What a checkpoint file says comes back after a power cut; one that is not as it is
// written counts as empty and is named.
func TestCheckpointFiles(t *testing.T) {
	m := vfs.NewMem()
	d := open(t, m, Identity{NodeID: 1})
	want := map[string]int64{"t-0": 5, "with.dots_and-minus-12": 1 << 40}
	if err := d.WriteCheckpoint(log.RecoveryPointFile, func() map[string]int64 { return want }); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(m, d.File(log.LogStartFile), []byte("0\n2\nt 0 5\n")); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(m, d.File(log.HighWatermarkFile), nil); err != nil { // as the JVM broker makes them
		t.Fatal(err)
	}
	d = open(t, crash(m), Identity{NodeID: 1})
	for name, offset := range want {
		if got := d.FoundIn(log.RecoveryPointFile, name); got != offset {
			t.Errorf("%s: %d, want %d", name, got, offset)
		}
	}
	if got := d.Unreadable(); !slices.Equal(got, []string{log.LogStartFile}) {
		t.Errorf("unreadable: %v", got)
	}
	for _, text := range []string{"1\n0\n", "0\n", "0\nx\n", "0\n1\nt 0\n", "0\n1\nt 0 -1\n", "0\n1\nt 0 x\n", "0\n0\nt 0 1\n"} {
		if parseCheckpoint(text) != nil {
			t.Errorf("%q is taken for a checkpoint", text)
		}
	}
}

// A checkpoint that cannot be written takes the directory offline, with the first error,
// and who watches it learns of that once.
func TestAFailedCheckpointIsForEver(t *testing.T) {
	broken := true
	m := vfs.NewMem()
	d := open(t, vfs.Inject(m, func(op vfs.Op, name string) error {
		if broken && op == vfs.OpWrite && strings.Contains(name, "checkpoint") {
			return errors.New("no power")
		}
		return nil
	}), Identity{NodeID: 1})
	var seen []error
	d.Fault().Watch(func(err error) { seen = append(seen, err) })
	none := func() map[string]int64 { return nil }
	if err := d.WriteCheckpoint(log.LogStartFile, none); !errors.Is(err, log.ErrStorage) {
		t.Errorf("the write: %v", err)
	}
	broken = false
	if err := d.WriteCheckpoint(log.LogStartFile, none); !errors.Is(err, log.ErrStorage) || !strings.Contains(err.Error(), "no power") {
		t.Errorf("the next: %v", err)
	}
	if d.Fail(errors.New("second")); len(seen) != 1 || !strings.Contains(d.Err().Error(), "no power") {
		t.Errorf("reported %v, the directory says %v", seen, d.Err())
	}
}

// The offsets of deleted partitions are known to be in the files until those are
// written without them.
func TestDeletedPartitionsLeaveTheFiles(t *testing.T) {
	m := vfs.NewMem()
	d := open(t, m, Identity{NodeID: 1})
	all := map[string]int64{"a-0": 1, "b-0": 2, "c-0": 3}
	for _, file := range checkpointFiles {
		if err := d.WriteCheckpoint(file, func() map[string]int64 { return all }); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	d = open(t, m, Identity{NodeID: 1})
	d.Quarantine("b-0")
	if got := d.OfQuarantined(log.RecoveryPointFile); !maps.Equal(got, map[string]int64{"b-0": 2}) || !d.HasQuarantined() {
		t.Errorf("of the quarantined: %v", got)
	}
	if err := d.DropFound(func(name string) bool { return name == "c-0" }); err != nil {
		t.Fatal(err)
	}
	d.Forget("a-0")
	d.Forget("b-0")
	if !d.Forgot([]string{"x-0", "a-0"}) || d.Forgot([]string{"x-0"}) || d.HasQuarantined() {
		t.Errorf("forgotten: %v", d.Forgotten())
	}
	if _, known := d.FirstDirty("a-0"); known {
		t.Error("where the compaction of a deleted partition ended is still known")
	}
	forgotten := d.Forgotten()
	d.Forget("d-0")
	if d.Rewritten(forgotten); !maps.Equal(d.Forgotten(), map[string]bool{"d-0": true}) {
		t.Errorf("after a checkpoint still forgotten: %v", d.Forgotten())
	}
	d.Close()
	d = open(t, crash(m), Identity{NodeID: 1})
	for _, file := range checkpointFiles {
		if d.FoundIn(file, "c-0") != 0 || d.FoundIn(file, "a-0") != 1 {
			t.Errorf("%s has c-0 at %d, a-0 at %d", file, d.FoundIn(file, "c-0"), d.FoundIn(file, "a-0"))
		}
	}
}

// Where the compaction of a partition has come to is durable, rises with a round that
// still counts, and falls with a truncation only.
func TestFirstDirty(t *testing.T) {
	m := vfs.NewMem()
	d := open(t, m, Identity{NodeID: 1})
	steps := []struct {
		lower  bool
		offset int64
		counts bool
		want   int64
	}{{false, 10, true, 10}, {false, 20, false, 10}, {true, 30, true, 10}, {true, 4, true, 4}, {false, 7, true, 7}}
	for _, s := range steps {
		var err error
		if s.lower {
			err = d.LowerFirstDirty("t-0", s.offset)
		} else {
			err = d.SetFirstDirty("t-0", s.offset, func() bool { return s.counts })
		}
		got, known := open(t, crash(m), Identity{NodeID: 1}).FirstDirty("t-0")
		if err != nil || !known || got != s.want {
			t.Errorf("%+v: %d after a power cut, %v", s, got, err)
		}
	}
}

// Names of partition directories can be read back, and every name fits a file system.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", 249)
	for _, topic := range []string{"t", "a-b", "a-1", "a.b_c", long} {
		for _, index := range []int32{0, 7, 1 << 30} {
			if got, i, ok := ParseName(Name(topic, index)); !ok || got != topic || i != index {
				t.Errorf("%s-%d comes back as %s-%d, %t", topic, index, got, i, ok)
			}
			for _, name := range []string{DeletedName(topic, index), StrayName(topic, index)} {
				if len(name) > 255 {
					t.Errorf("%s has %d bytes", name, len(name))
				}
				if _, _, ok := ParseName(name); ok {
					t.Errorf("%s is taken for a partition's directory", name)
				}
			}
			if first, second := DeletedName(topic, index), DeletedName(topic, index); first == second {
				t.Errorf("two deleted directories of %s-%d have one name", topic, index)
			}
		}
	}
	for _, name := range []string{"", "t", "-0", "t-", "t-x", ".lock", "t-0-delete", "t-99999999999"} {
		if topic, index, ok := ParseName(name); ok {
			t.Errorf("%q is taken for %s, %d", name, topic, index)
		}
	}
}

// Files go when their delay has passed, each once, and one that cannot be removed is
// logged and holds nobody up. After Close nothing goes.
func TestTrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		removed := make(map[string]time.Duration)
		began := time.Now()
		core, logs := observer.New(zap.ErrorLevel)
		fs := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
			if op != vfs.OpRemove {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if _, twice := removed[name]; twice {
				t.Errorf("%s is removed twice", name)
			}
			removed[name] = time.Since(began)
			if name == "/bad" {
				return errors.New("in use")
			}
			return nil
		})
		trash := NewTrash(fs, clock.System(), zap.New(core))
		r := rand.New(rand.NewPCG(1, 1))
		due := make(map[string]time.Duration)
		for i := range 200 {
			if time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond); i == 100 {
				due["/bad"] = time.Since(began) + time.Second
				trash.Later([]string{"/bad", "/missing"}, time.Second)
				due["/missing"] = due["/bad"]
			}
			name, delay := fmt.Sprint("/f", i), time.Duration(r.IntN(5000))*time.Millisecond
			due[name] = time.Since(began) + delay
			trash.Later([]string{name}, delay)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		if !maps.Equal(removed, due) {
			t.Errorf("removed %v\nwant %v", removed, due)
		}
		mu.Unlock()
		if logs.Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
		trash.Later([]string{"/late"}, time.Second)
		trash.Close()
		trash.Later([]string{"/later"}, 0)
		time.Sleep(time.Minute)
		if _, ok := removed["/late"]; ok || len(removed) != len(due) {
			t.Error("something is removed after Close")
		}
	})
}

// Workers run what they are given, so many at once, and none of what has not begun once
// they are closed.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorkers(3, zap.NewNop())
		var mu sync.Mutex
		now, most, ran := 0, 0, 0
		work := func() {
			mu.Lock()
			now, ran = now+1, ran+1
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		}
		for range 20 {
			w.Do(work)
		}
		w.Do(func() { panic("boom") })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if most != 3 || ran != 20 {
			t.Errorf("%d of 20 ran, %d at once", ran, most)
		}
		for range 20 {
			w.Do(work)
		}
		synctest.Wait()
		w.Close()
		if w.Do(work); now != 0 || ran != 23 {
			t.Errorf("after Close %d run, %d ran in all", now, ran)
		}
	})
}
