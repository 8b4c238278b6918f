package client

import (
	"fmt"
	"time"
)

// Reset says where to read on without a valid position.
type Reset int8

const (
	ResetLatest   Reset = iota // at the end
	ResetEarliest              // at the start
	ResetNone                  // Poll fails
)

// Assignor shares partitions among the members of a group.
type Assignor string

const (
	Range  Assignor = "range"  // runs of each topic's partitions
	Sticky Assignor = "sticky" // evenly, moving as few as possible
)

// ConsumerOptions configure a Consumer. The zero value works for a consumer
// without group; where 0 stands for a default, a negative number stands for 0.
type ConsumerOptions struct {
	Options

	Group      string     // group.id; "" for a consumer that is only assigned
	InstanceID string     // group.instance.id; "" for a dynamic member
	Assignors  []Assignor // partition.assignment.strategy; empty means range, sticky
	Rack       string     // client.rack

	Reset             Reset         // auto.offset.reset
	ResetTo           *Position     // in place of Reset: by_duration
	ReadCommitted     bool          // isolation.level
	NoAutoCommit      bool          // enable.auto.commit=false
	AutoCommitEvery   time.Duration // 0 means 5 s (auto.commit.interval.ms)
	SessionTimeout    time.Duration // 0 means 45 s (session.timeout.ms)
	HeartbeatInterval time.Duration // 0 means 3 s (heartbeat.interval.ms)
	MaxPollInterval   time.Duration // 0 means 5 min (max.poll.interval.ms); from the return of Poll to the next one
	MaxPollRecords    int           // 0 means 500 (max.poll.records)

	FetchMinBytes      int           // 0 means 1 (fetch.min.bytes)
	FetchMaxBytes      int           // 0 means 50 MiB (fetch.max.bytes)
	FetchMaxWait       time.Duration // 0 means 500 ms (fetch.max.wait.ms)
	PartitionMaxBytes  int           // 0 means 1 MiB (max.partition.fetch.bytes)
	NoCheckCRCs        bool          // check.crcs=false
	NoAutoCreateTopics bool          // allow.auto.create.topics=false
}

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	o.Options = o.Options.withDefaults()
	if len(o.Assignors) == 0 {
		o.Assignors = []Assignor{Range, Sticky}
	}
	o.AutoCommitEvery = or(o.AutoCommitEvery, 5*time.Second)
	o.SessionTimeout = or(o.SessionTimeout, 45*time.Second)
	o.HeartbeatInterval = or(o.HeartbeatInterval, 3*time.Second)
	o.MaxPollInterval = or(o.MaxPollInterval, 5*time.Minute)
	o.MaxPollRecords = or(o.MaxPollRecords, 500)
	o.FetchMinBytes = or(o.FetchMinBytes, 1)
	o.FetchMaxBytes = or(o.FetchMaxBytes, 50<<20)
	o.FetchMaxWait = or(o.FetchMaxWait, 500*time.Millisecond)
	o.PartitionMaxBytes = or(o.PartitionMaxBytes, 1<<20)
	return o
}

func (o *ConsumerOptions) validate() error {
	for _, a := range o.Assignors {
		if a != Range && a != Sticky {
			return fmt.Errorf("%w: assignor %q", ErrConfig, a)
		}
	}
	switch {
	case o.MaxPollRecords < 1:
		return fmt.Errorf("%w: max.poll.records must be at least 1", ErrConfig)
	case o.HeartbeatInterval >= o.SessionTimeout:
		return fmt.Errorf("%w: heartbeat.interval.ms (%v) must be less than session.timeout.ms (%v)", ErrConfig, o.HeartbeatInterval, o.SessionTimeout)
	case o.InstanceID != "" && o.Group == "":
		return fmt.Errorf("%w: group.instance.id without group.id", ErrConfig)
	}
	return nil
}

func (o *ConsumerOptions) isolation() int8 {
	if o.ReadCommitted {
		return 1
	}
	return 0
}

// reset returns where to read on without a valid position.
func (o *ConsumerOptions) reset() (Position, bool) {
	switch {
	case o.ResetTo != nil:
		return *o.ResetTo, true
	case o.Reset == ResetLatest:
		return AtEnd(0), true
	case o.Reset == ResetEarliest:
		return AtStart(0), true
	}
	return Position{}, false
}
