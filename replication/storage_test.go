package replication_test

import (
	"bytes"
	"errors"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// store is a controller with replicas over several log directories.
type store struct {
	*testing.T
	fs   vfs.FS
	c    *replication.Controller
	r    *replication.Replicas
	dirs []*dirs.Dir
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
	want := dirs.Identity{NodeID: 1}
	for _, name := range strings.Split(names, ",") {
		d, got, err := dirs.Open(fs, name, want)
		if err != nil {
			t.Fatal(err)
		}
		want = got
		s.dirs = append(s.dirs, d)
	}
	s.r = replication.NewReplicas(replication.Options{NodeID: 1, FS: fs, Dirs: s.dirs, Broker: b, Static: st, Clock: clk, Logger: lg})
	s.c = startControllerIn(t, fs, path.Dir(s.dirs[0].Path), s.r.Apply, s.r.Settled)
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
	spec := control.TopicSpec{Name: topic, Partitions: partitions, ReplicationFactor: -1, Configs: make(map[string]*string)}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		spec.Configs[k] = &v
	}
	results, err := s.c.CreateTopics(s.Context(), []control.TopicSpec{spec}, control.Defaults{Partitions: 1, ReplicationFactor: 1, Static: static(s.T)}, false)
	if err != nil || results[0].Err != nil {
		s.Fatal(results, err)
	}
}

// wantLog checks where the log of a partition of topic t begins and ends.
func (s *store) wantLog(partition int32, start, end int64, when string) {
	s.Helper()
	if l := s.r.Get("t", partition).Log(); l.StartOffset() != start || l.EndOffset() != end {
		s.Errorf("%s: log [%d, %d), want [%d, %d)", when, l.StartOffset(), l.EndOffset(), start, end)
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
	var x replication.Watch
	hurt.Watch(&x, replication.HighWatermark, w)
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

// A partition whose directory's entry could not be made durable takes no records.
func TestUnsyncedPartitionIsOffline(t *testing.T) {
	var armed atomic.Bool
	s := openStore(t, vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpSyncDir && name == "/d" && armed.CompareAndSwap(true, false) {
			return syscall.EIO
		}
		return nil
	}), clock.System(), "/d")
	armed.Store(true)
	s.create("t", 1)
	if err := s.dirs[0].Err(); !errors.Is(err, log.ErrStorage) || !errors.Is(err, syscall.EIO) {
		t.Errorf("the directory's error is %v", err)
	}
	if _, _, err := s.r.Get("t", 0).Append(batch(t, "value"), replication.AcksAll, log.AppendOptions{}); err == nil {
		t.Error("a record was taken")
	}
	s.close()
}

// With flush.messages=N fewer than N records behind the last sync are ever
// acknowledged, whoever appends beside. An append that had to be synced was once
// acknowledged before: another one showed its records to the high watermark.
func TestFewUnsyncedRecordsAreAcknowledged(t *testing.T) {
	const every, producers, each = 10, 8, 300
	s := openStore(t, vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpSync && path.Ext(name) == segment.LogSuffix {
			for range 20 { // the others append meanwhile
				runtime.Gosched()
			}
		}
		return nil
	}), clock.System(), "/d")
	s.create("t", 1, "flush.messages=10")
	p := s.r.Get("t", 0)
	var wg sync.WaitGroup
	for i := range producers {
		acks := replication.AcksAll
		if i%2 == 1 {
			acks = replication.AcksLeader
		}
		wg.Go(func() {
			b := batch(t, "x")
			for range each {
				info, c, err := p.Append(bytes.Clone(b), acks, log.AppendOptions{})
				if err == nil && c != nil {
					<-c.Done()
					err = c.Err()
				}
				if synced := p.Log().RecoveryPoint(); err != nil || info.LastOffset+1-synced >= every {
					t.Errorf("acks=%d: offset %d was acknowledged with %d synced, %v", acks, info.LastOffset, synced, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
