package record

import (
	"bytes"
	"fmt"
	"testing"
)

// FuzzBatch reads arbitrary bytes as batches: no panic, and what is accepted
// survives being built again.
func FuzzBatch(f *testing.F) {
	for _, g := range lines[goldenSet](f, "records.jsonl.gz") {
		f.Add(unhex(f, g.Hex))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 20
		for rest := in; ; {
			b, next, err := Next(rest)
			if b != nil && err != nil {
				ReadLegacy(nil, b, limit)
			}
			if b == nil {
				return
			}
			rest = next
			if err != nil {
				continue
			}
			b = bytes.Clone(b)
			b.UpdateCRC() // so that the records are reached
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			ParseControl(b)
			again(t, b, limit)
		}
	})
}

func again(t *testing.T, b Batch, limit int) {
	it := b.Iterate(limit)
	defer it.Close()
	bld := NewBuilder(None, 0)
	n := int32(0)
	for it.Next() {
		bld.Append(it.Timestamp(), it.Record().Key, it.Record().Value, it.Record().Headers)
		n++
	}
	if it.Err() != nil {
		return
	}
	if n > 0 {
		checkWalk(t, b, it.Plain(), n)
		checkScan(t, b, it.Plain(), n)
	}
	if n != max(b.Count(), 0) {
		t.Fatalf("%d records, header says %d", n, b.Count())
	}
	var w Walk
	if err := w.Run(it.Plain(), n); err != nil && n > 0 {
		t.Fatalf("iterator accepts what the walk refuses: %v", err)
	}
	out, err := bld.Finish(NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	back := Batch(out).Iterate(0)
	it.Reset(b, limit)
	for it.Next() {
		if !back.Next() || !same(back.Record().Key, it.Record().Key) || !same(back.Record().Value, it.Record().Value) {
			t.Fatalf("record %d differs after being built again: %v", back.Record().OffsetDelta, back.Err())
		}
	}
}

// checkWalk compares what a walk finds with what an iterator does.
func checkWalk(t *testing.T, b Batch, plain []byte, n int32) {
	w := Walk{KeepNullKeys: true, Bounded: true, MinDelta: -100, MaxDelta: 100, NoDelta: 200}
	if err := w.Run(plain, n); err != nil {
		t.Fatal(err)
	}
	want := Walk{Sequential: true}
	it := b.Iterate(0)
	defer it.Close()
	for i := int32(0); it.Next(); i++ {
		r := it.Record()
		want.Sequential = want.Sequential && r.OffsetDelta == i
		if i == 0 || r.TimestampDelta > want.Largest {
			want.Largest, want.LargestIndex = r.TimestampDelta, i
		}
		if r.Key == nil {
			want.NullKeys = append(want.NullKeys, i)
		}
		if d := r.TimestampDelta; (d < -100 || d > 100) && d != 200 {
			want.OutOfRange = append(want.OutOfRange, i)
		}
	}
	got := fmt.Sprint(w.Sequential, w.Largest, w.LargestIndex, w.NullKeys, w.OutOfRange)
	if want := fmt.Sprint(want.Sequential, want.Largest, want.LargestIndex, want.NullKeys, want.OutOfRange); got != want {
		t.Fatalf("walk found %s, want %s", got, want)
	}
}

// FuzzDecompress feeds every codec: no panic, no more than the limit, and no
// memory out of proportion to it.
func FuzzDecompress(f *testing.F) {
	for _, g := range lines[goldenStream](f, "codecs.jsonl.gz") {
		c, err := ParseCodec(g.Codec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(int8(c), unhex(f, g.Hex))
	}
	f.Fuzz(func(t *testing.T, codec int8, in []byte) {
		const limit = 1 << 18
		out, err := Decompress(nil, Codec(codec), in, limit)
		if len(out) > limit || cap(out) > 4*limit {
			t.Fatalf("%d bytes in %d, limit %d", len(out), cap(out), limit)
		}
		if err != nil || len(out) == 0 || Codec(codec) == None {
			return
		}
		c, err := Compress(nil, Codec(codec), Codec(codec).DefaultLevel(), out)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decompress(nil, Codec(codec), c, len(out))
		if err != nil || !bytes.Equal(back, out) {
			t.Fatalf("%d bytes came back as %d: %v", len(out), len(back), err)
		}
	})
}
