// Command growth sends every API that a klamm broker serves in two sizes, the
// larger one four times the smaller, and prints for each what the broker took:
// bytes allocated, and blocks of code executed. It must be built with -cover
// -covermode=atomic, whose counters it reads. It takes no time: how fast the
// machine is makes no difference.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// factor is how much larger the larger size is.
const factor = 4

// result is a line of the output.
type result struct {
	Name   string `json:"name"`
	N      int    `json:"n"`
	Small  cost   `json:"small"`
	Large  cost   `json:"large"`
	Failed string `json:"failed,omitempty"`
}

func main() {
	only := flag.String("only", "", "run the cases whose name contains this")
	flag.Parse()
	out := json.NewEncoder(os.Stdout)
	asked := make(map[wire.Key]bool)
	for _, g := range slices.Concat(records, metadata, groups, admin, clients) {
		if !strings.Contains(g.name, *only) {
			continue
		}
		r := result{Name: g.name, N: g.n}
		var err error
		if r.Small, err = one(g, g.n, asked); err == nil {
			r.Large, err = one(g, factor*g.n, asked)
		}
		if err != nil {
			r.Failed = err.Error()
		}
		if err := out.Encode(r); err != nil {
			panic(err)
		}
	}
	if *only == "" {
		if err := complete(asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// one measures a case in one size.
func one(g growth, n int, asked map[wire.Key]bool) (c cost, err error) {
	w, err := newWorld(g.overrides...)
	if err != nil {
		return c, err
	}
	run, err := g.prepare(w, n)
	if err == nil {
		for _, x := range append(w.extra, w.client) {
			x.asked = asked
		}
		c, err = measure(run)
	}
	if e := w.close(); err == nil {
		err = e
	}
	return c, err
}

// complete returns an error that names the APIs which no case has asked.
func complete(asked map[wire.Key]bool) error {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	var resp msg.ApiVersionsResponse
	if err := w.ask(3, &msg.ApiVersionsRequest{ClientSoftwareName: "growth", ClientSoftwareVersion: "1"}, &resp); err != nil {
		return err
	}
	var missing []string
	for _, a := range resp.ApiKeys {
		if !asked[wire.Key(a.ApiKey)] {
			missing = append(missing, wire.Key(a.ApiKey).String())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no case asks %s", strings.Join(missing, ", "))
	}
	return nil
}
