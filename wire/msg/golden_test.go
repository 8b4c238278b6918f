package msg_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/schema"
)

// vector is one golden message, written by the 4.3.1 classes.
type vector struct {
	Name    string
	Version int16
	Variant string
	JSON    map[string]any `json:"json"`
	Hex     string
	Framed  string
}

func (v vector) String() string { return fmt.Sprintf("%s v%d %s", v.Name, v.Version, v.Variant) }

func (v vector) bytes() []byte {
	b, err := hex.DecodeString(v.Hex)
	if err != nil {
		panic(err)
	}
	return b
}

func vectors(t testing.TB) []vector {
	t.Helper()
	f, err := os.Open("testdata/vectors.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	lines := bufio.NewReaderSize(z, 1<<20)
	d := json.NewDecoder(lines)
	d.UseNumber()
	for d.More() {
		var v vector
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func schemas(t testing.TB) map[string]*schema.Message {
	t.Helper()
	files, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*schema.Message)
	for _, f := range files {
		for _, m := range f.Messages {
			out[m.Name] = m
		}
	}
	return out
}

func TestGoldenVectors(t *testing.T) {
	byName := schemas(t)
	seen := make(map[string]bool)
	reused := make(map[string]msg.Message)
	for _, vec := range vectors(t) {
		want := vec.bytes()
		s := byName[vec.Name]
		if s == nil {
			t.Errorf("%s: no schema", vec)
			continue
		}
		seen[fmt.Sprint(vec.Name, vec.Version)] = true
		// The second message keeps the memory and the values of the one before.
		if reused[vec.Name] == nil {
			reused[vec.Name] = msg.NewByName(vec.Name)
		}
		for _, m := range []msg.Message{msg.NewByName(vec.Name), reused[vec.Name]} {
			if err := m.Decode(want, vec.Version); err != nil {
				t.Errorf("%s: decode: %v", vec, err)
				break
			}
			values := walker{s, vec.Version}.values(reflect.ValueOf(m).Elem(), s.Root)
			if diff := difference("", vec.JSON, values); diff != "" {
				t.Errorf("%s: %s", vec, diff)
			}
			got, err := m.AppendTo(nil, vec.Version)
			if err != nil {
				t.Errorf("%s: encode: %v", vec, err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: encoded\n got %x\nwant %x", vec, got, want)
			}
			if n := m.Size(vec.Version); n != len(want) {
				t.Errorf("%s: size %d, want %d", vec, n, len(want))
			}
			var e prim.Encoder
			e.Split = 1
			if got := join(m.AppendSplit(nil, vec.Version, &e), e.Cuts); !bytes.Equal(got, want) {
				t.Errorf("%s: encoded with cuts\n got %x\nwant %x", vec, got, want)
			}
		}
		// A message built from the values alone encodes to the same bytes.
		if vec.Variant == "unknown-tags" {
			continue
		}
		m := msg.NewByName(vec.Name)
		m.SetDefaults()
		walker{s, vec.Version}.fill(t, reflect.ValueOf(m).Elem(), s.Root, vec.JSON)
		got, err := m.AppendTo(nil, vec.Version)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: from values: %v\n got %x\nwant %x", vec, err, got, want)
		}
	}
	for name, s := range byName {
		for v := s.Versions.Min; v <= s.Versions.Max; v++ {
			if !seen[fmt.Sprint(name, v)] {
				t.Errorf("%s v%d has no golden vector", name, v)
			}
		}
	}
}

// join puts record bytes back where they were left out.
func join(b []byte, cuts []prim.Cut) []byte {
	var out []byte
	at := 0
	for _, c := range cuts {
		out = append(out, b[at:c.At]...)
		out = append(out, c.Records.B...)
		at = c.At
	}
	return append(out, b[at:]...)
}

// walker turns a message into the values of a vector and back, guided by the
// schema rather than by the generated code.
type walker struct {
	m *schema.Message
	v int16
}

func jsonName(f *schema.Field) string { return strings.ToLower(f.Name[:1]) + f.Name[1:] }

func (w walker) values(v reflect.Value, s *schema.Struct) map[string]any {
	out := make(map[string]any)
	for _, f := range s.Fields {
		if f.Versions.Has(w.v) {
			out[jsonName(f)] = w.value(v.FieldByName(f.Name), f.Type)
		}
	}
	return out
}

func (w walker) value(v reflect.Value, t schema.Type) any {
	if t.Array {
		if v.IsNil() {
			return nil
		}
		out := []any{}
		for i := range v.Len() {
			out = append(out, w.value(v.Index(i), schema.Type{Name: t.Name, Struct: t.Struct}))
		}
		return out
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if t.Struct != nil {
		return w.values(v, t.Struct)
	}
	switch x := v.Interface().(type) {
	case bool:
		return x
	case string:
		return x
	case []byte:
		if x == nil {
			return nil
		}
		return base64.StdEncoding.EncodeToString(x)
	case prim.Records:
		if x.IsNull() {
			return nil
		}
		return base64.StdEncoding.EncodeToString(x.B)
	case prim.UUID:
		return x.String()
	case float64:
		return json.Number(strconv.FormatFloat(x, 'g', -1, 64))
	}
	return json.Number(fmt.Sprint(v.Interface()))
}

// fill sets the fields of v to the values of a vector.
func (w walker) fill(t *testing.T, v reflect.Value, s *schema.Struct, values map[string]any) {
	for _, f := range s.Fields {
		if x, ok := values[jsonName(f)]; ok {
			w.set(t, v.FieldByName(f.Name), f.Type, x)
		}
	}
}

func (w walker) set(t *testing.T, v reflect.Value, typ schema.Type, x any) {
	if x == nil {
		v.SetZero()
		return
	}
	if typ.Array {
		list := x.([]any)
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i, e := range list {
			w.set(t, v.Index(i), schema.Type{Name: typ.Name, Struct: typ.Struct}, e)
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if typ.Struct != nil {
		if d, ok := v.Addr().Interface().(interface{ SetDefaults() }); ok {
			d.SetDefaults()
		}
		w.fill(t, v, typ.Struct, x.(map[string]any))
		return
	}
	switch typ.Name {
	case "bool":
		v.SetBool(x.(bool))
	case "string":
		v.SetString(x.(string))
	case "bytes":
		v.SetBytes(decode64(t, x))
	case "records":
		v.Set(reflect.ValueOf(prim.Records{B: decode64(t, x)}))
	case "uuid":
		u, err := prim.ParseUUID(x.(string))
		if err != nil {
			t.Fatal(err)
		}
		v.Set(reflect.ValueOf(u))
	case "float64":
		f, err := x.(json.Number).Float64()
		if err != nil {
			t.Fatal(err)
		}
		v.SetFloat(f)
	case "uint16", "uint32":
		n, err := strconv.ParseUint(x.(json.Number).String(), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		v.SetUint(n)
	default:
		n, err := x.(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		v.SetInt(n)
	}
}

func decode64(t *testing.T, x any) []byte {
	b, err := base64.StdEncoding.DecodeString(x.(string))
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		b = []byte{}
	}
	return b
}

// difference compares the values of a vector with those of a message. Tagged
// fields at their default do not stand in the vector.
func difference(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: got %v, want %v", path, got, want)
		}
		for k, x := range w {
			if d := difference(path+"."+k, x, g[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Sprintf("%s: got %v, want %v", path, got, want)
		}
		for i := range w {
			if d := difference(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); d != "" {
				return d
			}
		}
		return ""
	case json.Number:
		g, ok := got.(json.Number)
		if !ok {
			return fmt.Sprintf("%s: got %v, want %v", path, got, want)
		}
		if wf, err := w.Float64(); err == nil && strings.ContainsAny(string(w), ".eE") {
			if gf, err := g.Float64(); err == nil && gf == wf {
				return ""
			}
		}
		if g != w {
			return fmt.Sprintf("%s: got %v, want %v", path, g, w)
		}
		return ""
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s: got %v, want %v", path, got, want)
	}
	return ""
}
