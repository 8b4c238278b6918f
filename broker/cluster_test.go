package broker_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
)

// TestPauseAndKill plays with the brokers of a cluster on disks and ports of the system: one
// that is paused answers nothing and loses what it leads, and goes on after that; one that is
// killed leaves its directory as a process does that has died.
func TestPauseAndKill(t *testing.T) {
	dir := t.TempDir()
	c, err := broker.StartCluster(t.Context(), broker.ClusterOptions{Brokers: 3, Dir: dir,
		Sources: config.Sources{Overrides: []string{"broker.session.timeout.ms=1000", "broker.heartbeat.interval.ms=100"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	admin := func(servers ...string) *client.Admin {
		a, err := client.NewAdmin(client.AdminOptions{Options: client.Options{BootstrapServers: servers}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		return a
	}
	all := admin(c.Bootstrap()...)
	errs, err := all.CreateTopics(ctx, []client.NewTopic{{Name: "t", Assignment: map[int32][]int32{0: {1, 2, 3}}}}, false)
	if err != nil || errs["t"] != nil {
		t.Fatal(errs, err)
	}
	led := func(by int32) func(*meta.Image) bool {
		return func(m *meta.Image) bool {
			p := m.Partition("t", 0)
			return p != nil && p.Leader != by && p.Leader >= 0
		}
	}
	synced := func(m *meta.Image) bool { p := m.Partition("t", 0); return p != nil && len(p.InSync) == 3 }
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	leader := c.Broker(1).Metadata().Partition("t", 0).Leader
	other := leader%3 + 1
	must("pause", c.Pause(leader))
	if err := c.Pause(leader); err == nil || !strings.Contains(err.Error(), "paused already") {
		t.Errorf("paused twice: %v", err)
	}
	short, end := context.WithTimeout(ctx, 300*time.Millisecond)
	if _, err := admin(c.Bootstrap()[leader-1]).DescribeCluster(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a broker that is paused answers: %v", err)
	}
	end()
	must("another leader", c.Broker(other).AwaitMetadata(ctx, led(leader)))
	must("resume", c.Resume(leader))
	if err := c.Resume(leader); err == nil || !strings.Contains(err.Error(), "is not paused") {
		t.Errorf("resumed twice: %v", err)
	}
	must("in sync again", c.Broker(leader).AwaitMetadata(ctx, synced))
	if _, err := admin(c.Bootstrap()[leader-1]).DescribeCluster(ctx); err != nil {
		t.Error(err)
	}

	// A broker is killed while it is paused, too.
	must("pause", c.Pause(other))
	must("kill", c.Kill(other))
	if _, err := os.Stat(filepath.Join(dir, broker.BrokerDir(other), ".kafka_cleanshutdown")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that was killed says that it was shut down cleanly: %v", err)
	}
	for what, f := range map[string]func(int32) error{"kill": c.Kill, "pause": c.Pause, "resume": c.Resume, "stop": c.Stop} {
		if err := f(other); err == nil || !strings.Contains(err.Error(), "does not run") {
			t.Errorf("%s of one that does not run: %v", what, err)
		}
		if err := f(9); err == nil {
			t.Errorf("%s of broker 9 of 3", what)
		}
	}
	must("start", c.Start(ctx, other))
	must("in sync again", c.Broker(other).AwaitMetadata(ctx, synced))
	must("stop", c.Stop(other))
	if _, err := os.Stat(filepath.Join(dir, broker.BrokerDir(other), ".kafka_cleanshutdown")); err != nil {
		t.Errorf("one that was stopped: %v", err)
	}
}
