package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/replication/meta"
)

// They do not run beside others: a port of theirs may be one that the broker of another test
// has just given up.

// clustered starts a cluster with topic t, of so many partitions with two replicas.
func clustered(t *testing.T, brokers, partitions int) (*brokertest.Cluster, *shell) {
	t.Helper()
	c := brokertest.Start(t, brokertest.Options{Brokers: brokers})
	s := &shell{t, c.Bootstrap()}
	s.ok("topic", "create", "t", "-p", fmt.Sprint(partitions), "-r", "2")
	s.lines(strings.Repeat("v\n", 100), "produce", "t")
	return c, s
}

// listed is a line of klamm broker list.
type listed struct {
	ID                  int32
	State               string
	Leaders, Replicas   int
	OutOfSync           int  `json:"out_of_sync"`
	DiskUsed            *int `json:"disk_used"`
	Topic, Name, Result string
}

func (s *shell) brokers() []listed {
	s.t.Helper()
	var out []listed
	s.parsed(&out, "broker", "list")
	return out
}

// parsed runs a command that must succeed and parses what it prints.
func (s *shell) parsed(into any, args ...string) {
	s.t.Helper()
	out := s.ok(append(args, "--format", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("klamm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestDrainABroker(t *testing.T) {
	c, s := clustered(t, 4, 6)
	before := s.brokers()
	total := 0
	for _, b := range before {
		total += b.Replicas
		if b.State != "unfenced" || b.DiskUsed == nil {
			t.Errorf("%+v", b)
		}
	}
	if len(before) != 4 || total != 12 {
		t.Fatalf("%+v", before)
	}
	var plan []struct {
		Topic    string
		From, To []int32
	}
	s.parsed(&plan, "broker", "drain", "2", "--dry-run")
	if len(plan) != before[1].Replicas || slices.Contains(plan[0].To, 2) || !slices.Contains(plan[0].From, 2) {
		t.Errorf("%d replicas are to be moved: %+v", before[1].Replicas, plan)
	}
	if now := s.brokers(); now[1].Replicas != before[1].Replicas {
		t.Errorf("a dry run has moved something: %+v", now)
	}
	s.ok("broker", "drain", "2", "--wait", "--throttle", "100000000")
	after := s.brokers()
	if b := after[1]; b.Replicas != 0 || b.Leaders != 0 {
		t.Errorf("after the drain: %+v", b)
	}
	for i := range int32(6) {
		c.WaitPartition("t", i, "two replicas that are in sync, and none on broker 2", func(p *meta.Partition) bool {
			return len(p.Replicas) == 2 && len(p.InSync) == 2 && !slices.Contains(p.Replicas, 2)
		})
	}
	for _, args := range [][]string{{"config", "describe", "--topic", "t"}, {"config", "describe", "--broker", "1"}} {
		if out := s.ok(args...); strings.Contains(out, "100000000") || strings.Contains(out, "DYNAMIC_TOPIC") && strings.Contains(out, "throttled.replicas") {
			t.Errorf("%v: the throttle is left\n%s", args, out)
		}
	}
	s.same(s.ok("consume", "t", "-o", "start", "-e", "-f", "x"), strings.Repeat("x", 100))
	// Nothing is left to do the second time.
	if out := s.ok("broker", "drain", "2", "--wait"); !strings.Contains(out, "drained") {
		t.Error(out)
	}
	c.Broker(2).Stop()
	for s.brokers()[1].State != "fenced" {
	}
	s.ok("broker", "unregister", "2")
	if now := s.brokers(); len(now) != 3 {
		t.Errorf("after broker 2 was unregistered: %+v", now)
	}
	if r := s.with("", "broker", "unregister", "2"); r.code != exitUsage || !strings.Contains(r.err, "the cluster has 1, 3, 4") {
		t.Errorf("the second time: exit %d, %s", r.code, r.err)
	}
}

// TestMovesAreCanceled moves replicas to a broker that is down: the moves go on, are shown
// as under way, and are waited for, until they are canceled.
func TestMovesAreCanceled(t *testing.T) {
	c, s := clustered(t, 3, 2)
	s.ok("topic", "reassign", "t", "--replicas", "0:1,2;1:2,1", "--wait")
	c.Broker(3).Stop()
	stuck := []string{"topic", "reassign", "t", "--replicas", "0:3,2;1:2,3"}
	begin := func() {
		t.Helper()
		s.same(s.ok(append(stuck, "--format", "tsv", "--throttle", "123456789")...), "t\t0\t[3 2]\tin progress\nt\t1\t[2 3]\tin progress\n")
		s.same(s.ok("topic", "reassign", "--list", "--format", "tsv"), "t\t0\t[3 2 1]\t[3]\t[1]\nt\t1\t[2 3 1]\t[3]\t[1]\n")
		if b := s.brokers()[0]; b.State != "draining" || b.Replicas != 2 {
			t.Errorf("%+v", b)
		}
	}
	ended := func() {
		t.Helper()
		if b := s.brokers()[0]; b.State != "unfenced" || b.Replicas != 2 {
			t.Errorf("%+v", b)
		}
		s.same(s.ok("topic", "reassign", "--list", "--format", "tsv"), "")
		if out := s.ok("config", "describe", "--topic", "t"); strings.Contains(out, "1:2,1:1") {
			t.Errorf("the throttle is left\n%s", out)
		}
	}
	begin()
	if out := s.ok("config", "describe", "--topic", "t", "leader.replication.throttled.replicas"); !strings.Contains(out, "0:1,0:2,1:2,1:1") {
		t.Errorf("no throttle\n%s", out)
	}
	if r := s.with("", append(stuck, "--verify")...); r.code != exitFailed || !strings.Contains(r.err, "0 of 2 are complete") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if r := s.with("", append(stuck, "--wait", "--timeout", "700ms")...); r.code != exitTimeout || !strings.Contains(r.err, "0 of 2 done; the rest goes on by itself") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if r := s.with("", "topic", "reassign", "t", "--cancel"); r.code != exitOK || !strings.Contains(r.err, "broker 3 is down and keeps its rate") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	ended()
	begin()
	// Also for who waits for it somewhere else.
	if r := s.with("", "broker", "drain", "1", "--wait", "--timeout", "700ms"); r.code != exitTimeout || !strings.Contains(r.err, "run klamm broker drain 1 --wait again") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	// On a terminal there is a bar, and ^C leaves the moves alone.
	watching := process{args: []string{"broker", "drain", "1", "--wait"}, broker: s.addr, tty: true, onOutput: func(all string) bool { return strings.Contains(all, "(0/2") }}
	if e := watching.run(t); e.code != exitInterrupted || !strings.Contains(e.out, "0 of 2 done; the rest goes on by itself") {
		t.Errorf("exit %d: %q", e.code, e.out)
	}
	s.ok("broker", "drain", "1", "--cancel")
	ended()
	if r := s.with("", "topic", "reassign", "t", "--cancel"); r.code != exitOK || !strings.Contains(r.err, "nothing is under way") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

func TestDrainOfTooFew(t *testing.T) {
	_, s := clustered(t, 2, 2)
	r := s.with("", "broker", "drain", "1")
	if r.code != exitFailed || !strings.Contains(r.err, "broker 1 cannot be drained: t-0 has 2 replicas, and only broker 2 is left for them; 2 partitions cannot be moved in all") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if r := s.with("", "broker", "drain", "9"); r.code != exitUsage || !strings.Contains(r.err, "the cluster has 1, 2") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

func TestReassign(t *testing.T) {
	_, s := clustered(t, 3, 3)
	dir := t.TempDir()
	saved, asked := filepath.Join(dir, "saved.json"), filepath.Join(dir, "asked.json")
	s.ok("topic", "reassign", "t", "--replicas", "0:1,2;1:2,3;2:3,1", "--wait")
	out := s.ok("topic", "reassign", "t", "--replicas", "0:3,1;1:2,3", "--save", saved, "--wait", "--format", "tsv")
	s.same(out, "t\t0\t[3 1]\tcomplete\nt\t1\t[2 3]\tcomplete\n")
	text, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	var back reassignmentFile
	if err := json.Unmarshal(text, &back); err != nil || len(back.Partitions) != 1 || !slices.Equal(back.Partitions[0].Replicas, []int32{1, 2}) {
		t.Errorf("saved %s, %v", text, err)
	}
	s.ok("topic", "reassign", "--reassignment-json-file", saved, "--throttle", "123456789")
	for range 100 {
		if r := s.with("", "topic", "reassign", "--reassignment-json-file", saved, "--verify"); r.code == exitOK {
			break
		}
	}
	s.same(s.ok("topic", "reassign", "--reassignment-json-file", saved, "--verify", "--format", "tsv"), "t\t0\t[1 2]\tcomplete\n")
	for _, args := range [][]string{{"config", "describe", "--topic", "t"}, {"config", "describe", "--broker", "1"}} {
		if out := s.ok(args...); strings.Contains(out, "123456789") {
			t.Errorf("%v: the throttle is left\n%s", args, out)
		}
	}
	// What a dry run prints is what a file has.
	out = s.ok("topic", "reassign", "t", "--brokers", "1,2", "--dry-run", "--format", "json")
	if err := os.WriteFile(asked, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := s.with("", "topic", "reassign", "--reassignment-json-file", asked, "--verify"); r.code != exitFailed || !strings.Contains(r.out, "not as asked") {
		t.Errorf("before it is done: exit %d\n%s%s", r.code, r.out, r.err)
	}
	s.ok("topic", "reassign", "--reassignment-json-file", asked, "--wait")
	for _, b := range s.brokers()[:2] {
		if b.Replicas != 3 || b.Leaders == 0 || b.Leaders == 3 {
			t.Errorf("%+v", b)
		}
	}
	s.same(s.ok("topic", "reassign", "--list", "--format", "tsv"), "")
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{exitUsage, "the cluster has 1, 2, 3", []string{"t", "--brokers", "9"}},
		{exitUsage, "the cluster has 1, 2, 3", []string{"t", "--replicas", "0:9"}},
		{exitFailed, "has no partition 7", []string{"t", "--replicas", "7:1"}},
		{exitFailed, "there is no topic none", []string{"none", "--replicas", "0:1"}},
		{exitFailed, "and only broker 1 is left", []string{"t", "--brokers", "1"}},
		{exitUsage, "nothing to move", []string{"t"}},
		{exitUsage, "twice", []string{"t", "--replicas", "0:1;0:2"}},
		{exitUsage, "want the NAME", []string{"--replicas", "0:1"}},
	} {
		if r := s.with("", append([]string{"topic", "reassign"}, c.args...)...); r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("%v: exit %d, %s; want %d, %s", c.args, r.code, r.err, c.code, c.says)
		}
	}
}
