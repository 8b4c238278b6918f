package main

import (
	"fmt"
	"strings"

	"github.com/klamm-io/klamm/wire/schema"
)

// scope is one struct of a message as it is generated.
type scope struct {
	*strings.Builder
	m        *schema.Message
	s        *schema.Struct
	versions schema.Range // those in which the struct can occur
	name     string       // of the Go type
	taggable bool         // has a tagged section in some version
}

// messages returns the Go source of all messages of f.
func messages(f *schema.File) string {
	var b strings.Builder
	for _, m := range f.Messages {
		need := defaultTests(m)
		for i, s := range append([]*schema.Struct{m.Root}, m.Structs...) {
			g := &scope{Builder: &b, m: m, s: s, versions: s.Versions.And(m.Versions), name: goName(m, s)}
			g.taggable = !m.Flexible.And(g.versions).Empty()
			g.declare(f, i == 0)
			g.defaults()
			if need[s] {
				g.isDefault()
			}
			g.decode()
			g.encode()
			g.size()
			if i == 0 {
				g.message(f)
			}
		}
	}
	return b.String()
}

// goName names the Go type of a struct: that of its message, then its own.
func goName(m *schema.Message, s *schema.Struct) string {
	if s == m.Root || strings.HasPrefix(s.Name, m.Name) {
		return s.Name
	}
	return m.Name + s.Name
}

// defaultTests returns the structs that are compared with their defaults.
func defaultTests(m *schema.Message) map[*schema.Struct]bool {
	need := make(map[*schema.Struct]bool)
	var mark func(s *schema.Struct)
	mark = func(s *schema.Struct) {
		if need[s] {
			return
		}
		need[s] = true
		for _, f := range s.Fields {
			if f.Type.Struct != nil && !f.Type.Array {
				mark(f.Type.Struct)
			}
		}
	}
	for _, s := range append([]*schema.Struct{m.Root}, m.Structs...) {
		for _, f := range s.Fields {
			if f.Type.Struct == nil || f.Type.Array {
				continue
			}
			absent := !covers(f.Versions, m.Versions.And(s.Versions)) && !f.Ignorable
			if f.Tag >= 0 || absent {
				mark(f.Type.Struct)
			}
		}
	}
	return need
}

func (g *scope) printf(format string, args ...any) { fmt.Fprintf(g.Builder, format, args...) }

func (g *scope) elem(f *schema.Field) string {
	switch f.Type.Name {
	case "string":
		if nullable(f) && !f.Type.Array {
			return "*string"
		}
		return "string"
	case "bytes":
		return "[]byte"
	case "records":
		return "prim.Records"
	case "uuid":
		return "prim.UUID"
	}
	if f.Type.Struct != nil {
		return goName(g.m, f.Type.Struct)
	}
	return f.Type.Name
}

func (g *scope) goType(f *schema.Field) string {
	t := g.elem(f)
	switch {
	case f.Type.Array:
		return "[]" + t
	case f.Type.Struct != nil && nullable(f):
		return "*" + t
	}
	return t
}

func nullable(f *schema.Field) bool { return !f.Null.Empty() }

func (g *scope) declare(f *schema.File, root bool) {
	switch {
	case !root:
		g.printf("// %s is a part of %s.\n", g.name, g.m.Name)
	case f.API != nil:
		g.printf("// %s is the %s of %s (key %d), versions %s.\n", g.name, g.m.Kind, f.API.Name, f.API.Key, text(g.m.Versions))
	default:
		g.printf("// %s is a message of kind %s, versions %s.\n", g.name, g.m.Kind, text(g.m.Versions))
	}
	g.printf("type %s struct {\n", g.name)
	for _, f := range g.s.Fields {
		var notes []string
		if !covers(f.Versions, g.versions) {
			notes = append(notes, "v"+text(f.Versions))
		}
		if nullable(f) {
			notes = append(notes, "nil is null")
		}
		if f.HasDefault && f.Default != "null" {
			notes = append(notes, "default "+f.Default)
		}
		note := ""
		if len(notes) > 0 {
			note = " // " + strings.Join(notes, "; ")
		}
		g.printf("%s %s%s\n", f.Name, g.goType(f), note)
	}
	if g.taggable {
		g.printf("Tags *prim.Tags // unknown tagged fields\n")
	}
	g.printf("}\n\n")
}

func text(r schema.Range) string {
	switch {
	case r.Empty():
		return "none"
	case r.Max == 32767:
		return fmt.Sprintf("%d+", r.Min)
	case r.Min == r.Max:
		return fmt.Sprint(r.Min)
	}
	return fmt.Sprintf("%d-%d", r.Min, r.Max)
}

func covers(r, all schema.Range) bool { return r.And(all) == all }

// cond returns the Go condition that version v is in r, given that it is in
// the versions of the struct: "true", "false", or a comparison.
func (g *scope) cond(r schema.Range) string {
	in := r.And(g.versions)
	switch {
	case in.Empty():
		return "false"
	case in == g.versions:
		return "true"
	case in.Min == g.versions.Min:
		return fmt.Sprintf("v <= %d", in.Max)
	case in.Max == g.versions.Max:
		return fmt.Sprintf("v >= %d", in.Min)
	case in.Min == in.Max:
		return fmt.Sprintf("v == %d", in.Min)
	}
	return fmt.Sprintf("v >= %d && v <= %d", in.Min, in.Max)
}

// compact returns the Go expression that tells whether f is written in the
// compact form.
func (g *scope) compact(f *schema.Field) string {
	if f.Inflexible {
		return "false"
	}
	return g.flex()
}

func (g *scope) flex() string { return g.cond(g.m.Flexible) }

// ordinary returns the versions in which f stands among the ordinary fields.
func (g *scope) ordinary(f *schema.Field) schema.Range {
	in := f.Versions.And(g.versions)
	if f.Tag < 0 {
		return in
	}
	tagged := f.TagRange.And(in)
	if tagged.Empty() {
		return in
	}
	return schema.Range{Min: in.Min, Max: tagged.Min - 1}.And(in)
}

func (g *scope) tagged() []*schema.Field {
	var out []*schema.Field
	for _, f := range g.s.Fields {
		if f.Tag >= 0 && !f.TagRange.And(g.versions).And(g.m.Flexible).Empty() {
			out = append(out, f)
		}
	}
	for i := range out {
		for j := i; j > 0 && out[j].Tag < out[j-1].Tag; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

// minSize returns the fewest bytes that a value of type t takes on the wire in
// any of the versions.
func minSize(m *schema.Message, t schema.Type, versions schema.Range) int {
	best := -1
	for v := versions.Min; v <= versions.Max; v++ {
		if n := sizeIn(m, t, v); best < 0 || n < best {
			best = n
		}
	}
	return max(best, 0)
}

func sizeIn(m *schema.Message, t schema.Type, v int16) int {
	flex := m.Flexible.Has(v)
	short := func(n int) int {
		if flex {
			return 1
		}
		return n
	}
	if t.Array {
		return short(4)
	}
	switch t.Name {
	case "bool", "int8":
		return 1
	case "int16", "uint16":
		return 2
	case "int32", "uint32":
		return 4
	case "int64", "float64":
		return 8
	case "uuid":
		return 16
	case "string":
		return short(2)
	case "bytes", "records":
		return short(4)
	}
	n := 0
	for _, f := range t.Struct.Fields {
		if !f.Versions.Has(v) || f.Tagged(v) {
			continue
		}
		if f.Type.Struct != nil && !f.Type.Array && !f.Null.Empty() {
			n++
			continue
		}
		n += sizeIn(m, f.Type, v)
	}
	if flex {
		n++
	}
	return n
}
