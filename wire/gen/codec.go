package main

import (
	"fmt"
	"strings"

	"github.com/klamm-io/klamm/wire/schema"
)

// defaultStmt returns the statement that sets x, a field, to its default.
func (g *scope) defaultStmt(f *schema.Field, x string) string {
	switch {
	case f.Default == "null":
		if f.Type.Name == "records" && !f.Type.Array {
			return x + " = prim.Records{}"
		}
		return x + " = nil"
	case f.Type.Array, f.Type.Name == "bytes":
		if nullable(f) {
			return fmt.Sprintf("%s = prim.Empty(%s)", x, x)
		}
		return fmt.Sprintf("%s = %s[:0]", x, x)
	case f.Type.Struct != nil && nullable(f):
		return fmt.Sprintf("%s = new(%s)\n%s.SetDefaults()", x, g.elem(f), x)
	case f.Type.Struct != nil:
		return x + ".SetDefaults()"
	case f.Type.Name == "string" && nullable(f):
		return x + " = new(string)"
	case f.Type.Name == "records":
		return x + " = prim.Records{}"
	}
	return x + " = " + literal(f)
}

// literal returns the default of a field of a fixed-size primitive or string.
func literal(f *schema.Field) string {
	switch {
	case f.HasDefault:
		return f.Default
	case f.Type.Name == "bool":
		return "false"
	case f.Type.Name == "string":
		return `""`
	case f.Type.Name == "uuid":
		return "prim.UUID{}"
	}
	return "0"
}

// differs returns the condition that x, a field, is not at its default. A null
// counts as different from an empty value only where strict is set: a tagged
// field has to be written for it.
func (g *scope) differs(f *schema.Field, x string, strict bool) string {
	null := ""
	if strict && nullable(f) && f.Default != "null" {
		null = x + " == nil || "
	}
	switch {
	case f.Type.Name == "records" && !f.Type.Array:
		return fmt.Sprintf("!%s.IsNull()", x)
	case f.Default == "null" && (strict || f.Type.Struct == nil):
		return x + " != nil"
	case f.Type.Array, f.Type.Name == "bytes":
		return fmt.Sprintf("%slen(%s) != 0", null, x)
	case f.Type.Struct != nil && nullable(f):
		if strict && f.Default != "null" {
			return fmt.Sprintf("%s == nil || !%s.isDefault()", x, x)
		}
		return fmt.Sprintf("%s != nil && !%s.isDefault()", x, x)
	case f.Type.Struct != nil:
		return fmt.Sprintf("!%s.isDefault()", x)
	case f.Type.Name == "string" && nullable(f):
		if strict {
			return fmt.Sprintf("%s == nil || *%s != \"\"", x, x)
		}
		return fmt.Sprintf("%s != nil && *%s != \"\"", x, x)
	case f.Type.Name == "uuid":
		return fmt.Sprintf("!%s.IsZero()", x)
	case f.Type.Name == "bool":
		if f.Default == "true" {
			return "!" + x
		}
		return x
	}
	return fmt.Sprintf("%s != %s", x, literal(f))
}

func (g *scope) defaults() {
	g.printf("// SetDefaults sets every field to its default; arrays keep their memory.\nfunc (m *%s) SetDefaults() {\n", g.name)
	for _, f := range g.s.Fields {
		g.printf("%s\n", g.defaultStmt(f, "m."+f.Name))
	}
	if g.taggable {
		g.printf("m.Tags = nil\n")
	}
	g.printf("}\n\n")
}

func (g *scope) isDefault() {
	var terms []string
	for _, f := range g.s.Fields {
		terms = append(terms, "!("+g.differs(f, "m."+f.Name, true)+")")
	}
	if g.taggable {
		terms = append(terms, "m.Tags == nil")
	}
	g.printf("func (m *%s) isDefault() bool {\nreturn %s\n}\n\n", g.name, strings.Join(terms, " && "))
}

func (g *scope) decode() {
	g.printf("func (m *%s) decode(r *prim.Reader, v int16) {\n", g.name)
	for _, f := range g.s.Fields {
		x := "m." + f.Name
		c := g.cond(g.ordinary(f))
		switch c {
		case "true":
			g.read(f, x, false)
		case "false":
			g.printf("%s\n", g.defaultStmt(f, x))
		default:
			g.printf("if %s {\n", c)
			g.read(f, x, false)
			g.printf("} else {\n%s\n}\n", g.defaultStmt(f, x))
		}
	}
	if g.taggable {
		g.printf("m.Tags = nil\n")
		g.open(g.flex())
		g.printf("last := int64(-1)\nfor n := r.TagCount(); n > 0 && r.Err() == nil; n-- {\ntag, end := r.Tag(last)\nlast = int64(tag)\n")
		if tagged := g.tagged(); len(tagged) > 0 {
			g.printf("switch {\n")
			for _, f := range tagged {
				c := g.cond(f.TagRange.And(f.Versions))
				if c == "true" {
					g.printf("case tag == %d:\n", f.Tag)
				} else {
					g.printf("case tag == %d && %s:\n", f.Tag, c)
				}
				g.read(f, "m."+f.Name, true)
				g.printf("r.EndTag(tag, end)\n")
			}
			g.printf("default:\nr.Unknown(&m.Tags, tag, end)\n}\n")
		} else {
			g.printf("r.Unknown(&m.Tags, tag, end)\n")
		}
		g.printf("}\n")
		g.shut(g.flex())
	}
	g.printf("}\n\n")
}

// open and shut write the braces of a condition, none if it always holds.
func (g *scope) open(c string) {
	if c != "true" {
		g.printf("if %s {\n", c)
	}
}

func (g *scope) shut(c string) {
	if c != "true" {
		g.printf("}\n")
	}
}

// read writes the statements that read a value of f into x.
func (g *scope) read(f *schema.Field, x string, tagged bool) {
	c := g.compact(f)
	null := g.cond(f.Null)
	switch {
	case f.Type.Array:
		one := schema.Type{Name: f.Type.Name, Struct: f.Type.Struct}
		least := minSize(g.m, one, f.Versions.And(g.versions))
		if null == "false" {
			g.printf("%s = prim.Resize(r, %s, r.ArrayLenNotNull(%s, %d))\n", x, x, c, least)
		} else {
			g.printf("if n := r.ArrayLen(%s, %d); n < 0 {\n", c, least)
			if null != "true" {
				g.printf("if !(%s) {\nr.NullNotAllowed(%q)\n}\n", null, f.Name)
			}
			g.printf("%s = nil\n} else {\n%s = prim.Resize(r, %s, n)\n}\n", x, x, x)
		}
		g.printf("for i := range %s {\n", x)
		item := *f
		item.Type.Array, item.Null = false, schema.None
		g.read(&item, x+"[i]", false)
		g.printf("if r.Err() != nil {\nbreak\n}\n}\n")
	case f.Type.Struct != nil && null != "false":
		probe := "r.Int8() < 0"
		if tagged {
			probe = "r.Uvarint() == 0"
		}
		g.printf("if %s {\n", probe)
		if null != "true" {
			g.printf("if !(%s) {\nr.NullNotAllowed(%q)\n}\n", null, f.Name)
		}
		g.printf("%s = nil\n} else {\nif %s == nil {\n%s = new(%s)\n}\n%s.decode(r, v)\n}\n", x, x, x, g.elem(f), x)
	case f.Type.Struct != nil:
		g.printf("%s.decode(r, v)\n", x)
	case f.Type.Name == "string" && nullable(f):
		g.printf("%s = r.NullString(%s, %s)\n", x, c, x)
		g.refuseNull(f, x)
	case f.Type.Name == "string":
		g.printf("%s = r.String(%s, %s)\n", x, c, x)
	case f.Type.Name == "bytes" && null == "false":
		g.printf("%s = r.Bytes(%s, %s)\n", x, c, x)
	case f.Type.Name == "bytes":
		g.printf("%s = r.NullBytes(%s, %s)\n", x, c, x)
		g.refuseNull(f, x)
	case f.Type.Name == "records":
		g.printf("%s = r.Records(%s, %s)\n", x, c, null)
	default:
		g.printf("%s = r.%s()\n", x, method(f.Type.Name))
	}
}

func (g *scope) refuseNull(f *schema.Field, x string) {
	if null := g.cond(f.Null); null != "true" {
		g.printf("if %s == nil && !(%s) {\nr.NullNotAllowed(%q)\n}\n", x, null, f.Name)
	}
}

// method names the Reader method and the Append function of a fixed-size type.
func method(name string) string {
	switch name {
	case "uuid":
		return "UUID"
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

func (g *scope) encode() {
	g.printf("func (m *%s) appendTo(b []byte, v int16, e *prim.Encoder) []byte {\n", g.name)
	for _, f := range g.s.Fields {
		x := "m." + f.Name
		if c := g.cond(g.ordinary(f)); c != "false" {
			g.open(c)
			g.write(f, x, false)
			g.shut(c)
		}
		if c := g.cond(f.Versions); c != "true" && !f.Ignorable {
			g.printf("if !(%s) && (%s) {\ne.Unsupported(%q, v)\n}\n", c, g.differs(f, x, false), g.name+"."+f.Name)
		}
	}
	if g.taggable {
		g.open(g.flex())
		g.writeTags()
		g.shut(g.flex())
	}
	g.printf("return b\n}\n\n")
}

func (g *scope) writeTags() {
	tagged := g.tagged()
	if len(tagged) == 0 {
		g.printf("b = prim.AppendTagSection(b, m.Tags)\n")
		return
	}
	g.printf("known := 0\n")
	for _, f := range tagged {
		g.printf("has%d := %s\nif has%d {\nknown++\n}\n", f.Tag, g.present(f), f.Tag)
	}
	g.printf("b = prim.AppendTagCount(b, known, m.Tags)\nat := 0\n")
	for _, f := range tagged {
		x := "m." + f.Name
		g.printf("if has%d {\nb, at = prim.AppendTagsBelow(b, m.Tags, at, %d)\nb = prim.AppendUvarint(b, %d)\n", f.Tag, f.Tag, f.Tag)
		g.printf("n := 0\n")
		g.measure(f, x, true)
		g.printf("b = prim.AppendUvarint(b, uint32(n))\n")
		g.write(f, x, true)
		g.printf("}\n")
	}
	g.printf("b = prim.AppendTagsFrom(b, m.Tags, at)\n")
}

// present returns the condition that the tagged field f is written.
func (g *scope) present(f *schema.Field) string {
	c := g.cond(f.TagRange.And(f.Versions))
	d := g.differs(f, "m."+f.Name, true)
	if c == "true" {
		return d
	}
	return fmt.Sprintf("(%s) && (%s)", c, d)
}

// write writes the statements that append x, a value of f, to b.
func (g *scope) write(f *schema.Field, x string, tagged bool) {
	c := g.compact(f)
	null := g.cond(f.Null)
	switch {
	case f.Type.Array:
		switch null {
		case "false":
			g.printf("b = prim.AppendLen(b, len(%s), %s, e)\n", x, c)
		case "true":
			g.printf("b = prim.AppendLen(b, prim.CountOrNull(%s), %s, e)\n", x, c)
		default:
			g.printf("if %s {\nb = prim.AppendLen(b, prim.CountOrNull(%s), %s, e)\n} else {\nb = prim.AppendLen(b, len(%s), %s, e)\n}\n", null, x, c, x, c)
		}
		g.printf("for i := range %s {\n", x)
		item := *f
		item.Type.Array, item.Null = false, schema.None
		g.write(&item, x+"[i]", false)
		g.printf("}\n")
	case f.Type.Struct != nil && nullable(f):
		no, yes := "0xff", "1"
		if tagged {
			no = "0"
		}
		g.printf("if %s == nil {\n", x)
		if null != "true" {
			g.printf("if !(%s) {\ne.NullNotAllowed(%q, v)\n}\n", null, g.name+"."+f.Name)
		}
		g.printf("b = append(b, %s)\n} else {\nb = append(b, %s)\nb = %s.appendTo(b, v, e)\n}\n", no, yes, x)
	case f.Type.Struct != nil:
		g.printf("b = %s.appendTo(b, v, e)\n", x)
	case f.Type.Name == "string" && nullable(f):
		if null != "true" {
			g.printf("if %s == nil && !(%s) {\ne.NullNotAllowed(%q, v)\n}\n", x, null, g.name+"."+f.Name)
		}
		g.printf("b = prim.AppendNullString(b, %s, %s, e)\n", x, c)
	case f.Type.Name == "string":
		g.printf("b = prim.AppendString(b, %s, %s, e)\n", x, c)
	case f.Type.Name == "bytes" && null == "true":
		g.printf("b = prim.AppendNullBytes(b, %s, %s, e)\n", x, c)
	case f.Type.Name == "bytes" && null == "false":
		g.printf("b = prim.AppendBytes(b, %s, %s, e)\n", x, c)
	case f.Type.Name == "bytes":
		g.printf("if %s {\nb = prim.AppendNullBytes(b, %s, %s, e)\n} else {\nb = prim.AppendBytes(b, %s, %s, e)\n}\n", null, x, c, x, c)
	case f.Type.Name == "records":
		if null != "true" {
			g.printf("if %s.IsNull() && !(%s) {\ne.NullNotAllowed(%q, v)\n}\n", x, null, g.name+"."+f.Name)
		}
		g.printf("b = prim.AppendRecords(b, %s, %s, e)\n", x, c)
	default:
		g.printf("b = prim.Append%s(b, %s)\n", method(f.Type.Name), x)
	}
}

func (g *scope) size() {
	g.printf("func (m *%s) size(v int16) (n int) {\n", g.name)
	for _, f := range g.s.Fields {
		if c := g.cond(g.ordinary(f)); c != "false" {
			g.open(c)
			g.measure(f, "m."+f.Name, false)
			g.shut(c)
		}
	}
	if g.taggable {
		g.open(g.flex())
		g.printf("known, n0 := prim.TagsSize(m.Tags)\n")
		for _, f := range g.tagged() {
			g.printf("if %s {\nknown++\nsum := n\nn = 0\n", g.present(f))
			g.measure(f, "m."+f.Name, true)
			g.printf("n += sum + prim.UvarintLen(uint32(n)) + %d\n}\n", uvarintLen(f.Tag))
		}
		g.printf("n += n0 + prim.UvarintLen(uint32(known))\n")
		g.shut(g.flex())
	}
	g.printf("return n\n}\n\n")
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// measure writes the statements that add the size of x, a value of f, to n.
func (g *scope) measure(f *schema.Field, x string, tagged bool) {
	c := g.compact(f)
	null := g.cond(f.Null)
	switch {
	case f.Type.Array:
		switch null {
		case "false":
			g.printf("n += prim.LenSize(len(%s), %s)\n", x, c)
		default:
			g.printf("n += prim.LenSize(prim.CountOrNull(%s), %s)\n", x, c)
		}
		if w := width(f.Type.Name); w > 0 {
			g.printf("n += %d * len(%s)\n", w, x)
			return
		}
		g.printf("for i := range %s {\n", x)
		item := *f
		item.Type.Array, item.Null = false, schema.None
		g.measure(&item, x+"[i]", false)
		g.printf("}\n")
	case f.Type.Struct != nil && nullable(f):
		g.printf("n++\nif %s != nil {\nn += %s.size(v)\n}\n", x, x)
	case f.Type.Struct != nil:
		g.printf("n += %s.size(v)\n", x)
	case f.Type.Name == "string" && nullable(f):
		g.printf("n += prim.NullStringSize(%s, %s)\n", x, c)
	case f.Type.Name == "string":
		g.printf("n += prim.StringSize(%s, %s)\n", x, c)
	case f.Type.Name == "bytes" && null == "false":
		g.printf("n += prim.BytesSize(len(%s), %s)\n", x, c)
	case f.Type.Name == "bytes":
		g.printf("n += prim.BytesSize(prim.CountOrNull(%s), %s)\n", x, c)
	case f.Type.Name == "records":
		g.printf("n += prim.RecordsSize(%s, %s)\n", x, c)
	default:
		g.printf("n += %d\n", width(f.Type.Name))
	}
}

// width returns the size of a fixed-size primitive, or 0.
func width(name string) int {
	switch name {
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
	}
	return 0
}

// message writes the exported methods of a top-level message.
func (g *scope) message(f *schema.File) {
	n := g.name
	g.printf("// MessageName returns %q.\nfunc (m *%s) MessageName() string { return %q }\n\n", n, n, n)
	if f.API != nil {
		g.printf("// APIKey returns the API key, %d.\nfunc (m *%s) APIKey() int16 { return %d }\n\n", f.API.Key, n, f.API.Key)
	}
	if g.m.ID >= 0 {
		g.printf("// RecordType returns the record type, %d.\nfunc (m *%s) RecordType() int16 { return %d }\n\n", g.m.ID, n, g.m.ID)
	}
	g.printf("// Versions returns the lowest and highest version.\nfunc (m *%s) Versions() (low, high int16) { return %d, %d }\n\n", n, g.versions.Min, g.versions.Max)
	g.printf(`// Decode reads all of b as a message of version v. Records and unknown tags
// alias b. Memory that m holds is used again.
func (m *%[1]s) Decode(b []byte, v int16) error {
r := prim.NewReader(b)
m.DecodeFrom(&r, v)
r.Done()
return r.Err()
}

// DecodeFrom reads a message of version v and latches its error in r.
func (m *%[1]s) DecodeFrom(r *prim.Reader, v int16) {
if v < %[2]d || v > %[3]d {
r.Fail(prim.VersionError(%[1]q, v))
return
}
m.decode(r, v)
}

// AppendTo appends m in version v to b.
func (m *%[1]s) AppendTo(b []byte, v int16) ([]byte, error) {
var e prim.Encoder
b = m.AppendSplit(b, v, &e)
return b, e.Err()
}

// AppendSplit appends m in version v to b, with the options of e, which also
// latches the error.
func (m *%[1]s) AppendSplit(b []byte, v int16, e *prim.Encoder) []byte {
if v < %[2]d || v > %[3]d {
e.Fail(prim.VersionError(%[1]q, v))
return b
}
return m.appendTo(b, v, e)
}

// Size returns the number of bytes that AppendTo appends.
func (m *%[1]s) Size(v int16) int { return m.size(v) }

`, n, g.versions.Min, g.versions.Max)
}
