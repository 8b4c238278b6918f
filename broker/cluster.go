package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/wire/prim"
)

// ClusterOptions say what a cluster of brokers in one process is made of.
type ClusterOptions struct {
	// Brokers is how many there are, with the ids from 1 on. Each is a controller too, unless
	// there are Controllers.
	Brokers int
	// Controllers is how many nodes are controllers and no brokers, with the ids from
	// FirstController on.
	Controllers int
	// Of are what every broker is made of. Its Config is not used, and its FS is that of
	// all brokers unless there is Disk.
	Of Options
	// Sources are where the config of every broker comes from. Listeners are Host's, and
	// log.dirs are below Dir.
	Sources config.Sources
	// Overrides are keys of one broker, as key=value; nil for none.
	Overrides func(id int32) []string
	Dir       string
	LogDirs   int // of each broker; 0 means 1
	// Host is where broker id listens; "" means 127.0.0.1. Port is the first broker's
	// port, and the others have those behind it; 0 picks free ones.
	Host func(id int32) string
	Port int
	// Disk returns the disk of a broker; nil means that of Of.
	Disk func(id int32) vfs.FS
	// Logger returns that of a broker; nil means that of Of.
	Logger func(id int32) *zap.Logger
	// Progress is notified as Options.Progress is, by broker; nil for not at all.
	Progress func(id int32, p replication.Progress)
	// Dial returns how a broker connects to others; nil means that of Of.
	Dial func(id int32) func(ctx context.Context, network, address string) (net.Conn, error)
}

// FirstController is the id of the first node of a Cluster that is a controller and no broker.
const FirstController = 1001

// Cluster is several nodes in one process, which share nothing but the process. Its
// methods are safe for concurrent use.
type Cluster struct {
	o  ClusterOptions
	id string

	adding sync.Mutex // held while a broker is added

	mu  sync.Mutex // guards all
	all []*node    // in order of id
}

// node is a place for a broker or a controller: its addresses stay the same when it is started
// again.
type node struct {
	id         int32
	listen     string // host:port for clients and brokers; "" if it is no broker
	controller string // host:port for controllers; "" if it is none; neither changes

	mu      sync.Mutex // guards the fields below
	broker  *Broker    // nil while it does not run
	process *process   // of broker, or of the one before it
	bound   map[string]net.Listener
}

// StartCluster starts all brokers of a cluster. They serve clients when it returns.
func StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	of, err := o.Of.withDefaults()
	if err != nil {
		return nil, err
	}
	of.Near = true
	o.Of = of
	c := &Cluster{o: o, id: of.ClusterID}
	first, err := c.identify()
	if err != nil {
		return nil, err
	}
	if err := c.bind(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	nodes := c.nodes()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, n := range nodes {
		wg.Go(func() {
			if errs[i] = c.start(ctx, n.id, first); errs[i] != nil {
				cancel() // the others may wait for this one
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// dir returns where a broker has its data.
func (c *Cluster) dir(id int32) string { return path.Join(c.o.Dir, BrokerDir(id)) }

// dirs returns the log directories of a broker.
func (c *Cluster) dirs(id int32) []string {
	if c.o.LogDirs <= 1 {
		return []string{c.dir(id)}
	}
	var all []string
	for i := range c.o.LogDirs {
		all = append(all, path.Join(c.dir(id), fmt.Sprintf("dir-%d", i+1)))
	}
	return all
}

// BrokerDir returns the name of the directory that a broker of a cluster has its data in.
func BrokerDir(id int32) string { return fmt.Sprintf("broker-%d", id) }

func (c *Cluster) disk(id int32) vfs.FS {
	if c.o.Disk != nil {
		return c.o.Disk(id)
	}
	return c.o.Of.FS
}

// identify gives the cluster the id that its brokers have on their disks, or a new one. If
// nobody has anything yet, it returns their first start.
func (c *Cluster) identify() (*firstStart, error) {
	first := newFirstStart(c.o.Brokers)
	if c.o.Controllers > 0 {
		first = nil // the brokers begin nothing: the controllers do
	}
	for _, id := range c.layout() {
		d, err := convert.Look(c.disk(id), c.dirs(id)[0])
		if err != nil {
			return nil, err
		}
		if c.id == "" {
			c.id = d.ClusterID
		}
		if known, err := begun(c.disk(id), c.dirs(id)); err != nil {
			return nil, err
		} else if known {
			first = nil
		}
	}
	if c.id == "" {
		c.id = prim.RandomUUID().String()
	}
	return first, nil
}

// layout returns the ids of the nodes that the cluster begins with.
func (c *Cluster) layout() (ids []int32) {
	for i := range c.o.Brokers {
		ids = append(ids, int32(i+1))
	}
	for i := range c.o.Controllers {
		ids = append(ids, int32(FirstController+i))
	}
	return ids
}

// bind binds the sockets of every node, so that all addresses are known before the first
// one starts.
func (c *Cluster) bind() error {
	for i, id := range c.layout() {
		port := 0
		if c.o.Port > 0 && id < FirstController {
			port = c.o.Port + i
		}
		if _, err := c.place(id, port, id < FirstController, id >= FirstController || c.o.Controllers == 0); err != nil {
			return err
		}
	}
	return nil
}

// place makes a place for a node, and binds its sockets.
func (c *Cluster) place(id int32, port int, serves, controls bool) (*node, error) {
	n := &node{id: id, bound: make(map[string]net.Listener)}
	host := "127.0.0.1"
	if c.o.Host != nil {
		host = c.o.Host(id)
	}
	for _, of := range []struct {
		wanted bool
		port   int
		addr   *string
	}{{serves, port, &n.listen}, {controls, 0, &n.controller}} {
		if !of.wanted {
			continue
		}
		l, err := c.o.Of.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(of.port)))
		if err != nil {
			for _, l := range n.bound {
				l.Close()
			}
			return nil, fmt.Errorf("node %d: %w", id, err)
		}
		_, bound := hostPort(l.Addr())
		*of.addr = net.JoinHostPort(host, strconv.Itoa(int(bound)))
		n.bound[*of.addr] = l
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, n)
	slices.SortFunc(c.all, func(a, b *node) int { return int(a.id - b.id) })
	return n, nil
}

// nodes returns the places of all nodes, in order of id.
func (c *Cluster) nodes() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// node returns the place of a node, nil if there is none.
func (c *Cluster) node(id int32) *node {
	for _, n := range c.nodes() {
		if n.id == id {
			return n
		}
	}
	return nil
}

// Add adds a broker to a cluster that runs, with the next id. It is a broker and no
// controller, as the voters of the quorum stay who they are. It serves when Add returns; it
// has no replicas until some are assigned to it. One that could not be started has its place
// all the same: see Start.
func (c *Cluster) Add(ctx context.Context) (id int32, err error) {
	c.adding.Lock()
	defer c.adding.Unlock()
	id = 1
	for _, n := range c.nodes() {
		if n.id < FirstController {
			id = n.id + 1
		}
	}
	if _, err := c.place(id, 0, true, false); err != nil {
		return id, err
	}
	return id, c.Start(ctx, id)
}

// At returns the broker that has an address (host:port), 0 for none.
func (c *Cluster) At(address string) int32 {
	for _, n := range c.nodes() {
		if address != "" && (n.listen == address || n.controller == address) {
			return n.id
		}
	}
	return 0
}

// Start starts a broker that does not run.
func (c *Cluster) Start(ctx context.Context, id int32) error { return c.start(ctx, id, nil) }

func (c *Cluster) start(ctx context.Context, id int32, first *firstStart) error {
	n := c.node(id)
	if n == nil {
		return fmt.Errorf("there is no broker %d", id)
	}
	var voters []string
	for _, v := range c.nodes() {
		if v.controller != "" {
			voters = append(voters, fmt.Sprintf("%d@%s", v.id, v.controller))
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broker != nil {
		return fmt.Errorf("broker %d runs", id)
	}
	sources := c.o.Sources
	if c.o.Overrides != nil {
		sources.Overrides = append(slices.Clone(sources.Overrides), c.o.Overrides(id)...)
	}
	sources.Overrides = append(slices.Clone(sources.Overrides), fmt.Sprintf("node.id=%d", id), "controller.listener.names=CONTROLLER",
		"controller.quorum.voters="+strings.Join(voters, ","), "log.dirs="+strings.Join(c.dirs(id), ","))
	switch {
	case n.controller == "":
		sources.Overrides = append(sources.Overrides, "process.roles=broker", "listeners=PLAINTEXT://"+n.listen, "advertised.listeners=PLAINTEXT://"+n.listen)
	case n.listen == "":
		sources.Overrides = append(sources.Overrides, "process.roles=controller", "listeners=CONTROLLER://"+n.controller, "advertised.listeners=CONTROLLER://"+n.controller)
	default:
		sources.Overrides = append(sources.Overrides, "process.roles=broker,controller", "listeners=PLAINTEXT://"+n.listen+",CONTROLLER://"+n.controller,
			"advertised.listeners=PLAINTEXT://"+n.listen)
	}
	static, _, err := config.Load(sources)
	if err != nil {
		return err
	}
	o := c.o.Of
	o.Config, o.ClusterID, o.first = static, c.id, first
	p := new(process)
	o.process = p
	o.FS = vfs.Gate(c.disk(id), p.pass)
	if c.o.Logger != nil {
		o.Logger = c.o.Logger(id)
	}
	fatal := o.Fatal
	if fatal == nil {
		fatal = func(err error) {
			o.Logger.Error("a broker ends: it cannot be part of the cluster any more", zap.Int32("broker", id), zap.Error(err))
			_ = c.Kill(id) // it may have ended already
		}
	}
	o.Fatal = func(err error) {
		if !p.dead.Load() { // the disk of one that was killed is gone, which is no news
			fatal(err)
		}
	}
	if c.o.Progress != nil {
		o.Progress = func(p replication.Progress) { c.o.Progress(id, p) }
	}
	if c.o.Dial != nil {
		o.Dial = c.o.Dial(id)
	}
	o.Dial = p.dial(o.Dial)
	listen := o.Listen
	o.Listen = func(network, address string) (net.Listener, error) {
		if l := n.bound[address]; l != nil {
			delete(n.bound, address)
			return l, nil
		}
		return listen(network, address)
	}
	b, err := Start(ctx, o)
	if err != nil {
		return fmt.Errorf("broker %d: %w", id, err)
	}
	n.broker, n.process = b, p
	return nil
}

// Broker returns a broker, nil if it does not run.
func (c *Cluster) Broker(id int32) *Broker {
	n := c.node(id)
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broker
}

// notRunning is the error of what only a broker that runs can do.
func notRunning(id int32) error { return fmt.Errorf("broker %d does not run", id) }

// Stop stops one broker: others lead what it led. One that is paused goes on first.
func (c *Cluster) Stop(id int32) error {
	b, p := c.take(id)
	if b == nil {
		return notRunning(id)
	}
	p.resume()
	return b.Close()
}

// Kill ends one broker as if its process had died: nothing more is written to its disk, and
// what it has written is not synced.
func (c *Cluster) Kill(id int32) error {
	b, p := c.take(id)
	if b == nil {
		return notRunning(id)
	}
	p.kill()
	b.Kill()
	return nil
}

// Pause has one broker be silent like a process that is sent SIGSTOP: it reads and writes
// nothing, until Resume.
func (c *Cluster) Pause(id int32) error {
	b, p := c.running(id)
	switch {
	case b == nil:
		return notRunning(id)
	case !p.pause():
		return fmt.Errorf("broker %d is paused already", id)
	}
	return nil
}

// Resume ends a Pause.
func (c *Cluster) Resume(id int32) error {
	b, p := c.running(id)
	switch {
	case b == nil:
		return notRunning(id)
	case !p.resume():
		return fmt.Errorf("broker %d is not paused", id)
	}
	return nil
}

// running returns a broker that runs, nil if it does not, and its process.
func (c *Cluster) running(id int32) (*Broker, *process) {
	n := c.node(id)
	if n == nil {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broker, n.process
}

// take returns a broker that is about to end, and its process. Another one may be started in
// its place.
func (c *Cluster) take(id int32) (*Broker, *process) {
	n := c.node(id)
	if n == nil {
		return nil, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.broker
	n.broker = nil
	return b, n.process
}

// IDs returns the ids of all nodes, running or not.
func (c *Cluster) IDs() (out []int32) {
	for _, n := range c.nodes() {
		out = append(out, n.id)
	}
	return out
}

// Bootstrap returns the addresses that clients can be given, as host:port.
func (c *Cluster) Bootstrap() (out []string) {
	for _, n := range c.nodes() {
		if n.listen != "" {
			out = append(out, n.listen)
		}
	}
	return out
}

// Controllers returns the addresses of all controllers, as host:port.
func (c *Cluster) Controllers() (out []string) {
	for _, n := range c.nodes() {
		if n.controller != "" {
			out = append(out, n.controller)
		}
	}
	return out
}

// ClusterID returns the id of the cluster.
func (c *Cluster) ClusterID() string { return c.id }

// Close stops all brokers. Nobody takes over what they lead. Those that are paused go on first.
func (c *Cluster) Close() error {
	var err error
	nodes := c.nodes()
	for _, n := range nodes {
		if b, p := c.running(n.id); b != nil {
			p.resume()
			b.stays()
		}
	}
	for _, n := range slices.Backward(nodes) {
		if b, _ := c.take(n.id); b != nil {
			err = errors.Join(err, b.Close())
		}
		n.mu.Lock()
		for _, l := range n.bound {
			l.Close()
		}
		n.mu.Unlock()
	}
	return err
}
