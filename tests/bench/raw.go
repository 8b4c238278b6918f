package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// rawVersion is the newest version of Produce that names topics.
const rawVersion = 12

// correlationAt is where a frame has the correlation id: after size, key and
// version.
const correlationAt = 8

// rawProduce encodes the frame of a Produce request with acks=-1 and one batch.
func rawProduce(topic string, partition int32, batch record.Batch) ([]byte, error) {
	b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: wire.Produce, Version: rawVersion, ClientID: "bench"})
	if err != nil {
		return nil, err
	}
	req := msg.ProduceRequest{Acks: -1, TimeoutMs: 30_000, TopicData: []msg.ProduceRequestTopicProduceData{{Name: topic,
		PartitionData: []msg.ProduceRequestPartitionProduceData{{Index: partition, Records: prim.Records{B: batch}}}}}}
	if b, err = req.AppendTo(b, rawVersion); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// rawConn sends one frame again and again, each time when the one before is
// answered. It does as little as a client can, so that little of what two cores
// do is the client.
type rawConn struct {
	file   *os.File
	fd     int // of file; it blocks
	frame  []byte
	sent   int32 // frames
	answer []byte
	got    int // bytes of the answer
	resp   msg.ProduceResponse
}

// rawProducers has one connection a frame send n frames together, and returns
// how long it took. One thread serves them all.
func rawProducers(addr string, frames [][]byte, n int) (took time.Duration, err error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(epoll)
	conns := make(map[int32]*rawConn, len(frames))
	for _, frame := range frames {
		c, err := rawDial(addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		c.frame, conns[int32(c.fd)] = frame, c
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, c.fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.fd)}); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	for _, c := range conns {
		if err := c.send(); err != nil {
			return 0, err
		}
	}
	started, answered := len(conns), 0
	events := make([]syscall.EpollEvent, len(conns))
	for answered < n {
		ready, err := syscall.EpollWait(epoll, events, 30_000)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if ready == 0 {
			return 0, fmt.Errorf("no answer for 30 s, %d of %d came before", answered, n)
		}
		for _, e := range events[:ready] {
			c := conns[e.Fd]
			done, err := c.receive()
			if err != nil {
				return 0, err
			}
			if !done {
				continue
			}
			answered++
			if started < n {
				started++
				if err := c.send(); err != nil {
					return 0, err
				}
			}
		}
	}
	return time.Since(begin), nil
}

func rawDial(addr string) (*rawConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return nil, err
	}
	return &rawConn{file: f, fd: int(f.Fd()), answer: make([]byte, 4<<10)}, nil
}

func (c *rawConn) Close() error { return c.file.Close() }

// exchange sends one frame and waits for a good answer.
func (c *rawConn) exchange(frame []byte) error {
	c.frame = frame
	if err := c.send(); err != nil {
		return err
	}
	for {
		if done, err := c.receive(); done || err != nil {
			return err
		}
	}
}

// retry calls f again while its error is one of those that pass, such as that a
// leader is not there yet.
func retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		var code kerr.Code
		if err == nil || !errors.As(err, &code) || !code.Retriable() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *rawConn) send() error {
	c.sent++
	c.got = 0
	// Another connection may send the same frame, but not at the same time.
	binary.BigEndian.PutUint32(c.frame[correlationAt:], uint32(c.sent))
	for rest := c.frame; len(rest) > 0; {
		n, err := syscall.Write(c.fd, rest)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		rest = rest[max(n, 0):]
	}
	return nil
}

// receive reads what has come of an answer; done tells that it was the last of
// it, and that it was a good one.
func (c *rawConn) receive() (done bool, err error) {
	n, err := syscall.Read(c.fd, c.answer[c.got:])
	if errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	if err == nil && n == 0 {
		err = errors.New("the broker closed the connection")
	}
	if err != nil {
		return false, err
	}
	c.got += n
	if c.got < 4 {
		return false, nil
	}
	size := int(binary.BigEndian.Uint32(c.answer))
	if size > len(c.answer)-4 || c.got > size+4 {
		return false, fmt.Errorf("%d bytes of an answer of %d", c.got, size)
	}
	if c.got < size+4 {
		return false, nil
	}
	return true, c.check(c.answer[4:c.got])
}

func (c *rawConn) check(frame []byte) error {
	id, body, err := wire.ParseResponseHeader(frame, wire.Produce, rawVersion)
	if err != nil {
		return err
	}
	if id != c.sent {
		return fmt.Errorf("answer to request %d, want %d", id, c.sent)
	}
	if err := c.resp.Decode(body, rawVersion); err != nil {
		return err
	}
	if len(c.resp.Responses) != 1 || len(c.resp.Responses[0].PartitionResponses) != 1 {
		return fmt.Errorf("answer for %d topics", len(c.resp.Responses))
	}
	if code := kerr.Code(c.resp.Responses[0].PartitionResponses[0].ErrorCode); code != 0 {
		return code
	}
	return nil
}
