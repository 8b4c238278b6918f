package brokertest

import (
	"context"
	"net"
	"strings"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/memnet"
)

// Broker is one broker of a test. Kill, Stop, Restart, Pause and Resume are for one of
// several, and are called by one goroutine at a time.
type Broker struct {
	*broker.Broker // that runs, or ran last

	c       *Cluster
	id      int32
	fs      vfs.FS // that it keeps its data in; nil for the operating system's
	stopped bool
	paused  bool
}

func (c *Cluster) newBroker(id int32) *Broker {
	b := &Broker{c: c, id: id, fs: c.o.FS}
	if b.fs == nil && c.o.Dir == "" {
		b.fs = vfs.NewMem()
	}
	return b
}

// disk returns the disk of the process that is about to start.
func (b *Broker) disk() vfs.FS {
	if b.fs == nil {
		return vfs.OS()
	}
	return b.fs
}

// Running reports whether the broker was started and neither stopped nor killed since.
func (b *Broker) Running() bool { return !b.stopped }

// Kill ends the broker like kill -9: connections are reset, and what it had not written is
// lost. With LoseUnsynced the power fails too, and what was not synced is lost; that is for
// disks in memory.
func (b *Broker) Kill(how ...KillOption) {
	b.c.t.Helper()
	if b.stopped || b.c.cluster == nil {
		b.c.t.Fatalf("brokertest: broker %d is not one of several that runs", b.id)
	}
	b.stopped, b.paused = true, false
	if err := b.c.cluster.Kill(b.id); err != nil {
		b.c.t.Fatalf("brokertest: %v", err)
	}
	for _, o := range how { // the disk is as it was when the broker died
		o(b)
	}
}

// KillOption says what else is lost when a broker is killed.
type KillOption func(*Broker)

// LoseUnsynced loses what was not synced to the disk.
func LoseUnsynced(b *Broker) {
	b.c.t.Helper()
	m, ok := b.fs.(*vfs.Mem)
	if !ok {
		b.c.t.Fatalf("brokertest: the disk of broker %d is not in memory", b.id)
	}
	b.fs = m.CrashClone(vfs.CrashPolicy{})
}

// Stop stops the broker like SIGTERM: others take over what it leads, and all is on disk.
func (b *Broker) Stop() {
	b.c.t.Helper()
	if b.stopped || b.c.cluster == nil {
		b.c.t.Fatalf("brokertest: broker %d is not one of several that runs", b.id)
	}
	b.stopped = true
	if err := b.c.cluster.Stop(b.id); err != nil {
		b.c.t.Fatalf("brokertest: stop broker %d: %v", b.id, err)
	}
}

// Restart starts the broker again, at its old address and on its disk; one that runs is
// stopped first. It serves when Restart returns.
func (b *Broker) Restart() {
	b.c.t.Helper()
	if b.c.cluster == nil {
		b.c.t.Fatal("brokertest: a single broker is not started again: start another one on its FS or Dir")
	}
	if !b.stopped {
		b.Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.c.cluster.Start(ctx, b.id); err != nil {
		b.c.t.Fatalf("brokertest: %v", err)
	}
	b.Broker, b.stopped = b.c.cluster.Broker(b.id), false
}

// Pause has the broker be silent like a process that is sent SIGSTOP: nothing comes from it,
// and its disk does nothing. Its timers go on.
func (b *Broker) Pause() {
	b.c.t.Helper()
	if b.stopped || b.c.cluster == nil {
		b.c.t.Fatalf("brokertest: broker %d is not one of several that runs", b.id)
	}
	if b.paused {
		return
	}
	if err := b.c.cluster.Pause(b.id); err != nil {
		b.c.t.Fatalf("brokertest: %v", err)
	}
	b.paused = true
}

// Resume ends a Pause. It does nothing if there is none.
func (b *Broker) Resume() {
	b.c.t.Helper()
	if !b.paused {
		return
	}
	b.paused = false
	if err := b.c.cluster.Resume(b.id); err != nil {
		b.c.t.Fatalf("brokertest: %v", err)
	}
}

// Bootstrap returns the address of the broker, as host:port.
func (b *Broker) Bootstrap() string { return strings.Join(b.Broker.Bootstrap(), ",") }

// Dial connects to an address, on the network of the brokers. It fits the dial options of
// clients.
func (b *Broker) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if b.c.network != nil {
		return b.c.network.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// Network returns the in-memory network, nil if the broker listens on loopback.
func (b *Broker) Network() *memnet.Network { return b.c.network }

// FS returns the file system that the broker keeps its data in, nil for the
// operating system's.
func (b *Broker) FS() vfs.FS { return b.fs }
