package meta_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestDiff: what is told of the way from one image to another, whichever entries
// were between, is what really differs: nothing is left out, and nothing named that
// is the same. Topics are deleted and made again meanwhile.
func TestDiff(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		m := meta.Empty()
		made := byte(0)
		step := func() {
			var records []meta.Record
			name := fmt.Sprint("t", rng.IntN(5))
			topic := m.Topic(name)
			switch n := rng.IntN(6); {
			case n == 0 && topic != nil:
				records = []meta.Record{&msg.RemoveTopicRecord{TopicId: topic.ID}}
			case n == 1 && topic != nil:
				r := new(msg.PartitionChangeRecord)
				r.SetDefaults()
				r.TopicId, r.PartitionId, r.Leader = topic.ID, 0, int32(rng.IntN(3))
				records = []meta.Record{r}
			case n == 2:
				records = []meta.Record{&msg.RegisterBrokerRecord{BrokerId: int32(rng.IntN(3)), BrokerEpoch: meta.EpochOfEntry}}
			case n == 3:
				id := int32(rng.IntN(3))
				records = []meta.Record{&msg.UnregisterBrokerRecord{BrokerId: id}}
				if m.Broker(id) == nil {
					return
				}
			case n == 4:
				value := fmt.Sprint(rng.IntN(2))
				records = []meta.Record{&msg.ConfigRecord{ResourceType: int8(meta.BrokerResource), ResourceName: fmt.Sprint(rng.IntN(3)), Name: "x", Value: &value}}
			case topic == nil:
				made++
				records = []meta.Record{&msg.TopicRecord{Name: name, TopicId: prim.UUID{made, 1}},
					&msg.PartitionRecord{TopicId: prim.UUID{made, 1}, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}}
			}
			next, _, err := m.Apply(m.Index+1, 1, records)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			m = next
		}
		for range rng.IntN(20) {
			step()
		}
		old := m
		for range rng.IntN(20) {
			step()
		}
		// The newer image comes from a snapshot and shares nothing with the older.
		next, _, err := meta.Empty().Apply(m.Index, 1, m.Records())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		d := meta.Diff(old, next)
		deleted := make(map[prim.UUID]bool)
		for _, topic := range d.Deleted {
			deleted[topic.ID] = true
		}
		for n := range made {
			id := prim.UUID{n + 1, 1}
			was, is := old.TopicByID(id), next.TopicByID(id)
			_, changed := d.Topics[id]
			if deleted[id] != (was != nil && is == nil) {
				t.Errorf("seed %d: topic %d deleted: %t", seed, n, deleted[id])
			}
			if want := is != nil && (was == nil || was.Partitions[0].PartitionEpoch != is.Partitions[0].PartitionEpoch); changed != want {
				t.Errorf("seed %d: topic %d changed: %t, want %t", seed, n, changed, want)
			}
		}
		for id := range int32(3) {
			was, is := old.Broker(id), next.Broker(id)
			_, changed := d.Brokers[id]
			if want := (was == nil) != (is == nil) || was != nil && was.Epoch != is.Epoch; changed != want {
				t.Errorf("seed %d: broker %d changed: %t, want %t", seed, id, changed, want)
			}
			r := meta.Resource{Type: meta.BrokerResource, Name: fmt.Sprint(id)}
			if _, changed := d.Configs[r]; changed != (old.Config(r)["x"] != next.Config(r)["x"]) {
				t.Errorf("seed %d: configs of broker %d changed: %t", seed, id, changed)
			}
		}
	}
}
