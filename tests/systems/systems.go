// Package systems starts the brokers that klamm is compared with, and klamm
// itself, each as a process of its own.
package systems

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a broker that runs.
type Process struct {
	Name    string
	Addr    string // host:port
	Pid     int
	Started time.Time // when the process was executed
	cmd     *exec.Cmd
	output  *tail
}

// Seeds are the addresses that clients ask first.
func (p *Process) Seeds() []string { return strings.Split(p.Addr, ",") }

// KlammBinary returns the binary to test: $KLAMM, or bin/klamm of this checkout.
func KlammBinary() (string, error) {
	path := os.Getenv("KLAMM")
	if path == "" {
		path = filepath.Join(Root(), "bin", "klamm")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no klamm binary, run make build: %w", err)
	}
	return path, nil
}

// Root is the folder of the main module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Klamm starts klamm with its data in dir. It has returned once the broker says
// that it is ready.
func Klamm(dir string, overrides ...string) (*Process, error) {
	path, err := KlammBinary()
	if err != nil {
		return nil, err
	}
	return klamm(exec.Command(path, klammArgs(dir, overrides)...))
}

// KlammLimited is Klamm under a limit of open files (ulimit -n).
func KlammLimited(dir string, files int, overrides ...string) (*Process, error) {
	path, err := KlammBinary()
	if err != nil {
		return nil, err
	}
	script := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files)
	return klamm(exec.Command("sh", append([]string{"-c", script, path}, klammArgs(dir, overrides)...)...))
}

func klammArgs(dir string, overrides []string) []string {
	args := []string{"start", "--listen", "127.0.0.1:0", "--data-dir", dir, "--log-level", "warn"}
	for _, o := range overrides {
		args = append(args, "--override", o)
	}
	return args
}

func klamm(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: "klamm", cmd: cmd, output: new(tail)}
	p.cmd.Stderr = p.output
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.Started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.Pid = p.cmd.Process.Pid
	line, err := bufio.NewReader(stdout).ReadString('\n')
	rest, ok := strings.CutPrefix(line, "ready bootstrap=")
	if err != nil || !ok {
		p.Kill()
		return nil, fmt.Errorf("klamm said %q and not that it is ready: %w\n%s", line, err, p.output)
	}
	p.Addr, _, _ = strings.Cut(rest, " ")
	return p, nil
}

// Classpath returns the classpath of the JVM broker, its clients and the driver
// in tests/jvm. Maven fetches and compiles them on the first call, and again
// when their sources have changed. It runs once a process.
var Classpath = sync.OnceValues(classpath)

func classpath() (string, error) {
	dir := filepath.Join(Root(), "tests", "jvm")
	file := filepath.Join(dir, "target", "classpath.txt")
	if fresh, err := newest(file, filepath.Join(dir, "pom.xml"), filepath.Join(dir, "src")); err != nil {
		return "", err
	} else if !fresh {
		for _, tool := range []string{"java", "mvn"} {
			if _, err := exec.LookPath(tool); err != nil {
				return "", fmt.Errorf("the JVM broker needs %s: %w", tool, err)
			}
		}
		cmd := exec.Command("mvn", "-q", "-B", "compile", "dependency:build-classpath", "-Dmdep.outputFile=target/classpath.txt")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("mvn: %w\n%s", err, out)
		}
		if err := os.Chtimes(file, time.Now(), time.Now()); err != nil { // Maven leaves an unchanged file alone
			return "", err
		}
	}
	text, err := os.ReadFile(file)
	return filepath.Join(dir, "target", "classes") + ":" + strings.TrimSpace(string(text)), err
}

// newest reports whether file exists and is newer than every file in others,
// which are files and folders.
func newest(file string, others ...string) (bool, error) {
	made, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	newest := true
	for _, o := range others {
		err := filepath.WalkDir(o, func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			newest = newest && err == nil && info.ModTime().Before(made.ModTime())
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return newest, nil
}

// jvmFlags are those that Kafka's scripts set, with the heap that its quick
// start uses.
var jvmFlags = []string{"-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"}

// JVM starts a JVM broker, one combined node, with its data in dir. It has
// returned once the broker accepts connections.
func JVM(dir string, overrides ...string) (*Process, error) {
	return startJVM(dir, "off", false, overrides)
}

// JVMLogging is JVM, with the warnings and errors that it logs in Output.
func JVMLogging(dir string, overrides ...string) (*Process, error) {
	return startJVM(dir, "warn", false, overrides)
}

// JVMStandalone is JVMLogging with a quorum whose voters are in the metadata log,
// and not in the configuration. Such a controller keeps its port.
func JVMStandalone(dir string, overrides ...string) (*Process, error) {
	return startJVM(dir, "warn", true, overrides)
}

// JVMProperties is the file that the last start of a JVM broker with its data in
// dir was configured by.
func JVMProperties(dir string) string { return filepath.Join(dir, "server.properties") }

// starting holds one for each JVM broker that starts: more of them at once would
// keep each other from it.
var starting = make(chan struct{}, 2)

func startJVM(dir, level string, standalone bool, overrides []string) (*Process, error) {
	classpath, err := Classpath()
	if err != nil {
		return nil, err
	}
	starting <- struct{}{}
	defer func() { <-starting }()
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	broker, controller := ports[0], ports[1]
	file := JVMProperties(dir)
	props := map[string]string{
		"process.roles": "broker,controller", "node.id": "1",
		"controller.listener.names": "CONTROLLER", "log.dirs": filepath.Join(dir, "logs"),
		"offsets.topic.replication.factor": "1", "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
		"share.coordinator.state.topic.replication.factor": "1", "share.coordinator.state.topic.min.isr": "1",
	}
	format := []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", clusterID, "-c", file}
	if standalone {
		format = append(format, "--standalone")
		if before, err := os.ReadFile(file); err == nil {
			_, after, _ := strings.Cut(string(before), "bootstrap.servers=")
			if _, err := fmt.Sscan(after, &controller); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		props["controller.quorum.bootstrap.servers"] = controller
	} else {
		props["controller.quorum.voters"] = "1@" + controller
	}
	props["listeners"] = "PLAINTEXT://" + broker + ",CONTROLLER://" + controller
	for _, o := range overrides {
		k, v, _ := strings.Cut(o, "=")
		props[k] = v
	}
	var text strings.Builder
	for k, v := range props {
		fmt.Fprintf(&text, "%s=%s\n", k, v)
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte(text.String()), 0o644)); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "logs", "meta.properties")); err != nil {
		if out, err := exec.Command("java", format...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("format: %w\n%s", err, out)
		}
	}
	p := &Process{Name: "jvm", Addr: broker, output: new(tail)}
	p.cmd = exec.Command("java", append(append([]string{}, jvmFlags...), "-Dorg.slf4j.simpleLogger.defaultLogLevel="+level, "-cp", classpath, "kafka.Kafka", file)...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.Started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.Pid = p.cmd.Process.Pid
	if err := p.await(2 * time.Minute); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// Self starts this program again with args, which must print its address.
func Self(name string, args ...string) (*Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, cmd: exec.Command(exe, args...), output: new(tail)}
	p.cmd.Stderr = p.output
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.Started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.Pid = p.cmd.Process.Pid
	line, err := bufio.NewReader(stdout).ReadString('\n')
	p.Addr = strings.TrimSpace(line)
	if err != nil {
		p.Kill()
		return nil, fmt.Errorf("%s said %q: %w\n%s", name, line, err, p.output)
	}
	return p, nil
}

// await waits until the process accepts connections.
func (p *Process) await(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			return c.Close()
		}
		if ctx.Err() != nil || p.cmd.ProcessState != nil {
			return fmt.Errorf("%s does not accept connections: %w\n%s", p.Name, err, p.output)
		}
		time.Sleep(5 * time.Millisecond) // a port that is not open yet tells nobody when it is
	}
}

// CPU returns the user and system time that the process has used.
func (p *Process) CPU() (user, system time.Duration, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+2:]))
	tick := func(s string) time.Duration {
		n, _ := strconv.ParseInt(s, 10, 64)
		return time.Duration(n) * time.Second / 100 // USER_HZ
	}
	return tick(fields[11]), tick(fields[12]), nil
}

// RSS returns the resident memory of the process, in bytes.
func (p *Process) RSS() (int64, error) {
	kb, err := Status(p.Pid, "VmRSS")
	return kb << 10, err
}

// Threads returns the number of threads of the process.
func (p *Process) Threads() (int64, error) { return Status(p.Pid, "Threads") }

// Descriptors returns the number of files that the process has open.
func (p *Process) Descriptors() (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid))
	return len(entries), err
}

// Status returns a number in /proc/pid/status; memory is in units of 1,024
// bytes.
func Status(pid int, key string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(l, key+":"); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", key, pid)
}

// Stop asks the process to end and waits for it.
func (p *Process) Stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}

// Kill ends the process as a power cut would, but for what the kernel holds.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// Output returns the last of what the process logged.
func (p *Process) Output() string { return p.output.String() }

// tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 64<<10 {
		t.b = append([]byte(nil), t.b[len(t.b)-32<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
