package cli

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// local is klamm start --brokers 3 as a process of its own.
type local struct {
	*shell
	dir  string
	cmd  *exec.Cmd
	done chan error
}

// startLocal starts a cluster on a directory. Its brokers are missed after a second.
func startLocal(t *testing.T, dir string) *local {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "start", "--brokers", "3", "--listen", "127.0.0.1:0", "--data-dir", dir, "--log-level", "error",
		"--override", "broker.session.timeout.ms=1000", "--override", "broker.heartbeat.interval.ms=100")
	cmd.Env = []string{asCommand + "=1", "HOME=/", "TZ=UTC"}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &local{dir: dir, cmd: cmd, done: make(chan error, 1)}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("it does not start: %v", err)
	}
	go func() {
		io.Copy(io.Discard, out)
		l.done <- cmd.Wait()
	}()
	addr, _, _ := strings.Cut(strings.TrimPrefix(line, "ready bootstrap="), " ")
	l.shell = &shell{t, addr}
	return l
}

// ctl runs klamm cluster kill, pause or resume.
func (l *local) ctl(do, id string) result {
	l.t.Helper()
	return l.with("", "cluster", do, id, "--data-dir", l.dir, "--format", "tsv")
}

// awaitState waits until a broker is in a state.
func (l *local) awaitState(id int, state string) {
	l.t.Helper()
	for l.brokers()[id-1].State != state {
	}
}

func TestControlOfALocalCluster(t *testing.T) {
	dir := t.TempDir()
	l := startLocal(t, dir)
	info, err := os.Stat(filepath.Join(dir, controlSocket))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode()&os.ModeSocket == 0 {
		t.Fatalf("the socket: %v, %v", info, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".s*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	want := func(r result, out string) {
		t.Helper()
		if r.code != exitOK || r.out != out {
			t.Errorf("exit %d: %s%s; want %s", r.code, r.out, r.err, out)
		}
	}
	fails := func(r result, code int, says string) {
		t.Helper()
		if r.code != code || !strings.Contains(r.err, says) {
			t.Errorf("exit %d: %s; want exit %d: %s", r.code, r.err, code, says)
		}
	}
	want(l.ctl("kill", "2"), "2\tkilled\n")
	l.awaitState(2, "fenced")
	fails(l.ctl("kill", "2"), exitFailed, "broker 2 does not run")
	fails(l.ctl("pause", "2"), exitFailed, "broker 2 does not run")
	want(l.ctl("resume", "2"), "2\trunning\n")
	l.awaitState(2, "unfenced")
	want(l.ctl("pause", "3"), "3\tpaused\n")
	fails(l.ctl("pause", "3"), exitFailed, "broker 3 is paused already")
	l.awaitState(3, "fenced")
	want(l.ctl("resume", "3"), "3\trunning\n")
	l.awaitState(3, "unfenced")
	fails(l.ctl("resume", "3"), exitFailed, "broker 3 is not paused")
	fails(l.ctl("kill", "9"), exitUsage, "has 1, 2, 3")

	// What nobody asked for is answered too.
	for _, line := range []string{"no json\n", `{"do":"burn","broker":1}` + "\n"} {
		nc, err := net.Dial("unix", filepath.Join(dir, controlSocket))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, line)
		if b, err := io.ReadAll(nc); err != nil || !strings.Contains(string(b), `"error":"`) {
			t.Errorf("%q: %s, %v", line, b, err)
		}
		nc.Close()
	}

	// The whole process dies: its socket is left, and the next start takes its place.
	l.cmd.Process.Kill()
	<-l.done
	fails(l.ctl("kill", "1"), exitFailed, "the cluster on "+dir+" does not run")
	l = startLocal(t, dir)
	want(l.ctl("pause", "1"), "1\tpaused\n")
	// A signal stops it in order, though a broker is paused.
	l.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-l.done; err != nil {
		t.Errorf("it was stopped: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, controlSocket)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	fails(l.ctl("kill", "1"), exitFailed, "the cluster on "+dir+" does not run")
	fails(l.with("", "cluster", "kill", "1", "--data-dir", t.TempDir()), exitFailed, "there is no cluster on")
}

// TestLongSocketName has a directory whose name is too long for a socket.
func TestLongSocketName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if _, err := socketPath(dir); err == nil || !strings.Contains(err.Error(), "too long for the name of a socket") {
		t.Errorf("%v", err)
	}
	t.Chdir(filepath.Dir(dir))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	if name, err := socketPath(dir); err != nil || name != controlSocket {
		t.Errorf("%s, %v", name, err)
	}
}
