package compact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
)

func randomKey(r *rand.Rand) []byte {
	n := r.IntN(40)
	switch r.IntN(12) {
	case 0:
		n = 0
	case 1:
		n = 63 + r.IntN(4)
	case 2:
		n = 1000 + r.IntN(3)
	}
	key := make([]byte, n)
	for i := range key {
		key[i] = byte(r.IntN(3))
	}
	if n >= 8 {
		binary.BigEndian.PutUint16(key, uint16(r.IntN(2000)))
	}
	return key
}

func TestMapIsAMap(t *testing.T) {
	for _, c := range []struct {
		name   string
		hash   func([]byte) uint64 // nil: the map's own
		budget int
		keys   int
	}{
		{"with room", nil, 4 << 20, 30000},
		{"too small", nil, 100 << 10, 10000},
		{"least budget", nil, MinBudget, 3000},
		{"all keys collide", func([]byte) uint64 { return 5 << 60 }, 1 << 20, 800},
		{"all hashes are zero", func([]byte) uint64 { return 0 }, 1 << 20, 800},
		{"all hashes are the largest", func([]byte) uint64 { return 1<<64 - 1 }, 1 << 20, 800},
		{"few hashes", func(k []byte) uint64 { h := fnv.New64a(); h.Write(k); return h.Sum64() % 50 << 58 }, 1 << 20, 3000},
		{"a digest has the hash of its bytes", func(k []byte) uint64 { return uint64(len(k)) << 40 }, 1 << 20, 800},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMap(c.budget)
			if c.hash != nil {
				m.hash = c.hash
			}
			for seed := range uint64(2) { // the second time after Clear
				model(t, m, rand.New(rand.NewPCG(seed, 1)), c.keys)
				m.Clear()
			}
		})
	}
}

func model(t *testing.T, m *Map, r *rand.Rand, n int) {
	want := make(map[string]int64)
	full := 0
	for i := range n {
		key := randomKey(r)
		_, known := want[string(key)]
		switch ok := m.Put(key, int64(i)); {
		case ok:
			want[string(key)] = int64(i)
		case known:
			t.Fatalf("known key of %d bytes refused", len(key))
		case m.Len() == 0:
			t.Fatalf("an empty map refuses a key of %d bytes", len(key))
		default:
			full++
		}
		if m.Bytes() > m.budget {
			t.Fatalf("%d keys take %d bytes, budget %d", m.Len(), m.Bytes(), m.budget)
		}
		other := randomKey(r)
		got, ok := m.Get(other)
		if w, wantOK := want[string(other)]; got != w || ok != wantOK {
			t.Fatalf("Get(%x) = %d, %v, want %d, %v", other, got, ok, w, wantOK)
		}
	}
	if m.Len() != len(want) {
		t.Fatalf("Len() = %d, want %d", m.Len(), len(want))
	}
	for key, w := range want {
		if got, ok := m.Get([]byte(key)); !ok || got != w {
			t.Fatalf("Get(%x) = %d, %v, want %d", key, got, ok, w)
		}
	}
	t.Logf("%d keys, %d refused, %d bytes", m.Len(), full, m.Bytes())
}

func TestMapTellsAShortKeyFromADigest(t *testing.T) {
	m := NewMap(MinBudget)
	m.hash = func([]byte) uint64 { return 1 << 40 }
	long := bytes.Repeat([]byte("k"), 65)
	m.Put(long, 7)
	digest := bytes.Clone(m.digest[:])
	if _, ok := m.Get(digest); ok {
		t.Error("a key that is the digest of another is that key")
	}
	m.Put(digest, 8)
	if got, _ := m.Get(long); got != 7 {
		t.Errorf("offset %d, want 7", got)
	}
}

// A full map has used most of its budget, whatever the length of the keys.
func TestMapUsesItsBudget(t *testing.T) {
	for _, c := range []struct {
		budget, key int
	}{{MinBudget, 0}, {MinBudget, 20}, {MinBudget, 1 << 20}, {1 << 20, 4}, {1 << 20, 20}, {8 << 20, 8}, {8 << 20, 22}, {8 << 20, 64}, {8 << 20, 100}} {
		m := NewMap(c.budget)
		key := make([]byte, max(c.key, 8))[:c.key]
		n := 0
		for ; len(key) >= 4; n++ {
			binary.BigEndian.PutUint32(key, uint32(n))
			if !m.Put(key, int64(n)) {
				break
			}
		}
		if c.key == 0 && m.Put(key, 1) {
			n = 1
		}
		if m.Bytes() > c.budget {
			t.Errorf("budget %d: %d bytes", c.budget, m.Bytes())
		}
		entry := entryHeader + min(c.key, maxPlainKey)
		if c.key > maxPlainKey {
			entry = entryHeader + 32
		}
		best := float64(c.budget) / (float64(entry) + 8/0.9)
		t.Logf("budget %d, keys of %d bytes: %d of %.0f keys (%.2f), %d of %d slots", c.budget, c.key, n, best, float64(n)/best, n, m.homes)
		if n == 0 || c.key > 0 && float64(n) < 0.75*best {
			t.Errorf("budget %d, keys of %d bytes: %d keys, at best %.0f", c.budget, c.key, n, best)
		}
	}
}

func TestMapDoesNotAllocate(t *testing.T) {
	m := NewMap(8 << 20)
	keys := manyKeys(20000, 1)
	for i, k := range keys {
		m.Put(k, int64(i))
	}
	m.Clear()
	held := m.Bytes()
	if n := testing.AllocsPerRun(1, func() {
		for i, k := range keys {
			m.Put(k, int64(i))
			m.Get(k)
		}
		m.Clear()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if m.Bytes() != held {
		t.Errorf("%d bytes held, %d before", m.Bytes(), held)
	}
}

// manyKeys returns n keys of 16 to 23 bytes that follow each other in memory, as
// those of a batch do, in an order that depends on seed.
func manyKeys(n int, seed uint64) [][]byte {
	r := rand.New(rand.NewPCG(seed, 2))
	arena := make([]byte, 0, 24*n)
	keys := make([][]byte, n)
	for i, id := range r.Perm(n) {
		at := len(arena)
		arena = fmt.Appendf(arena, "user-%011d", uint64(id)*2654435761%1e11)
		arena = append(arena, "-suffix"[:id%8]...)
		keys[i] = arena[at:len(arena):len(arena)]
	}
	return keys
}

func BenchmarkMap(b *testing.B) {
	const n = 1_000_000
	keys, others := manyKeys(n, 1), manyKeys(n, 2)
	m := NewMap(64 << 20)
	run := func(name string, prepare func(), op func(key []byte, i int) bool) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			prepare()
			i := 0
			for b.Loop() {
				if i == n {
					b.StopTimer()
					prepare()
					i = 0
					b.StartTimer()
				}
				if !op(keys[i], i) {
					b.Fatal(m.Len())
				}
				i++
			}
			b.ReportMetric(float64(m.Bytes())/float64(max(m.Len(), 1)), "bytes/key")
		})
	}
	put := func(key []byte, i int) bool { return m.Put(key, int64(i)) }
	run("put new, growing", func() { m = NewMap(64 << 20) }, put)
	run("put new", m.Clear, put)
	for i, k := range keys {
		m.Put(k, int64(i))
	}
	keys = others
	run("put known", func() {}, put)
	run("get", func() {}, func(key []byte, i int) bool { _, ok := m.Get(key); return ok })
	for i := range keys {
		keys[i][0] = 'v'
	}
	run("get unknown", func() {}, func(key []byte, i int) bool { _, ok := m.Get(key); return !ok })
}
