package compact

import (
	"fmt"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

func TestIndexerEntersTheLastOffsets(t *testing.T) {
	none := record.NoProducer
	txn := record.Producer{ID: 7, Transactional: true}
	for _, c := range []struct {
		name       string
		start, end int64
		aborted    []index.AbortedTxn
		in         []record.Batch
		passed     int64
		want       string
	}{
		{"nothing", 10, 100, nil, nil, 0, "[] latest 9"},
		{"the last of each key, tombstones too", 0, 100, nil, []record.Batch{batch(t, 0, 10, none, "a=1", "b=2", "a"), batch(t, record.Zstd, 20, none, "b=4", "c=5")}, 0,
			"[a:12 b:20 c:21] latest 21"},
		{"from the start only", 11, 100, nil, []record.Batch{batch(t, 0, 5, none, "a=1"), batch(t, 0, 10, none, "a=1", "b=2")}, 0, "[b:11] latest 11"},
		{"a batch below the start raises nothing", 10, 100, nil, []record.Batch{batch(t, 0, 5, none, "a=1")}, 0, "[] latest 9"},
		{"not beyond the end", 0, 11, nil, []record.Batch{batch(t, 0, 5, none, "a=1"), batch(t, 0, 10, none, "a=1", "b=2"), marker(12, true, 7)}, 0, "[a:5] latest 5"},
		{"no records without a key", 0, 100, nil, []record.Batch{batch(t, 0, 5, none, "=1", "b=2", "=3")}, 0, "[b:6] latest 7, 2 invalid"},
		{"no aborted data, but what comes after", 0, 100, []index.AbortedTxn{{ProducerID: 7, FirstOffset: 5, LastOffset: 6}},
			[]record.Batch{batch(t, 0, 5, txn, "a=1"), marker(6, false, 7), batch(t, 0, 7, txn, "b=1"), marker(8, true, 7)}, 0, "[b:7] latest 8"},
		{"aborted data raises the latest offset", 0, 100, []index.AbortedTxn{{ProducerID: 7, FirstOffset: 5, LastOffset: 9}},
			[]record.Batch{batch(t, 0, 5, txn, "a=1")}, 0, "[] latest 5"},
		{"a gap is passed", 0, 100, nil, []record.Batch{batch(t, 0, 5, none, "a=1")}, 50, "[a:5] latest 49"},
		{"a gap is passed up to the end", 0, 30, nil, []record.Batch{batch(t, 0, 5, none, "a=1")}, 50, "[a:5] latest 29"},
	} {
		m := NewMap(MinBudget)
		x := NewIndexer(m, NewTxns(c.aborted), c.start, c.end, 0)
		for _, b := range c.in {
			if full, err := x.Batch(b); full || err != nil {
				t.Fatalf("%s: %v, %v", c.name, full, err)
			}
		}
		if c.passed > 0 {
			x.Passed(c.passed)
		}
		var keys []string
		for _, k := range []string{"a", "b", "c", ""} {
			if o, ok := m.Get([]byte(k)); ok {
				keys = append(keys, fmt.Sprintf("%s:%d", k, o))
			}
		}
		got := fmt.Sprintf("[%s] latest %d", strings.Join(keys, " "), x.Latest())
		if n := x.Stats().InvalidRecords; n > 0 {
			got += fmt.Sprintf(", %d invalid", n)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A full map covers all before the record that did not fit, and takes keys that
// it knows until then.
func TestIndexerStopsWhereTheMapIsFull(t *testing.T) {
	m := NewMap(MinBudget)
	x := NewIndexer(m, NewTxns(nil), 5, 1e9, 0)
	base, keys := int64(5), 0
	for full := false; !full; base += 4 {
		b := batch(t, record.None, base, record.NoProducer, "=1", fmt.Sprint("key-", keys, "=1"), "key-0=2", fmt.Sprint("key-", keys+1, "=1"))
		var err error
		if full, err = x.Batch(b); err != nil {
			t.Fatal(err)
		}
		if keys += 2; keys > 10000 {
			t.Fatal("never full")
		}
	}
	missing := int64(0)
	for i := range keys {
		if _, ok := m.Get(fmt.Append(nil, "key-", i)); !ok && missing == 0 {
			missing = 5 + int64(i/2)*4 + 1 + 2*int64(i%2)
		}
	}
	if x.Latest() != missing-1 {
		t.Errorf("latest %d, the first key without room is at %d", x.Latest(), missing)
	}
	if o, _ := m.Get([]byte("key-0")); o < base-12 {
		t.Errorf("key-0 at %d, want one of the last batches before %d", o, base)
	}
	latest := x.Latest()
	x.Passed(1e8)
	if full, err := x.Batch(batch(t, 0, base, record.NoProducer, "key-0=1")); !full || err != nil || x.Latest() != latest {
		t.Errorf("after it was full: %v, %v, latest %d, want %d", full, err, x.Latest(), latest)
	}
}
