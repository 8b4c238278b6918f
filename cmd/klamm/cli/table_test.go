package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
)

// TestTablesFit prints tables of all widths on terminals of all widths: no line
// is longer than the terminal, and nothing of a cell is lost.
func TestTablesFit(t *testing.T) {
	long := strings.Repeat("/a-directory", 12)
	for _, columns := range []int{1, 3, 8, 14} {
		for _, words := range []string{"x", "some words of text, which wrap at blanks", long, "日本語のトピック名と長い説明", strings.Repeat("é", 100)} {
			r := &rows{}
			var values []any
			for i := range columns {
				r.columns = append(r.columns, fmt.Sprintf("column_%d", i))
				if i%3 == 1 {
					values = append(values, int64(1_700_000_000_000))
				} else {
					values = append(values, words)
				}
			}
			r.add(values...)
			r.add(values...)
			for _, width := range []int{40, 80, 132} {
				lines := newGrid(r).render(width)
				all := ""
				for _, line := range lines {
					line = strings.TrimRight(line, " ")
					if w := text.StringWidthWithoutEscSequences(line); w > width {
						t.Errorf("%d columns of %.20q: a line of %d on a terminal of %d: %s", columns, words, w, width, line)
					}
					all += line
				}
				for _, c := range "xyé語/," {
					if want := 2 * (columns - columns/3 - min(columns%3/2, 1)) * strings.Count(words, string(c)); strings.Count(all, string(c)) < want {
						t.Errorf("%d columns of %.20q on a terminal of %d: %d of %q, want %d\n%s", columns, words, width, strings.Count(all, string(c)), c, want, strings.Join(lines, "\n"))
					}
				}
				if n := strings.Count(all, "1700000000000"); n != 2*((columns+1)/3) {
					t.Errorf("%d columns of %.20q on a terminal of %d: %d whole numbers, want %d", columns, words, width, n, 2*((columns+1)/3))
				}
			}
		}
	}
}
