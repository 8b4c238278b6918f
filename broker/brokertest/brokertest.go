// Package brokertest starts real brokers inside Go tests: on loopback ports or
// on an in-memory network, in memory or in a directory of the test.
//
//	b := brokertest.Start(t, brokertest.Options{})
//	client := dial(b.Bootstrap())
//
// With several brokers it is a true cluster: each has its own disk, replicates by follower
// fetch and can be killed, stopped, cut off and started again.
//
//	c := brokertest.Start(t, brokertest.Options{Brokers: 3})
//	c.Broker(c.WaitLeader("orders", 0)).Kill()
//
// With InMemoryNetwork a broker also runs inside a testing/synctest bubble,
// where an hour takes no time.
package brokertest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/memnet"
)

// Options says how the broker of a test is made. The zero value keeps its data in
// memory and listens on a free loopback port.
type Options struct {
	// Brokers is how many there are; 0 means 1. Several are controllers too, unless there
	// are Controllers.
	Brokers int
	// Controllers is how many nodes are controllers and no brokers. They have the ids from
	// broker.FirstController on.
	Controllers int
	// Config holds broker keys by Kafka's names, such as
	// "auto.create.topics.enable": "false".
	Config map[string]string
	// ConfigOf returns more keys for each of several brokers, such as its broker.rack; nil
	// for none.
	ConfigOf func(id int32) map[string]string
	// OnDisk keeps the data in a temporary directory of the test. Dir, where not
	// empty, is used instead.
	OnDisk bool
	Dir    string
	// LogDirs is how many log directories each of several brokers has; 0 means 1. They are
	// dir-1, dir-2 and so on below the broker's.
	LogDirs int
	// FS replaces the file system, for faults and crashes. Several brokers have their data
	// below /klamm/broker-1 and so on, or the same in Dir.
	FS vfs.FS
	// InMemoryNetwork listens on an in-memory network instead of loopback.
	InMemoryNetwork bool
	// Network is the in-memory network to listen on; nil makes a new one.
	Network *memnet.Network
	Clock   clock.Clock
	// Verbose logs to the test; otherwise only warnings are.
	Verbose bool
}

// Start starts a broker, or as many as Options.Brokers says. It fails the test if that is
// not possible, and closes them when the test ends.
//
// A group does not wait for more members when its first one joins
// (group.initial.rebalance.delay.ms is 0 unless Config says otherwise). Topics of several
// brokers have as many replicas, up to 3, and need one less to be in sync, where neither
// Config nor their creator says otherwise.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, o: o, network: o.Network}
	if c.network == nil && o.InMemoryNetwork {
		c.network = memnet.New()
	}
	if c.o.Dir == "" && o.OnDisk {
		c.o.Dir = t.TempDir()
	}
	for id := range int32(max(o.Brokers, 1)) {
		c.brokers = append(c.brokers, c.newBroker(id+1))
	}
	for i := range o.Controllers {
		c.brokers = append(c.brokers, c.newBroker(int32(broker.FirstController+i)))
	}
	c.single = c.brokers[0]
	if o.Brokers > 1 || o.Controllers > 0 {
		c.startAll()
	} else {
		c.startAlone()
	}
	return c
}

// overrides returns the config of every broker.
func (c *Cluster) overrides() []string {
	out := []string{"group.initial.rebalance.delay.ms=0"}
	if n := c.o.Brokers; n > 1 {
		out = append(out, fmt.Sprintf("default.replication.factor=%d", min(n, 3)), fmt.Sprintf("min.insync.replicas=%d", min(n, 3)-1))
	}
	return append(out, pairs(c.o.Config)...)
}

// own returns the config of one broker of several.
func (c *Cluster) own(id int32) []string {
	if c.o.ConfigOf == nil {
		return nil
	}
	return pairs(c.o.ConfigOf(id))
}

func pairs(conf map[string]string) (out []string) {
	for k, v := range conf {
		out = append(out, k+"="+v)
	}
	return out
}

func (c *Cluster) options() broker.Options {
	o := broker.Options{Clock: c.o.Clock, Logger: logger(c.t, c.o.Verbose),
		Fatal: func(err error) { c.failed(err) }}
	if c.network != nil {
		o.Listen = c.network.Listen
	}
	return o
}

func (c *Cluster) startAlone() {
	c.t.Helper()
	overrides := append([]string{"listeners=PLAINTEXT://127.0.0.1:0", "log.dirs=/klamm"}, c.overrides()...)
	if c.network != nil {
		overrides[0] = "listeners=PLAINTEXT://" + host(1) + ":0"
	}
	if c.o.Dir != "" {
		overrides[1] = "log.dirs=" + c.o.Dir
	}
	static, _, err := config.Load(config.Sources{Overrides: overrides})
	if err != nil {
		c.t.Fatalf("brokertest: %v", err)
	}
	o := c.options()
	o.Config, o.FS = static, c.single.fs
	if c.single.Broker, err = broker.Start(context.Background(), o); err != nil {
		c.t.Fatalf("brokertest: %v", err)
	}
	c.t.Cleanup(func() {
		if err := c.single.Close(); err != nil {
			c.t.Errorf("brokertest: close: %v", err)
		}
	})
}

// logger logs to the test until it has ended: a line after that would panic.
func logger(t testing.TB, verbose bool) *zap.Logger {
	var mu sync.Mutex
	ended := false
	t.Cleanup(func() {
		mu.Lock()
		ended = true
		mu.Unlock()
	})
	level := zap.WarnLevel
	if verbose {
		level = zap.DebugLevel
	}
	return zaptest.NewLogger(gate{t, &mu, &ended}, zaptest.Level(level))
}

type gate struct {
	testing.TB
	mu    *sync.Mutex
	ended *bool
}

func (g gate) Logf(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !*g.ended {
		g.TB.Logf(format, args...)
	}
}
