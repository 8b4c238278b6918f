package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestLogDirs(t *testing.T) {
	dirs := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
	s := serve(t, dirs...)
	defer func() { s.stop(); <-s.done }()
	s.ok("topic", "create", "t", "-p", "2")
	s.ok("topic", "create", "other")
	s.ok("produce", "t", "-p", "1", "hello")
	type row struct {
		Broker    int
		Directory string
		Topic     string
		Partition int
		Bytes     int
		Error     *string
	}
	var got []row
	list := func(out string) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	list(s.ok("log", "dirs", "t", "--format", "json"))
	if len(got) != 2 || got[0].Directory == got[1].Directory {
		t.Fatalf("%+v, want one partition in each directory", got)
	}
	for _, r := range got {
		if r.Broker != 1 || r.Topic != "t" || !slices.Contains(dirs, r.Directory) || (r.Bytes > 0) != (r.Partition == 1) || r.Error != nil {
			t.Errorf("%+v", r)
		}
	}
	if out := s.ok("log", "dirs", "--format", "tsv"); !strings.Contains(out, "\tother\t0\t0\t") || !strings.Contains(out, "\tt\t1\t") {
		t.Errorf("all topics\n%s", out)
	}
	if r := s.with("", "log", "dirs", "t", "typo"); r.code != exitFailed || !strings.Contains(r.err, "typo") || strings.Count(r.out, "\n") != 3 {
		t.Errorf("a topic that is not there: exit %d\n%s%s", r.code, r.out, r.err)
	}

	failed := got[slices.IndexFunc(got, func(r row) bool { return r.Partition == 1 })].Directory
	if err := os.Mkdir(filepath.Join(failed, "log-start-offset-checkpoint.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.with("", "topic", "trim", "t", "-o", "end", "-p", "1", "--timeout", "1s") // which cannot be written
	r := s.with("", "log", "dirs", "--format", "json")
	list(r.out)
	if r.code != exitFailed || !strings.Contains(r.err, failed) || !strings.Contains(r.err, "KAFKA_STORAGE_ERROR") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	for _, row := range got {
		if (row.Directory == failed) != (row.Error != nil) {
			t.Errorf("%+v while %s has failed", row, failed)
		}
	}
}
