package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// service is a coordinator.Service of any machine.
type service interface {
	SetPartitions(n int32)
	Elect(partition, epoch int32, st coordinator.Storage)
	Resign(partition int32)
	Close()
}

// coordinators has this broker coordinate what belongs to the partitions that it leads
// of the coordinators' topics.
type coordinators struct {
	groups *group.Service
	of     map[string]service // by topic
}

func newCoordinators(b *Broker) *coordinators {
	c := &coordinators{groups: newGroups(b)}
	c.of = map[string]service{meta.GroupTopic: c.groups}
	return c
}

// apply follows a change of the metadata: FindCoordinator counts as many partitions as
// there are, and the offsets of deleted topics go.
func (c *coordinators) apply(image *meta.Image, delta meta.Delta) {
	for topic, s := range c.of {
		n := 0
		if t := image.Topic(topic); t != nil {
			n = len(t.Partitions)
		}
		s.SetPartitions(int32(n))
	}
	for _, t := range delta.Deleted {
		group.TopicDeleted(c.groups, t.Name)
	}
}

// became follows the role of a partition: what belongs to it is coordinated here in
// each epoch that this broker leads it.
func (c *coordinators) became(p *replication.Partition) {
	s := c.of[p.Topic]
	switch {
	case s == nil:
	case p.Leads():
		epoch := p.LeaderEpoch()
		s.Elect(p.Index, epoch, storage{p, epoch})
	default:
		s.Resign(p.Index)
	}
}

// ended follows the end of a partition on this broker.
func (c *coordinators) ended(p *replication.Partition) {
	if s := c.of[p.Topic]; s != nil {
		s.Resign(p.Index)
	}
}

// close ends all coordination, for good.
func (c *coordinators) close() {
	for _, s := range c.of {
		s.Close()
	}
}

// storage is a partition as a shard writes to it in one leader epoch.
type storage struct {
	p     *replication.Partition
	epoch int32
}

// Append implements coordinator.Storage.
func (s storage) Append(batch []byte) (coordinator.Appended, error) {
	info, commit, err := s.p.AppendIn(s.epoch, batch, replication.AcksAll, log.AppendOptions{Origin: log.Coordinator})
	switch {
	case errors.Is(err, log.ErrTooLarge), errors.Is(err, log.ErrListTooLarge):
		return coordinator.Appended{}, fmt.Errorf("%w: %w", kerr.RecordListTooLarge, err)
	case errors.Is(err, log.ErrStorage):
		return coordinator.Appended{}, fmt.Errorf("%w: %w", kerr.KafkaStorageError, err)
	case err != nil:
		return coordinator.Appended{}, err
	case commit == nil:
		return coordinator.Appended{Base: info.BaseOffset}, nil
	}
	return coordinator.Appended{Base: info.BaseOffset, Done: commit.Done(), Result: commit.Err}, nil
}

// MaxBatch implements coordinator.Storage.
func (s storage) MaxBatch() int {
	c := s.p.Log().Config()
	return int(min(int64(c.MaxMessageBytes), c.SegmentBytes))
}

// Load implements coordinator.Storage.
func (s storage) Load(ctx context.Context, f func(record.Batch) error) error {
	l := s.p.Log()
	end := l.EndOffset()
	if err := s.p.AwaitCommitted(ctx, s.epoch, end); err != nil {
		return err
	}
	return l.Each(l.StartOffset(), end, f)
}
