package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// takesKeys are the flags that take keys of configs, by name, with a key that
// each completes at least.
var takesKeys = map[string]string{"override": "num.partitions=", "unset": "retention.ms", "config": "retention.ms=", "property": "client.id="}

// TestKeysComplete: wherever a key is taken, it completes. A flag that is a list
// of words takes keys, or it is named here.
func TestKeysComplete(t *testing.T) {
	others := map[string]bool{"header": true, "listener": true, "topics": true, "unenforced": true}
	flags := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if kind := f.Value.Type(); kind != "stringArray" && kind != "stringSlice" || others[f.Name] {
				return
			}
			flags++
			complete, ok := c.GetFlagCompletionFunc(f.Name)
			if !ok {
				t.Errorf("%s --%s completes nothing", c.CommandPath(), f.Name)
				return
			}
			want, ok := takesKeys[f.Name]
			prefix, _, _ := strings.Cut(want, "=")
			got, _ := complete(c, nil, prefix)
			if !ok || len(got) == 0 || got[0] != want {
				t.Errorf("%s --%s %s completes %v, want %s", c.CommandPath(), f.Name, prefix, got, want)
			}
		})
	}
	root := newRoot(&globals{reach: new(reach)})
	walk(root)
	if flags < 9 {
		t.Errorf("only %d flags take keys", flags)
	}
	for _, test := range []struct{ args, prefix, want string }{
		{"config set", "num.io", "num.io.threads="},
		{"config set --topic t", "retention.m", "retention.ms="},
		{"config set --group g", "consumer.s", "consumer.session.timeout.ms="},
		{"config delete --topic t", "retention.m", "retention.ms"},
		{"config describe --topic t", "retention.m", "retention.ms"},
		{"config describe", "num.io", "num.io.threads"},
	} {
		root := newRoot(&globals{reach: new(reach)})
		c, rest, err := root.Find(strings.Fields(test.args))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ParseFlags(rest); err != nil {
			t.Fatal(err)
		}
		if got, _ := c.ValidArgsFunction(c, nil, test.prefix); len(got) != 1 || got[0] != test.want {
			t.Errorf("klamm %s %s completes %v, want %s", test.args, test.prefix, got, test.want)
		}
	}
}
