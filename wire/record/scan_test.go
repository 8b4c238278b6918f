package record

import (
	"bytes"
	"errors"
	"testing"
)

func TestScannerFindsWhatAnIteratorDoes(t *testing.T) {
	for _, size := range []int{0, 1, 40, 100, 20000, 3 << 20} {
		bld := NewBuilder(None, 0)
		v := bytes.Repeat([]byte("v"), size)
		for i := range 9 {
			bld.Append(1000+int64(i)<<(5*i), []byte("key")[:i%4], v, nil)
			bld.Append(999, nil, nil, []Header{{"h", v}, {"", nil}})
			bld.Append(999, v, []byte{}, nil)
		}
		out, err := bld.Finish(NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		checkScan(t, out, Batch(out).Records(), Batch(out).Count())
		if size > 100 {
			continue
		}
		plain := Batch(out).Records()
		var s Scanner
		for n := range plain {
			for s.Reset(plain[:n], Batch(out).Count()); s.Next(); {
			}
			if !errors.Is(s.Err(), ErrCorrupt) {
				t.Fatalf("cut at %d: %v, want ErrCorrupt", n, s.Err())
			}
		}
	}
}

// checkScan compares what a scanner finds with what an iterator does.
func checkScan(t *testing.T, b Batch, plain []byte, n int32) {
	it := b.Iterate(0)
	defer it.Close()
	var s Scanner
	s.Reset(plain, n)
	for it.Next() {
		if !s.Next() {
			t.Fatalf("record %d: %v", it.Record().OffsetDelta, s.Err())
		}
		r := it.Record()
		if s.OffsetDelta != r.OffsetDelta || s.TimestampDelta != r.TimestampDelta || !same(s.Key, r.Key) || s.NullValue != (r.Value == nil) {
			t.Fatalf("got %+v, want %+v", s, r)
		}
		if d, at := varintAt(plain, s.Rest); d != r.OffsetDelta || at < 0 {
			t.Fatalf("offset delta %d at Rest, want %d", d, r.OffsetDelta)
		}
	}
	if s.Next() || s.Err() != nil || s.End != len(plain) {
		t.Fatalf("more after the last record, or %v", s.Err())
	}
}

func BenchmarkScan(b *testing.B) {
	batch := buildBatch(b, None, 9000, 100)
	var s Scanner
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		for s.Reset(batch.Records(), batch.Count()); s.Next(); {
		}
		if s.Err() != nil {
			b.Fatal(s.Err())
		}
	}
}
