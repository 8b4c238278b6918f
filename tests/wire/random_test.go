package wire

import (
	"math"
	"math/rand/v2"
	"reflect"

	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/schema"
)

// random fills messages with values that a version can carry.
type random struct {
	*rand.Rand
	v int16
}

// ours fills a message of this project: every field that the version has, and
// null where it may be.
func (r random) ours(v reflect.Value, s *schema.Struct) {
	v.Addr().Interface().(interface{ SetDefaults() }).SetDefaults()
	for _, f := range s.Fields {
		// The default of records is null, also where that may not be written.
		if f.Versions.Has(r.v) && (f.Type.Name == "records" || !r.oneIn(8)) {
			r.field(v.FieldByName(f.Name), f, f.Type)
		}
	}
}

func (r random) field(v reflect.Value, f *schema.Field, t schema.Type) {
	if f.Null.Has(r.v) && r.oneIn(4) {
		v.SetZero()
		return
	}
	if t.Array {
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		item := *f
		item.Null = schema.None
		for i := range n {
			r.field(v.Index(i), &item, schema.Type{Name: t.Name, Struct: t.Struct})
		}
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if t.Struct != nil {
		r.ours(v, t.Struct)
		return
	}
	switch t.Name {
	case "bytes":
		v.SetBytes(r.bytes())
	case "records":
		v.Set(reflect.ValueOf(prim.Records{B: r.bytes()}))
	default:
		r.scalar(v)
	}
}

// theirs fills a message of kmsg. What the version lacks is left out by its
// encoder.
func (r random) theirs(v reflect.Value) {
	if d := v.Addr().MethodByName("Default"); d.IsValid() {
		d.Call(nil)
	}
	t := v.Type()
	for i := range t.NumField() {
		if name := t.Field(i).Name; name == "Version" || name == "UnknownTags" {
			continue
		}
		// A slice that is nil would be null, also where that may not be.
		if v.Field(i).Kind() == reflect.Slice || !r.oneIn(8) {
			r.value(v.Field(i))
		}
	}
}

func (r random) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		n := r.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			r.value(v.Index(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.value(v.Elem())
	case reflect.Struct:
		r.theirs(v)
	default:
		r.scalar(v)
	}
}

func (r random) scalar(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.oneIn(2))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.integer())
		if r.oneIn(4) {
			v.SetInt(int64(r.IntN(5)) - 2)
		}
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(math.Trunc(r.NormFloat64() * 1e6))
	case reflect.String:
		v.SetString(r.text())
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(r.IntN(256)))
		}
	default:
		panic("a field of kind " + v.Kind().String())
	}
}

func (r random) oneIn(n int) bool { return r.IntN(n) == 0 }

func (r random) integer() int64 { return int64(r.Uint64()) >> r.IntN(64) }

func (r random) bytes() []byte {
	b := make([]byte, r.IntN(20))
	for i := range b {
		b[i] = byte(r.IntN(256))
	}
	return b
}

func (r random) text() string {
	n := r.IntN(12)
	if r.oneIn(50) {
		n = 100 + r.IntN(200) // a length of two bytes
	}
	letters := []rune("abcxyz019-._é語😀")
	out := make([]rune, n)
	for i := range out {
		out[i] = letters[r.IntN(len(letters))]
	}
	return string(out)
}
