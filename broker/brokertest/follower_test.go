package brokertest_test

import (
	"context"
	"testing"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// A fetch of a follower that was registered again since says nothing of what it has now
// (KIP-903): the process that sent it has ended, and its disk may have lost what it had.
func TestAFetchOfAnEarlierProcess(t *testing.T) {
	c := three(t, brokertest.Options{})
	leader := c.WaitLeader("t", 0)
	follower := leader%3 + 1
	c.Broker(follower).Kill()
	c.Broker(follower).Restart()
	c.WaitISR("t", 0, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	to, err := conn.Dial(ctx, "tcp", c.Broker(leader).Bootstrap(), conn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	image := c.Broker(leader).Metadata()
	now := image.Broker(follower).Epoch
	for _, at := range []struct {
		what  string
		epoch int64
		want  kerr.Code
	}{{"its registration", now, kerr.None}, {"an earlier registration", now - 1, kerr.NotLeaderOrFollower}} {
		var req msg.FetchRequest
		var resp msg.FetchResponse
		req.SetDefaults()
		req.ReplicaState.ReplicaId, req.ReplicaState.ReplicaEpoch = follower, at.epoch
		req.SessionEpoch, req.MaxBytes = -1, 1<<20
		var p msg.FetchRequestFetchPartition
		p.SetDefaults()
		p.PartitionMaxBytes, p.CurrentLeaderEpoch = 1<<20, image.Partition("t", 0).LeaderEpoch
		req.Topics = []msg.FetchRequestFetchTopic{{TopicId: image.Topic("t").ID, Partitions: []msg.FetchRequestFetchPartition{p}}}
		if err := to.Do(ctx, &req, &resp); err != nil {
			t.Fatal(err)
		}
		if got := kerr.Code(resp.Responses[0].Partitions[0].ErrorCode); got != at.want {
			t.Errorf("a fetch in the epoch of %s is answered with %v, want %v", at.what, got, at.want)
		}
	}
}
