package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
)

func repairLogs(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	return logCommand(t, "repair", args...)
}

func TestLogRepair(t *testing.T) {
	dir := logDir(t)
	part := filepath.Join(dir, "orders-0")
	segment := filepath.Join(part, "00000000000000000000.log")
	if code, out, said := repairLogs(t, dir); code != 0 || out != "" || said != "0 findings, 0 steps, 0 left alone\n" {
		t.Fatalf("a healthy directory: exit %d, %q, %q", code, out, said)
	}
	rows := dumpOK(t, segment)
	third, fourth := int64(rows[2]["position"].(float64)), int64(rows[3]["position"].(float64))
	edit := func(name string, f func([]byte) []byte) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit(segment, flip(third+70))
	edit(strings.TrimSuffix(segment, "log")+"index", func(b []byte) []byte { return append(b, 1) })

	code, out, said := repairLogs(t, dir, "--dry-run", "--format", "json")
	var steps []map[string]any
	if err := json.Unmarshal([]byte(out), &steps); err != nil {
		t.Fatal(err)
	}
	if code != exitFailed || len(steps) != 2 || !strings.HasPrefix(said, "2 findings, 1 steps, 1 left alone\n") {
		t.Fatalf("dry run: exit %d, %s, %s", code, out, said)
	}
	// The names, their order and the kinds of the values do not change.
	finding, _ := steps[0]["finding"].(string)
	want := fmt.Sprintf(`[
  {
    "partition": "orders-0",
    "file": %q,
    "byte": %d,
    "finding": %q,
    "step": "cut at byte %d, or set the partition aside",
    "loses_batches": 3,
    "loses_records": 3,
    "state": "needs --cut-at-damage or --set-aside"
  },
`, segment, third, finding, third)
	if !strings.HasPrefix(out, want) || steps[1]["state"] != "planned" || !strings.HasSuffix(finding, fmt.Sprintf("byte %d", fourth)) {
		t.Errorf("JSON\n%swant first\n%s", out, want)
	}
	if got := fileSize(t, segment); got <= third {
		t.Errorf("a dry run left %d bytes", got)
	}

	code, _, said = repairLogs(t, "--cut-at-damage", part)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	if got := fileSize(t, segment); got != third {
		t.Errorf("%d bytes are left, want %d", got, third)
	}
	if kept := fmt.Sprintf("%s.%d.damaged", segment, third); fileSize(t, kept) == 0 {
		t.Errorf("%s is empty", kept)
	}
	if code, out, said := verify(t, dir); code != 0 || !strings.Contains(out, "what a repair cut off") {
		t.Errorf("verify after the repair: exit %d, %s, %s", code, out, said)
	}

	b := brokertest.Start(t, brokertest.Options{Dir: dir, Config: map[string]string{"offsets.topic.num.partitions": "1"}})
	s := &shell{t, b.Bootstrap()}
	if got := s.ok("consume", "orders", "-o", "start", "-e", "-f", `%o %k\n`); got != "0 key-0\n1 key-1\n" {
		t.Errorf("the broker serves %q", got)
	}
	if code, _, said := repairLogs(t, dir); code != exitFailed || !strings.Contains(said, "a broker has "+dir+" open") {
		t.Errorf("with a broker: exit %d, %s", code, said)
	}
	if code, out, said := verify(t, dir); code != 0 || !strings.Contains(out, "a broker has this directory open") {
		t.Errorf("verify with a broker: exit %d, %s, %s", code, out, said)
	}
	for _, args := range [][]string{nil, {filepath.Join(dir, "nowhere")}, {segment}, {"--cut-at-damage", "--set-aside", dir}, {"--format", "xml", dir}} {
		if code, _, said := repairLogs(t, args...); code != exitUsage {
			t.Errorf("%q: exit %d, want %d: %s", args, code, exitUsage, said)
		}
	}
}
