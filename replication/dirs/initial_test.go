package dirs

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/config"
)

func TestParseInitialControllers(t *testing.T) {
	const a, b = "JEXY6aqzQY-32P5TStzaFg", "MvDxzVmcRsaTz33bUuRU6A"
	for in, want := range map[string]string{
		"1@a:9093:" + a: "[1@a:9093:" + a + "]",
		" 0@a:9093:" + a + ", 2@[::1]:9094:" + b + ",": "[0@a:9093:" + a + " 2@[::1]:9094:" + b + "]",
		"1@a:9093:" + a + "\n2@b:9093:" + b + "\n":     "[1@a:9093:" + a + " 2@b:9093:" + b + "]",
		"":                                 "!no voters given",
		"\n,":                              "!no voters given",
		"1@a:9093":                         `!"1@a:9093": want id@host:port:directory-id`,
		"x":                                `!"x": want`,
		"a:9093:" + a:                      "!want id@host:port:directory-id",
		"1@a:0:" + a:                       "!want id@host:port:directory-id",
		"-1@a:9093:" + a:                   "!want id@host:port:directory-id",
		"1@0.0.0.0:9093:" + a:              "!want id@host:port:directory-id",
		"1@a:9093:short":                   `!directory id: uuid "short"`,
		"1@a:9093:AAAAAAAAAAAAAAAAAAAAAA":  "!is not that of one controller",
		"1@a:9093:" + a + ",1@b:9093:" + b: "!node id 1 was specified more than once",
		"1@a:9093:" + a + ",2@b:9093:" + a: "!directory id " + a + " is not that of one controller",
	} {
		got, err := ParseInitialControllers(in)
		if text, isErr := strings.CutPrefix(want, "!"); isErr {
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v, %v; want %q", in, got, err, text)
			}
			continue
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
	}
}
