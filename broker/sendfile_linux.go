package broker

import (
	"io"
	"net"
	"os"
	"syscall"
)

// sendRegion has the kernel send n bytes of f from offset at. handled is false
// if conn is none that it can send to.
func sendRegion(conn net.Conn, f *os.File, at int64, n int) (handled bool, err error) {
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return false, nil
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return true, err
	}
	from := int(f.Fd())
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n > 0 {
			sent, err := syscall.Sendfile(int(fd), from, &at, n)
			switch {
			case err == syscall.EAGAIN:
				return false
			case err == syscall.EINTR:
				continue
			case err == nil && sent == 0:
				err = io.ErrUnexpectedEOF // the file is shorter than the region
			}
			if err != nil {
				failed = err
				return true
			}
			n -= sent
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return true, err
}
