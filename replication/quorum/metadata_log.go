package quorum

import (
	"context"
	"errors"

	"github.com/klamm-io/klamm/replication/meta"
)

// MetadataLog is the log of a cluster's metadata as one node has it: entries in
// one order for all nodes, and the image that they add up to. Its methods are
// safe for concurrent use.
//
// Two things implement it: [Node], on raft, and [Ideal], a log without disk and
// network for tests and simulation.
type MetadataLog interface {
	// Image returns the metadata after the newest entry that was applied here.
	Image() *meta.Image
	// Append has records written as one entry. It returns the entry's index after
	// every subscriber of this node has been notified of it. term is that of the
	// election which made this node the leader: in a later one the entry changes
	// nothing, and ErrStale is returned, since the decision that it came from did
	// not see what another leader has written.
	//
	// Another error leaves open whether the entry was written, unless it is
	// kerr.NotController: then it was not.
	Append(term uint64, records []meta.Record) (index uint64, err error)
	// Barrier returns the term in which this node leads, after all that earlier
	// leaders committed is applied here. Its error is kerr.NotController, or
	// ctx's.
	Barrier(ctx context.Context) (term uint64, err error)
	// Standing returns how the quorum stands.
	Standing() Standing
	// EndOf returns the offset behind the entry at index, in __cluster_metadata-0.
	EndOf(index uint64) int64
	// Close leaves the quorum. Subscribers are notified of nothing once it has
	// returned, and closing it again does nothing.
	Close() error
}

// Update is what one step of the metadata log changed: an entry, or a snapshot in
// the place of many.
type Update struct {
	Old, New *meta.Image
	Delta    meta.Delta // from Old to New
	Index    uint64     // of the last entry that New contains
}

// Subscriber is notified of every update of a node's image, one after the other, after
// Image returns the new one. It must not wait for disk, network or locks that are
// held over them: everything that happens to the metadata waits for it.
type Subscriber func(Update)

// Standing is how the voters on the metadata stand.
type Standing struct {
	Leader                   int32   // -1 if none is known
	Epoch                    int32   // the leader's
	HighWatermark, EndOffset int64   // offsets of the partition __cluster_metadata-0
	Voters                   []int32 // in order of id
	Votes                    bool    // this node is one of them
}

var (
	// ErrStale means that an entry was decided on in an earlier term than the one
	// that it would have been written in.
	ErrStale = errors.New("the entry was decided on under an earlier leadership")
	// ErrFailed means that the node has failed, and an entry may have been written or not.
	ErrFailed = errors.New("the node's metadata log has failed")
	// ErrUnknownEntry means that this version does not know what an entry of the
	// metadata log says. The node must end: its image would not be that of the
	// others any more.
	ErrUnknownEntry = errors.New("an entry of the metadata log is not known to this version of klamm")
)
