package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A broker whose log directories have all failed takes no topic and no
// partition, and says why: what it made could not be written to.
func TestNoDirectoryIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	defer func() { s.stop(); <-s.done }()
	s.ok("topic", "create", "t")
	s.ok("produce", "t", "hello")
	if err := os.Mkdir(filepath.Join(dir, "log-start-offset-checkpoint.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.with("", "topic", "trim", "t", "-o", "end", "-p", "0", "--timeout", "1s") // which cannot be written
	for _, args := range [][]string{
		{"topic", "create", "u"},
		{"topic", "create", "u", "--dry-run"},
		{"topic", "create", "u", "--if-not-exists"},
		{"topic", "alter", "t", "-p", "3"},
	} {
		r := s.with("", args...)
		if r.code == exitOK || !strings.Contains(r.out+r.err, "KAFKA_STORAGE_ERROR") {
			t.Errorf("%v: exit %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	if out := s.ok("topic", "list", "--format", "tsv"); strings.Contains(out, "u\t") {
		t.Errorf("a topic was made all the same\n%s", out)
	}
}
