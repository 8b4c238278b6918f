package compact

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
)

const (
	// MinBudget is the least number of bytes that a [Map] works with: any one
	// key, and some hundred short ones, fit.
	MinBudget = 16 << 10

	maxPlainKey = 64   // longer keys are kept as their SHA-256
	digestTag   = 0xff // instead of a length, before a SHA-256

	entryHeader = 9   // offset and length or tag, before the key
	minSlots    = 64  // of the first table
	slack       = 128 // slots after the last home
	maxChunk    = 256 << 10
	chunkHeader = 24 // bytes of a slice
)

// Map remembers the last offset of each key within a budget of bytes
// (log.cleaner.dedupe.buffer.size / log.cleaner.threads). Unlike Kafka's
// SkimpyOffsetMap, which trusts a digest of the key, it keeps the keys, so that
// two keys are never taken for one; keys of more than 64 bytes are kept as their
// SHA-256. It is owned by one goroutine.
//
// A table of slots, 8 bytes each, leads to entries in an arena:
//
//	slot:   high half of the key's hash (32 bits), place of the entry (32)
//	entry:  int64 offset, uint8 length (255: a digest), key or its digest
//
// Slots are sorted by hash: an entry is at the home of its hash, or after it
// where smaller hashes took that. So a search ends at the first larger hash even
// in a full table, the arena is touched for the entry that is found (and one in
// thousands with an equal half hash), and a larger table is filled in one
// sequential pass. The slots after the last home are for what is pushed there,
// and the last stays empty. The arena consists of chunks, which never move.
//
// Invariant: Bytes() <= the budget, and the old table is counted while a new one
// is filled.
type Map struct {
	budget int
	hash   func([]byte) uint64

	table []uint64 // sorted by hash; 0 is empty
	homes uint64   // len(table) - slack
	len   int
	limit int // number of keys at which the table should grow

	chunks    [][]byte
	chunkBits int
	chunk     int // index of the chunk that is being filled
	used      int // bytes in it
	arena     int // bytes of all entries

	superseded marks

	digest [sha256.Size]byte
	warmed uint64 // keeps the loads of warm
}

// NewMap returns an empty map that holds at most budget bytes; fewer than
// MinBudget count as MinBudget. Its arena does not exceed 4 GiB.
func NewMap(budget int) *Map {
	budget = max(budget, MinBudget)
	chunk := min(1<<(bits.Len(uint(budget/16))-1), maxChunk)
	seed := maphash.MakeSeed()
	m := &Map{
		budget:    budget,
		hash:      func(key []byte) uint64 { return maphash.Bytes(seed, key) },
		chunkBits: bits.Len(uint(chunk)) - 1,
		chunks:    make([][]byte, 0, min(budget/chunk, 1<<32/chunk)),
	}
	m.chunks = append(m.chunks, make([]byte, chunk))
	m.Clear()
	return m
}

// Clear removes all keys and keeps most of the memory for the next.
func (m *Map) Clear() {
	if m.table == nil || 8*len(m.table) > m.budget/4 { // the next keys may be longer
		m.setTable(make([]uint64, minSlots+slack))
	}
	clear(m.table)
	m.superseded = marks{}
	m.len, m.arena = 0, 0
	m.chunk, m.used = 0, 8 // no entry is at 0
	m.limit = int(m.homes * 4 / 5)
}

func (m *Map) setTable(t []uint64) {
	m.table, m.homes = t, uint64(len(t)-slack)
}

// Len returns the number of keys.
func (m *Map) Len() int { return m.len }

// Bytes returns the number of bytes held, in use or not.
func (m *Map) Bytes() int {
	return 8*len(m.table) + len(m.chunks)<<m.chunkBits + chunkHeader*cap(m.chunks) + m.superseded.bytes()
}

// Get returns the offset last put for key.
func (m *Map) Get(key []byte) (offset int64, ok bool) { return m.get(m.hashOf(key), key) }

// Put makes offset the offset of key. It is false, and nothing changes, if key is
// new and there is no room for it.
func (m *Map) Put(key []byte, offset int64) bool {
	_, ok := m.put(m.hashOf(key), key, offset)
	return ok
}

// begin has the offsets of keys that are entered from now on remembered as
// superseded once there is a later one, from start on.
func (m *Map) begin(start int64) { m.superseded = marks{start: start, end: start} }

// enter is put for a key whose half hash is h, of a record of the dirty part of a
// log.
func (m *Map) enter(h uint64, key []byte, offset int64) bool {
	m.superseded.reach(offset, m.budget-m.Bytes())
	before, ok := m.put(h, key, offset)
	if ok && before >= 0 {
		m.superseded.mark(before)
	}
	return ok
}

// hashOf returns the half hash of key that slots have.
func (m *Map) hashOf(key []byte) uint64 {
	_, key = m.kept(key)
	return m.hash(key) >> 32
}

// get is Get for a key whose half hash is h.
func (m *Map) get(h uint64, key []byte) (offset int64, ok bool) {
	tag, key := m.kept(key)
	if _, e := m.find(h, tag, key); e != nil {
		return int64(binary.LittleEndian.Uint64(e)), true
	}
	return 0, false
}

// put is Put for a key whose half hash is h. before is the offset that key had, -1
// for none.
func (m *Map) put(h uint64, key []byte, offset int64) (before int64, ok bool) {
	tag, key := m.kept(key)
	i, e := m.find(h, tag, key)
	if e != nil {
		before = int64(binary.LittleEndian.Uint64(e))
		binary.LittleEndian.PutUint64(e, uint64(offset))
		return before, true
	}
	end := m.free(i)
	if m.len >= m.limit || end < 0 {
		if !m.grow() {
			return -1, false
		}
		i, _ = m.find(h, tag, key)
		if end = m.free(i); end < 0 {
			return -1, false
		}
	}
	place, e := m.alloc(entryHeader + len(key))
	if e == nil {
		return -1, false
	}
	binary.LittleEndian.PutUint64(e, uint64(offset))
	e[8] = tag
	copy(e[entryHeader:], key)
	copy(m.table[i+1:end+1], m.table[i:end])
	m.table[i] = h<<32 | uint64(place)
	m.len++
	return -1, true
}

// kept returns what the arena keeps of key, and the byte before it.
func (m *Map) kept(key []byte) (tag byte, k []byte) {
	if len(key) <= maxPlainKey {
		return byte(len(key)), key
	}
	m.digest = sha256.Sum256(key)
	return digestTag, m.digest[:]
}

// find returns the entry of a key whose half hash is h, or nil and the slot where
// it belongs.
func (m *Map) find(h uint64, tag byte, key []byte) (i int, entry []byte) {
	for i = m.seek(h); ; i++ {
		s := m.table[i]
		if s == 0 || s>>32 != h {
			return i, nil
		}
		e := m.entry(s)
		if e[8] == tag && string(e[entryHeader:entryHeader+len(key)]) == string(key) {
			return i, e
		}
	}
}

// seek returns the first slot whose half hash is not below h, or an empty one.
func (m *Map) seek(h uint64) int {
	i := int(h * m.homes >> 32)
	for least := h << 32; ; i++ {
		if s := m.table[i]; s >= least || s == 0 {
			return i
		}
	}
}

// entry returns the arena from the entry of slot s on.
func (m *Map) entry(s uint64) []byte {
	return m.chunks[uint32(s)>>m.chunkBits][uint32(s)&(1<<m.chunkBits-1):]
}

// warm brings into the cache what get and put will ask for. Their cache misses
// come one after the other; here a processor waits for several at once.
func (m *Map) warm(hashes []uint64) {
	var sum uint64
	for _, h := range hashes {
		sum += m.table[h*m.homes>>32]
	}
	for _, h := range hashes {
		if s := m.table[m.seek(h)]; s>>32 == h && s != 0 {
			sum += uint64(m.entry(s)[8])
		}
	}
	m.warmed += sum
}

// free returns the first empty slot from i on, or -1: the last stays empty.
func (m *Map) free(i int) int {
	for ; m.table[i] != 0; i++ {
	}
	if i == len(m.table)-1 {
		return -1
	}
	return i
}

// alloc returns room for an entry of n bytes and its place, or nil.
func (m *Map) alloc(n int) (place uint32, entry []byte) {
	size := 1 << m.chunkBits
	if m.used+n > size {
		if m.chunk+1 == len(m.chunks) {
			if len(m.chunks) == cap(m.chunks) || m.Bytes()+size > m.budget {
				return 0, nil
			}
			m.chunks = append(m.chunks, make([]byte, size))
		}
		m.chunk, m.used = m.chunk+1, 0
	}
	at := m.used
	m.used += n
	m.arena += n
	return uint32(m.chunk<<m.chunkBits | at), m.chunks[m.chunk][at : at+n]
}

// grow makes the table twice as large, or as large as the budget allows and
// entries of the present average can use. If that is not worth it, the table may
// fill up further (log.cleaner.io.buffer.load.factor, 0.9). It reports whether
// there is room now.
func (m *Map) grow() bool {
	if homes := m.nextHomes(); homes >= m.homes+m.homes/16 {
		if t := m.resized(homes); t != nil {
			m.setTable(t)
			m.limit = int(m.homes * 4 / 5)
			return true
		}
	}
	m.limit = int(m.homes * 9 / 10)
	return m.len < m.limit
}

// nextHomes returns the size of the next table.
func (m *Map) nextHomes() uint64 {
	perKey := 8 + float64(m.arena)/float64(max(m.len, 1))*0.9
	useful := int(float64(m.budget) / perKey)
	inUse := 8*len(m.table) + (m.chunk+1)<<m.chunkBits + chunkHeader*cap(m.chunks) + m.superseded.bytes()
	fits := (m.budget-inUse)/8 - slack
	return uint64(max(0, min(2*int(m.homes), useful, fits)))
}

// resized returns a table of that size with the same slots, or nil if they do not
// fit, which takes a bad hash. It gives back chunks that are not in use where the
// budget wants it.
func (m *Map) resized(homes uint64) []uint64 {
	size := int(homes) + slack
	for len(m.chunks) > m.chunk+1 && m.Bytes()+8*size > m.budget {
		m.chunks[len(m.chunks)-1] = nil
		m.chunks = m.chunks[:len(m.chunks)-1]
	}
	t := make([]uint64, size)
	next := 0
	for _, s := range m.table {
		if s == 0 {
			continue
		}
		next = max(next, int(s>>32*homes>>32))
		if next >= len(t)-1 {
			return nil
		}
		t[next] = s
		next++
	}
	return t
}
