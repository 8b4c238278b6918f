package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The bytes are those that the Java classes wrote.
func TestGolden(t *testing.T) {
	m := vfs.NewMem()
	o, err := OpenOffset(m, "i", 1000, 1<<20)
	check(t, err)
	check(t, o.Append(1005, 4660))
	check(t, o.Append(1020, 131072))
	check(t, o.Close())
	x, err := OpenTime(m, "t", 1000)
	check(t, err)
	check(t, x.Append(TimeEntry{1700000000000, 1005}))
	check(t, x.Append(TimeEntry{1700000000050, 1020}))
	check(t, x.Append(TimeEntry{1700000000050, 1030})) // not larger
	check(t, x.Close())
	txn := AppendTxn(nil, AbortedTxn{4001, 1001, 1009, 1003})
	txn = AppendTxn(txn, AbortedTxn{4002, 1003, 1015, 1016})
	check(t, vfs.WriteFileAtomic(m, "x", txn))
	for name, want := range map[string]string{
		"i": "00000005000012340000001400020000",
		"t": "0000018bcfe56800000000050000018bcfe5683200000014",
		"x": "00000000000000000fa100000000000003e900000000000003f100000000000003eb00000000000000000fa200000000000003eb00000000000003f700000000000003f8",
	} {
		b, err := vfs.ReadFile(m, name)
		check(t, err)
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
	got, err := ParseTxns(txn)
	if err != nil || !slices.Equal(got, []AbortedTxn{{4001, 1001, 1009, 1003}, {4002, 1003, 1015, 1016}}) {
		t.Errorf("transactions %+v, %v", got, err)
	}
}

// Both indexes against slices, over random operations.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	m := vfs.NewMem()
	const base = 1 << 40
	o, err := OpenOffset(m, "i", base, 1<<30)
	check(t, err)
	x, err := OpenTime(m, "t", base)
	check(t, err)
	var offsets []OffsetEntry
	var times []TimeEntry
	// Timestamps are above 0: an index that ends with 0 is taken for unwritten
	// space when it is opened, and made anew.
	const firstTime = 2
	next, pos, ts := int64(base), int64(0), int64(firstTime)
	for step := range 40_000 {
		switch r.IntN(400) {
		case 0:
			check(t, o.Close())
			check(t, x.Close())
			o, err = OpenOffset(m, "i", base, 1<<30)
			check(t, err)
			x, err = OpenTime(m, "t", base)
			check(t, err)
		case 1:
			cut := base + r.Int64N(next-base+2)
			if r.IntN(3) > 0 {
				cut = max(base, next-r.Int64N(3000))
			}
			check(t, o.Truncate(cut))
			check(t, x.Truncate(cut))
			offsets = offsets[:sort.Search(len(offsets), func(i int) bool { return offsets[i].Offset >= cut })]
			times = times[:sort.Search(len(times), func(i int) bool { return times[i].Offset >= cut })]
			if next = cut; len(times) == 0 {
				ts = firstTime
			} else {
				ts = times[len(times)-1].Timestamp
			}
		case 2:
			check(t, o.Flush())
			check(t, x.Write())
		default:
			next += 1 + r.Int64N(20)
			pos += 1 + r.Int64N(100)
			check(t, o.Append(next, pos))
			offsets = append(offsets, OffsetEntry{next, pos})
			e := TimeEntry{ts + r.Int64N(5) - 1, next}
			check(t, x.Append(e))
			check(t, errors.Join(o.Spill(), x.Spill()))
			if len(times) == 0 && e.Timestamp >= 0 || len(times) > 0 && e.Timestamp > times[len(times)-1].Timestamp {
				times, ts = append(times, e), e.Timestamp
			}
		}
		if o.Len() != len(offsets) || x.Len() != len(times) {
			t.Fatalf("step %d: %d and %d entries, want %d and %d", step, o.Len(), x.Len(), len(offsets), len(times))
		}
		if step%997 == 0 {
			check(t, o.Check())
			check(t, x.Check())
		}
		if step%7 != 0 {
			continue
		}
		want, at := OffsetEntry{base, 0}, base+r.Int64N(next-base+10)
		if i := sort.Search(len(offsets), func(i int) bool { return offsets[i].Offset > at }); i > 0 {
			want = offsets[i-1]
		}
		if got, err := o.Lookup(at); got != want || err != nil {
			t.Fatalf("step %d: offset %d: got %+v, want %+v, %v", step, at, got, want, err)
		}
		wantT, when := TimeEntry{-1, base}, r.Int64N(ts+10)
		if i := sort.Search(len(times), func(i int) bool { return times[i].Timestamp > when }); i > 0 {
			wantT = times[i-1]
		}
		if got, err := x.Lookup(when); got != wantT || err != nil {
			t.Fatalf("step %d: time %d: got %+v, want %+v, %v", step, when, got, wantT, err)
		}
	}
}

func TestRefusesWhatIsNoIndex(t *testing.T) {
	for _, c := range []struct {
		name, hex string
	}{
		{"size is no multiple", "000000050000123400"},
		{"position beyond the data", "0000000500100000"},
		{"negative position", "00000005ffffffff"},
		{"negative offset", "ffffffff00000001"},
		{"zeros after entries", "00000005000000100000000000000000"},
	} {
		m := vfs.NewMem()
		b, _ := hex.DecodeString(c.hex)
		check(t, vfs.WriteFileAtomic(m, "i", b))
		_, err := OpenOffset(m, "i", 1000, 1<<20)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", c.name, err)
		}
	}
	m := vfs.NewMem()
	middle, _ := hex.DecodeString("000000050000001000000003000000200000000900000030")
	check(t, vfs.WriteFileAtomic(m, "i", middle))
	o, err := OpenOffset(m, "i", 1000, 1<<20)
	check(t, err)
	if err := o.Check(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("falling entry in the middle: %v, want ErrCorrupt", err)
	}
	check(t, vfs.WriteFileAtomic(m, "t", bytes.Repeat([]byte{0xff}, 24)))
	if _, err := OpenTime(m, "t", 5); !errors.Is(err, ErrCorrupt) {
		t.Errorf("time index of ones: %v", err)
	}
	x, err := OpenOffset(m, "new", 10, 100)
	check(t, err)
	check(t, x.Append(10, 0))
	for _, e := range []OffsetEntry{{10, 5}, {9, 5}, {10 + 1<<31, 5}, {11, 1 << 31}} {
		if err := x.Append(e.Offset, e.Position); !errors.Is(err, ErrCorrupt) {
			t.Errorf("append %+v: %v, want ErrCorrupt", e, err)
		}
	}
}

// Readers search while entries are appended and blocks of them written, whose
// memory is used again: each finds what was there when it began.
func TestReadersBesideTheWriter(t *testing.T) {
	const n = 20_000
	x, err := OpenOffset(vfs.NewMem(), "i", 0, 1<<40)
	check(t, err)
	var written atomic.Int64
	var readers sync.WaitGroup
	for seed := range uint64(3) {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for below := int64(0); below < n; below = written.Load() {
				if below == 0 {
					continue
				}
				at := r.Int64N(below)
				if e, err := x.Lookup(at); err != nil || e.Offset != at || e.Position != 3*at {
					t.Errorf("offset %d of %d: %+v, %v", at, below, e, err)
					return
				}
			}
		})
	}
	for i := range int64(n) {
		check(t, x.Append(i, 3*i))
		check(t, x.Spill())
		written.Store(i + 1)
	}
	readers.Wait()
}

func FuzzTxns(f *testing.F) {
	f.Add(AppendTxn(nil, AbortedTxn{1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseTxns(b)
		if err != nil {
			return
		}
		var out []byte
		for _, a := range list {
			out = AppendTxn(out, a)
		}
		if !bytes.Equal(out, b) {
			t.Errorf("%x became %x", b, out)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{100, 10_000, 250_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, err := OpenOffset(vfs.OS(), b.TempDir()+"/i", 0, 1<<31)
			check(b, err)
			for i := range int64(n) {
				check(b, x.Append(i*10, i*4096))
				check(b, x.Spill())
			}
			r := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Lookup(r.Int64N(int64(n) * 10)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Arbitrary bytes as index files: they are refused, or searched without harm.
func FuzzIndexes(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0x12, 0x34}, []byte{0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 5}, int64(1005))
	f.Add(make([]byte, 16), make([]byte, 24), int64(0))
	f.Fuzz(func(t *testing.T, offsets, times []byte, at int64) {
		m := vfs.NewMem()
		check(t, vfs.WriteFileAtomic(m, "i", offsets))
		check(t, vfs.WriteFileAtomic(m, "t", times))
		if x, err := OpenOffset(m, "i", 1000, 1<<20); err == nil {
			x.Check()
			if e, err := x.Lookup(at); err != nil || e.Position < 0 && x.Check() == nil {
				t.Errorf("%+v, %v", e, err)
			}
			check(t, x.Truncate(at))
			check(t, x.Close())
		}
		if x, err := OpenTime(m, "t", 1000); err == nil {
			x.Check()
			if _, err := x.Lookup(at); err != nil {
				t.Error(err)
			}
			check(t, x.Truncate(at))
			check(t, x.Close())
		}
	})
}
