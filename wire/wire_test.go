package wire_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// frame is one golden frame, written by the 4.3.1 classes: size, header, body.
type frame struct {
	API           wire.Key `json:"api"`
	Kind          string   `json:"kind"`
	Name          string   `json:"name"`
	Version       int16    `json:"version"`
	HeaderVersion int16    `json:"headerVersion"`
	CorrelationID int32    `json:"correlationId"`
	ClientID      *string  `json:"clientId"`
	Note          string   `json:"note"`
	Hex           string   `json:"hex"`
}

func frames(t testing.TB) []frame {
	t.Helper()
	file, err := os.Open("testdata/frames.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []frame
	for lines := bufio.NewScanner(z); lines.Scan(); {
		var f frame
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	if len(out) < 20 {
		t.Fatalf("%d golden frames", len(out))
	}
	return out
}

func (f frame) bytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(f.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGoldenFrames reads whole frames and writes them again.
func TestGoldenFrames(t *testing.T) {
	for _, f := range frames(t) {
		want := f.bytes(t)
		// One byte a read, as the slowest network would deliver it.
		got, err := wire.ReadFrame(iotest.OneByteReader(bytes.NewReader(want)), nil, len(want))
		if err != nil || !bytes.Equal(got, want[4:]) {
			t.Errorf("%s v%d: read %x, %v", f.Name, f.Version, got, err)
			continue
		}
		api, ok := wire.Lookup(f.API)
		if !ok {
			t.Errorf("%s: no such api", f.Name)
			continue
		}
		out := make([]byte, 4)
		var body []byte
		if f.Kind == "request" {
			if h := api.RequestHeaderVersion(f.Version); h != f.HeaderVersion {
				t.Errorf("%s v%d: header version %d, want %d", f.Name, f.Version, h, f.HeaderVersion)
			}
			var h wire.RequestHeader
			h, body, err = wire.ParseRequestHeader(got, "")
			client := ""
			if f.ClientID != nil {
				client = *f.ClientID
			}
			if want := (wire.RequestHeader{Key: f.API, Version: f.Version, CorrelationID: f.CorrelationID, ClientID: client}); h != want || err != nil {
				t.Errorf("%s v%d: header %+v, %v, want %+v", f.Name, f.Version, h, err, want)
			}
			if f.ClientID == nil {
				continue // a null client id is written as an empty one: it means the same
			}
			if out, err = wire.AppendRequestHeader(out, h); err != nil {
				t.Errorf("%s v%d: %v", f.Name, f.Version, err)
			}
		} else {
			if h := api.ResponseHeaderVersion(f.Version); h != f.HeaderVersion {
				t.Errorf("%s v%d: header version %d, want %d", f.Name, f.Version, h, f.HeaderVersion)
			}
			var id int32
			id, body, err = wire.ParseResponseHeader(got, f.API, f.Version)
			if id != f.CorrelationID || err != nil {
				t.Errorf("%s v%d: correlation id %d, %v, want %d", f.Name, f.Version, id, err, f.CorrelationID)
			}
			out = wire.AppendResponseHeader(out, f.API, f.Version, id)
		}
		m := msg.NewByName(f.Name)
		if err := m.Decode(body, f.Version); err != nil {
			t.Errorf("%s v%d: %v", f.Name, f.Version, err)
			continue
		}
		if out, err = m.AppendTo(out, f.Version); err != nil {
			t.Errorf("%s v%d: %v", f.Name, f.Version, err)
		}
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if !bytes.Equal(out, want) {
			t.Errorf("%s v%d:\n got %x\nwant %x", f.Name, f.Version, out, want)
		}
	}
}

func TestHostileHeaders(t *testing.T) {
	// A Metadata request of version 12 has header 2, of version 1 header 1.
	const v12, v1 = "0003000c00000007", "0003000100000007"
	tags := func(n int) string {
		b := prim.AppendUvarint(nil, uint32(n))
		for i := range n {
			b = append(prim.AppendUvarint(b, uint32(i)), 0)
		}
		return hex.EncodeToString(b)
	}
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", prim.ErrShort},
		{"half a correlation id", "0003000c0000", prim.ErrShort},
		{"no client id", v1, prim.ErrShort},
		{"a client id longer than the frame", v1 + "000561", prim.ErrShort},
		{"no tagged section", v12 + "000161", prim.ErrShort},
		{"two billion tagged fields", v12 + "000161ffffffff07", prim.ErrMalformed},
		{"seventeen tagged fields", v12 + "000161" + tags(17), prim.ErrMalformed},
		{"a tag that does not rise", v12 + "000161" + "02" + "0500" + "0500", prim.ErrMalformed},
		{"a tagged field longer than the frame", v12 + "000161" + "01" + "0509" + "00", prim.ErrMalformed},
		{"an api that never was", "03e7000000000007" + "ffff", wire.ErrUnknownAPI},
		{"a negative api", "ffff000000000007" + "ffff", wire.ErrUnknownAPI},
		{"an api of brokers that was taken away", "0004000000000007" + "ffff", wire.ErrUnknownAPI},
		{"a version that is too high", "0003006300000007" + "ffff", wire.ErrUnknownAPI},
		{"a negative version", "0003ffff00000007" + "ffff", wire.ErrUnknownAPI},
		{"a version that 4.0 took away", "0000000200000007" + "ffff", wire.ErrUnknownAPI},
	} {
		in, err := hex.DecodeString(c.in)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := wire.ParseRequestHeader(in, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	for name, in := range map[string]string{"sixteen tagged fields": v12 + "000161" + tags(16), "a null client id": v12 + "ffff00"} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, body, err := wire.ParseRequestHeader(b, ""); err != nil || len(body) != 0 {
			t.Errorf("%s: body %x, %v", name, body, err)
		}
	}
	// KIP-511: an ApiVersions request of any version has its id known.
	h, _, err := wire.ParseRequestHeader([]byte{0, 18, 0x7f, 0xff, 0, 0, 0, 9}, "")
	if !errors.Is(err, wire.ErrUnknownAPI) || h.Key != wire.ApiVersions || h.CorrelationID != 9 {
		t.Errorf("ApiVersions v32767: header %+v, %v", h, err)
	}
}

func TestFrameSizes(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a size", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"a negative size", []byte{0xff, 0xff, 0xff, 0xff}, wire.ErrFrameSize},
		{"the least size", []byte{0x80, 0, 0, 0}, wire.ErrFrameSize},
		{"a size above the limit", []byte{0, 0, 4, 1}, wire.ErrFrameSize},
		{"a frame cut off", []byte{0, 0, 0, 3, 1, 2}, io.ErrUnexpectedEOF},
		{"a frame that does not begin", []byte{0, 0, 0, 3}, io.ErrUnexpectedEOF},
	} {
		if _, err := wire.ReadFrame(bytes.NewReader(c.in), nil, 1024); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
	if b, err := wire.ReadFrame(bytes.NewReader(make([]byte, 4)), nil, 0); err != nil || len(b) != 0 {
		t.Errorf("an empty frame: %x, %v", b, err)
	}
}

// TestFrameMemoryFollowsArrival announces a frame far larger than what comes.
func TestFrameMemoryFollowsArrival(t *testing.T) {
	in := append([]byte{0x3f, 0xff, 0xff, 0xff}, make([]byte, 100)...)
	b, err := wire.ReadFrame(bytes.NewReader(in), nil, 1<<30)
	if !errors.Is(err, io.ErrUnexpectedEOF) || cap(b) > 2<<20 {
		t.Errorf("100 bytes of a frame of 1 GiB: %d bytes of memory, %v", cap(b), err)
	}
}

// FuzzRequestHeader parses arbitrary bytes as a header. What parses, written
// again, parses to the same.
func FuzzRequestHeader(f *testing.F) {
	for _, g := range frames(f) {
		if g.Kind == "request" {
			f.Add(g.bytes(f)[4:])
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, body, err := wire.ParseRequestHeader(in, "")
		if err != nil {
			return
		}
		out, err := wire.AppendRequestHeader(nil, h)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		again, rest, err := wire.ParseRequestHeader(append(out, body...), h.ClientID)
		if err != nil || again != h || !bytes.Equal(rest, body) {
			t.Fatalf("%+v reads again as %+v, %v", h, again, err)
		}
	})
}

// FuzzFrame reads arbitrary bytes as a stream of frames.
func FuzzFrame(f *testing.F) {
	for _, g := range frames(f) {
		f.Add(g.bytes(f))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		var buf []byte
		for {
			before := r.Len()
			var err error
			if buf, err = wire.ReadFrame(r, buf, 1<<20); err != nil {
				return
			}
			if read := before - r.Len(); read != 4+len(buf) {
				t.Fatalf("a frame of %d bytes took %d", len(buf), read)
			}
		}
	})
}

func FuzzResponseHeader(f *testing.F) {
	for _, g := range frames(f) {
		if g.Kind == "response" {
			f.Add(int16(g.API), g.Version, g.bytes(f)[4:])
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, in []byte) {
		id, body, err := wire.ParseResponseHeader(in, wire.Key(key), version)
		if err != nil {
			return
		}
		again, rest, err := wire.ParseResponseHeader(append(wire.AppendResponseHeader(nil, wire.Key(key), version, id), body...), wire.Key(key), version)
		if err != nil || again != id || !bytes.Equal(rest, body) {
			t.Fatalf("correlation id %d reads again as %d, %v", id, again, err)
		}
	})
}

// TestTableMatchesMessages holds the table of APIs to the messages.
func TestTableMatchesMessages(t *testing.T) {
	n := 0
	for key := wire.Key(-2); key < 200; key++ {
		api, ok := wire.Lookup(key)
		req, resp := msg.NewRequest(int16(key)), msg.NewResponse(int16(key))
		if ok != (req != nil) || ok != (resp != nil) {
			t.Errorf("key %d: in the table %v, request %v, response %v", key, ok, req != nil, resp != nil)
		}
		if !ok {
			continue
		}
		n++
		if low, high := req.Versions(); low != api.Min || high != api.Max || req.APIKey() != int16(key) {
			t.Errorf("%s: versions %d-%d, in the table %d-%d", api.Name, low, high, api.Min, api.Max)
		}
		// A flexible message has a flexible header, version 0 included: the table
		// once took a header from version 0 on for none at all.
		for v := api.Min; v <= api.Max; v++ {
			if got, want := api.RequestHeaderVersion(v) == 2, v >= api.Flexible; got != want {
				t.Errorf("%s version %d: flexible header %v, want %v", api.Name, v, got, want)
			}
		}
	}
	if n != 89 {
		t.Errorf("%d APIs, want 89", n)
	}
}
