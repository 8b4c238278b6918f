package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// terminalWidth returns the columns of a terminal, 0 for what is none.
func terminalWidth(w io.Writer) int {
	f := file(w)
	if f == nil {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

const (
	tableGap    = 2  // blanks between columns
	leastColumn = 12 // a column of text is not wrapped to less
)

// grid is a table that is to be printed: cells as text, and what they align to.
type grid struct {
	header  []string
	cells   [][]string
	numbers []bool // columns of numbers, which are never wrapped
}

func newGrid(r *rows) *grid {
	g := &grid{numbers: make([]bool, len(r.columns))}
	for _, c := range r.columns {
		g.header = append(g.header, strings.ToUpper(strings.ReplaceAll(c, "_", "-")))
	}
	for _, values := range r.values {
		row := make([]string, len(values))
		for i, x := range values {
			row[i] = oneLine.Replace(cell(x))
			switch x.(type) {
			case int, int8, int16, int32, int64, uint64:
				g.numbers[i] = true
			case float64:
				g.numbers[i] = true
				row[i] = fmt.Sprint(x)
			}
		}
		g.cells = append(g.cells, row)
	}
	return g
}

// widths returns how wide each column must be for its widest cell.
func (g *grid) widths() []int {
	out := make([]int, len(g.header))
	for i, h := range g.header {
		out[i] = text.StringWidthWithoutEscSequences(h)
		for _, row := range g.cells {
			out[i] = max(out[i], text.StringWidthWithoutEscSequences(row[i]))
		}
	}
	return out
}

// fit narrows the widest columns of text until all fit width, and reports whether
// they do.
func (g *grid) fit(widths []int, width int) bool {
	total := -tableGap
	for _, w := range widths {
		total += w + tableGap
	}
	for ; total > width; total-- {
		widest := -1
		for i, w := range widths {
			least := max(leastColumn, text.StringWidthWithoutEscSequences(g.header[i]))
			if !g.numbers[i] && w > least && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// render returns the lines of the table, at most so many columns wide; 0 means as
// wide as it is. Where columns of text cannot be wrapped enough, each row is a
// block with a line for each column.
func (g *grid) render(width int) []string {
	widths := g.widths()
	if width > 0 && !g.fit(widths, width) {
		return g.blocks(width)
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", strings.Repeat(" ", tableGap)
	t.SetStyle(style)
	configs, header := make([]table.ColumnConfig, len(widths)), make(table.Row, len(widths))
	for i, w := range widths {
		configs[i] = table.ColumnConfig{Number: i + 1, WidthMax: w, WidthMaxEnforcer: wrap}
		if g.numbers[i] {
			configs[i].Align = text.AlignRight
			configs[i].AlignHeader = text.AlignRight
		}
		header[i] = g.header[i]
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, cells := range g.cells {
		row := make(table.Row, len(cells))
		for i, c := range cells {
			row[i] = c
		}
		t.AppendRow(row)
	}
	return strings.Split(t.Render(), "\n")
}

// wrap breaks text into lines of a width, at blanks where there are some. A
// character of two columns does not stand at the end of an odd width.
func wrap(s string, width int) string {
	out := text.WrapSoft(s, width)
	if text.LongestLineLen(out) > width {
		return text.WrapSoft(s, width-1)
	}
	return out
}

// blocks returns each row as a block of lines, and an empty line between blocks.
func (g *grid) blocks(width int) (lines []string) {
	name := 0
	for _, h := range g.header {
		name = max(name, len(h))
	}
	for n, row := range g.cells {
		if n > 0 {
			lines = append(lines, "")
		}
		for i, c := range row {
			at := fmt.Sprintf("%-*s  ", name, g.header[i])
			for part := range strings.SplitSeq(wrap(c, max(width-len(at), 2)), "\n") {
				lines = append(lines, at+part)
				at = strings.Repeat(" ", len(at))
			}
		}
	}
	return lines
}
