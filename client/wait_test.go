package client

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// wait is a call that a context can end, and what its error must name.
type wait struct {
	names []string
	call  func(ctx context.Context, f *fake, p *Producer, c *Consumer, a *Admin) error
}

var waits = map[string]wait{
	"Producer.Send": {[]string{"topic t"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		_, err := p.Send(ctx, &Record{Topic: "t"}).Get(ctx)
		return err
	}},
	"Producer.SendFunc": {[]string{"topic t"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		return p.SendFunc(ctx, &Record{Topic: "t"}, nil)
	}},
	"Producer.Partitions": {[]string{"topic t"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		_, err := p.Partitions(ctx, "t")
		return err
	}},
	"Producer.Flush": {[]string{"Flush"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		p.queueForTest("t")
		return p.Flush(ctx)
	}},
	"Producer.Close": {[]string{"Flush"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		p.queueForTest("t")
		return p.Close(ctx)
	}},
	"Future.Get": {[]string{"topic t", "partition 0"}, func(ctx context.Context, _ *fake, p *Producer, _ *Consumer, _ *Admin) error {
		_, err := p.queueForTest("t").Get(ctx)
		return err
	}},
	"Consumer.Poll": {[]string{"group g"}, func(ctx context.Context, _ *fake, _ *Producer, c *Consumer, _ *Admin) error {
		if err := c.Subscribe("t"); err != nil {
			return err
		}
		_, err := c.Poll(ctx)
		return err
	}},
	"Consumer.Commit": {[]string{"group g"}, func(ctx context.Context, _ *fake, _ *Producer, c *Consumer, _ *Admin) error {
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(5)})
		return c.Commit(ctx)
	}},
	"Consumer.CommitOffsets": {[]string{"group g"}, func(ctx context.Context, _ *fake, _ *Producer, c *Consumer, _ *Admin) error {
		return c.CommitOffsets(ctx, map[TopicPartition]Offset{{"t", 0}: {At: 5}})
	}},
	"Consumer.Committed": {[]string{"group g"}, func(ctx context.Context, _ *fake, _ *Producer, c *Consumer, _ *Admin) error {
		_, err := c.Committed(ctx, TopicPartition{"t", 0})
		return err
	}},
	"Consumer.Close": {[]string{"group g"}, func(ctx context.Context, _ *fake, _ *Producer, c *Consumer, _ *Admin) error {
		c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(5)})
		return c.Close(ctx)
	}},
	"Admin.DescribeCluster": {[]string{"DescribeCluster"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeCluster(ctx)
		return err
	}},
	"Admin.DescribeQuorum": {[]string{"DescribeQuorum"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeQuorum(ctx)
		return err
	}},
	"Admin.ElectLeaders": {[]string{"ElectLeaders"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.ElectLeaders(ctx, false, TopicPartition{"t", 0})
		return err
	}},
	"Admin.AddRaftVoter": {[]string{"AddRaftVoter"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.AddRaftVoter(ctx, 4, "JEXY6aqzQY-32P5TStzaFg", []RaftListener{{"CONTROLLER", "node-4", 9093}}, 0)
	}},
	"Admin.RemoveRaftVoter": {[]string{"RemoveRaftVoter"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.RemoveRaftVoter(ctx, 4, "JEXY6aqzQY-32P5TStzaFg")
	}},
	"Admin.UnregisterBroker": {[]string{"UnregisterBroker"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.UnregisterBroker(ctx, 9)
	}},
	"Admin.AlterPartitionReassignments": {[]string{"AlterPartitionReassignments"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.AlterPartitionReassignments(ctx, map[TopicPartition][]int32{{"t", 0}: {1}}, true)
		return err
	}},
	"Admin.ListPartitionReassignments": {[]string{"ListPartitionReassignments"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.ListPartitionReassignments(ctx)
		return err
	}},
	"Admin.DescribeLogDirs": {[]string{"DescribeLogDirs"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeLogDirs(ctx)
		return err
	}},
	"Admin.DescribeConfigs": {[]string{"DescribeConfigs"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeConfigs(ctx, []Resource{{BrokerResource, "1"}}, nil, false)
		return err
	}},
	"Admin.AlterConfigs": {[]string{"AlterConfigs"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.AlterConfigs(ctx, map[Resource][]ConfigOp{{TopicResource, "t"}: nil}, false)
	}},
	"Admin.ListGroups": {[]string{"ListGroups"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.ListGroups(ctx)
		return err
	}},
	"Admin.DescribeGroup": {[]string{"DescribeGroups", "group g"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeGroup(ctx, "g")
		return err
	}},
	"Admin.DeleteGroup": {[]string{"DeleteGroups", "group g"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.DeleteGroup(ctx, "g")
	}},
	"Admin.GroupOffsets": {[]string{"OffsetFetch", "group g"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.GroupOffsets(ctx, "g")
		return err
	}},
	"Admin.SetGroupOffsets": {[]string{"OffsetCommit", "group g"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.SetGroupOffsets(ctx, "g", map[TopicPartition]Offset{{"t", 0}: {At: 1}})
	}},
	"Admin.DeleteGroupOffsets": {[]string{"OffsetDelete", "group g"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		return a.DeleteGroupOffsets(ctx, "g", TopicPartition{"t", 0})
	}},
	"Admin.CreateTopics": {[]string{"CreateTopics"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.CreateTopics(ctx, []NewTopic{{Name: "n"}}, false)
		return err
	}},
	"Admin.DeleteTopics": {[]string{"DeleteTopics"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DeleteTopics(ctx, "n")
		return err
	}},
	"Admin.CreatePartitions": {[]string{"CreatePartitions"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.CreatePartitions(ctx, map[string]int32{"t": 2}, false)
		return err
	}},
	"Admin.DescribeTopics": {[]string{"Metadata"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DescribeTopics(ctx, "t")
		return err
	}},
	"Admin.ListTopics": {[]string{"Metadata"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.ListTopics(ctx)
		return err
	}},
	"Admin.DeleteRecords": {[]string{"DeleteRecords"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.DeleteRecords(ctx, map[TopicPartition]int64{{"t", 0}: 0})
		return err
	}},
	"Admin.ListOffsets": {[]string{"ListOffsets"}, func(ctx context.Context, _ *fake, _ *Producer, _ *Consumer, a *Admin) error {
		_, err := a.ListOffsets(ctx, map[TopicPartition]Position{{"t", 0}: AtEnd(0)}, false)
		return err
	}},
}

// queueForTest queues a record for a partition that has no leader yet, without
// waiting for its metadata.
func (p *Producer) queueForTest(topic string) *Future {
	p.mu.Lock()
	t := p.adopt(&topicInfo{name: topic, partitions: []PartitionInfo{{Leader: -1}}})
	f := new(Future)
	p.put(t.partitions[0], &Record{Topic: topic, Explicit: true}, pendingRecord{future: f}, 0, time.Now())
	p.mu.Unlock()
	return f
}

// TestWaitsSayWhatFor ends every call that takes a context by its deadline: with
// a broker that cannot be reached, that is silent, and that refuses everything
// with an error that may pass. The error names what was waited for and the last
// error, and errors.Is finds both.
func TestWaitsSayWhatFor(t *testing.T) {
	for _, of := range []any{new(Producer), new(Consumer), new(Admin), new(Future)} {
		typ := reflect.TypeOf(of)
		for i := range typ.NumMethod() {
			m := typ.Method(i)
			if m.Type.NumIn() < 2 || m.Type.In(1) != reflect.TypeFor[context.Context]() {
				continue
			}
			if name := typ.Elem().Name() + "." + m.Name; waits[name].call == nil {
				t.Errorf("%s waits, and no case has it end by a deadline", name)
			}
		}
	}
	for name, w := range waits {
		for _, state := range []string{"unreachable", "silent", "refusing"} {
			t.Run(name+"/"+state, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					f.topic("t", 1)
					const code = kerr.ThrottlingQuotaExceeded
					f.script = func(id int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
						if h.Key == wire.ApiVersions {
							return nil, ""
						}
						if state == "silent" {
							return nil, "silent"
						}
						return refuseAll(f, id, h, req, code), ""
					}
					if state == "unreachable" {
						f.n.Partition("client", "b1")
					}
					o := f.options()
					o.ConnectTimeout = time.Second
					p := newProducer(t, f, ProducerOptions{Options: Options{ConnectTimeout: time.Second}})
					c, err := NewConsumer(ConsumerOptions{Options: o, Group: "g"})
					if err != nil {
						t.Fatal(err)
					}
					a, err := NewAdmin(AdminOptions{Options: o})
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					defer cancel()
					err = w.call(ctx, f, p, c, a)
					said := ""
					if err != nil {
						said = err.Error()
					}
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("not a deadline: %v", err)
					}
					for _, n := range w.names {
						if !strings.Contains(said, n) {
							t.Errorf("%q does not name %q", said, n)
						}
					}
					if strings.Count(said, context.DeadlineExceeded.Error()) != 1 {
						t.Errorf("%q does not say once that the deadline is over", said)
					}
					if state == "refusing" && !errors.Is(err, code) {
						t.Errorf("%q does not have the broker's error", said)
					}
					if state != "refusing" && !strings.Contains(said, "b1:9092") && !errors.Is(err, kerr.LeaderNotAvailable) {
						t.Errorf("%q does not name the broker", said)
					}
					f.n.Heal()
					ended, cancel := context.WithCancel(context.Background())
					cancel()
					c.Close(ended)
					p.Close(ended)
					a.Close()
				})
			})
		}
	}
}

// refuseAll answers anything with a code wherever one may be.
func refuseAll(f *fake, id int32, h wire.RequestHeader, req msg.Request, code kerr.Code) msg.Response {
	var resp msg.Response
	switch h.Key {
	case wire.JoinGroup:
		return &msg.JoinGroupResponse{ErrorCode: int16(code), GenerationId: -1}
	default:
		resp = f.handle(id, h, req)
	}
	for level := range 4 {
		well, err := resp.AppendTo(nil, h.Version)
		if err != nil {
			return resp
		}
		copied := msg.NewResponse(int16(h.Key))
		if copied.Decode(well, h.Version) != nil {
			return resp
		}
		poison(reflect.ValueOf(copied), fault{code: code, level: level}, 0)
		if ill, err := copied.AppendTo(nil, h.Version); err == nil && string(ill) != string(well) {
			resp = copied
		}
	}
	return resp
}
