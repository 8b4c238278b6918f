package brokertest

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"

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
	killing atomic.Bool
	stopped bool

	mu     sync.Mutex // guards the fields below
	alive  *bool      // the process that runs is; shared with its disk
	paused chan struct{}
}

func (c *Cluster) newBroker(id int32) *Broker {
	b := &Broker{c: c, id: id, fs: c.o.FS}
	if b.fs == nil && c.o.Dir == "" {
		b.fs = vfs.NewMem()
	}
	return b
}

// errDead is the error of a disk whose broker was killed.
var errDead = errors.New("the broker was killed")

// disk returns the disk as the process that is about to start sees it: once that is killed,
// nothing more is written.
func (b *Broker) disk() vfs.FS {
	inner := b.fs
	if inner == nil {
		inner = vfs.OS()
	}
	alive := true
	b.mu.Lock()
	b.alive = &alive
	b.mu.Unlock()
	return vfs.Inject(inner, func(op vfs.Op, _ string) error {
		b.mu.Lock()
		dead, paused := !alive, b.paused
		b.mu.Unlock()
		if paused != nil && b.alive == &alive {
			<-paused
		}
		if dead && op != vfs.OpClose {
			return &os.SyscallError{Syscall: string(op), Err: errDead}
		}
		return nil
	})
}

// muted returns a core that drops what a broker says while it is killed: its disk and its
// network are gone, which is no news.
func (b *Broker) muted(c zapcore.Core) zapcore.Core { return mute{c, b} }

type mute struct {
	zapcore.Core
	b *Broker
}

// With implements zapcore.Core.
func (m mute) With(fields []zapcore.Field) zapcore.Core { return mute{m.Core.With(fields), m.b} }

// Check implements zapcore.Core.
func (m mute) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if m.b.killing.Load() {
		return c
	}
	return m.Core.Check(e, c)
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
	b.killing.Store(true)
	defer b.killing.Store(false)
	b.mu.Lock()
	*b.alive = false
	b.mu.Unlock()
	for _, o := range how {
		o(b)
	}
	b.Resume()
	b.stopped = true
	if err := b.c.cluster.Kill(b.id); err != nil {
		b.c.t.Fatalf("brokertest: %v", err)
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
// and its disk does nothing. It needs an in-memory network.
func (b *Broker) Pause() {
	b.c.t.Helper()
	if b.c.network == nil || b.stopped {
		b.c.t.Fatalf("brokertest: broker %d cannot be paused: it must run, on an in-memory network", b.id)
	}
	b.mu.Lock()
	if b.paused == nil {
		b.paused = make(chan struct{})
	}
	b.mu.Unlock()
	b.c.network.Partition(host(b.id), "*")
}

// Resume ends a Pause. It does nothing if there is none.
func (b *Broker) Resume() {
	b.mu.Lock()
	paused := b.paused
	b.paused = nil
	b.mu.Unlock()
	if paused != nil {
		b.c.network.Unblock(host(b.id), "*")
		b.c.network.Unblock("*", host(b.id))
		close(paused)
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
