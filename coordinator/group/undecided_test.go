package group_test

import (
	"testing"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// TestOffsetsOfATransaction: an offset that was committed in a transaction counts
// once that is committed, never if it is aborted, and not against one that was
// committed since without a transaction.
func TestOffsetsOfATransaction(t *testing.T) {
	b := newBench(t)
	at := int64(0)
	put := func(producer int64, partition int32, offset int64) {
		v := &msg.OffsetCommitValue{Offset: offset, CommitTimestamp: time.Now().UnixMilli(), ExpireTimestamp: -1}
		value, err := v.AppendTo(prim.AppendInt16(nil, 3), 3)
		if err != nil {
			t.Fatal(err)
		}
		key, err := (&msg.OffsetCommitKey{Group: "g", Topic: "t", Partition: partition}).AppendTo(prim.AppendInt16(nil, 1), 0)
		if err != nil {
			t.Fatal(err)
		}
		from := coordinator.Origin{Offset: at, Producer: record.NoProducer}
		if producer >= 0 {
			from.Producer = record.Producer{ID: producer}
		}
		at++
		if err := b.m.Replay(coordinator.Record{Key: key, Value: value}, from); err != nil {
			t.Fatal(err)
		}
	}
	end := func(producer int64, commit bool) {
		if err := b.m.Ended(coordinator.Marker{Offset: at, ProducerID: producer, Commit: commit}); err != nil {
			t.Fatal(err)
		}
		at++
	}
	want := func(offsets ...int64) {
		t.Helper()
		for p, offset := range offsets {
			if got := b.m.Fetch("g", map[string][]int32{"t": {int32(p)}})[0].Offset; got != offset {
				t.Errorf("partition %d: committed %d, want %d", p, got, offset)
			}
		}
	}
	put(-1, 0, 10)
	put(7, 0, 20)
	put(7, 1, 21)
	put(8, 1, 31)
	put(8, 2, 32)
	want(10, -1, -1)
	put(-1, 1, 5) // since
	end(7, true)
	want(20, 5, -1)
	end(8, false)
	end(9, true) // of nothing
	want(20, 5, -1)
	put(8, 2, 42)
	end(8, true)
	want(20, 5, 42)
}
