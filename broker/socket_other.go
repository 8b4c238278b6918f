//go:build !unix

package broker

import (
	"errors"
	"net"
)

// socket is a connection of the operating system as its reader waits on it. There
// is none here: connections keep their buffers.
type socket struct{}

func socketOf(net.Conn) *socket { return nil }

func (*socket) receive(**[smallFrame]byte) (int, error) { return 0, errors.ErrUnsupported }
