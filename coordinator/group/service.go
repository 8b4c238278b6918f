package group

import (
	"context"
	"sync"
	"time"
	"unicode/utf16"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// Service holds the shards of this broker and finds the one of a group. It is
// safe for concurrent use.
type Service struct {
	conf  Config
	clock clock.Clock
	codec record.Codec
	lg    *zap.Logger

	mu         sync.RWMutex
	partitions int32 // of __consumer_offsets; 0 while there is no such topic
	shards     map[int32]*Shard
}

// Shard is one shard of groups.
type Shard struct{ *coordinator.Shard }

// NewService returns a service without shards. Records are compressed with
// codec (offsets.topic.compression.codec).
func NewService(conf Config, c clock.Clock, codec record.Codec, lg *zap.Logger) *Service {
	return &Service{conf: conf, clock: c, codec: codec, lg: lg.Named("groups"), shards: make(map[int32]*Shard)}
}

// SetPartitions tells how many partitions __consumer_offsets has.
func (s *Service) SetPartitions(n int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions = n
}

// Elect starts to coordinate the groups of a partition whose records are in st,
// after the shard of an earlier epoch has stopped. Elect and Resign are called one at
// a time for a partition.
func (s *Service) Elect(partition int32, st coordinator.Storage) {
	s.Resign(partition) // nobody answers for an older epoch while the new one is loaded
	next := &Shard{coordinator.Start(coordinator.Options{New: func() coordinator.Machine { return NewMachine(s.conf) }, Storage: st,
		Clock: s.clock, Codec: s.codec, Logger: s.lg.With(zap.Int32("partition", partition))})}
	s.mu.Lock()
	s.shards[partition] = next
	s.mu.Unlock()
}

// Resign stops to coordinate the groups of a partition.
func (s *Service) Resign(partition int32) {
	s.mu.Lock()
	old := s.shards[partition]
	delete(s.shards, partition)
	s.mu.Unlock()
	if old != nil {
		old.Stop()
	}
}

// Close stops every shard.
func (s *Service) Close() {
	s.mu.Lock()
	shards := s.shards
	s.shards = make(map[int32]*Shard)
	s.partitions = 0
	s.mu.Unlock()
	for _, sh := range shards {
		sh.Stop()
	}
}

// Partition returns the partition of __consumer_offsets that has a group, -1
// while there is no such topic.
func (s *Service) Partition(groupID string) int32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.partitions == 0 {
		return -1
	}
	return Partition(groupID, s.partitions)
}

// Partition returns the partition of n that an id belongs to: the absolute value
// of Java's hash of the string, modulo n.
func Partition(id string, n int32) int32 {
	var h int32
	for _, r := range id {
		if r >= 0x10000 {
			high, low := utf16.EncodeRune(r)
			h = 31*(31*h+high) + low
		} else {
			h = 31*h + r
		}
	}
	if h = max(h, -h); h < 0 { // the absolute value of the least int is 0
		h = 0
	}
	return h % n
}

// Find returns the shard that coordinates a group, or the code that a client is
// told if this broker does not.
func (s *Service) Find(groupID string) (*Shard, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.partitions == 0 {
		return nil, kerr.NotCoordinator // there is none before FindCoordinator was asked for one
	}
	sh := s.shards[Partition(groupID, s.partitions)]
	if sh == nil {
		return nil, kerr.NotCoordinator
	}
	return sh, nil
}

// All returns every shard.
func (s *Service) All() []*Shard {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Shard, 0, len(s.shards))
	for _, sh := range s.shards {
		out = append(out, sh)
	}
	return out
}

// TopicDeleted drops the offsets of a topic that no longer exists, in the
// background.
func (s *Service) TopicDeleted(topic string) {
	for _, sh := range s.All() {
		// A shard that is not loaded finds them when it checks for age.
		_ = sh.Send(func(m coordinator.Machine, _ time.Time) coordinator.Decision { return m.(*Machine).TopicDeleted(topic) }, func(error) {})
	}
}

// Run runs f on the shard's goroutine with its machine, and returns once what f
// decided is committed.
func (sh *Shard) Run(ctx context.Context, f func(m *Machine, now time.Time) coordinator.Decision) error {
	err := sh.Do(ctx, func(m coordinator.Machine, now time.Time) coordinator.Decision { return f(m.(*Machine), now) })
	if err != nil && ctx.Err() == nil {
		return codeOf(err)
	}
	return err
}

// Call is Run for a command that is answered through a function which may be
// called later. failed is called if the command could not run, or panicked, and
// then it may have been answered already.
func (sh *Shard) Call(f func(m *Machine, now time.Time) coordinator.Decision, failed func(error)) {
	err := sh.Send(func(m coordinator.Machine, now time.Time) coordinator.Decision { return f(m.(*Machine), now) }, failed)
	if err != nil {
		failed(err)
	}
}

// Code returns the code that a client is told of an error from a shard.
func Code(err error) kerr.Code { return codeOf(err) }
