package broker

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
)

// server is the socket server: listeners, connections, and the pool that their
// requests run in.
type server struct {
	lg         *zap.Logger
	now        func() time.Time
	clock      clock.Clock
	pool       *pool
	controller *pool   // of the controller's listeners: what brokers ask of each other waits for no client
	memory     *memory // nil: no limit
	buffers    buffers
	tables     *api.Tables
	repeats    *api.Repeats // of connections that are closed over a request
	maxRequest int
	// networks are made before the first connection and not changed after.
	networkThreads int
	process        *process // may be nil
	networks       map[*listener]network
	limits         limits
	maxIdle        time.Duration
	// Sizes of the sockets' buffers in bytes; 0 leaves them to the system.
	receiveBuffer, sendBuffer int

	ctx      context.Context // of every request
	cancel   context.CancelFunc
	stopping atomic.Bool
	// goroutines counts acceptors, connections and parked writers.
	goroutines sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	room      sync.Cond  // a connection ended, or the server stops
	conns     map[*conn]struct{}
	byIP      map[string]int
	nextID    uint64
	listeners []*listener
	reaper    clock.Timer
	settler   clock.Timer // nil while every connection rests, or waits otherwise
	resting   int         // connections that have begun to rest since freed
	freed     time.Time   // when their memory was given back
}

// limits bound the connections (max.connections and its kin).
type limits struct {
	all   int
	perIP int
	byIP  map[string]int
}

// listener accepts the connections of one of the broker's listeners.
type listener struct {
	name string
	kind api.Kind
	open bool // its clients need not authenticate
	net.Listener
}

// controllerSlots is how many requests to the controller are handled at once. They wait for
// each other, and for the quorum, more than they work.
const controllerSlots = 100

// retained bounds the large buffers that wait for use.
const retained = 32 << 20

func newServer(b *config.Broker, c clock.Clock, lg *zap.Logger) *server {
	s := &server{lg: lg.Named("server"), now: c.Now, clock: c, pool: newPool(b.IOThreads, b.QueuedMaxRequests), controller: newPool(controllerSlots, b.QueuedMaxRequests),
		buffers: buffers{limit: retained}, maxRequest: b.SocketRequestMaxBytes, maxIdle: b.ConnectionsMaxIdle,
		memory: newMemory(b.QueuedMaxRequestBytes), networkThreads: b.NetworkThreads, networks: make(map[*listener]network),
		repeats: api.NewRepeats(c, 1),
		limits:  limits{b.MaxConnections, b.MaxConnectionsPerIP, b.MaxConnectionsByIP},
		conns:   make(map[*conn]struct{}), byIP: make(map[string]int)}
	s.room.L = &s.mu
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// serve starts to accept connections on all listeners.
func (s *server) serve(tables *api.Tables, listeners []*listener) {
	s.begin(tables, listeners)
	for _, l := range listeners {
		s.open(l)
	}
}

// begin has the server know its listeners. It accepts no connection yet.
func (s *server) begin(tables *api.Tables, listeners []*listener) {
	s.tables = tables
	s.listeners = listeners
	for _, l := range listeners {
		s.networks[l] = newNetwork(s.networkThreads)
	}
	s.mu.Lock()
	s.reaper = s.clock.AfterFunc(s.reapInterval(), s.reap)
	s.mu.Unlock()
}

// open starts to accept connections on a listener.
func (s *server) open(l *listener) { s.goroutines.Go(func() { s.accept(l) }) }

// accept accepts connections until the listener is closed. An error that may
// pass, such as too many open files, makes it pause: existing connections go on.
func (s *server) accept(l *listener) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		nc, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || s.stopping.Load() {
				return
			}
			s.lg.Error("accept failed", zap.String("listener", l.name), zap.Error(err), zap.Duration("pause", pause))
			if clock.Sleep(s.ctx, s.clock, pause) != nil {
				return
			}
			pause = min(2*pause, longest)
			continue
		}
		pause = shortest
		if s.process.pass() != nil {
			nc.Close()
			continue
		}
		s.admit(l, nc)
	}
}

// admit starts a connection. At max.connections it waits, as Kafka's acceptor
// does, until another ends; it closes one that is too many from its address.
func (s *server) admit(l *listener, nc net.Conn) {
	ip, _ := hostPort(nc.RemoteAddr())
	s.mu.Lock()
	if len(s.conns) >= s.limits.all {
		s.lg.Warn("no connection is accepted until another ends", zap.Int("connections", len(s.conns)), zap.String("listener", l.name))
	}
	for len(s.conns) >= s.limits.all && !s.stopping.Load() {
		s.room.Wait()
	}
	perIP, ok := s.limits.byIP[ip]
	if !ok {
		perIP = s.limits.perIP
	}
	if stopping := s.stopping.Load(); stopping || s.byIP[ip] >= perIP {
		s.mu.Unlock()
		nc.Close()
		if !stopping {
			s.lg.Warn("refused a connection: too many from its address", zap.String("peer", ip), zap.Int("limit", perIP))
		}
		return
	}
	s.sizeBuffers(nc)
	s.nextID++
	c := newConn(s.ctx, s, nc, l, s.nextID)
	s.conns[c] = struct{}{}
	if c.frames.socket != nil {
		s.unsettled()
	}
	s.byIP[ip]++
	s.mu.Unlock()
	s.goroutines.Add(1)
	go c.run()
}

// forget takes a connection that has ended off the list.
func (s *server) forget(c *conn) {
	defer s.goroutines.Done()
	ip := c.session.RemoteHost
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.byIP[ip]--; s.byIP[ip] == 0 {
		delete(s.byIP, ip)
	}
	s.room.Broadcast()
}

// settle has idle connections rest, as long as there are any. Once all of many do,
// the memory of their stacks goes back to the system.
func (s *server) settle() {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	left := false
	for c := range s.conns {
		if c.rest(now) {
			s.resting++
		}
		left = left || !c.rested.Load() && c.frames.socket != nil
	}
	s.settler = nil
	switch {
	case left:
		s.unsettled()
	case s.resting >= manyResting && now.Sub(s.freed) >= freeEvery:
		s.resting, s.freed = 0, now
		// It takes a while, and the stacks are given up soon after this only.
		s.settler = s.clock.AfterFunc(2*restAfter, func() {
			s.mu.Lock()
			s.settler = nil
			s.unsettled() // some may have had a request meanwhile
			s.mu.Unlock()
			go debug.FreeOSMemory()
		})
	}
}

// How many connections must have begun to rest for their memory to be given back,
// and how often that is done at most: it has to be taken from the system again.
const (
	manyResting = 500
	freeEvery   = time.Minute
)

// restless notes that a connection which rested has a request.
func (s *server) restless() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsettled()
}

// unsettled has settle run soon: a connection may be idle by then. s.mu is held.
func (s *server) unsettled() {
	if s.settler == nil && !s.stopping.Load() {
		s.settler = s.clock.AfterFunc(2*restAfter, s.settle)
	}
}

// sizeBuffers sets the sizes of a socket's buffers where they are configured. A
// system that refuses a size keeps its own.
func (s *server) sizeBuffers(nc net.Conn) {
	b, ok := nc.(interface {
		SetReadBuffer(bytes int) error
		SetWriteBuffer(bytes int) error
	})
	if !ok {
		return
	}
	if s.receiveBuffer > 0 {
		if err := b.SetReadBuffer(s.receiveBuffer); err != nil {
			s.lg.Debug("socket.receive.buffer.bytes was refused", zap.Error(err))
		}
	}
	if s.sendBuffer > 0 {
		if err := b.SetWriteBuffer(s.sendBuffer); err != nil {
			s.lg.Debug("socket.send.buffer.bytes was refused", zap.Error(err))
		}
	}
}

// reapInterval is how often idle connections and buffers are looked for.
func (s *server) reapInterval() time.Duration {
	const most = time.Minute
	if s.maxIdle <= 0 {
		return most
	}
	return min(max(s.maxIdle/2, 10*time.Millisecond), most)
}

// reap closes connections on which nothing has moved for connections.max.idle.ms
// and drops buffers that nobody wanted. As with Kafka it makes no difference
// whether a request is parked or an answer stands in a peer that reads nothing:
// either may belong to a client that is long gone.
func (s *server) reap() {
	now := s.now().UnixNano()
	s.mu.Lock()
	for c := range s.conns {
		if s.maxIdle > 0 && time.Duration(now-c.touched.Load()) > s.maxIdle {
			c.log().Debug("closed an idle connection", zap.Bool("busy", !c.idle()))
			c.cancel()
			c.nc.Close()
		}
	}
	if !s.stopping.Load() {
		s.reaper = s.clock.AfterFunc(s.reapInterval(), s.reap)
	}
	s.mu.Unlock()
	s.buffers.trim()
}

// quit stops accepting, lets the requests under way be answered, and closes
// every connection. Parked requests answer at once with what they have.
func (s *server) quit(grace time.Duration) {
	s.stopping.Store(true)
	s.mu.Lock()
	for _, l := range s.listeners {
		l.Close()
	}
	for _, t := range []clock.Timer{s.reaper, s.settler} {
		if t != nil {
			t.Stop()
		}
	}
	s.room.Broadcast()
	s.mu.Unlock()
	s.cancel()
	s.closeConns((*conn).idle)
	done := make(chan struct{})
	go func() {
		s.goroutines.Wait()
		close(done)
	}()
	expired, timer := clock.After(s.clock, grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-expired:
		if grace > 0 {
			s.lg.Warn("connections did not end in time", zap.Duration("grace", grace))
		}
	}
	s.closeConns(func(*conn) bool { return true })
	<-done
}

func (s *server) closeConns(which func(*conn) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if which(c) {
			c.nc.Close()
		}
	}
}
