//go:build unix

package broker

import (
	"io"
	"net"
	"os"
	"syscall"
)

// socket is a connection of the operating system as its reader waits on it.
type socket struct {
	raw  syscall.RawConn
	read func(fd uintptr) bool // made once

	// What read works on and what came of it.
	into **[smallFrame]byte
	n    int
	err  error
}

// socketOf returns the socket of a connection, nil if it has none.
func socketOf(nc net.Conn) *socket {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.read = s.tryRead
	return s
}

// receive reads what the peer has sent, once there is something. *into is nil
// before that, and has a buffer from then on. It takes no more calls to the
// system than net.Conn's Read.
func (s *socket) receive(into **[smallFrame]byte) (int, error) {
	s.into, s.n, s.err = into, 0, nil
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	switch {
	case s.err != nil:
		return 0, os.NewSyscallError("read", s.err)
	case s.n == 0:
		return 0, io.EOF
	}
	return s.n, nil
}

// tryRead reads if there is something to read, and else gives the buffer back and
// asks to be called again when there is.
func (s *socket) tryRead(fd uintptr) bool {
	b := smallFrames.Get().(*[smallFrame]byte)
	for {
		n, err := syscall.Read(int(fd), b[:])
		switch err {
		case nil:
			*s.into, s.n = b, n
			return true
		case syscall.EINTR:
			continue
		}
		smallFrames.Put(b)
		if err == syscall.EAGAIN {
			return false
		}
		s.err = err
		return true
	}
}
