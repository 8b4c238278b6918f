package vfs

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// chunkSize is the unit in which memory files grow. A file's only chunk starts
// smaller and doubles, so that small files cost little.
const (
	chunkSize = 64 << 10
	minChunk  = 512
)

// inode is the content of a file. Growing never copies but the first chunk.
//
// What a crash would leave is kept as a difference: undo holds, for chunks
// below synced that changed since the last Sync, what they held then.
type inode struct {
	fs *Mem

	mu     sync.RWMutex
	chunks [][]byte
	size   int64
	synced int64 // size at the last Sync
	undo   map[int][]byte
	mtime  time.Time
	links  int  // directory entries; guarded by fs.mu
	opens  int  // open files; guarded by fs.mu
	freed  bool // guarded by fs.mu
}

func (n *inode) readAt(p []byte, off int64) (int, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= n.size {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), n.size-off)]
	done := 0
	for done < len(p) {
		at := off + int64(done)
		done += copy(p[done:], n.chunks[at/chunkSize][at%chunkSize:])
	}
	if done < want {
		return done, io.EOF
	}
	return done, nil
}

func (n *inode) writeAt(p []byte, off int64) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if off < 0 {
		return 0, syscall.EINVAL
	}
	if len(p) == 0 {
		return 0, nil
	}
	end := off + int64(len(p))
	var full error
	if end > n.size {
		if end, full = n.grow(end); end < off {
			return 0, full
		}
	}
	n.mtime = n.fs.now()
	p = p[:end-off]
	done := 0
	for done < len(p) {
		at := off + int64(done)
		c := n.writable(int(at / chunkSize))
		done += copy(c[at%chunkSize:], p[done:])
	}
	return done, full
}

// grow makes the file reach size, zeros between, and returns the size that it
// reached, which is less if the file system is full.
func (n *inode) grow(size int64) (int64, error) {
	last := int((size - 1) / chunkSize)
	for len(n.chunks) <= last {
		need := int64(chunkSize)
		if len(n.chunks) == 0 && size < chunkSize {
			need = minChunk
			for need < size {
				need *= 2
			}
		}
		if !n.widenFirst(chunkSize, len(n.chunks) == 1) || !n.fs.take(need) {
			return n.full()
		}
		n.chunks = append(n.chunks, make([]byte, need))
	}
	if last == 0 && size > int64(len(n.chunks[0])) {
		need := int64(len(n.chunks[0]))
		for need < size {
			need *= 2
		}
		if !n.widenFirst(need, true) {
			return n.full()
		}
	}
	n.zero(n.size, size)
	n.size = size
	return size, nil
}

// widenFirst gives a small first chunk size bytes.
func (n *inode) widenFirst(size int64, asked bool) bool {
	if !asked || int64(len(n.chunks[0])) >= size {
		return true
	}
	if !n.fs.take(size - int64(len(n.chunks[0]))) {
		return false
	}
	c := make([]byte, size)
	copy(c, n.chunks[0])
	n.chunks[0] = c
	return true
}

func (n *inode) full() (int64, error) {
	var room int64
	for _, c := range n.chunks {
		room += int64(len(c))
	}
	if room > n.size {
		n.zero(n.size, room)
		n.size = room
	}
	return n.size, syscall.ENOSPC
}

// zero clears what an earlier, longer content left in [from, to).
func (n *inode) zero(from, to int64) {
	for from < to {
		i := int(from / chunkSize)
		c := n.chunks[i]
		stop := min(int64(len(c)), to-int64(i)*chunkSize)
		if from < n.synced {
			c = n.writable(i)
		}
		clear(c[from%chunkSize : stop])
		from = int64(i)*chunkSize + stop
	}
}

// writable returns chunk i for writing and keeps its synced content.
func (n *inode) writable(i int) []byte {
	n.keep(i)
	return n.chunks[i]
}

func (n *inode) keep(i int) {
	if int64(i)*chunkSize >= n.synced {
		return
	}
	if _, kept := n.undo[i]; kept {
		return
	}
	if n.undo == nil {
		n.undo = make(map[int][]byte)
	}
	n.undo[i] = append([]byte(nil), n.chunks[i][:min(int64(len(n.chunks[i])), n.synced-int64(i)*chunkSize)]...)
}

func (n *inode) truncate(size int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case size < 0:
		return syscall.EINVAL
	case size > n.size:
		n.mtime = n.fs.now()
		_, err := n.grow(size)
		return err
	}
	keep := int((size + chunkSize - 1) / chunkSize)
	for i := int(size / chunkSize); i < len(n.chunks); i++ {
		n.keep(i)
	}
	for i := keep; i < len(n.chunks); i++ {
		n.fs.give(int64(len(n.chunks[i])))
		n.chunks[i] = nil
	}
	n.chunks = n.chunks[:min(keep, len(n.chunks))]
	n.size, n.mtime = size, n.fs.now()
	return nil
}

func (n *inode) sync() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.synced, n.undo = n.size, nil
}

func (n *inode) length() int64 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.size
}

func (n *inode) modified() time.Time {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.mtime
}

// free stops counting the memory once nothing refers to the inode. Content that
// was synced stays for crash clones while a directory that was not synced still
// knows it. The caller holds fs.mu.
func (n *inode) free() {
	if n.links > 0 || n.opens > 0 || n.freed {
		return
	}
	n.freed = true
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.chunks {
		n.fs.give(int64(len(c)))
	}
	if n.synced == 0 {
		n.chunks, n.size = nil, 0
	}
}

// bytes returns a copy of the content, current and synced.
func (n *inode) bytes() (now, synced []byte) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	now = make([]byte, n.size)
	for i, at := 0, 0; at < len(now); i++ {
		at += copy(now[at:], n.chunks[i])
	}
	synced = make([]byte, n.synced)
	for i := 0; i*chunkSize < len(synced); i++ {
		c, kept := n.undo[i]
		if !kept {
			c = n.chunks[i]
		}
		copy(synced[i*chunkSize:min(len(synced), (i+1)*chunkSize)], c)
	}
	return now, synced
}

// memFile is an open file.
type memFile struct {
	n        *inode
	mu       sync.RWMutex
	closed   bool
	readOnly bool
}

func (f *memFile) check(write bool) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return os.ErrClosed
	}
	if write && f.readOnly {
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.check(false); err != nil {
		return 0, err
	}
	return f.n.readAt(p, off)
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.check(true); err != nil {
		return 0, err
	}
	return f.n.writeAt(p, off)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.check(true); err != nil {
		return err
	}
	return f.n.truncate(size)
}

func (f *memFile) Sync() error {
	if err := f.check(false); err != nil {
		return err
	}
	f.n.sync()
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.check(false); err != nil {
		return 0, err
	}
	return f.n.length(), nil
}

func (f *memFile) OSFile() (*os.File, func()) { return nil, func() {} }

func (f *memFile) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	m := f.n.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	f.n.opens--
	f.n.free()
	return nil
}
