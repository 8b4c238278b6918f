package quorum_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
)

// One decision about very many partitions is one entry: to fence a broker that leads them, say.
// It goes to all nodes over the streams that they use, and keeps nobody from leading.
func TestLargeEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, topics = 3, 60_000 // 5 MB
		streams, voters := piped(nodes)
		var all []*quorum.Node
		for id := int32(1); id <= nodes; id++ {
			fs := disk(t)
			if err := fs.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			n, err := quorum.StartNode(quorum.NodeOptions{NodeID: id, FS: fs, Dir: dir, Clock: clock.System(), Logger: zap.NewNop(),
				Streams: streams[id], Voters: quorum.Servers(voters), Fatal: func(err error) { t.Error(err) }})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
			defer n.Close()
		}
		var records []meta.Record
		for i := range topics {
			records = append(records, topicRecords(i)...)
		}
		var index uint64
		for index == 0 {
			time.Sleep(10 * time.Millisecond)
			for _, n := range all {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				term, err := n.Barrier(ctx)
				cancel()
				if err != nil { // it does not lead
					continue
				}
				if index, err = n.Append(term, records); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		_, before := all[0].Barrier(t.Context())
		for _, n := range all {
			for n.Image().Topic("t59999") == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		if _, after := all[0].Barrier(t.Context()); (before == nil) != (after == nil) {
			t.Errorf("another node leads: %v before, %v after", before, after)
		}
	})
}
