package broker

import (
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// On a real file system that is full, if the machine lets one be made: what was
// acknowledged is kept, and once there is space a restart heals it.
func TestFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Logf("no file system of its own can be mounted here: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	static := []string{"log.dirs=" + path.Join(dir, "logs")}
	begin := func() *rig {
		r := &rig{net: memnet.New()}
		var err error
		r.Broker, err = Start(context.Background(), Options{Config: load(t, static), Listen: r.net.Listen, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		r.addr = r.Addr()
		return r
	}
	r := begin()
	p := r.dial(t)
	p.create("t", 1)
	value := strings.Repeat("x", 100_000)
	acked := int64(0)
	for ; ; acked++ {
		var resp msg.ProduceResponse
		p.ask(produceTo("t", 0, -1, batch(record.None, value)), 9, &resp)
		code := kerr.Code(resp.Responses[0].PartitionResponses[0].ErrorCode)
		if code == kerr.KafkaStorageError {
			break
		}
		if code != kerr.None || acked > 100 {
			t.Fatalf("record %d: %v", acked, code)
		}
	}
	if acked < 30 {
		t.Errorf("full after %d records", acked)
	}
	var dirs msg.DescribeLogDirsResponse
	p.ask(new(msg.DescribeLogDirsRequest), 4, &dirs)
	if code := kerr.Code(dirs.Results[0].ErrorCode); code != kerr.KafkaStorageError {
		t.Errorf("DescribeLogDirs says %v", code)
	}
	if err := r.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	r = begin()
	if l := r.replicas.Get("t", 0); l == nil || l.Log().EndOffset() != acked {
		t.Fatalf("after a restart: %v, want %d records", l, acked)
	}
	p = r.dial(t)
	if base := p.produce("t", 0, value); base != acked {
		t.Errorf("goes on at %d, want %d", base, acked)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(path.Join(dir, "logs", "t-0")); err != nil || len(names) == 0 {
		t.Errorf("%v, %v", names, err)
	}
}
