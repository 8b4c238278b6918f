package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klamm-io/klamm/broker/brokertest"
)

// pipe returns a pipe that ends with the test.
func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}

func TestProduceStops(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("topic", "create", "t")
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	written := func(all string) bool { return strings.Contains(all, "t/0@") }
	asking := func(all string) bool { return strings.Contains(all, "reading records from the terminal") }
	tests := []struct {
		name   string
		p      process
		input  string // of a pipe that stays open
		code   int
		stderr string
	}{
		{"by SIGINT, with what was read written", process{args: []string{"produce", "t", "--results"}, onOutput: written}, "a\n", 130, "klamm: interrupted: 1 record written, 0 not\n"},
		{"by SIGTERM", process{args: []string{"produce", "t", "--results"}, onOutput: written, signal: syscall.SIGTERM}, "a\n", 130, "klamm: interrupted: 1 record written, 0 not\n"},
		{"at its timeout", process{args: []string{"produce", "t", "--timeout", "300ms"}}, "", 124, "klamm: timed out after 300ms, waiting for the end of the input: 0 records written, 0 not\n"},
		{"at its timeout in the middle of a record", process{args: []string{"produce", "t", "--timeout", "300ms"}}, "half a li", 124, "klamm: timed out after 300ms, waiting for the end of the input: 0 records written, 1 not\n"},
		{"at its timeout before a FIFO", process{args: []string{"produce", "t", "--timeout", "300ms", "--file", "fifo"}}, "", 124, "klamm: timed out after 300ms, waiting for fifo to be opened\n"},
		{"at its timeout in the middle of a value", process{args: []string{"produce", "t", "--timeout", "300ms", "--value-file", "-"}}, "half", 124, "klamm: timed out after 300ms, waiting for the end of the input\n"},
		{"by SIGTERM on a terminal", process{args: []string{"produce", "t"}, tty: true, onOutput: asking, signal: syscall.SIGTERM}, "", 130, ""},
		{"at its timeout before a FIFO of a log", process{args: []string{"log", "dump", "--timeout", "300ms", "fifo.log"}}, "", 124, "klamm: timed out after 300ms: gave up waiting for the command to stop\n"},
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, w := pipe(t)
			io.WriteString(w, test.input)
			test.p.dir, test.p.broker, test.p.stdin = dir, s.addr, r
			e := test.p.run(t)
			if e.code != test.code || e.err != test.stderr {
				t.Errorf("exit %d, want %d; said %q, want %q; printed %q", e.code, test.code, e.err, test.stderr, e.out)
			}
		})
	}
}

// TestSecondSignal ends a command that goes on after the first.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = []string{asCommand + "=hang"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"running", "told to stop"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it says %q, want %q", lines.Text(), want)
		}
		cmd.Process.Signal(os.Interrupt)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit %d, want %d", code, exitInterrupted)
	}
}

// start runs a command with a pipe as its output.
func (p *process) start(t *testing.T) (cmd *exec.Cmd, out *os.File, errs *strings.Builder) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe, p.args...)
	cmd.Env = []string{asCommand + "=1", bootstrapEnv + "=" + p.broker}
	r, w := pipe(t)
	errs = new(strings.Builder)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.stdin, w, errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return cmd, r, errs
}

// TestReaderGoes has the reader of consume go after the first record, when no
// further one comes: as with head -1.
func TestReaderGoes(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.ok("produce", "t", "a")
	for _, args := range [][]string{{"consume", "t", "-o", "start"}, {"consume", "t", "-o", "start", "-g", "g"}} {
		cmd, out, errs := (&process{args: args, broker: s.addr}).start(t)
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "a\n" {
			t.Fatalf("read %q, %v", line, err)
		}
		out.Close()
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitReaderGone || errs.Len() > 0 {
			t.Errorf("klamm %s: exit %d, want %d; said %q", strings.Join(args, " "), code, exitReaderGone, errs)
		}
	}
}

// TestReaderSleeps interrupts a command whose reader has stopped reading.
func TestReaderSleeps(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.lines(strings.Repeat(strings.Repeat("x", 999)+"\n", 1000), "produce", "t")
	cmd, out, errs := (&process{args: []string{"consume", "t", "-o", "start", "-e"}, broker: s.addr}).start(t)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || errs.Len() > 0 {
		t.Errorf("exit %d, want %d; said %q", code, exitInterrupted, errs)
	}
}

// TestBrokerComes starts a broker while a command tries to reach it.
func TestBrokerComes(t *testing.T) {
	t.Parallel()
	b := brokertest.Start(t, brokertest.Options{})
	gone := newMortal(t, b.Bootstrap(), 1<<30)
	addr := gone.addr()
	gone.die()
	up := make(chan *mortal, 1)
	p := process{args: []string{"topic", "list"}, broker: addr, onOutput: func(all string) bool {
		if strings.Contains(all, "cannot reach") && len(up) == 0 {
			up <- listen(t, addr, b.Bootstrap(), 1<<30)
		}
		return false
	}}
	e := p.run(t)
	if want := fmt.Sprintf("klamm: cannot reach %s: connect: connection refused; still trying\nklamm: reached %s\n", addr, addr); e.code != 0 || patient.ReplaceAllString(e.err, "") != want {
		t.Errorf("exit %d; said %q, want %q", e.code, e.err, want)
	}
}

// TestSilentBroker has a broker that takes connections and does not answer: that
// is reported while the command waits.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"topic list", "produce t v", "consume t -g g", "consume t", "bench produce t"} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			m := newMortal(t, "", 0)
			want := "klamm: cannot reach " + m.addr() + ": it takes the connection and does not answer; still trying\n"
			e := (&process{args: strings.Fields(args), broker: m.addr(), onOutput: func(all string) bool { return strings.Contains(all, want) }}).run(t)
			if e.code != exitInterrupted || !strings.HasPrefix(e.err, want) {
				t.Errorf("exit %d, said %q, want %q", e.code, e.err, want)
			}
		})
	}
}

// TestManyRecordsFail: a line for each of the first few, and one for the rest.
func TestManyRecordsFail(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "compacted", "-c", "cleanup.policy=compact")
	r := s.with(strings.Repeat("a record without a key\n", 3000), "produce", "compacted")
	said := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	if r.code != exitFailed || len(said) != keepFailures+2 || said[keepFailures] != "and 2,990 more" || said[keepFailures+1] != "klamm: 0 records written, 3000 not" {
		t.Errorf("exit %d, said %d lines, the last %q", r.code, len(said), said[max(len(said)-2, 0):])
	}
	for i, line := range said {
		if len(line) > 2*shortText || i < keepFailures && !strings.HasPrefix(line, fmt.Sprintf("record %d: ", i+1)) {
			t.Errorf("line %d of %d bytes: %.100s", i, len(line), line)
		}
	}
}

// TestBenchWithoutItsBroker has the broker die in the middle: the benchmark ends,
// and the wait for the broker is not measured.
func TestBenchWithoutItsBroker(t *testing.T) {
	t.Parallel()
	m := newMortal(t, "", 40)
	b := brokertest.Start(t, brokertest.Options{Config: map[string]string{"advertised.listeners": "PLAINTEXT://" + m.addr()}})
	m.setBroker(b.Bootstrap())
	e := (&process{args: []string{"bench", "produce", "load", "-d", "1s", "-s", "100", "--rate", "1000", "-X", "linger.ms=0", "--format", "json"}, broker: m.addr()}).run(t)
	var rows []struct {
		Records, Failed int64
		Seconds         float64
	}
	if err := json.Unmarshal([]byte(e.out), &rows); err != nil {
		t.Fatalf("%v: %s%s", err, e.out, e.err)
	}
	if r := rows[0]; e.code != exitFailed || r.Records == 0 || r.Failed == 0 || r.Seconds > 1 || !strings.Contains(e.err, " failed, the first with: ") {
		t.Errorf("exit %d, %+v, said %q", e.code, r, e.err)
	}
}

// TestNoStorage has every log directory offline: nothing is created, nothing can be
// written, and each says why.
func TestNoStorage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	defer func() { s.stop(); <-s.done }()
	s.ok("topic", "create", "before")
	s.ok("produce", "before", "v")
	if err := os.Mkdir(filepath.Join(dir, "log-start-offset-checkpoint.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.with("", "topic", "trim", "before", "-o", "end", "--timeout", "1s") // which cannot be written
	for _, test := range []struct{ stdin, args, says string }{
		{"", "produce before v", "not written"},
		{"a\nb\n", "produce before", "0 records written, 2 not"},
		{"", "topic create after", "Every log directory of broker 1 is offline"},
		{"", "topic alter before -p 3", "Every log directory of broker 1 is offline"},
		{"", "topic create before --if-not-exists", "exists already"},
		{"", "produce after v", "not written"},
		{"", "consume before -o start", "offline"},
		{"", "topic trim before -o end", "offline"},
		{"", "bench consume before", "offline"},
	} {
		r := s.with(test.stdin, strings.Fields(test.args)...)
		failed := !strings.Contains(test.args, "--if-not-exists")
		if all := r.out + r.err; (r.code == exitFailed) != failed || strings.Contains(all, "KAFKA_STORAGE_ERROR") != failed || !strings.Contains(all, test.says) {
			t.Errorf("klamm %s: exit %d, printed %q, said %q", test.args, r.code, r.out, r.err)
		}
	}
}
