package prim

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"testing"
)

// TestGoldenPrimitives holds every encoding to the bytes of the 4.3.1 classes.
func TestGoldenPrimitives(t *testing.T) {
	file, err := os.Open("testdata/primitives.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		var v struct {
			Fn  string `json:"fn"`
			In  any    `json:"in"`
			Out any    `json:"out"`
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		check, ok := goldenChecks[v.Fn]
		if !ok {
			continue // a hash: its user checks it
		}
		seen[v.Fn]++
		check(t, v.In.(string), v.Out.(string))
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for fn := range goldenChecks {
		if seen[fn] < 5 {
			t.Errorf("%s: %d vectors", fn, seen[fn])
		}
	}
}

var goldenChecks = map[string]func(t *testing.T, in, out string){
	"varint": func(t *testing.T, in, out string) {
		n, want := int32(number(t, in)), unhex(t, out)
		sameBytes(t, "varint "+in, AppendVarint(nil, n), want, VarintLen(n))
		if got, size := Varint(want); got != n || size != len(want) {
			t.Errorf("Varint(%x) = %d, %d, want %s", want, got, size, in)
		}
		r := NewReader(want)
		if got := r.Varint(); got != n || r.Err() != nil || r.Len() != 0 {
			t.Errorf("varint %x reads as %d, %v", want, got, r.Err())
		}
	},
	"varlong": func(t *testing.T, in, out string) {
		n, want := number(t, in), unhex(t, out)
		sameBytes(t, "varlong "+in, AppendVarlong(nil, n), want, VarlongLen(n))
		r := NewReader(want)
		if got := r.Varlong(); got != n || r.Err() != nil || r.Len() != 0 {
			t.Errorf("varlong %x reads as %d, %v", want, got, r.Err())
		}
	},
	"uvarint": func(t *testing.T, in, out string) {
		n, want := uint32(number(t, in)), unhex(t, out)
		sameBytes(t, "uvarint "+in, AppendUvarint(nil, n), want, UvarintLen(n))
		r := NewReader(want)
		if got := r.Uvarint(); got != n || r.Err() != nil || r.Len() != 0 {
			t.Errorf("uvarint %x reads as %d, %v", want, got, r.Err())
		}
	},
	"uuid-text": func(t *testing.T, in, out string) {
		u := UUID(unhex(t, in))
		if got := u.String(); got != out {
			t.Errorf("uuid %s prints as %s, want %s", in, got, out)
		}
		if got, err := ParseUUID(out); got != u || err != nil {
			t.Errorf("uuid %s parses as %x, %v", out, got, err)
		}
	},
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameBytes(t *testing.T, what string, got, want []byte, size int) {
	t.Helper()
	if string(got) != string(want) || size != len(want) {
		t.Errorf("%s: got %x of size %d, want %x", what, got, size, want)
	}
}

// TestHostileInput gives the reader what no writer sends. Every line must be
// refused, and cheaply.
func TestHostileInput(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		read func(r *Reader)
		want error
	}{
		{"an int32 of three bytes", []byte{1, 2, 3}, func(r *Reader) { r.Int32() }, ErrShort},
		{"an int64 of seven bytes", make([]byte, 7), func(r *Reader) { r.Int64() }, ErrShort},
		{"a uuid of fifteen bytes", make([]byte, 15), func(r *Reader) { r.UUID() }, ErrShort},
		{"a varint without an end", []byte{0x80, 0x80}, func(r *Reader) { r.Uvarint() }, ErrShort},
		{"a varint of six bytes", []byte{0x80, 0x80, 0x80, 0x80, 0x80, 1}, func(r *Reader) { r.Uvarint() }, ErrMalformed},
		{"a varint above 32 bits", []byte{0xff, 0xff, 0xff, 0xff, 0x1f}, func(r *Reader) { r.Uvarint() }, ErrMalformed},
		{"a varlong of eleven bytes", []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, func(r *Reader) { r.Varlong() }, ErrMalformed},
		{"a varlong above 64 bits", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, func(r *Reader) { r.Varlong() }, ErrMalformed},
		{"a string of negative length", []byte{0xff, 0xfe}, func(r *Reader) { r.String(false, "") }, ErrMalformed},
		{"a null string where none may be", []byte{0xff, 0xff}, func(r *Reader) { r.String(false, "") }, ErrMalformed},
		{"a null compact string where none may be", []byte{0}, func(r *Reader) { r.String(true, "") }, ErrMalformed},
		{"a string longer than the input", []byte{0, 3, 'a', 'b'}, func(r *Reader) { r.String(false, "") }, ErrMalformed},
		{"a compact string of 4 GiB", []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 'a'}, func(r *Reader) { r.NullString(true, nil) }, ErrMalformed},
		{"a compact string above 32767 bytes", append([]byte{0x81, 0x80, 2}, make([]byte, 40000)...), func(r *Reader) { r.String(true, "") }, ErrMalformed},
		{"bytes of negative length", []byte{0xff, 0xff, 0xff, 0xfe}, func(r *Reader) { r.NullBytes(false, nil) }, ErrMalformed},
		{"null bytes where none may be", []byte{0xff, 0xff, 0xff, 0xff}, func(r *Reader) { r.Bytes(false, nil) }, ErrMalformed},
		{"bytes of 2 GiB", []byte{0x7f, 0xff, 0xff, 0xff, 1}, func(r *Reader) { r.Bytes(false, nil) }, ErrMalformed},
		{"records longer than the input", []byte{0, 0, 0, 2, 1}, func(r *Reader) { r.Records(false, true) }, ErrMalformed},
		{"null records where none may be", []byte{0}, func(r *Reader) { r.Records(true, false) }, ErrMalformed},
		{"an array of 2^31-1 elements", []byte{0x7f, 0xff, 0xff, 0xff, 1}, func(r *Reader) { r.ArrayLen(false, 1) }, ErrMalformed},
		{"an array of 2^32-2 elements", []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1}, func(r *Reader) { r.ArrayLen(true, 1) }, ErrMalformed},
		{"an array of -2 elements", []byte{0xff, 0xff, 0xff, 0xfe}, func(r *Reader) { r.ArrayLen(false, 1) }, ErrMalformed},
		{"a null array where none may be", []byte{0}, func(r *Reader) { r.ArrayLenNotNull(true, 1) }, ErrMalformed},
		{"an array that the bytes left cannot hold", append([]byte{0, 0, 0, 4}, make([]byte, 15)...), func(r *Reader) { r.ArrayLen(false, 4) }, ErrMalformed},
		{"more tags than a struct may have", append([]byte{0x81, 2}, make([]byte, 1000)...), func(r *Reader) { r.TagCount() }, ErrMalformed},
		{"more tags than bytes", []byte{4, 0, 0}, func(r *Reader) { r.TagCount() }, ErrMalformed},
		{"a tag that does not rise", []byte{3, 0}, func(r *Reader) { r.Tag(3) }, ErrMalformed},
		{"a tagged field longer than the input", []byte{3, 9, 0}, func(r *Reader) { r.Tag(-1) }, ErrMalformed},
		{"a tagged field not read to its end", []byte{1, 2, 3}, func(r *Reader) { r.Int8(); r.EndTag(0, 3) }, ErrMalformed},
		{"an unknown tag that ends before it starts", []byte{1, 2, 3}, func(r *Reader) { r.Int16(); r.Unknown(new(*Tags), 0, 1) }, ErrShort},
		{"a skip beyond the end", []byte{1}, func(r *Reader) { r.Skip(2) }, ErrShort},
		{"a skip backwards", []byte{1}, func(r *Reader) { r.Int8(); r.Skip(-1) }, ErrShort},
		{"trailing bytes", []byte{1, 2}, func(r *Reader) { r.Int8(); r.Done() }, ErrMalformed},
		{"elements out of proportion", make([]byte, 100), func(r *Reader) { Resize(r, []struct{ big [1 << 12]byte }(nil), 100) }, ErrBudget},
	} {
		r := NewReader(c.in)
		c.read(&r)
		if !errors.Is(r.Err(), c.want) {
			t.Errorf("%s: error %v, want %v", c.name, r.Err(), c.want)
		}
		first := r.Err()
		if got := r.Int64(); got != 0 || r.Err() != first {
			t.Errorf("%s: after the error reads %d, %v", c.name, got, r.Err())
		}
	}
}

// TestBudgetCountsStrings fills an array of structs whose strings cost far more
// to hold than to send.
func TestBudgetCountsStrings(t *testing.T) {
	const n = 1 << 20
	in := make([]byte, n)
	for i := range in {
		in[i] = 1 // the empty string
	}
	r := NewReader(in)
	kept := make([]*string, 0, n)
	for r.Len() > 0 && r.Err() == nil {
		kept = append(kept, r.NullString(true, nil))
	}
	if !errors.Is(r.Err(), ErrBudget) {
		t.Errorf("%d pointers from %d bytes: %v", len(kept), n, r.Err())
	}
}

func TestDecodingIntoUsedMemory(t *testing.T) {
	in := append(AppendString(nil, "orders", true, new(Encoder)), AppendBytes(nil, []byte("payload"), true, new(Encoder))...)
	var s *string
	var b []byte
	if n := testing.AllocsPerRun(100, func() {
		r := NewReader(in)
		s, b = r.NullString(true, s), r.Bytes(true, b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if *s != "orders" || string(b) != "payload" {
		t.Errorf("read %q, %q", *s, b)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, ops, in []byte) {
		r := NewReader(in)
		for _, op := range ops {
			compact := op&0x80 != 0
			switch op & 0x7f % 16 {
			case 0:
				r.Int8()
			case 1:
				r.Int16()
			case 2:
				r.Int32()
			case 3:
				r.Int64()
			case 4:
				r.UUID()
			case 5:
				r.Uvarint()
			case 6:
				r.Varint()
			case 7:
				r.Varlong()
			case 8:
				if s := r.String(compact, ""); len(s) > len(in) {
					t.Fatalf("a string of %d bytes from %d", len(s), len(in))
				}
			case 9:
				r.NullString(compact, nil)
			case 10:
				r.Bytes(compact, nil)
			case 11:
				r.Records(compact, true)
			case 12:
				if n := r.ArrayLen(compact, 2); n > len(in)/2 {
					t.Fatalf("%d elements in %d bytes", n, len(in))
				}
			case 13:
				tag, end := r.Tag(-1)
				var kept *Tags
				r.Unknown(&kept, tag, end)
			case 14:
				if n := r.TagCount(); n > MaxTags {
					t.Fatalf("%d tags", n)
				}
			case 15:
				r.Float64()
			}
			if r.Offset() < 0 || r.Offset() > len(in) {
				t.Fatalf("offset %d of %d", r.Offset(), len(in))
			}
		}
	})
}

func FuzzVarints(f *testing.F) {
	for _, n := range []int64{0, -1, 1, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int64) {
		b := AppendVarlong(nil, n)
		if got, size := Varlong(b); got != n || size != len(b) || VarlongLen(n) != len(b) {
			t.Fatalf("varlong %d: %x reads as %d of %d bytes", n, b, got, size)
		}
		b = AppendVarint(nil, int32(n))
		if got, size := Varint(b); got != int32(n) || size != len(b) || VarintLen(int32(n)) != len(b) {
			t.Fatalf("varint %d: %x reads as %d of %d bytes", int32(n), b, got, size)
		}
	})
}
