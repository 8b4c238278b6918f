package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Mem is a file system in memory. Make one with NewMem. It blocks on nothing but
// mutexes, so that it works inside a synctest bubble.
type Mem struct {
	capacity atomic.Int64 // bytes, 0 without limit
	used     atomic.Int64
	clock    atomic.Pointer[func() time.Time] // nil means time.Now

	mu    sync.Mutex // guards the tree
	root  *memDir
	locks map[string]bool
}

// memDir is a directory. undo holds, for each entry that changed since the last
// SyncDir, what it was then: nil for absent.
type memDir struct {
	entries map[string]any // *memDir or *inode
	undo    map[string]any
}

func newDir() *memDir { return &memDir{entries: make(map[string]any)} }

func (d *memDir) set(name string, node any) {
	if _, kept := d.undo[name]; !kept {
		if d.undo == nil {
			d.undo = make(map[string]any)
		}
		d.undo[name] = d.entries[name]
	}
	if node == nil {
		delete(d.entries, name)
		return
	}
	d.entries[name] = node
}

// NewMem returns an empty file system.
func NewMem() *Mem { return &Mem{root: newDir(), locks: make(map[string]bool)} }

// SetCapacity bounds the bytes that files may take; beyond, writes are short and
// return ENOSPC. 0 removes the bound.
func (m *Mem) SetCapacity(n int64) { m.capacity.Store(n) }

// Used returns the number of bytes that files take.
func (m *Mem) Used() int64 { return m.used.Load() }

// SetNow makes now the source of the times at which files are modified; it must
// not block. Without it, that is time.Now.
func (m *Mem) SetNow(now func() time.Time) { m.clock.Store(&now) }

func (m *Mem) now() time.Time {
	if now := m.clock.Load(); now != nil {
		return (*now)()
	}
	return time.Now()
}

func (m *Mem) take(n int64) bool {
	if c := m.capacity.Load(); m.used.Add(n) > c && c > 0 {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *Mem) give(n int64) { m.used.Add(-n) }

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// dir finds a directory. The caller holds m.mu.
func (m *Mem) dir(name string) *memDir {
	d := m.root
	for rest := clean(name); rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		next, ok := d.entries[part].(*memDir)
		if !ok {
			return nil
		}
		d = next
	}
	return d
}

// find returns the directory that name is in, its last part and what is there.
func (m *Mem) find(name string) (d *memDir, base string, node any) {
	name = clean(name)
	if name == "" {
		return nil, "", m.root
	}
	d, base = m.dir(path.Dir(name)), path.Base(name)
	if d != nil {
		node = d.entries[base]
	}
	return d, base, node
}

func (m *Mem) Create(name string) (File, error) {
	return m.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
}

func (m *Mem) Open(name string) (File, error) { return m.OpenFile(name, os.O_RDONLY, 0) }

func (m *Mem) OpenFile(name string, flag int, _ os.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, node := m.find(name)
	n, isFile := node.(*inode)
	switch {
	case node != nil && !isFile:
		return nil, pathError("open", name, syscall.EISDIR)
	case node == nil && (d == nil || flag&os.O_CREATE == 0):
		return nil, pathError("open", name, fs.ErrNotExist)
	case node != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, pathError("open", name, fs.ErrExist)
	case node == nil:
		n = &inode{fs: m, links: 1, mtime: m.now()}
		d.set(base, n)
	case flag&os.O_TRUNC != 0:
		if err := n.truncate(0); err != nil {
			return nil, pathError("truncate", name, err)
		}
	}
	n.opens++
	return &memFile{n: n, readOnly: flag&(os.O_WRONLY|os.O_RDWR) == 0}, nil
}

func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, node := m.find(name)
	if d == nil || node == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if sub, ok := node.(*memDir); ok && len(sub.entries) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	d.set(base, nil)
	m.unlink(node)
	return nil
}

func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, node := m.find(name)
	if d == nil || node == nil {
		return nil
	}
	d.set(base, nil)
	m.unlink(node)
	return nil
}

// unlink counts the entries of node, and of all below it, down.
func (m *Mem) unlink(node any) {
	switch node := node.(type) {
	case *inode:
		node.links--
		node.free()
	case *memDir:
		for _, sub := range node.entries {
			m.unlink(sub)
		}
	}
}

func (m *Mem) Rename(old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, fromBase, node := m.find(old)
	to, toBase, there := m.find(new)
	switch {
	case from == nil || node == nil:
		return pathError("rename", old, fs.ErrNotExist)
	case there == nil && strings.HasPrefix(clean(new), clean(old)+"/"):
		return pathError("rename", new, syscall.EINVAL)
	case to == nil:
		return pathError("rename", new, fs.ErrNotExist)
	}
	target, _ := there.(*memDir)
	_, moveDir := node.(*memDir)
	switch {
	case target != nil:
		return pathError("rename", new, fs.ErrExist)
	case there == node:
		return nil
	case there != nil && moveDir:
		return pathError("rename", new, syscall.ENOTDIR)
	case there != nil:
		m.unlink(there)
	}
	from.set(fromBase, nil)
	to.set(toBase, node)
	return nil
}

func (m *Mem) MkdirAll(dir string, _ os.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.root
	for rest := clean(dir); rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch next := d.entries[part].(type) {
		case *memDir:
			d = next
		case nil:
			sub := newDir()
			d.set(part, sub)
			d = sub
		default:
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
	}
	return nil
}

func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dir(dir)
	if d == nil {
		return nil, pathError("open", dir, fs.ErrNotExist)
	}
	names := make([]string, 0, len(d.entries))
	for n := range d.entries {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

func (m *Mem) Stat(name string) (os.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, base, node := m.find(name)
	switch node := node.(type) {
	case *inode:
		return memInfo{name: base, size: node.length(), modified: node.modified()}, nil
	case *memDir:
		return memInfo{name: base, dir: true}, nil
	}
	return nil, pathError("stat", name, fs.ErrNotExist)
}

func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dir(dir)
	if d == nil {
		return pathError("sync", dir, fs.ErrNotExist)
	}
	d.undo = nil
	return nil
}

func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	d, base, node := m.find(name)
	if d == nil {
		return nil, pathError("lock", name, fs.ErrNotExist)
	}
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	if node == nil {
		d.set(base, &inode{fs: m, links: 1, mtime: m.now()})
	}
	m.locks[name] = true
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.name)
	})
	return nil
}

type memInfo struct {
	name     string
	size     int64
	dir      bool
	modified time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) ModTime() time.Time { return i.modified }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() os.FileMode {
	if i.dir {
		return os.ModeDir | 0o755
	}
	return 0o644
}
