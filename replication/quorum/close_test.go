package quorum_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/quorum"
)

// TestALeaderThatCannotReadItsLogCloses: an entry that cannot be read for a follower ends the
// leader, and Close returns; nothing waits for what ended.
func TestALeaderThatCannotReadItsLogCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 3
		streams, voters := piped(nodes)
		var sick atomic.Int32
		var all [nodes + 1]*quorum.Node
		fatal := make(chan error, nodes)
		for id := int32(1); id <= nodes; id++ {
			fs := vfs.Inject(disk(t), func(op vfs.Op, file string) error {
				if sick.Load() == id && op == vfs.OpRead && strings.HasSuffix(file, ".log") {
					return errors.New("planned")
				}
				return nil
			})
			n, err := quorum.StartNode(quorum.NodeOptions{NodeID: id, FS: fs, Dir: dir, Clock: clock.System(), Logger: zap.NewNop(),
				Streams: streams[id], Voters: quorum.Servers(voters), Fatal: func(err error) { fatal <- err }})
			if err != nil {
				t.Fatal(err)
			}
			all[id] = n
		}
		var leader *quorum.Node
		for leader == nil {
			time.Sleep(100 * time.Millisecond)
			for id := int32(1); id <= nodes; id++ {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				term, err := all[id].Barrier(ctx)
				cancel()
				if err != nil {
					continue
				}
				leader = all[id]
				if _, err := leader.Append(term, topicRecords(1)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // raft knows that the followers are up to date
				sick.Store(id)
				_, _ = leader.Append(term, topicRecords(2)) // whether it gets there or not
				break
			}
		}
		<-fatal
		_ = leader.Close() // the error is that of its disk; that it returns is what counts
		for _, n := range all[1:] {
			n.Close()
		}
	})
}

// TestCloseAmongChanges: a node closes while it is asked for changes, whichever of them raft
// has committed and not applied yet.
func TestCloseAmongChanges(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			fs := disk(t)
			c := &crew{t: t, all: make(map[int32]*crewMember)}
			c.voters = append(c.voters, c.at(1))
			c.start(1, true, fs)
			l, term := c.leader()
			var all sync.WaitGroup
			begun := make(chan bool, 8)
			for i := range 8 {
				all.Go(func() {
					for n := range 20 {
						if n == 3 {
							begun <- true
						}
						if _, err := l.Append(term, topicRecords(100*i+n)); err != nil {
							return
						}
					}
				})
			}
			<-begun
			c.kill(1)
			all.Wait()
		})
	}
}
