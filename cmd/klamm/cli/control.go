package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker"
)

// A cluster of klamm start --brokers listens on a Unix socket in its data directory, which only
// the user that started it can open, for what no client may ask: that a broker is killed, paused
// or resumed. One request stands in a line of JSON, and so does its answer; then the connection
// ends.

// controlSocket is the name of the socket in the data directory.
const controlSocket = "klamm.sock"

// controlRequest asks for something to be done with a broker.
type controlRequest struct {
	Do     string `json:"do"` // kill, pause or resume
	Broker int32  `json:"broker"`
}

// controlAnswer says what a broker is now, or why it is not.
type controlAnswer struct {
	State   string  `json:"state,omitempty"` // killed, paused, or running
	Brokers []int32 `json:"brokers"`         // that there are
	Unknown bool    `json:"unknown,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// controlLimit is how long a request may be in bytes, and how long it may take to come.
const (
	controlLimit   = 1 << 10
	controlPatient = 5 * time.Second
)

// localControl is the socket of a cluster that runs.
type localControl struct {
	c       *broker.Cluster
	lg      *zap.Logger
	l       *net.UnixListener
	path    string
	ctx     context.Context // ends with the control
	cancel  context.CancelFunc
	serving sync.WaitGroup
}

// socketPath returns a name of the socket in a directory that is short enough for the system:
// where the whole one is too long, the one that is seen from the working directory.
func socketPath(dir string) (string, error) {
	const longest = 103 // of macOS; Linux takes four more
	name := filepath.Join(dir, controlSocket)
	if len(name) <= longest {
		return name, nil
	}
	if wd, err := os.Getwd(); err == nil {
		if abs, err := filepath.Abs(name); err == nil {
			if rel, err := filepath.Rel(wd, abs); err == nil && len(rel) <= longest {
				return rel, nil
			}
		}
	}
	return "", fmt.Errorf("%s is too long for the name of a socket: %d bytes, %d are possible", name, len(name), longest)
}

// startControl listens in the data directory of a cluster that was started. A socket that is there
// is of a process that has died, since the cluster has locked its directories.
func startControl(dir string, c *broker.Cluster, lg *zap.Logger) (*localControl, error) {
	name, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	// In a directory of its own nobody can open the socket before its mode is set.
	private, err := os.MkdirTemp(filepath.Dir(name), ".s") // its mode is 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	made := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, name)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctl := &localControl{c: c, lg: lg.Named("control"), l: l, path: name}
	ctl.ctx, ctl.cancel = context.WithCancel(context.Background())
	ctl.serving.Go(ctl.accept)
	return ctl, nil
}

func (ctl *localControl) accept() {
	for {
		nc, err := ctl.l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				ctl.lg.Error("no more commands for single brokers are taken", zap.Error(err))
			}
			return
		}
		ctl.serving.Go(func() { ctl.serve(nc) })
	}
}

func (ctl *localControl) serve(nc net.Conn) {
	defer nc.Close()
	defer context.AfterFunc(ctl.ctx, func() { nc.Close() })()
	nc.SetReadDeadline(time.Now().Add(controlPatient))
	line, err := bufio.NewReader(io.LimitReader(nc, controlLimit)).ReadBytes('\n')
	if err != nil {
		return // who asked has gone
	}
	var req controlRequest
	answer := controlAnswer{Brokers: ctl.c.IDs()}
	err = json.Unmarshal(line, &req)
	if err == nil && !slices.Contains(answer.Brokers, req.Broker) {
		answer.Unknown, err = true, fmt.Errorf("there is no broker %d", req.Broker)
	}
	if err == nil {
		answer.State, err = ctl.do(req)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	ctl.lg.Info("was asked", zap.String("to", req.Do), zap.Int32("broker", req.Broker), zap.String("state", answer.State), zap.Error(err))
	_ = json.NewEncoder(nc).Encode(answer) // who does not read it does not want it
}

// do does what a request asks, and returns what the broker is then.
func (ctl *localControl) do(req controlRequest) (state string, err error) {
	switch req.Do {
	case "kill":
		return "killed", ctl.c.Kill(req.Broker)
	case "pause":
		return "paused", ctl.c.Pause(req.Broker)
	case "resume":
		if ctl.c.Broker(req.Broker) == nil {
			return "running", ctl.c.Start(ctl.ctx, req.Broker)
		}
		return "running", ctl.c.Resume(req.Broker)
	}
	return "", fmt.Errorf("%q is not known: want kill, pause or resume", req.Do)
}

// close ends the control and waits for what it does.
func (ctl *localControl) close() error {
	ctl.cancel()
	err := errors.Join(os.Remove(ctl.path), ctl.l.Close())
	ctl.serving.Wait()
	return err
}

// controlled is a cluster with its control.
type controlled struct {
	*broker.Cluster
	control *localControl
}

// Close stops the cluster.
func (c controlled) Close() error { return errors.Join(c.control.close(), c.Cluster.Close()) }
