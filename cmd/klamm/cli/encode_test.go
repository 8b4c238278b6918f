package cli

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/client"
)

// FuzzPrintedIsRead prints a record in every format that says all of it, and
// reads it back.
func FuzzPrintedIsRead(f *testing.F) {
	for _, s := range []string{"", "text", "null", `"string"`, `{"a": [1, "}"]}`, `{"base64":"/wA="}`, `{"base64":1}`, "1e3", " 1", "-", "true", "\xff\x00", "a\tb\\n\nc\r", `\N`, `[1`, "\"\xff\""} {
		f.Add([]byte(s), []byte("k"), false)
		f.Add([]byte("v"), []byte(s), true)
	}
	f.Fuzz(func(t *testing.T, key, value []byte, null bool) {
		r := client.Record{Topic: "t", Key: key, Value: value}
		if null {
			r.Key = nil
		}
		printedIsRead(t, &r)
	})
}

func printedIsRead(t *testing.T, r *client.Record) {
	t.Helper()
	for _, format := range []string{`%k{json} %v{json}\n`, `%k{json}<%v{json}`, `%k{tsv}\t%v{tsv}\n`, `%K %V %k%v\n`, `%K,%V,%k{hex}%v{hex};`, `%K %V %k{base64}%v{base64}`, `%k{hex} %K %v{hex} %V\n`, `%v{base64} %V %k{base64} %K`} {
		verbs, err := parseFormat(format)
		if err != nil {
			t.Fatal(err)
		}
		text := appendRecord(nil, verbs, r)
		if !strings.HasSuffix(format, `\n`) && !strings.HasSuffix(format, ";") {
			text = append(text, '\n') // a format that ends with a verb has one record a line
		}
		in, err := newInput(bytes.NewReader(append(text, text...)), format)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		for range 2 {
			var got client.Record
			if err := in.next(&got); err != nil {
				t.Fatalf("%s: %q is not read: %v", format, text, err)
			}
			if !same(got.Key, r.Key) || !same(got.Value, r.Value) || in.null != (r.Value == nil) {
				t.Errorf("%s: printed as %q, and read as key %q, value %q, null %v; want %q, %q", format, text, got.Key, got.Value, in.null, r.Key, r.Value)
			}
		}
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// TestPrintedIsRead does the same with records made at random of what is special
// in one format or another.
func TestPrintedIsRead(t *testing.T) {
	pieces := []string{"", "\\", "\t", "\n", "\r", "N", "\"", "{", "}", "[", "]", ",", ":", "base64", "null", "1", "-", "e", ".", " ", "\xff", "é", "\x00", "-1"}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	some := func() []byte {
		if r.IntN(10) == 0 {
			return nil
		}
		out := []byte{}
		for range r.IntN(6) {
			out = append(out, pieces[r.IntN(len(pieces))]...)
		}
		return out
	}
	for range 3000 {
		printedIsRead(t, &client.Record{Key: some(), Value: some()})
		if t.Failed() {
			return
		}
	}
}
