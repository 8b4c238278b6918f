package client

import (
	"context"
	"errors"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/record"
)

// workload is one kind of client that goes on until ctx ends, whatever happens.
type workload struct {
	name string
	run  func(w *world, ctx context.Context)
}

var (
	producing = workload{"producer", func(w *world, ctx context.Context) { produceOn(w, ctx, ProducerOptions{}) }}
	plain     = workload{"plain producer", func(w *world, ctx context.Context) {
		produceOn(w, ctx, ProducerOptions{Idempotence: Off, Acks: AcksLeader})
	}}
	single    = workload{"single producer", func(w *world, ctx context.Context) { produceOn(w, ctx, ProducerOptions{MaxInFlight: 1}) }}
	consuming = workload{"consumer", consumeOn}
	comparing = workload{"consumer of a new leader", func(w *world, ctx context.Context) {
		go func() {
			if sleep(ctx, time.Second) == nil { // all is read
				for i := range int32(w.parts) {
					w.f.move("t", i, 1)
				}
			}
		}()
		consumeOn(w, ctx)
	}}
	joining   = workload{"group", func(w *world, ctx context.Context) { joinOn(w, ctx, time.Hour) }}
	hasty     = workload{"hasty group", func(w *world, ctx context.Context) { joinOn(w, ctx, 50*time.Millisecond) }}
	leaving   = workload{"leave", leaveOn}
	resetting = workload{"reset", resetOn}
	creating  = adminWork("create topics", func(ctx context.Context, a *Admin) error {
		return each(a.CreateTopics(ctx, []NewTopic{{Name: "n"}}, true))
	})
	deleting = adminWork("delete topics", func(ctx context.Context, a *Admin) error { return each(a.DeleteTopics(ctx, "n")) })
	growing  = adminWork("create partitions", func(ctx context.Context, a *Admin) error {
		return each(a.CreatePartitions(ctx, map[string]int32{"t": 4}, true))
	})
	listing    = adminWork("list topics", func(ctx context.Context, a *Admin) error { return topicErrors(a.ListTopics(ctx)) })
	describing = adminWork("describe topics", func(ctx context.Context, a *Admin) error { return topicErrors(a.DescribeTopics(ctx, "t")) })
)

func adminWork(name string, do func(context.Context, *Admin) error) workload {
	return workload{name, func(w *world, ctx context.Context) { w.admin(ctx, do) }}
}

func topicErrors(topics []TopicInfo, err error) error {
	for _, t := range topics {
		err = errors.Join(err, t.Err)
		for _, p := range t.Partitions {
			err = errors.Join(err, p.Err)
		}
	}
	return err
}

// each joins the errors of single topics.
func each(errs map[string]error, err error) error {
	for _, e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// persistent has for every API that the client sends the clients that send it.
var persistent = map[wire.Key][]workload{
	wire.ApiVersions:          {producing, consuming, joining, listing},
	wire.Metadata:             {producing, consuming, joining, listing, describing},
	wire.FindCoordinator:      {joining, hasty, adminWork("group", func(ctx context.Context, a *Admin) error { _, err := a.DescribeGroup(ctx, "g"); return err })},
	wire.Produce:              {producing, plain, single},
	wire.InitProducerId:       {producing},
	wire.Fetch:                {consuming},
	wire.OffsetForLeaderEpoch: {comparing},
	wire.ListOffsets: {consuming, resetting, adminWork("offsets", func(ctx context.Context, a *Admin) error {
		_, err := a.ListOffsets(ctx, map[TopicPartition]Position{{"t", 0}: AtEnd(0)}, false)
		return err
	})},
	wire.JoinGroup:  {joining, hasty},
	wire.SyncGroup:  {joining, hasty},
	wire.Heartbeat:  {joining, hasty},
	wire.LeaveGroup: {leaving},
	wire.OffsetFetch: {joining, hasty, adminWork("group offsets", func(ctx context.Context, a *Admin) error {
		_, err := a.GroupOffsets(ctx, "g", TopicPartition{"t", 0})
		return err
	})},
	wire.OffsetCommit: {joining, hasty, leaving, adminWork("set group offsets", func(ctx context.Context, a *Admin) error {
		return a.SetGroupOffsets(ctx, "g", map[TopicPartition]Offset{{"t", 0}: {At: 1}})
	})},
	wire.DescribeGroups: {adminWork("describe", func(ctx context.Context, a *Admin) error { _, err := a.DescribeGroup(ctx, "g"); return err })},
	wire.ListGroups:     {adminWork("list", func(ctx context.Context, a *Admin) error { _, err := a.ListGroups(ctx); return err })},
	wire.DeleteGroups:   {adminWork("delete", func(ctx context.Context, a *Admin) error { return a.DeleteGroup(ctx, "g") })},
	wire.OffsetDelete: {adminWork("offset delete", func(ctx context.Context, a *Admin) error {
		return a.DeleteGroupOffsets(ctx, "g", TopicPartition{"t", 0})
	})},
	wire.CreateTopics:     {creating},
	wire.DeleteTopics:     {deleting},
	wire.CreatePartitions: {growing},
	wire.DeleteRecords: {adminWork("delete records", func(ctx context.Context, a *Admin) error {
		_, err := a.DeleteRecords(ctx, map[TopicPartition]int64{{"t", 0}: 0})
		return err
	})},
	wire.DescribeConfigs: {adminWork("describe configs", func(ctx context.Context, a *Admin) error {
		_, err := a.DescribeConfigs(ctx, []Resource{{TopicResource, "t"}, {BrokerResource, "1"}}, nil, false)
		return err
	})},
	wire.IncrementalAlterConfigs: {adminWork("alter configs", func(ctx context.Context, a *Admin) error {
		return a.AlterConfigs(ctx, map[Resource][]ConfigOp{{TopicResource, "t"}: {{Name: "retention.ms", Value: "1"}}}, false)
	})},
	wire.DescribeQuorum: {adminWork("quorum", func(ctx context.Context, a *Admin) error { _, err := a.DescribeQuorum(ctx); return err })},
	wire.ElectLeaders: {adminWork("elect", func(ctx context.Context, a *Admin) error {
		got, err := a.ElectLeaders(ctx, false, TopicPartition{"t", 0})
		return errors.Join(err, got[TopicPartition{"t", 0}])
	})},
	wire.AddRaftVoter: {adminWork("add a voter", func(ctx context.Context, a *Admin) error {
		return a.AddRaftVoter(ctx, 4, "JEXY6aqzQY-32P5TStzaFg", nil, 0)
	})},
	wire.RemoveRaftVoter: {adminWork("remove a voter", func(ctx context.Context, a *Admin) error {
		return a.RemoveRaftVoter(ctx, 4, "JEXY6aqzQY-32P5TStzaFg")
	})},
	wire.UnregisterBroker: {adminWork("unregister", func(ctx context.Context, a *Admin) error { return a.UnregisterBroker(ctx, 9) })},
	wire.AlterPartitionReassignments: {adminWork("reassign", func(ctx context.Context, a *Admin) error {
		got, err := a.AlterPartitionReassignments(ctx, map[TopicPartition][]int32{{"t", 0}: {1}}, true)
		return errors.Join(err, got[TopicPartition{"t", 0}])
	})},
	wire.ListPartitionReassignments: {adminWork("list reassignments", func(ctx context.Context, a *Admin) error {
		_, err := a.ListPartitionReassignments(ctx)
		return err
	})},
	wire.DescribeCluster: {adminWork("cluster", func(ctx context.Context, a *Admin) error { _, err := a.DescribeCluster(ctx); return err })},
	wire.DescribeLogDirs: {adminWork("log dirs", func(ctx context.Context, a *Admin) error {
		dirs, err := a.DescribeLogDirs(ctx)
		for _, d := range dirs {
			err = errors.Join(err, d.Err)
		}
		return err
	})},
}

// produceOn sends a record to each partition twice a second.
func produceOn(w *world, ctx context.Context, o ProducerOptions) {
	o.Options, o.MaxBlock = w.o, 3*time.Second
	p, err := NewProducer(o)
	if err != nil {
		w.t.Fatal(err)
	}
	for ctx.Err() == nil {
		for i := range int32(w.parts) {
			if err := p.SendFunc(ctx, &Record{Topic: "t", Partition: i, Explicit: true, Value: []byte("v")}, func(_ RecordMetadata, err error) { w.saw(err) }); err != nil {
				break
			}
		}
		sleep(ctx, 500*time.Millisecond)
	}
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.saw(p.Close(end))
}

func (w *world) consumer(o ConsumerOptions) *Consumer {
	o.Options = w.o
	o.Reset = ResetEarliest
	c, err := NewConsumer(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// poll polls once. An error that tells of a deadline tells of ctx's.
func (w *world) poll(ctx context.Context, c *Consumer) {
	_, err := c.Poll(ctx)
	w.saw(err)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		w.t.Errorf("the caller's time is not over: %v", err)
	}
}

// pollOn polls without a pause.
func (w *world) pollOn(ctx context.Context, c *Consumer) {
	for ctx.Err() == nil {
		w.poll(ctx, c)
	}
}

func (w *world) closeConsumer(c *Consumer) {
	end, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.saw(c.Close(end))
}

// consumeOn reads partitions from the start.
func consumeOn(w *world, ctx context.Context) {
	c := w.consumer(ConsumerOptions{})
	at := map[TopicPartition]Position{}
	for i := range int32(w.parts) {
		at[TopicPartition{"t", i}] = AtStart(0)
		if i%3 == 0 {
			at[TopicPartition{"t", i}] = AtOffset(0)
		}
	}
	c.Assign(at)
	w.pollOn(ctx, c)
	w.closeConsumer(c)
}

// resetOn reads from offsets that are out of range.
func resetOn(w *world, ctx context.Context) {
	c := w.consumer(ConsumerOptions{})
	c.Assign(map[TopicPartition]Position{{"t", 0}: AtOffset(1000), {"t", 1}: AtOffset(1000), {"t", 2}: AtOffset(1000)})
	w.pollOn(ctx, c)
	w.closeConsumer(c)
}

// joinOn reads as a member of a group. Each Poll waits as long as wait says. Commits
// are not due together with heartbeats: the answer to a heartbeat counts for nothing
// if that to a commit, at the same moment, has ended the membership.
func joinOn(w *world, ctx context.Context, wait time.Duration) {
	w.rejoins = true
	c := w.consumer(ConsumerOptions{Group: "g", AutoCommitEvery: 1100 * time.Millisecond, MaxPollInterval: 4 * time.Second})
	if err := c.Subscribe("t"); err != nil {
		w.t.Fatal(err)
	}
	sure := make(chan struct{})
	go func() { // records and time come, so that there is something to commit
		defer close(sure)
		for sleep(ctx, time.Second) == nil {
			w.f.fill("t", 0, record.None, 1, 1)
		}
	}()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, wait)
		w.poll(once, c)
		cancel()
	}
	<-sure
	w.closeConsumer(c)
}

// leaveOn joins, reads, and leaves.
func leaveOn(w *world, ctx context.Context) {
	w.rejoins, w.onlyLogs = true, true
	c := w.consumer(ConsumerOptions{Group: "g"})
	if err := c.Subscribe("t"); err != nil {
		w.t.Fatal(err)
	}
	once, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	w.pollOn(once, c)
	w.saw(c.Close(ctx))
}

// admin calls do again and again, with a pause of half a second.
func (w *world) admin(ctx context.Context, do func(context.Context, *Admin) error) {
	a, err := NewAdmin(AdminOptions{Options: w.o, APITimeout: 5 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	for ctx.Err() == nil {
		w.saw(do(ctx, a))
		sleep(ctx, 500*time.Millisecond)
	}
	w.saw(a.Close())
}
