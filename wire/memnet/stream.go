package memnet

import (
	"io"
	"math"
	"math/bits"
	"sync"
	"syscall"
	"time"
)

// stream is one direction of a connection: a ring of bytes between a writer and
// a reader. The pair's mutex guards it.
//
// Bytes are counted from the start of the stream: [read, written) is in the
// ring, and the reader gets those below due().
type stream struct {
	ring     []byte // its length is zero or a power of two
	limit    int    // bytes held before the writer waits
	read     uint64
	written  uint64
	readable sync.Cond
	writable sync.Cond
	readEnd  deadline
	writeEnd deadline

	fin        bool // the writer has ended the stream
	rst        bool // the end is a reset, seen after the bytes before it
	broken     bool // reset for both sides, seen through any block
	readerGone bool // the reader has closed
	writing    bool // a Write is under way

	link    linkState
	frozen  bool   // half-open: nothing passes any more
	seen    uint64 // while held: the bytes below had arrived before
	breakAt uint64 // the stream breaks when this many bytes were written
	marks   []mark // what is still on its way, in order
	arrival *time.Timer
}

// mark says that what was written from a count on, up to the next mark,
// arrives at a time.
type mark struct {
	from uint64
	at   time.Time
}

func (s *stream) init(mu *sync.Mutex, limit int) {
	s.limit = limit
	s.breakAt = math.MaxUint64
	s.readable.L, s.writable.L = mu, mu
}

func (s *stream) len() int { return int(s.written - s.read) }

// held reports whether nothing passes now.
func (s *stream) held() bool { return s.frozen || s.link.blocked }

// due returns the count of bytes that have arrived.
func (s *stream) due() uint64 {
	if s.held() {
		return s.seen
	}
	if len(s.marks) == 0 {
		return s.written
	}
	now := time.Now()
	for len(s.marks) > 0 && !s.marks[0].at.After(now) {
		s.marks = s.marks[1:]
	}
	if len(s.marks) == 0 {
		s.marks = nil
		return s.written
	}
	return s.marks[0].from
}

// take copies arrived bytes to b.
func (s *stream) take(b []byte) int {
	n := min(len(b), int(s.due()-s.read))
	if n <= 0 {
		return 0
	}
	at := int(s.read) & (len(s.ring) - 1)
	m := copy(b[:n], s.ring[at:])
	copy(b[m:n], s.ring)
	s.read += uint64(n)
	s.writable.Broadcast()
	return n
}

// ended returns io.EOF or an error if nothing more will arrive.
func (s *stream) ended() error {
	switch {
	case s.broken:
		return syscall.ECONNRESET
	case !s.fin || s.held() || s.due() > s.read || len(s.marks) > 0:
		return nil
	case s.rst:
		return syscall.ECONNRESET
	}
	return io.EOF
}

// wait waits on cond, at most until the next bytes arrive.
func (s *stream) wait(cond *sync.Cond) {
	if len(s.marks) > 0 && !s.held() {
		d := time.Until(s.marks[0].at)
		if s.arrival == nil {
			s.arrival = time.AfterFunc(d, func() {
				s.readable.L.Lock()
				s.readable.Broadcast()
				s.readable.L.Unlock()
			})
		} else {
			s.arrival.Reset(d)
		}
	}
	cond.Wait()
}

// put copies what fits of b into the ring. broke says that the stream reached
// the count at which it breaks.
func (s *stream) put(b []byte) (n int, broke bool) {
	n = min(len(b), s.limit-s.len())
	if left := s.breakAt - s.written; uint64(n) >= left {
		n, broke = int(left), true
	}
	if n <= 0 {
		return 0, broke
	}
	s.grow(s.len() + n)
	s.mark()
	at := int(s.written) & (len(s.ring) - 1)
	m := copy(s.ring[at:], b[:n])
	copy(s.ring, b[m:n])
	s.written += uint64(n)
	s.readable.Broadcast()
	return n, broke
}

// mark notes when what is written next arrives. It never overtakes what was
// written before.
func (s *stream) mark() {
	if s.link.latency <= 0 && len(s.marks) == 0 {
		return
	}
	at := time.Now().Add(s.link.latency)
	if k := len(s.marks); k > 0 && !at.After(s.marks[k-1].at) {
		return // arrives with the last one
	}
	s.marks = append(s.marks, mark{s.written, at})
}

// grow makes the ring hold need bytes.
func (s *stream) grow(need int) {
	if need <= len(s.ring) {
		return
	}
	ring := make([]byte, max(4096, 1<<bits.Len(uint(need-1))))
	for i := s.read; i < s.written; {
		from := s.ring[int(i)&(len(s.ring)-1):]
		from = from[:min(len(from), int(s.written-i))]
		to := ring[int(i)&(len(ring)-1):]
		i += uint64(copy(to, from))
	}
	s.ring = ring
}

// finish ends the stream after what was written.
func (s *stream) finish(rst bool) {
	if !s.fin {
		s.fin = true
		s.mark()
	}
	s.rst = s.rst || rst
	s.wake()
}

// drop forgets what the reader has not read.
func (s *stream) drop() {
	s.read, s.marks = s.written, nil
	s.seen = max(s.seen, s.read)
}

// free releases memory and timers; both ends have closed.
func (s *stream) free() {
	s.drop()
	s.ring = nil
	s.readEnd.stop()
	s.writeEnd.stop()
	if s.arrival != nil {
		s.arrival.Stop()
	}
}

// breakOff resets the stream; lose drops what has arrived, too.
func (s *stream) breakOff(lose bool) {
	s.broken, s.fin, s.rst = true, true, true
	if lose {
		s.drop()
	}
	s.wake()
}

// freeze lets nothing pass any more.
func (s *stream) freeze() {
	s.seen = s.due()
	s.frozen = true
}

// apply brings the stream in line with the faults of its direction.
func (s *stream) apply(l linkState) {
	if l.blocked && !s.held() {
		s.seen = s.due()
	}
	if l.breakAfter != s.link.breakAfter {
		s.breakAt = math.MaxUint64
		if l.breakAfter > 0 {
			s.breakAt = s.written + uint64(l.breakAfter)
		}
	}
	s.link = l
	s.wake()
}

func (s *stream) wake() {
	s.readable.Broadcast()
	s.writable.Broadcast()
}
