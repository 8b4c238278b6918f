package cli

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/broker/brokertest"
)

// leaves returns every command that does something, by its path.
func leaves(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	out := make(map[string]*cobra.Command)
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasParent() && !c.HasSubCommands() && !c.Hidden {
			out[c.CommandPath()] = c
		}
	}
	walk(newRoot(&globals{reach: new(reach)}))
	return out
}

// examples returns the commands of testdata/script/commands, in order. Every
// command of klamm has one.
func examples(t *testing.T) (out []scripted) {
	t.Helper()
	list, err := os.ReadFile("testdata/script/commands")
	if err != nil {
		t.Fatal(err)
	}
	missing := leaves(t)
	root := newRoot(&globals{reach: new(reach)})
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		c := parseCommand(t, line)
		found, _, err := root.Find(c.args)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		delete(missing, found.CommandPath())
		out = append(out, c)
	}
	for path := range missing {
		t.Errorf("%s has no line in testdata/script/commands", path)
	}
	return out
}

// eachExample runs every example, as run says, and compares what they did with
// the script of that name. With several at once, none may need what an earlier
// one has made.
func eachExample(t *testing.T, name, about string, atOnce int, run func(t *testing.T, c *scripted) ended) {
	all := examples(t)
	blocks := make([]string, len(all))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			blocks[i] = all[i].shown(run(t, &all[i]))
		})
	}
	wg.Wait()
	compare(t, name, "# "+about+"\n\n"+strings.Join(blocks, "\n"))
}

// withLogs makes a directory for commands that look at files: that of a broker
// which wrote two records and stopped, its configuration, and that of a new node.
func withLogs(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	b := brokertest.Start(t, brokertest.Options{Dir: data})
	s := &shell{t, b.Bootstrap()}
	s.ok("topic", "create", "orders")
	s.lines("a\nb\n", "produce", "orders", "--timestamp", "1700000000000")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"server.properties": "log.dirs=data\n",
		"new.properties":    "node.id=2\nlog.dirs=new/a,new/b\nlisteners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.quorum.bootstrap.servers=localhost:9093\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// seeded is a broker for the examples.
func seeded(t *testing.T) string {
	t.Helper()
	b := brokertest.Start(t, brokertest.Options{})
	s := &shell{t, b.Bootstrap()}
	s.ok("topic", "create", "orders", "-c", "retention.ms=86400000")
	// They are of now, since retention would remove old ones from a slow test, and of one time,
	// since their size depends on how far they are apart.
	s.lines("a\nb\n", "produce", "orders", "--timestamp", strconv.FormatInt(time.Now().UnixMilli(), 10))
	s.ok("consume", "orders", "-g", "billing", "-o", "start", "-n", "1")
	return b.Bootstrap()
}

func TestEmptyInput(t *testing.T) {
	t.Parallel()
	dir, broker := withLogs(t), seeded(t)
	eachExample(t, "empty", "Each command with an empty standard input, its output in files.", 1, func(t *testing.T, c *scripted) ended {
		return (&process{args: c.args, dir: dir, broker: broker, stdin: strings.NewReader("")}).run(t)
	})
}

// note matches whole sentences, which no table has.
var note = regexp.MustCompile(`^(klamm: |\d+ partitions, |  controller\.quorum|Found metadata: |Formatting )`)

func TestTerminal(t *testing.T) {
	t.Parallel()
	dir, broker := withLogs(t), seeded(t)
	eachExample(t, "terminal", "Each command on a terminal of 80 columns, where Ctrl-D is typed.", 1, func(t *testing.T, c *scripted) ended {
		e := (&process{args: c.args, dir: dir, broker: broker, tty: true, typed: "\x04"}).run(t)
		c.mode = "terminal"
		for line := range strings.Lines(steady(c.args, e.out)) {
			if w := text.StringWidthWithoutEscSequences(strings.TrimSpace(line)); w > 80 && !note.MatchString(line) && c.args[0] != "help" && c.args[0] != "completion" {
				t.Errorf("%s: a line of %d columns: %s", c.line, w, line)
			}
		}
		return e
	})
}

// TestJSON holds the names and types of --format json, which scripts rely on.
func TestJSON(t *testing.T) {
	t.Parallel()
	dir, broker := withLogs(t), seeded(t)
	eachExample(t, "json", "Each command with --format json.", 1, func(t *testing.T, c *scripted) ended {
		return (&process{args: append(append([]string{}, c.args...), "--format", "json"), dir: dir, broker: broker, stdin: strings.NewReader("")}).run(t)
	})
}

func TestClosedPipe(t *testing.T) {
	t.Parallel()
	dir, broker := withLogs(t), seeded(t)
	eachExample(t, "closed", "Each command with a pipe as its output that nobody reads.", 1, func(t *testing.T, c *scripted) ended {
		return (&process{args: c.args, dir: dir, broker: broker, stdin: strings.NewReader(""), closed: true}).run(t)
	})
}

// shortly is how long a command tries that cannot succeed.
const shortly = "800ms"

func TestNoBroker(t *testing.T) {
	t.Parallel()
	dir := withLogs(t)
	eachExample(t, "nobroker", "Each command without a broker, with --timeout "+shortly+".", 8, func(t *testing.T, c *scripted) ended {
		return (&process{args: limited(c), dir: dir, broker: "127.0.0.1:1", stdin: strings.NewReader("v\n")}).run(t)
	})
}

// limited are the arguments of a command that is to end shortly.
func limited(c *scripted) []string {
	for _, a := range c.args {
		if a == "--timeout" {
			return c.args
		}
	}
	return append(append([]string{}, c.args...), "--timeout", shortly)
}

func TestBrokerDies(t *testing.T) {
	t.Parallel()
	dir, broker := withLogs(t), seeded(t)
	eachExample(t, "dies", "Each command with a broker that dies after its first answer, with --timeout "+shortly+".", 8, func(t *testing.T, c *scripted) ended {
		m := newMortal(t, broker, 1)
		return (&process{args: limited(c), dir: dir, broker: m.addr(), stdin: strings.NewReader("v\n")}).run(t)
	})
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := withLogs(t)
	eachExample(t, "interrupted", "Each command with a broker that does not answer, interrupted meanwhile.", 8, func(t *testing.T, c *scripted) ended {
		m := newMortal(t, "", 0)
		return (&process{args: c.args, dir: dir, broker: m.addr(), stdin: strings.NewReader("v\n"), interrupt: m.asked}).run(t)
	})
}

// mortal stands before a broker. It hands on so many answers and dies; without a
// broker it takes what is sent and does not answer.
type mortal struct {
	l     net.Listener
	asked chan struct{} // closed with the first byte that is sent

	mu     sync.Mutex // guards the fields below
	broker string
	left   int
	heard  bool
	conns  []net.Conn
}

// mortals counts those of this process.
var mortals atomic.Int32

// newMortal listens at a loopback address of its own: nobody else is given its port once it
// is dead.
func newMortal(t *testing.T, broker string, answers int) *mortal {
	t.Helper()
	n := mortals.Add(1)
	return listen(t, fmt.Sprintf("127.%d.%d.%d:0", 1+os.Getpid()%250, 1+n/250, 1+n%250), broker, answers)
}

func listen(t *testing.T, addr, broker string, answers int) *mortal {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{l: l, broker: broker, left: answers, asked: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.keep(c)
			serving.Go(func() { m.serve(c) })
		}
	})
	t.Cleanup(func() {
		m.die()
		serving.Wait()
	})
	return m
}

func (m *mortal) addr() string { return m.l.Addr().String() }

// setBroker is for a broker whose address is known later.
func (m *mortal) setBroker(broker string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broker = broker
}

func (m *mortal) keep(c net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns = append(m.conns, c)
}

func (m *mortal) die() {
	m.l.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.Close()
	}
}

func (m *mortal) serve(c net.Conn) {
	defer c.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	m.mu.Lock()
	if !m.heard {
		m.heard = true
		close(m.asked)
	}
	broker := m.broker
	m.mu.Unlock()
	if broker == "" {
		io.Copy(io.Discard, c)
		return
	}
	up, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	m.keep(up)
	defer up.Close()
	var asking sync.WaitGroup
	asking.Go(func() {
		up.Write(first)
		io.Copy(up, c)
	})
	defer asking.Wait()
	defer c.Close()
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(up, head); err != nil {
			return
		}
		answer := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(up, answer); err != nil {
			return
		}
		m.mu.Lock()
		m.left--
		left := m.left
		m.mu.Unlock()
		if left >= 0 {
			c.Write(append(head, answer...))
		}
		if left <= 0 {
			m.die()
			return
		}
	}
}
