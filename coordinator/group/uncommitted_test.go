package group_test

import (
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// A commit that fails after its record was written and replayed is no success for the
// members that wait for it.
func TestAssignmentThatIsWrittenAndNotCommitted(t *testing.T) {
	b := newBench(t)
	a := b.join(joinRequest("", nil), 3)
	b.advance(6 * time.Second)
	id := a.r.MemberId
	s := new(answer[msg.SyncGroupResponse])
	d := b.m.Sync(b.now, 3, &msg.SyncGroupRequest{GroupId: "g", MemberId: id, GenerationId: 1, Assignments: []msg.SyncGroupRequestAssignment{{MemberId: id, Assignment: []byte("a")}}}, s.set)
	for _, r := range d.Records {
		if err := b.m.Replay(r, origin); err != nil {
			t.Fatal(err)
		}
	}
	d.Then(kerr.NotLeaderOrFollower)
	b.m.Unload(kerr.NotCoordinator)
	if s.r == nil {
		t.Fatal("no answer")
	}
	want(t, "sync", s.r.ErrorCode, kerr.NotCoordinator)
}
