package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// printer prints rows in the format that --format names. The names of columns
// in JSON and YAML do not change between versions.
type printer struct {
	w      io.Writer
	format string
	width  int // of the terminal that tables must fit, 0 for none
}

func newPrinter(w io.Writer, format string) (*printer, error) {
	switch format {
	case "table", "json", "yaml", "tsv":
		return &printer{w, format, terminalWidth(w)}, nil
	}
	return nil, usagef("--format %q: want table, json, yaml or tsv", format)
}

// rows are results in columns. A value is a string, a number, a bool, nil, or a
// slice of these.
type rows struct {
	columns []string // as they stand in JSON; tables show them in capitals
	values  [][]any

	n      int               // rows added
	stream func([]any) error // takes rows instead of values, if not nil
	err    error             // of stream
}

func (r *rows) add(values ...any) {
	r.n++
	switch {
	case r.stream == nil:
		r.values = append(r.values, values)
	case r.err == nil:
		r.err = r.stream(values)
	}
}

// object returns one row as named values.
func (r *rows) object(values []any) object {
	o := object{}
	for i, c := range r.columns {
		o = append(o, field{c, values[i]})
	}
	return o
}

// objects returns the rows as lists of named values, in order.
func (r *rows) objects() []object {
	out := make([]object, 0, len(r.values))
	for _, v := range r.values {
		out = append(out, r.object(v))
	}
	return out
}

// object is a JSON or YAML object that keeps the order of its fields.
type object []field

type field struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// MarshalYAML implements yaml.Marshaler.
func (o object) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range o {
		var key, value yaml.Node
		key.SetString(f.name)
		if err := value.Encode(f.value); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &key, &value)
	}
	return n, nil
}

// print prints rows; with title, a table stands under it.
func (p *printer) print(title string, r *rows) error {
	switch p.format {
	case "json":
		return p.json(r.objects())
	case "yaml":
		return p.yaml(r.objects())
	case "tsv":
		for _, v := range r.values {
			if err := p.line(v); err != nil {
				return err
			}
		}
		return nil
	}
	if title != "" {
		if _, err := fmt.Fprintln(p.w, title); err != nil {
			return err
		}
	}
	for _, line := range newGrid(r).render(p.width) {
		if _, err := fmt.Fprintln(p.w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

var oneLine = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

// line prints a row of TSV.
func (p *printer) line(values []any) error {
	cells := make([]string, len(values))
	for i, x := range values {
		cells[i] = toTSV.Replace(cell(x))
	}
	_, err := fmt.Fprintln(p.w, strings.Join(cells, "\t"))
	return err
}

func (p *printer) json(v any) error {
	e := json.NewEncoder(p.w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (p *printer) yaml(v any) error {
	e := yaml.NewEncoder(p.w)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return err
	}
	return e.Close()
}

// cell is a value as a table or TSV shows it.
func cell(x any) string {
	switch v := x.(type) {
	case nil:
		return "-"
	case *string:
		if v == nil {
			return "-"
		}
		return *v
	case []int32:
		parts := make([]string, len(v))
		for i, n := range v {
			parts[i] = fmt.Sprint(n)
		}
		return "[" + strings.Join(parts, " ") + "]"
	case []string:
		return strings.Join(v, ",")
	case float64:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprint(x)
}
