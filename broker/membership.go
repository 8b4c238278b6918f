package broker

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/prim"
)

// voters returns the first controllers of the cluster as they are configured, or else as the
// storage was formatted with (KIP-853). There are none where the node joins a quorum that is
// there.
func (b *Broker) voters() (voters []quorum.Peer, err error) {
	if b.conf.Lone() {
		return nil, nil
	}
	for _, v := range b.conf.QuorumVoters {
		voters = append(voters, quorum.Peer{ID: v.ID})
		b.addresses.fix(v.ID, v.Address())
	}
	if len(voters) > 0 || !b.conf.IsController() {
		return voters, nil
	}
	name := b.dirs[0].File(dirs.InitialControllersFile)
	text, err := vfs.ReadFile(b.o.FS, name)
	switch {
	case errors.Is(err, iofs.ErrNotExist) && b.formatted:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the controllers of the cluster are not known: set controller.quorum.voters, or format the storage with 'klamm storage format', and one of --standalone, --initial-controllers and --no-initial-controllers: %w", err)
	}
	initial, err := dirs.ParseInitialControllers(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, c := range initial {
		voters = append(voters, quorum.Peer{ID: c.ID, Directory: c.Directory})
		b.addresses.learn(c.ID, c.Address())
	}
	if !slices.ContainsFunc(voters, func(p quorum.Peer) bool { return p.ID == b.conf.NodeID }) {
		return nil, fmt.Errorf("node %d is a controller, but not among the voters of %s: %v", b.conf.NodeID, name, initial)
	}
	return voters, nil
}

// self returns this node as the quorum has it.
func (b *Broker) self() quorum.Peer { return quorum.Peer{ID: b.conf.NodeID, Directory: b.dirs[0].ID} }

// nearTimeout is how long a node waits for others that are near.
const nearTimeout = 400 * time.Millisecond

// timeouts returns how long the controllers wait for each other.
func (b *Broker) timeouts() quorum.Timeouts {
	t := quorum.Timeouts{Election: b.conf.QuorumElectionTimeout, Fetch: b.conf.QuorumFetchTimeout}
	if b.peers.near() {
		if !b.o.Config.Explicit("controller.quorum.election.timeout.ms") {
			t.Election = nearTimeout
		}
		if !b.o.Config.Explicit("controller.quorum.fetch.timeout.ms") {
			t.Fetch = nearTimeout
		}
	}
	return t
}

// offlineDirs returns the log directories that have failed.
func (b *Broker) offlineDirs() (out []prim.UUID) {
	for _, d := range b.dirs {
		if d.Err() != nil {
			out = append(out, d.ID)
		}
	}
	return out
}

// registration returns what this broker registers with.
func (b *Broker) registration() control.Registration {
	r := control.Registration{Broker: b.conf.NodeID, Rack: b.conf.Rack, PreviousEpoch: b.dirs[0].CleanEpoch()}
	for _, d := range b.dirs {
		r.LogDirs = append(r.LogDirs, d.ID)
		r.Unclean = r.Unclean || !d.Clean()
		if d.CleanEpoch() != r.PreviousEpoch {
			r.PreviousEpoch = -1
		}
	}
	r.EndPoints = b.endPoints(api.Broker)
	return r
}

// endPoints returns where others reach the listeners of a kind. One on every interface is
// reached by the name of the machine, or as the first controllers were told.
func (b *Broker) endPoints(kind api.Kind) (out []control.EndPoint) {
	for _, l := range b.listeners {
		if l.kind != kind {
			continue
		}
		host, port := hostPort(l.Addr())
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() && !b.conf.Lone() {
			told, at, ok := b.addresses.hostPort(b.conf.NodeID)
			if kind == api.Controller && ok && at == port {
				host = told
			} else if name, err := os.Hostname(); err == nil {
				host = name
			}
		}
		for _, a := range b.conf.Advertised {
			if a.Name == l.name {
				host, port = a.Host, int32(a.Port)
			}
		}
		out = append(out, control.EndPoint{Name: l.name, Host: host, Port: port})
	}
	return out
}

// register puts this broker into the metadata, and waits until they have reached it.
func (b *Broker) register(ctx context.Context) error {
	if !b.alone() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.conf.InitialRegistrationTimeout)
		defer cancel()
	}
	if err := b.lifecycle.Register(ctx); err != nil {
		return err
	}
	return b.controller.AwaitApplied(ctx, uint64(b.lifecycle.Epoch()))
}

// leaveTimeout bounds how long a broker that closes waits for others to take over.
const leaveTimeout = 10 * time.Second

// leave has others lead what this broker leads (controlled.shutdown.enable).
func (b *Broker) leave() {
	if b.lifecycle == nil {
		return
	}
	defer b.lifecycle.Close()
	b.mu.Lock()
	stays := b.killed || b.staying
	b.mu.Unlock()
	if stays || b.alone() || !b.conf.ControlledShutdown || b.lifecycle.Epoch() < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	if err := b.lifecycle.Leave(ctx); err != nil {
		b.lg.Warn("stops without others having taken over what it leads", zap.Error(err))
	}
}

// stays has Close not wait for others to take over what the broker leads: they are about to
// stop too.
func (b *Broker) stays() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.staying = true
	if b.controller != nil {
		b.controller.Stay()
	}
}
