package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/tests/systems"
)

const uncleanPartitions = 4

// uncleanStart starts a broker that was killed right after it had taken many
// records, or reads the same files and computes the checksum that batches have.
// What was written is on disk before: it is not the writing that is measured.
func uncleanStart(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
	dir := filepath.Join(o.storageDir(), "unclean")
	if round == 0 && name == "klamm" {
		if err := leaveUnclean(ctx, dir, o.recover); err != nil {
			return nil, err
		}
	}
	if name == "bare" {
		one, err := child(ctx, "check", job{Dir: dir, Partitions: 1})
		if err != nil {
			return nil, err
		}
		two, err := child(ctx, "check", job{Dir: dir, Partitions: 2})
		return map[string]float64{"GB/s": one["GB/s"], "10 GB s": 10 / one["GB/s"], "GB/s, two readers": two["GB/s"]}, err
	}
	return startUnclean(dir)
}

// leaveUnclean fills a broker and kills it.
func leaveUnclean(ctx context.Context, dir string, bytes int64) error {
	p, err := systems.Klamm(dir)
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := makeTopic(ctx, p, "unclean", uncleanPartitions, nil); err != nil {
		return err
	}
	_, err = load(ctx, p, "unclean", 1000, 1<<20, bytes)
	return err
}

// startUnclean starts the broker and kills it again, before it notes down that
// it has checked the logs.
func startUnclean(dir string) (map[string]float64, error) {
	unsynced, err := unsyncedBytes(dir)
	if err != nil {
		return nil, err
	}
	syscall.Sync()
	p, err := systems.Klamm(dir)
	if err != nil {
		return nil, fmt.Errorf("start after kill -9: %w", err)
	}
	took := time.Since(p.Started)
	user, system, err := p.CPU()
	p.Kill()
	gb := float64(unsynced) / 1e9
	return map[string]float64{"GB": gb, "GB/s": gb / took.Seconds(), "10 GB s": took.Seconds() / gb * 10, "CPU s/GB": (user + system).Seconds() / gb}, err
}

// unsyncedBytes returns how many bytes the next start has to check: all, as no
// recovery point may be above zero.
func unsyncedBytes(dir string) (n int64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "recovery-point-offset-checkpoint"))
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	for l := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "unclean" && f[2] != "0" {
			return 0, fmt.Errorf("the recovery point of partition %s is %s: there is less to check than was written", f[1], f[2])
		}
	}
	names, err := uncleanFiles(dir)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, err
}

func uncleanFiles(dir string) (names []string, err error) {
	for i := range uncleanPartitions {
		some, err := segmentFiles(filepath.Join(dir, fmt.Sprint("unclean-", i)))
		if err != nil {
			return nil, err
		}
		names = append(names, some...)
	}
	return names, nil
}

// checkLoop reads all files and computes CRC-32C of all bytes, j.Partitions files
// at a time.
func checkLoop(j job) (map[string]float64, error) {
	names, err := uncleanFiles(j.Dir)
	if err != nil {
		return nil, err
	}
	var next, total atomic.Int64
	took, err := spend(func() error {
		errs := make(chan error, j.Partitions)
		for range cap(errs) {
			go func() {
				buf := make([]byte, 1<<20)
				for i := next.Add(1); int(i) <= len(names); i = next.Add(1) {
					n, err := checkFile(names[i-1], buf)
					if err != nil {
						errs <- err
						return
					}
					total.Add(n)
				}
				errs <- nil
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	})
	return map[string]float64{"GB/s": float64(total.Load()) / 1e9 / took.wall.Seconds()}, err
}
