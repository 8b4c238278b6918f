package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// counting counts the open files of a file system.
type counting struct {
	FS
	open, most atomic.Int64
	limit      int64 // beyond it, there are no descriptors; 0 none
}

type countedFile struct {
	File
	c *counting
}

func (c *counting) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if c.limit > 0 && c.open.Load() >= c.limit {
		return nil, pathError("open", name, syscall.EMFILE)
	}
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	n := c.open.Add(1)
	c.most.Store(max(c.most.Load(), n))
	return countedFile{f, c}, nil
}

func (f countedFile) Close() error {
	f.c.open.Add(-1)
	return f.File.Close()
}

// Many handles over few descriptors behave like as many files, whatever is
// renamed, replaced and removed under them.
func TestBoundedIsLikeOpenFiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	inner := &counting{FS: NewMem()}
	fs := Bounded(inner, 5)
	check(t, fs.MkdirAll("/d/a", 0o755))
	type handle struct {
		f    File
		name string // "" once it is removed or replaced
		want []byte
	}
	var all []*handle
	gone := 0
	dir, names := "/d/a", 0
	for step := range 20_000 {
		var h *handle
		if len(all) > 0 {
			h = all[r.IntN(len(all))]
		}
		switch op := r.IntN(100); {
		case h == nil || op < 6 && len(all) < 40:
			names++
			name := fmt.Sprintf("f%d", names)
			f, err := fs.Create(dir + "/" + name)
			check(t, err)
			all = append(all, &handle{f: f, name: name})
		case op < 40:
			off, data := r.IntN(len(h.want)+1), bytes.Repeat([]byte{byte(step)}, 1+r.IntN(200))
			_, err := h.f.WriteAt(data, int64(off))
			check(t, err)
			if need := off + len(data); need > len(h.want) {
				h.want = append(h.want, make([]byte, need-len(h.want))...)
			}
			copy(h.want[off:], data)
		case op < 80:
			got := make([]byte, len(h.want)+1)
			n, err := h.f.ReadAt(got, 0)
			if err != io.EOF || !bytes.Equal(got[:n], h.want) {
				t.Fatalf("step %d: %s: %d bytes, want %d: %v", step, h.name, n, len(h.want), err)
			}
		case op < 84:
			check(t, h.f.Sync())
		case op < 86:
			n := r.IntN(len(h.want) + 1)
			check(t, h.f.Truncate(int64(n)))
			h.want = h.want[:n]
		case op < 89 && h.name != "":
			names++
			to := fmt.Sprintf("f%d", names)
			check(t, fs.Rename(dir+"/"+h.name, dir+"/"+to))
			h.name = to
		case op < 91 && h.name != "":
			check(t, fs.Remove(dir+"/"+h.name))
			h.name = ""
			gone++
		case op < 93 && h.name != "":
			check(t, WriteFileAtomic(fs, dir+"/"+h.name, []byte("new")))
			h.name = ""
			gone++
		case op < 94:
			to := fmt.Sprintf("/d/dir%d", step)
			check(t, fs.Rename(dir, to))
			dir = to
		default:
			check(t, h.f.Close())
			if _, err := h.f.ReadAt(nil, 0); !errors.Is(err, os.ErrClosed) {
				t.Fatalf("read of a closed file: %v", err)
			}
			if h.name == "" {
				gone--
			}
			for i := range all {
				if all[i] == h {
					all = append(all[:i], all[i+1:]...)
					break
				}
			}
		}
		if n := inner.open.Load(); n > int64(6+gone) {
			t.Fatalf("step %d: %d files are open, %d of them removed", step, n, gone)
		}
	}
	for _, h := range all {
		check(t, h.f.Close())
	}
	if n := inner.open.Load(); n != 0 {
		t.Errorf("%d files are left open", n)
	}
}

func TestBoundedMakesRoomWhenDescriptorsRunOut(t *testing.T) {
	inner := &counting{FS: NewMem(), limit: 10}
	fs := Bounded(inner, 100)
	for i := range 50 {
		f, err := fs.Create(fmt.Sprint("/f", i))
		check(t, err)
		_, err = f.WriteAt([]byte("x"), 0)
		check(t, err)
	}
}

// A failed sync before a descriptor is closed for room is told to the next user
// of the file, for ever.
func TestBoundedTellsOfErrorsBehindOnesBack(t *testing.T) {
	broken := false
	fs := Bounded(Inject(NewMem(), func(op Op, name string) error {
		if broken && op == OpSync && name == "/first" {
			return syscall.EIO
		}
		return nil
	}), 4)
	first, err := fs.Create("/first")
	check(t, err)
	_, err = first.WriteAt([]byte("x"), 0)
	check(t, err)
	broken = true
	for i := range 20 {
		f, err := fs.Create(fmt.Sprint("/f", i))
		check(t, err)
		_, err = f.WriteAt([]byte("x"), 0)
		check(t, err)
	}
	broken = false
	for range 2 {
		if err := first.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync after the error: %v", err)
		}
	}
	if _, err := first.WriteAt([]byte("y"), 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("write after the error: %v", err)
	}
}

func TestBoundedUnderConcurrency(t *testing.T) {
	fs := Bounded(OS(), 4)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			name := fmt.Sprintf("%s/%d", dir, g)
			f, err := fs.Create(name)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 300 {
				want := fmt.Sprint(g, " ", i)
				if _, err := f.WriteAt([]byte(want), 0); err != nil {
					t.Error(err)
				}
				got := make([]byte, len(want))
				if _, err := f.ReadAt(got, 0); err != nil || string(got) != want {
					t.Errorf("%q, want %q: %v", got, want, err)
				}
				if i%50 == 0 {
					if err := fs.Rename(name, name+"x"); err != nil {
						t.Error(err)
					}
					name += "x"
				}
				held, release := f.OSFile()
				if _, err := held.ReadAt(got, 0); err != nil {
					t.Error(err)
				}
				release()
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A search for a descriptor to close takes few steps, also where every file has
// unsynced writes, and closing and removing files of a large directory few more.
func TestBoundedSearchIsShort(t *testing.T) {
	const limit, files = 500, 5000
	for _, dirty := range []bool{false, true} {
		fs := Bounded(NewMem(), limit).(*bounded)
		check(t, fs.MkdirAll("/d", 0o755))
		var all []File
		for i := range files {
			f, err := fs.Create(fmt.Sprint("/d/", i))
			check(t, err)
			all = append(all, f)
			if dirty {
				_, err = f.WriteAt([]byte("x"), 0)
				check(t, err)
			}
		}
		if steps := fs.clean.steps + fs.dirty.steps; steps > 4*files {
			t.Errorf("dirty %v: %d steps to close %d descriptors", dirty, steps, files-limit)
		}
		for i, f := range all {
			check(t, f.Close())
			check(t, fs.Remove(fmt.Sprint("/d/", i)))
		}
		if len(fs.dirs)+len(fs.names)+fs.open() != 0 {
			t.Errorf("dirty %v: left are %d directories, %d names, %d descriptors", dirty, len(fs.dirs), len(fs.names), fs.open())
		}
	}
}
