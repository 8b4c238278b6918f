package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The keys of config/controller.properties and config/broker.properties of Kafka's
// distribution. A test replaces what one machine has once: ports, directories and node ids.
const (
	kafkaController = `
process.roles=controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=CONTROLLER://:9093
advertised.listeners=CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
log.dirs=/tmp/kraft-controller-logs
`
	kafkaBroker = `
process.roles=broker
node.id=2
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://localhost:9092
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs=/tmp/kraft-broker-logs
`
	kafkaBoth = `
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
`
)

// nodeProcess is klamm start with a configuration.
type nodeProcess struct {
	t     *testing.T
	file  string
	ready string // what it says when it is
	cmd   *exec.Cmd
}

// begin starts it, and waits until it is ready.
func (n *nodeProcess) begin() {
	n.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	n.cmd = exec.Command(exe, "start", "--config", n.file, "--log-level", "error")
	n.cmd.Env, n.cmd.Stderr = []string{asCommand + "=1", "HOME=/", "TZ=UTC"}, os.Stderr
	out, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := n.cmd
	n.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, n.ready) {
		n.t.Fatalf("%s: %v, it says %q, want %q", n.file, err, line, n.ready)
	}
}

// end ends it with a signal.
func (n *nodeProcess) end(signal syscall.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(signal); err != nil {
		n.t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := n.cmd.Wait(); err != nil && !(signal == syscall.SIGKILL && errors.As(err, &exit)) {
		n.t.Fatalf("%s does not stop in order: %v", n.file, err)
	}
}

// startNodes formats and starts nodes, each on its own: of kinds, the first is a controller that
// the quorum begins with, and further controllers join it. The shell talks to the first broker.
func startNodes(t *testing.T, kinds ...string) (*shell, []*nodeProcess) {
	t.Helper()
	dir := t.TempDir()
	ports := freePorts(t, len(kinds))
	s := &shell{t, "127.0.0.1:" + ports[slices.Index(kinds, kafkaBroker)]}
	id := strings.TrimSpace((&shell{t, "127.0.0.1:1"}).ok("storage", "random-uuid"))
	var nodes []*nodeProcess
	for i, text := range kinds {
		file := filepath.Join(dir, fmt.Sprint(i+1, ".properties"))
		own := strings.NewReplacer("node.id=1", fmt.Sprint("node.id=", i+1), "node.id=2", fmt.Sprint("node.id=", i+1),
			"servers=localhost:9093", "servers=localhost:"+ports[0], ":9093", ":"+ports[i], ":9092", ":"+ports[i], "/tmp/", filepath.Join(dir, fmt.Sprint(i+1))+"/")
		if err := os.WriteFile(file, []byte(own.Replace(text)+kafkaBoth), 0o644); err != nil {
			t.Fatal(err)
		}
		n := &nodeProcess{t: t, file: file, ready: "ready bootstrap=127.0.0.1:" + ports[i]}
		args := []string{"storage", "format", "-t", id, "-c", file}
		if text == kafkaController {
			n.ready = "ready controller=localhost:" + ports[i]
			args = append(args, "--standalone")
		}
		if i > 0 && text == kafkaController {
			args[len(args)-1] = "--no-initial-controllers"
		}
		s.ok(args...)
		nodes = append(nodes, n)
		n.begin()
	}
	return s, nodes
}

// TestRoles starts a controller and two brokers with the configurations that Kafka comes with:
// they make a cluster, which bears the end and the return of each.
func TestRoles(t *testing.T) {
	s, nodes := startNodes(t, kafkaController, kafkaBroker, kafkaBroker)
	s.ok("topic", "create", "t", "--replicas", "2")
	written := 0
	write := func() {
		t.Helper()
		written++
		s.ok("produce", "t", fmt.Sprint(written), "--acks", "all")
	}
	write()
	if brokers := s.brokers(); len(brokers) != 2 || brokers[0].ID != 2 || brokers[1].ID != 3 {
		t.Errorf("the brokers are %+v", brokers)
	}
	nodes[2].end(syscall.SIGKILL)
	write()
	nodes[2].begin()
	s.ok("cluster", "health", "--wait", "--exit-code")
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		nodes[0].end(signal)
		write() // the brokers go on without a controller
		nodes[0].begin()
		s.ok("topic", "create", fmt.Sprint("after-", int(signal)))
	}
	nodes[2].end(syscall.SIGTERM)
	nodes[2].begin()
	s.ok("cluster", "health", "--wait", "--exit-code")
	write()
	if out := s.ok("consume", "t", "-o", "start", "-e", "-f", `%v\n`); out != "1\n2\n3\n4\n5\n" || written != 5 {
		t.Errorf("the topic holds %q of %d records", out, written)
	}
}

// quorumMember is what klamm cluster quorum says of a node.
type quorumMember struct {
	Node   int32
	Role   string
	Active bool
}

// TestVoters has a second controller join, vote, and take the place of the first one, which
// goes. Who began while the first one was there finds the second one afterwards.
func TestVoters(t *testing.T) {
	s, nodes := startNodes(t, kafkaController, kafkaBroker, kafkaController)
	quorum := func() string {
		t.Helper()
		var all []quorumMember
		s.parsed(&all, "cluster", "quorum")
		return fmt.Sprint(all)
	}
	is := func(want string) {
		t.Helper()
		for began := time.Now(); quorum() != want; time.Sleep(time.Millisecond) {
			if time.Since(began) > hung {
				t.Fatalf("the quorum is %s, want %s", quorum(), want)
			}
		}
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if r := s.with("", args...); r.code != exitFailed || !strings.Contains(r.err, want) {
			t.Errorf("klamm %s: exit %d, %s; want %s", strings.Join(args, " "), r.code, r.err, want)
		}
	}
	is("[{1 voter true} {2 observer false} {3 observer false}]")
	fails("node 3 is not a voter: they are 1", "cluster", "remove-voter", "3")
	fails("nobody would be left", "cluster", "remove-voter", "1")
	fails("is lagging behind", "cluster", "add-voter", "4", "--listener", "CONTROLLER://localhost:1", "--directory", "JEXY6aqzQY-32P5TStzaFg", "--timeout", "2s")
	s.ok("cluster", "add-voter", "--config", nodes[2].file)
	fails("already part of the set of voters", "cluster", "add-voter", "--config", nodes[2].file)
	is("[{1 voter true} {3 voter false} {2 observer false}]")
	s.ok("topic", "create", "with-two")
	s.ok("cluster", "remove-voter", "1")
	is("[{3 voter true} {1 observer false} {2 observer false}]")
	s.ok("topic", "create", "with-the-second")
	nodes[0].end(syscall.SIGTERM)
	nodes[1].end(syscall.SIGKILL)
	nodes[1].begin() // its configuration names the first one alone
	s.ok("topic", "create", "without-the-first")
	nodes[2].end(syscall.SIGKILL)
	nodes[2].begin()
	s.ok("topic", "create", "after-the-second-was-away")
	nodes[0].begin()
	fails("VOTER_NOT_FOUND", "cluster", "remove-voter", "--config", nodes[0].file)
}
