package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
)

// storage runs a command of klamm storage and returns its exit code, what it
// printed and what it said.
func storage(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(append([]string{"storage"}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// jvmDir copies a directory that a JVM broker wrote.
func jvmDir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "..", "replication", "convert", "testdata", name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStorageInfo(t *testing.T) {
	dir := jvmDir(t, "static")
	code, out, said := storage(t, "info", dir, dir+"/none", "--format", "json")
	var got []map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || said != "" || len(got) != 2 {
		t.Fatalf("exit %d, %v: %s %s", code, err, out, said)
	}
	for column, want := range map[string]any{"directory": dir, "kind": "kafka", "cluster": "4L6g3nShT-eMCtK--X86sw", "node": 1.0, "partitions": 0.0, "running": false, "clean": true,
		"advice": "stop that broker, then run 'klamm storage convert --from-kafka " + dir + "'"} {
		if got[0][column] != want {
			t.Errorf("%s is %v, want %v", column, got[0][column], want)
		}
	}
	if got[1]["kind"] != "new" || got[1]["node"] != nil || got[1]["advice"] != nil {
		t.Errorf("a directory that is missing: %v", got[1])
	}
}

func TestStorageConvert(t *testing.T) {
	dir := jvmDir(t, "standalone")
	code, out, said := storage(t, "convert", "--from-kafka", dir)
	if code != exitFailed || out != "" || strings.Count(said, "\n") != 1 || !strings.Contains(said, "it has 1 acls, which klamm keeps but does not enforce") {
		t.Errorf("without --unenforced: exit %d, %q, %q", code, out, said)
	}
	args := []string{"convert", "--from-kafka", dir, "--unenforced", "acls,quotas,scram"}
	code, out, said = storage(t, append(args, "--dry-run", "--format", "json")...)
	var steps []struct{ Step, State string }
	if err := json.Unmarshal([]byte(out), &steps); err != nil || code != exitOK || len(steps) != 5 || steps[4].State != "planned" {
		t.Errorf("dry run: exit %d, %v, %s %s", code, err, out, said)
	}
	if _, err := os.Stat(filepath.Join(dir, ".lock")); err == nil {
		t.Error("looking has made a lock file")
	}
	if err := os.WriteFile(filepath.Join(dir, ".lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lock, err := vfs.OS().Lock(filepath.Join(dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, said := storage(t, args...); code != exitFailed || !strings.Contains(said, "a broker has "+dir+" open: stop it first") {
		t.Errorf("while a broker runs: exit %d, %s", code, said)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"the original metadata are kept in " + dir + "/__cluster_metadata-0.kafka-stray", "there is nothing to convert"} {
		code, _, said := storage(t, args...)
		if code != exitOK || !strings.Contains(said, want) || !strings.Contains(said, "start klamm with node.id=1") {
			t.Errorf("exit %d, %s, want %q", code, said, want)
		}
	}
	if code, _, said := storage(t, "convert", "--to-kafka", dir); code != exitOK || !strings.Contains(said, "controller.quorum.bootstrap.servers=127.0.0.1:21044  (a listener CONTROLLER in listeners)") {
		t.Errorf("back: exit %d, %s", code, said)
	}
	for _, args := range [][]string{{}, {"--from-kafka", dir, "--to-kafka", dir}, {"--from-kafka", dir + "/none"}, {"--from-kafka", dir, "--unenforced", "acl"}, {dir}} {
		if code, _, said := storage(t, append([]string{"convert"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d, %s", args, code, said)
		}
	}
}
