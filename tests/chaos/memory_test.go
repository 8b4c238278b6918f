package chaos_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/log/vfs"
)

// memory is a cluster of brokertest.
type memory struct {
	t    testing.TB
	c    *brokertest.Cluster
	full *fullDisk // nil unless disks can be filled
}

// startMemory starts a cluster in memory. Disks that can be filled cannot lose power.
func startMemory(t testing.TB, fills bool, config map[string]string) *memory {
	m := &memory{t: t}
	o := brokertest.Options{Brokers: len(brokers), InMemoryNetwork: true, Config: config, Verbose: *verbose}
	if fills {
		m.full = new(fullDisk)
		o.FS = vfs.Inject(vfs.NewMem(), m.full.hook)
	}
	m.c = brokertest.Start(t, o)
	m.spread()
	return m
}

// spread puts the brokers apart from each other. In a bubble nothing takes time but what waits
// for the clock: without distance a fault would always find everything replicated.
func (m *memory) spread() {
	for _, from := range brokers {
		for _, to := range brokers {
			if from != to {
				m.c.Network().Latency(place(from), place(to), time.Duration(2+5*from+to)*time.Millisecond)
			}
		}
	}
}

// fullDisk has no room for the records of one broker.
type fullDisk struct{ id atomic.Int32 }

func (f *fullDisk) hook(op vfs.Op, name string) error {
	id := f.id.Load()
	if id == 0 || op != vfs.OpWrite || !strings.HasPrefix(name, dir(id)+"/") || strings.Contains(name, "__cluster_metadata") {
		return nil
	}
	return &os.PathError{Op: string(op), Path: name, Err: syscall.ENOSPC}
}

// dir is where a broker has its data.
func dir(id int32) string { return fmt.Sprintf("/klamm/broker-%d", id) }

// place is a broker on the network.
func place(id int32) string { return fmt.Sprintf("broker-%d", id) }

func (m *memory) bootstrap() []string { return strings.Split(m.c.Bootstrap(), ",") }

func (m *memory) dial() func(context.Context, string, string) (net.Conn, error) {
	return m.c.Network().Host("client").Dial
}

func (m *memory) running(id int32) bool { return m.c.Broker(id).Running() }
func (m *memory) kill(id int32)         { m.c.Broker(id).Kill() }
func (m *memory) stop(id int32)         { m.c.Broker(id).Stop() }
func (m *memory) pause(id int32)        { m.c.Broker(id).Pause() }

func (m *memory) powerOff(ids ...int32) {
	for _, id := range ids {
		m.c.Broker(id).Kill(brokertest.LoseUnsynced)
	}
}

func (m *memory) start(ids ...int32) {
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(m.c.Broker(id).Restart)
	}
	wg.Wait()
}

func (m *memory) cut(from, to int32) { m.c.Network().Block(place(from), place(to)) }

// slow lets what is sent arrive later than a session of the network lasts.
func (m *memory) slow(from, to int32) {
	m.c.Network().Latency(place(from), place(to), 500*time.Millisecond)
}

func (m *memory) mend() {
	for _, id := range brokers {
		m.c.Broker(id).Resume()
	}
	m.c.Heal()
	m.spread()
	if m.full != nil {
		m.full.id.Store(0)
	}
}

func (m *memory) fill(id int32) { m.full.id.Store(id) }

func (m *memory) wipe(id int32) {
	if err := m.c.Broker(id).FS().RemoveAll(dir(id)); err != nil {
		m.t.Fatalf("wipe the disk of broker %d: %v", id, err)
	}
}

func (m *memory) leader(topic string, partition int32) int32 { return m.c.Leader(topic, partition) }

func (m *memory) controller() int32 {
	for _, id := range brokers {
		if b := m.c.Broker(id); b.Running() && b.Active() {
			return id
		}
	}
	return -1
}

// sameLogs waits until every replica of a partition holds the same bytes, and fails the test if
// that does not happen.
func (m *memory) sameLogs(topic string, partitions int32) {
	m.t.Helper()
	for p := range partitions {
		var logs [][]byte
		same := func() bool {
			logs = nil
			for _, id := range brokers {
				logs = append(logs, m.log(id, fmt.Sprintf("%s-%d", topic, p)))
			}
			return bytes.Equal(logs[0], logs[1]) && bytes.Equal(logs[0], logs[2])
		}
		for began := time.Now(); !same(); time.Sleep(100 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				m.t.Errorf("the replicas of %s-%d differ: %d, %d and %d bytes, the first two from byte %d on, the last two from byte %d on",
					topic, p, len(logs[0]), len(logs[1]), len(logs[2]), differ(logs[0], logs[1]), differ(logs[1], logs[2]))
				break
			}
		}
	}
}

// differ is the first byte at which two logs differ.
func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// log returns the bytes of a replica's segments.
func (m *memory) log(id int32, name string) (out []byte) {
	m.t.Helper()
	fs, folder := m.c.Broker(id).FS(), dir(id)+"/"+name
	names, err := fs.List(folder)
	if err != nil {
		m.t.Fatal(err)
	}
	slices.Sort(names)
	for _, n := range names {
		if strings.HasSuffix(n, ".log") {
			b, err := vfs.ReadFile(fs, folder+"/"+n)
			if err != nil {
				m.t.Fatal(err)
			}
			out = append(out, b...)
		}
	}
	return out
}
