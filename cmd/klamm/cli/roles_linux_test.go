package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

// TestRoles starts a controller and two brokers, each on its own, with the configurations that
// Kafka comes with: they make a cluster, which bears the end and the return of each.
func TestRoles(t *testing.T) {
	dir := t.TempDir()
	ports := freePorts(t, 3)
	s := &shell{t, "127.0.0.1:" + ports[1]}
	id := strings.TrimSpace((&shell{t, "127.0.0.1:1"}).ok("storage", "random-uuid"))
	var nodes []*nodeProcess
	for i, text := range []string{kafkaController, kafkaBroker, kafkaBroker} {
		file := filepath.Join(dir, fmt.Sprint(i+1, ".properties"))
		swap := strings.NewReplacer("node.id=2", fmt.Sprint("node.id=", i+1), ":9093", ":"+ports[0], ":9092", ":"+ports[i], "/tmp/", filepath.Join(dir, fmt.Sprint(i+1))+"/")
		if err := os.WriteFile(file, []byte(swap.Replace(text)+kafkaBoth), 0o644); err != nil {
			t.Fatal(err)
		}
		n := &nodeProcess{t: t, file: file, ready: "ready bootstrap=127.0.0.1:" + ports[i]}
		args := []string{"storage", "format", "-t", id, "-c", file}
		if i == 0 {
			args, n.ready = append(args, "--standalone"), "ready controller=localhost:"+ports[0]
		}
		s.ok(args...)
		nodes = append(nodes, n)
		n.begin()
	}
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
