package brokertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/memnet"
)

// single is the broker of a test that has one.
type single = Broker

// Cluster is what Start has started, and ends with its test. One of a single broker is
// used as that broker.
type Cluster struct {
	*single
	t       testing.TB
	o       Options
	network *memnet.Network // nil on loopback
	links   *links          // of several brokers on loopback
	cluster *broker.Cluster // nil for a single broker

	mu      sync.Mutex // guards brokers
	brokers []*Broker  // and controllers that are no brokers
}

// host is where a broker is on an in-memory network.
func host(id int32) string { return fmt.Sprintf("broker-%d", id) }

func (c *Cluster) startAll() {
	c.t.Helper()
	dir := "/klamm"
	if c.o.Dir != "" {
		dir = c.o.Dir
	}
	o := broker.ClusterOptions{Brokers: max(c.o.Brokers, 1), Controllers: c.o.Controllers, Of: c.options(), Sources: config.Sources{Overrides: c.overrides()}, Overrides: c.own, Dir: dir, LogDirs: c.o.LogDirs,
		Disk: func(id int32) vfs.FS { return c.Broker(id).disk() }}
	if c.network != nil {
		o.Host = host
		o.Dial = func(id int32) func(context.Context, string, string) (net.Conn, error) {
			return c.network.Host(host(id)).Dial
		}
	} else {
		c.links = newLinks()
		o.Dial = c.links.dial
	}
	var err error
	if c.cluster, err = broker.StartCluster(context.Background(), o); err != nil {
		c.t.Fatalf("brokertest: %v", err)
	}
	if c.links != nil {
		c.links.know(c.cluster.At)
	}
	for _, b := range c.nodes() {
		b.Broker = c.cluster.Broker(b.id)
	}
	c.t.Cleanup(func() {
		for _, b := range c.nodes() {
			b.Resume()
		}
		c.Heal()
		if err := c.cluster.Close(); err != nil {
			c.t.Errorf("brokertest: close: %v", err)
		}
	})
}

// failed is called when a broker's metadata log has failed. That of one that is killed does.
func (c *Cluster) failed(err error) {
	if !errors.Is(err, broker.ErrKilled) {
		c.t.Errorf("brokertest: the metadata log failed: %v", err)
	}
}

// Broker returns the broker of an id, from 1 on, or the controller, from
// broker.FirstController on.
func (c *Cluster) Broker(id int32) *Broker {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.brokers {
		if b.id == id {
			return b
		}
	}
	c.t.Fatalf("brokertest: there is no broker %d of %d", id, len(c.brokers))
	return nil
}

// Controller returns the controller of an id that is no broker, from broker.FirstController on.
func (c *Cluster) Controller(id int32) *Broker {
	c.t.Helper()
	if id < broker.FirstController {
		c.t.Fatalf("brokertest: node %d is a broker: controllers have the ids from %d on", id, broker.FirstController)
	}
	return c.Broker(id)
}

// nodes returns all brokers and controllers.
func (c *Cluster) nodes() []*Broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.brokers)
}

// Add adds a broker to the cluster while it runs, and returns it when it serves. It has the
// next id. It is a broker and no controller: the voters on the metadata stay who they are, so
// that the cluster bears the loss of as many controllers as before. It has no replicas before
// a topic is created or partitions are reassigned. Every cluster of several nodes can be added
// to, also while others are down, as long as there is an active controller.
func (c *Cluster) Add() *Broker {
	c.t.Helper()
	if c.cluster == nil {
		c.t.Fatal("brokertest: a single broker is not added to: start several, or one with controllers of its own")
	}
	id := int32(1)
	for _, b := range c.nodes() {
		if b.id < broker.FirstController {
			id = max(id, b.id+1)
		}
	}
	b := c.newBroker(id)
	c.mu.Lock()
	c.brokers = append(c.brokers, b)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	added, err := c.cluster.Add(ctx)
	if err != nil || added != id {
		c.t.Fatalf("brokertest: add broker %d: got %d: %v", id, added, err)
	}
	b.Broker = c.cluster.Broker(id)
	return b
}

// Bootstrap returns the addresses of all brokers, as host:port,host:port.
func (c *Cluster) Bootstrap() string {
	if c.cluster == nil {
		return c.single.Bootstrap()
	}
	return strings.Join(c.cluster.Bootstrap(), ",")
}

// Network returns the in-memory network, nil if the brokers listen on loopback.
func (c *Cluster) Network() *memnet.Network { return c.network }

// Isolate cuts a broker off from the others. Clients reach it.
func (c *Cluster) Isolate(id int32) {
	c.t.Helper()
	for _, b := range c.nodes() {
		if b.id != id {
			c.Cut(id, b.id)
		}
	}
}

// Cut cuts the link between two brokers, in both directions: what is on it waits for Heal.
func (c *Cluster) Cut(a, b int32) {
	c.t.Helper()
	a, b = c.Broker(a).id, c.Broker(b).id // that there are
	if c.network != nil {
		c.network.Partition(host(a), host(b))
	} else {
		c.links.cutOff(a, b)
	}
}

// Heal mends all links.
func (c *Cluster) Heal() {
	if c.network != nil {
		c.network.Heal()
	} else if c.links != nil {
		c.links.heal()
	}
}

// patience is how long the waits of a test last at most.
const patience = time.Minute

// await waits until the metadata of any running broker are so.
func (c *Cluster) await(what func() string, ok func(*meta.Image) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx, found := context.WithCancel(ctx)
	defer found()
	done := make(chan error, len(c.nodes()))
	waiting := 0
	for _, b := range c.nodes() {
		if b.Running() {
			waiting++
			go func(b *broker.Broker) { done <- b.AwaitMetadata(ctx, ok) }(b.Broker)
		}
	}
	seen := false
	for range waiting {
		if err := <-done; err == nil {
			seen = true
			found() // the others need not look on
		}
	}
	if !seen {
		c.t.Fatalf("brokertest: %s", what())
	}
}

// image returns the newest metadata that a running broker has.
func (c *Cluster) image() *meta.Image {
	newest := meta.Empty()
	for _, b := range c.nodes() {
		if b.Running() {
			if m := b.Broker.Metadata(); m.Index > newest.Index {
				newest = m
			}
		}
	}
	return newest
}

// Leader returns the broker that leads a partition, -1 if there is none.
func (c *Cluster) Leader(topic string, partition int32) int32 {
	if p := c.image().Partition(topic, partition); p != nil {
		return p.Leader
	}
	return meta.NoLeader
}

// WaitController waits until a running broker is the active controller, and returns its id.
func (c *Cluster) WaitController() (id int32) {
	c.t.Helper()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		for _, b := range c.nodes() {
			if b.Running() && b.Broker.Active() {
				return b.id
			}
		}
	}
	c.t.Fatal("brokertest: there is no active controller")
	return -1
}

// WaitLeader waits until a running broker leads a partition, and returns its id.
func (c *Cluster) WaitLeader(topic string, partition int32) (leader int32) {
	c.t.Helper()
	c.await(func() string {
		return fmt.Sprintf("no running broker leads %s-%d: %s", topic, partition, c.describe(topic, partition))
	}, func(m *meta.Image) bool {
		p := m.Partition(topic, partition)
		if p == nil || p.Leader == meta.NoLeader || !c.Broker(p.Leader).Running() {
			return false
		}
		b := m.Broker(p.Leader)
		return b != nil && !b.Fenced
	})
	return c.Leader(topic, partition)
}

// WaitISR waits until a partition has n replicas in sync.
func (c *Cluster) WaitISR(topic string, partition int32, n int) {
	c.t.Helper()
	c.await(func() string {
		return fmt.Sprintf("%s-%d does not have %d in sync: %s", topic, partition, n, c.describe(topic, partition))
	}, func(m *meta.Image) bool {
		p := m.Partition(topic, partition)
		return p != nil && len(p.InSync) == n
	})
}

// WaitPartition waits until the metadata of a partition are so; what says it in words.
func (c *Cluster) WaitPartition(topic string, partition int32, what string, ok func(*meta.Partition) bool) {
	c.t.Helper()
	c.await(func() string {
		return fmt.Sprintf("%s-%d: %s: %s", topic, partition, what, c.describe(topic, partition))
	}, func(m *meta.Image) bool {
		p := m.Partition(topic, partition)
		return p != nil && ok(p)
	})
}

func (c *Cluster) describe(topic string, partition int32) string {
	p := c.image().Partition(topic, partition)
	if p == nil {
		return "it does not exist"
	}
	return fmt.Sprintf("leader %d, in sync %v, eligible %v, replicas %v", p.Leader, p.InSync, p.EligibleLeader, p.Replicas)
}
