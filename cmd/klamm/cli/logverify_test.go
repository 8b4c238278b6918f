package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logCommand runs a command of klamm log and returns its exit code, what it
// printed and what it said.
func logCommand(t *testing.T, name string, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(append([]string{"log", name}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func verify(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	return logCommand(t, "verify", args...)
}

func TestLogVerify(t *testing.T) {
	dir := logDir(t)
	code, out, said := verify(t, dir)
	if want := "3 partitions, 3 segments, "; code != 0 || out != "" || !strings.HasPrefix(said, want) || !strings.HasSuffix(said, ": 0 damaged, 0 warnings, 0 notes\n") {
		t.Fatalf("a healthy directory: exit %d, %q, %q", code, out, said)
	}
	segment := filepath.Join(dir, "orders-0", "00000000000000000000.log")
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	second := int64(dumpOK(t, segment)[1]["position"].(float64))
	third := int64(dumpOK(t, segment)[2]["position"].(float64))
	if err := os.WriteFile(segment, flip(second+70)(bytes.Clone(whole)), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, said = verify(t, "--format", "json", filepath.Join(dir, "orders-0"))
	var found []map[string]any
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if code != exitFailed || len(found) != 1 || !strings.Contains(said, ": 1 damaged, 0 warnings, 0 notes\nklamm: damage found\n") {
		t.Fatalf("a flipped bit: exit %d, %s, %s", code, out, said)
	}
	finding, _ := found[0]["finding"].(string)
	if !strings.HasPrefix(finding, "batch of offset 1: crc ") || !strings.HasSuffix(finding, fmt.Sprintf("; the next valid batch is at byte %d", third)) {
		t.Errorf("finding %q", finding)
	}
	// The names, their order and the kinds of the values do not change.
	want := fmt.Sprintf(`[
  {
    "severity": "damage",
    "partition": "orders-0",
    "file": %q,
    "byte": %d,
    "offset": 1,
    "finding": %q,
    "advice": "restore the partition from a replica or a backup; or klamm log repair --cut-at-damage, which loses 4 valid batches with 4 records after it"
  }
]
`, segment, second, finding)
	if out != want {
		t.Errorf("JSON\n%swant\n%s", out, want)
	}
	if code, out, _ := verify(t, "--format", "tsv", segment); code != exitFailed || !strings.HasPrefix(out, fmt.Sprintf("damage\torders-0\t%s\t%d\t1\tbatch", segment, second)) {
		t.Errorf("TSV: exit %d, %q", code, out)
	}
	if code, out, _ := verify(t, "-q", dir); code != exitFailed || !strings.HasPrefix(out, "SEVERITY  PARTITION  FILE") {
		t.Errorf("table: exit %d, %q", code, out)
	}
	for _, args := range [][]string{nil, {filepath.Join(dir, "nowhere")}, {t.TempDir()}, {"--threads", "0", dir}, {"--format", "xml", dir}} {
		if code, _, said := verify(t, args...); code != exitUsage {
			t.Errorf("%q: exit %d, want %d: %s", args, code, exitUsage, said)
		}
	}
}
