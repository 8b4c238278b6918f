package meta_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// A process that registers again keeps its epoch; a new one gets the index of its entry.
func TestRegistrations(t *testing.T) {
	m := meta.Empty()
	for _, e := range []struct {
		name        string
		index       uint64
		epoch, want int64
	}{
		{"the first", 3, meta.EpochOfEntry, 3},
		{"the same process", 5, 3, 3},
		{"another process", 8, meta.EpochOfEntry, 8},
	} {
		r := &msg.RegisterBrokerRecord{BrokerId: 1, BrokerEpoch: e.epoch, Fenced: true, LogDirs: []prim.UUID{{1}}}
		framed, err := meta.AppendRecord(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := meta.WithEpoch(framed, e.index)
		if err != nil || bytes.Equal(stored, framed) != (e.epoch != meta.EpochOfEntry) {
			t.Errorf("%s: stored as %x, written as %x: %v", e.name, stored, framed, err)
		}
		if m, _, err = m.Apply(e.index, 1, []meta.Record{r}); err != nil {
			t.Fatal(err)
		}
		if got := m.Broker(1).Epoch; got != e.want {
			t.Errorf("%s has epoch %d, want %d", e.name, got, e.want)
		}
	}
}

// Each field of a change of a registration changes what it names, and only that; one of
// another epoch than the registered one is an error.
func TestRegistrationChanges(t *testing.T) {
	one, two := prim.UUID{1}, prim.UUID{2}
	m, _, err := meta.Empty().Apply(4, 1, []meta.Record{&msg.RegisterBrokerRecord{BrokerId: 1, BrokerEpoch: meta.EpochOfEntry, Fenced: true, LogDirs: []prim.UUID{one, two}}})
	if err != nil {
		t.Fatal(err)
	}
	type state struct {
		fenced, shuttingDown bool
		dirs, cordoned       []prim.UUID
	}
	both := []prim.UUID{one, two}
	for _, e := range []struct {
		name   string
		change msg.BrokerRegistrationChangeRecord
		want   state
	}{
		{"nothing", msg.BrokerRegistrationChangeRecord{}, state{true, false, both, nil}},
		{"unfenced", msg.BrokerRegistrationChangeRecord{Fenced: -1}, state{false, false, both, nil}},
		{"a cordoned directory", msg.BrokerRegistrationChangeRecord{CordonedLogDirs: []prim.UUID{two}}, state{false, false, both, []prim.UUID{two}}},
		{"in controlled shutdown", msg.BrokerRegistrationChangeRecord{InControlledShutdown: 1}, state{false, true, both, []prim.UUID{two}}},
		{"a lost directory", msg.BrokerRegistrationChangeRecord{LogDirs: []prim.UUID{two}}, state{false, true, []prim.UUID{two}, []prim.UUID{two}}},
		{"fenced", msg.BrokerRegistrationChangeRecord{Fenced: 1, CordonedLogDirs: []prim.UUID{}}, state{true, true, []prim.UUID{two}, []prim.UUID{}}},
	} {
		e.change.BrokerId, e.change.BrokerEpoch = 1, 4
		if m, _, err = m.Apply(m.Index+1, 1, []meta.Record{&e.change}); err != nil {
			t.Fatal(err)
		}
		b := m.Broker(1)
		if b.Fenced != e.want.fenced || b.ShuttingDown != e.want.shuttingDown || !slices.Equal(b.LogDirs, e.want.dirs) || !slices.Equal(b.CordonedLogDirs, e.want.cordoned) {
			t.Errorf("%s: %+v, want %+v", e.name, *b, e.want)
		}
	}
	if _, _, err := m.Apply(m.Index+1, 1, []meta.Record{&msg.BrokerRegistrationChangeRecord{BrokerId: 1, BrokerEpoch: 3, Fenced: -1}}); err == nil {
		t.Error("a change of another epoch was applied")
	}
}
