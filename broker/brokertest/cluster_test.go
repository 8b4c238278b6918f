package brokertest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// three starts three brokers and makes a topic with one partition on all of them.
func three(t *testing.T, o brokertest.Options) *brokertest.Cluster {
	t.Helper()
	o.Brokers = 3
	c := brokertest.Start(t, o)
	makeTopic(t, c, 1)
	return c
}

// makeTopic makes the topic t, with one partition that a broker leads.
func makeTopic(t *testing.T, c *brokertest.Cluster, leader int32) {
	t.Helper()
	a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, err := a.CreateTopics(t.Context(), []client.NewTopic{{Name: "t", Assignment: map[int32][]int32{0: {leader, leader%3 + 1, (leader+1)%3 + 1}}}}, false); err != nil || got["t"] != nil {
		t.Fatal(got, err)
	}
	c.WaitISR("t", 0, 3)
}

// values are what a topic holds for a consumer.
func values(t *testing.T, c *brokertest.Cluster, n int) []string {
	t.Helper()
	m := member(t, c, fmt.Sprint("reader-", time.Now().UnixNano()), "t")
	return poll(t, m, n)
}

// What was acknowledged survives the death of the leader, and the next record is taken by
// another one.
func TestKilledLeaderIsReplaced(t *testing.T) {
	for _, o := range []brokertest.Options{{}, {InMemoryNetwork: true}} {
		t.Run(fmt.Sprintf("%+v", o.InMemoryNetwork), func(t *testing.T) {
			c := three(t, o)
			p := producer(t, c)
			for i := range 10 {
				send(t, p, "t", fmt.Sprint(i))
			}
			leader := c.WaitLeader("t", 0)
			began := time.Now()
			c.Broker(leader).Kill(brokertest.LoseUnsynced)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := p.Send(ctx, &client.Record{Topic: "t", Value: []byte("10")}).Get(ctx); err != nil {
				t.Fatalf("after the death of broker %d: %v", leader, err)
			}
			t.Logf("broker %d died, and broker %d took a record after %v", leader, c.Leader("t", 0), time.Since(began))
			if got := strings.Join(values(t, c, 11), " "); got != "0 1 2 3 4 5 6 7 8 9 10" {
				t.Errorf("the topic holds %s", got)
			}
			c.Broker(leader).Restart()
			c.WaitISR("t", 0, 3)
			send(t, p, "t", "11")
		})
	}
}

// load produces until it is stopped, and knows what was acknowledged.
type load struct {
	t     *testing.T
	stop  context.CancelFunc
	done  chan struct{}
	acked []string
	worst time.Duration // between two acknowledgements
	errs  []error
}

func startLoad(t *testing.T, c *brokertest.Cluster) *load {
	p := producer(t, c)
	ctx, stop := context.WithCancel(t.Context())
	l := &load{t: t, stop: stop, done: make(chan struct{})}
	send(t, p, "t", "first")
	l.acked = append(l.acked, "first")
	go func() {
		defer close(l.done)
		last := time.Now()
		for i := 0; ctx.Err() == nil; i++ {
			v := fmt.Sprint("v", i)
			if _, err := p.Send(t.Context(), &client.Record{Topic: "t", Value: []byte(v)}).Get(t.Context()); err != nil {
				l.errs = append(l.errs, err)
				return
			}
			l.acked = append(l.acked, v)
			l.worst = max(l.worst, time.Since(last))
			last = time.Now()
		}
	}()
	t.Cleanup(stop)
	return l
}

// end stops the load and checks that the topic holds all that was acknowledged, in order and
// once.
func (l *load) end(c *brokertest.Cluster) {
	l.t.Helper()
	l.stop()
	<-l.done
	for _, err := range l.errs {
		l.t.Errorf("send: %v", err)
	}
	got := values(l.t, c, len(l.acked))
	if strings.Join(got, " ") != strings.Join(l.acked, " ") {
		for i := range got {
			if got[i] != l.acked[i] {
				l.t.Fatalf("of %d acknowledged records number %d is %s, want %s", len(l.acked), i, got[i], l.acked[i])
			}
		}
	}
}

// Brokers that are stopped and started one after the other lose nothing, and no send fails.
func TestRollingRestart(t *testing.T) {
	c := three(t, brokertest.Options{})
	l := startLoad(t, c)
	for i := range int32(6) {
		c.Broker(i%3 + 1).Restart()
		c.WaitISR("t", 0, 3)
	}
	l.end(c)
	t.Logf("%d records, the longest pause is %v", len(l.acked), l.worst)
}

// Any broker may die under load, with what it had not synced, again and again.
func TestKillsUnderLoad(t *testing.T) {
	c := three(t, brokertest.Options{})
	l := startLoad(t, c)
	for range 8 {
		id := c.WaitLeader("t", 0)
		c.Broker(id).Kill(brokertest.LoseUnsynced)
		c.WaitLeader("t", 0)
		c.Broker(id).Restart()
		c.WaitISR("t", 0, 3)
	}
	l.end(c)
	t.Logf("%d records, the longest pause is %v", len(l.acked), l.worst)
}

// A leader that is cut off from the others acknowledges nothing; they elect another, and
// its own tail goes when it is back. So it is if it was the active controller too.
func TestIsolatedLeader(t *testing.T) {
	for _, of := range []struct{ controller, memory bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		controller := of.controller
		t.Run(fmt.Sprintf("controller %t, in memory %t", of.controller, of.memory), func(t *testing.T) {
			t.Parallel()
			c := brokertest.Start(t, brokertest.Options{Brokers: 3, InMemoryNetwork: of.memory, Config: map[string]string{"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "200"}})
			old := c.WaitController()
			if !controller {
				old = old%3 + 1
			}
			makeTopic(t, c, old)
			p := producer(t, c)
			send(t, p, "t", "before")
			c.Isolate(old)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			began := time.Now()
			_, err := p.Send(ctx, &client.Record{Topic: "t", Value: []byte("after")}).Get(ctx)
			t.Logf("%v after broker %d was cut off: %v", time.Since(began), old, err)
			c.Heal()
			if err != nil {
				t.Fatal(err)
			}
			c.WaitISR("t", 0, 3)
			if now := c.WaitLeader("t", 0); now == old {
				t.Errorf("broker %d leads, and was cut off", now)
			}
			if got := strings.Join(values(t, c, 2), " "); got != "before after" {
				t.Errorf("the topic holds %s", got)
			}
		})
	}
}

// A leader that is paused is replaced, on loopback too, and follows when it goes on.
func TestPausedLeader(t *testing.T) {
	c := three(t, brokertest.Options{Config: map[string]string{"broker.session.timeout.ms": "1000", "broker.heartbeat.interval.ms": "200"}})
	p := producer(t, c)
	send(t, p, "t", "0")
	old := c.WaitLeader("t", 0)
	c.Broker(old).Pause()
	send(t, p, "t", "1")
	if now := c.WaitLeader("t", 0); now == old {
		t.Errorf("broker %d leads, and is paused", now)
	}
	c.Broker(old).Resume()
	c.WaitISR("t", 0, 3)
	if got := strings.Join(values(t, c, 2), " "); got != "0 1" {
		t.Errorf("the topic holds %s", got)
	}
}

// A cluster runs in a bubble, where time costs nothing: followers that nobody sends anything
// stay in sync, and a leader that is paused for a while is replaced.
func TestClusterInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := three(t, brokertest.Options{InMemoryNetwork: true})
		p := producer(t, c)
		send(t, p, "t", "0")
		time.Sleep(20 * time.Minute)
		c.WaitISR("t", 0, 3)
		send(t, p, "t", "1")
		old := c.WaitLeader("t", 0)
		c.Broker(old).Pause()
		send(t, p, "t", "2")
		time.Sleep(time.Minute)
		if now := c.WaitLeader("t", 0); now == old {
			t.Errorf("broker %d leads, and is paused", now)
		}
		c.Broker(old).Resume()
		c.WaitISR("t", 0, 3)
		if got := strings.Join(values(t, c, 3), " "); got != "0 1 2" {
			t.Errorf("the topic holds %s", got)
		}
	})
}

// A broker that loses one of its log directories gives up what it leads there, and goes on
// with the other one.
func TestLostLogDirectory(t *testing.T) {
	var broken atomic.Value // the directory whose disk refuses to be written to
	broken.Store("none")
	disk := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasPrefix(name, broken.Load().(string)) {
			return syscall.EIO
		}
		return nil
	})
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, LogDirs: 2, FS: disk, Config: map[string]string{"broker.heartbeat.interval.ms": "100"}})
	p := producer(t, c)
	send(t, p, "first", "0") // in the directories that have the metadata, without which a broker cannot be
	makeTopic(t, c, 2)
	send(t, p, "t", "0")
	c.WaitPartition("t", 0, "the controller knows where each replica is", func(p *meta.Partition) bool {
		return len(p.Directories) == 3 && !slices.Contains(p.Directories, prim.UUID{})
	})
	leader := c.WaitLeader("t", 0)
	dir := fmt.Sprintf("/klamm/broker-%d/dir-2", leader)
	if _, err := disk.Stat(dir + "/t-0"); err != nil {
		t.Fatal(err)
	}
	broken.Store(dir)
	send(t, p, "t", "1")
	if now := c.WaitLeader("t", 0); now == leader {
		t.Errorf("broker %d leads, and has lost %s", now, dir)
	}
	if got := strings.Join(values(t, c, 2), " "); got != "0 1" {
		t.Errorf("the topic holds %s", got)
	}
	broken.Store("none")
	c.Broker(leader).Kill()
	c.Broker(leader).Restart()
	c.WaitISR("t", 0, 3)
}

// Leaders go back to the first replica when they are asked to, and the quorum says how far
// each controller has come.
func TestElectionsAndQuorum(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3})
	makeTopic(t, c, 2)
	c.Broker(2).Restart()
	c.WaitISR("t", 0, 3)
	if now := c.WaitLeader("t", 0); now == 2 {
		t.Fatalf("broker %d leads, and was stopped", now)
	}
	a, err := client.NewAdmin(client.AdminOptions{Options: options(c)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	tp := client.TopicPartition{Topic: "t", Partition: 0}
	if got, err := a.ElectLeaders(t.Context(), false, tp); err != nil || got[tp] != nil {
		t.Fatal(got, err)
	}
	if now := c.WaitLeader("t", 0); now != 2 {
		t.Errorf("broker %d leads, and the first replica is on broker 2", now)
	}
	q, err := a.DescribeQuorum(t.Context())
	if err != nil || q.Leader != c.WaitController() || len(q.Voters) != 3 {
		t.Fatalf("%+v: %v", q, err)
	}
	for _, v := range q.Voters {
		if v.EndOffset <= 0 || v.LastFetch.IsZero() {
			t.Errorf("of controller %d nothing is known: %+v", v.ID, q)
		}
	}
}

// Clients that wait for the controller do not keep the brokers from electing one: each waits
// in a place of the request handlers' that nothing between brokers needs.
func TestWaitingClientsDoNotHinderAnElection(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, Config: map[string]string{"num.io.threads": "2"}})
	old := c.WaitController()
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for id := range int32(3) {
		if id+1 == old {
			continue
		}
		for i := range 50 {
			x, err := conn.Dial(ctx, "tcp", c.Broker(id+1).Addr(), conn.Options{})
			if err != nil {
				t.Fatal(err)
			}
			asking.Go(func() {
				defer x.Close()
				for n := 0; ctx.Err() == nil; n++ {
					name := fmt.Sprintf("new-%d-%d-%d", id, i, n)
					var resp msg.MetadataResponse
					if x.Do(ctx, &msg.MetadataRequest{AllowAutoTopicCreation: true, Topics: []msg.MetadataRequestTopic{{Name: &name}}}, &resp) != nil {
						return
					}
				}
			})
		}
	}
	c.Broker(old).Kill()
	if now := c.WaitController(); now == old {
		t.Errorf("broker %d is the controller, and was killed", now)
	}
}

// What clients ask of a controller while there is none waits, and keeps nobody else waiting.
func TestWaitingClientsHinderNobody(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, Config: map[string]string{"num.io.threads": "1"}})
	left := c.WaitController()
	for id := range int32(3) {
		if id+1 != left {
			c.Broker(id + 1).Kill()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	dial := func() *conn.Conn {
		x, err := conn.Dial(ctx, "tcp", c.Broker(left).Addr(), conn.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	var answered atomic.Int32
	name := "new"
	for _, of := range []struct {
		req  msg.Request
		resp msg.Response
	}{
		{&msg.MetadataRequest{AllowAutoTopicCreation: true, Topics: []msg.MetadataRequestTopic{{Name: &name}}}, new(msg.MetadataResponse)},
		{&msg.InitProducerIdRequest{ProducerId: -1, ProducerEpoch: -1}, new(msg.InitProducerIdResponse)},
		{&msg.FindCoordinatorRequest{CoordinatorKeys: []string{"g"}}, new(msg.FindCoordinatorResponse)},
	} {
		x := dial()
		asking.Go(func() {
			defer x.Close()
			if x.Do(ctx, of.req, of.resp) == nil {
				answered.Add(1)
			}
		})
	}
	other := dial()
	defer other.Close()
	for range 200 { // the others have come by then
		if err := other.Do(ctx, &msg.MetadataRequest{}, new(msg.MetadataResponse)); err != nil {
			t.Fatal(err)
		}
	}
	if n := answered.Load(); n > 0 {
		t.Errorf("%d requests were answered without a controller", n)
	}
}
