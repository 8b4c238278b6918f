package broker

import (
	"fmt"
	"testing"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestLoneBrokerGetsCompany: a broker that was alone says where its controller listens, and
// another one joins it, and is unregistered; later it is alone again. It has its topics all the while.
func TestLoneBrokerGetsCompany(t *testing.T) {
	network, id := memnet.New(), prim.RandomUUID().String()
	disks := map[int32]vfs.FS{1: vfs.NewMem(), 2: vfs.NewMem()}
	start := func(node int32, overrides ...string) *Broker {
		t.Helper()
		static, _, err := config.Load(config.Sources{Overrides: append([]string{fmt.Sprint("node.id=", node), "log.dirs=/klamm"}, overrides...)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Start(t.Context(), Options{Config: static, ClusterID: id, FS: disks[node], Listen: network.Listen, Dial: network.Host(fmt.Sprint("node-", node)).Dial, Near: true, Logger: zap.NewNop()})
		if err != nil {
			t.Fatalf("node %d: %v", node, err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	topics := 0
	create := func(b *Broker, replicas int16) {
		t.Helper()
		topics++
		got, err := b.controller.EnsureTopics(t.Context(), []control.TopicSpec{{Name: fmt.Sprint("t", topics), Partitions: 1, ReplicationFactor: replicas}}, control.Defaults{Static: b.o.Config})
		if err != nil || got[0].Err != nil {
			t.Fatalf("create topic %d: %v, %v", topics, got, err)
		}
	}
	closed := func(b *Broker) {
		t.Helper()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const voters = "controller.quorum.voters=1@node-1:9093"
	company := []string{"listeners=PLAINTEXT://node-1:9092,CONTROLLER://node-1:9093", voters}
	other := []string{"process.roles=broker", "listeners=PLAINTEXT://node-2:9092", voters}
	for range 2 {
		b := start(1, "listeners=PLAINTEXT://node-1:9092")
		create(b, 1)
		closed(b)
		b = start(1, company...)
		second := start(2, other...)
		create(second, 2)
		if err := second.AwaitMetadata(t.Context(), func(m *meta.Image) bool { return m.Topic(fmt.Sprint("t", topics)) != nil && m.Topic("t1") != nil }); err != nil {
			t.Fatal(err)
		}
		if q := second.controller.Quorum(); q.Leader != 1 || len(q.Voters) != 1 {
			t.Errorf("the quorum is %+v", q)
		}
		closed(second)
		if err := b.controller.UnregisterBroker(t.Context(), 2); err != nil { // or the first one would wait to hear of it
			t.Fatal(err)
		}
		closed(b)
	}
	b := start(1, "listeners=PLAINTEXT://node-1:9092")
	for i := range topics {
		if b.Metadata().Topic(fmt.Sprint("t", i+1)) == nil {
			t.Errorf("topic t%d is gone", i+1)
		}
	}
	create(b, 1)
}
