package replication_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestOneLeaderEpoch: who writes in one leader epoch writes nothing in the next, and
// who waits for a commit there is told that the epoch is over.
func TestOneLeaderEpoch(t *testing.T) {
	s := openStore(t, vfs.NewMem(), clock.System(), "/d")
	defer s.close()
	s.create("t", 1)
	register(t, s.c, 2)
	p := s.r.Get("t", 0)
	change := func(edit func(*msg.PartitionChangeRecord)) {
		t.Helper()
		r := new(msg.PartitionChangeRecord)
		r.SetDefaults()
		r.TopicId, r.PartitionId = p.TopicID, 0
		edit(r)
		if err := s.c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) { return []meta.Record{r}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	epoch := p.LeaderEpoch()
	write := func(epoch int32) error {
		_, _, err := p.AppendIn(epoch, batch(t, "v"), replication.AcksAll, log.AppendOptions{Origin: log.Coordinator})
		return err
	}
	if err := write(epoch); err != nil {
		t.Fatal(err)
	}
	if err := p.AwaitCommitted(t.Context(), epoch, 1); err != nil {
		t.Error(err)
	}
	// A second replica in sync that has fetched nothing: nothing more is committed.
	change(func(r *msg.PartitionChangeRecord) { r.Replicas, r.Isr = []int32{1, 2}, []int32{1, 2} })
	if err := write(epoch); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.AwaitCommitted(short, epoch, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of an offset that is not committed: %v", err)
	}
	waits := make(chan error, 1)
	go func() { waits <- p.AwaitCommitted(t.Context(), epoch, 2) }()
	change(func(r *msg.PartitionChangeRecord) { r.Leader = 1 }) // the same leader, in another epoch
	if p.Role() != replication.Leader || p.LeaderEpoch() != epoch+1 {
		t.Fatalf("%s in epoch %d", p.Role(), p.LeaderEpoch())
	}
	if err := <-waits; !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Errorf("a wait of the epoch before ended with %v", err)
	}
	if err := write(epoch); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Errorf("a write of the epoch before: %v", err)
	}
	end := p.Log().EndOffset()
	change(func(r *msg.PartitionChangeRecord) { r.Leader = 2 })
	if _, err := p.AppendAsFollower(epoch, batch(t, "w"), 0, 0); p.Role() != replication.Follower || !errors.Is(err, kerr.FencedLeaderEpoch) {
		t.Errorf("%s appended what was fetched in an earlier epoch: %v", p.Role(), err)
	}
	if p.Log().EndOffset() != end {
		t.Error("the log was written to")
	}
	change(func(r *msg.PartitionChangeRecord) { r.Replicas, r.Isr = []int32{2}, []int32{2} })
	if s.r.Get("t", 0) != nil {
		t.Error("a partition that no longer names this broker is still here")
	}
	if _, err := p.Fetch(replication.Fetch{LeaderEpoch: -1, LastEpoch: -1}); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Errorf("it is read from: %v", err)
	}
}
