package replication

import (
	"context"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
)

// MemberStanding is how far a node of the metadata quorum has come.
type MemberStanding struct {
	quorum.Peer
	Voter     bool
	EndOffset int64     // in __cluster_metadata-0; -1 if it is not known
	Heard     time.Time // of it, last; zero if it was not
	CaughtUp  time.Time // when it had all, last; zero if that is not known
}

// Members returns how far voters and observers have come, as far as this node knows: the
// active controller of all, any other of itself alone.
func (c *Controller) Members() (out []MemberStanding) {
	if c.node == nil {
		now, q := c.o.Clock.Now(), c.Quorum()
		for _, id := range q.Voters {
			out = append(out, MemberStanding{Peer: quorum.Peer{ID: id}, Voter: true, EndOffset: q.EndOffset, Heard: now, CaughtUp: now})
		}
		return out
	}
	for _, m := range c.node.Members() {
		s := MemberStanding{Peer: m.Peer, Voter: m.Voter, EndOffset: -1, Heard: m.Heard, CaughtUp: m.CaughtUp}
		if m.Index > 0 {
			s.EndOffset = c.log.EndOf(m.Index)
		}
		out = append(out, s)
	}
	return out
}

// leadingNode returns the node of the quorum, on the active controller of a quorum whose
// voters may change.
func (c *Controller) leadingNode() (*quorum.Node, error) {
	switch {
	case c.term.Load() == 0:
		return nil, kerr.NotController
	case c.node == nil || c.o.Streams == nil:
		return nil, kerr.Refuse(kerr.UnsupportedVersion, "This node is alone: its voters do not change")
	}
	return c.node, nil
}

// AddVoter makes a voter of a node that listens at some endpoints, once it has all that is
// committed. Its error is also why that cannot be.
func (c *Controller) AddVoter(ctx context.Context, p quorum.Peer, at []control.EndPoint) error {
	node, err := c.leadingNode()
	if err != nil {
		return err
	}
	return node.AddVoter(ctx, p, func() error { // where it listens must be known before it votes
		_, err := c.commit(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.MoveController(c.facts(m), p.ID, at) })
		return err
	})
}

// RemoveVoter implements Channel. If it is the active controller another one leads first, and
// is asked to.
func (c *Controller) RemoveVoter(ctx context.Context, p quorum.Peer) error {
	_, err := through(ctx, c, func() (struct{}, error) { return struct{}{}, c.removeVoter(ctx, p) },
		func(to Channel) (struct{}, error) { return struct{}{}, to.RemoveVoter(ctx, p) })
	return err
}

func (c *Controller) removeVoter(ctx context.Context, p quorum.Peer) error {
	node, err := c.leadingNode()
	if err != nil {
		return err
	}
	if p.ID == c.o.NodeID && len(c.Quorum().Voters) > 1 {
		if err := node.MustVote(p, "remove"); err != nil {
			return err
		}
		node.HandOver()
		return kerr.NotController // the next one is asked
	}
	return node.RemoveVoter(ctx, p)
}

// UpdateVoter notes where a voter listens. Its error is also why that cannot be.
func (c *Controller) UpdateVoter(ctx context.Context, p quorum.Peer, at []control.EndPoint) error {
	node, err := c.leadingNode()
	if err != nil {
		return err
	}
	_, err = c.commit(ctx, func(m *meta.Image) ([]meta.Record, error) {
		if err := node.MustVote(p, "update"); err != nil {
			return nil, err
		}
		return control.MoveController(c.facts(m), p.ID, at)
	})
	return err
}

// RegisterController implements Channel.
func (c *Controller) RegisterController(ctx context.Context, r control.ControllerRegistration) error {
	_, err := through(ctx, c, func() (uint64, error) {
		return c.commit(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.RegisterController(c.facts(m), r) })
	}, func(to Channel) (uint64, error) { return 0, to.RegisterController(ctx, r) })
	return err
}
