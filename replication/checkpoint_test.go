package replication_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// What DeleteRecords has answered stays deleted, whatever happens next.
func TestDeletedRecordsStayDeleted(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, m, clock.System(), "/d")
	s.create("t", 2)
	p := s.r.Get("t", 0)
	for i := range 5 {
		s.append(p, fmt.Sprint(i))
	}
	if err := p.Log().Flush(); err != nil {
		t.Fatal(err)
	}
	if low, err := p.DeleteRecords(3); low != 3 || err != nil {
		t.Fatalf("low watermark %d, %v", low, err)
	}
	again := openStore(t, m.CrashClone(vfs.CrashPolicy{}), clock.System(), "/d")
	again.wantLog(0, 3, 5, "after a power cut")
	if err := errors.Join(s.close(), again.close()); err != nil {
		t.Error(err)
	}
}

// The JVM broker leaves a checkpoint file without entries empty.
func TestEmptyCheckpointFile(t *testing.T) {
	m := vfs.NewMem()
	if err := errors.Join(m.MkdirAll("/d", 0o755), vfs.WriteFileAtomic(m, "/d/"+log.CleanerFile, nil)); err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.ErrorLevel)
	d, _, err := dirs.Open(m, "/d", dirs.Identity{NodeID: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := replication.NewReplicas(replication.Options{NodeID: 1, FS: m, Dirs: []*dirs.Dir{d}, Clock: clock.System(), Logger: zap.New(core), Broker: new(config.Broker)})
	if err := r.Start(meta.Empty); err != nil {
		t.Fatal(err)
	}
	for _, e := range logged.All() {
		t.Errorf("it logs %q", e.Message)
	}
}

// The log start offset stays where a power cut takes the records with it, another
// one comes anywhere in the start after it, and checkpoints are written before
// there are new records.
func TestStartOfWhatIsGoneStays(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, m, clock.System(), "/d")
	s.create("t", 1)
	s.append(s.r.Get("t", 0), "value")
	if _, err := s.r.Get("t", 0).DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	gone := m.CrashClone(vfs.CrashPolicy{})
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	for at := 1; ; at++ {
		for _, p := range []vfs.CrashPolicy{{}, {KeepEntries: true}, {KeepData: true, KeepEntries: true}} {
			d := &modelDisk{mem: gone.CrashClone(vfs.CrashPolicy{}), policy: p}
			d.crashAt.Store(int64(at))
			s = openStore(t, d.FS(), clock.System(), "/d")
			left := d.crashed.Load()
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			if left == nil {
				if at < 10 {
					t.Errorf("the start makes %d changes, so this test is none", at)
				}
				return
			}
			for range 2 {
				s = openStore(t, left, clock.System(), "/d")
				s.wantLog(0, 1, 1, fmt.Sprintf("power cut %+v at change %d", p, at))
				if err := s.r.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				left = left.CrashClone(vfs.CrashPolicy{})
				if err := s.close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A topic that is made again after a restart has nothing of the one that was
// deleted, such as its log start offset.
func TestTopicMadeAgainBeginsAnew(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, m, clock.System(), "/d")
	s.create("t", 1)
	for range 5 {
		s.append(s.r.Get("t", 0), "value")
	}
	if _, err := s.r.Get("t", 0).DeleteRecords(3); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, m, clock.System(), "/d")
	if _, err := s.c.DeleteTopics(t.Context(), []prim.UUID{s.c.Image().Topic("t").ID}); err != nil {
		t.Fatal(err)
	}
	s.create("t", 1)
	s.append(s.r.Get("t", 0), "first")
	if l := s.r.Get("t", 0).Log(); l.StartOffset() != 0 || l.EndOffset() != 1 || l.HighWatermark() != 1 {
		t.Errorf("log [%d, %d), high watermark %d, want [0, 1)", l.StartOffset(), l.EndOffset(), l.HighWatermark())
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// Checkpoint takes what it writes from the logs at that moment: it had put a log
// start offset back that was answered while it wrote the files of another
// directory.
func TestCheckpointKeepsAnsweredStarts(t *testing.T) {
	m := vfs.NewMem()
	var s *store
	var hurt *replication.Partition
	var armed atomic.Bool
	s = openStore(t, vfs.Inject(m, func(op vfs.Op, name string) error {
		if op != vfs.OpRename || !armed.CompareAndSwap(true, false) {
			return nil
		}
		if hurt = s.r.Get("t", 0); strings.HasPrefix(name, hurt.Dir.Path+"/") {
			hurt = s.r.Get("t", 1)
		}
		if low, err := hurt.DeleteRecords(3); low != 3 || err != nil {
			t.Errorf("low watermark %d, %v", low, err)
		}
		return nil
	}), clock.System(), "/a,/b")
	s.create("t", 2)
	for i := range int32(2) {
		for range 5 {
			s.append(s.r.Get("t", i), "value")
		}
	}
	armed.Store(true)
	if err := s.r.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	again := openStore(t, m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}), clock.System(), "/a,/b")
	again.wantLog(hurt.Index, 3, 5, "after the process died")
	if err := errors.Join(s.close(), again.close()); err != nil {
		t.Error(err)
	}
}

// The checkpoint files of a directory may be missing, cut, zeroed or garbage:
// every record is served, and what is written anew is as it was.
func TestCheckpointsAreReplaced(t *testing.T) {
	base := vfs.NewMem()
	s := openStore(t, base, clock.System(), "/d")
	s.create("t", 3)
	for i := range int32(3) {
		for range 4 {
			s.append(s.r.Get("t", i), "value")
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"recovery-point-offset-checkpoint", "replication-offset-checkpoint", "log-start-offset-checkpoint", "cleaner-offset-checkpoint", ".kafka_cleanshutdown"} {
		file := "/d/" + name
		content, err := vfs.ReadFile(base, file)
		if err != nil && name != "cleaner-offset-checkpoint" {
			t.Fatal(err)
		}
		for kind, bad := range map[string][]byte{"missing": nil, "empty": {}, "cut": content[:len(content)/2], "zeroed": make([]byte, len(content)),
			"garbage": []byte("\xa7\x31\n\n\nx"), "wrong numbers": []byte("0\n1\nt 0 99999999999\n"), "negative": []byte("0\n1\nt 0 -5\n")} {
			if name == "log-start-offset-checkpoint" && kind == "wrong numbers" {
				continue // it is believed: the file says that records were deleted
			}
			m := base.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
			if err := m.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			if bad != nil {
				if err := vfs.WriteFileAtomic(m, file, bad); err != nil {
					t.Fatal(err)
				}
			}
			again := openStore(t, m, clock.System(), "/d")
			for i := range int32(3) {
				p := again.r.Get("t", i)
				if p == nil || p.Log().StartOffset() != 0 || p.Log().EndOffset() != 4 || p.HighWatermark() != 4 {
					t.Errorf("%s %s: partition %d is %v", name, kind, i, p)
					continue
				}
				again.append(p, "more")
			}
			if err := again.close(); err != nil {
				t.Errorf("%s %s: %v", name, kind, err)
			}
		}
	}
}

// remake deletes a topic and makes it again.
func (s *store) remake(topic string) {
	s.Helper()
	if _, err := s.c.DeleteTopics(s.Context(), []prim.UUID{s.c.Image().Topic(topic).ID}); err != nil {
		s.Fatal(err)
	}
	s.create(topic, 1)
}

// A topic that is made again has nothing of the one that was deleted, though the
// process dies before the next checkpoint, or before it has followed the metadata.
func TestTopicMadeAgainBeforeACheckpoint(t *testing.T) {
	for _, followed := range []bool{true, false} {
		m := vfs.NewMem()
		s := openStore(t, m, clock.System(), "/d")
		s.create("t", 1)
		for range 5 {
			s.append(s.r.Get("t", 0), "value")
		}
		if _, err := s.r.Get("t", 0).DeleteRecords(3); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.r.Get("t", 0).Log().Flush(), s.r.Checkpoint()); err != nil {
			t.Fatal(err)
		}
		m = m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if !followed {
			s = &store{T: t, c: startControllerIn(t, m, "/", nil)}
			s.remake("t")
			if err := s.c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		s = openStore(t, m, clock.System(), "/d")
		if followed {
			s.remake("t")
		}
		for range 2 { // it starts twice
			again := openStore(t, s.fs.(*vfs.Mem).CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}), clock.System(), "/d")
			if err := s.close(); err != nil {
				t.Error(err)
			}
			s = again
			if l := s.r.Get("t", 0).Log(); l.StartOffset() != 0 || l.EndOffset() != 0 {
				t.Errorf("followed %t: log [%d, %d), want an empty one", followed, l.StartOffset(), l.EndOffset())
			}
			if text, err := vfs.ReadFile(s.fs, "/d/recovery-point-offset-checkpoint"); err != nil || strings.Contains(string(text), "t 0 5") {
				t.Errorf("followed %t: recovery points %q, %v", followed, text, err)
			}
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// A topic was deleted while one log directory failed, and made again in the other:
// when the first is well again, what it has of the name is set aside.
func TestTopicMadeAgainInAnotherDirectory(t *testing.T) {
	m := vfs.NewMem()
	var broken atomic.Bool
	s := openStore(t, vfs.Inject(m, func(op vfs.Op, name string) error {
		if broken.Load() && strings.HasPrefix(name, "/a/") && op != vfs.OpRead {
			return syscall.EIO
		}
		return nil
	}), clock.System(), "/a,/b")
	s.create("t", 1)
	s.append(s.r.Get("t", 0), "old")
	broken.Store(true)
	if _, _, err := s.r.Get("t", 0).Append(batch(t, "x"), replication.AcksAll, log.AppendOptions{}); err == nil {
		t.Fatal("the directory is well")
	}
	s.remake("t")
	s.append(s.r.Get("t", 0), "new")
	s.append(s.r.Get("t", 0), "new")
	if err := s.close(); !errors.Is(err, log.ErrStorage) {
		t.Errorf("close: %v", err)
	}
	for range 2 {
		s = openStore(t, m, clock.System(), "/a,/b")
		if p := s.r.Get("t", 0); p == nil || p.Dir.Path != "/b" || p.Log().EndOffset() != 2 {
			t.Fatal("the topic is not where its records are")
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}
