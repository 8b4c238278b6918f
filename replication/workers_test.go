package replication_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// busyDisk counts the calls that are under way at once. Each lasts until others
// have had a turn.
type busyDisk struct {
	now, most atomic.Int64
}

func (b *busyDisk) hook(vfs.Op, string) error {
	n := b.now.Add(1)
	for most := b.most.Load(); n > most && !b.most.CompareAndSwap(most, n); most = b.most.Load() {
	}
	runtime.Gosched()
	b.now.Add(-1)
	return nil
}

// Each call to the disk that blocks takes a thread of the operating system, which
// Go never gives back. However many partitions are created, stopped, started or
// deleted at once, few calls are under way.
func TestFewCallsAreUnderWay(t *testing.T) {
	const topics, each, bound = 20, 500, 64
	for _, dirs := range []string{"/d/a", "/d/a,/d/b,/d/c"} {
		disk, mem := new(busyDisk), vfs.NewMem()
		fs := vfs.Inject(mem, disk.hook)
		check := func(what string) {
			t.Helper()
			if n := disk.most.Swap(0); n >= bound || n == 0 {
				t.Errorf("%s of %d partitions in %s: %d calls at once, want fewer than %d", what, topics*each, dirs, n, bound)
			}
		}
		s := openStore(t, fs, clock.System(), dirs)
		specs := make([]control.TopicSpec, topics)
		for i := range specs {
			name := "file.delete.delay.ms"
			specs[i] = control.TopicSpec{Name: fmt.Sprint("t", i), Partitions: each, ReplicationFactor: 1, Configs: map[string]*string{name: new("1")}}
			// Each in a change of its own: one is bounded.
			results, err := s.c.CreateTopics(t.Context(), specs[i:i+1], control.Defaults{Static: static(t)}, false)
			if err != nil || results[0].Err != nil {
				t.Fatal(results, err)
			}
		}
		check("creation")
		for i := range specs {
			for p := range int32(each) {
				s.append(s.r.Get(specs[i].Name, p), "x")
			}
		}
		disk.most.Store(0)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		check("stop")
		s = openStore(t, fs, clock.System(), dirs)
		check("start")
		var ids []prim.UUID
		s.c.Image().Topics("", func(t *meta.Topic) bool {
			ids = append(ids, t.ID)
			return true
		})
		before := runtime.NumGoroutine()
		if results, err := s.c.DeleteTopics(t.Context(), ids); err != nil || len(results) != topics {
			t.Fatal(results, err)
		}
		if n := runtime.NumGoroutine() - before; n > bound {
			t.Errorf("the deletion started %d goroutines", n)
		}
		for deadline := time.Now().Add(time.Minute); ; {
			left := 0
			for _, dir := range strings.Split(dirs, ",") {
				names, err := mem.List(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					if strings.HasSuffix(name, "-delete") {
						left++
					}
				}
			}
			if left == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d directories are still there", left)
			}
			runtime.Gosched()
		}
		check("deletion")
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// A deletion makes nothing durable of what it deletes.
func TestDeletionSyncsNothing(t *testing.T) {
	var syncs atomic.Int64
	s := openStore(t, vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasPrefix(name, "/d/") && strings.Contains(name, "/t-") {
			syncs.Add(1)
		}
		return nil
	}), clock.System(), "/d")
	s.create("t", 10)
	for i := range int32(10) {
		s.append(s.r.Get("t", i), "x")
	}
	syncs.Store(0)
	if _, err := s.c.DeleteTopics(t.Context(), []prim.UUID{s.c.Image().Topic("t").ID}); err != nil {
		t.Fatal(err)
	}
	if n := syncs.Load(); n != 0 {
		t.Errorf("%d files were synced", n)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// A panic while one partition is opened, synced or removed costs that work, and
// says so with its stack.
func TestAPanicCostsItsJob(t *testing.T) {
	var broken atomic.Value
	broken.Store("")
	fs := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if what := broken.Load().(string); what != "" && strings.Contains(string(op)+" "+name, what) {
			panic("a broken disk call")
		}
		return nil
	})
	core, logs := observer.New(zap.ErrorLevel)
	panics := func(want int, when string) {
		t.Helper()
		n := 0
		for _, e := range logs.TakeAll() {
			if e.Message == "panic" && strings.Contains(fmt.Sprint(e.ContextMap()["stack"]), "workers_test.go") {
				n++
			}
		}
		if n < want {
			t.Errorf("%s: %d panics are logged, want %d", when, n, want)
		}
	}
	s := openStoreLogging(t, fs, clock.System(), zap.New(core), "/d")
	broken.Store("list /d/t-1")
	s.create("t", 3, "file.delete.delay.ms=1")
	if s.r.Get("t", 1) != nil {
		t.Error("the partition is there whose log could not be opened")
	}
	panics(1, "open")
	s.append(s.r.Get("t", 0), "x")
	s.append(s.r.Get("t", 2), "x")
	broken.Store("")
	s.create("f", 1, "flush.messages=1")
	f := s.r.Get("f", 0)
	broken.Store("sync /d/f-0/00000000000000000000.log")
	_, commit, err := f.Append(batch(t, "x"), replication.AcksAll, log.AppendOptions{})
	if err == nil {
		<-commit.Done()
		err = commit.Err()
	}
	if err == nil {
		t.Error("acknowledged what was not synced")
	}
	panics(1, "sync")
	broken.Store("")
	s.append(s.r.Get("t", 2), "y")
	broken.Store("remove /d/t-")
	if _, err := s.c.DeleteTopics(t.Context(), []prim.UUID{s.c.Image().Topic("t").ID}); err != nil {
		t.Fatal(err)
	}
	for logs.FilterMessage("panic").Len() == 0 {
		runtime.Gosched()
	}
	panics(1, "remove")
	broken.Store("")
	s.append(f, "y")
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
