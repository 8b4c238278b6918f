package quorum_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
)

// A node is confirmed as the leader by the others, not by itself.
func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := threeVoters(t)
		leader, _ := q.leader(nil)
		confirm := func(v *voter) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return v.Confirm(ctx)
		}
		if err := confirm(leader); err != nil {
			t.Errorf("the leader: %v", err)
		}
		for _, v := range q.all {
			if v != leader {
				if err := confirm(v); !errors.Is(err, kerr.NotController) {
					t.Errorf("node %d, which does not lead: %v", v.id, err)
				}
			}
		}
		q.cut(leader)
		// It takes itself for the leader still.
		if s := leader.Standing(); s.Leader != int32(leader.id) {
			t.Fatalf("node %d knows already that it does not lead: %+v", leader.id, s)
		}
		if err := confirm(leader); !errors.Is(err, kerr.NotController) {
			t.Errorf("one that nobody hears: %v", err)
		}
	})
}
