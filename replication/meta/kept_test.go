package meta_test

import (
	"bytes"
	"testing"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestWhatIsNotActedOnIsKept writes every kind of record that klamm only keeps,
// and expects each in the snapshot until its removal.
func TestWhatIsNotActedOnIsKept(t *testing.T) {
	name := "alice"
	user := []msg.ClientQuotaRecordEntityData{{EntityType: "user", EntityName: &name}, {EntityType: "client-id"}}
	swapped := []msg.ClientQuotaRecordEntityData{user[1], user[0]}
	puts := []meta.Record{
		&msg.DelegationTokenRecord{Owner: "User:a", TokenId: "t"},
		&msg.UserScramCredentialRecord{Name: "alice", Mechanism: 1, Salt: []byte{1}, Iterations: 4096},
		&msg.ClientQuotaRecord{Entity: user, Key: "producer_byte_rate", Value: 1024},
		&msg.AccessControlEntryRecord{Id: id(7), ResourceType: 2, ResourceName: "t1", Principal: "User:a"},
		&msg.RegisterControllerRecord{ControllerId: 1, IncarnationId: id(8)},
	}
	m, _ := apply(t, meta.Empty(), puts...)
	if got := m.Kept(); len(got) != len(puts) {
		t.Fatalf("%d records are kept, want %d", len(got), len(puts))
	}
	again, _ := apply(t, meta.Empty(), m.Records()...)
	if !bytes.Equal(dump(t, again), dump(t, m)) {
		t.Error("the image of a snapshot differs from the one that it was made of")
	}
	m, _ = apply(t, m, &msg.ClientQuotaRecord{Entity: swapped, Key: "producer_byte_rate", Value: 2048})
	if got := m.Kept()[2].(*msg.ClientQuotaRecord); len(m.Kept()) != len(puts) || got.Value != 2048 {
		t.Errorf("a quota of the same entity in another order: %d records, value %v", len(m.Kept()), got.Value)
	}
	m, _ = apply(t, m,
		&msg.RemoveDelegationTokenRecord{TokenId: "t"}, &msg.RemoveUserScramCredentialRecord{Name: "alice", Mechanism: 1},
		&msg.ClientQuotaRecord{Entity: user, Key: "producer_byte_rate", Remove: true}, &msg.RemoveAccessControlEntryRecord{Id: id(7)})
	if got := m.Kept(); len(got) != 1 {
		t.Errorf("%d records are kept after the removals, want the controller's alone", len(got))
	}
}

func TestARegistrationIsKeptWhole(t *testing.T) {
	r := &msg.RegisterBrokerRecord{BrokerId: 1, BrokerEpoch: 9, CordonedLogDirs: []prim.UUID{}, LogDirs: []prim.UUID{id(1)},
		Features: []msg.RegisterBrokerRecordBrokerFeature{{Name: "group.version", MaxSupportedVersion: 1}}}
	m, _ := apply(t, meta.Empty(), r, &msg.BrokerRegistrationChangeRecord{BrokerId: 1, BrokerEpoch: 9, CordonedLogDirs: []prim.UUID{id(2)}},
		&msg.FeatureLevelRecord{Name: "group.version", FeatureLevel: 1}, &msg.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 30})
	records := m.Records()
	if f := records[0].(*msg.FeatureLevelRecord); f.Name != "metadata.version" {
		t.Errorf("the first record of a snapshot is of %s, want metadata.version", f.Name)
	}
	r.CordonedLogDirs = []prim.UUID{id(2)}
	got, err := meta.AppendRecord(nil, records[2])
	if err != nil {
		t.Fatal(err)
	}
	want, err := meta.AppendRecord(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the registration in a snapshot is\n%x\nwant\n%x", got, want)
	}
}

func TestClearElrRaisesThePartitionEpoch(t *testing.T) {
	for _, name := range []string{"t1", ""} {
		m, _ := apply(t, meta.Empty(), topic(1, 2)...)
		change := new(msg.PartitionChangeRecord)
		change.SetDefaults()
		change.TopicId, change.PartitionId, change.EligibleLeaderReplicas, change.LastKnownElr = id(1), 0, []int32{1}, []int32{1}
		m, _ = apply(t, m, change, &msg.ClearElrRecord{TopicName: name})
		p, other := m.Partition("t1", 0), m.Partition("t1", 1)
		if len(p.EligibleLeader)+len(p.LastKnownELR) > 0 || p.PartitionEpoch != 2 || other.PartitionEpoch != 0 {
			t.Errorf("topic %q: %+v and %+v, want no eligible leaders in epoch 2, and epoch 0", name, p, other)
		}
	}
}

// Quotas of different entities are different, and none is lost on the way back.
func TestQuotasOfDifferentEntities(t *testing.T) {
	user := "user"
	a := &msg.ClientQuotaRecord{Entity: []msg.ClientQuotaRecordEntityData{{EntityType: "client-id", EntityName: &user}}, Key: "producer_byte_rate", Value: 1}
	b := &msg.ClientQuotaRecord{Entity: []msg.ClientQuotaRecordEntityData{{EntityType: "client-id"}, {EntityType: "user"}}, Key: "producer_byte_rate", Value: 2}
	m, _, err := meta.Empty().Apply(1, 1, []meta.Record{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Kept()); n != 2 {
		t.Errorf("%d of 2 quotas are kept", n)
	}
}
