package replication_test

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
)

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
