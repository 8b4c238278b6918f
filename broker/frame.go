package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire"
)

// smallFrame is the size of the buffer that frames are read through. Frames that
// fit are handled in place; larger ones are read into a pooled buffer. While a
// connection waits for a request it has no buffer at all, where the system lets
// it wait without one.
const smallFrame = 16 << 10

// smallFrames are buffers of that size which no connection has.
var smallFrames = sync.Pool{New: func() any { return new([smallFrame]byte) }}

// stallLimit is how long a frame may stop arriving in its middle, so that a
// peer that sends a byte a minute cannot hold a buffer for ever.
const stallLimit = 30 * time.Second

// frames reads the frames of one connection.
type frames struct {
	conn     net.Conn
	pool     *buffers
	ctx      context.Context // of the connection
	memory   *memory
	taken    int // from memory, for the frame being handled
	socket   *socket
	buf      *[smallFrame]byte // bytes [start, end) are read and not handled; nil while there are none
	start    int
	end      int
	large    []byte // the frame being handled, if it did not fit buf
	stalled  bool   // a read deadline is set
	clientID string // of the last request; most requests repeat it

	mu     sync.Mutex // guards roused, and the read deadline that goes with it
	roused bool       // the reader was woken for no frame
}

func newFrames(ctx context.Context, conn net.Conn, pool *buffers, m *memory) *frames {
	return &frames{ctx: ctx, conn: conn, pool: pool, memory: m, socket: socketOf(conn)}
}

// errRoused means that the reader was woken while it waited for a frame.
var errRoused = errors.New("woken for no frame")

// rouse has the reader, if it waits for a frame, return with errRoused. If it is
// in the middle of one, it goes on. Anybody may call it.
func (f *frames) rouse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roused = true
	f.conn.SetReadDeadline(time.Unix(1, 0))
}

// wasRoused reports whether an error of reading is the work of rouse, and then
// takes its deadline away.
func (f *frames) wasRoused(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.roused {
		return false
	}
	f.roused, f.stalled = false, false
	f.conn.SetReadDeadline(time.Time{})
	return true
}

// await waits for the first bytes of a frame, without a buffer. It does nothing
// where some are there already, or where the system cannot wait so.
func (f *frames) await() error {
	if f.start < f.end || f.socket == nil {
		return nil
	}
	f.close()
	n, err := f.socket.receive(&f.buf)
	f.end = n
	if f.wasRoused(err) {
		return errRoused
	}
	return err
}

// next returns the next frame without its size. It is valid until the next
// call. io.EOF means that the peer closed the connection between two frames.
func (f *frames) next(limit int) ([]byte, error) {
	f.release()
	if err := f.fill(4); err != nil {
		if f.end == f.start && errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, io.EOF
		}
		return nil, err
	}
	size := int32(binary.BigEndian.Uint32(f.buf[f.start:]))
	if size < 0 || int(size) > limit {
		return nil, fmt.Errorf("%w: %d, limit %d", wire.ErrFrameSize, size, limit)
	}
	n := int(size)
	if err := f.memory.take(f.ctx, n); err != nil {
		return nil, err
	}
	f.taken = n
	if 4+n <= smallFrame {
		if err := f.fill(4 + n); err != nil {
			return nil, err
		}
		f.relax()
		frame := f.buf[f.start+4 : f.start+4+n : f.start+4+n]
		f.start += 4 + n
		return frame, nil
	}
	have := min(f.end-f.start-4, n)
	f.large = append(f.pool.get(n, ahead), f.buf[f.start+4:f.start+4+have]...)
	f.start += 4 + have
	for len(f.large) < n {
		f.grow(n)
		f.insist()
		at := len(f.large)
		got, err := f.conn.Read(f.large[at:min(n, cap(f.large))])
		f.large = f.large[:at+got]
		if f.wasRoused(err) {
			continue
		}
		if err != nil && len(f.large) < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	f.relax()
	return f.large, nil
}

// ahead is how much memory a frame may claim before its bytes have come. From
// there on it doubles with what has arrived.
const ahead = 1 << 20

// grow makes room in the large buffer for more of a frame of n bytes.
func (f *frames) grow(n int) {
	if len(f.large) < cap(f.large) {
		return
	}
	more := append(f.pool.get(n, 2*cap(f.large)), f.large...)
	f.pool.put(f.large)
	f.large = more
}

// close gives back every buffer. The last frame is no longer valid.
func (f *frames) close() {
	f.release()
	f.drop()
}

// drop gives back the buffer of small frames, in which nothing is left to handle.
func (f *frames) drop() {
	if f.buf != nil {
		smallFrames.Put(f.buf)
		f.buf, f.start, f.end = nil, 0, 0
	}
}

// release gives back the buffer of the last frame.
func (f *frames) release() {
	if f.taken > 0 {
		f.memory.give(f.taken)
		f.taken = 0
	}
	if f.large != nil {
		f.pool.put(f.large)
		f.large = nil
	}
}

// fill reads until n bytes are buffered.
func (f *frames) fill(n int) error {
	if f.start == f.end {
		f.start, f.end = 0, 0
	}
	if f.start+n > smallFrame {
		f.end = copy(f.buf[:], f.buf[f.start:f.end])
		f.start = 0
	}
	for f.end-f.start < n {
		if f.end > f.start {
			f.insist()
		}
		if f.buf == nil {
			f.buf = smallFrames.Get().(*[smallFrame]byte)
		}
		got, err := f.conn.Read(f.buf[f.end:])
		f.end += got
		if f.wasRoused(err) {
			continue
		}
		if err != nil && f.end-f.start < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// insist sets the deadline by which a frame that has begun must go on.
func (f *frames) insist() {
	f.conn.SetReadDeadline(time.Now().Add(stallLimit)) // the socket's clock, not the broker's
	f.stalled = true
}

// relax takes the deadline away: a client may be silent between two frames.
func (f *frames) relax() {
	if f.stalled {
		f.conn.SetReadDeadline(time.Time{})
		f.stalled = false
	}
}
