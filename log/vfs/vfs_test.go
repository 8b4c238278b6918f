package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

func content(t *testing.T, fs FS, name string) []byte {
	t.Helper()
	b, err := ReadFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The memory file system does what the operating system does, over random
// operations.
func TestMemIsLikeTheOS(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	type place struct {
		fs   FS
		root string
	}
	places := []place{{NewMem(), "/m"}, {OS(), t.TempDir()}}
	check(t, places[0].fs.MkdirAll("/m", 0o755))
	names := []string{"a", "b", "d/c", "d/e", "d"}
	for step := range 3000 {
		name, other := names[r.IntN(len(names))], names[r.IntN(len(names))]
		op, off, size := r.IntN(10), r.Int64N(150_000), r.IntN(80_000)
		if r.IntN(2) == 0 {
			off, size = off%2000, size%2000
		}
		data := bytes.Repeat([]byte{byte(step)}, size)
		var results [2]string
		for i, p := range places {
			results[i] = step1(p.fs, op, path.Join(p.root, name), path.Join(p.root, other), off, data)
		}
		if results[0] != results[1] {
			t.Fatalf("step %d, op %d on %s, %s at %d, %d bytes: memory %s, os %s", step, op, name, other, off, size, results[0], results[1])
		}
	}
}

func step1(f FS, op int, name, other string, off int64, data []byte) string {
	outcome := func(err error) string {
		switch {
		case err == nil, errors.Is(err, io.EOF):
			return fmt.Sprint(err)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return "absent"
		}
		return "error"
	}
	switch op {
	case 0:
		return outcome(f.Remove(name))
	case 1:
		return fmt.Sprint(f.Rename(name, other) == nil) // which error depends on the kernel
	case 2:
		if path.Base(name) != "d" {
			return "skip"
		}
		return outcome(f.MkdirAll(name, 0o755))
	case 3:
		names, err := f.List(name)
		if err != nil {
			return "no list"
		}
		return fmt.Sprint(names)
	case 4:
		file, err := f.Create(name)
		if err != nil {
			return outcome(err)
		}
		return outcome(file.Close())
	}
	const readWrite, create = 2, 0x40
	file, err := f.OpenFile(name, readWrite|create, 0o644)
	if err != nil {
		return outcome(err)
	}
	defer file.Close()
	n := 0
	switch op {
	case 5, 6:
		n, err = file.WriteAt(data, off)
	case 7:
		err = file.Truncate(off)
	case 8:
		n, err = file.ReadAt(data, off)
		return fmt.Sprint(n, outcome(err), bytes.Equal(data, data), string(data[:min(n, 50)]))
	}
	b, _ := ReadFile(f, name)
	return fmt.Sprintf("%d %s %d %x", n, outcome(err), len(b), sum(b))
}

func sum(b []byte) (h uint64) {
	for _, c := range b {
		h = h*31 + uint64(c)
	}
	return h
}

func TestCrashKeepsOnlyWhatWasSynced(t *testing.T) {
	m := NewMem()
	check(t, m.MkdirAll("d", 0o755))
	check(t, m.SyncDir("/"))
	f, err := m.Create("d/f")
	check(t, err)
	old := bytes.Repeat([]byte("old."), 50_000)
	_, err = f.WriteAt(old, 0)
	check(t, err)
	check(t, f.Sync())
	if names, _ := m.CrashClone(CrashPolicy{}).List("d"); len(names) != 0 {
		t.Errorf("directory not synced, but has %v", names)
	}
	check(t, m.SyncDir("d"))
	_, err = f.WriteAt([]byte("NEW"), 10)
	check(t, err)
	_, err = f.WriteAt([]byte("tail"), int64(len(old)))
	check(t, err)
	c := m.CrashClone(CrashPolicy{})
	if got := content(t, c, "d/f"); !bytes.Equal(got, old) {
		t.Errorf("after a crash: %d bytes, want the %d synced", len(got), len(old))
	}
	if got := content(t, m.CrashClone(CrashPolicy{KeepData: true}), "d/f"); !bytes.Equal(got, content(t, m, "d/f")) {
		t.Error("after the death of the process: content differs")
	}
	check(t, f.Truncate(5))
	if got := content(t, m.CrashClone(CrashPolicy{}), "d/f"); !bytes.Equal(got, old) {
		t.Errorf("truncation not synced: %d bytes, want %d", len(got), len(old))
	}
	check(t, f.Sync())
	if got := content(t, m.CrashClone(CrashPolicy{}), "d/f"); string(got) != "old.o" {
		t.Errorf("truncation synced: %q", got)
	}
	check(t, m.Rename("d/f", "d/g"))
	if names, _ := m.CrashClone(CrashPolicy{}).List("d"); !slices.Equal(names, []string{"f"}) {
		t.Errorf("rename not synced: %v", names)
	}
	check(t, m.SyncDir("d"))
	check(t, m.Remove("d/g"))
	check(t, f.Close())
	if got := content(t, m.CrashClone(CrashPolicy{}), "d/g"); string(got) != "old.o" {
		t.Errorf("removal not synced: %q", got)
	}
	if names, _ := m.CrashClone(CrashPolicy{KeepEntries: true}).List("d"); len(names) != 0 {
		t.Errorf("removal kept: %v", names)
	}
	// The old clone is a file system of its own.
	if got := content(t, c, "d/f"); !bytes.Equal(got, old) {
		t.Error("an earlier clone changed")
	}
}

func TestTornWriteMixesSectors(t *testing.T) {
	m := NewMem()
	f, err := m.Create("f")
	check(t, err)
	check(t, m.SyncDir("/"))
	_, err = f.WriteAt(bytes.Repeat([]byte("a"), 2048), 0)
	check(t, err)
	check(t, f.Sync())
	_, err = f.WriteAt(bytes.Repeat([]byte("b"), 4096), 0)
	check(t, err)
	sizes, mixed := map[int]bool{}, false
	for seed := range uint64(50) {
		got := content(t, m.CrashClone(CrashPolicy{Torn: rand.New(rand.NewPCG(seed, 0))}), "f")
		sizes[len(got)] = true
		mixed = mixed || bytes.Contains(got, []byte("ab")) || bytes.Contains(got, []byte("ba"))
		if len(got) < 2048 || len(got) > 4096 {
			t.Errorf("%d bytes", len(got))
		}
	}
	if len(sizes) < 3 || !mixed {
		t.Errorf("sizes %v, mixed %t", sizes, mixed)
	}
}

func TestFullFileSystemWritesShort(t *testing.T) {
	m := NewMem()
	m.SetCapacity(2 * chunkSize)
	f, err := m.Create("f")
	check(t, err)
	n, err := f.WriteAt(make([]byte, 3*chunkSize), 0)
	if n != 2*chunkSize || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if size, _ := f.Size(); size != 2*chunkSize {
		t.Errorf("size %d", size)
	}
	check(t, m.Remove("f"))
	if m.Used() == 0 {
		t.Error("memory of an open file is free already")
	}
	check(t, f.Close())
	if m.Used() != 0 {
		t.Errorf("%d bytes in use after removal", m.Used())
	}
}

func TestLockIsExclusive(t *testing.T) {
	for name, f := range map[string]FS{"memory": NewMem(), "os": OS()} {
		file := ".lock"
		if name == "os" {
			file = path.Join(t.TempDir(), file)
		}
		l, err := f.Lock(file)
		check(t, err)
		if _, err := f.Lock(file); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: second lock: %v", name, err)
		}
		check(t, l.Close())
		l, err = f.Lock(file)
		check(t, err)
		check(t, l.Close())
	}
}

// WriteFileAtomic leaves the old or the new content, whatever fails and wherever
// the crash comes.
func TestWriteFileAtomic(t *testing.T) {
	for failAt := 0; ; failAt++ {
		m := NewMem()
		check(t, WriteFileAtomic(m, "f", []byte("old")))
		n := 0
		var clones []*Mem
		boom := errors.New("boom")
		fsys := Inject(m, func(Op, string) error {
			clones = append(clones, m.CrashClone(CrashPolicy{}), m.CrashClone(CrashPolicy{KeepEntries: true}), m.CrashClone(CrashPolicy{KeepData: true}))
			if n++; n-1 == failAt {
				return boom
			}
			return nil
		})
		err := WriteFileAtomic(fsys, "f", []byte("newer"))
		for i, c := range append(clones, m) {
			if got := string(content(t, c, "f")); got != "old" && got != "newer" {
				t.Errorf("failure at %d, clone %d: %q", failAt, i, got)
			}
		}
		if err == nil {
			if got := string(content(t, m.CrashClone(CrashPolicy{}), "f")); got != "newer" || failAt < 5 {
				t.Errorf("after success: %q, %d operations", got, failAt)
			}
			return
		}
		if !errors.Is(err, boom) {
			t.Fatalf("failure at %d: %v", failAt, err)
		}
	}
}

func TestInjectedShortWrite(t *testing.T) {
	m := NewMem()
	f, err := Inject(m, func(op Op, name string) error {
		if op == OpWrite {
			return &ShortWrite{3, syscall.EIO}
		}
		return nil
	}).Create("f")
	check(t, err)
	if n, err := f.WriteAt([]byte("abcdef"), 0); n != 3 || !errors.Is(err, syscall.EIO) {
		t.Errorf("%d, %v", n, err)
	}
	if got := content(t, m, "f"); string(got) != "abc" {
		t.Errorf("%q", got)
	}
}

func TestMemInABubbleWithConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMem()
		f, err := m.Create("f")
		check(t, err)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				b := bytes.Repeat([]byte{byte(g)}, 1000)
				for i := range 100 {
					f.WriteAt(b, int64(g*100_000+i*1000))
					f.ReadAt(b[:10], int64(g*100_000))
					m.CrashClone(CrashPolicy{KeepData: true})
				}
			})
		}
		wg.Wait()
		got := content(t, m, "f")
		for g := range 4 {
			if !bytes.Equal(got[g*100_000:(g+1)*100_000], bytes.Repeat([]byte{byte(g)}, 100_000)) {
				t.Errorf("goroutine %d's bytes differ", g)
			}
		}
	})
}

func BenchmarkMemAppend(b *testing.B) {
	m := NewMem()
	f, err := m.Create("f")
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 16<<10)
	b.SetBytes(int64(len(p)))
	for i := 0; b.Loop(); i++ {
		if i%10_000 == 0 {
			f.Truncate(0)
		}
		f.WriteAt(p, int64(i%10_000)*int64(len(p)))
	}
}

func TestSyncer(t *testing.T) {
	m := NewMem()
	fs := Bounded(Inject(m, func(Op, string) error { return nil }), 4)
	check(t, fs.MkdirAll("/a/b", 0o755))
	f, err := fs.Create("/a/b/file")
	check(t, err)
	_, err = f.WriteAt([]byte("kept"), 0)
	check(t, err)
	syncer, err := NewSyncer(fs, "/a")
	check(t, err)
	if _, err := m.CrashClone(CrashPolicy{}).Stat("/a"); err == nil {
		t.Error("kept though nothing was synced")
	}
	check(t, syncer.Sync())
	if got := content(t, m.CrashClone(CrashPolicy{}), "/a/b/file"); string(got) != "kept" {
		t.Errorf("%q after a power cut", got)
	}
	bad := errors.New("bad")
	syncer, err = NewSyncer(Bounded(Inject(m, func(op Op, name string) error {
		if op == OpSync && name == "/a" {
			return bad
		}
		return nil
	}), 4), "/a")
	check(t, err)
	if err := syncer.Sync(); !errors.Is(err, bad) {
		t.Errorf("%v, want the injected error", err)
	}
	real, err := NewSyncer(OS(), t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		return
	}
	check(t, err)
	check(t, real.Sync())
	check(t, real.Close())
}

// What a Syncer has synced needs no sync of its own when its descriptor is closed
// to make room; what was written since, or if the Syncer failed, does.
func TestSyncerSparesBoundedFiles(t *testing.T) {
	var failing atomic.Bool
	var alone atomic.Int64
	m := NewMem()
	fs := Bounded(Inject(m, func(op Op, name string) error {
		switch {
		case op != OpSync:
		case name != "/":
			alone.Add(1)
		case failing.Load():
			return syscall.EIO
		}
		return nil
	}), 4)
	syncer, err := NewSyncer(fs, "/")
	check(t, err)
	var files []File
	write := func(i int) {
		_, err := files[i].WriteAt([]byte("x"), 0)
		check(t, err)
	}
	for i := range 4 {
		f, err := fs.Create(fmt.Sprint("/", i))
		check(t, err)
		files = append(files, f)
		write(i)
	}
	makeRoom := func() {
		for i := range 8 {
			f, err := fs.Open(fmt.Sprint("/", i%4))
			check(t, err)
			_, err = f.Size()
			check(t, err)
			check(t, f.Close())
		}
		for i := range 8 {
			f, err := fs.Create(fmt.Sprint("/new", i))
			check(t, err)
			defer f.Close()
		}
	}
	check(t, syncer.Sync())
	makeRoom()
	if n := alone.Load(); n > 0 {
		t.Errorf("%d files were synced again", n)
	}
	for i := range files {
		write(i)
	}
	failing.Store(true)
	if err := syncer.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
	makeRoom()
	if n := alone.Load(); n == 0 {
		t.Error("what a failed sync left was closed without a sync")
	}
}

// A file system without Syncers has none behind wrappers either.
func TestNoSyncer(t *testing.T) {
	plain := struct{ FS }{NewMem()}
	if s, err := NewSyncer(Bounded(Inject(plain, func(Op, string) error { return nil }), 4), "/"); s != nil || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v", s, err)
	}
}

// Nothing is durable before Settle, and all that was asked for is afterwards, under the name
// that it has then. From then on a sync is one.
func TestDeferred(t *testing.T) {
	m := NewMem()
	syncs := make(map[string]int)
	d := NewDeferred(Inject(m, func(op Op, name string) error {
		if op == OpSync || op == OpSyncDir {
			syncs[name]++
		}
		return nil
	}))
	check(t, d.MkdirAll("a", 0o755))
	check(t, d.SyncDir(".")) // the entry of a
	check(t, WriteFileAtomic(d, "a/kept", []byte("one")))
	check(t, WriteFileAtomic(d, "a/kept", []byte("two")))
	check(t, WriteFileAtomic(d, "a/rebuilt", []byte("x")))
	check(t, WriteFileAtomic(d, "a/removed", []byte("x")))
	check(t, d.Remove("a/removed"))
	log, err := d.Create("a/log")
	check(t, err)
	_, err = log.WriteAt([]byte("entry"), 0)
	check(t, err)
	check(t, log.Sync())
	check(t, d.Rename("a", "b"))
	if err := d.SyncDir("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync of what is not there: %v", err)
	}
	if len(syncs) > 0 {
		t.Errorf("synced before Settle: %v", syncs)
	}
	check(t, d.Settle(func(name string) bool { return path.Base(name) == "rebuilt" }))
	want := map[string]int{".": 1, "b": 1, "b/kept": 1, "b/log": 1}
	if !maps.Equal(syncs, want) {
		t.Errorf("synced by Settle: %v, want %v", syncs, want)
	}
	_, err = log.WriteAt([]byte("!"), 5)
	check(t, err)
	check(t, log.Sync())
	check(t, WriteFileAtomic(d, "b/later", []byte("three")))
	c := m.CrashClone(CrashPolicy{})
	for name, want := range map[string]string{"b/kept": "two", "b/log": "entry!", "b/later": "three"} {
		if got := string(content(t, c, name)); got != want {
			t.Errorf("%s holds %q after a crash, want %q", name, got, want)
		}
	}
	check(t, log.Close())
}

// A sync that fails in Settle is its error.
func TestDeferredSettleFails(t *testing.T) {
	boom := errors.New("boom")
	for _, bad := range []Op{OpSync, OpSyncDir, OpOpen} {
		armed := false
		d := NewDeferred(Inject(NewMem(), func(op Op, name string) error {
			if armed && op == bad {
				return boom
			}
			return nil
		}))
		check(t, WriteFileAtomic(d, "f", []byte("x")))
		armed = true
		if err := d.Settle(func(string) bool { return false }); !errors.Is(err, boom) {
			t.Errorf("%s fails: %v", bad, err)
		}
	}
}
