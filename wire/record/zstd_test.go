package record

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func frameOf(claim uint64, sized bool, blocks []byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if sized {
		b = append(b, 0xc0|0x20) // 8 bytes of size, single segment
		b = binary.LittleEndian.AppendUint64(b, claim)
		return append(b, blocks...)
	}
	b = append(b, 0x00, (27-10)<<3)
	return append(b, blocks...)
}

// A frame with a size beside one without takes no more memory than either alone.
func TestMixedFramesTakeWhatTheyHold(t *testing.T) {
	var blocks []byte
	for i := 0; i < 1000; i++ { // compressed blocks of no content
		last := uint32(0)
		if i == 999 {
			last = 1
		}
		h := last | 2<<1 | 0<<3
		blocks = append(blocks, byte(h), byte(h>>8), byte(h>>16))
	}
	for _, c := range []struct {
		name string
		src  []byte
	}{
		{"sized", frameOf(125<<20, true, blocks)},
		{"sized, then an empty one without a size", append(frameOf(125<<20, true, blocks), frameOf(0, false, []byte{1, 0, 0})...)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decompress(nil, Zstd, c.src, 256<<20)
		runtime.ReadMemStats(&after)
		n := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d bytes in, %d MiB allocated, %v", c.name, len(c.src), n>>20, err)
		if n > 16<<20 {
			t.Errorf("%s: %d bytes in, %d MiB allocated, %v", c.name, len(c.src), n>>20, err)
		}
	}
}

// What no decoder of a consumer can read must be refused when it is produced.
func TestFramesThatLieAreRefused(t *testing.T) {
	rle := func(n int) []byte { // blocks of repeated bytes
		var out []byte
		for n > 0 {
			k := min(n, 128<<10)
			n -= k
			h := uint32(1<<1) | uint32(k)<<3
			if n == 0 {
				h |= 1
			}
			out = append(out, byte(h), byte(h>>8), byte(h>>16), 'x')
		}
		return out
	}
	src := append(frameOf(600<<10, true, rle(500<<10)), frameOf(500<<10, true, rle(600<<10))...)
	d, _ := zstd.NewReader(nil)
	_, ref := d.DecodeAll(src, nil)
	out, err := Decompress(nil, Zstd, src, 256<<20)
	t.Logf("reference: %v, klamm: %d bytes, %v", ref, len(out), err)
	if ref != nil && err == nil {
		t.Errorf("a decoder says %v, but it is accepted", ref)
	}
}
