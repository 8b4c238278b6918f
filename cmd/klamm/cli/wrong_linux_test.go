package cli

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// arguments are those that a command needs beside the flag that is wrong.
var arguments = map[string]string{
	"klamm topic create": "t", "klamm topic describe": "t", "klamm topic alter": "t -p 3", "klamm topic delete": "t", "klamm topic trim": "t -o end", "klamm topic elect": "t",
	"klamm topic reassign": "t --replicas 0:1", "klamm broker drain": "1", "klamm broker unregister": "1",
	"klamm cluster kill": "1", "klamm cluster pause": "1", "klamm cluster resume": "1",
	"klamm produce": "t v", "klamm consume": "t", "klamm group describe": "g", "klamm group seek": "g --to end", "klamm group delete": "g",
	"klamm config set": "retention.ms=1 --topic t", "klamm config delete": "retention.ms --topic t",
	"klamm cluster add-voter": "2 --listener CONTROLLER://a:9093", "klamm cluster remove-voter": "2",
	"klamm log dump": "f.log", "klamm log verify": "testdata", "klamm log repair": "testdata", "klamm storage info": "testdata",
	"klamm storage convert": "--from-kafka testdata", "klamm storage format": "-t 5L6g3nShT-eMCtK--X86sw -c testdata/none", "klamm bench produce": "t", "klamm bench consume": "t", "klamm bench latency": "t",
}

// wrongValues are values that a flag of text refuses, by its name.
var wrongValues = map[string][]string{
	"bootstrap": {"", "host", "host:", "host:abc", "host:0", "host:70000", "http://host:9092", ":9092", "a:1,,b:2", "::1:9092", "ho st:1"},
	"format":    {"xml", ""}, "compression": {"rar"}, "acks": {"7"}, "isolation": {"dirty"}, "offset": {"soon", "--5", "@never", "@2@1"}, "to": {"soon", ""},
	"timestamp": {"soon", "-5"}, "header": {"novalue"}, "property": {"novalue", "linger.msec=1", "=1"}, "config": {"novalue", "retention.sm=1", "retention.ms=x"},
	"unset": {"retention.sm"}, "read-format": {"%q", "%"}, "print-format": {"%q", "%h{%k"}, "unenforced": {"nothing"}, "topic": {"", "a b"}, "group": {""},
	"listen": {"nowhere", "127.0.0.1:x"}, "override": {"num.partition=1"}, "log-level": {"loud"}, "view": {"", "all"}, "topics": {"a b"},
	"replicas": {"", "0", "x:1", "0:1,1", "0:1;0:2"}, "reassignment-json-file": {"", "testdata/none"}, "save": {""},
	"from-kafka": {"testdata/none"}, "to-kafka": {"testdata/none"}, "cluster-id": {"", "short", "5L6g3nShT-eMCtK--X86sw=="}, "initial-controllers": {"1@a:9093", "1@a:9093:short", ","},
	"directory": {"short"}, "listener": {"", "a:9093", "CONTROLLER://a", "CONTROLLER://:9093", "CONTROLLER://a:0"},
}

// free are flags of text that take any: keys, and names of files and groups.
var free = []string{"key", "file", "value-file", "data-dir", "klamm consume --group", "klamm start --config", "klamm config describe --config"}

// wrongUse is one way to use a command wrongly.
type wrongUse struct {
	args []string
	what string
}

// wrongUses returns every wrong use of a command that its flags and arguments
// allow.
func wrongUses(t *testing.T, path string, c *cobra.Command) (out []wrongUse) {
	t.Helper()
	words := strings.Fields(strings.TrimPrefix(path, "klamm "))
	rest := strings.Fields(arguments[path])
	add := func(what string, args ...string) {
		out = append(out, wrongUse{append(slices.Clone(words), args...), what})
	}
	with := func(args ...string) []string { return append(slices.Clone(rest), args...) } // the last value of a flag holds
	add("an unknown flag", with("--no-such-flag")...)
	if n := strings.Count(c.Use, " "); n == 0 && c.Args != nil {
		add("an argument too many", with("too-many")...)
	} else if strings.Contains(c.Use, " ") && !strings.Contains(c.Use, "[") {
		add("no arguments")
		add("an empty argument", "")
	}
	c.Flags().AddFlagSet(c.InheritedFlags())
	c.Flags().VisitAll(func(f *pflag.Flag) {
		var bad []string
		switch f.Value.Type() {
		case "bool":
			bad = []string{"maybe"}
		case "int", "int16", "int32", "int64", "int32Slice":
			bad = []string{"x", "-7", "1.5"}
		case "float64":
			bad = []string{"x", "-1", "NaN"}
		case "duration":
			bad = []string{"x", "-1s", "5"}
		default:
			bad = wrongValues[f.Name]
			if slices.Contains(free, f.Name) || slices.Contains(free, path+" --"+f.Name) {
				bad = nil
			} else if bad == nil {
				t.Errorf("%s --%s: say in wrongValues what it refuses, or in free that it takes all", path, f.Name)
			}
		}
		for _, v := range bad {
			add("a wrong --"+f.Name, with("--"+f.Name+"="+v)...)
		}
		if _, required := f.Annotations[cobra.BashCompOneRequiredFlag]; required {
			add("no --"+f.Name, strings.Fields(arguments[path])[0])
		}
		for _, group := range f.Annotations["cobra_annotation_mutually_exclusive"] {
			names := strings.Fields(group)
			for _, other := range names[slices.Index(names, f.Name)+1:] {
				add("--"+f.Name+" and --"+other, with(alone(c, f.Name), alone(c, other))...)
			}
		}
	})
	return out
}

// alone is a flag with a value that is right.
func alone(c *cobra.Command, name string) string {
	switch c.Flags().Lookup(name).Value.Type() {
	case "bool":
		return "--" + name
	case "string":
		return "--" + name + "=x"
	}
	return "--" + name + "=1"
}

// TestWrongUse uses every command wrongly, in each way that its flags and
// arguments allow: it is told so at once, with exit code 2.
func TestWrongUse(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Each wrong use of each command.\n")
	all := leaves(t)
	paths := make([]string, 0, len(all))
	for path := range all {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		if strings.HasPrefix(path, "klamm completion") {
			continue // cobra's
		}
		fmt.Fprintf(&b, "\n")
		said := make(map[string]bool)
		for _, w := range wrongUses(t, path, all[path]) {
			var out, errs bytes.Buffer
			code := run(context.Background(), append(w.args, "--timeout", "1s")[:len(w.args)+timeoutWords(w)], strings.NewReader(""), &out, &errs)
			line := strings.Join(quoteAll(w.args), " ")
			if code != exitUsage || out.Len() > 0 || !strings.HasPrefix(errs.String(), "klamm: ") {
				t.Errorf("%s (klamm %s): exit %d, want %d\n%s%s", w.what, line, code, exitUsage, out.String(), errs.String())
			}
			first, _, _ := strings.Cut(errs.String(), "\n")
			// What all commands share is shown once.
			if text := fmt.Sprintf("$ klamm %s\n2| %s\n", line, first); !said[text] && (strings.HasPrefix(path, "klamm topic list") || !shared(w)) {
				said[text] = true
				b.WriteString(text)
			}
		}
	}
	compare(t, "wrong", b.String())
}

// timeoutWords is how many words say how long a wrong use may take, should it not
// be refused: none if they would hide what is wrong.
func timeoutWords(w wrongUse) int {
	if w.what == "a wrong --timeout" {
		return 0
	}
	return 2
}

// shared reports whether what is wrong is a flag that every command has.
func shared(w wrongUse) bool {
	switch strings.TrimPrefix(w.what, "a wrong --") {
	case "bootstrap", "format", "quiet", "timeout", "help", "an unknown flag":
		return true
	}
	return false
}

func quoteAll(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; a == "" || strings.ContainsAny(a, " %'") {
			out[i] = "'" + a + "'"
		}
	}
	return out
}
