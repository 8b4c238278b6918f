package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/klamm-io/klamm/client"
)

// View is one of the tables that are shown.
type View int

// The views, in the order of their keys.
const (
	Brokers View = iota
	Topics
	ByGroup
	Elections
	views
)

var viewNames = [views]string{"brokers", "topics", "groups", "elections"}

func (v View) String() string { return viewNames[v] }

// ViewNames returns the names of the views.
func ViewNames() []string { return viewNames[:] }

// ParseView returns the view of a name.
func ParseView(name string) (View, bool) {
	i := slices.Index(viewNames[:], name)
	return View(i), i >= 0
}

// Table is a view with its values: strings, numbers, times, or nil for what is not known.
type Table struct {
	Columns []string
	Rows    []Row
}

// Row is a row of a table.
type Row struct {
	Values []any
	Bad    bool // somebody should look
}

// Bytes is a number of bytes, and PerSecond one of anything; people are shown them rounded.
type (
	Bytes     int64
	PerSecond float64
	BytesRate float64
)

// rateOf returns a rate, nil if it is not known.
func rateOf[T ~float64](x float64, known bool) any {
	if !known {
		return nil
	}
	return T(x)
}

// Table returns a view.
func (s *State) Table(v View) Table {
	switch v {
	case Topics:
		return s.topicTable()
	case ByGroup:
		return s.groupTable()
	case Elections:
		return s.electionTable()
	}
	return s.brokerTable()
}

func (s *State) brokerTable() Table {
	t := Table{Columns: []string{"id", "state", "controller", "leaders", "replicas", "out_of_sync", "records_per_second", "bytes_per_second", "disk", "address", "rack"}}
	type has struct {
		leaders, replicas, outOfSync int
		of                           count
	}
	all := make(map[int32]*has)
	for _, id := range s.brokerIDs() {
		all[id] = new(has)
	}
	for i := range s.meta.Topics {
		topic := &s.meta.Topics[i]
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			for _, id := range p.Replicas {
				h := all[id]
				if h == nil { // it was unregistered before anybody looked
					h = new(has)
					all[id] = h
				}
				h.replicas++
				if !slices.Contains(p.ISR, id) {
					h.outOfSync++
				}
				if p.Leader == id {
					h.leaders++
					h.of.add(s, topic, p)
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		h := all[id]
		known := h.leaders == 0 || h.of.rated // who leads nothing takes nothing
		b, up := s.brokers[id], s.up(id)
		state, disk := "up", any(nil)
		if !up {
			state = "gone"
		}
		if d, ok := s.disk[id]; ok && up {
			disk = Bytes(d)
		}
		var addr, rack any
		if b.Host != "" {
			addr = b.Addr()
		}
		if b.Rack != "" {
			rack = b.Rack
		}
		t.Rows = append(t.Rows, Row{[]any{int64(id), state, id == s.meta.Controller, int64(h.leaders), int64(h.replicas), int64(h.outOfSync),
			rateOf[PerSecond](h.of.records, up && known), rateOf[BytesRate](h.of.bytes, up && known), disk, addr, rack}, !up || h.outOfSync > 0})
	}
	return t
}

func (s *State) topicTable() Table {
	t := Table{Columns: []string{"topic", "partitions", "under_replicated", "under_min_isr", "offline", "min_isr", "records_per_second", "bytes_per_second", "size", "replicas"}}
	for i := range s.meta.Topics {
		topic := &s.meta.Topics[i]
		var c count
		replicas := 0
		for j := range topic.Partitions {
			c.add(s, topic, &topic.Partitions[j])
			replicas = max(replicas, len(topic.Partitions[j].Replicas))
		}
		var least any
		if n, ok := s.minISR[topic.Name]; ok {
			least = int64(n)
		}
		t.Rows = append(t.Rows, Row{[]any{topic.Name, int64(c.partitions), int64(c.underReplicated), int64(c.underMin), int64(c.offline), least,
			rateOf[PerSecond](c.records, c.rated), rateOf[BytesRate](c.bytes, c.rated), Bytes(c.size), int64(replicas)}, c.underReplicated+c.underMin+c.offline > 0})
	}
	return t
}

func (s *State) groupTable() Table {
	t := Table{Columns: []string{"group", "state", "lag", "partitions", "coordinator"}}
	for i := range s.groups {
		g := &s.groups[i]
		var behind any
		if lag, known := s.lag(g); known {
			behind = lag
		}
		t.Rows = append(t.Rows, Row{[]any{g.ID, g.State, behind, int64(len(g.Committed)), int64(g.Coordinator)}, g.State == "Dead"})
	}
	return t
}

func (s *State) electionTable() Table {
	t := Table{Columns: []string{"time", "what", "from", "to", "epoch"}}
	who := func(id int32) any {
		if id < 0 {
			return nil
		}
		return int64(id)
	}
	for _, e := range s.elections {
		what, epoch := fmt.Sprintf("%s-%d", e.TP.Topic, e.TP.Partition), any(int64(e.Epoch))
		if e.Controller {
			what, epoch = "controller", nil
		}
		t.Rows = append(t.Rows, Row{[]any{e.At, what, who(e.From), who(e.To), epoch}, e.To < 0})
	}
	return t
}

// Sort sorts rows by a column, and where that is equal by the first one. What is not known
// comes last.
func (t *Table) Sort(column int, down bool) {
	slices.SortStableFunc(t.Rows, func(a, b Row) int {
		x, y := a.Values[column], b.Values[column]
		if (x == nil) != (y == nil) {
			if x == nil {
				return 1
			}
			return -1
		}
		c := compare(x, y)
		if down {
			c = -c
		}
		return cmp.Or(c, compare(a.Values[0], b.Values[0]))
	})
}

func compare(x, y any) int {
	switch x := x.(type) {
	case string:
		return strings.Compare(x, y.(string))
	case int64:
		return cmp.Compare(x, y.(int64))
	case Bytes:
		return cmp.Compare(x, y.(Bytes))
	case PerSecond:
		return cmp.Compare(x, y.(PerSecond))
	case BytesRate:
		return cmp.Compare(x, y.(BytesRate))
	case time.Time:
		return x.Compare(y.(time.Time))
	case bool:
		if x == y.(bool) {
			return 0
		}
		if x {
			return -1
		}
		return 1
	}
	return 0
}

// Line is a line of a frame.
type Line struct {
	Text string
	Kind Kind
}

// Kind says what a line is, for who has colors.
type Kind int

// The kinds of lines.
const (
	Plain Kind = iota
	Heading
	Warning
)

// gap stands between columns.
const gap = 2

// Lines returns the table as lines: the heading and the rows.
func (t *Table) Lines() []Line {
	cells, widths, right := t.cells()
	var out []Line
	for i, row := range cells {
		var b strings.Builder
		for j, c := range row {
			pad := strings.Repeat(" ", widths[j]-text.StringWidthWithoutEscSequences(c))
			if right[j] {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
			b.WriteString(strings.Repeat(" ", gap))
		}
		l := Line{Text: strings.TrimRight(b.String(), " ")}
		switch {
		case i == 0:
			l.Kind = Heading
		case t.Rows[i-1].Bad:
			l.Kind = Warning
		}
		out = append(out, l)
	}
	return out
}

// cells returns the heading and the rows as text, how wide each column is, and whether it has
// numbers.
func (t *Table) cells() (cells [][]string, widths []int, right []bool) {
	widths, right = make([]int, len(t.Columns)), make([]bool, len(t.Columns))
	row := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		row[i] = heading(c)
	}
	cells = append(cells, row)
	for _, r := range t.Rows {
		row := make([]string, len(t.Columns))
		for i, v := range r.Values {
			row[i] = shown(v)
			switch v.(type) {
			case int64, Bytes, PerSecond, BytesRate:
				right[i] = true
			}
		}
		cells = append(cells, row)
	}
	for _, row := range cells {
		for i, c := range row {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(c))
		}
	}
	return cells, widths, right
}

// headings are those of columns whose names are too long for a screen.
var headings = map[string]string{"records_per_second": "REC/S", "bytes_per_second": "BYTES/S", "under_replicated": "UNDER-REPL", "under_min_isr": "UNDER-MIN",
	"controller": "CTRL", "out_of_sync": "OUT-OF-SYNC"}

func heading(column string) string {
	if h, ok := headings[column]; ok {
		return h
	}
	return strings.ToUpper(strings.ReplaceAll(column, "_", "-"))
}

// shown is a value as people are shown it.
func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case bool:
		if v {
			return "*"
		}
		return ""
	case Bytes:
		return human(float64(v)) + "B"
	case BytesRate:
		return human(float64(v)) + "B"
	case PerSecond:
		return human(float64(v))
	case time.Time:
		return v.Format("15:04:05")
	case string:
		return printable(v)
	}
	return fmt.Sprint(v)
}

// printable replaces what would move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// human is a number of three or four digits.
func human(x float64) string {
	const units = " kMGTPE"
	u := 0
	for ; x >= 999.5 && u < len(units)-1; u++ {
		x /= 1000
	}
	unit := strings.TrimSpace(units[u : u+1])
	switch {
	case x == 0:
		return "0"
	case x < 9.95 && (u > 0 || x != float64(int64(x))):
		return fmt.Sprintf("%.1f%s", x, unit)
	}
	return fmt.Sprintf("%.0f%s", x, unit)
}

// partitionsOf counts the partitions of topics.
func partitionsOf(topics []client.TopicInfo) (n int) {
	for _, t := range topics {
		n += len(t.Partitions)
	}
	return n
}
