package conformance_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/klamm-io/klamm/wire/schema"
)

// object is a message or a struct in one, by the names of its fields. A field
// holds a bool, an int64, a string, bytes, a uuid, a list, an object, or nil for
// null. One that is not in the object has its default.
type object = map[string]any

type (
	list = []any
	uuid [16]byte
)

// extraTag is the field that stands for a tagged field which no schema knows.
const extraTag = "+tag"

// encoder writes messages by their schema, and also what a schema forbids: a null
// where there is to be none, or a string that is too long.
type encoder struct {
	version  int16
	flexible bool
}

// encode appends a message in a version.
func encode(b []byte, m *schema.Message, version int16, o object) []byte {
	e := encoder{version, m.Flexible.Has(version)}
	return e.structure(b, m.Root, o)
}

func (e encoder) structure(b []byte, s *schema.Struct, o object) []byte {
	tags := make(map[int][]byte)
	known := 0
	for _, f := range s.Fields {
		v, ok := o[f.Name]
		if ok {
			known++
		}
		if !f.Versions.Has(e.version) {
			continue
		}
		if f.Tagged(e.version) {
			if ok {
				tags[f.Tag] = e.field(nil, f, v)
			}
			continue
		}
		if !ok {
			v = defaultOf(f)
		}
		b = e.field(b, f, v)
	}
	if extra, ok := o[extraTag]; ok {
		known++
		tags[4242] = extra.([]byte)
	}
	if known != len(o) {
		panic(fmt.Sprintf("%s has no such field: %v", s.Name, o))
	}
	if !e.flexible {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(tags)))
	numbers := make([]int, 0, len(tags))
	for n := range tags {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, uint64(n))
		b = binary.AppendUvarint(b, uint64(len(tags[n])))
		b = append(b, tags[n]...)
	}
	return b
}

func (e encoder) field(b []byte, f *schema.Field, v any) []byte {
	if !f.Type.Array {
		return e.value(b, f, f.Type, v)
	}
	l, ok := v.(list)
	if !ok {
		return e.length(b, -1, 4)
	}
	b = e.length(b, len(l), 4)
	for _, v := range l {
		b = e.value(b, f, f.Type, v)
	}
	return b
}

// length appends the length of a list, string or bytes, -1 for null. Its
// ordinary form has width bytes.
func (e encoder) length(b []byte, n, width int) []byte {
	switch {
	case e.flexible:
		return binary.AppendUvarint(b, uint64(n+1))
	case width == 2:
		return binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func (e encoder) value(b []byte, f *schema.Field, t schema.Type, v any) []byte {
	if t.Struct != nil {
		o, ok := v.(object)
		switch {
		case !f.Null.Has(e.version) || t.Array:
			return e.structure(b, t.Struct, o)
		case !ok:
			return append(b, 0xff)
		}
		return e.structure(append(b, 1), t.Struct, o)
	}
	switch t.Name {
	case "bool":
		if v.(bool) {
			return append(b, 1)
		}
		return append(b, 0)
	case "int8":
		return append(b, byte(v.(int64)))
	case "int16", "uint16":
		return binary.BigEndian.AppendUint16(b, uint16(v.(int64)))
	case "int32", "uint32":
		return binary.BigEndian.AppendUint32(b, uint32(v.(int64)))
	case "int64":
		return binary.BigEndian.AppendUint64(b, uint64(v.(int64)))
	case "uuid":
		id := v.(uuid)
		return append(b, id[:]...)
	case "string":
		if v == nil {
			return e.length(b, -1, 2)
		}
		return append(e.length(b, len(v.(string)), 2), v.(string)...)
	case "bytes", "records":
		if v == nil {
			return e.length(b, -1, 4)
		}
		return append(e.length(b, len(v.([]byte)), 4), v.([]byte)...)
	}
	panic("no type of a request: " + t.Name)
}

// defaultOf returns what a field holds that nobody has set.
func defaultOf(f *schema.Field) any {
	switch {
	case f.HasDefault && f.Default == "null":
		return nil
	case f.Type.Array:
		return list{}
	case f.Type.Struct != nil:
		return object{}
	}
	switch f.Type.Name {
	case "bool":
		return f.Default == "true"
	case "string":
		return f.Default
	case "bytes":
		return []byte{}
	case "records":
		return nil
	case "uuid":
		return uuid{}
	}
	n, _ := strconv.ParseInt(f.Default, 10, 64)
	return n
}

// decoder reads messages by their schema. Its methods panic with an
// invalidAnswer.
type decoder struct {
	encoder
	b []byte
}

type invalidAnswer string

// decode reads a message that is the whole of b.
func decode(b []byte, m *schema.Message, version int16) (o object, err error) {
	d := decoder{encoder{version, m.Flexible.Has(version)}, b}
	defer func() {
		if e, ok := recover().(invalidAnswer); ok {
			err = fmt.Errorf("%s version %d: %s", m.Name, version, string(e))
		}
	}()
	o = d.structure(m.Root)
	if len(d.b) > 0 {
		return o, fmt.Errorf("%s version %d: %d bytes too many", m.Name, version, len(d.b))
	}
	return o, nil
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		panic(invalidAnswer(fmt.Sprintf("%d bytes wanted, %d left", n, len(d.b))))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uvarint() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > math.MaxInt32 {
		panic(invalidAnswer("bad varint"))
	}
	d.take(n)
	return int(v)
}

func (d *decoder) length(width int) int {
	switch {
	case d.flexible:
		return d.uvarint() - 1
	case width == 2:
		return int(int16(binary.BigEndian.Uint16(d.take(2))))
	}
	return int(int32(binary.BigEndian.Uint32(d.take(4))))
}

func (d *decoder) structure(s *schema.Struct) object {
	o := make(object)
	tagged := make(map[int]*schema.Field)
	for _, f := range s.Fields {
		switch {
		case !f.Versions.Has(d.version):
		case f.Tagged(d.version):
			tagged[f.Tag] = f
			o[f.Name] = "default"
		default:
			o[f.Name] = d.field(f)
		}
	}
	if !d.flexible {
		return o
	}
	for range d.uvarint() {
		tag, size := d.uvarint(), d.uvarint()
		f := tagged[tag]
		if f == nil {
			o[fmt.Sprintf("tag %d", tag)] = slices.Clone(d.take(size))
			continue
		}
		inner := decoder{d.encoder, d.take(size)}
		o[f.Name] = inner.field(f)
		if len(inner.b) > 0 {
			panic(invalidAnswer("bytes behind the tagged field " + f.Name))
		}
	}
	return o
}

func (d *decoder) field(f *schema.Field) any {
	if !f.Type.Array {
		return d.value(f, f.Type)
	}
	n := d.length(4)
	if n < 0 {
		return nil
	}
	l := make(list, 0, min(n, len(d.b)))
	for range n {
		l = append(l, d.value(f, f.Type))
	}
	return l
}

func (d *decoder) value(f *schema.Field, t schema.Type) any {
	if t.Struct != nil {
		if f.Null.Has(d.version) && !t.Array && int8(d.take(1)[0]) < 0 {
			return nil
		}
		return d.structure(t.Struct)
	}
	switch t.Name {
	case "bool":
		return d.take(1)[0] != 0
	case "int8":
		return int64(int8(d.take(1)[0]))
	case "int16":
		return int64(int16(binary.BigEndian.Uint16(d.take(2))))
	case "uint16":
		return int64(binary.BigEndian.Uint16(d.take(2)))
	case "int32":
		return int64(int32(binary.BigEndian.Uint32(d.take(4))))
	case "uint32":
		return int64(binary.BigEndian.Uint32(d.take(4)))
	case "int64":
		return int64(binary.BigEndian.Uint64(d.take(8)))
	case "uuid":
		return uuid(d.take(16))
	case "string":
		n := d.length(2)
		if n < 0 {
			return nil
		}
		return string(d.take(n))
	case "bytes", "records":
		n := d.length(4)
		if n < 0 {
			return nil
		}
		return slices.Clone(d.take(n))
	}
	panic(invalidAnswer("no type of an answer: " + t.Name))
}
