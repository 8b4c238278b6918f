package coordinator

import (
	"errors"
	"sync"
	"unicode/utf16"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// ServiceOptions say what the shards of a service are made of.
type ServiceOptions[M Machine] struct {
	New    func() M // a machine without state
	Clock  clock.Clock
	Codec  record.Codec // of the records
	Logger *zap.Logger
}

// Service has the shards of one kind of coordinator on this broker, and finds the one
// of a key (a group id, a transactional id). It is safe for concurrent use.
//
// Invariant: of a partition there is one shard at most, in the newest leader epoch that
// Elect was called with; the one before it has stopped before it is loaded.
type Service[M Machine] struct {
	o ServiceOptions[M]

	electing sync.Mutex      // held while a shard is begun or ended
	epochs   map[int32]int32 // partition -> leader epoch of its shard; guarded by electing
	closed   bool            // by electing

	mu         sync.RWMutex
	partitions int32 // of the topic; 0 while there is no such topic
	shards     map[int32]*Shard[M]
}

// NewService returns a service without shards.
func NewService[M Machine](o ServiceOptions[M]) *Service[M] {
	return &Service[M]{o: o, epochs: make(map[int32]int32), shards: make(map[int32]*Shard[M])}
}

// SetPartitions sets how many partitions the topic has, 0 for no topic.
func (s *Service[M]) SetPartitions(n int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions = n
}

// Elect has this broker coordinate what belongs to a partition, whose records are in
// st, from a leader epoch on. It does nothing if it does so in this epoch already.
// Where a shard of an earlier epoch runs, it returns once that has stopped.
func (s *Service[M]) Elect(partition, epoch int32, st Storage) {
	s.electing.Lock()
	defer s.electing.Unlock()
	if is, ok := s.epochs[partition]; ok && is >= epoch || s.closed {
		return
	}
	s.stop(partition) // nobody answers for an older epoch while the new one is loaded
	next := Start(Options[M]{New: s.o.New, Storage: st, Clock: s.o.Clock, Codec: s.o.Codec, Logger: s.o.Logger.With(zap.Int32("partition", partition))})
	s.epochs[partition] = epoch
	s.mu.Lock()
	s.shards[partition] = next
	s.mu.Unlock()
}

// Resign stops to coordinate what belongs to a partition. It returns once the shard,
// if there is one, has stopped.
func (s *Service[M]) Resign(partition int32) {
	s.electing.Lock()
	defer s.electing.Unlock()
	s.stop(partition)
}

// stop ends the shard of a partition. The caller holds electing.
func (s *Service[M]) stop(partition int32) {
	delete(s.epochs, partition)
	s.mu.Lock()
	old := s.shards[partition]
	delete(s.shards, partition)
	s.mu.Unlock()
	if old != nil {
		old.Stop()
	}
}

// Close stops every shard, for good.
func (s *Service[M]) Close() {
	s.electing.Lock()
	defer s.electing.Unlock()
	s.closed = true
	s.mu.Lock()
	shards := s.shards
	s.shards = make(map[int32]*Shard[M])
	s.partitions = 0
	s.mu.Unlock()
	for _, sh := range shards {
		sh.Stop()
	}
}

// Partition returns the partition that has a key, -1 while there is no topic.
func (s *Service[M]) Partition(key string) int32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.partitions == 0 {
		return -1
	}
	return Partition(key, s.partitions)
}

// Partition returns the partition of n that a key belongs to: the absolute value of
// Java's hash of the string, modulo n.
func Partition(key string, n int32) int32 {
	var h int32
	for _, r := range key {
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

// Find returns the shard that coordinates a key, or kerr.NotCoordinator if this broker
// does not.
func (s *Service[M]) Find(key string) (*Shard[M], error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.partitions == 0 {
		return nil, kerr.NotCoordinator // there is none before FindCoordinator was asked for one
	}
	sh := s.shards[Partition(key, s.partitions)]
	if sh == nil {
		return nil, kerr.NotCoordinator
	}
	return sh, nil
}

// All returns every shard.
func (s *Service[M]) All() []*Shard[M] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*Shard[M], 0, len(s.shards))
	for _, sh := range s.shards {
		out = append(out, sh)
	}
	return out
}

// Code returns the code that a client is sent for an error from a shard or of its
// storage.
func Code(err error) kerr.Code {
	if err == nil {
		return kerr.None
	}
	var c kerr.Code
	if !errors.As(err, &c) {
		return kerr.CoordinatorNotAvailable
	}
	switch c {
	case kerr.NotLeaderOrFollower, kerr.KafkaStorageError:
		return kerr.NotCoordinator
	case kerr.UnknownTopicOrPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut:
		return kerr.CoordinatorNotAvailable
	case kerr.MessageTooLarge, kerr.RecordListTooLarge:
		return kerr.UnknownServerError
	}
	return c
}
