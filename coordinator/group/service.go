package group

import (
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/record"
)

// Service has the shards of groups of this broker.
type Service = coordinator.Service[*Machine]

// NewService returns a service without shards. Records are compressed with codec
// (offsets.topic.compression.codec).
func NewService(conf Config, c clock.Clock, codec record.Codec, lg *zap.Logger) *Service {
	return coordinator.NewService(coordinator.ServiceOptions[*Machine]{New: func() *Machine { return NewMachine(conf) }, Clock: c, Codec: codec, Logger: lg.Named("groups")})
}

// TopicDeleted drops the offsets of a topic that no longer exists, in the background.
func TopicDeleted(s *Service, topic string) {
	for _, sh := range s.All() {
		sh.Post(func(m *Machine, _ time.Time) coordinator.Decision { return m.TopicDeleted(topic) })
	}
}
