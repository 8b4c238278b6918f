package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

type plainRecord struct {
	ts         int64
	key, value []byte
	headers    []Header
}

func randomBytes(r *rand.Rand, n int) []byte {
	if r.IntN(8) == 0 {
		return nil
	}
	b := make([]byte, r.IntN(n+1))
	for i := range b {
		b[i] = byte(r.IntN(1 + r.IntN(256)))
	}
	return b
}

func randomRecords(r *rand.Rand) []plainRecord {
	recs := make([]plainRecord, 1+r.IntN(200))
	for i := range recs {
		p := plainRecord{ts: 1700000000000 + r.Int64N(100000) - 50000, key: randomBytes(r, 30), value: randomBytes(r, 1+r.IntN(3000))}
		for range r.IntN(4) {
			p.headers = append(p.headers, Header{Key: fmt.Sprintf("h%d", r.IntN(3)), Value: randomBytes(r, 20)})
		}
		recs[i] = p
	}
	return recs
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func TestBuildAndIterate(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var it Iterator
	for round := range 60 {
		codec := codecs[round%len(codecs)]
		level := codec.DefaultLevel()
		if round >= 40 && codec != None && codec != Snappy {
			level = 1 + r.IntN(9)
		}
		bld := NewBuilder(codec, level)
		for range 3 {
			bld.Reset()
			recs := randomRecords(r)
			maxTS := recs[0].ts
			for _, p := range recs {
				bld.Append(p.ts, p.key, p.value, p.headers)
				maxTS = max(maxTS, p.ts)
			}
			out, err := bld.Finish(Producer{7, 3, 2147483647, true})
			if err != nil {
				t.Fatal(err)
			}
			b := Batch(out)
			if err := b.Validate(); err != nil {
				t.Fatal(err)
			}
			if len(b) > bld.SizeUpperBound() {
				t.Errorf("%s: %d bytes, bound %d", codec, len(b), bld.SizeUpperBound())
			}
			if b.MaxTimestamp() != maxTS || b.BaseTimestamp() != recs[0].ts || b.LastSequence() != AddSequence(2147483647, int32(len(recs)-1)) || b.LeaderEpoch() != -1 {
				t.Errorf("header: max %d base %d last sequence %d", b.MaxTimestamp(), b.BaseTimestamp(), b.LastSequence())
			}
			b.SetBaseOffset(1 << 40)
			b.SetLeaderEpoch(9)
			if err := b.Validate(); err != nil {
				t.Errorf("after setting offset and epoch: %v", err)
			}
			if err := it.Reset(b, 0); err != nil {
				t.Fatalf("%s level %d: %v", codec, level, err)
			}
			i := 0
			for ; it.Next(); i++ {
				p, g := recs[i], it.Record()
				if it.Offset() != 1<<40+int64(i) || it.Timestamp() != p.ts || !same(g.Key, p.key) || !same(g.Value, p.value) || len(g.Headers) != len(p.headers) {
					t.Fatalf("record %d differs", i)
				}
				for k, h := range g.Headers {
					if h.Key != p.headers[k].Key || !same(h.Value, p.headers[k].Value) {
						t.Fatalf("record %d header %d differs", i, k)
					}
				}
			}
			checkWalk(t, b, it.Plain(), int32(len(recs)))
			if it.Err() != nil || i != len(recs) {
				t.Fatalf("%d of %d records: %v", i, len(recs), it.Err())
			}
			b.SetLogAppendTime(42)
			if it.Reset(b, 0) != nil || !it.Next() || it.Timestamp() != 42 || b.Validate() != nil {
				t.Errorf("log append time: %d, %v", it.Timestamp(), b.Validate())
			}
			it.Close()
		}
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	bld := NewBuilder(LZ4, 9)
	bld.Append(1, []byte("k"), []byte("value"), nil)
	out, err := bld.Finish(NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(out) * 8 {
		if at := i / 8; at < 8 || at >= 12 && at < 16 {
			continue // base offset and leader epoch are outside the CRC
		}
		bad := bytes.Clone(out)
		bad[i/8] ^= 1 << (i % 8)
		if Batch(bad).Validate() == nil {
			t.Errorf("bit %d flipped: valid", i)
		}
	}
}

func TestNextRefusesWhatIsNoBatch(t *testing.T) {
	whole := buildBatch(t, None, 1, 10)
	length := func(n int32) []byte {
		b := bytes.Clone(whole)
		binary.BigEndian.PutUint32(b[8:], uint32(n))
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"part of the overhead", whole[:11], ErrShort},
		{"overhead only", whole[:12], ErrShort},
		{"one byte short", whole[:len(whole)-1], ErrShort},
		{"negative length", length(-1), ErrCorrupt},
		{"length below a header", length(48), ErrCorrupt},
		{"huge length", length(1<<31 - 1), ErrShort},
		{"magic 3", func() []byte { b := bytes.Clone(whole); b[16] = 3; return b }(), ErrCorrupt},
		{"magic 1", func() []byte { b := bytes.Clone(whole); b[16] = 1; return b }(), ErrMagic},
	} {
		if _, _, err := Next(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func buildBatch(t testing.TB, codec Codec, records, size int) Batch {
	bld := NewBuilder(codec, codec.DefaultLevel())
	r := rand.New(rand.NewPCG(1, 2))
	v := make([]byte, size)
	for i := range records {
		for k := range v {
			v[k] = byte(r.IntN(16))
		}
		bld.Append(1700000000000+int64(i), nil, v, nil)
	}
	out, err := bld.Finish(NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWalkFindsWhatAClientCouldTell(t *testing.T) {
	bld := NewBuilder(None, 0)
	bld.Append(1000, []byte("k"), nil, nil)
	bld.Append(1500, nil, []byte("v"), []Header{{"h", nil}})
	bld.Append(900, nil, nil, nil)
	bld.Append(1500, []byte{}, nil, nil)
	out, err := bld.Finish(NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	w := Walk{KeepNullKeys: true, Bounded: true, MinDelta: -50, MaxDelta: 499}
	if err := w.Run(Batch(out).Records(), 4); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(w.Sequential, w.Largest, w.LargestIndex, w.NullKeys, w.OutOfRange)
	if want := "true 500 1 [1 2] [1 2 3]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, n := range []int32{0, 3, 5} {
		if err := w.Run(Batch(out).Records(), n); !errors.Is(err, ErrCorrupt) {
			t.Errorf("count %d: %v, want ErrCorrupt", n, err)
		}
	}
	recs := Batch(out).Records()
	for i := range recs {
		if err := w.Run(recs[:i], 4); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v, want ErrCorrupt", i, err)
		}
	}
}

// A bomb of each codec is refused, and costs memory in proportion to the limit.
func TestBombsAreRefused(t *testing.T) {
	plain := make([]byte, 64<<20)
	for _, codec := range codecs[1:] {
		bomb, err := Compress(nil, codec, codec.DefaultLevel(), plain)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = Decompress(nil, codec, bomb, 1<<20)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want ErrTooLarge", codec, err)
		}
		if got, most := after.TotalAlloc-before.TotalAlloc, uint64(8<<20+3*len(bomb)); got > most {
			t.Errorf("%s: %d bytes allocated, want at most %d", codec, got, most)
		}
	}
	// A claim of 4 GiB by eight bytes.
	if _, err := Decompress(nil, Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0}, 1<<30); err == nil {
		t.Error("snappy claim of 4 GiB accepted")
	}
	claim := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0x3f, 1, 0, 0}
	if n := testing.AllocsPerRun(5, func() {
		if out, err := Decompress(nil, Zstd, claim, 1<<31); err == nil || cap(out) > 1<<20 {
			t.Fatalf("zstd claim of 1 GiB: %v, %d bytes", err, cap(out))
		}
	}); n > 20 {
		t.Errorf("%v allocations", n)
	}
}

// A codec used first inside a synctest bubble must work outside, and the other
// way round: nothing that is pooled may belong to a bubble.
func TestCodecsCrossBubbles(t *testing.T) {
	plain := bytes.Repeat([]byte("klamm "), 5000)
	round := func(t *testing.T) {
		for _, codec := range codecs {
			c, err := Compress(nil, codec, codec.DefaultLevel(), plain)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := Decompress(nil, codec, c, 0); err != nil || !bytes.Equal(out, plain) {
				t.Fatalf("%s: %d bytes, %v", codec, len(out), err)
			}
		}
	}
	synctest.Test(t, round)
	round(t)
	synctest.Test(t, round)
}

func TestCompressEmptyAndIncompressible(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 15, 32 << 10, 64 << 10, 64<<10 + 1, 300_000} {
		noise := make([]byte, n)
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		for _, codec := range codecs {
			c, err := Compress([]byte("x"), codec, codec.DefaultLevel(), noise)
			if err != nil {
				t.Fatal(err)
			}
			if len(c)-1 > maxCompressed(codec, n) {
				t.Errorf("%s of %d bytes: %d, bound %d", codec, n, len(c)-1, maxCompressed(codec, n))
			}
			if codec == None && n == 0 {
				continue
			}
			out, err := Decompress(nil, codec, c[1:], max(n, 1))
			if err != nil || !bytes.Equal(out, noise) {
				t.Errorf("%s of %d bytes: %d back, %v", codec, n, len(out), err)
			}
		}
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	for _, codec := range []Codec{None, Snappy, LZ4} {
		b := buildBatch(t, codec, 1000, 100)
		var it Iterator
		if n := testing.AllocsPerRun(20, func() {
			it.Reset(b, 0)
			for it.Next() {
			}
			it.Close()
		}); n > 3 {
			t.Errorf("%s: %v allocations to iterate over 1000 records", codec, n)
		}
	}
	bld := NewBuilder(None, 0)
	v := make([]byte, 100)
	build := func() {
		bld.Reset()
		for i := range 1000 {
			bld.Append(int64(i), v[:8], v, nil)
		}
		if _, err := bld.Finish(NoProducer); err != nil {
			t.Fatal(err)
		}
	}
	build()
	if n := testing.AllocsPerRun(20, build); n > 0 {
		t.Errorf("%v allocations to build a batch of 1000 records again", n)
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			bld := NewBuilder(codec, codec.DefaultLevel())
			v := bytes.Repeat([]byte("0123456789"), 10)
			b.ReportAllocs()
			for b.Loop() {
				bld.Reset()
				for range 9000 {
					bld.Append(1700000000000, nil, v, nil)
				}
				if _, err := bld.Finish(NoProducer); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(bld.Size()))
		})
	}
}

func BenchmarkIterate(b *testing.B) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			batch := buildBatch(b, codec, 9000, 100)
			var it Iterator
			b.SetBytes(9000 * 108)
			b.ReportAllocs()
			for b.Loop() {
				it.Reset(batch, 0)
				for it.Next() {
				}
				if it.Err() != nil {
					b.Fatal(it.Err())
				}
				it.Close()
			}
		})
	}
}

func BenchmarkWalk(b *testing.B) {
	for _, size := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			batch := buildBatch(b, None, 900_000/size, size)
			var w Walk
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Run(batch.Records(), batch.Count()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	batch := buildBatch(b, None, 9000, 100)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := batch.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

// Many small blocks can claim to hold 128 KiB each, and a frame any size: memory
// is taken for what they really hold.
func TestZstdClaimsCostLittle(t *testing.T) {
	const blocks = 400
	text := bytes.Repeat([]byte("abcdefghijklmnop"), 20)
	var small bytes.Buffer
	z, err := zstd.NewWriter(&small, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for range blocks {
		z.Write(text)
		z.Flush()
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	honest := small.Bytes()
	if f, _, ok := zstdNext(honest); !ok || f.bound < blocks*zstdMaxBlock/2 {
		t.Fatalf("the blocks claim %d bytes only", f.bound)
	}
	// The same frame with a size of 100 MB: a flag, and four bytes behind the window.
	lying := bytes.Clone(honest[:6])
	lying[4] |= 0x80
	lying = binary.LittleEndian.AppendUint32(lying, 100_000_000)
	lying = append(lying, honest[6:]...)
	telling := bytes.Clone(honest[:6])
	telling[4] |= 0x80
	telling = binary.LittleEndian.AppendUint32(telling, uint32(blocks*len(text)))
	telling = append(telling, honest[6:]...)
	for _, c := range []struct {
		name string
		src  []byte
		ok   bool
	}{{"no size", honest, true}, {"its size", telling, true}, {"a size that is not so", lying, false}} {
		var out []byte
		var err error
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err = Decompress(nil, Zstd, c.src, 0)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
			t.Errorf("%s: %d bytes allocated for %d", c.name, got, len(c.src))
		}
		if c.ok && (err != nil || !bytes.Equal(out, bytes.Repeat(text, blocks))) || !c.ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %d bytes, %v", c.name, len(out), err)
		}
	}
}
