package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Summary is what stands above every view: the cluster in three lines, and a fourth that says
// what goes wrong, if something does.
func (s *State) Summary(now time.Time, words string) []Line {
	if !s.Known() {
		out := []Line{{Text: "klamm top  " + now.Format("15:04:05") + words}}
		if what, err := s.Trouble(); err != nil {
			return append(out, Line{fmt.Sprintf("no %s yet: %s", what, oneLine(err)), Warning})
		}
		return append(out, Line{Text: "waiting for the first answer"})
	}
	c := s.total()
	controller := "none"
	if s.meta.Controller >= 0 {
		controller = fmt.Sprint(s.meta.Controller)
	}
	var gone []string
	up := 0
	for _, id := range s.brokerIDs() {
		if s.up(id) {
			up++
		} else {
			gone = append(gone, fmt.Sprint(id))
		}
	}
	brokers := fmt.Sprintf("brokers %d of %d", up, len(s.brokers))
	if len(gone) > 0 {
		brokers += ", gone: " + strings.Join(gone, " ")
	}
	rates := "-"
	if c.rated {
		rates = fmt.Sprintf("%s records/s  %s/s", shown(PerSecond(c.records)), shown(BytesRate(c.bytes)))
	}
	isr := Line{Text: fmt.Sprintf("under-replicated %d  under min ISR %d  offline %d  %s", c.underReplicated, c.underMin, c.offline, rates)}
	if c.underReplicated+c.underMin+c.offline > 0 {
		isr.Kind = Warning
	}
	out := []Line{
		{Text: fmt.Sprintf("klamm top  %s  cluster %s%s", now.Format("15:04:05"), printable(s.meta.Cluster.ID), words)},
		{Text: fmt.Sprintf("%s  controller %s  topics %d  partitions %d  groups %d", brokers, controller, len(s.meta.Topics), partitionsOf(s.meta.Topics), len(s.groups))},
		isr,
	}
	if len(gone) > 0 {
		out[1].Kind = Warning
	}
	if what, err := s.Trouble(); err != nil {
		age := ""
		if what == "metadata" {
			age = fmt.Sprintf(" for %v", now.Sub(s.meta.At).Round(time.Second))
		}
		out = append(out, Line{fmt.Sprintf("no new %s%s: %s", what, age, oneLine(err)), Warning})
	}
	return out
}

// oneLine is an error without what would break a line.
func oneLine(err error) string {
	return printable(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

// SortFirst sorts a view as it is sorted at first.
func SortFirst(v View, t *Table) { t.Sort(sorts[v].column, sorts[v].down) }

// Page is what of the state is shown, and how.
type Page struct {
	View   View
	Sort   int // column
	Down   bool
	Scroll int // rows that are above the screen
	Paused bool
	Help   bool
}

// sorts are how views are sorted at first.
var sorts = [views]struct {
	column int
	down   bool
}{Elections: {0, true}, ByGroup: {2, true}}

// helpLines say what the keys do.
var helpLines = []string{
	"1 2 3 4, tab    brokers, topics, groups, elections",
	"s, S            sort by the next column, or the other way round",
	"up down, j k    one row; PgUp PgDn a screen, Home End",
	"p, space        pause: nothing is asked until the next p",
	"?, h            this help",
	"q, ^C           quit",
	"",
	"A broker is gone that is fenced: it is down, or starts. Rates are of what was",
	"appended since the last look. Elections are those that happened meanwhile.",
}

// Frame returns what a screen of width and height shows; 0 means that there is no limit. The
// scroll of the page is brought into its bounds.
func (s *State) Frame(p *Page, now time.Time, width, height int) []Line {
	words := ""
	if p.Paused {
		words = "  PAUSED"
	}
	out := s.Summary(now, words)
	foot := Line{Text: footer(p)}
	if p.Help {
		out = append(out, Line{})
		for _, h := range helpLines {
			out = append(out, Line{Text: h})
		}
	} else {
		t := s.Table(p.View)
		p.Sort = min(p.Sort, len(t.Columns)-1)
		t.Sort(p.Sort, p.Down)
		lines := t.Lines()
		out = append(out, Line{}, lines[0])
		rows, room := lines[1:], len(lines)
		if height > 0 {
			room = max(height-len(out)-1, 1)
		}
		p.Scroll = max(min(p.Scroll, len(rows)-room), 0)
		rows = rows[p.Scroll:]
		out = append(out, rows[:min(room, len(rows))]...)
		if len(t.Rows) == 0 {
			out = append(out, Line{Text: nothing[p.View]})
		}
		foot.Text += " by " + t.Columns[p.Sort]
	}
	foot.Text += "  ? help  q quit"
	if height > 0 {
		// The keys stand in the last line. Where there is no room, the table goes before the summary.
		out = out[:min(len(out), max(height-1, 1))]
		for len(out) < height-1 {
			out = append(out, Line{})
		}
		if height > 1 {
			out = append(out, foot)
		}
	}
	out = slices.Clone(out)
	for i := range out {
		out[i].Text = Cut(out[i].Text, width)
	}
	return out
}

// nothing is what an empty view says.
var nothing = [views]string{"no brokers", "no topics", "no groups", "no elections since this began"}

// footer names the views.
func footer(p *Page) string {
	var b strings.Builder
	for v := range views {
		name := fmt.Sprintf("%d %s", v+1, v)
		if v == p.View && !p.Help {
			name = "[" + name + "]"
		}
		b.WriteString(name + " ")
	}
	return b.String()
}

// Cut cuts a line to a width; 0 means that there is no limit.
func Cut(s string, width int) string {
	if width <= 0 || text.StringWidthWithoutEscSequences(s) <= width {
		return s
	}
	return text.Trim(s, width)
}
