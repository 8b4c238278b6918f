package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Work must grow with the request. No client may choose a size for which the
// broker takes more than in proportion: memory, or steps. A list that is searched
// for each of its members, or grown one by one, is found here, whichever API it
// stands behind.
func TestWorkGrowsWithTheRequest(t *testing.T) {
	// Times as much for four times the size; what grows with the square takes 16
	// times. Memory is less even than steps: slices double, and how many buffers are
	// in use at once is a matter of luck.
	const mostSteps, mostBytes = 6, 8
	program := filepath.Join(t.TempDir(), "growth")
	build := exec.Command("go", "build", "-cover", "-covermode=atomic", "-coverpkg=github.com/klamm-io/klamm/...", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := exec.Command(program)
	run.Env = append(os.Environ(), "GOCOVERDIR="+t.TempDir())
	var complaints bytes.Buffer
	run.Stderr = &complaints
	out, err := run.Output()
	if err != nil {
		t.Errorf("%v: %s", err, &complaints)
	}
	n := 0
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		n++
		switch {
		case r.Failed != "":
			t.Errorf("%s: %s", r.Name, r.Failed)
		case r.Small.Steps < int64(r.N):
			t.Errorf("%s: %d steps for a size of %d: they are not counted", r.Name, r.Small.Steps, r.N)
		case r.Large.Steps >= mostSteps*r.Small.Steps, r.Large.Bytes >= mostBytes*r.Small.Bytes:
			t.Errorf("%s: %+v at a size of %d, %+v at %d", r.Name, r.Small, r.N, r.Large, factor*r.N)
		}
	}
	if want := len(records) + len(metadata) + len(groups) + len(admin) + len(clients); n != want {
		t.Errorf("%d cases ran, want %d", n, want)
	}
}
