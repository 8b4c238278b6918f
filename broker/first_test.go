package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
)

// A first start syncs at most six times, and one of three brokers at most eight times each.
func TestFirstStartSyncs(t *testing.T) {
	for brokers, most := range map[int]int{1: 6, 3: 24} {
		var mu sync.Mutex
		var synced []string
		disk := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
			if op == vfs.OpSync || op == vfs.OpSyncDir {
				mu.Lock()
				defer mu.Unlock()
				synced = append(synced, name)
			}
			return nil
		})
		c := startOnDisks(t, brokers, func(int32) vfs.FS { return disk })
		mu.Lock()
		got := slices.Clone(synced)
		mu.Unlock()
		if len(got) == 0 || len(got) > most {
			t.Errorf("%d brokers: %d syncs, want 1 to %d: %q", brokers, len(got), most, got)
		}
		c.close()
	}
}

// started are brokers that serve: a cluster in one process, or a broker.
type started struct {
	brokers []*Broker
	close   func() error
}

func startOnDisks(t testing.TB, n int, disk func(id int32) vfs.FS) started {
	t.Helper()
	network := memnet.New()
	if n == 1 {
		b, err := Start(context.Background(), Options{Config: load(t, nil), FS: disk(1), Listen: network.Listen, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		return started{[]*Broker{b}, b.Close}
	}
	host := func(id int32) string { return fmt.Sprint("broker-", id) }
	c, err := StartCluster(context.Background(), ClusterOptions{Brokers: n, Of: Options{Listen: network.Listen, Logger: zap.NewNop()}, Dir: "/klamm", Disk: disk, Host: host,
		Sources: config.Sources{Overrides: []string{"default.replication.factor=3", "min.insync.replicas=2"}},
		Dial: func(id int32) func(context.Context, string, string) (net.Conn, error) {
			return network.Host(host(id)).Dial
		}})
	if err != nil {
		t.Fatal(err)
	}
	s := started{close: c.Close}
	for _, id := range c.IDs() {
		s.brokers = append(s.brokers, c.Broker(id))
	}
	return s
}

// create makes a topic, or returns its id if it is there.
func (s started) create(t testing.TB, name string) (id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b := s.brokers[0]
	if b.Metadata().Topic(name) == nil {
		got, err := b.controller.EnsureTopics(ctx, []control.TopicSpec{{Name: name, Partitions: 1, ReplicationFactor: int16(len(s.brokers))}}, control.Defaults{Static: b.o.Config})
		if err == nil {
			err = got[0].Err
		}
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			t.Fatalf("create %s: %v", name, err)
		}
	}
	for _, b := range s.brokers {
		if err := b.AwaitMetadata(ctx, func(m *meta.Image) bool {
			found := m.Topic(name)
			if found == nil || len(found.Partitions) != 1 || len(found.Partitions[0].InSync) != len(s.brokers) {
				return false
			}
			id = found.ID.String()
			return true
		}); err != nil {
			t.Fatalf("topic %s: %v", name, err)
		}
	}
	return id
}

// A power cut comes at every operation on the disks of a first start. The brokers start again,
// agree, and work; and from when they served on, nothing is forgotten.
func TestFirstStartIsCutShort(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(n), 7))
			policy := func() vfs.CrashPolicy {
				p := vfs.CrashPolicy{KeepEntries: r.IntN(2) == 0, KeepData: r.IntN(2) == 0}
				if r.IntN(3) == 0 {
					p.Torn = r
				}
				return p
			}
			type cut struct {
				at    int
				op    string
				disks []*vfs.Mem
				topic string // that was made before; "" for none
			}
			var mu sync.Mutex // guards what follows
			var cuts []cut
			topic := ""
			var disks []*vfs.Mem
			var seen []vfs.FS
			for i := range n {
				m := vfs.NewMem()
				disks = append(disks, m)
				seen = append(seen, vfs.Inject(m, func(op vfs.Op, name string) error {
					switch op {
					case vfs.OpRead, vfs.OpStat, vfs.OpList, vfs.OpSize, vfs.OpLock, vfs.OpClose:
						return nil // changes nothing
					}
					mu.Lock()
					defer mu.Unlock()
					c := cut{len(cuts), fmt.Sprintf("broker %d, %s %s", i+1, op, name), nil, topic}
					for _, d := range disks {
						c.disks = append(c.disks, d.CrashClone(policy()))
					}
					cuts = append(cuts, c)
					return nil
				}))
			}
			s := startOnDisks(t, n, func(id int32) vfs.FS { return seen[id-1] })
			id := s.create(t, "kept")
			mu.Lock()
			topic = id
			mu.Unlock()
			s.create(t, "last")
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			all := cuts
			mu.Unlock()
			step := max(1, len(all)*n/150)
			anew := 0
			for i := 0; i < len(all) && !t.Failed(); i += step {
				c := all[i]
				again := startOnDisks(t, n, func(id int32) vfs.FS { return c.disks[id-1] })
				what := fmt.Sprintf("power cut %d of %d, before %s", c.at, len(all), c.op)
				if c.topic != "" {
					for _, b := range again.brokers {
						if got := b.Metadata().Topic("kept"); got == nil || got.ID.String() != c.topic {
							t.Errorf("%s: broker %d has lost a topic", what, b.NodeID())
						}
					}
				}
				again.create(t, "kept")
				again.create(t, "other")
				for j, d := range c.disks {
					names, err := d.List("/klamm" + map[bool]string{true: fmt.Sprint("/broker-", j+1)}[n > 1])
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(strings.Join(names, " "), "unfinished-stray") {
						anew++
					}
				}
				if err := again.close(); err != nil {
					t.Errorf("%s: close: %v", what, err)
				}
			}
			if anew == 0 {
				t.Error("no start was begun anew")
			}
			t.Logf("%d operations, %d times a quorum was begun anew", len(all), anew)
		})
	}
}
