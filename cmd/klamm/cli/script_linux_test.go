package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
)

// A script is a text of commands, each with what it prints and its exit code:
//
//	$ klamm topic create orders
//	1| NAME    RESULT
//	1| orders  created
//
// Behind "1| " stands stdout, behind "2| " stderr, and behind "t| " what a
// terminal shows; "1- " is for a last line that does not end. "exit N" follows
// unless N is 0. Before klamm may stand "terminal" (of 80 columns) or "closed"
// (nobody reads stdout); BROKER is its address, and at the end < "what stdin holds" in Go's quotes; on a
// terminal that is typed, once the command has printed something. -update writes
// the scripts anew: read the difference.
var update = flag.Bool("update", false, "write testdata/script anew")

// scripted is one command of a script.
type scripted struct {
	line  string // without the "$ "
	args  []string
	mode  string
	stdin string
}

var command = regexp.MustCompile(`^(?:(terminal|closed) )?klamm(.*?)(?: < ("(?:[^"\\]|\\.)*"))?$`)

func parseCommand(t *testing.T, line string) scripted {
	t.Helper()
	m := command.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no command: %s", line)
	}
	c := scripted{line: line, mode: m[1], args: words(t, m[2])}
	if m[3] != "" {
		var err error
		if c.stdin, err = strconv.Unquote(m[3]); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return c
}

// words splits a command as a shell would; both kinds of quotes quote all.
func words(t *testing.T, s string) (out []string) {
	t.Helper()
	word, quote, in := "", rune(0), false
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && c == ' ':
			if in {
				out = append(out, word)
			}
			word, in = "", false
		default:
			word, in = word+string(c), true
		}
	}
	if quote != 0 {
		t.Fatalf("no end of a quote: %s", s)
	}
	if in {
		out = append(out, word)
	}
	return out
}

// shown is how a command ended, as it stands in a script.
func (c *scripted) shown(e ended) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ %s\n", c.line)
	tag := "1"
	if c.mode == "terminal" {
		tag = "t"
	}
	lines(&b, tag, steady(c.args, e.out))
	lines(&b, "2", steady(c.args, e.err))
	if e.code != 0 {
		fmt.Fprintf(&b, "exit %d\n", e.code)
	}
	return b.String()
}

func lines(b *strings.Builder, tag, text string) {
	for line := range strings.Lines(text) {
		if whole, ok := strings.CutSuffix(line, "\n"); ok {
			b.WriteString(strings.TrimRight(tag+"| "+whole, " ") + "\n")
		} else {
			b.WriteString(tag + "- " + line + "\n")
		}
	}
}

var (
	port     = regexp.MustCompile(`127(?:\.\d+){3}:[1-9]\d{4}`)
	id22     = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)
	unixMs   = regexp.MustCompile(`\b1[78]\d{11}\b`)
	goBuild  = regexp.MustCompile(`go1\.\d+(\.\d+)?`)
	escapes  = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	number   = regexp.MustCompile(`\d+(\.\d+)?`)
	sizes    = regexp.MustCompile(`\b\d+ (batches|records|bytes)([,:])`) // of the metadata log
	blanks   = regexp.MustCompile(` {2,}`)
	patient  = regexp.MustCompile(`(?m)^klamm: waiting for .*\n`) // only if the machine is slow
	memberID = regexp.MustCompile(`klamm-cli-[0-9a-f]{8}-[0-9a-f-]{27}`)
)

// steady replaces what differs from run to run: ports, ids, times, versions and
// what is measured.
func steady(args []string, s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = escapes.ReplaceAllString(s, "")
	s = patient.ReplaceAllString(s, "")
	s = port.ReplaceAllString(s, "127.0.0.1:99999")
	s = id22.ReplaceAllStringFunc(s, func(id string) string {
		if strings.ToLower(id) == id || strings.ToUpper(id) == id {
			return id
		}
		return strings.Repeat("x", 22)
	})
	s = strings.ReplaceAll(s, "connect: connection reset by peer", "connect: connection refused") // of a listener that is being closed
	s = unixMs.ReplaceAllString(s, "1700000000000")
	s = goBuild.ReplaceAllString(s, "go1.0")
	s = memberID.ReplaceAllString(s, "klamm-cli-MEMBER")
	s = sizes.ReplaceAllString(s, "N $1$2")
	if len(args) > 0 && (args[0] == "bench" || args[0] == "top") || len(args) > 1 && args[0] == "cluster" && args[1] == "quorum" {
		s = blanks.ReplaceAllString(number.ReplaceAllString(s, "N"), "  ")
	}
	var out strings.Builder
	for line := range strings.Lines(s) {
		if len(args) > 0 && args[0] == "completion" {
			return line + "...\n"
		}
		if at := strings.LastIndexByte(strings.TrimRight(line, "\r\n"), '\r'); at >= 0 {
			line = line[at+1:] // behind a progress bar that was wiped off
		}
		out.WriteString(strings.TrimPrefix(line, "\r"))
	}
	return out.String()
}

// compare compares a script with what its commands did, or updates it.
func compare(t *testing.T, name, got string) {
	t.Helper()
	for _, never := range []string{"context deadline exceeded", "context canceled", "e+0", "panic:", "%!"} {
		if at := strings.Index(got, never); at >= 0 {
			t.Errorf("%s: %q is printed: %.300s", name, never, got[strings.LastIndex(got[:at], "$ "):])
		}
	}
	file := filepath.Join("testdata", "script", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants, gots := strings.Split(string(want), "\n$ "), strings.Split(got, "\n$ ")
	for i := range max(len(wants), len(gots)) {
		var w, g string
		if i < len(wants) {
			w = wants[i]
		}
		if i < len(gots) {
			g = gots[i]
		}
		if w != g {
			t.Errorf("%s: got\n%s\nwant\n%s", file, g, w)
		}
	}
}

// TestScripts runs the scripts of testdata/script/cases, each against a broker
// of its own and in a directory of its own.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/cases/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b := brokertest.Start(t, brokertest.Options{})
			dir := t.TempDir()
			var got []string
			for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
				got = append(got, runBlock(t, block, dir, b.Bootstrap()))
			}
			compare(t, strings.TrimPrefix(strings.TrimSuffix(file, ".txt"), "testdata/script/"), strings.Join(got, "\n"))
		})
	}
}

// runBlock runs the command of a block, behind lines of comment, and returns the
// block with what the command did.
func runBlock(t *testing.T, block, dir, broker string) string {
	t.Helper()
	out := ""
	for line := range strings.Lines(block + "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			out += line
		case strings.HasPrefix(line, "$ "):
			c := parseCommand(t, strings.TrimSpace(line[2:]))
			for i, a := range c.args {
				c.args[i] = strings.ReplaceAll(a, "BROKER", broker)
			}
			p := process{args: c.args, dir: dir, broker: broker, stdin: strings.NewReader(c.stdin), tty: c.mode == "terminal", closed: c.mode == "closed", typed: c.stdin}
			out += c.shown(p.run(t))
		}
	}
	return out
}
