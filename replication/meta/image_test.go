package meta_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

func id(n int) prim.UUID { return prim.UUID{15: byte(n), 14: byte(n >> 8)} }

func topic(n, partitions int) []meta.Record {
	out := []meta.Record{&msg.TopicRecord{Name: fmt.Sprintf("t%d", n), TopicId: id(n)}}
	for p := range partitions {
		out = append(out, &msg.PartitionRecord{PartitionId: int32(p), TopicId: id(n), Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	}
	return out
}

// dump is the byte form of an image, equal for equal images.
func dump(t *testing.T, m *meta.Image) []byte {
	t.Helper()
	var b []byte
	var err error
	for _, r := range m.Records() {
		if b, err = meta.AppendRecord(b, r); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func apply(t *testing.T, m *meta.Image, records ...meta.Record) (*meta.Image, meta.Delta) {
	t.Helper()
	next, delta, err := m.Apply(m.Index+1, 1, records)
	if err != nil {
		t.Fatal(err)
	}
	return next, delta
}

func TestAnImageNeverChanges(t *testing.T) {
	first, _ := apply(t, meta.Empty(), topic(1, 2)...)
	before := dump(t, first)
	change := new(msg.PartitionChangeRecord)
	change.SetDefaults()
	change.PartitionId, change.TopicId, change.Leader = 1, id(1), 7
	value := "compact"
	second, delta := apply(t, first, change,
		&msg.ConfigRecord{ResourceType: 2, ResourceName: "t1", Name: "cleanup.policy", Value: &value},
		&msg.RemoveTopicRecord{TopicId: id(1)})
	if second.Topic("t1") != nil || second.TopicByID(id(1)) != nil || second.PartitionCount() != 0 {
		t.Error("the topic is still there after its removal")
	}
	if len(second.Config(meta.Resource{Type: meta.TopicResource, Name: "t1"})) != 0 {
		t.Error("the removed topic's configs are still there")
	}
	if len(delta.Deleted) != 1 || len(delta.Topics) != 0 {
		t.Errorf("delta %+v, want one deleted topic", delta)
	}
	if !bytes.Equal(dump(t, first), before) {
		t.Error("applying to an image changed it")
	}
}

func TestNamingALeaderStartsAnEpoch(t *testing.T) {
	m, _ := apply(t, meta.Empty(), topic(1, 1)...)
	change := new(msg.PartitionChangeRecord)
	change.SetDefaults()
	change.TopicId, change.PartitionId, change.Isr = id(1), 0, []int32{1, 2}
	m, _ = apply(t, m, change)
	if p := m.Partition("t1", 0); p.LeaderEpoch != 0 || p.PartitionEpoch != 1 || p.Leader != 1 {
		t.Errorf("after an ISR change: %+v, want leader 1 epoch 0, partition epoch 1", p)
	}
	change.Isr, change.Leader = nil, 1
	m, _ = apply(t, m, change)
	if p := m.Partition("t1", 0); p.LeaderEpoch != 1 || p.PartitionEpoch != 2 || len(p.InSync) != 2 {
		t.Errorf("after naming the same leader: %+v, want leader epoch 1, partition epoch 2", p)
	}
}

func TestAContradictionChangesNothing(t *testing.T) {
	m, _ := apply(t, meta.Empty(), topic(1, 1)...)
	for _, bad := range [][]meta.Record{
		topic(1, 1),
		{&msg.RemoveTopicRecord{TopicId: id(9)}},
		{&msg.PartitionRecord{TopicId: id(1), PartitionId: 5}},
		{&msg.FenceBrokerRecord{Id: 3}},
		append(topic(2, 1), &msg.RemoveTopicRecord{TopicId: id(9)}),
	} {
		next, _, err := m.Apply(9, 1, bad)
		if err == nil {
			t.Errorf("%s: no error", bad[0].MessageName())
		}
		if next != m {
			t.Errorf("%s: the image changed", bad[0].MessageName())
		}
	}
}

func TestColliding(t *testing.T) {
	m, _ := apply(t, meta.Empty(), &msg.TopicRecord{Name: "a.b_c", TopicId: id(1)})
	for name, want := range map[string]bool{"a_b.c": true, "a.b.c": true, "a.b_c": false, "ab": false, "a.b": false} {
		if got := m.Colliding(name) != nil; got != want {
			t.Errorf("%s collides: %t, want %t", name, got, want)
		}
	}
}

// TestReplayAndSnapshotAgree applies random histories and compares the image
// with one built from its own records, and with a second replay (M1, Q8).
func TestReplayAndSnapshotAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 2))
	m, again := meta.Empty(), meta.Empty()
	for range 500 {
		var records []meta.Record
		n := r.IntN(20)
		switch r.IntN(6) {
		case 0:
			records = topic(n, 1+r.IntN(4))
		case 1:
			records = []meta.Record{&msg.RemoveTopicRecord{TopicId: id(n)}}
		case 2:
			v := fmt.Sprint(r.IntN(100))
			records = []meta.Record{&msg.ConfigRecord{ResourceType: 2, ResourceName: fmt.Sprintf("t%d", n), Name: "retention.ms", Value: &v}}
		case 3:
			c := new(msg.PartitionChangeRecord)
			c.SetDefaults()
			c.TopicId, c.PartitionId, c.Leader = id(n), int32(r.IntN(3)), int32(r.IntN(3))
			records = []meta.Record{c}
		case 4:
			records = []meta.Record{&msg.RegisterBrokerRecord{BrokerId: int32(n), BrokerEpoch: int64(m.Index), Fenced: r.IntN(2) == 0}}
		case 5:
			records = []meta.Record{&msg.ProducerIdsRecord{NextProducerId: m.NextProducerID() + 1000}, &msg.FeatureLevelRecord{Name: "f", FeatureLevel: int16(n)}}
		}
		// The records go through their bytes, as they do through the log.
		var copied []meta.Record
		for _, rec := range records {
			b, err := meta.AppendRecord(nil, rec)
			if err != nil {
				t.Fatal(err)
			}
			c, err := meta.ParseRecord(b)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			copied = append(copied, c)
		}
		index := m.Index + 1
		next, _, err1 := m.Apply(index, 1, records)
		next2, _, err2 := again.Apply(index, 1, copied)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("seed %d: %v and %v", seed, err1, err2)
		}
		m, again = next, next2
	}
	want := dump(t, m)
	if !bytes.Equal(want, dump(t, again)) {
		t.Errorf("seed %d: two replays differ", seed)
	}
	snapshot, _, err := meta.Empty().Apply(m.Index, 1, m.Records())
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if !bytes.Equal(want, dump(t, snapshot)) {
		t.Errorf("seed %d: the image differs from its snapshot", seed)
	}
	if snapshot.PartitionCount() != m.PartitionCount() || snapshot.TopicCount() != m.TopicCount() {
		t.Errorf("seed %d: counts differ", seed)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, r := range topic(1, 1) {
		b, err := meta.AppendRecord(nil, r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := meta.ParseRecord(b)
		if err != nil {
			return
		}
		if _, err := meta.AppendRecord(nil, r); err != nil {
			t.Errorf("%s parsed and does not encode: %v", r.MessageName(), err)
		}
	})
}
