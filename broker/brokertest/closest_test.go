package brokertest_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

// readFrom counts the bytes that a client has read from each address.
type readFrom struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	mu   sync.Mutex
	n    map[string]int
}

type counted struct {
	net.Conn
	by      *readFrom
	address string
}

func (r *readFrom) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := r.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &counted{c, r, address}, nil
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.by.mu.Lock()
	defer c.by.mu.Unlock()
	c.by.n[c.address] += n
	return n, err
}

// take returns how much was read from a broker since the last call.
func (r *readFrom) take(b *brokertest.Broker) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.n[b.Bootstrap()]
	r.n[b.Bootstrap()] = 0
	return n
}

// A consumer in a rack reads from the follower there, and from the leader once that is dead
// (KIP-392).
func TestConsumerReadsFromItsRack(t *testing.T) {
	const leader, near, far, size = 1, 2, 3, 10_000
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, Config: map[string]string{"replica.selector.class": config.RackAwareSelector},
		ConfigOf: func(id int32) map[string]string { return map[string]string{"broker.rack": fmt.Sprint("rack-", id)} }})
	makeTopic(t, c, leader)
	o := options(c)
	read := &readFrom{dial: o.Dial, n: make(map[string]int)}
	o.Dial = read.Dial
	r, err := client.NewConsumer(client.ConsumerOptions{Options: o, Rack: "rack-2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.Background()) })
	r.Assign(map[client.TopicPartition]client.Position{{Topic: "t"}: client.AtOffset(0)})
	p := producer(t, c)
	made := 0
	more := func() {
		t.Helper()
		var want []string
		for range 20 {
			v := fmt.Sprintf("%0*d", size, made)
			send(t, p, "t", v)
			want = append(want, v)
			made++
		}
		if got := poll(t, r, len(want)); !slices.Equal(got, want) {
			t.Fatalf("of %d records so far, the last %d were read as others", made, len(want))
		}
	}
	more()
	if near, leader := read.take(c.Broker(near)), read.take(c.Broker(leader)); near < 20*size || leader > size {
		t.Errorf("%d bytes were read from the follower in the rack, and %d from the leader, of %d", near, leader, 20*size)
	}
	c.Broker(near).Kill()
	more()
	if n := read.take(c.Broker(leader)); n < 20*size {
		t.Errorf("%d bytes were read from the leader once the follower in the rack was dead, of %d", n, 20*size)
	}
	c.Broker(near).Restart()
	c.WaitISR("t", 0, 3)
	if n := read.take(c.Broker(far)); n > size {
		t.Errorf("%d bytes were read from a broker of another rack", n)
	}
}
