// Package tests holds what concerns the whole project: which package may import
// which, and in the folders below it foreign clients and benchmarks.
package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// floors are the packages by floor: a package imports only lower ones.
var floors = map[string]int{
	"bugs":      -1,
	"wire/prim": 0, "wire/kerr": 0, "wire/memnet": 0, "wire/sasl": 0, "wire/schema": 0,
	"log/vfs": 0, "config": 0, "config/clock": 0, "config/levels": 0, "isr": 0,
	"wire/msg": 1, "wire/record": 1, "index": 1, "wire/gen": 1,
	"wire": 2, "segment": 2, "log/compact": 2,
	"wire/conn": 3, "log": 3,
	"client": 4, "coordinator": 4, "replication/meta": 4, "log/scrub": 4,
	"coordinator/group": 5, "coordinator/txn": 5, "coordinator/share": 5, "replication/quorum": 5, "replication/control": 5, "replication/dirs": 5,
	"replication": 6, "replication/convert": 6,
	"broker/api": 7, "broker": 8, "broker/brokertest": 9,
	"cmd/klamm/top": 5, "cmd/klamm/cli": 9, "cmd/klamm": 10,
}

// apart are pairs that never import each other: the broker wires them.
var apart = [][2]string{{"replication", "coordinator"}, {"replication", "coordinator/group"}, {"client", "broker"}, {"client", "replication"}, {"client", "log"}}

func TestFloors(t *testing.T) {
	const module = "github.com/klamm-io/klamm/"
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string]map[string]bool)
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(pkg.ImportPath, module)
		floor, ok := floors[from]
		if !ok {
			t.Errorf("%s has no floor", from)
		}
		imports[from] = make(map[string]bool)
		for _, path := range pkg.Imports {
			to, own := strings.CutPrefix(path, module)
			if path == "testing" && from != "broker/brokertest" {
				t.Errorf("%s imports testing", from)
			}
			if !own {
				continue
			}
			imports[from][to] = true
			below, ok := floors[to]
			if ok && below > floor || ok && below == floor && !sibling(from, to) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", from, floor, to, below)
			}
		}
	}
	if len(imports) < 15 {
		t.Errorf("only %d packages were looked at", len(imports))
	}
	for _, p := range apart {
		if imports[p[0]][p[1]] || imports[p[1]][p[0]] {
			t.Errorf("%s and %s must not know of each other", p[0], p[1])
		}
	}
}

// sibling allows a package to import one below its own folder.
func sibling(from, to string) bool {
	return strings.HasPrefix(to, from+"/") || strings.HasPrefix(from, to+"/")
}
