// Package cluster_test has clusters of three brokers, one of klamm and one of the JVM, go through
// the same events, and asks them the same as a client could: what both say must be the same.
package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

// overrides are set on all brokers: who dies is missed soon, nobody moves leaders back by
// itself, and a first member must not have to wait for more of them.
var overrides = []string{
	"broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500", "replica.lag.time.max.ms=4000",
	"auto.leader.rebalance.enable=false", "group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=false",
	"share.coordinator.state.topic.replication.factor=3", "share.coordinator.state.topic.min.isr=2", "offsets.topic.num.partitions=4",
}

// klamm and jvm are the clusters, running for the whole package.
var klamm, jvm *systems.Cluster

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 1, fmt.Errorf("needs %s: %w", tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "klamm-cluster-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() { klamm, errs[0] = systems.KlammCluster(filepath.Join(dir, "klamm"), nodes, overrides...) })
	wg.Go(func() { jvm, errs[1] = systems.JVMCluster(filepath.Join(dir, "jvm"), nodes, overrides...) })
	wg.Wait()
	for _, c := range []*systems.Cluster{klamm, jvm} {
		if c != nil {
			defer c.Kill()
		}
	}
	if err := errors.Join(errs...); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// nodes is how many brokers a cluster has. Their ids are 1, 2 and 3.
const nodes = 3

// cluster is one of the two in a scene.
type cluster struct {
	*testing.T
	*systems.Cluster
	cl   *kgo.Client // its produce requests wait for all that are in sync
	one  *kgo.Client // its produce requests wait for the leader alone
	said []string    // what it answered in the step under way
}

// limit is how long a step waits for something to become true.
const limit = time.Minute

// say takes down what a client saw. Both clusters must have said the same in the end.
func (c *cluster) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	for i, at := range c.Seeds() {
		line = strings.ReplaceAll(line, at, fmt.Sprint("node-", i+1))
	}
	c.said = append(c.said, line)
}

// logged is the end of what the nodes logged.
func (c *cluster) logged() string {
	var out strings.Builder
	for i, p := range c.Nodes {
		if p != nil {
			lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
			fmt.Fprintf(&out, "node %d:\n%s\n", i+1, strings.Join(lines[max(0, len(lines)-5):], "\n"))
		}
	}
	return out.String()
}

// until waits until something is true.
func (c *cluster) until(what string, is func() bool) {
	c.Helper()
	for end := time.Now().Add(limit); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("%s: waited in vain for: %s\n%s\n%s", c.Name, what, strings.Join(c.said, "\n"), c.logged())
		}
	}
}

func (c *cluster) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(c.Seeds()...), kgo.MetadataMinAge(10*time.Millisecond), kgo.RequestRetries(0))...)
	if err != nil {
		c.Fatal(err)
	}
	return cl
}

func (c *cluster) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.Cleanup(cancel)
	return ctx
}

// step is a part of a scene: something that happens, or a behaviour that is looked at.
type step struct {
	name string
	do   func(c *cluster)
}

// play has both clusters go through the steps, side by side, and compares what they say step
// by step. All nodes run before and after.
func play(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range append(steps, step{"all are well again", (*cluster).heal}) {
		t.Run(s.name, func(t *testing.T) {
			both := []*cluster{{Cluster: klamm}, {Cluster: jvm}}
			t.Run("on", func(t *testing.T) {
				for _, c := range both {
					t.Run(c.Name, func(t *testing.T) {
						t.Parallel()
						c.T = t
						c.cl, c.one = c.client(), c.client(kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
						defer c.cl.Close()
						defer c.one.Close()
						s.do(c)
					})
				}
			})
			if t.Failed() {
				return
			}
			if !slices.Equal(both[0].said, both[1].said) {
				t.Errorf("klamm says\n\t%s\nand the JVM\n\t%s", strings.Join(both[0].said, "\n\t"), strings.Join(both[1].said, "\n\t"))
			}
		})
	}
}
