package compact

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

// rec is a record as tests write it: "k=v", or "k" for a tombstone, "=v" for a
// null key. Its timestamp is 1000 + its offset in the batch.
type rec = string

func parseRec(r rec) (key, value []byte) {
	k, v, ok := strings.Cut(r, "=")
	if k != "" {
		key = []byte(k)
	}
	if ok {
		value = []byte(v)
	}
	return key, value
}

func batch(t testing.TB, codec record.Codec, base int64, p record.Producer, recs ...rec) record.Batch {
	t.Helper()
	bld := record.NewBuilder(codec, codec.DefaultLevel())
	for i, r := range recs {
		key, value := parseRec(r)
		bld.Append(1000+int64(i), key, value, []record.Header{{Key: "h", Value: []byte("x")}})
	}
	out, err := bld.Finish(p)
	if err != nil {
		t.Fatal(err)
	}
	b := record.Batch(bytes.Clone(out))
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(3)
	return b
}

func marker(base int64, commit bool, id int64) record.Batch {
	b := record.Batch(record.BuildEndTxn(nil, commit, id, 0, 1, 2000))
	b.SetBaseOffset(base)
	return b
}

// show writes a batch as "base-last[offset:k=v@timestamp ...]", with flags.
func show(t testing.TB, b record.Batch) string {
	t.Helper()
	if b == nil {
		return "-"
	}
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%d-%d[", b.BaseOffset(), b.LastOffset())
	it := b.Iterate(0)
	defer it.Close()
	for sep := ""; it.Next(); sep = " " {
		r := it.Record()
		fmt.Fprintf(&s, "%s%d:%s", sep, it.Offset(), r.Key)
		if b.Attributes().Control() {
			s.Reset()
			fmt.Fprintf(&s, "%d[marker", b.BaseOffset())
			continue
		}
		if r.Value != nil {
			fmt.Fprintf(&s, "=%s", r.Value)
		}
		fmt.Fprintf(&s, "@%d", it.Timestamp())
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	s.WriteString("]")
	if b.Attributes().DeleteHorizon() {
		fmt.Fprintf(&s, " horizon %d", b.BaseTimestamp())
	}
	if b.Attributes().Codec() != record.None {
		s.WriteString(" " + b.Attributes().Codec().String())
	}
	return s.String()
}

func TestFilterKeepsWhatKafkaKeeps(t *testing.T) {
	none := record.NoProducer
	idem := record.Producer{ID: 7, Sequence: 40}
	txn := record.Producer{ID: 7, Sequence: 40, Transactional: true}
	aborted := []index.AbortedTxn{{ProducerID: 7, FirstOffset: 10, LastOffset: 15}}
	horizon := func(at int64, b record.Batch) record.Batch { // as a round at at - 100 leaves it
		f := NewFilter(Round{Map: NewMap(0), Latest: math.MaxInt64, End: 1000, Now: at - 100, DeleteRetention: 100}, NewTxns(nil))
		out, v, err := f.Batch(b)
		if err != nil || v != Rebuilt {
			t.Fatalf("%v, %v", v, err)
		}
		return bytes.Clone(out)
	}
	for _, c := range []struct {
		name    string
		last    map[string]int64 // in the map
		round   Round            // with Now 5000 and DeleteRetention 100
		aborted []index.AbortedTxn
		in      []record.Batch
		want    string
	}{
		{name: "what is in no map stays",
			in: []record.Batch{batch(t, 0, 10, none, "a=1", "b=2")}, want: "Same 10-11[10:a=1@1000 11:b=2@1001]"},
		{name: "the last of each key stays, with its offset and time",
			last: map[string]int64{"a": 12, "b": 11}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "b=2", "a=3", "c=4")},
			want: "Rebuilt 10-13[11:b=2@1001 12:a=3@1002 13:c=4@1003]"},
		{name: "the last offset of a batch stays without its record",
			last: map[string]int64{"b": 20}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "b=2")}, want: "Rebuilt 10-11[10:a=1@1000]"},
		{name: "a batch of old values goes",
			last: map[string]int64{"a": 20, "b": 20}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "b=2")}, want: "Dropped -"},
		{name: "above the map all stays, even without a key",
			last: map[string]int64{"a": 20}, round: Round{Latest: 9}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "=2")},
			want: "Same 10-11[10:a=1@1000 11:=2@1001]"},
		{name: "a map that ends inside a batch decides on its part",
			last: map[string]int64{"a": 10, "b": 2}, round: Round{Latest: 11}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "a=2", "a=3")},
			want: "Same 10-12[10:a=1@1000 11:a=2@1001 12:a=3@1002]"},
		{name: "records without a key go",
			in: []record.Batch{batch(t, 0, 10, none, "=1", "b=2")}, want: "Rebuilt 10-11[11:b=2@1001]"},
		{name: "a tombstone starts to wait",
			in:   []record.Batch{batch(t, 0, 10, none, "a", "b=2")},
			want: "Rebuilt 10-11[10:a@1000 11:b=2@1001] horizon 5100"},
		{name: "a tombstone waits",
			in:   []record.Batch{horizon(5001, batch(t, 0, 10, none, "a", "b=2"))},
			want: "Same 10-11[10:a@1000 11:b=2@1001] horizon 5001"},
		{name: "a tombstone has waited",
			in:   []record.Batch{horizon(5000, batch(t, 0, 10, none, "a", "b=2"))},
			want: "Rebuilt 10-11[11:b=2@1001] horizon 5000"},
		{name: "a tombstone that a value follows goes at once",
			last: map[string]int64{"a": 20}, in: []record.Batch{batch(t, 0, 10, none, "a", "b=2")}, want: "Rebuilt 10-11[11:b=2@1001]"},
		{name: "the last batch of a producer keeps its header",
			last: map[string]int64{"a": 20}, round: Round{Producers: map[int64]LastRecord{7: {DataOffset: 11}}},
			in: []record.Batch{batch(t, 0, 10, idem, "a=1", "a=2")}, want: "Emptied 10-11[]"},
		{name: "an earlier batch of a producer does not",
			last: map[string]int64{"a": 20}, round: Round{Producers: map[int64]LastRecord{7: {DataOffset: 12}}},
			in: []record.Batch{batch(t, 0, 10, idem, "a=1", "a=2")}, want: "Dropped -"},
		{name: "the last batch of a round keeps its header",
			last: map[string]int64{"a": 20}, round: Round{End: 12}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "a=2")}, want: "Emptied 10-11[]"},
		{name: "nothing above the end is touched",
			last: map[string]int64{"a": 20}, round: Round{End: 11}, in: []record.Batch{batch(t, 0, 10, none, "a=1", "a=2")},
			want: "Same 10-11[10:a=1@1000 11:a=2@1001]"},
		{name: "aborted data goes and its marker stays",
			aborted: aborted, in: []record.Batch{batch(t, 0, 10, txn, "a=1"), marker(15, false, 7)},
			want: "Dropped -, Same 15[marker], kept [{7 10 15 0}]"},
		{name: "an abort marker without data starts to wait",
			aborted: aborted, in: []record.Batch{marker(15, false, 7)}, want: "Rebuilt 15[marker] horizon 5100"},
		{name: "a commit marker without data starts to wait",
			in: []record.Batch{marker(15, true, 7)}, want: "Rebuilt 15[marker] horizon 5100"},
		{name: "a marker without data waits",
			in: []record.Batch{horizon(5001, marker(15, true, 7))}, want: "Same 15[marker] horizon 5001"},
		{name: "a marker without data has waited",
			in: []record.Batch{horizon(5000, marker(15, true, 7))}, want: "Dropped -"},
		{name: "a marker with data stays even if it has waited",
			in:   []record.Batch{batch(t, 0, 10, txn, "a=1"), horizon(5000, marker(15, true, 7))},
			want: "Same 10-10[10:a=1@1000], Same 15[marker] horizon 5000"},
		{name: "a marker that is the last of its producer keeps its header",
			round: Round{Producers: map[int64]LastRecord{7: {DataOffset: -1}}},
			in:    []record.Batch{horizon(5000, marker(15, true, 7))}, want: "Emptied 15-15[]"},
		{name: "a marker of an older epoch does not",
			round: Round{Producers: map[int64]LastRecord{7: {DataOffset: -1, Epoch: 1}}},
			in:    []record.Batch{horizon(5000, marker(15, true, 7))}, want: "Dropped -"},
		{name: "the header of aborted data keeps the marker",
			aborted: aborted, round: Round{Producers: map[int64]LastRecord{7: {DataOffset: 10}}},
			in:   []record.Batch{batch(t, 0, 10, txn, "a=1"), marker(15, false, 7)},
			want: "Emptied 10-10[], Same 15[marker], kept [{7 10 15 0}]"},
		{name: "data after the marker is committed",
			aborted: aborted, in: []record.Batch{marker(15, false, 7), batch(t, 0, 16, txn, "a=1"), marker(17, true, 7)},
			want: "Rebuilt 15[marker] horizon 5100, Same 16-16[16:a=1@1000], Same 17[marker]"},
		{name: "an aborted transaction whose marker is gone takes nothing with it",
			aborted: append(aborted, index.AbortedTxn{ProducerID: 7, FirstOffset: 18, LastOffset: 19}),
			in:      []record.Batch{batch(t, 0, 16, txn, "a=1"), marker(17, true, 7), batch(t, 0, 18, txn, "a=1"), marker(19, false, 7)},
			want:    "Same 16-16[16:a=1@1000], Same 17[marker], Dropped -, Same 19[marker], kept [{7 18 19 0}]"},
		{name: "a control record of another kind stays",
			in:   []record.Batch{record.BuildControl(nil, record.Control{Type: record.ControlLeaderChange, Value: []byte{0}, ProducerID: -1, Epoch: -1})},
			want: "Same 0[marker]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.round
			r.Map, r.Now, r.DeleteRetention = NewMap(MinBudget), 5000, 100
			if r.End == 0 {
				r.End = 100
			}
			if r.Latest == 0 {
				r.Latest = 99
			}
			for k, o := range c.last {
				r.Map.Put([]byte(k), o)
			}
			txns := NewTxns(c.aborted)
			f := NewFilter(r, txns)
			var got []string
			for _, b := range c.in {
				before := bytes.Clone(b)
				kept, v, err := f.Batch(b)
				if err != nil {
					t.Fatal(err)
				}
				if v == Same != (len(kept) > 0 && &kept[0] == &b[0]) || v == Dropped != (kept == nil) {
					t.Errorf("%s of other bytes", verdicts[v])
				}
				if !bytes.Equal(b, before) {
					t.Error("the batch was changed")
				}
				checkHeader(t, b, kept)
				got = append(got, verdicts[v]+" "+show(t, kept))
			}
			if kept := txns.TakeKept(); len(kept) > 0 {
				got = append(got, fmt.Sprintf("kept %v", kept))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

var verdicts = [...]string{"Dropped", "Same", "Emptied", "Rebuilt"}

// checkHeader checks the fields that never change.
func checkHeader(t testing.TB, b, kept record.Batch) {
	t.Helper()
	if kept == nil {
		return
	}
	fields := func(b record.Batch) string {
		a := b.Attributes()
		return fmt.Sprint(b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(),
			a.Transactional(), a.Control(), a.LogAppendTime())
	}
	if got, want := fields(kept), fields(b); got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	if len(kept) == record.HeaderSize && kept.MaxTimestamp() != b.MaxTimestamp() {
		t.Errorf("empty batch of max timestamp %d, want %d", kept.MaxTimestamp(), b.MaxTimestamp())
	}
}

func TestFilterKeepsCodecAndTimestampType(t *testing.T) {
	for _, codec := range codecs {
		for _, appendTime := range []bool{false, true} {
			b := batch(t, codec, 10, record.NoProducer, "a=1", "b", "c=3")
			at, maxTimestamp := "@1002", int64(1002)
			if appendTime {
				b.SetLogAppendTime(4000)
				at, maxTimestamp = "@4000", 4000
			}
			for _, c := range []struct {
				drop, keep string
				max        int64
			}{
				{"b", "10:a=1%s 12:c=3%s", maxTimestamp},
				{"a", "11:b%s 12:c=3%s", maxTimestamp}, // with a horizon
				{"c", "10:a=1%s 11:b%s", max(1001, maxTimestamp-1+maxTimestamp/4000)},
			} {
				m := NewMap(MinBudget)
				m.Put([]byte(c.drop), 50)
				f := NewFilter(Round{Map: m, Latest: 99, End: 100, Now: 5000, DeleteRetention: math.MaxInt64 - 6000}, NewTxns(nil))
				kept, _, err := f.Batch(b)
				if err != nil {
					t.Fatal(err)
				}
				got := record.Batch(kept)
				checkHeader(t, b, got)
				s := show(t, got)
				s = strings.NewReplacer("@1000", at, "@1001", at).Replace(s)
				if want := fmt.Sprintf(c.keep, at, at); !strings.Contains(s, want) || got.Attributes().Codec() != codec || got.MaxTimestamp() != c.max {
					t.Errorf("%s, append time %v: %s, max timestamp %d; want %s, %d", codec, appendTime, s, got.MaxTimestamp(), want, c.max)
				}
				if again, v, err := f.Batch(bytes.Clone(kept)); err != nil || v != Same {
					t.Errorf("again: %v, %s, %v", show(t, again), verdicts[v], err)
				}
			}
		}
	}
}

func TestBrokenBatchesAreRefused(t *testing.T) {
	good := batch(t, record.LZ4, 10, record.NoProducer, "a=1", "b=2")
	flip := func(i int, crc bool) []byte {
		b := record.Batch(bytes.Clone(good))
		b[i] ^= 0x95
		if crc {
			b.UpdateCRC()
		}
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, record.ErrShort},
		{"cut", good[:40], record.ErrShort},
		{"a bit flipped", flip(70, false), record.ErrCorrupt},
		{"a bad stream", flip(64, true), record.ErrCorrupt},
		{"another count", flip(60, true), record.ErrCorrupt},
		{"a negative last offset delta", flip(23, true), record.ErrCorrupt},
		{"a negative offset", flip(0, false), record.ErrCorrupt},
		{"a short legacy entry", make([]byte, 20), record.ErrShort},
	} {
		m := NewMap(MinBudget)
		if _, err := NewIndexer(m, NewTxns(nil), 0, math.MaxInt64, 0).Batch(c.in); !errors.Is(err, c.want) {
			t.Errorf("index: %s: %v, want %v", c.name, err, c.want)
		}
		f := NewFilter(Round{Map: m, Latest: 99, End: math.MaxInt64}, NewTxns(nil))
		if _, _, err := f.Batch(c.in); !errors.Is(err, c.want) {
			t.Errorf("filter: %s: %v, want %v", c.name, err, c.want)
		}
	}
}
