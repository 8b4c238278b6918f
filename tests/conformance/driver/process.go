package driver

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// opLimit is how long a process may take over one operation before it is taken
// for stuck. Operations bound themselves well below it.
const opLimit = 90 * time.Second

// Process is a driver that runs as a process of its own.
type Process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	enc   *json.Encoder
	out   *bufio.Reader
	err   *tail
	lacks map[string]string
}

// Start starts a driver process and has it say what it lacks.
func Start(dir, name string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(name, args...), err: new(tail)}
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "KAFKAJS_NO_PARTITIONER_WARNING=1")
	p.cmd.Stderr = p.err
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.enc, p.out = in, json.NewEncoder(in), bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	r := p.Do(Op{Op: "hello"})
	if r.Error != "" {
		p.Close()
		return nil, fmt.Errorf("%s does not answer: %s", name, r.Error)
	}
	p.lacks = r.Lacks
	return p, nil
}

// Lacks returns what the client cannot do.
func (p *Process) Lacks() map[string]string { return p.lacks }

// Do has the process run one operation. A process that dies or falls silent
// shows as a result whose error holds what it wrote to stderr.
func (p *Process) Do(op Op) Result {
	stuck := time.AfterFunc(opLimit, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := p.enc.Encode(op); err != nil {
		return Result{Error: fmt.Sprintf("client: driver: %v\n%s", err, p.err)}
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return Result{Error: fmt.Sprintf("client: driver ended: %v\n%s", err, p.err)}
	}
	var r Result
	if err := json.Unmarshal(line, &r); err != nil {
		return Result{Error: fmt.Sprintf("client: driver said %.200q: %v", line, err)}
	}
	return Normal(r)
}

// Close ends the process by closing its stdin, and waits for it.
func (p *Process) Close() error {
	stuck := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	err := p.in.Close()
	if werr := p.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("%w\n%s", werr, p.err))
	}
	return err
}

// tail keeps the last of what a process wrote to stderr.
type tail struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 16<<10 {
		t.b = append([]byte(nil), t.b[len(t.b)-8<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
