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

// Channel is how the cluster's metadata are changed: what handlers and the broker call. It
// is implemented by [Controller], which decides where it is active and forwards where not,
// and by clients of the active controller on another node ([ControllerOptions.Forward]).
// Its methods are safe for concurrent use.
//
// The error that a method returns beside results is that of the quorum or of the way to
// it: nothing is known then of what was asked for, and the results are as many as ever and
// say nothing. It is kerr.NotController if nothing was done since the node is not the
// active controller. With validateOnly nothing is written.
type Channel interface {
	// CreateTopics creates topics, each on its own.
	CreateTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults, validateOnly bool) ([]control.TopicResult, error)
	// DeleteTopics deletes topics by id, each on its own.
	DeleteTopics(ctx context.Context, ids []prim.UUID) ([]control.TopicResult, error)
	// CreatePartitions adds partitions to topics, each on its own. There is an error or
	// nil for each.
	CreatePartitions(ctx context.Context, specs []control.PartitionsSpec, validateOnly bool) ([]error, error)
	// ChangeConfigs changes the configs of resources, each on its own. There is an error
	// or nil for each.
	ChangeConfigs(ctx context.Context, changes []control.ResourceChange, static *config.Static, validateOnly bool) ([]error, error)
	// ElectLeaders holds elections in partitions, each on its own. There is an error or
	// nil for each.
	ElectLeaders(ctx context.Context, kind control.ElectionType, partitions []control.PartitionName) ([]error, error)
	// UpdateFeatures changes the finalized features: all of updates or none. Its error is
	// also why they cannot be changed.
	UpdateFeatures(ctx context.Context, updates []control.FeatureUpdate, validateOnly bool) error
	// UnregisterBroker takes a broker out of the cluster. Its error is also why that
	// cannot be.
	UnregisterBroker(ctx context.Context, id int32) error
	// RegisterBroker puts a broker into the metadata and returns its epoch.
	RegisterBroker(ctx context.Context, b control.Registration) (epoch int64, err error)
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

// CreateTopics implements Channel.
func (c *Controller) CreateTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults, validateOnly bool) (results []control.TopicResult, err error) {
	none := make([]control.TopicResult, len(specs))
	results, err = through(ctx, c, func() (results []control.TopicResult, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, results = control.CreateTopics(c.facts(m), specs, d)
			return unless(validateOnly, out), nil
		})
		return results, err
	}, func(to Channel) ([]control.TopicResult, error) { return to.CreateTopics(ctx, specs, d, validateOnly) })
	if results == nil {
		results = none
	}
	return results, err
}

// DeleteTopics implements Channel.
func (c *Controller) DeleteTopics(ctx context.Context, ids []prim.UUID) (results []control.TopicResult, err error) {
	none := make([]control.TopicResult, len(ids))
	results, err = through(ctx, c, func() (results []control.TopicResult, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, results = control.DeleteTopics(m, ids)
			return out, nil
		})
		return results, err
	}, func(to Channel) ([]control.TopicResult, error) { return to.DeleteTopics(ctx, ids) })
	if results == nil {
		results = none
	}
	return results, err
}

// CreatePartitions implements Channel.
func (c *Controller) CreatePartitions(ctx context.Context, specs []control.PartitionsSpec, validateOnly bool) (results []error, err error) {
	none := make([]error, len(specs))
	results, err = through(ctx, c, func() (results []error, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, results = control.CreatePartitions(c.facts(m), specs)
			return unless(validateOnly, out), nil
		})
		return results, err
	}, func(to Channel) ([]error, error) { return to.CreatePartitions(ctx, specs, validateOnly) })
	if results == nil {
		results = none
	}
	return results, err
}

// ChangeConfigs implements Channel.
func (c *Controller) ChangeConfigs(ctx context.Context, changes []control.ResourceChange, static *config.Static, validateOnly bool) (results []error, err error) {
	none := make([]error, len(changes))
	results, err = through(ctx, c, func() (results []error, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, results = control.ChangeConfigs(m, changes, static)
			return unless(validateOnly, out), nil
		})
		return results, err
	}, func(to Channel) ([]error, error) { return to.ChangeConfigs(ctx, changes, static, validateOnly) })
	if results == nil {
		results = none
	}
	return results, err
}

// ElectLeaders implements Channel.
func (c *Controller) ElectLeaders(ctx context.Context, kind control.ElectionType, partitions []control.PartitionName) (results []error, err error) {
	none := make([]error, len(partitions))
	results, err = through(ctx, c, func() (results []error, err error) {
		err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
			out, results = control.ElectLeaders(c.facts(m), kind, partitions)
			return out, nil
		})
		return results, err
	}, func(to Channel) ([]error, error) { return to.ElectLeaders(ctx, kind, partitions) })
	if results == nil {
		results = none
	}
	return results, err
}

// UpdateFeatures implements Channel.
func (c *Controller) UpdateFeatures(ctx context.Context, updates []control.FeatureUpdate, validateOnly bool) error {
	_, err := through(ctx, c, func() (struct{}, error) {
		return struct{}{}, c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
			out, err := control.UpdateFeatures(m, updates, c.o.NodeID)
			return unless(validateOnly, out), err
		})
	}, func(to Channel) (struct{}, error) { return struct{}{}, to.UpdateFeatures(ctx, updates, validateOnly) })
	return err
}

// UnregisterBroker implements Channel.
func (c *Controller) UnregisterBroker(ctx context.Context, id int32) error {
	_, err := through(ctx, c, func() (struct{}, error) {
		return struct{}{}, c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.UnregisterBroker(c.facts(m), id) })
	}, func(to Channel) (struct{}, error) { return struct{}{}, to.UnregisterBroker(ctx, id) })
	return err
}

// RegisterBroker implements Channel.
func (c *Controller) RegisterBroker(ctx context.Context, b control.Registration) (epoch int64, err error) {
	return through(ctx, c, func() (int64, error) {
		err := c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.RegisterBroker(c.facts(m), b) })
		if err != nil {
			return 0, err
		}
		return c.Image().Broker(b.Broker).Epoch, nil
	}, func(to Channel) (int64, error) { return to.RegisterBroker(ctx, b) })
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
