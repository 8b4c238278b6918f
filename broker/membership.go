package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/prim"
)

// voters returns the controllers of the cluster as they are configured, or else as the
// storage was formatted with (KIP-853).
func (b *Broker) voters() ([]config.Voter, error) {
	voters := b.conf.QuorumVoters
	switch {
	case b.conf.Lone():
		return nil, nil
	case !b.conf.IsController():
		return nil, errors.New("process.roles: a node that is a broker and no controller is not supported yet: every node must be both")
	case !b.conf.IsBroker():
		return nil, errors.New("process.roles: a node that is a controller and no broker is not supported yet: every node must be both")
	}
	if len(voters) == 0 {
		name := b.dirs[0].File(dirs.InitialControllersFile)
		text, err := vfs.ReadFile(b.o.FS, name)
		if err != nil {
			return nil, fmt.Errorf("the controllers of the cluster are not known: set controller.quorum.voters, or format the storage with 'klamm storage format --initial-controllers': %w", err)
		}
		initial, err := dirs.ParseInitialControllers(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, c := range initial {
			voters = append(voters, c.Voter)
		}
	}
	if !slices.ContainsFunc(voters, func(v config.Voter) bool { return v.ID == b.conf.NodeID }) {
		return nil, fmt.Errorf("node %d is a controller, but not among the voters %v", b.conf.NodeID, voters)
	}
	return voters, nil
}

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
	for _, l := range b.listeners {
		if l.kind != api.Broker {
			continue
		}
		host, port := hostPort(l.Addr())
		for _, a := range b.conf.Advertised {
			if a.Name == l.name {
				host, port = a.Host, int32(a.Port)
			}
		}
		r.EndPoints = append(r.EndPoints, control.EndPoint{Name: l.name, Host: host, Port: port})
	}
	return r
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
