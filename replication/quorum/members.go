package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
)

// Member is a node of the configuration: a voter, or an observer, which has the metadata and
// does not vote.
type Member struct {
	Peer
	Voter    bool
	Progress // known to the leader alone, and of itself to each node
}

// Members returns the nodes of the newest configuration that this one has, in order of id.
func (n *Node) Members() (out []Member) {
	conf, _ := n.configuration()
	term := n.raft.CurrentTerm()
	leads := n.raft.State() == raft.Leader
	for _, s := range conf.Servers {
		p, ok := peerOf(s)
		if !ok {
			continue
		}
		m := Member{Peer: p, Voter: s.Suffrage == raft.Voter}
		if p.ID == n.o.NodeID {
			now := n.o.Clock.Now()
			m.Progress = Progress{Term: term, Index: n.raft.LastIndex(), Heard: now, CaughtUp: now}
		} else if n.watched != nil && leads {
			m.Progress, _ = n.watched.of(s.ID, term)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	return out
}

// configuration returns the newest configuration that this node has, and its index: it need
// not be committed. It does not block.
func (n *Node) configuration() (raft.Configuration, uint64) {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return raft.Configuration{}, 0
	}
	return f.Configuration(), f.Index()
}

// voters returns the ids of the voters in order.
func (n *Node) voters() (ids []int32) {
	for _, m := range n.Members() {
		if m.Voter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// peer returns a node as the configuration has it.
func (n *Node) peer(id int32) Peer {
	if m, known := n.member(id); known {
		return m.Peer
	}
	return Peer{ID: id}
}

// has reports whether the configuration has a node.
func (n *Node) has(id int32) bool {
	_, known := n.member(id)
	return known
}

// member returns a node as the newest configuration has it, without its progress.
func (n *Node) member(id int32) (Member, bool) {
	conf, _ := n.configuration()
	return memberOf(conf, id)
}

// memberOf returns a node as a configuration has it.
func memberOf(conf raft.Configuration, id int32) (m Member, ok bool) {
	for _, s := range conf.Servers {
		if p, named := peerOf(s); named && p.ID == id {
			return Member{Peer: p, Voter: s.Suffrage == raft.Voter}, true
		}
	}
	return m, false
}

// change has raft make one change of the configuration that there is now. what decides it on
// that configuration, which is the one of index prev; it returns nil if nothing is to change.
func (n *Node) change(ctx context.Context, what func(now raft.Configuration, prev uint64) (raft.IndexFuture, error)) error {
	select {
	case n.changing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-n.changing }()
	done := make(chan error, 1)
	if !n.ask(func() { // by itself a future may wait for ever
		f, err := what(n.configuration())
		if err == nil && f != nil {
			err = f.Error()
		}
		done <- err
	}) {
		return kerr.NotController
	}
	select {
	case err := <-done:
		if err != nil && strings.HasPrefix(err.Error(), "configuration changed since") { // raft has no name for it
			return fmt.Errorf("%w: %w", errChanged, err)
		}
		return notLeader(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-n.disk.failed:
		return ErrFailed
	}
}

// errChanged means that the configuration is not the one that a change was decided on.
var errChanged = errors.New("the voters have changed meanwhile")

// exclusively runs one change of the voters at a time. Another one is waited for until ctx
// ends. Observers come and go meanwhile.
func (n *Node) exclusively(ctx context.Context, f func() error) error {
	select {
	case n.voting <- struct{}{}:
	case <-ctx.Done():
		return kerr.Refuse(kerr.RequestTimedOut, "Request timed out waiting for leader to handle previous voter change request")
	}
	defer func() { <-n.voting }()
	if n.raft.State() != raft.Leader {
		return kerr.NotController
	}
	return f()
}

// decided makes the errors of a change those that clients get.
func decided(err error) error {
	switch {
	case errors.Is(err, errChanged):
		return kerr.Refuse(kerr.RequestTimedOut, "Request timed out waiting for leader to handle previous voter change request")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kerr.Refuse(kerr.RequestTimedOut, "Request timed out waiting for the change of the voters to be committed")
	}
	return err
}

// AddVoter makes a voter of a node. If it is no observer yet it becomes one, and it must have
// all that is committed before ctx ends, and before it would be let go if it were absent; if it
// does not it is what it was. Then ready is called, whose error is returned, unless it is nil.
func (n *Node) AddVoter(ctx context.Context, p Peer, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, absence)
	defer cancel()
	return n.exclusively(ctx, func() error {
		for _, m := range n.Members() {
			switch {
			case m.ID != p.ID:
			case m.Voter:
				return kerr.Refuse(kerr.DuplicateVoter, "The voter id for %s is already part of the set of voters %s.", p, n.voterKeys())
			case !m.is(p):
				return kerr.Refuse(kerr.RequestTimedOut, "Aborted add voter operation for %s since node %d runs with the directory %s", p, p.ID, m.Directory)
			}
		}
		known := n.has(p.ID)
		if err := n.observe(ctx, p); err != nil {
			return decided(err)
		}
		if err := n.caughtUp(ctx, p); err != nil {
			if !known && !n.o.Streams.connected(p.ID) {
				err = errors.Join(err, n.forgetNode(p))
			}
			return err
		}
		if ready != nil {
			if err := ready(); err != nil {
				return err
			}
		}
		return decided(n.change(ctx, func(now raft.Configuration, prev uint64) (raft.IndexFuture, error) {
			if m, known := memberOf(now, p.ID); !known || m.Peer != p {
				return nil, errChanged
			}
			return n.raft.AddVoter(serverID(p.ID), p.address(), prev, 0), nil
		}))
	})
}

// forgetNode takes an observer out of the configuration that nobody has heard of.
func (n *Node) forgetNode(p Peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	if err := n.letGo(ctx, p); err != nil {
		return fmt.Errorf("%s stays an observer: %w", p, err)
	}
	return nil
}

// letGo takes an observer out of the configuration, unless it is a voter by now, or another
// directory's.
func (n *Node) letGo(ctx context.Context, p Peer) error {
	return n.change(ctx, func(now raft.Configuration, prev uint64) (raft.IndexFuture, error) {
		if m, known := memberOf(now, p.ID); !known || m.Voter || m.Peer != p {
			return nil, nil
		}
		return n.raft.RemoveServer(serverID(p.ID), prev, 0), nil
	})
}

// observe makes an observer of a node, unless it is a voter. One that was there with another
// directory has lost what it had.
func (n *Node) observe(ctx context.Context, p Peer) error {
	if old := n.peer(p.ID); old != p {
		if err := n.letGo(ctx, old); err != nil {
			return err
		}
	}
	return n.change(ctx, func(now raft.Configuration, prev uint64) (raft.IndexFuture, error) {
		if m, known := memberOf(now, p.ID); known && (m.Voter || m.Peer == p) {
			return nil, nil
		} else if known {
			return nil, errChanged
		}
		return n.raft.AddNonvoter(serverID(p.ID), p.address(), prev, 0), nil
	})
}

// caughtUp waits until an observer has all that is committed now.
func (n *Node) caughtUp(ctx context.Context, p Peer) error {
	want, term := n.raft.CommitIndex(), n.raft.CurrentTerm()
	for n.raft.State() == raft.Leader {
		at, known := n.watched.of(serverID(p.ID), term)
		if known && at.Index >= want {
			return nil
		}
		if !n.sleep(ctx, lookAgain) {
			return kerr.Refuse(kerr.RequestTimedOut, "Aborted add voter operation for %s since it is lagging behind: it has %d of %d entries", p, at.Index, want)
		}
	}
	return kerr.NotController
}

// RemoveVoter has a voter not vote any more. It goes on as an observer. The leader itself can
// be removed only once another one leads: see HandOver.
func (n *Node) RemoveVoter(ctx context.Context, p Peer) error {
	return n.exclusively(ctx, func() error {
		if err := n.MustVote(p, "remove"); err != nil {
			return err
		}
		if voters := n.voters(); len(voters) == 1 {
			return kerr.Refuse(kerr.InvalidRequest, "Cannot remove voter %s from the set of voters %s: nobody would be left", p, n.voterKeys())
		}
		return decided(n.change(ctx, func(_ raft.Configuration, prev uint64) (raft.IndexFuture, error) {
			return n.raft.DemoteVoter(serverID(p.ID), prev, 0), nil
		}))
	})
}

// MustVote returns why a node is no voter, nil if it is one. what is wanted of it.
func (n *Node) MustVote(p Peer, what string) error {
	for _, m := range n.Members() {
		if m.Voter && m.is(p) {
			return nil
		}
	}
	return kerr.Refuse(kerr.VoterNotFound, "Cannot %s voter %s from the set of voters %s", what, p, n.voterKeys())
}

func (n *Node) voterKeys() string {
	var all []string
	for _, m := range n.Members() {
		if m.Voter {
			all = append(all, m.Peer.String())
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// HandOver has another voter lead, if this node leads and there is one.
func (n *Node) HandOver() { n.handOver() }

// StoreConfiguration implements raft.ConfigurationStore: a configuration is committed.
func (m *machine) StoreConfiguration(_ uint64, conf raft.Configuration) {
	n := (*Node)(m)
	keep := make(map[raft.ServerID]bool)
	for _, s := range conf.Servers {
		keep[s.ID] = true
	}
	if n.watched != nil {
		n.watched.forget(keep)
	}
	n.lg.Info("the members of the metadata quorum are", zap.String("members", membersOf(conf)))
	if n.o.Configured != nil {
		n.o.Configured()
	}
}

func membersOf(conf raft.Configuration) string {
	var out []string
	for _, s := range conf.Servers {
		out = append(out, strings.ToLower(s.Suffrage.String())+" "+string(s.Address))
	}
	return strings.Join(out, ", ")
}
