// Package top is what klamm top shows: the state of a cluster as it was watched, the frames
// that show it, and the model that a terminal runs. It asks nobody and has no clock: facts come
// as values, with the time at which they held.
package top

import (
	"time"

	"github.com/klamm-io/klamm/client"
)

// The facts that are watched, each asked for by itself: one that does not come keeps no other.
// Where Err is not nil, what is there is what came before it.
type (
	// Metadata are the brokers and the partitions.
	Metadata struct {
		At         time.Time
		Cluster    client.Cluster
		Controller int32 // the active one, -1 if there is none
		Topics     []client.TopicInfo
		Err        error
	}
	// Ends are the log end offsets of partitions.
	Ends struct {
		At  time.Time
		Of  map[client.TopicPartition]int64
		Err error
	}
	// Dirs are the data directories of brokers.
	Dirs struct {
		At   time.Time
		Dirs []client.LogDir
		Err  error
	}
	// Groups are the groups and what they have committed.
	Groups struct {
		At     time.Time
		Groups []Group
		Err    error
	}
	// MinISR is how many replicas of a topic must be in sync (min.insync.replicas).
	MinISR struct {
		At  time.Time
		Of  map[string]int
		Err error
	}
)

// Group is a group and the offsets that it has committed.
type Group struct {
	ID, State   string
	Coordinator int32
	Committed   map[client.TopicPartition]int64
}
