package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// job says what a child does. Every kind of child reads some of it.
type job struct {
	What       string // klamm's package, or the bare loop that it is compared with
	Dir        string // of the files
	Addr       string // of who takes what is sent
	Partitions int
	Records    int   // of a batch
	Size       int   // of a value
	Total      int64 // bytes of batches
	Segment    int64 // segment.bytes; 0 means 1 GiB
}

// children are the loops that run in a process of their own, so that the CPU and
// the memory that they take is all that it takes.
func children(kind string) func(job) (map[string]float64, error) {
	switch kind {
	case "append":
		return appendLoop
	case "fill":
		return fillLog
	case "send":
		return sendLoop
	case "paced":
		return pacedAppends
	case "check":
		return checkLoop
	case "dirty":
		return dirtyLog
	case "compact":
		return compactRound
	}
	return nil
}

// serveChild runs one loop and prints the figures.
func serveChild(kind, text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	f := children(kind)
	if f == nil {
		return fmt.Errorf("no child is called %q", kind)
	}
	figures, err := f(j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(figures)
}

// child starts this program again for one loop and returns its figures.
func child(ctx context.Context, kind string, j job) (map[string]float64, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, "child", kind, string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", kind, j.What, err, bytes.TrimSpace(stderr.Bytes()))
	}
	var figures map[string]float64
	return figures, json.Unmarshal(out, &figures)
}

// spent is what a loop took of this process.
type spent struct{ wall, user, system time.Duration }

// spend measures f.
func spend(f func() error) (spent, error) {
	u0, s0, err := usage()
	if err != nil {
		return spent{}, err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return spent{}, err
	}
	wall := time.Since(begin)
	u1, s1, err := usage()
	return spent{wall, u1 - u0, s1 - s0}, err
}

// usage returns the CPU that this process has used.
func usage() (user, system time.Duration, err error) {
	var r syscall.Rusage
	err = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano()), time.Duration(r.Stime.Nano()), err
}

// per returns the figures of a loop that moved so many bytes.
func (s spent) per(bytes int64) map[string]float64 {
	gb := float64(bytes) / 1e9
	return map[string]float64{"CPU s/GB": (s.user + s.system).Seconds() / gb, "user s/GB": s.user.Seconds() / gb, "system s/GB": s.system.Seconds() / gb,
		"MB/s": gb * 1000 / s.wall.Seconds()}
}
