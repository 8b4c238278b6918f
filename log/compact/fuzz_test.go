package compact

import (
	"bytes"
	"math"
	"runtime"
	"testing"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/record"
)

// FuzzBatch compacts arbitrary bytes as batches: no panic, no memory out of
// proportion, and what comes out is whole, with the offsets that went in, and
// stays as it is when it is compacted again.
func FuzzBatch(f *testing.F) {
	for _, codec := range codecs {
		f.Add([]byte(batch(f, codec, 10, record.Producer{ID: 7, Transactional: true}, "a=1", "b", "=2", "a=3")), int64(12), int64(100))
	}
	f.Add([]byte(append(marker(15, true, 7), marker(16, false, 8)...)), int64(99), int64(17))
	f.Add(wrapper(f, 1, record.Gzip, 0, 10, "a=1", "c=1", "a=2"), int64(99), int64(13))
	f.Add(message(0, 0, 10, []byte("a"), nil), int64(99), int64(13))
	f.Fuzz(func(t *testing.T, in []byte, latest, end int64) {
		const limit = 1 << 20
		in = bytes.Clone(in)
		var batches [][]byte
		for rest := in; ; {
			b, next, err := record.Next(rest)
			if b == nil {
				break
			}
			if err == nil {
				b.UpdateCRC() // so that the records are reached
			}
			batches, rest = append(batches, b), next
		}
		aborted := []index.AbortedTxn{{ProducerID: 7, FirstOffset: 0, LastOffset: 50}}
		m := NewMap(MinBudget)
		x := NewIndexer(m, NewTxns(aborted), 0, end, limit)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, b := range batches {
			x.Batch(b)
		}
		r := Round{Map: m, Latest: latest, End: end, Now: 5000, DeleteRetention: 100, MaxSize: limit,
			Producers: map[int64]LastRecord{7: {DataOffset: 12}, 8: {DataOffset: -1}}}
		filter, again := NewFilter(r, NewTxns(aborted)), NewFilter(r, NewTxns(aborted))
		for _, b := range batches {
			original := bytes.Clone(b)
			kept, v, err := filter.Batch(b)
			if !bytes.Equal(original, b) {
				t.Fatal("the batch was changed")
			}
			if err != nil || v == Dropped || v == Same {
				again.txns = filter.txns
				continue
			}
			out := record.Batch(kept)
			if err := out.Validate(); err != nil {
				t.Fatal(err)
			}
			if int8(b[magicAt]) == record.Magic {
				checkHeader(t, b, out)
			}
			kept = bytes.Clone(kept)
			again.txns = NewTxns(nil)
			again.Map, again.Latest = NewMap(MinBudget), math.MaxInt64
			if out.Attributes().Control() || again.lastOfProducer(out) || len(kept) == record.HeaderSize {
				continue // depends on what was before
			}
			if _, v, err := again.Batch(kept); err != nil || v != Same && latest == math.MaxInt64 {
				t.Fatalf("again: %d, %v", v, err)
			}
		}
		runtime.ReadMemStats(&after)
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(len(batches)*10*limit+100*len(in)+1<<20); got > most {
			t.Fatalf("%d bytes allocated for %d, want at most %d", got, len(in), most)
		}
	})
}
