// Package schema holds the message schemas of the Kafka protocol (release
// 4.3.1) and parses them. The notation is described in README.md beside this file.
// Package wire/gen turns the schemas into Go; tests walk messages with them.
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
)

//go:embed messages/*.msg data/*.msg
var files embed.FS

// Range is a closed range of versions; it is empty if Max < Min.
type Range struct{ Min, Max int16 }

// None is the empty range.
var None = Range{0, -1}

// Empty reports whether r holds no version.
func (r Range) Empty() bool { return r.Max < r.Min }

// Has reports whether v is in r.
func (r Range) Has(v int16) bool { return r.Min <= v && v <= r.Max }

// And returns the versions in both ranges.
func (r Range) And(o Range) Range {
	out := Range{max(r.Min, o.Min), min(r.Max, o.Max)}
	if out.Empty() {
		return None
	}
	return out
}

// Type is the type of a field.
type Type struct {
	Array bool
	// Name is a primitive of the notation (bool, int8 ... uuid) or the name of a
	// struct.
	Name   string
	Struct *Struct // nil for a primitive
}

// Field is one field of a message or struct.
type Field struct {
	Name       string
	Type       Type
	Versions   Range
	Null       Range // versions in which the value may be null
	Tag        int   // -1 for an ordinary field
	TagRange   Range // versions in which it is a tagged field
	Default    string
	HasDefault bool
	Ignorable  bool
	Inflexible bool // keeps the ordinary form in flexible versions too
}

// Tagged reports whether f is written as a tagged field in version v.
func (f *Field) Tagged(v int16) bool { return f.Tag >= 0 && f.TagRange.Has(v) }

// Struct is a named group of fields, local to its message.
type Struct struct {
	Name     string
	Versions Range
	Fields   []*Field
}

// Message is a request, a response, or one of the kinds that stand in logs and
// files.
type Message struct {
	Kind     string // request response header data key value metadata
	Name     string
	ID       int // record type of a key, value or metadata message; else -1
	Versions Range
	Flexible Range
	Root     *Struct
	Structs  []*Struct // every struct below Root, in order of appearance
}

// API is one request and response pair.
type API struct {
	Key            int16
	Name, Enum     string
	Listeners      []string
	Versions       Range
	Flexible       Range
	Unstable       int16 // the version that is not advertised; -1 none
	RequestHeader  map[int16]Range
	ResponseHeader map[int16]Range
	ClusterAction  bool
	Forwardable    bool
}

// File is one schema file: an API with its two messages, or data messages.
type File struct {
	Path     string // messages/00_Produce.msg
	API      *API   // nil in data files
	Messages []*Message
}

// Load parses every schema.
func Load() ([]*File, error) {
	var out []*File
	for _, dir := range []string{"messages", "data"} {
		entries, err := fs.ReadDir(files, dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			text, err := files.ReadFile(name)
			if err != nil {
				return nil, err
			}
			f, err := Parse(name, string(text))
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
	}
	return out, nil
}

type line struct {
	depth  int
	fields []string
	number int
}

type parser struct {
	path  string
	lines []line
	pos   int
	file  *File
	msg   *Message
}

// Parse parses one schema file.
func Parse(path, text string) (*File, error) {
	p := &parser{path: path, file: &File{Path: path}}
	for i, raw := range strings.Split(text, "\n") {
		if at := strings.IndexByte(raw, '#'); at >= 0 {
			raw = raw[:at]
		}
		trimmed := strings.TrimLeft(raw, " ")
		if fields := strings.Fields(trimmed); len(fields) > 0 {
			p.lines = append(p.lines, line{(len(raw) - len(trimmed)) / 2, fields, i + 1})
		}
	}
	for p.pos < len(p.lines) {
		l := p.lines[p.pos]
		var err error
		switch {
		case l.depth != 0:
			err = fmt.Errorf("unexpected indent")
		case l.fields[0] == "api":
			err = p.api(l)
		default:
			err = p.message(l)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, p.lines[min(p.pos, len(p.lines)-1)].number, err)
		}
	}
	return p.file, nil
}

func (p *parser) api(l line) error {
	key, err := strconv.ParseInt(l.fields[1], 10, 16)
	if err != nil {
		return err
	}
	a := &API{Key: int16(key), Name: l.fields[2], Enum: l.fields[3], Unstable: -1}
	p.pos++
	for ; p.pos < len(p.lines) && p.lines[p.pos].depth == 1; p.pos++ {
		f := p.lines[p.pos].fields
		switch f[0] {
		case "listeners":
			a.Listeners = f[1:]
		case "versions":
			a.Versions, err = parseRange(f[1])
		case "flexible":
			a.Flexible, err = parseRange(f[1])
		case "unstable":
			if f[1] != "none" {
				var n int64
				n, err = strconv.ParseInt(f[1], 10, 16)
				a.Unstable = int16(n)
			}
		case "request-header":
			a.RequestHeader, err = headerRanges(f[1:])
		case "response-header":
			a.ResponseHeader, err = headerRanges(f[1:])
		case "cluster-action":
			a.ClusterAction = f[1] == "yes"
		case "forwardable":
			a.Forwardable = f[1] == "yes"
		case "deprecated":
		default:
			err = fmt.Errorf("unknown api attribute %q", f[0])
		}
		if err != nil {
			return err
		}
	}
	p.file.API = a
	return nil
}

func headerRanges(fields []string) (map[int16]Range, error) {
	out := make(map[int16]Range)
	for _, f := range fields {
		h, text, ok := strings.Cut(f, "@")
		n, err := strconv.ParseInt(h, 10, 16)
		if !ok || err != nil {
			return nil, fmt.Errorf("header version %q", f)
		}
		if out[int16(n)], err = parseRange(text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (p *parser) message(l line) error {
	m := &Message{Kind: l.fields[0], Name: upperFirst(l.fields[1]), ID: -1}
	var err error
	for _, attr := range l.fields[2:] {
		k, v, _ := strings.Cut(attr, "=")
		switch k {
		case "id":
			m.ID, err = strconv.Atoi(v)
		case "versions":
			m.Versions, err = parseRange(v)
		case "flexible":
			m.Flexible, err = parseRange(v)
		default:
			err = fmt.Errorf("unknown message attribute %q", attr)
		}
		if err != nil {
			return err
		}
	}
	m.Root = &Struct{Name: m.Name, Versions: m.Versions}
	p.msg = m
	p.pos++
	if err := p.members(m.Root, 1); err != nil {
		return err
	}
	if err := resolve(m); err != nil {
		return err
	}
	p.file.Messages = append(p.file.Messages, m)
	return nil
}

// members parses the lines of the given depth into s.
func (p *parser) members(s *Struct, depth int) error {
	for p.pos < len(p.lines) && p.lines[p.pos].depth == depth {
		l := p.lines[p.pos]
		if l.fields[0] == "struct" {
			r, err := parseRange(l.fields[2])
			if err != nil {
				return err
			}
			named := &Struct{Name: upperFirst(l.fields[1]), Versions: r}
			p.msg.Structs = append(p.msg.Structs, named)
			p.pos++
			if err := p.members(named, depth+1); err != nil {
				return err
			}
			continue
		}
		f, err := parseField(l.fields)
		if err != nil {
			return err
		}
		s.Fields = append(s.Fields, f)
		p.pos++
		if p.pos < len(p.lines) && p.lines[p.pos].depth == depth+1 {
			inline := &Struct{Name: f.Type.Name, Versions: Range{0, math.MaxInt16}}
			f.Type.Struct = inline
			p.msg.Structs = append(p.msg.Structs, inline)
			if err := p.members(inline, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func parseField(fields []string) (*Field, error) {
	f := &Field{Name: upperFirst(fields[0]), Tag: -1, Null: None, TagRange: None}
	f.Type.Name, f.Type.Array = strings.CutPrefix(fields[1], "[]")
	if !Primitive(f.Type.Name) {
		f.Type.Name = upperFirst(f.Type.Name)
	}
	var err error
	if f.Versions, err = parseRange(fields[2]); err != nil {
		return nil, err
	}
	for _, attr := range fields[3:] {
		k, v, _ := strings.Cut(attr, "=")
		switch k {
		case "null":
			f.Null, err = parseRange(v)
		case "tag":
			tag, text, _ := strings.Cut(v, "@")
			if f.Tag, err = strconv.Atoi(tag); err == nil {
				f.TagRange, err = parseRange(text)
			}
		case "default":
			f.Default, f.HasDefault = v, true
		case "ignorable":
			f.Ignorable = true
		case "flex":
			f.Inflexible = v == "none"
		case "key", "entity", "zerocopy":
		default:
			err = fmt.Errorf("unknown field attribute %q", attr)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return f, nil
}

// resolve points every struct-typed field at its struct.
func resolve(m *Message) error {
	byName := make(map[string]*Struct)
	for _, s := range m.Structs {
		byName[s.Name] = s
	}
	for _, s := range append([]*Struct{m.Root}, m.Structs...) {
		for _, f := range s.Fields {
			if f.Type.Struct != nil || Primitive(f.Type.Name) {
				continue
			}
			if f.Type.Struct = byName[f.Type.Name]; f.Type.Struct == nil {
				return fmt.Errorf("%s.%s: unknown type %q", s.Name, f.Name, f.Type.Name)
			}
		}
	}
	return nil
}

var primitives = []string{"bool", "int8", "int16", "int32", "int64", "uint16", "uint32", "float64", "string", "bytes", "records", "uuid"}

// Primitive reports whether name is a primitive type of the notation.
func Primitive(name string) bool { return slices.Contains(primitives, name) }

func parseRange(s string) (Range, error) {
	if s == "none" {
		return None, nil
	}
	low, open := strings.CutSuffix(s, "+")
	low, high, closed := strings.Cut(low, "-")
	a, err := strconv.ParseInt(low, 10, 16)
	b := a
	switch {
	case err != nil:
	case open:
		b = math.MaxInt16
	case closed:
		b, err = strconv.ParseInt(high, 10, 16)
	}
	if err != nil {
		return None, fmt.Errorf("version range %q: %w", s, err)
	}
	return Range{int16(a), int16(b)}, nil
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
