package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/tests/systems"
)

// bareMode is what a bare loop does: the least work that moving records takes.
type bareMode byte

const (
	bareReceive  bareMode = 'w' // reads frames from a socket and writes each to a file
	bareSend     bareMode = 'r' // reads pieces of a file and writes them to a socket
	bareSendfile bareMode = 's' // has the kernel copy pieces of a file to a socket
	bareForward  bareMode = 'f' // bareReceive, and writes each frame to the peers too
)

// bareChunk is the size of a frame or piece.
const bareChunk = 1 << 20

// serveBare is a process of its own that runs one loop a connection, so that its
// CPU can be measured as a broker's is. A connection begins with the mode and
// the number of bytes. It returns when it can accept no more.
func serveBare(dir string, peers []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for n := 0; ; n++ {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := bareLoop(c.(*net.TCPConn), dir, n, peers); err != nil {
				fmt.Fprintln(os.Stderr, "bare:", err)
			}
		}()
	}
}

func bareLoop(c *net.TCPConn, dir string, n int, peers []string) error {
	defer c.Close()
	var head [9]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	total := int64(binary.BigEndian.Uint64(head[1:]))
	buf := make([]byte, bareChunk)
	name := filepath.Join(dir, "bare")
	var forward []net.Conn
	if bareMode(head[0]) == bareForward {
		for _, p := range peers {
			to, err := net.Dial("tcp", p)
			if err != nil {
				return err
			}
			defer to.Close()
			if _, err := to.Write(binary.BigEndian.AppendUint64([]byte{byte(bareReceive)}, uint64(total))); err != nil {
				return err
			}
			forward = append(forward, to)
		}
	}
	if m := bareMode(head[0]); m == bareReceive || m == bareForward {
		name = fmt.Sprint(name, n)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); at < total; at += bareChunk {
		switch bareMode(head[0]) {
		case bareReceive, bareForward:
			if _, err := io.ReadFull(c, buf); err != nil {
				return err
			}
			_, err = f.WriteAt(buf, at)
			for i := 0; err == nil && i < len(forward); i++ {
				_, err = forward[i].Write(buf)
			}
		case bareSend:
			if _, err := f.ReadAt(buf, at); err != nil {
				return err
			}
			_, err = c.Write(buf)
		case bareSendfile:
			err = sendfile(c, f, at, bareChunk)
		}
		if err != nil {
			return err
		}
	}
	for _, to := range forward { // until they are done
		if _, err := io.ReadFull(to, buf[:1]); err != nil {
			return err
		}
	}
	_, err = c.Write([]byte{1})
	return err
}

func sendfile(c *net.TCPConn, f *os.File, at int64, n int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n > 0 {
			sent, err := syscall.Sendfile(int(fd), int(f.Fd()), &at, n)
			if err == syscall.EAGAIN {
				return false
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
	return err
}

// bare measures a loop in the same units as produce and fetch.
func bare(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	dir := filepath.Join(o.dir, "bare")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p, err := systems.Self("bare", "bare", dir)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	total := o.bytes / bareChunk * bareChunk
	if err := bareFile(filepath.Join(dir, "bare"), total); err != nil {
		return nil, err
	}
	out := make(map[string]float64)
	for _, m := range []struct {
		name string
		mode bareMode
	}{{"receive and write", bareReceive}, {"read and send", bareSend}, {"sendfile", bareSendfile}} {
		var took time.Duration
		user, system, err := used(p, func() error {
			begin := time.Now()
			err := talkBare(p.Addr, m.mode, total)
			took = time.Since(begin)
			return err
		})
		if err != nil {
			return nil, err
		}
		gb := float64(total) / 1e9
		out[m.name+" CPU s/GB"] = (user + system).Seconds() / gb
		out[m.name+" MB/s"] = gb * 1000 / took.Seconds()
	}
	return out, nil
}

// bareFile makes the file that is sent, once.
func bareFile(name string, total int64) error {
	if info, err := os.Stat(name); err == nil && info.Size() >= total {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, bareChunk)
	for at := int64(0); at < total; at += bareChunk {
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

func talkBare(addr string, mode bareMode, total int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte{byte(mode)}, uint64(total))); err != nil {
		return err
	}
	buf := make([]byte, bareChunk)
	for left := total; left > 0; left -= bareChunk {
		if mode == bareReceive || mode == bareForward {
			_, err = c.Write(buf)
		} else {
			_, err = io.ReadFull(c, buf)
		}
		if err != nil {
			return err
		}
	}
	_, err = io.ReadFull(c, buf[:1]) // the loop is done
	return err
}
