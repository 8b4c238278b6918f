package cli

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// served is a broker that the start command runs.
type served struct {
	*shell
	stop context.CancelFunc // as a signal does
	done chan result
}

// serve starts a broker on log directories.
func serve(t *testing.T, dirs ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := &served{stop: cancel, done: make(chan result, 1)}
	out, in := io.Pipe()
	go func() {
		var errs bytes.Buffer
		code := run(ctx, []string{"start", "--listen", "127.0.0.1:0", "--log-level", "error", "--override", "log.dirs=" + strings.Join(dirs, ",")}, nil, in, &errs)
		in.Close()
		s.done <- result{code: code, err: errs.String()}
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, (<-s.done).err)
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "ready bootstrap="), " ")
	s.shell = &shell{t, addr}
	return s
}

// A broker that is told to stop says with its exit code whether all is on disk,
// and in one line what is not: a log directory that failed while it ran.
func TestStopTellsOfAFailedDirectory(t *testing.T) {
	dir := t.TempDir()
	dirs := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	s := serve(t, dirs...)
	s.ok("topic", "create", "t", "-p", "2")
	s.ok("produce", "t", "-p", "0", "one")
	s.ok("produce", "t", "-p", "1", "two")
	s.stop()
	if r := <-s.done; r.code != exitOK || r.err != "" {
		t.Errorf("exit %d with every directory well: %s", r.code, r.err)
	}

	s = serve(t, dirs...)
	partition := "0" // in b
	if _, err := os.Stat(filepath.Join(dirs[1], "t-1")); err == nil {
		partition = "1"
	}
	inTheWay := filepath.Join(dirs[1], "log-start-offset-checkpoint.tmp")
	if err := os.Mkdir(inTheWay, 0o755); err != nil {
		t.Fatal(err)
	}
	if r := s.with("", "topic", "trim", "t", "-o", "end", "-p", partition, "--timeout", "1s"); r.code == exitOK || !strings.Contains(r.err, "KAFKA_STORAGE_ERROR") {
		t.Errorf("records were deleted in a directory that cannot be written: exit %d: %s", r.code, r.err)
	}
	s.stop()
	r := <-s.done
	if r.code != exitFailed || strings.Count(r.err, "\n") != 1 || !strings.HasPrefix(r.err, "klamm: ") || !strings.Contains(r.err, "log directory "+dirs[1]+" is offline") ||
		!strings.Contains(r.err, inTheWay) || strings.Contains(r.err, dirs[0]+" ") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	for i, d := range dirs { // stopped in order, the one that is well was marked so
		if _, err := os.Stat(filepath.Join(d, ".kafka_cleanshutdown")); (err == nil) != (i == 0) {
			t.Errorf("%s: %v", d, err)
		}
	}

	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	s = serve(t, dirs...)
	s.same(s.ok("consume", "t", "-p", partition, "-o", "start", "-e"), map[string]string{"0": "one\n", "1": "two\n"}[partition])
	s.stop()
	if r := <-s.done; r.code != exitOK || r.err != "" {
		t.Errorf("exit %d once the directory is well again: %s", r.code, r.err)
	}
}
