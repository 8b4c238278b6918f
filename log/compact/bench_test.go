package compact

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/wire/record"
)

// chunk returns batches of about 16 KB of records of about 100 bytes, 100,000 in
// all, with keys of their own.
func chunk(b *testing.B, codec record.Codec) (batches []record.Batch, keys int) {
	bld := record.NewBuilder(codec, codec.DefaultLevel())
	value := bytes.Repeat([]byte("0123456789"), 7)
	for keys < 100_000 {
		base := keys
		bld.Reset()
		for bld.Size() < 16<<10 {
			bld.Append(1_700_000_000_000+int64(keys%100), key(keys), value, nil)
			keys++
		}
		out, err := bld.Finish(record.NoProducer)
		if err != nil {
			b.Fatal(err)
		}
		batch := record.Batch(bytes.Clone(out))
		batch.SetBaseOffset(int64(base))
		batches = append(batches, batch)
	}
	return batches, keys
}

func key(i int) []byte { return fmt.Appendf(nil, "user-%011d", uint64(i)*2654435761%1e11) }

func BenchmarkFilter(b *testing.B) {
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		batches, keys := chunk(b, codec)
		for _, c := range []struct {
			name string
			kept func(i int) bool
			want Verdict
		}{
			{"all kept", func(int) bool { return true }, Same},
			{"half kept", func(i int) bool { return i%2 == 0 }, Rebuilt},
			{"none kept", func(int) bool { return false }, Dropped},
		} {
			b.Run(codec.String()+"/"+c.name, func(b *testing.B) {
				m := NewMap(64 << 20)
				for _, i := range order(10 * keys) { // most keys are others
					offset := int64(i)
					if i < keys && !c.kept(i) {
						offset = 1 << 40
					}
					if !m.Put(key(i), offset) {
						b.Fatal("full")
					}
				}
				f := NewFilter(Round{Map: m, Latest: 1 << 41, End: 1 << 41}, NewTxns(nil))
				b.SetBytes(int64(len(batches[0])))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, v, err := f.Batch(batches[i%len(batches)]); err != nil || v != c.want {
						b.Fatal(v, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(f.Stats().RecordsRead), "ns/record")
			})
		}
	}
}

func BenchmarkIndexer(b *testing.B) {
	batches, keys := chunk(b, record.None)
	m := NewMap(64 << 20)
	x := NewIndexer(m, NewTxns(nil), 0, 1<<41, 0)
	for _, i := range order(10 * keys) {
		m.Put(key(i), 0)
	}
	b.SetBytes(int64(len(batches[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if full, err := x.Batch(batches[i%len(batches)]); full || err != nil {
			b.Fatal(full, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(x.Stats().RecordsRead), "ns/record")
}

// order returns the numbers below n in an order without locality.
func order(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = int(uint64(i) * 7919 % uint64(n))
	}
	seen := make([]bool, n)
	for _, i := range out {
		seen[i] = true
	}
	for i, ok := range seen {
		if !ok {
			out = append(out, i)
		}
	}
	return out
}
