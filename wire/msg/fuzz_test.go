package msg_test

import (
	"bytes"
	"runtime"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/wire/msg"
)

// FuzzMessages decodes arbitrary bytes as every message in every version. It
// may fail but never panic, what it allocates is in proportion to its input, and
// what it decoded encodes to bytes that decode to the same again.
func FuzzMessages(f *testing.F) {
	names := messageNames(f)
	for i, v := range vectors(f) {
		// One in four keeps the run through the seeds short; the golden test goes
		// through all of them.
		if i%4 == 0 {
			f.Add(uint16(slices.Index(names, v.Name)), v.Version, v.bytes())
		}
	}
	f.Fuzz(func(t *testing.T, which uint16, version int16, in []byte) {
		name := names[int(which)%len(names)]
		low, high := msg.NewByName(name).Versions()
		version = low + int16(uint16(version)%uint16(high-low+1))
		m := msg.NewByName(name)
		allocated, err := allocatedBy(func() error { return m.Decode(in, version) })
		if most := allocationLimit(len(in)); allocated > most {
			// Another goroutine may have allocated meanwhile: look again.
			m = msg.NewByName(name)
			allocated, err = allocatedBy(func() error { return m.Decode(in, version) })
			if allocated > most {
				t.Fatalf("%s v%d: %d bytes of input allocate %d, at most %d", name, version, len(in), allocated, most)
			}
		}
		if err != nil {
			return
		}
		first, err := m.AppendTo(nil, version)
		if err != nil {
			t.Fatalf("%s v%d: decoded, but does not encode: %v\n%x", name, version, err, in)
		}
		if n := m.Size(version); n != len(first) {
			t.Fatalf("%s v%d: size %d of %d bytes", name, version, n, len(first))
		}
		again := msg.NewByName(name)
		if err := again.Decode(first, version); err != nil {
			t.Fatalf("%s v%d: does not decode again: %v\n%x", name, version, err, first)
		}
		second, err := again.AppendTo(nil, version)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s v%d: %v\n%x encodes again to\n%x", name, version, err, first, second)
		}
	})
}

// messageNames lists every message that there is, in a fixed order.
func messageNames(t testing.TB) []string {
	t.Helper()
	var out []string
	for name := range schemas(t) {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// allocationLimit is what decoding n bytes may allocate: eight times the input
// and 64 KiB for the values, and as much as memory classes round up.
func allocationLimit(n int) uint64 { return uint64(9*n + 72<<10) }

// allocatedBy returns how many bytes f allocated.
func allocatedBy(f func() error) (uint64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// TestHostileMessages gives every message in every version what costs most to
// hold: counts beyond the input, small elements in great number, and tags.
func TestHostileMessages(t *testing.T) {
	const size = 256 << 10
	fills := map[string][]byte{
		"zeros":        {0},
		"ones":         {1},                         // compact: empty; arrays of none
		"twos":         {2},                         // compact: one byte, one element
		"huge counts":  {0x7f, 0xff, 0xff, 0xff},    // int32 2^31-1
		"negative":     {0x80, 0, 0, 0},             // int32 min
		"long varints": {0xff, 0xff, 0xff, 0xff, 7}, // uvarint 2^31-1
		"tags":         {0x80, 1, 0, 0},
		"many":         {0, 0, 0x20, 0}, // an array of 8192
		"compact many": {0x80, 0x80, 4, 1, 1, 1, 1, 1, 1},
	}
	for _, name := range messageNames(t) {
		low, high := msg.NewByName(name).Versions()
		for v := low; v <= high; v++ {
			for what, fill := range fills {
				in := bytes.Repeat(fill, size/len(fill))
				most := allocationLimit(len(in))
				m := msg.NewByName(name)
				allocated, err := allocatedBy(func() error { return m.Decode(in, v) })
				if err == nil {
					t.Errorf("%s v%d of %s decodes", name, v, what)
				}
				if allocated > most {
					t.Errorf("%s v%d of %s: %d bytes allocate %d, at most %d", name, v, what, len(in), allocated, most)
				}
			}
		}
	}
}

// TestTruncatedMessages cuts every golden message at every byte.
func TestTruncatedMessages(t *testing.T) {
	m := make(map[string]msg.Message)
	for _, v := range vectors(t) {
		if m[v.Name] == nil {
			m[v.Name] = msg.NewByName(v.Name)
		}
		whole := v.bytes()
		for n := range whole {
			if err := m[v.Name].Decode(whole[:n:n], v.Version); err == nil {
				t.Errorf("%s: %d of %d bytes decode", v, n, len(whole))
			}
		}
		if err := m[v.Name].Decode(append(whole, 0), v.Version); err == nil {
			t.Errorf("%s: decodes with a byte too many", v)
		}
	}
}
