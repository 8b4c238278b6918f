package conformance_test

import (
	"fmt"
	"math"
	"strings"

	"github.com/klamm-io/klamm/wire/schema"
)

// edge changes one field of a request.
type edge struct {
	field string // such as Topics.Partitions.Index; "" is the message itself
	what  string // it is set to, such as null
	apply func(o object, s *scene)
}

func (e edge) String() string {
	if e.field == "" {
		return e.what
	}
	return e.field + " " + e.what
}

// place changes what stands at one place of a request.
type place func(o object, change func(old any) any)

// edges returns what can be changed in a request that is like base: every field
// that the version has, at its edge values. Between the versions in which a field
// comes and goes, or the message becomes flexible, it is left alone.
func edges(m *schema.Message, version int16, versions []int16, base object) (out []edge) {
	out = append(out, edge{"", "as it is", func(object, *scene) {}})
	if m.Flexible.Has(version) {
		out = append(out, edge{"", "with an unknown tagged field", func(o object, _ *scene) { o[extraTag] = []byte("unknown") }})
	}
	return append(out, edger{m, version, versions, *exhaustive}.structEdges(m.Root, base, "", func(o object, change func(any) any) { change(o) })...)
}

// edger makes the edges of a message in one of its versions.
type edger struct {
	m        *schema.Message
	version  int16
	versions []int16
	all      bool // whether each version has all of them
}

// turns reports whether a version is the lowest or the highest of versions that
// has a field, or the first that is flexible.
func turns(m *schema.Message, f *schema.Field, version int16, versions []int16) bool {
	var have []int16
	for _, v := range versions {
		if f.Versions.Has(v) {
			have = append(have, v)
		}
	}
	return version == have[0] || version == have[len(have)-1] || version == m.Flexible.Min || version == f.Null.Min
}

func (r edger) structEdges(s *schema.Struct, base object, at string, here place) (out []edge) {
	for _, f := range s.Fields {
		if !f.Versions.Has(r.version) {
			continue
		}
		name := strings.TrimPrefix(at+"."+f.Name, ".")
		there := func(o object, change func(any) any) {
			here(o, func(old any) any {
				holder, ok := old.(object)
				if !ok {
					holder = object{}
				}
				v, ok := holder[f.Name]
				if !ok {
					v = defaultOf(f)
				}
				holder[f.Name] = change(v)
				return holder
			})
		}
		v, ok := base[f.Name]
		if !ok {
			v = defaultOf(f)
		}
		out = append(out, r.fieldEdges(f, v, name, there)...)
	}
	return out
}

func (r edger) fieldEdges(f *schema.Field, base any, at string, here place) (out []edge) {
	set := func(what string, v func(old any, s *scene) any) {
		if !r.all && !turns(r.m, f, r.version, r.versions) {
			return
		}
		out = append(out, edge{at, what, func(o object, s *scene) { here(o, func(old any) any { return v(old, s) }) }})
	}
	if f.Type.Array {
		set("null", func(any, *scene) any { return nil })
		set("empty", func(any, *scene) any { return list{} })
		elements, _ := base.(list)
		if len(elements) == 0 {
			return out
		}
		set("twice the same", func(old any, _ *scene) any { return append(list{old.(list)[0]}, old.(list)...) })
		set("with an unknown one", func(old any, s *scene) any { return append(old.(list), unlike(f.Type, r.version, old.(list)[0], s, 0)) })
		set("of an unknown one first", func(old any, s *scene) any {
			return append(list{unlike(f.Type, r.version, old.(list)[0], s, 0)}, old.(list)...)
		})
		set("many", func(old any, s *scene) any {
			l := old.(list)
			for i := range 20 {
				l = append(l, unlike(f.Type, r.version, l[0], s, i+1))
			}
			return l
		})
		first := func(o object, change func(any) any) {
			here(o, func(old any) any {
				l := old.(list)
				l[0] = change(l[0])
				return l
			})
		}
		if f.Type.Struct != nil {
			return append(out, r.structEdges(f.Type.Struct, elements[0].(object), at, first)...)
		}
		element := *f
		element.Type.Array, element.Null = false, schema.None
		return append(out, r.fieldEdges(&element, elements[0], at, first)...)
	}
	if f.Type.Struct != nil {
		if f.Null.Has(r.version) {
			set("null", func(any, *scene) any { return nil })
			set("all defaults", func(any, *scene) any { return object{} })
		}
		o, _ := base.(object)
		return append(out, r.structEdges(f.Type.Struct, o, at, here)...)
	}
	for _, e := range scalars(f.Type.Name) {
		if strings.Contains(f.Name, "Group") && (e.what == "a dot" || e.what == "the group topic") {
			continue // all cases would share that group
		}
		if f.Type.Name == "string" || f.Type.Name == "bytes" || f.Type.Name == "records" || e.v(new(scene)) != base {
			set(e.what, func(_ any, s *scene) any { return e.v(s) })
		}
	}
	return out
}

// scalar is a value at the edge of a type.
type scalar struct {
	what string
	v    func(s *scene) any
}

func always(v any) func(*scene) any { return func(*scene) any { return v } }

// scalars are the edge values of a primitive type.
func scalars(name string) (out []scalar) {
	number := func(low, high int64) {
		for _, n := range []int64{-1, -2, 0, 1, 2, 99, low, high} {
			what := fmt.Sprint(n)
			switch n {
			case low:
				what = "the lowest"
			case high:
				what = "the highest"
			}
			out = append(out, scalar{what, always(n)})
		}
	}
	switch name {
	case "bool":
		out = []scalar{{"true", always(true)}, {"false", always(false)}}
	case "int8":
		number(math.MinInt8, math.MaxInt8)
	case "int16":
		number(math.MinInt16, math.MaxInt16)
	case "int32":
		number(math.MinInt32, math.MaxInt32)
	case "int64":
		number(math.MinInt64, math.MaxInt64)
	case "uuid":
		out = []scalar{{"zero", always(uuid{})}, {"unknown", always(unknownID)}, {"reserved", always(uuid{15: 1})}}
	case "string":
		long := func(n int) func(*scene) any {
			return func(s *scene) any {
				return s.name + strings.Repeat("x", max(n-len(s.name), 0))
			}
		}
		out = []scalar{
			{"null", always(nil)}, {"empty", always("")}, {"with a blank", func(s *scene) any { return s.name + " " }},
			{"unknown", func(s *scene) any { return s.name + ".unknown" }},
			{"of 249 letters", long(249)}, {"of 250 letters", long(250)}, {"of 32767 letters", long(math.MaxInt16)},
			{"a dot", always(".")}, {"of illegal letters", func(s *scene) any { return s.name + "/ä:\x00☃" }},
			{"no UTF-8", func(s *scene) any { return s.name + "\xff\xfe\xc3" }},
			{"the group topic", always("__consumer_offsets")},
		}
	case "bytes", "records":
		out = []scalar{
			{"null", always(nil)}, {"empty", always([]byte{})}, {"of one byte", always([]byte{0})},
			{"garbage", always([]byte(strings.Repeat("garbage\xff", 20)))},
			{"zeros", always(make([]byte, 200))},
		}
	}
	return out
}

var unknownID = uuid{1: 9, 15: 9}

// unlike returns an element like another one, which names something that is not
// there.
func unlike(t schema.Type, version int16, v any, s *scene, n int) any {
	name := fmt.Sprintf("%s.other%d", s.name, n)
	switch t.Name {
	case "string":
		return name
	case "int8", "int16", "int32", "int64":
		return int64(90 + n)
	}
	out := clone(v).(object)
	for _, kinds := range [][]string{{"uuid"}, {"string"}, {"int8", "int16", "int32"}} {
		for _, f := range t.Struct.Fields {
			if !f.Versions.Has(version) || f.Type.Array || f.Tagged(version) {
				continue
			}
			for _, k := range kinds {
				if f.Type.Name != k {
					continue
				}
				switch k {
				case "uuid":
					out[f.Name] = uuid{1: 9, 2: byte(n)}
				case "string":
					out[f.Name] = name
				default:
					out[f.Name] = int64(90 + n)
				}
				return out
			}
		}
	}
	return out
}

// clone copies a value whole.
func clone(v any) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case list:
		out := make(list, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}
