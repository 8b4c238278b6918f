package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/tests/systems"
)

// The log that is read has batches of 16 KB, so that regions of 1 MB end inside
// of one, as they mostly do.
const (
	readRecords = 16
	readSize    = 1000
)

// filledLog makes a log to read, once.
func filledLog(ctx context.Context, o options, segmentBytes int64) (dir string, err error) {
	dir = filepath.Join(o.storageDir(), "read-0")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(o.storageDir(), 0o755); err != nil {
		return "", err
	}
	_, err = child(ctx, "fill", job{Dir: dir, Records: readRecords, Size: readSize, Total: o.bytes, Segment: segmentBytes})
	return dir, err
}

// fillLog writes a log and closes it.
func fillLog(j job) (map[string]float64, error) {
	in, err := recordBatch(j.Records, j.Size)
	if err != nil {
		return nil, err
	}
	l, err := openLog(j.Dir, log.Config{SegmentBytes: j.Segment})
	if err != nil {
		return nil, err
	}
	for l.Size() < j.Total {
		in.SetBaseOffset(0)
		if _, err := l.Append(in, log.AppendOptions{}); err != nil {
			return nil, err
		}
	}
	return nil, l.Close()
}

// discard accepts connections and throws away what they send, until it is
// stopped. The kernel drops the bytes without copying them: a consumer's work is
// done on another machine, and here it would take a core from who is measured.
func discard() (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				raw, err := c.(*net.TCPConn).SyscallConn()
				if err != nil {
					return
				}
				buf := make([]byte, 4*bareChunk) // never filled
				for more := true; more && err == nil; {
					err = raw.Read(func(fd uintptr) bool {
						n, _, err := syscall.Recvfrom(int(fd), buf, syscall.MSG_TRUNC)
						more = n > 0
						return !errors.Is(err, syscall.EAGAIN)
					})
				}
			}()
		}
	}()
	return l.Addr().String(), func() { l.Close() }, nil
}

// sendLog has a whole log read and sent by another process.
func sendLog(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	return readerOf(ctx, o, "send", job{What: name})
}

// readerOf runs a child that reads a filled log, and may send it to somebody who
// discards it.
func readerOf(ctx context.Context, o options, kind string, j job) (_ map[string]float64, err error) {
	if j.Dir, err = filledLog(ctx, o, j.Segment); err != nil {
		return nil, err
	}
	addr, stop, err := discard()
	if err != nil {
		return nil, err
	}
	defer stop()
	j.Addr = addr
	return child(ctx, kind, j)
}

// sendLoop sends a log, or its files, once.
func sendLoop(j job) (map[string]float64, error) {
	c, err := dial(j.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	send := sendFiles
	if j.What == "log" {
		send = sendWholeLog
	}
	var sent int64
	took, err := spend(func() (err error) {
		sent, err = send(c, j.Dir)
		return err
	})
	return took.per(sent), err
}

func dial(addr string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func sendWholeLog(c *net.TCPConn, dir string) (sent int64, err error) {
	l, err := openLog(dir, log.Config{})
	if err != nil {
		return 0, err
	}
	sent, err = sendRange(c, l, l.StartOffset(), l.EndOffset(), func() bool { return true })
	return sent, errors.Join(err, l.Close())
}

// sendRange sends the batches in [from, to) as fetches do, while more is true.
func sendRange(c *net.TCPConn, l *log.Log, from, to int64, more func() bool) (sent int64, err error) {
	in, err := recordBatch(readRecords, readSize)
	if err != nil {
		return 0, err
	}
	for from < to && more() {
		region, err := l.Read(from, to, bareChunk, true)
		if err != nil {
			return sent, err
		}
		n := region.Len()
		if n < len(in) {
			region.Release()
			return sent, fmt.Errorf("read %d bytes at offset %d of %d", n, from, to)
		}
		f, release := region.File.OSFile()
		err = sendfile(c, f, region.Pos, n)
		release()
		region.Release()
		if err != nil {
			return sent, err
		}
		sent += int64(n)
		from += int64(n / len(in) * readRecords) // a batch that is cut off comes again
	}
	return sent, nil
}

// sendFiles sends all segments of dir.
func sendFiles(c *net.TCPConn, dir string) (sent int64, err error) {
	names, err := segmentFiles(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		n, err := sendFile(c, name)
		if sent += n; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

func sendFile(c *net.TCPConn, name string) (sent int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	for ; err == nil && sent < size; sent += min(bareChunk, size-sent) {
		err = sendfile(c, f, sent, int(min(bareChunk, size-sent)))
	}
	return sent, err
}

// segmentFiles returns the data files of a partition, oldest first.
func segmentFiles(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("no segments in %s", dir)
	}
	slices.Sort(names)
	return names, err
}
