package broker

import (
	"crypto/rand"
	"fmt"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/record"
)

// newGroups returns the coordinator of consumer groups.
func newGroups(b *Broker) *group.Service {
	return group.NewService(group.Config{
		InitialDelay: b.conf.GroupInitialRebalanceDelay, MinSession: b.conf.GroupMinSessionTimeout, MaxSession: b.conf.GroupMaxSessionTimeout,
		MaxSize: b.conf.GroupMaxSize, MetadataMax: b.conf.OffsetMetadataMaxBytes,
		Retention: b.conf.OffsetsRetention, RetentionChecks: b.conf.OffsetsRetentionCheckInterval, NewID: memberID,
		Rebalanced: rebalanced(b.lg, api.NewRepeats(b.o.Clock, maxRebalances)),
	}, b.o.Clock, record.Codec(b.conf.OffsetsTopicCodec), b.lg)
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
