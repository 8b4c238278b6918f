package control_test

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// large returns a cluster of three brokers with three replicas of each partition, which
// they lead in turn.
func large(t testing.TB, topics, partitions int) *meta.Image {
	t.Helper()
	records := []meta.Record{&msg.FeatureLevelRecord{Name: "eligible.leader.replicas.version", FeatureLevel: 1}}
	for id := range int32(3) {
		records = append(records, &msg.RegisterBrokerRecord{BrokerId: id, BrokerEpoch: 1})
	}
	for i := range topics {
		id := prim.UUID{14: byte(i >> 8), 15: byte(i), 0: 1}
		records = append(records, &msg.TopicRecord{Name: fmt.Sprint("t", i), TopicId: id})
		for p := range int32(partitions) {
			replicas := []int32{p % 3, (p + 1) % 3, (p + 2) % 3}
			records = append(records, &msg.PartitionRecord{TopicId: id, PartitionId: p, Replicas: replicas, Isr: replicas, Leader: replicas[0]})
		}
	}
	m, _, err := meta.Empty().Apply(1, 1, records)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// To fence a broker is one record for each of its partitions, and one for itself.
func TestFencingChangesEachPartitionOnce(t *testing.T) {
	const topics, partitions = 10, 300
	m := large(t, topics, partitions)
	records, err := control.FenceBroker(control.Facts{Image: m}, 1, 1)
	if err != nil || len(records) != 1+topics*partitions {
		t.Fatalf("%d records: %v", len(records), err)
	}
	m, _, err = m.Apply(2, 1, records)
	if err != nil {
		t.Fatal(err)
	}
	leads := make(map[int32]int)
	m.Partitions(func(_ *meta.Topic, _ int32, p *meta.Partition) {
		leads[p.Leader]++
		if len(p.InSync) != 2 {
			t.Errorf("in sync: %v", p.InSync)
		}
	})
	if fmt.Sprint(leads) != fmt.Sprint(map[int32]int{0: 1000, 2: 2000}) {
		t.Errorf("leaders: %v", leads)
	}
}

func BenchmarkFenceBroker(b *testing.B) {
	m := large(b, 100, 100)
	for b.Loop() {
		records, err := control.FenceBroker(control.Facts{Image: m}, 1, 1)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := m.Apply(2, 1, records); err != nil {
			b.Fatal(err)
		}
	}
}
