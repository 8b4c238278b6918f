package replication

import (
	"context"
	"math/rand/v2"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// chance is a decision's source of ids and random numbers on a real broker.
type chance struct{}

func (chance) UUID() prim.UUID { return prim.RandomUUID() }
func (chance) Intn(n int) int  { return rand.IntN(n) }

func (c *Controller) facts(m *meta.Image) control.Facts {
	return control.Facts{Image: m, Chance: chance{}, Full: c.o.Full}
}

// The methods below have package control decide, and write what it decides. Their
// error is that of the quorum: nothing is known then of what was asked for, and
// the results are as many as ever and say nothing. With validateOnly nothing is
// written.

// CreateTopics creates topics, each on its own.
func (c *Controller) CreateTopics(ctx context.Context, specs []control.TopicSpec, d control.Defaults, validateOnly bool) (results []control.TopicResult, err error) {
	results = make([]control.TopicResult, len(specs))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.CreateTopics(c.facts(m), specs, d)
		return unless(validateOnly, out), nil
	})
	return results, err
}

// DeleteTopics deletes topics by id, each on its own.
func (c *Controller) DeleteTopics(ctx context.Context, ids []prim.UUID) (results []control.TopicResult, err error) {
	results = make([]control.TopicResult, len(ids))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.DeleteTopics(m, ids)
		return out, nil
	})
	return results, err
}

// CreatePartitions adds partitions to topics, each on its own. results has an
// error or nil for each.
func (c *Controller) CreatePartitions(ctx context.Context, specs []control.PartitionsSpec, validateOnly bool) (results []error, err error) {
	results = make([]error, len(specs))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.CreatePartitions(c.facts(m), specs)
		return unless(validateOnly, out), nil
	})
	return results, err
}

// ChangeConfigs changes the configs of resources, each on its own. results has an
// error or nil for each.
func (c *Controller) ChangeConfigs(ctx context.Context, changes []control.ResourceChange, static *config.Static, validateOnly bool) (results []error, err error) {
	results = make([]error, len(changes))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.ChangeConfigs(m, changes, static)
		return unless(validateOnly, out), nil
	})
	return results, err
}

// ElectLeaders holds elections in partitions, each on its own. results has an
// error or nil for each.
func (c *Controller) ElectLeaders(ctx context.Context, kind control.ElectionType, partitions []control.PartitionName) (results []error, err error) {
	results = make([]error, len(partitions))
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, results = control.ElectLeaders(m, kind, partitions)
		return out, nil
	})
	return results, err
}

// UpdateFeatures changes the finalized features: all of updates or none. Its error
// is also why they cannot be changed.
func (c *Controller) UpdateFeatures(ctx context.Context, updates []control.FeatureUpdate, validateOnly bool) error {
	return c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) {
		out, err := control.UpdateFeatures(m, updates, c.o.NodeID)
		return unless(validateOnly, out), err
	})
}

// UnregisterBroker takes a broker out of the cluster. Its error is also why that
// cannot be.
func (c *Controller) UnregisterBroker(ctx context.Context, id int32) error {
	return c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.UnregisterBroker(m, id) })
}

// RegisterBroker puts a broker into the metadata and returns its epoch.
func (c *Controller) RegisterBroker(ctx context.Context, b control.Registration) (epoch int64, err error) {
	err = c.Change(ctx, func(m *meta.Image) ([]meta.Record, error) { return control.RegisterBroker(c.facts(m), b), nil })
	if err != nil {
		return 0, err
	}
	return c.Image().Broker(b.Broker).Epoch, nil
}

// ProducerIDs returns the first and the number of a block of producer ids that
// nobody else gets.
func (c *Controller) ProducerIDs(ctx context.Context, broker int32, brokerEpoch int64) (first int64, n int32, err error) {
	err = c.Change(ctx, func(m *meta.Image) (out []meta.Record, _ error) {
		out, first, n = control.ProducerIDs(m, broker, brokerEpoch)
		return out, nil
	})
	return first, n, err
}

func unless(validateOnly bool, out []meta.Record) []meta.Record {
	if validateOnly {
		return nil
	}
	return out
}
