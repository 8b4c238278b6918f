package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	wireconn "github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// peers are the connections of this node to the others of its cluster.
type peers struct {
	b *Broker

	mu     sync.Mutex // guards the fields below
	conns  map[peerUse]*peerConn
	closed bool
}

// peerUse is a node and what its connection is for.
type peerUse struct {
	node int32
	of   replication.Purpose
}

// peerConn is a connection that is kept. dialling is held while it is opened.
type peerConn struct {
	dialling chan struct{}
	conn     *wireconn.Conn
}

func newPeers(b *Broker) *peers { return &peers{b: b, conns: make(map[peerUse]*peerConn)} }

// near reports whether every controller is on this machine, where a message takes no time.
func (p *peers) near() bool {
	for _, address := range p.candidates() {
		host, _, _ := net.SplitHostPort(address)
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return p.b.o.Near
		}
	}
	return true
}

// dialTimeout bounds the opening of a connection to another node.
const dialTimeout = 3 * time.Second

func (p *peers) options() wireconn.Options {
	return wireconn.Options{Dial: p.b.o.Dial, ClientID: "broker-" + strconv.Itoa(int(p.b.conf.NodeID)), SoftwareName: "klamm",
		ConnectTimeout: dialTimeout, RequestTimeout: p.b.conf.RequestTimeout, MaxInFlight: 100}
}

// raft opens a connection to another controller that raft can speak over.
func (p *peers) raft(ctx context.Context, to quorum.Peer) (net.Conn, error) {
	addr, ok := p.b.addresses.of(to.ID)
	if !ok {
		return nil, fmt.Errorf("%w: node %d", quorum.ErrNoListener, to.ID)
	}
	req, version := api.RaftRequest(p.b.clusterID, p.b.self(), to, false)
	nc, _, err := p.handOver(ctx, addr, req, version)
	return nc, err
}

// reverse opens a connection to the controller at an address that raft can speak over there:
// the other side speaks first. It returns that controller's id too.
func (p *peers) reverse(ctx context.Context, addr string) (net.Conn, int32, error) {
	req, version := api.RaftRequest(p.b.clusterID, p.b.self(), quorum.Peer{ID: -1}, true)
	nc, resp, err := p.handOver(ctx, addr, req, version)
	if err != nil {
		return nil, -1, err
	}
	node, err := api.RaftAnswerer(resp)
	if err != nil {
		nc.Close()
		return nil, -1, fmt.Errorf("controller at %s: %w", addr, err)
	}
	return nc, node, nil
}

func (p *peers) handOver(ctx context.Context, addr string, req *msg.BeginQuorumEpochRequest, version int16) (net.Conn, *msg.BeginQuorumEpochResponse, error) {
	resp := new(msg.BeginQuorumEpochResponse)
	nc, err := wireconn.HandOver(ctx, "tcp", addr, p.options(), req, version, resp)
	if err != nil {
		return nil, nil, err
	}
	if code := kerr.Code(resp.ErrorCode); code != kerr.None {
		nc.Close()
		return nil, nil, fmt.Errorf("the controller at %s refuses raft: %w", addr, code)
	}
	return nc, resp, nil
}

// discover asks all addresses at which there may be a controller who the voters are, and where
// they listen.
func (p *peers) discover(ctx context.Context) {
	var asking sync.WaitGroup
	for _, addr := range p.candidates() {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			c, err := wireconn.Dial(ctx, "tcp", addr, p.options())
			if err != nil {
				return // another one may answer; it is asked again
			}
			defer c.Close()
			var resp msg.DescribeQuorumResponse
			if c.Do(ctx, api.QuorumRequest(), &resp) != nil || resp.ErrorCode != 0 {
				return
			}
			for _, n := range resp.Nodes {
				if len(n.Listeners) > 0 && n.NodeId != p.b.conf.NodeID {
					p.b.addresses.learn(n.NodeId, net.JoinHostPort(n.Listeners[0].Host, strconv.Itoa(int(n.Listeners[0].Port))))
				}
			}
		})
	}
	asking.Wait()
}

// channel returns the way to the active controller on another node.
func (p *peers) channel(leader int32) (replication.Channel, error) {
	return replication.Remote{ClusterID: p.b.clusterID, Connect: func(ctx context.Context, of replication.Purpose) (*wireconn.Conn, error) {
		return p.controller(ctx, leader, of)
	}}, nil
}

// controller returns a connection to a controller. The error is kerr.NotController where
// another try may help.
func (p *peers) controller(ctx context.Context, node int32, of replication.Purpose) (*wireconn.Conn, error) {
	addr, ok := p.b.addresses.of(node)
	if !ok {
		return nil, fmt.Errorf("%w: controller %d has no known address", kerr.NotController, node)
	}
	c, err := p.connect(ctx, peerUse{node, of}, addr)
	if err != nil {
		return nil, fmt.Errorf("%w: controller %d at %s: %w", kerr.NotController, node, addr, err)
	}
	return c, nil
}

// active returns a connection to the active controller, for requests of clients.
func (p *peers) active(ctx context.Context) (*wireconn.Conn, error) {
	leader := p.b.controller.Quorum().Leader
	if leader < 0 || leader == p.b.conf.NodeID {
		return nil, kerr.NotController
	}
	return p.controller(ctx, leader, replication.ForClients)
}

func (p *peers) connect(ctx context.Context, use peerUse, addr string) (*wireconn.Conn, error) {
	p.mu.Lock()
	kept := p.conns[use]
	if kept == nil {
		kept = &peerConn{dialling: make(chan struct{}, 1)}
		p.conns[use] = kept
	}
	p.mu.Unlock()
	select {
	case kept.dialling <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-kept.dialling }()
	if kept.conn != nil && kept.conn.Err() == nil {
		return kept.conn, nil
	}
	c, err := wireconn.Dial(ctx, "tcp", addr, p.options())
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Abort(wireconn.ErrClosed)
		return nil, wireconn.ErrClosed
	}
	kept.conn = c
	return c, nil
}

// close closes every connection, for good.
func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	var all []*wireconn.Conn
	for _, kept := range p.conns {
		if kept.conn != nil {
			all = append(all, kept.conn)
		}
	}
	p.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// address returns where a broker listens for others.
func (p *peers) address(b *meta.Broker) (string, bool) {
	for _, e := range b.Endpoints {
		if e.Name == p.b.conf.InterBroker {
			return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), true
		}
	}
	return "", false
}

// fetch opens a connection to a broker, for followers.
func (p *peers) fetch(ctx context.Context, id int32) (*wireconn.Conn, error) {
	b := p.b.controller.Image().Broker(id)
	if b == nil {
		return nil, fmt.Errorf("broker %d is not registered", id)
	}
	addr, ok := p.address(b)
	if !ok {
		return nil, fmt.Errorf("broker %d has no listener %s", id, p.b.conf.InterBroker)
	}
	o := p.options()
	o.RequestTimeout = max(p.b.conf.ReplicaSocketTimeout, p.b.conf.ReplicaFetchWait+time.Second)
	return wireconn.Dial(ctx, "tcp", addr, o)
}

// listens implements replication.ControllerOptions.Listens.
func (p *peers) listens(ctx context.Context, b *meta.Broker) bool {
	addr, ok := p.address(b)
	if !ok { // a controller may not know which listener is meant for it
		if len(b.Endpoints) == 0 {
			return true
		}
		addr = net.JoinHostPort(b.Endpoints[0].Host, strconv.Itoa(int(b.Endpoints[0].Port)))
	}
	nc, err := p.b.o.Dial(ctx, "tcp", addr)
	if err == nil {
		nc.Close()
	}
	return !errors.Is(err, syscall.ECONNREFUSED)
}
