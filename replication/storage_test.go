package replication_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// store is a controller with replicas over several log directories.
type store struct {
	*testing.T
	fs   vfs.FS
	c    *replication.Controller
	r    *replication.Replicas
	dirs []*replication.Dir
}

// openStore opens the directories in names, separated by commas. The metadata log
// has a directory of its own.
func openStore(t *testing.T, fs vfs.FS, clk clock.Clock, names string, overrides ...string) *store {
	t.Helper()
	return openStoreLogging(t, fs, clk, zap.NewNop(), names, overrides...)
}

func openStoreLogging(t *testing.T, fs vfs.FS, clk clock.Clock, lg *zap.Logger, names string, overrides ...string) *store {
	t.Helper()
	st := static(t, append(overrides, "log.dirs="+names)...)
	b, err := st.Broker()
	if err != nil {
		t.Fatal(err)
	}
	s := &store{T: t, fs: fs}
	want := replication.Identity{NodeID: 1}
	for _, name := range strings.Split(names, ",") {
		d, got, err := replication.OpenDir(fs, name, want)
		if err != nil {
			t.Fatal(err)
		}
		want = got
		s.dirs = append(s.dirs, d)
	}
	s.r = replication.NewReplicas(replication.Options{NodeID: 1, FS: fs, Dirs: s.dirs, Broker: b, Static: st, Clock: clk, Logger: lg})
	s.c = startControllerIn(t, fs, path.Dir(s.dirs[0].Path), s.r.Apply)
	if s.c.Image().Broker(1) == nil {
		register(t, s.c, 1)
	}
	if err := s.r.Start(s.c.Image); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) close() error {
	err := errors.Join(s.r.Close(1), s.c.Close())
	for _, d := range s.dirs {
		err = errors.Join(err, d.Close())
	}
	return err
}

func (s *store) create(topic string, partitions int32, configs ...string) {
	s.Helper()
	spec := replication.TopicSpec{Name: topic, Partitions: partitions, ReplicationFactor: -1, Configs: make(map[string]*string)}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		spec.Configs[k] = &v
	}
	results, err := s.c.CreateTopics(s.Context(), []replication.TopicSpec{spec}, replication.Defaults{Partitions: 1, ReplicationFactor: 1, Static: static(s.T)}, false)
	if err != nil || results[0].Err != nil {
		s.Fatal(results, err)
	}
}

func (s *store) append(p *replication.Partition, value string) {
	s.Helper()
	_, commit, err := p.Append(batch(s.T, value), replication.AcksAll, log.AppendOptions{})
	if err == nil && commit != nil {
		<-commit.Done()
		err = commit.Err()
	}
	if err != nil {
		s.Error(err)
	}
}

// With flush.messages=1 nobody is answered, and nobody reads, before the records
// are on disk; what comes meanwhile shares the next sync.
func TestProducersWaitForTheDisk(t *testing.T) {
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	var shut, syncs atomic.Int64
	s := openStore(t, vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpSync && path.Ext(name) == segment.LogSuffix && strings.HasPrefix(name, "/d/") && shut.Load() > 0 {
			syncs.Add(1)
			entered <- struct{}{}
			<-gate
			if shut.Load() > 1 {
				return syscall.EIO
			}
		}
		return nil
	}), clock.System(), "/d")
	s.create("t", 1, "flush.messages=1")
	p := s.r.Get("t", 0)
	s.append(p, "first")
	shut.Store(1)
	var commits []*replication.Commit
	for i, acks := range []replication.Acks{replication.AcksAll, replication.AcksLeader, replication.AcksNone, replication.AcksAll} {
		_, c, err := p.Append(batch(t, "x"), acks, log.AppendOptions{})
		if err != nil || (c == nil) != (acks == replication.AcksNone) {
			t.Fatalf("append %d: commit %v, %v", i, c, err)
		}
		if c != nil {
			commits = append(commits, c)
		}
		if i == 0 {
			<-entered
		}
	}
	for i, c := range commits {
		select {
		case <-c.Done():
			t.Errorf("append %d was answered before it was on disk", i)
		default:
		}
	}
	if p.HighWatermark() != 1 {
		t.Errorf("high watermark %d while nothing more is on disk", p.HighWatermark())
	}
	close(gate)
	for _, c := range commits {
		<-c.Done()
		if c.Err() != nil {
			t.Error(c.Err())
		}
	}
	if p.HighWatermark() != 5 || syncs.Load() > 3 {
		t.Errorf("high watermark %d after %d syncs", p.HighWatermark(), syncs.Load())
	}
	shut.Store(2)
	_, c, err := p.Append(batch(t, "lost"), replication.AcksLeader, log.AppendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if !errors.Is(c.Err(), log.ErrStorage) || p.HighWatermark() != 5 {
		t.Errorf("after a failed sync: %v, high watermark %d", c.Err(), p.HighWatermark())
	}
	if err := p.CheckLeader(-1); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("the partition is %v", err)
	}
	if err := s.close(); !errors.Is(err, log.ErrStorage) {
		t.Errorf("close: %v", err)
	}
}

// One of several log directories fails: its partitions are offline, the others
// serve, new ones go elsewhere, and what was acknowledged is there after a
// restart.
func TestOneLogDirectoryFails(t *testing.T) {
	m := vfs.NewMem()
	var broken atomic.Bool
	s := openStore(t, vfs.Inject(m, func(op vfs.Op, name string) error {
		if broken.Load() && strings.HasPrefix(name, "/a/") && (op == vfs.OpWrite || op == vfs.OpSync || op == vfs.OpOpen) {
			return syscall.EIO
		}
		return nil
	}), clock.System(), "/a,/b")
	s.create("t", 4)
	for i := range int32(4) {
		s.append(s.r.Get("t", i), "kept")
	}
	broken.Store(true)
	var hurt *replication.Partition
	for i := range int32(4) {
		if p := s.r.Get("t", i); p.Dir == s.dirs[0] && hurt == nil {
			hurt = p
		}
	}
	w := make(watcher, 1)
	hurt.Watch(w)
	if _, _, err := hurt.Append(batch(t, "x"), replication.AcksAll, log.AppendOptions{}); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("append to the broken directory: %v", err)
	}
	<-w
	offline := 0
	for i := range int32(4) {
		p := s.r.Get("t", i)
		err := p.CheckLeader(-1)
		if p.Dir != s.dirs[0] {
			s.append(p, "more")
			continue
		}
		offline++
		if !errors.Is(err, kerr.KafkaStorageError) || !s.r.Offline("t", i) {
			t.Errorf("partition %d in the broken directory: %v", i, err)
		}
	}
	if offline != 2 || s.dirs[0].Err() == nil || s.dirs[1].Err() != nil {
		t.Errorf("%d partitions offline, directories: %v, %v", offline, s.dirs[0].Err(), s.dirs[1].Err())
	}
	s.create("later", 3)
	for i := range int32(3) {
		if p := s.r.Get("later", i); p == nil || p.Dir != s.dirs[1] {
			t.Errorf("partition %d of a new topic is not in the directory that is well", i)
		}
	}
	if err := s.r.Checkpoint(); err != nil {
		t.Errorf("checkpoint of the directory that is well: %v", err)
	}
	if err := s.close(); !errors.Is(err, log.ErrStorage) {
		t.Errorf("close: %v", err)
	}
	broken.Store(false)
	s = openStore(t, m, clock.System(), "/a,/b")
	if s.dirs[0].Clean() || !s.dirs[1].Clean() {
		t.Errorf("clean: %t, %t", s.dirs[0].Clean(), s.dirs[1].Clean())
	}
	for i := range int32(4) {
		p := s.r.Get("t", i)
		want := int64(1)
		if p.Dir == s.dirs[1] {
			want = 2
		}
		if got := p.Log().EndOffset(); got != want {
			t.Errorf("partition %d has %d records after a restart, want %d", i, got, want)
		}
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// The partitions of a topic whose config does not resolve with the broker's are
// offline, and are there when it does again: what they were not checked for, they
// are checked for then.
func TestTopicWhoseConfigDoesNotResolve(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, m, clock.System(), "/d")
	s.create("t", 1, "max.compaction.lag.ms=5000")
	for range 3 {
		s.append(s.r.Get("t", 0), "value")
	}
	if _, err := s.r.Get("t", 0).DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	m = m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}) // the process dies
	bad := openStore(t, m, clock.System(), "/d", "log.cleaner.min.compaction.lag.ms=10000")
	if bad.r.Get("t", 0) != nil || !bad.r.Offline("t", 0) {
		t.Error("the partition is served")
	}
	if err := errors.Join(bad.close(), s.close()); err != nil {
		t.Error(err)
	}
	s = openStore(t, m, clock.System(), "/d")
	if s.dirs[0].Clean() {
		t.Error("the directory counts as cleanly shut down")
	}
	if p := s.r.Get("t", 0); p == nil || p.Log().StartOffset() != 1 || p.Log().EndOffset() != 3 {
		t.Error("the partition is not back as it was")
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

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
	if l := again.r.Get("t", 0).Log(); l.StartOffset() != 3 || l.EndOffset() != 5 {
		t.Errorf("log [%d, %d) after a power cut, want [3, 5)", l.StartOffset(), l.EndOffset())
	}
	if err := errors.Join(s.close(), again.close()); err != nil {
		t.Error(err)
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
	if l := again.r.Get("t", hurt.Index).Log(); l.StartOffset() != 3 || l.EndOffset() != 5 {
		t.Errorf("log [%d, %d) after the process died, want [3, 5)", l.StartOffset(), l.EndOffset())
	}
	if err := errors.Join(s.close(), again.close()); err != nil {
		t.Error(err)
	}
}

// A partition that is damaged in the middle is offline with its files as they
// are, at every start until somebody has looked; the others serve.
func TestDamagedPartitionIsQuarantined(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, m, clock.System(), "/d")
	s.create("t", 2)
	for i := range int32(2) {
		for range 3 {
			s.append(s.r.Get("t", i), "value")
		}
	}
	if _, err := s.r.Get("t", 0).DeleteRecords(1); err != nil {
		t.Fatal(err)
	}
	m = m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}) // the process dies
	name := segment.FileName("/d/t-0", 0, segment.LogSuffix)
	good, err := vfs.ReadFile(m, name)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[100] ^= 1 // in the second of three batches
	if err := vfs.WriteFileAtomic(m, name, bad); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s := openStore(t, m, clock.System(), "/d")
		if s.dirs[0].Clean() {
			t.Error("the directory counts as cleanly shut down")
		}
		if p := s.r.Get("t", 0); p != nil || !s.r.Offline("t", 0) || !errors.Is(s.r.Missing(s.c.Image(), "t", 0), kerr.KafkaStorageError) {
			t.Errorf("the damaged partition is served: %v", p)
		}
		s.append(s.r.Get("t", 1), "more")
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if now, err := vfs.ReadFile(m, name); err != nil || string(now) != string(bad) {
			t.Errorf("the damaged file was changed: %v", err)
		}
	}
	deleted := openStore(t, m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}), clock.System(), "/d")
	if err := vfs.WriteFileAtomic(m, name, good); err != nil {
		t.Fatal(err)
	}
	if _, err := deleted.c.DeleteTopics(t.Context(), []prim.UUID{deleted.c.Image().Topic("t").ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := deleted.fs.Stat("/d/t-0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the damaged partition stays though its topic is deleted: %v", err)
	}
	deleted.create("t", 2)
	deleted.append(deleted.r.Get("t", 0), "first")
	if err := deleted.close(); err != nil {
		t.Error(err)
	}
	deleted = openStore(t, deleted.fs, clock.System(), "/d")
	if l := deleted.r.Get("t", 0).Log(); l.StartOffset() != 0 || l.EndOffset() != 1 || !deleted.dirs[0].Clean() {
		t.Errorf("the topic made again has [%d, %d), clean %t", l.StartOffset(), l.EndOffset(), deleted.dirs[0].Clean())
	}
	repaired := openStore(t, m, clock.System(), "/d")
	if p := repaired.r.Get("t", 0); p == nil || p.Log().StartOffset() != 1 || p.Log().EndOffset() != 3 {
		t.Error("the partition is not back as it was after its file is whole again")
	}
	if err := errors.Join(repaired.close(), deleted.close(), s.close()); err != nil {
		t.Error(err)
	}
}

// Retention takes segments out, and their files go after file.delete.delay.ms.
func TestRetentionByTheBroker(t *testing.T) {
	m := vfs.NewMem()
	clk := clock.NewVirtual(time.Now())
	m.SetNow(clk.Now)
	s := openStore(t, m, clk, "/d")
	s.create("t", 1, "retention.ms=1000", "file.delete.delay.ms=5000", "segment.bytes=1048576")
	p := s.r.Get("t", 0)
	s.append(p, "old")
	files := func() string {
		names, err := m.List("/d/t-0")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " ")
	}
	clk.Advance(10 * time.Second)
	if err := s.r.Retain(clk.Now()); err != nil {
		t.Fatal(err)
	}
	if p.Log().StartOffset() != 1 || p.Log().EndOffset() != 1 || !strings.Contains(files(), "0.log.deleted") {
		t.Errorf("log [%d, %d), files %s", p.Log().StartOffset(), p.Log().EndOffset(), files())
	}
	clk.Advance(5 * time.Second)
	for strings.Contains(files(), ".deleted") { // removed by a goroutine of its own
	}
	s.append(p, "new")
	if p.Log().EndOffset() != 2 {
		t.Errorf("log end %d", p.Log().EndOffset())
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// An idle partition costs little memory, no goroutine and no descriptor, written
// to or not, before and after a restart.
func TestIdlePartitionsCostLittle(t *testing.T) {
	const n, limit = 500, 32
	dir := t.TempDir() + "/logs"
	counting := &openFiles{FS: vfs.OS()}
	s := openStore(t, vfs.Bounded(counting, limit), clock.System(), dir)
	goroutines := runtime.NumGoroutine()
	before := heap()
	s.create("unwritten", n)
	each := func(what string) {
		t.Helper()
		per := (heap() - before) / n
		t.Logf("%s: %d bytes of heap each", what, per)
		if per > 4096 {
			t.Errorf("%s: %d bytes of heap each", what, per)
		}
		if now := runtime.NumGoroutine(); now > goroutines+50 {
			t.Errorf("%s: %d goroutines, %d before", what, now, goroutines)
		}
		if most := counting.most.Load(); most > limit+64 {
			t.Errorf("%s: %d files were open at once", what, most)
		}
	}
	each("never written")
	before = heap()
	s.create("written", n)
	var wg sync.WaitGroup
	for w := range int32(20) { // the first record of a partition waits for the disk
		wg.Go(func() {
			for i := w; i < n; i += 20 {
				s.append(s.r.Get("written", i), "a record")
			}
		})
	}
	wg.Wait()
	each("written once")
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = nil
	before = heap()
	s = openStore(t, vfs.Bounded(counting, limit), clock.System(), dir)
	for i := range int32(n) {
		if s.r.Get("written", i).Log().EndOffset() != 1 || s.r.Get("unwritten", i).Log().EndOffset() != 0 {
			t.Fatalf("partition %d is not as it was", i)
		}
	}
	if per := (heap() - before) / (2 * n); per > 4096 {
		t.Errorf("after a restart: %d bytes of heap each", per)
	} else {
		t.Logf("after a restart: %d bytes of heap each", per)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// openFiles counts the files that are open.
type openFiles struct {
	vfs.FS
	now, most atomic.Int64
}

func (c *openFiles) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err == nil {
		for n := c.now.Add(1); ; {
			if most := c.most.Load(); most >= n || c.most.CompareAndSwap(most, n) {
				break
			}
		}
		f = openFile{f, c}
	}
	return f, err
}

type openFile struct {
	vfs.File
	c *openFiles
}

func (f openFile) Close() error {
	f.c.now.Add(-1)
	return f.File.Close()
}

// The cleaner compacts what is due, remembers how far it came, also over a
// restart, and takes no more bytes a second than it may.
func TestCleaner(t *testing.T) {
	m := vfs.NewMem()
	clk := clock.NewVirtual(time.Now())
	m.SetNow(clk.Now)
	s := openStore(t, m, clk, "/d", "log.cleaner.threads=2", "log.cleaner.dedupe.buffer.size=4194304")
	s.create("compacted", 3, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.1")
	s.create("kept", 1)
	s.create("never", 1, "cleanup.policy=compact,compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=NaN")
	value := strings.Repeat("x", 50_000)
	for _, p := range []*replication.Partition{s.r.Get("compacted", 0), s.r.Get("compacted", 1), s.r.Get("compacted", 2), s.r.Get("never", 0)} {
		for range 50 {
			b := record.NewBuilder(record.None, 0)
			b.Append(clk.Now().UnixMilli(), []byte("key"), []byte(value), nil)
			out, err := b.Finish(record.NoProducer)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := p.Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := s.r.Get("compacted", 0).Log().Size()
	if err := s.r.Clean(s.c.Image()); err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		p := s.r.Get("compacted", i)
		if size := p.Log().Size(); size > before/2 || p.Log().EndOffset() != 50 {
			t.Errorf("partition %d: %d bytes of %d are left, log end %d", i, size, before, p.Log().EndOffset())
		}
	}
	if l := s.r.Get("never", 0).Log(); !l.Config().Compact || l.Size() != before {
		t.Errorf("compacted though no log is dirty enough: %d bytes of %d are left", l.Size(), before)
	}
	text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint")
	if err != nil || !strings.HasPrefix(string(text), "0\n3\ncompacted ") {
		t.Errorf("checkpoint %q, %v", text, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, m, clk, "/d")
	reads := func() int64 { return s.r.Get("compacted", 0).Log().Size() }
	size := reads()
	if err := s.r.Clean(s.c.Image()); err != nil || reads() != size {
		t.Errorf("compacted again from the start after a restart: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// What is written after a truncation was never compacted, though records at those
// offsets were: also where the truncation came while a round was under way, which
// notes how far it came.
func TestTruncationLowersTheCleanersCheckpoint(t *testing.T) {
	const keys, size, full = 10, 30_000, 100
	for _, c := range []struct {
		name   string
		cut    func(*replication.Partition) error
		during bool
	}{
		{"to an offset inside of what is compacted", func(p *replication.Partition) error { return p.TruncateTo(60) }, false},
		{"to an offset in the active segment", func(p *replication.Partition) error { return p.TruncateTo(90) }, false},
		{"of all", func(p *replication.Partition) error { return p.TruncateFullyAndStartAt(20) }, false},
		{"during a round", func(p *replication.Partition) error { return p.TruncateTo(60) }, true},
	} {
		m := vfs.NewMem()
		var s *store
		cut := func() {
			if err := c.cut(s.r.Get("t", 0)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		lg := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.InfoLevel), zap.Hooks(func(e zapcore.Entry) error {
			if e.Message == "compacted log" && c.during { // what came of it is noted next
				c.during = false
				cut()
			}
			return nil
		}))
		s = openStoreLogging(t, m, clock.System(), lg, "/d", "log.cleaner.threads=1", "log.cleaner.dedupe.buffer.size=4194304")
		s.create("t", 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.01")
		l := s.r.Get("t", 0).Log()
		fill := func() {
			for o := l.EndOffset(); o < full; o++ {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().UnixMilli(), fmt.Append(nil, "key", o%keys), make([]byte, size), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				record.Batch(out).SetBaseOffset(o)
				if _, err := l.AppendAsFollower(out); err != nil {
					t.Fatal(err)
				}
			}
			l.SetHighWatermark(full)
		}
		checkpoint := func() (offset int64) {
			text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint")
			if errors.Is(err, os.ErrNotExist) {
				return -1
			}
			if _, e := fmt.Sscanf(string(text), "0\n1\nt 0 %d\n", &offset); err != nil || e != nil {
				t.Fatalf("%s: checkpoint %q, %v", c.name, text, err)
			}
			return offset
		}
		fill()
		during := c.during
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		if !during {
			before := checkpoint()
			cut()
			if got, want := checkpoint(), min(before, l.EndOffset()); got != want {
				t.Errorf("%s: checkpoint %d, %d before, want %d", c.name, got, before, want)
			}
		} else if got := checkpoint(); got > l.EndOffset() {
			t.Errorf("%s: checkpoint %d, log end %d", c.name, got, l.EndOffset())
		}
		fill()
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		records := make(map[string]int)
		err := l.Each(l.StartOffset(), checkpoint(), func(b record.Batch) error {
			it := b.Iterate(0)
			defer it.Close()
			for it.Next() {
				records[string(it.Record().Key)]++
			}
			return it.Err()
		})
		if err != nil || len(records) == 0 {
			t.Fatalf("%s: %d keys, %v", c.name, len(records), err)
		}
		for key, n := range records {
			if n > 1 {
				t.Errorf("%s: %d records of %s are left below %d", c.name, n, key, checkpoint())
			}
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// A round of the cleaner that ends when the topic was deleted says nothing of the
// one that is made again under its name.
func TestTopicDeletedDuringARoundOfTheCleaner(t *testing.T) {
	m := vfs.NewMem()
	var s *store
	var remade atomic.Bool
	lg := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.InfoLevel), zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "compacted log" && remade.CompareAndSwap(false, true) { // what came of it is noted next
			s.remake("t")
		}
		return nil
	}))
	s = openStoreLogging(t, m, clock.System(), lg, "/d", "log.cleaner.threads=1", "log.cleaner.dedupe.buffer.size=4194304")
	s.create("t", 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01")
	l := s.r.Get("t", 0).Log()
	for range 2 {
		b := record.NewBuilder(record.None, 0)
		b.Append(time.Now().UnixMilli(), []byte("key"), []byte("value"), nil)
		out, err := b.Finish(record.NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.r.Get("t", 0).Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.r.Clean(s.c.Image()); err != nil {
		t.Fatal(err)
	}
	if text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint"); !remade.Load() || err == nil && strings.Contains(string(text), "t 0") {
		t.Errorf("made again %t, checkpoint %q", remade.Load(), text)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// A throttled round takes its time, and ends at once when the broker does.
func TestCleanerIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		s := openStore(t, m, clock.System(), "/d", "log.cleaner.io.max.bytes.per.second=100000")
		s.create("compacted", 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.1")
		p := s.r.Get("compacted", 0)
		fill := func() {
			for range 50 {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().UnixMilli(), []byte("key"), make([]byte, 50_000), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := p.Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill()
		began, size := time.Now(), p.Log().Size()
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		// Two passes over two of three segments, at 100 KB a second.
		if took := time.Since(began); took < 35*time.Second || took > 60*time.Second {
			t.Errorf("%d bytes took %v", size, took)
		}
		fill()
		done := make(chan error)
		go func() { done <- s.r.Clean(s.c.Image()) }()
		time.Sleep(3 * time.Second)
		began = time.Now()
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Errorf("closing took %v, %v", time.Since(began), err)
		}
	})
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
