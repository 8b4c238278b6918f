package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/coordinator"
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

	mu     sync.Mutex      // held while a shard is begun or ended
	epochs map[int32]int32 // partition -> leader epoch that it is coordinated in
	closed bool
}

func newGroups(b *Broker) *groups {
	conf := group.Config{
		InitialDelay: b.conf.GroupInitialRebalanceDelay, MinSession: b.conf.GroupMinSessionTimeout, MaxSession: b.conf.GroupMaxSessionTimeout,
		MaxSize: b.conf.GroupMaxSize, MetadataMax: b.conf.OffsetMetadataMaxBytes,
		Retention: b.conf.OffsetsRetention, RetentionChecks: b.conf.OffsetsRetentionCheckInterval, NewID: memberID,
		Rebalanced: rebalanced(b.lg, api.NewRepeats(b.o.Clock, maxRebalances)),
	}
	return &groups{coordinator: group.NewService(conf, b.o.Clock, record.Codec(b.conf.OffsetsTopicCodec), b.lg), epochs: make(map[int32]int32)}
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

// apply follows a change of the metadata: clients are told of as many partitions as
// there are.
func (g *groups) apply(image *meta.Image) {
	n := 0
	if t := image.Topic(meta.GroupTopic); t != nil {
		n = len(t.Partitions)
	}
	g.coordinator.SetPartitions(int32(n))
}

// became follows the role of a partition: its groups are coordinated here in each
// epoch that this broker leads it.
func (g *groups) became(p *replication.Partition) {
	if p.Topic != meta.GroupTopic {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	epoch, coordinated := g.epochs[p.Index]
	switch {
	case g.closed:
	case !p.Leads():
		g.resign(p.Index)
	case !coordinated || epoch != p.LeaderEpoch():
		g.epochs[p.Index] = p.LeaderEpoch()
		g.coordinator.Elect(p.Index, storage{p, p.LeaderEpoch()})
	}
}

// ended follows the end of a partition on this broker.
func (g *groups) ended(p *replication.Partition) {
	if p.Topic != meta.GroupTopic {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resign(p.Index)
}

// resign ends the coordination of a partition's groups. mu is held.
func (g *groups) resign(index int32) {
	if _, coordinated := g.epochs[index]; coordinated {
		delete(g.epochs, index)
		g.coordinator.Resign(index)
	}
}

// close ends the coordination of all groups, for good.
func (g *groups) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.coordinator.Close()
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
