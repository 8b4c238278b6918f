package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// groups has this broker coordinate the consumer groups of the partitions of
// __consumer_offsets that it leads.
type groups struct {
	coordinator *group.Service
	replicas    *replication.Replicas
	node        int32

	mu     sync.Mutex      // guards the fields below
	epochs map[int32]int32 // partition -> leader epoch that it is coordinated in
	live   bool
}

func newGroups(b *Broker) *groups {
	conf := group.Config{
		InitialDelay: b.conf.GroupInitialRebalanceDelay, MinSession: b.conf.GroupMinSessionTimeout, MaxSession: b.conf.GroupMaxSessionTimeout,
		MaxSize: b.conf.GroupMaxSize, MetadataMax: b.conf.OffsetMetadataMaxBytes,
		Retention: b.conf.OffsetsRetention, RetentionChecks: b.conf.OffsetsRetentionCheckInterval, NewID: memberID,
		Rebalanced: rebalanced(b.lg, api.NewRepeats(b.o.Clock, maxRebalances)),
	}
	return &groups{coordinator: group.NewService(conf, b.o.Clock, record.Codec(b.conf.OffsetsTopicCodec), b.lg), replicas: b.replicas,
		node: b.conf.NodeID, epochs: make(map[int32]int32)}
}

// maxRebalances is how many rebalances a minute are logged.
const maxRebalances = 60

// rebalanced logs rebalances.
func rebalanced(lg *zap.Logger, repeats *api.Repeats) func(group.Rebalance) {
	return func(r group.Rebalance) {
		if skipped, ok := repeats.Allow(""); ok {
			lg.Info("group rebalanced", zap.String("group", r.Group), zap.Int32("generation", r.Generation), zap.Int("members", r.Members),
				zap.Strings("joined", r.Joined), zap.Strings("left", r.Left), zap.Int("more", r.More), zap.Duration("took", r.Took), zap.Int("not_logged_before", skipped))
		}
	}
}

// memberID returns a random UUID in its usual form, which Kafka puts behind the
// client id.
func memberID() string {
	var u [16]byte
	rand.Read(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // RFC 9562, version 4
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// follow starts to coordinate according to image, the
// newest one. From then on apply does.
func (g *groups) follow(image func() *meta.Image) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.live = true
	g.update(image())
}

// apply follows a change of the metadata. It is called by the one goroutine that
// applies changes, after the replicas have followed.
func (g *groups) apply(image *meta.Image, delta meta.Delta) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.live {
		return
	}
	for _, t := range delta.Deleted {
		if t.Name == meta.GroupTopic {
			g.update(image)
			return
		}
	}
	if t := image.Topic(meta.GroupTopic); t != nil {
		if _, changed := delta.Topics[t.ID]; changed {
			g.update(image)
		}
	}
}

func (g *groups) update(image *meta.Image) {
	t := image.Topic(meta.GroupTopic)
	if t == nil {
		for index := range g.epochs {
			g.coordinator.Resign(index)
		}
		clear(g.epochs)
		g.coordinator.SetPartitions(0)
		return
	}
	for i, p := range t.Partitions {
		index := int32(i)
		epoch, coordinated := g.epochs[index]
		switch {
		case p.Leader != g.node:
			if coordinated {
				delete(g.epochs, index)
				g.coordinator.Resign(index)
			}
		case !coordinated || epoch != p.LeaderEpoch:
			replica := g.replicas.Get(t.Name, index)
			if replica == nil {
				continue // its log could not be opened, which was logged
			}
			g.epochs[index] = p.LeaderEpoch
			g.coordinator.Elect(index, storage{replica})
		}
	}
	g.coordinator.SetPartitions(int32(len(t.Partitions)))
}

func (g *groups) close() { g.coordinator.Close() }

// storage is a partition as a shard writes to it.
type storage struct{ p *replication.Partition }

// Append implements coordinator.Storage.
func (s storage) Append(batch []byte) (<-chan struct{}, func() error, error) {
	_, commit, err := s.p.Append(batch, replication.AcksAll, log.AppendOptions{Origin: log.Coordinator})
	switch {
	case errors.Is(err, log.ErrTooLarge), errors.Is(err, log.ErrListTooLarge):
		return nil, nil, fmt.Errorf("%w: %w", kerr.RecordListTooLarge, err)
	case errors.Is(err, log.ErrStorage):
		return nil, nil, fmt.Errorf("%w: %w", kerr.KafkaStorageError, err)
	case err != nil || commit == nil:
		return nil, nil, err
	}
	return commit.Done(), commit.Err, nil
}

// MaxBatch implements coordinator.Storage.
func (s storage) MaxBatch() int {
	c := s.p.Log().Config()
	return int(min(int64(c.MaxMessageBytes), c.SegmentBytes))
}

// Load implements coordinator.Storage.
func (s storage) Load(f func(record.Batch) error) error {
	l := s.p.Log()
	return l.Each(l.StartOffset(), l.EndOffset(), f)
}
