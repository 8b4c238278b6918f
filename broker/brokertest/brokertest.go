// Package brokertest starts real brokers inside Go tests: on loopback ports or
// on an in-memory network, in memory or in a directory of the test.
//
//	b := brokertest.Start(t, brokertest.Options{})
//	client := dial(b.Bootstrap())
//
// With InMemoryNetwork a broker also runs inside a testing/synctest bubble,
// where an hour takes no time.
package brokertest

import (
	"context"
	"net"
	"strings"
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
	// Config holds broker keys by Kafka's names, such as
	// "auto.create.topics.enable": "false".
	Config map[string]string
	// OnDisk keeps the data in a temporary directory of the test. Dir, where not
	// empty, is used instead.
	OnDisk bool
	Dir    string
	// FS replaces the file system, for faults and crashes.
	FS vfs.FS
	// InMemoryNetwork listens on an in-memory network instead of loopback.
	InMemoryNetwork bool
	// Network is the in-memory network to listen on; nil makes a new one.
	Network *memnet.Network
	Clock   clock.Clock
	// Verbose logs to the test; otherwise only warnings are.
	Verbose bool
}

// Broker is a broker that ends with its test.
type Broker struct {
	*broker.Broker
	network *memnet.Network
	fs      vfs.FS
}

// Start starts a broker. It fails the test if that is not possible, and closes
// the broker when the test ends.
//
// A group does not wait for more members when its first one joins
// (group.initial.rebalance.delay.ms is 0 unless Config says otherwise).
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	b := &Broker{network: o.Network, fs: o.FS}
	overrides := []string{"group.initial.rebalance.delay.ms=0", "listeners=PLAINTEXT://127.0.0.1:0"}
	if o.InMemoryNetwork || o.Network != nil {
		if b.network == nil {
			b.network = memnet.New()
		}
		overrides[1] = "listeners=PLAINTEXT://broker-1:0"
	}
	switch {
	case o.Dir != "":
		overrides = append(overrides, "log.dirs="+o.Dir)
	case o.OnDisk:
		overrides = append(overrides, "log.dirs="+t.TempDir())
	default:
		overrides = append(overrides, "log.dirs=/klamm")
		if b.fs == nil {
			b.fs = vfs.NewMem()
		}
	}
	for k, v := range o.Config {
		overrides = append(overrides, k+"="+v)
	}
	static, _, err := config.Load(config.Sources{Overrides: overrides})
	if err != nil {
		t.Fatalf("brokertest: %v", err)
	}
	opts := broker.Options{Config: static, FS: b.fs, Clock: o.Clock, Logger: logger(t, o.Verbose),
		Fatal: func(err error) { t.Errorf("brokertest: the metadata log failed: %v", err) }}
	if b.network != nil {
		opts.Listen = b.network.Listen
	}
	b.Broker, err = broker.Start(context.Background(), opts)
	if err != nil {
		t.Fatalf("brokertest: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("brokertest: close: %v", err)
		}
	})
	return b
}

// Bootstrap returns the address of the broker, as host:port.
func (b *Broker) Bootstrap() string { return strings.Join(b.Broker.Bootstrap(), ",") }

// Dial connects to an address of the broker, on its network. It fits the dial
// options of clients.
func (b *Broker) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if b.network != nil {
		return b.network.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// Network returns the in-memory network, nil if the broker listens on loopback.
func (b *Broker) Network() *memnet.Network { return b.network }

// FS returns the file system that the broker keeps its data in, nil for the
// operating system's.
func (b *Broker) FS() vfs.FS { return b.fs }

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
