package replication

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// chance is a decision's source of ids and random numbers on a real broker.
type chance struct{}

func (chance) UUID() prim.UUID { return prim.RandomUUID() }
func (chance) Intn(n int) int  { return rand.IntN(n) }

func (c *Controller) facts(m *meta.Image) control.Facts {
	return control.Facts{Image: m, Chance: chance{}, Full: c.o.Full, Static: c.o.Static}
}

// Channel is what a broker asks the active controller for in its own name. It is
// implemented by [Controller], which decides where it is active and forwards where not,
// and by [Remote] for the active controller on another node. Its methods are safe for
// concurrent use.
//
// The error that a method returns beside results is that of the quorum or of the way to
// it: nothing is known then of what was asked for, and the results are as many as ever and
// say nothing. It is kerr.NotController if nothing was done since the node is not the
// active controller. What clients ask for is forwarded as it came, in an Envelope.
type Channel interface {
	// EnsureTopics creates topics that the broker needs, each on its own.
	EnsureTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults) ([]control.TopicResult, error)
	// RegisterBroker puts a broker into the metadata and returns its epoch. Its error is
	// also why that cannot be.
	RegisterBroker(ctx context.Context, b control.Registration) (epoch int64, err error)
	// RegisterController puts a controller into the metadata. Its error is also why that
	// cannot be.
	RegisterController(ctx context.Context, r control.ControllerRegistration) error
	// RemoveVoter has a voter of the metadata quorum not vote any more. Its error is also why
	// that cannot be.
	RemoveVoter(ctx context.Context, p quorum.Peer) error
	// Heartbeat tells of a broker that it lives, and what it wants to be. Its error is
	// also why the controller does not know it.
	Heartbeat(ctx context.Context, h control.Heartbeat) (control.HeartbeatAnswer, error)
	// AlterPartitions changes in-sync sets, each on its own.
	AlterPartitions(ctx context.Context, r control.AlterPartitionsRequest) (control.AlterPartitionsResult, error)
	// AssignDirs notes which log directories of a broker have replicas, each on its own.
	// There is an error or nil for each.
	AssignDirs(ctx context.Context, broker int32, epoch int64, all []control.DirAssignment) ([]error, error)
	// ProducerIDs returns the first and the number of a block of producer ids that nobody
	// else gets.
	ProducerIDs(ctx context.Context, broker int32, brokerEpoch int64) (first int64, n int32, err error)
}

var _ Channel = (*Controller)(nil)

// Pauses between two looks for the active controller.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 200 * time.Millisecond
)

// through has a request decided here, if this controller is active, or else by the active
// one. While there is none it waits for an election, until ctx ends. A request that may
// have been decided on is not repeated.
func through[R any](ctx context.Context, c *Controller, here func() (R, error), there func(Channel) (R, error)) (result R, err error) {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		leader := c.log.Standing().Leader
		switch {
		case c.o.Forward == nil || c.term.Load() != 0:
			result, err = here()
		case leader < 0 || leader == c.o.NodeID: // not elected, or not active yet
			err = kerr.NotController
		default:
			var to Channel
			if to, err = c.o.Forward(leader); err == nil {
				result, err = there(to)
			}
		}
		if c.o.Forward == nil || !errors.Is(err, kerr.NotController) {
			return result, err
		}
		if clock.Sleep(ctx, c.o.Clock, pause) != nil {
			return result, err
		}
	}
}

// EnsureTopics implements Channel.
func (c *Controller) EnsureTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults) (results []control.TopicResult, err error) {
	none := make([]control.TopicResult, len(specs))
	results, err = through(ctx, c, func() ([]control.TopicResult, error) { return c.CreateTopics(ctx, specs, d, false) },
		func(to Channel) ([]control.TopicResult, error) { return to.EnsureTopics(ctx, specs, d) })
	if results == nil {
		results = none
	}
	return results, err
}

// CreateTopics creates topics, each on its own. Only the active controller does, as with
// all that follow but for the methods of Channel: the error of others is
// kerr.NotController. With validateOnly nothing is written.
func (c *Controller) CreateTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults, validateOnly bool) (results []control.TopicResult, err error) {
	none := make([]control.TopicResult, len(specs))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.CreateTopics(c.facts(m), specs, d)
		return unless(validateOnly, out), nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// DeleteTopics deletes topics by id, each on its own.
func (c *Controller) DeleteTopics(ctx context.Context, ids []prim.UUID) (results []control.TopicResult, err error) {
	none := make([]control.TopicResult, len(ids))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.DeleteTopics(m, ids)
		return out, nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// CreatePartitions adds partitions to topics, each on its own. There is an error or nil
// for each.
func (c *Controller) CreatePartitions(ctx context.Context, specs []control.PartitionsSpec, validateOnly bool) (results []error, err error) {
	none := make([]error, len(specs))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.CreatePartitions(c.facts(m), specs)
		return unless(validateOnly, out), nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// ChangeConfigs changes the configs of resources, each on its own. There is an error or nil
// for each.
func (c *Controller) ChangeConfigs(ctx context.Context, changes []control.ResourceChange, static *config.Static, validateOnly bool) (results []error, err error) {
	none := make([]error, len(changes))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.ChangeConfigs(m, changes, static)
		return unless(validateOnly, out), nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// ElectLeaders holds elections in partitions, each on its own. There is an error or nil for
// each.
func (c *Controller) ElectLeaders(ctx context.Context, kind control.ElectionType, partitions []control.PartitionName) (results []error, err error) {
	none := make([]error, len(partitions))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.ElectLeaders(c.facts(m), kind, partitions)
		return out, nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// AlterReassignments gives partitions other replicas, each on its own. There is an error or
// nil for each.
func (c *Controller) AlterReassignments(ctx context.Context, moves []control.Move, mayChangeFactor bool) (results []error, err error) {
	none := make([]error, len(moves))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.AlterReassignments(c.facts(m), moves, mayChangeFactor)
		return out, nil
	})
	if results == nil {
		results = none
	}
	return results, err
}

// UpdateFeatures changes the finalized features: all of updates or none. Its error is also
// why they cannot be changed.
func (c *Controller) UpdateFeatures(ctx context.Context, updates []control.FeatureUpdate, validateOnly bool) error {
	return c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		out, err := control.UpdateFeatures(c.facts(m), updates, c.o.NodeID, c.Quorum().Voters)
		return unless(validateOnly, out), err
	})
}

// UnregisterBroker takes a broker out of the cluster. Its error is also why that cannot
// be.
func (c *Controller) UnregisterBroker(ctx context.Context, id int32) error {
	return c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.UnregisterBroker(c.facts(m), id) })
}

// RegisterBroker implements Channel.
func (c *Controller) RegisterBroker(ctx context.Context, b control.Registration) (epoch int64, err error) {
	return through(ctx, c, func() (int64, error) {
		own := b
		kept := int64(-1) // the epoch of a process that registers again
		index, err := c.commit(ctx, func(m *meta.Image) ([]meta.Record, error) {
			if old := m.Broker(b.Broker); old != nil && old.Incarnation == b.Incarnation {
				kept = old.Epoch
			}
			own.SessionAlive = c.heldByOther(m, b)
			own.Alone = c.alone(m, b.Broker)
			return control.RegisterBroker(c.facts(m), own)
		})
		if err != nil {
			return 0, err
		}
		epoch := kept
		if epoch < 0 {
			epoch = int64(index)
		}
		c.session(func(s *control.Sessions) { s.Registered(b.Broker, epoch, c.o.Clock.Now()) })
		return epoch, nil
	}, func(to Channel) (int64, error) { return to.RegisterBroker(ctx, b) })
}

// Heartbeat implements Channel.
func (c *Controller) Heartbeat(ctx context.Context, h control.Heartbeat) (answer control.HeartbeatAnswer, err error) {
	return through(ctx, c, func() (control.HeartbeatAnswer, error) {
		_, err := c.commit(ctx, func(m *meta.Image) (out []meta.Record, err error) {
			c.session(func(s *control.Sessions) { out, answer, err = s.Decide(c.facts(m), h, c.o.Clock.Now()) })
			return out, err
		})
		if err == nil && c.node != nil {
			// The broker serves on for a session after an answer: it must be that of the
			// controller that would fence it.
			err = c.node.Confirm(ctx)
		}
		return answer, err
	}, func(to Channel) (control.HeartbeatAnswer, error) { return to.Heartbeat(ctx, h) })
}

// AlterPartitions implements Channel.
func (c *Controller) AlterPartitions(ctx context.Context, r control.AlterPartitionsRequest) (result control.AlterPartitionsResult, err error) {
	return through(ctx, c, func() (control.AlterPartitionsResult, error) {
		_, err := c.commit(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, result = control.AlterPartitions(c.facts(m), r)
			return out, nil
		})
		return result, err
	}, func(to Channel) (control.AlterPartitionsResult, error) { return to.AlterPartitions(ctx, r) })
}

// AssignDirs implements Channel.
func (c *Controller) AssignDirs(ctx context.Context, broker int32, epoch int64, all []control.DirAssignment) (results []error, err error) {
	none := make([]error, len(all))
	results, err = through(ctx, c, func() (results []error, err error) {
		_, err = c.commit(ctx, func(m *meta.Image) (out []meta.Record, err error) {
			out, results, err = control.AssignDirs(c.facts(m), broker, epoch, all)
			return out, err
		})
		return results, err
	}, func(to Channel) ([]error, error) { return to.AssignDirs(ctx, broker, epoch, all) })
	if results == nil {
		results = none
	}
	return results, err
}

// ProducerIDs implements Channel.
func (c *Controller) ProducerIDs(ctx context.Context, broker int32, brokerEpoch int64) (first int64, n int32, err error) {
	type block struct {
		first int64
		n     int32
	}
	b, err := through(ctx, c, func() (b block, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, err error) {
			out, b.first, b.n, err = control.ProducerIDs(m, broker, brokerEpoch)
			return out, err
		})
		return b, err
	}, func(to Channel) (b block, err error) {
		b.first, b.n, err = to.ProducerIDs(ctx, broker, brokerEpoch)
		return b, err
	})
	return b.first, b.n, err
}

func unless(validateOnly bool, out []meta.Record) []meta.Record {
	if validateOnly {
		return nil
	}
	return out
}
