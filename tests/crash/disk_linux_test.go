package crash_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

// diskPartitions are spread over three log directories.
const diskPartitions = 6

// disks is a broker with three log directories, two of them on file systems of
// their own.
type disks struct {
	*systems.Process
	cl    *kgo.Client
	admin *kadm.Client
	acked [diskPartitions]int // records, numbered from 0
}

// start starts the broker on the three directories.
func (d *disks) start(t *testing.T, dir string) {
	t.Helper()
	dirs := strings.Join([]string{filepath.Join(dir, "plain"), filepath.Join(dir, "small", "logs"), filepath.Join(dir, "large", "logs")}, ",")
	var err error
	if d.Process, err = systems.Klamm(dirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	d.cl, err = kgo.NewClient(kgo.SeedBrokers(d.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RecordRetries(1),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.cl.Close)
	d.admin = kadm.NewClient(d.cl)
}

// produce writes the next record of a partition.
func (d *disks) produce(ctx context.Context, p int) error {
	value := append(binary.BigEndian.AppendUint64(nil, uint64(d.acked[p])), bytes.Repeat([]byte("x"), 100_000)...)
	err := d.cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(p), Value: value}).FirstErr()
	if err == nil {
		d.acked[p]++
	}
	return err
}

// places returns the log directory of each partition, by the last but one element
// of its path, and the error of each directory.
func (d *disks) places(ctx context.Context, t *testing.T) (of [diskPartitions]string, errs map[string]error) {
	t.Helper()
	all, err := d.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	errs = make(map[string]error)
	all.Each(func(l kadm.DescribedLogDir) {
		name := filepath.Base(strings.TrimSuffix(l.Dir, "/logs"))
		errs[name] = l.Err
		l.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == topic {
				of[p.Partition] = name
			}
		})
	})
	return of, errs
}

// TestFullDisk fills one of three log directories, on a file system of its own if
// the machine lets one be made. The partitions of the others serve, clients are
// told which do not, and once there is space a restart brings all of them back.
func TestFullDisk(t *testing.T) {
	built(t)
	dir := t.TempDir()
	for _, m := range []struct{ name, size string }{{"small", "size=8m"}, {"large", "size=64m"}} {
		if !mountTmpfs(t, filepath.Join(dir, m.name), m.size) {
			return
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := new(disks)
	d.start(t, dir)
	if _, err := d.admin.CreateTopic(ctx, diskPartitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	of, errs := d.places(ctx, t)
	if len(errs) != 3 || errs["plain"] != nil || errs["small"] != nil || errs["large"] != nil {
		t.Fatalf("log directories: %v", errs)
	}
	full := false
	for round := range 150 {
		for p := range diskPartitions {
			if of[p] == "small" && full {
				continue
			}
			err := d.produce(ctx, p)
			if err == nil {
				continue
			}
			if of[p] != "small" {
				t.Fatalf("record %d of partition %d, which is in %q: %v", round, p, of[p], err)
			}
			full = true
			t.Logf("full after %d records: %v", round, err)
		}
	}
	if !full {
		t.Fatal("the small file system was not filled")
	}
	d.offline(ctx, t, of)
	err := d.Stop()
	lines := strings.Split(strings.TrimSpace(d.Output()), "\n")
	last := lines[len(lines)-1]
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(last, "klamm: ") || !strings.Contains(last, filepath.Join(dir, "small", "logs")+" is offline") {
		t.Errorf("stopped: %v\n%s", err, last)
	}
	if err := syscall.Mount("tmpfs", filepath.Join(dir, "small"), "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	d.cl.Close()
	d.start(t, dir)
	d.check(ctx, t)
	for p := range diskPartitions {
		if err := d.produce(ctx, p); err != nil {
			t.Errorf("partition %d does not go on: %v", p, err)
		}
	}
	if err := d.Stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, d.Output())
	}
	for _, name := range []string{"plain", "small/logs", "large/logs"} {
		verify(t, filepath.Join(dir, name))
	}
}

// offline checks what clients are told of the full directory.
func (d *disks) offline(ctx context.Context, t *testing.T, of [diskPartitions]string) {
	t.Helper()
	_, errs := d.places(ctx, t)
	if len(errs) != 3 || errs["plain"] != nil || errs["small"] != kerr.KafkaStorageError || errs["large"] != nil {
		t.Errorf("log directories: %v", errs)
	}
	md, err := d.admin.Metadata(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, m := range md.Topics[topic].Partitions {
		if got, want := len(m.OfflineReplicas) == 1, of[p] == "small"; got != want || m.Leader != 1 || m.Err != nil { // so that clients send, and are told why not
			t.Errorf("partition %d in %q: leader %d, offline replicas %v, %v", p, of[p], m.Leader, m.OfflineReplicas, m.Err)
		}
	}
	if err := d.cl.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
}

// check reads every partition: all acknowledged records are there, in order.
func (d *disks) check(ctx context.Context, t *testing.T) {
	t.Helper()
	parts := make(map[int32]kgo.Offset)
	left := 0
	for p := range diskPartitions {
		parts[int32(p)] = kgo.NewOffset().At(0)
		left += d.acked[p]
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var next [diskPartitions]int
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records are missing: %v", left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if n := int(binary.BigEndian.Uint64(r.Value)); n != next[r.Partition] || r.Offset != int64(n) {
				t.Errorf("partition %d has record %d at offset %d, want %d", r.Partition, n, r.Offset, next[r.Partition])
			}
			if next[r.Partition]++; next[r.Partition] <= d.acked[r.Partition] {
				left--
			}
		})
	}
}

// mountTmpfs mounts a file system at dir, if the machine lets one be made.
func mountTmpfs(t *testing.T, dir, size string) bool {
	t.Helper()
	if err := syscall.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
		t.Logf("no file system of its own can be mounted here: %v", err)
		return false
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return true
}
