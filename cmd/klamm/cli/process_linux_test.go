package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asCommand makes the test binary be klamm, so that tests have real processes,
// with signals, pipes and terminals.
const asCommand = "KLAMM_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	switch os.Getenv(asCommand) {
	case "hang":
		hang()
	case "1":
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	os.Exit(m.Run())
}

// hang is a command that signals do not stop.
func hang() {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer signalled(cancel)()
	os.Stdout.WriteString("running\n")
	<-ctx.Done()
	os.Stdout.WriteString("told to stop\n")
	select {}
}

// process is one run of klamm.
type process struct {
	args   []string
	dir    string
	broker string // KAFKA_BOOTSTRAP_SERVERS
	stdin  io.Reader
	tty    bool   // stdin, stdout and stderr are a terminal of 80 columns
	typed  string // on the terminal, once the command has said something
	closed bool   // nobody reads stdout

	// interrupt is closed when SIGINT is to be sent; on what the command has
	// printed, onOutput decides.
	interrupt <-chan struct{}
	onOutput  func(all string) (interrupt bool)
	signal    os.Signal // nil is SIGINT
}

// ended is how a run ended. On a terminal out has both streams.
type ended struct {
	code     int
	out, err string
}

// hung is how long a command may take in all before a test gives up.
const hung = 30 * time.Second

func (p *process) run(t *testing.T) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hung)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, p.args...)
	cmd.Dir = p.dir
	cmd.Env = []string{asCommand + "=1", bootstrapEnv + "=" + p.broker, "PATH=" + os.Getenv("PATH"), "HOME=/", "TZ=UTC", "TERM=xterm"}
	cmd.Stdin = p.stdin
	interrupted := make(chan struct{})
	out, errs := &watched{p: p, stop: interrupted}, &watched{p: p, stop: interrupted}
	out.once, errs.once = new(sync.Once), nil
	errs.once = out.once
	cmd.Stdout, cmd.Stderr = out, errs
	var after []func()
	switch {
	case p.tty:
		user, command := openTerminal(t, 80)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = command, command, command
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out.typed = func() { io.WriteString(user, p.typed) }
		copied := make(chan struct{})
		go func() {
			io.Copy(out, user) // ends with an error once the command has gone
			close(copied)
		}()
		after = append(after, func() { command.Close(); <-copied; user.Close() })
	case p.closed:
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd.Stdout = w
		after = append(after, func() { w.Close() })
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-p.interrupt: // nil blocks
		case <-interrupted:
		case <-done:
			return
		}
		sig := p.signal
		if sig == nil {
			sig = os.Interrupt
		}
		cmd.Process.Signal(sig)
	}()
	err = cmd.Wait()
	close(done)
	for _, f := range after {
		f()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("klamm %s: %v", strings.Join(p.args, " "), err)
	}
	if ctx.Err() != nil {
		t.Errorf("klamm %s: still running after %v\n%s%s", strings.Join(p.args, " "), hung, out.String(), errs.String())
	}
	return ended{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// watched keeps what a command prints and looks at it.
type watched struct {
	p     *process
	stop  chan struct{} // closed to interrupt
	once  *sync.Once
	typed func() // writes what is typed

	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(b)
	if w.typed != nil && w.p.typed != "" {
		w.typed()
		w.typed = nil
	}
	if w.p.onOutput != nil && w.p.onOutput(w.buf.String()) {
		w.once.Do(func() { close(w.stop) })
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
