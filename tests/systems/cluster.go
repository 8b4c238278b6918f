package systems

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cluster is a cluster of brokers that run: combined nodes, with ids from 1 on.
// Its methods are for one goroutine.
type Cluster struct {
	Name    string
	Started time.Time // when the first process was executed
	// Nodes holds the process of each broker, nil while it does not run; a single one
	// if all brokers run in one process.
	Nodes []*Process
	seeds []string
	start func(i int) (*Process, error)
}

// Seeds are the addresses of the brokers that clients ask first.
func (c *Cluster) Seeds() []string { return c.seeds }

// Start starts processes that do not run, by their place in Nodes, and returns when
// all of them accept connections.
func (c *Cluster) Start(nodes ...int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, n := range nodes {
		wg.Go(func() { c.Nodes[n], errs[i] = c.start(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// KillNode ends one process at once.
func (c *Cluster) KillNode(i int) {
	c.Nodes[i].Kill()
	c.Nodes[i] = nil
}

// StopNode asks one process to end and waits for it.
func (c *Cluster) StopNode(i int) error {
	err := c.Nodes[i].Stop()
	c.Nodes[i] = nil
	return err
}

// Stop asks all to end and waits for them.
func (c *Cluster) Stop() error {
	for _, p := range c.Nodes {
		if p != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // who has ended needs none
		}
	}
	var errs []error
	for i, p := range c.Nodes {
		if p != nil {
			errs = append(errs, p.cmd.Wait())
			c.Nodes[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Kill ends all at once.
func (c *Cluster) Kill() {
	for i, p := range c.Nodes {
		if p != nil {
			p.Kill()
			c.Nodes[i] = nil
		}
	}
}

// CPU returns the user and system time that the processes that run have used.
func (c *Cluster) CPU() (user, system time.Duration, err error) {
	for _, p := range c.Nodes {
		if p != nil {
			u, s, e := p.CPU()
			user, system, err = user+u, system+s, errors.Join(err, e)
		}
	}
	return user, system, err
}

// RSS returns the resident memory of the processes that run, in bytes.
func (c *Cluster) RSS() (total int64, err error) {
	for _, p := range c.Nodes {
		if p != nil {
			n, e := p.RSS()
			total, err = total+n, errors.Join(err, e)
		}
	}
	return total, err
}

// Output returns the last of what the processes that run logged.
func (c *Cluster) Output() string {
	var out strings.Builder
	for i, p := range c.Nodes {
		if p != nil {
			fmt.Fprintf(&out, "node %d:\n%s\n", i+1, p.Output())
		}
	}
	return out.String()
}

// KlammTogether starts n brokers in one process of klamm.
func KlammTogether(dir string, n int, overrides ...string) (*Cluster, error) {
	path, err := KlammBinary()
	if err != nil {
		return nil, err
	}
	args := append(klammArgs(dir, overrides), "--brokers", fmt.Sprint(n))
	for i, a := range args {
		if a == "--listen" {
			args = slices.Delete(args, i, i+2)
			break
		}
	}
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Name: "klamm", Nodes: make([]*Process, 1), start: func(int) (*Process, error) {
		return klamm(exec.Command(path, append(args, "--listen", ports[0])...))
	}}
	if err := c.Start(0); err != nil {
		return nil, err
	}
	c.Started, c.seeds = c.Nodes[0].Started, strings.Split(c.Nodes[0].Addr, ",")
	return c, nil
}

// Commands are how the nodes of a system are run that read a file of properties.
type Commands struct {
	Name string
	// Format formats the directories of a node for a cluster, and Start runs it.
	Format func(cluster, config string) *exec.Cmd
	Start  func(config string) *exec.Cmd
}

// KlammCommands are those of klamm.
func KlammCommands() (Commands, error) {
	path, err := KlammBinary()
	return Commands{"klamm", func(cluster, config string) *exec.Cmd {
		return exec.Command(path, "storage", "format", "-t", cluster, "-c", config)
	}, func(config string) *exec.Cmd {
		return exec.Command(path, "start", "--config", config, "--log-level", "warn")
	}}, err
}

// JVMCommands are those of the JVM broker.
func JVMCommands() (Commands, error) {
	classpath, err := Classpath()
	return Commands{"jvm", func(cluster, config string) *exec.Cmd {
		return exec.Command("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config)
	}, func(config string) *exec.Cmd {
		return exec.Command("java", append(slices.Clone(jvmFlags), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath, "kafka.Kafka", config)...)
	}}, err
}

// KlammCluster starts a process of klamm for each of n combined nodes.
func KlammCluster(dir string, n int, overrides ...string) (*Cluster, error) {
	of, err := KlammCommands()
	if err != nil {
		return nil, err
	}
	return processes(of, dir, n, overrides, func(config, addr string) (*Process, error) { return klamm(of.Start(config)) })
}

// JVMCluster starts a JVM broker for each of n combined nodes.
func JVMCluster(dir string, n int, overrides ...string) (*Cluster, error) {
	of, err := JVMCommands()
	if err != nil {
		return nil, err
	}
	return processes(of, dir, n, overrides, func(config, addr string) (*Process, error) {
		p := &Process{Name: "jvm", Addr: addr, output: new(tail), cmd: of.Start(config)}
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
	})
}

// clusterID is that of every cluster that is formatted here.
const clusterID = "4L6g3nShT-eMCtK--X86sw"

// processes writes a file of properties for each node, formats what is not yet
// formatted, and starts all. Both systems read the same files.
func processes(of Commands, dir string, n int, overrides []string, start func(config, addr string) (*Process, error)) (*Cluster, error) {
	ports, err := FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	var voters []string
	for i := range n {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, ports[n+i]))
	}
	configs := make([]string, n)
	for i := range n {
		home := filepath.Join(dir, fmt.Sprint("node-", i+1))
		configs[i] = JVMProperties(home)
		lines := append([]string{
			fmt.Sprint("node.id=", i+1), "process.roles=broker,controller", "controller.listener.names=CONTROLLER",
			fmt.Sprintf("listeners=PLAINTEXT://%s,CONTROLLER://%s", ports[i], ports[n+i]),
			"controller.quorum.voters=" + strings.Join(voters, ","), "log.dirs=" + filepath.Join(home, "logs"),
			fmt.Sprint("default.replication.factor=", min(n, 3)), fmt.Sprint("min.insync.replicas=", min(n, 2)),
			fmt.Sprint("offsets.topic.replication.factor=", min(n, 3)), fmt.Sprint("transaction.state.log.replication.factor=", min(n, 3)),
			fmt.Sprint("transaction.state.log.min.isr=", min(n, 2)),
		}, overrides...)
		if err := errors.Join(os.MkdirAll(home, 0o755), os.WriteFile(configs[i], []byte(strings.Join(lines, "\n")+"\n"), 0o644)); err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(home, "logs", "meta.properties")); err == nil {
			continue
		}
		if out, err := of.Format(clusterID, configs[i]).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("format: %w\n%s", err, out)
		}
	}
	c := &Cluster{Name: of.Name, Nodes: make([]*Process, n), seeds: ports[:n], Started: time.Now(), start: func(i int) (*Process, error) { return start(configs[i], ports[i]) }}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if err := c.Start(all...); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// given are the ports that somebody in this process was told of.
var given sync.Map

// FreePorts finds addresses (host:port) on which nobody listens, below those that the
// system gives to connections: a broker that is started again finds its own free.
func FreePorts(n int) (out []string, err error) {
	for range 1000 {
		at := fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000))
		if _, taken := given.LoadOrStore(at, true); taken {
			continue
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue // another process has it
		}
		defer l.Close()
		if out = append(out, at); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("there are no %d free ports", n)
}
