// Package broker is a Kafka-compatible broker: [Start] opens its log
// directories, joins the metadata quorum, loads its partitions and listens;
// [Broker.Close] undoes all that. It runs as a server of its own (cmd/klamm) or
// inside another program, with the network and the disk of the caller's choice.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/config/levels"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
)

// Options says what a broker is made of. The zero value is a broker on
// 127.0.0.1:9092 with its data in ./data.
type Options struct {
	Config    *config.Static // nil means Kafka's defaults
	ClusterID string         // of a new cluster; "" picks one
	FS        vfs.FS         // nil means the operating system
	Clock     clock.Clock    // nil means the system's
	// Logger logs what the broker does; nil logs nothing. Clients can change the
	// levels of what is below it, but not to less than its core lets through,
	// unless that is one of levels.New.
	Logger *zap.Logger
	// Listen opens a listening socket; nil means net.Listen. Together with the
	// client's Dial it puts the broker on another network, such as memnet.
	Listen func(network, address string) (net.Listener, error)
	// Dial connects to other nodes; nil means the system's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Near means that messages to the other nodes take no time, as in one process: others
	// are waited for less long.
	Near bool
	// Progress, if not nil, is notified how far Start has come with opening the
	// partitions. It is called by several goroutines.
	Progress func(replication.Progress)
	// Fatal is called if the metadata log can no longer be written; the broker
	// must end then. Nil logs it.
	Fatal func(error)

	levels  *levels.Registry
	process *process // of one of several brokers in this process; nil for one that is alone
	// first is the first start of several brokers together; nil if there is none, or this
	// one starts alone.
	first *firstStart
}

func (o Options) withDefaults() (Options, error) {
	if o.Config == nil {
		static, _, err := config.Load(config.Sources{})
		if err != nil {
			return o, err
		}
		o.Config = static
	}
	if o.FS == nil {
		o.FS = processFS()
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return o, nil
}

// Broker is a running broker.
type Broker struct {
	o            Options
	conf         *config.Broker
	lg           *zap.Logger
	clusterID    string
	dirs         []*dirs.Dir
	formatted    bool // its directories were a node's before it started
	addresses    *addresses
	peers        *peers
	reverse      *reverse                 // nil where this node is the only one
	registering  *replication.Registering // of this node as a controller; nil where it is none, or the only node
	streams      *quorum.Streams          // nil where this node is the only one
	lifecycle    *replication.Lifecycle
	controller   *replication.Controller
	replicas     *replication.Replicas
	coordinators *coordinators
	server       *server
	listeners    []*listener
	disk         *vfs.Deferred // until the first start is over; nil at any other

	mu         sync.Mutex // guards the fields below
	checkpoint clock.Timer
	upkeep     clock.Timer
	retention  clock.Timer
	cleaning   clock.Timer
	flushing   clock.Timer // nil while nothing waits to be flushed
	shrinking  clock.Timer
	jobs       sync.WaitGroup // what the timers have started
	closed     bool
	killed     bool // it ends without a word to others
	staying    bool // nobody is to take over what it leads
	done       chan struct{}
	closeErr   error
}

// processFS is the system's disk for all brokers of this process, which share the
// descriptors that it may have.
var processFS = sync.OnceValue(func() vfs.FS { return vfs.Bounded(vfs.OS(), openFiles()) })

// Start starts a broker. It serves clients when Start returns.
func Start(ctx context.Context, o Options) (*Broker, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	conf, err := o.Config.Broker()
	if err != nil {
		return nil, err
	}
	o.Logger = o.Logger.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		c, o.levels = levels.Of(c)
		return o.process.muted(c)
	}))
	b := &Broker{o: o, conf: conf, lg: o.Logger.Named("broker").With(zap.Int32("broker", conf.NodeID)), done: make(chan struct{})}
	b.addresses = newAddresses(conf.ControllerListenerName())
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Broker) start(ctx context.Context) error {
	if err := b.openDirs(); err != nil {
		return err
	}
	// The sockets are bound before the metadata is touched, so that a port in
	// use changes nothing but who owns the directories.
	if err := b.bind(); err != nil {
		return err
	}
	voters, err := b.voters()
	if err != nil {
		return err
	}
	b.peers = newPeers(b)
	if err := b.join(ctx, voters); err != nil {
		return err
	}
	if !b.conf.IsBroker() {
		return b.serveAsController(ctx)
	}
	if err := b.register(ctx); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if err := b.replicas.Start(b.controller.Image); err != nil {
		return err
	}
	if b.disk == nil { // brokers that were here before wait for each other's partitions
		b.serveClients()
	}
	if !b.alone() {
		b.lifecycle.Start()
		if err := b.lifecycle.Ready(ctx); err != nil {
			return err
		}
		b.scheduleShrinking()
	}
	if b.disk != nil {
		if b.registering != nil { // what is written later is synced by itself
			all := func(m *meta.Image) bool { return len(m.Controllers()) == b.o.first.brokers }
			if err := errors.Join(b.registering.Registered(ctx), b.controller.Await(ctx, all)); err != nil {
				return fmt.Errorf("register as a controller: %w", err)
			}
		}
		if err := b.o.first.finish(ctx, b); err != nil {
			return err
		}
		b.serveClients()
	}
	b.scheduleCheckpoint()
	b.scheduleUpkeep()
	b.scheduleFlush()
	b.scheduleRetention()
	if b.conf.LogCleanerEnable {
		b.scheduleCleaning()
	}
	return nil
}

// serveClients accepts the connections of clients and other brokers.
func (b *Broker) serveClients() {
	for _, l := range b.listeners {
		if l.kind == api.Broker {
			b.server.open(l)
		}
	}
}

// alone reports whether this node is the only one of its cluster.
func (b *Broker) alone() bool { return b.streams == nil }

// join has this node be a part of the metadata quorum, and serve its controller listener.
func (b *Broker) join(ctx context.Context, voters []quorum.Peer) error {
	fetching := replication.Fetching{Epoch: func() int64 { return b.lifecycle.Epoch() }}
	ro := replication.Options{NodeID: b.conf.NodeID, FS: b.o.FS, Dirs: b.dirs,
		Broker: b.conf, Static: b.o.Config, Clock: b.o.Clock, Logger: b.lg, Flushing: b.scheduleFlush, Progress: b.o.Progress,
		Became: func(p *replication.Partition) { b.coordinators.became(p) }, Ended: func(p *replication.Partition) { b.coordinators.ended(p) }}
	co := replication.ControllerOptions{
		NodeID: b.conf.NodeID, FS: b.o.FS, Dir: path.Join(b.dirs[0].Path, meta.MetadataTopic+"-0"),
		Clock: b.o.Clock, Logger: b.lg, Applied: b.applied, Full: b.full, Static: b.o.Config, Fatal: b.o.Fatal,
	}
	if !b.conf.Lone() {
		b.streams = quorum.NewStreams(b.conf.NodeID, b.peers.raft)
		ro.Lease = replication.NewLease(b.o.Clock, b.conf.BrokerSessionTimeout)
		co.Led = func(int32) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.lifecycle != nil {
				b.lifecycle.Nudge()
			}
		}
		co.Paused = b.o.process.stopped
		co.Streams, co.Timeouts, co.Session, co.Listens, co.Forward = b.streams, b.timeouts(), b.conf.BrokerSessionTimeout, b.peers.listens, b.peers.channel
		co.Voters, co.Observer = voters, len(voters) == 0 || !b.conf.IsController()
		b.reverse = newReverse(b)
		co.Configured = b.reverse.configured
		fetching.Dial, fetching.Fetchers, fetching.MinBytes, fetching.MaxBytes = b.peers.fetch, b.conf.ReplicaFetchers, b.conf.ReplicaFetchMinBytes, b.conf.ReplicaFetchMaxBytes
		fetching.ResponseMaxBytes, fetching.Wait, fetching.Backoff = b.conf.ReplicaFetchResponseMaxBytes, b.conf.ReplicaFetchWait, b.conf.ReplicaFetchBackoff
		co.Elections.Unclean = b.conf.UncleanElectionInterval
		if b.conf.AutoLeaderRebalance {
			co.Elections.Preferred = b.conf.LeaderImbalanceInterval
		}
		ro.Place = func(ctx context.Context, broker int32, epoch int64, all []control.DirAssignment) ([]error, error) {
			return b.controller.AssignDirs(ctx, broker, epoch, all)
		}
		ro.Alter = func(ctx context.Context, r control.AlterPartitionsRequest) (control.AlterPartitionsResult, error) {
			return b.controller.AlterPartitions(ctx, r)
		}
	}
	ro.Fetching = fetching
	b.replicas = replication.NewReplicas(ro)
	co.Settled = b.replicas.Settled
	b.coordinators = newCoordinators(b)
	var err error
	if b.controller, err = replication.StartController(ctx, co); err != nil {
		return err
	}
	if b.conf.IsBroker() {
		b.newLifecycle(ro)
	}
	if b.streams != nil {
		b.reverse.start()
		if b.conf.IsController() {
			b.registering = replication.StartRegistering(b.controller, control.ControllerRegistration{Controller: b.conf.NodeID, EndPoints: b.endPoints(api.Controller)}, b.o.Clock, b.lg)
		}
	}
	for name, n := range convert.UnenforcedIn(b.controller.Image()) {
		b.lg.Warn("the metadata hold what is not enforced", zap.String("what", name), zap.Int("count", n))
	}
	handlers := &api.Handlers{NodeID: b.conf.NodeID, ClusterID: b.clusterID, Controller: b.controller, Replicas: b.replicas,
		Dirs: b.dirs, Broker: b.conf, Static: b.o.Config, Clock: b.o.Clock, Logger: b.lg, Groups: b.coordinators.groups,
		Levels: b.o.levels, Loggers: b.loggers()}
	if b.streams != nil {
		handlers.Raft, handlers.ToController, handlers.ControllerAt = b.streams, b.peers.active, b.addresses.hostPort
	}
	b.server = newServer(b.conf, b.o.Clock, b.lg)
	b.server.process = b.o.process
	// Kafka's defaults of 100 KiB are for systems that do not size buffers by
	// what a connection needs, so they apply only if somebody asks for them.
	if b.o.Config.Explicit("socket.receive.buffer.bytes") {
		b.server.receiveBuffer = b.conf.SocketReceiveBuffer
	}
	if b.o.Config.Explicit("socket.send.buffer.bytes") {
		b.server.sendBuffer = b.conf.SocketSendBuffer
	}
	b.server.begin(handlers.Tables(), b.listeners)
	for _, l := range b.listeners {
		if l.kind == api.Controller {
			b.server.open(l)
		}
	}
	return nil
}

// newLifecycle makes the lifecycle of this node as a broker.
func (b *Broker) newLifecycle(ro replication.Options) {
	lifecycle := replication.NewLifecycle(replication.LifecycleOptions{Registration: b.registration(), Channel: b.controller,
		Applied: func() uint64 { return b.controller.Image().Index }, Offline: b.offlineDirs, Interval: b.conf.BrokerHeartbeatInterval, Clock: b.o.Clock, Logger: b.lg,
		Lease: ro.Lease, Suspend: b.replicas.Suspend})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lifecycle = lifecycle
}

// serveAsController waits until a node that is a controller and no broker is part of the
// quorum: a leader is known to it, and it has what was committed.
func (b *Broker) serveAsController(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.conf.InitialRegistrationTimeout)
	defer cancel()
	if err := b.registering.Registered(ctx); err != nil {
		return fmt.Errorf("register as a controller: %w", err)
	}
	b.scheduleCheckpoint()
	return nil
}

// loggers returns the names of the loggers that log, sorted.
func (b *Broker) loggers() []string {
	name := b.lg.Name()
	out := []string{levels.Root, name}
	for _, part := range []string{"api", "controller", "groups", "lifecycle", "replicas", "server"} {
		out = append(out, name+"."+part)
	}
	slices.Sort(out)
	return out
}

// applied follows a change of the cluster's metadata.
func (b *Broker) applied(old, image *meta.Image, delta meta.Delta) {
	b.replicas.Apply(old, image, delta)
	b.coordinators.apply(image, delta)
	if b.addresses.follow(old, image) && len(b.conf.QuorumVoters) == 0 && !b.conf.Lone() {
		b.job(func() {
			if err := b.addresses.store(b.o.FS, b.dirs[0].File(dirs.KnownControllersFile)); err != nil {
				b.lg.Warn("cannot write down where the controllers listen", zap.Error(err))
			}
		})
	}
}

func (b *Broker) openDirs() error {
	metadata, _, _ := b.o.Config.Get("metadata.log.dir")
	start := convert.Start{Dirs: b.conf.LogDirs, Metadata: metadata, NodeID: b.conf.NodeID, ClusterID: b.o.ClusterID}
	if err := start.Check(b.o.FS); err != nil {
		return err
	}
	known, err := begun(b.o.FS, b.conf.LogDirs)
	if err != nil {
		return err
	}
	if !known && b.o.ClusterID == "" && !b.conf.Lone() {
		return fmt.Errorf("%s is new, and the nodes of a cluster must agree on its id: format it with 'klamm storage format', or set CLUSTER_ID", b.conf.LogDirs[0])
	}
	b.formatted = known
	if b.o.first == nil && !known && b.conf.Lone() {
		b.o.first = newFirstStart(1)
	}
	open := dirs.Open
	if b.o.first != nil {
		b.disk = vfs.NewDeferred(b.o.FS)
		b.o.FS, open = b.disk, dirs.OpenNew
	}
	want := dirs.Identity{ClusterID: b.o.ClusterID, NodeID: b.conf.NodeID}
	for _, dir := range b.conf.LogDirs {
		d, got, err := open(b.o.FS, dir, want)
		if err != nil {
			return err
		}
		want = got
		b.dirs = append(b.dirs, d)
	}
	b.clusterID = want.ClusterID
	return b.addresses.load(b.o.FS, b.dirs[0].File(dirs.KnownControllersFile))
}

// full returns the error of a log directory of this broker if none is well.
func (b *Broker) full(id int32) (err error) {
	if id != b.conf.NodeID {
		return nil
	}
	for _, d := range b.dirs {
		if err = d.Err(); err == nil {
			return nil
		}
	}
	return err
}

func (b *Broker) bind() error {
	kinds := []struct {
		kind      api.Kind
		listeners []config.Listener
	}{{api.Broker, b.conf.Listeners}, {api.Controller, b.conf.ControllerListeners}}
	for _, of := range kinds {
		for _, l := range of.listeners {
			if l.Protocol != "PLAINTEXT" {
				return fmt.Errorf("listener %s: security protocol %s is not supported yet", l, l.Protocol)
			}
			socket, err := b.o.Listen("tcp", l.Address())
			if err != nil {
				return fmt.Errorf("listener %s: %w", l, err)
			}
			b.listeners = append(b.listeners, &listener{l.Name, of.kind, true, socket})
		}
	}
	return nil
}

// Addr returns the address of the first listener, as host:port.
func (b *Broker) Addr() string { return b.listeners[0].Addr().String() }

// Addrs returns the addresses of all listeners, as host:port.
func (b *Broker) Addrs() []string {
	var out []string
	for _, l := range b.listeners {
		out = append(out, l.Addr().String())
	}
	return out
}

// Bootstrap returns the addresses that clients can be given. A wildcard address
// is named as localhost.
func (b *Broker) Bootstrap() []string {
	var out []string
	for _, l := range b.listeners {
		if l.kind != api.Broker {
			continue
		}
		host, port := hostPort(l.Addr())
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			host = "localhost"
		}
		out = append(out, net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
	return out
}

// Controllers returns the addresses at which others reach this node as a controller.
func (b *Broker) Controllers() (out []string) {
	for _, e := range b.endPoints(api.Controller) {
		out = append(out, net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
	}
	return out
}

// ClusterID returns the id of the cluster.
func (b *Broker) ClusterID() string { return b.clusterID }

// NodeID returns the id of this broker.
func (b *Broker) NodeID() int32 { return b.conf.NodeID }

// Metadata returns the cluster's metadata as this broker has them.
func (b *Broker) Metadata() *meta.Image { return b.controller.Image() }

// AwaitMetadata waits until the metadata of this broker are so, or ctx ends.
func (b *Broker) AwaitMetadata(ctx context.Context, ok func(*meta.Image) bool) error {
	return b.controller.Await(ctx, ok)
}

// Active reports whether this broker is the active controller of its cluster.
func (b *Broker) Active() bool { return b.controller.Active() }

// Done is closed once the broker is closed.
func (b *Broker) Done() <-chan struct{} { return b.done }

// closeGrace is how long requests under way may take to be answered when the
// broker closes.
const closeGrace = 10 * time.Second

// Kill ends the broker as if its process had died: connections are reset, nobody takes
// over from it, and requests under way are not answered. What it still writes is the
// disk's to refuse, if it must be lost.
func (b *Broker) Kill() {
	b.mu.Lock()
	b.killed = true
	b.mu.Unlock()
	if b.streams != nil {
		b.streams.Close()
	}
	_ = b.Close() // its disk is gone, which is the error
}

// Close stops the broker: requests under way are answered, the logs are synced
// and the log directories marked as cleanly shut down.
func (b *Broker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		<-b.done
		return b.closeErr
	}
	b.closed = true
	killed := b.killed
	for _, t := range []clock.Timer{b.checkpoint, b.upkeep, b.retention, b.cleaning, b.flushing, b.shrinking} {
		if t != nil {
			t.Stop()
		}
	}
	b.mu.Unlock()
	defer close(b.done)
	var err error
	b.leave()
	if b.server != nil {
		grace := closeGrace
		if killed {
			grace = 0
		}
		b.server.quit(grace)
	} else {
		for _, l := range b.listeners {
			l.Close()
		}
	}
	if b.registering != nil {
		b.registering.Close()
	}
	if b.coordinators != nil {
		b.coordinators.close()
	}
	if b.replicas != nil {
		b.replicas.StopCleaning()
		b.jobs.Wait() // nothing writes to the directories once they are given up
		err = errors.Join(err, b.replicas.Close(b.lifecycle.Epoch()))
	}
	if b.reverse != nil {
		b.reverse.close()
	}
	if b.controller != nil {
		if killed && b.streams != nil {
			b.streams.Close() // nothing is said on them any more
		}
		err = errors.Join(err, b.controller.Close())
	}
	if b.peers != nil {
		b.peers.close()
	}
	for _, d := range b.dirs {
		err = errors.Join(err, d.Close())
	}
	b.closeErr = err
	return err
}
