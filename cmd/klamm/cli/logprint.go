package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
)

// dumper prints the rows of one file, or of several with their names. JSON and
// TSV are printed row for row, so that a file may be larger than memory; a table
// and YAML of several files need all rows first.
type dumper struct {
	p       *printer
	w       *bufio.Writer
	several bool
	files   int // begun
	name    string
	kind    string
	rows    *rows // of the file at hand, nil before it begins
	all     []object
	buf     bytes.Buffer
}

func newDumper(p *printer, several bool) *dumper {
	w := bufio.NewWriterSize(p.w, 64<<10)
	return &dumper{p: &printer{w, p.format, p.width}, w: w, several: several}
}

// begin begins a file, whose rows are added to what it returns.
func (d *dumper) begin(name, kind string, columns []string) *rows {
	r := &rows{columns: columns}
	d.name, d.kind, d.rows = name, kind, r
	switch d.p.format {
	case "tsv":
		r.stream = func(values []any) error {
			if d.several { // the name is a column
				values = append([]any{name}, values...)
			}
			return d.p.line(values)
		}
	case "json":
		r.err = d.beginJSON()
		r.stream = d.addJSON
	}
	d.files++
	return r
}

// indent is where the rows of a file stand in JSON.
func (d *dumper) indent() string {
	if d.several {
		return "      "
	}
	return "  "
}

func (d *dumper) beginJSON() error {
	if !d.several {
		_, err := io.WriteString(d.w, "[")
		return err
	}
	head := "[\n"
	if d.files > 0 {
		head = ",\n"
	}
	name, err := quoted(d.name)
	if err != nil {
		return err
	}
	kind, err := quoted(d.kind)
	if err != nil {
		return err
	}
	_, err = io.WriteString(d.w, head+"  {\n    \"file\": "+name+",\n    \"kind\": "+kind+",\n    \"rows\": [")
	return err
}

// quoted is a string in JSON.
func quoted(s string) (string, error) {
	b, err := json.Marshal(s)
	return string(b), err
}

func (d *dumper) addJSON(values []any) error {
	d.buf.Reset()
	if d.rows.n > 1 {
		d.buf.WriteByte(',')
	}
	d.buf.WriteString("\n" + d.indent())
	e := json.NewEncoder(&d.buf)
	e.SetIndent(d.indent(), "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(d.rows.object(values)); err != nil {
		return err
	}
	_, err := d.w.Write(bytes.TrimRight(d.buf.Bytes(), "\n"))
	return err
}

// end ends the file that was begun, if one was.
func (d *dumper) end() error {
	r := d.rows
	d.rows = nil
	if r == nil {
		return nil
	}
	if r.err != nil {
		return r.err
	}
	switch d.p.format {
	case "tsv":
		return nil
	case "json":
		tail := "]"
		if r.n > 0 {
			tail = "\n" + d.indent()[2:] + "]"
		}
		if d.several {
			tail += "\n  }"
		} else {
			tail += "\n"
		}
		_, err := io.WriteString(d.w, tail)
		return err
	case "yaml":
		if d.several {
			d.all = append(d.all, object{{"file", d.name}, {"kind", d.kind}, {"rows", r.objects()}})
			return nil
		}
	}
	title := ""
	if d.several {
		title = d.name
	}
	return d.p.print(title, r)
}

// close prints what is left.
func (d *dumper) close() error {
	if d.several {
		switch {
		case d.p.format == "yaml":
			if err := d.p.yaml(d.all); err != nil {
				return err
			}
		case d.p.format == "json" && d.files == 0:
			d.w.WriteString("[]\n")
		case d.p.format == "json":
			d.w.WriteString("\n]\n")
		}
	}
	return d.w.Flush()
}
