package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/systems"
)

// processes are three brokers, each a process of its own.
type processes struct {
	t     testing.TB
	of    systems.Commands
	nodes map[int32]*process
	links *links        // between brokers; nil if they reach each other directly
	ask   *client.Admin // lives as long as the test
}

// process is one broker.
type process struct {
	id     int32
	listen string // host:port for clients
	config string // its file
	log    string // what it has said on stderr
	cmd    *exec.Cmd
	done   chan error // its end
	paused bool
}

// startProcesses formats and starts the brokers. With proxied links, what they send each other
// can be cut off.
func startProcesses(t testing.TB, of systems.Commands, proxied bool) *processes {
	t.Helper()
	dir := t.TempDir()
	p := &processes{t: t, of: of, nodes: make(map[int32]*process)}
	ports, err := systems.FreePorts(3 * len(brokers))
	if err != nil {
		t.Fatal(err)
	}
	clients, brokersAt, controllers := ports[:3], ports[3:6], ports[6:]
	t.Cleanup(p.close)
	reach := func(address string) string { return address }
	if proxied {
		p.links = newLinks(t, brokersAt, controllers)
		reach = func(address string) string { return p.links.front[address] }
	}
	var voters []string
	for i, b := range brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", b, reach(controllers[i])))
	}
	for i, b := range brokers {
		n := &process{id: b, listen: clients[i], config: filepath.Join(dir, fmt.Sprintf("b%d.properties", b)), log: filepath.Join(dir, fmt.Sprintf("b%d.log", b))}
		text := fmt.Sprintf(`node.id=%d
process.roles=broker,controller
listeners=PLAINTEXT://%s,INTERNAL://%s,CONTROLLER://%s
advertised.listeners=PLAINTEXT://%s,INTERNAL://%s
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
controller.quorum.voters=%s
log.dirs=%s
default.replication.factor=3
min.insync.replicas=2
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
`, b, n.listen, brokersAt[i], controllers[i], n.listen, reach(brokersAt[i]), strings.Join(voters, ","), filepath.Join(dir, fmt.Sprint("d", b)))
		if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := of.Format(clusterID, n.config).CombinedOutput(); err != nil {
			t.Fatalf("format: %v\n%s", err, out)
		}
		p.nodes[b] = n
	}
	p.start(brokers...)
	p.ask = admin(t, p)
	return p
}

// clusterID is that of every cluster here.
const clusterID = "4L6g3nShT-eMCtK--X86sw"

func (p *processes) bootstrap() (out []string) {
	for _, id := range brokers {
		out = append(out, p.nodes[id].listen)
	}
	return out
}

func (p *processes) dial() func(context.Context, string, string) (net.Conn, error) { return nil }

func (p *processes) running(id int32) bool { return p.nodes[id].cmd != nil }

// start starts brokers and waits until they serve.
func (p *processes) start(ids ...int32) {
	p.t.Helper()
	var wg sync.WaitGroup
	for _, id := range ids {
		n := p.nodes[id]
		stderr, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			p.t.Fatal(err)
		}
		n.cmd, n.done = p.of.Start(n.config), make(chan error, 1)
		n.cmd.Stderr = stderr
		ready := make(chan bool, 1)
		if p.of.Name == "jvm" {
			awaitPort(n, stderr, ready)
		} else {
			awaitReady(p.t, n, stderr, ready)
		}
		wg.Go(func() {
			select {
			case ok := <-ready:
				if !ok {
					p.t.Errorf("broker %d ended before it was ready\n%s", id, p.said(n))
				}
			case <-time.After(time.Minute):
				p.t.Errorf("broker %d is not ready after a minute\n%s", id, p.said(n))
			}
		})
	}
	wg.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// awaitReady starts a process that says on stdout when it serves.
func awaitReady(t testing.TB, n *process, stderr *os.File, ready chan<- bool) {
	t.Helper()
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan<- error) {
		var said bytes.Buffer
		b := make([]byte, 512)
		for !strings.Contains(said.String(), "ready ") {
			k, err := stdout.Read(b)
			said.Write(b[:k])
			if err != nil {
				break
			}
		}
		ready <- strings.Contains(said.String(), "ready ")
		_, _ = io.Copy(io.Discard, stdout) // it ends with the process
		stderr.Close()
		done <- cmd.Wait()
	}(n.cmd, n.done)
}

// awaitPort starts a process that serves when its port accepts connections.
func awaitPort(n *process, stderr *os.File, ready chan<- bool) {
	n.cmd.Stdout = stderr
	if err := n.cmd.Start(); err != nil {
		ready <- false
		return
	}
	ended := make(chan struct{})
	go func(cmd *exec.Cmd, done chan<- error) {
		err := cmd.Wait()
		stderr.Close()
		close(ended)
		done <- err
	}(n.cmd, n.done)
	go func(listen string) {
		for {
			c, err := net.Dial("tcp", listen)
			if err == nil {
				c.Close()
				ready <- true
				return
			}
			select {
			case <-ended:
				ready <- false
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}(n.listen)
}

// said returns the last lines of a broker's log.
func (p *processes) said(n *process) string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// end sends a signal that ends a process, and waits for that.
func (p *processes) end(id int32, s syscall.Signal) error {
	p.t.Helper()
	n := p.nodes[id]
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("broker %d: %v: %v", id, s, err)
	}
	var err error
	select {
	case err = <-n.done:
	case <-time.After(time.Minute):
		_ = n.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines are told
		<-n.done
		p.t.Fatalf("broker %d has not ended a minute after %v\n%s", id, s, p.said(n))
	}
	n.cmd, n.paused = nil, false
	return err
}

func (p *processes) kill(id int32) { _ = p.end(id, syscall.SIGKILL) } // that it was killed is its error

func (p *processes) stop(id int32) {
	if p.nodes[id].paused {
		p.resume(id)
	}
	if err := p.end(id, syscall.SIGTERM); err != nil && p.of.Name != "jvm" { // the JVM says that it was the signal
		p.t.Errorf("broker %d was stopped and says %v\n%s", id, err, p.said(p.nodes[id]))
	}
}

func (p *processes) pause(id int32) {
	if err := p.nodes[id].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	p.nodes[id].paused = true
}

func (p *processes) resume(id int32) {
	if err := p.nodes[id].cmd.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
	p.nodes[id].paused = false
}

func (p *processes) cut(from, to int32)  { p.links.set(from, to, blackhole) }
func (p *processes) slow(from, to int32) { p.links.set(from, to, delayed) }

func (p *processes) mend() {
	for id, n := range p.nodes {
		if n.paused {
			p.resume(id)
		}
	}
	if p.links != nil {
		p.links.mend()
	}
}

// leader asks the brokers that run. It is -1 if they do not know.
func (p *processes) leader(topic string, partition int32) int32 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	topics, err := p.ask.DescribeTopics(ctx, topic)
	if err != nil || len(topics) == 0 {
		return -1
	}
	i := slices.IndexFunc(topics[0].Partitions, func(q client.PartitionInfo) bool { return q.Partition == partition })
	if i < 0 {
		return -1
	}
	return topics[0].Partitions[i].Leader
}

// controller asks who leads the quorum.
func (p *processes) controller() int32 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return quorumLeader(ctx, p)
}

func (p *processes) close() {
	if p.ask != nil {
		p.ask.Close()
	}
	for id, n := range p.nodes {
		if n.cmd != nil {
			p.kill(id)
		}
	}
	if p.links != nil {
		p.links.close()
	}
}
