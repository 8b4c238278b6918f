package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// idleConnections opens many connections, has each ask one thing, and measures
// what a broker keeps for those that wait for their next request.
func idleConnections(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	const n = 5000
	p, err := start(name, filepath.Join(o.dir, fmt.Sprintf("connections-%s-%d", name, round)))
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	ask, err := askVersions()
	if err != nil {
		return nil, err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	open := func(n int) error {
		for range n {
			c, err := net.Dial("tcp", p.Addr)
			if err != nil {
				return err
			}
			conns = append(conns, c)
			if err := exchangeRaw(c, ask); err != nil {
				return err
			}
		}
		return nil
	}
	if err := open(100); err != nil { // what comes with the first ones
		return nil, err
	}
	time.Sleep(time.Second)
	before, err := p.RSS()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := open(n); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	time.Sleep(10 * time.Second) // it has come to rest
	after, err := p.RSS()
	return map[string]float64{"KB/connection": float64(after-before) / 1024 / n, "accepted/s": n / took.Seconds()}, err
}

// askVersions returns the frame of an ApiVersions request.
func askVersions() ([]byte, error) {
	const version = 3
	b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: wire.ApiVersions, Version: version, ClientID: "bench"})
	if err == nil {
		b, err = (&msg.ApiVersionsRequest{ClientSoftwareName: "bench", ClientSoftwareVersion: "1"}).AppendTo(b, version)
	}
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, nil
}

// exchangeRaw sends a frame and reads the one that comes back.
func exchangeRaw(c net.Conn, frame []byte) error {
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}
