package broker

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
)

// The disk of the active controller's metadata does not answer any more: within ten seconds
// another broker leads the quorum and takes changes (F19).
func TestHungMetadataDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hung atomic.Int32 // the broker whose disk hangs
		release := make(chan struct{})
		s := startOnDisks(t, 3, func(id int32) vfs.FS {
			return vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
				if op != vfs.OpRead && hung.Load() == id && strings.Contains(name, "__cluster_metadata") {
					<-release
				}
				return nil
			})
		})
		s.create(t, "before")
		active := func() int32 {
			for {
				for _, b := range s.brokers {
					if leader := b.controller.Quorum().Leader; leader > 0 && s.brokers[leader-1].controller.Active() {
						return leader
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		old := active()
		hung.Store(old)
		others := started{}
		for i, b := range s.brokers {
			if int32(i+1) != old {
				others.brokers = append(others.brokers, b)
			}
		}
		began := time.Now()
		b := others.brokers[0]
		spec := []control.TopicSpec{{Name: "after", Partitions: 1, ReplicationFactor: 2}}
		for {
			got, err := b.controller.EnsureTopics(t.Context(), spec, control.Defaults{Static: b.o.Config})
			if err == nil {
				err = got[0].Err
			}
			if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
				break
			}
			if time.Since(began) > time.Minute { // what the old leader has taken on ends with an error
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("a change went through %v after the disk hung", took)
		}
		for _, b := range others.brokers {
			for b.controller.Quorum().Leader == old {
				if time.Since(began) > time.Minute {
					t.Fatalf("broker %d leads still, as another one sees it", old)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		if s.brokers[old-1].controller.Active() {
			t.Error("the broker whose disk hangs takes itself for the active controller")
		}
		close(release)
		if err := s.close(); err != nil { // the broker whose disk hung has ended before
			t.Error(err)
		}
	})
}
