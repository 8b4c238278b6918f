package cluster_test

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/wire/record"
)

// epochs are the leader epochs in what is said.
var epochs = regexp.MustCompile(`epoch \d+|:\d+:`)

// named returns the name of an error code.
func named(code int16) string {
	if code == 0 {
		return "OK"
	}
	return kerr.TypedErrorForCode(code).Message
}

// said returns an error code, and what was said with it.
func said(code int16, message *string) string {
	if message == nil || *message == "" {
		return named(code)
	}
	return named(code) + ": " + *message
}

// ask sends a request to a node.
func (c *cluster) ask(node int32, req kmsg.Request) kmsg.Response {
	c.Helper()
	return c.askBy(c.cl, node, req)
}

// askBy is ask with one of the clients.
func (c *cluster) askBy(cl *kgo.Client, node int32, req kmsg.Request) kmsg.Response {
	c.Helper()
	// The client learns of brokers that come and go from metadata.
	var resp kmsg.Response
	c.until(fmt.Sprintf("an answer of node %d", node), func() bool {
		var err error
		if resp, err = cl.Broker(int(node)).Request(c.context(), req); err == nil {
			return true
		}
		cl.ForceMetadataRefresh()
		_, _ = cl.Request(c.context(), kmsg.NewPtrMetadataRequest())
		return false
	})
	return resp
}

// any sends an admin request to whoever takes it.
func (c *cluster) any(req kmsg.Request) kmsg.Response {
	c.Helper()
	return c.ask(c.up(), req)
}

// up is the first node that runs.
func (c *cluster) up() int32 {
	for i, p := range c.Nodes {
		if p != nil {
			return int32(i + 1)
		}
	}
	c.Fatal("no node runs")
	return 0
}

// metadata returns what a node knows of a topic.
func (c *cluster) metadata(node int32, topic string) kmsg.MetadataResponseTopic {
	c.Helper()
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	return c.ask(node, req).(*kmsg.MetadataResponse).Topics[0]
}

// partition returns what a node knows of a partition, in words: everything in it is the same
// on both clusters, if it has the same history.
func (c *cluster) partition(node int32, topic string, index int32) string {
	c.Helper()
	t := c.metadata(node, topic)
	for _, p := range t.Partitions {
		if p.Partition == index {
			slices.Sort(p.ISR)
			slices.Sort(p.OfflineReplicas)
			return fmt.Sprintf("%s-%d: %s leader %d epoch %d replicas %v isr %v offline %v", topic, index, named(p.ErrorCode), p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, p.OfflineReplicas)
		}
	}
	return fmt.Sprintf("%s-%d: %s, not there", topic, index, named(t.ErrorCode))
}

// state returns one partition of a topic as a node knows it.
func (c *cluster) state(node int32, topic string, index int32) (p kmsg.MetadataResponseTopicPartition) {
	c.Helper()
	for _, p = range c.metadata(node, topic).Partitions {
		if p.Partition == index {
			slices.Sort(p.ISR)
			return p
		}
	}
	return kmsg.MetadataResponseTopicPartition{Leader: -2}
}

// everywhere waits until all nodes that run know the same of partition 0 of a topic: that it
// has this leader and these in sync. 0 is any leader but none.
func (c *cluster) everywhere(topic string, leader int32, inSync ...int32) {
	c.Helper()
	for i, p := range c.Nodes {
		if p == nil {
			continue
		}
		c.until(fmt.Sprintf("%s-0 led by %d with %v on node %d", topic, leader, inSync, i+1), func() bool {
			p := c.state(int32(i+1), topic, 0)
			return (p.Leader == leader || leader == 0 && p.Leader > 0) && slices.Equal(p.ISR, inSync)
		})
	}
}

// create makes a topic with replicas on the nodes that are named for each partition.
func (c *cluster) create(topic string, replicas [][]int32, configs ...string) string {
	c.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, -1, -1
	for i, r := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), r
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
	for _, kv := range configs {
		x := kmsg.NewCreateTopicsRequestTopicConfig()
		k, v, _ := strings.Cut(kv, "=")
		x.Name, x.Value = k, &v
		t.Configs = append(t.Configs, x)
	}
	req.Topics = append(req.Topics, t)
	made := c.any(req).(*kmsg.CreateTopicsResponse).Topics[0]
	return said(made.ErrorCode, made.ErrorMessage)
}

// made makes a topic of one partition, and waits until all nodes know it and its leader is the
// first replica with all in sync.
func (c *cluster) made(topic string, replicas []int32, configs ...string) {
	c.Helper()
	if got := c.create(topic, [][]int32{replicas}, configs...); got != "OK" {
		c.Fatalf("%s: create %s: %s", c.Name, topic, got)
	}
	all := slices.Clone(replicas)
	slices.Sort(all)
	c.everywhere(topic, replicas[0], all...)
}

// batch is one of the records with these values.
func batch(p record.Producer, values ...string) []byte {
	b := record.NewBuilder(record.None, 0)
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), []byte("k"), []byte(v), nil)
	}
	out, err := b.Finish(p)
	if err != nil {
		panic(err)
	}
	return out
}

// produce sends a batch to partition 0 of a topic on a node with acks=all, and returns the
// answer in words, without those that the broker added: klamm says more.
func (c *cluster) produce(node int32, topic string, batch []byte) string {
	c.Helper()
	return c.produceBy(c.cl, node, topic, batch)
}

// produceOne is produce with acks=1.
func (c *cluster) produceOne(node int32, topic string, batch []byte) string {
	c.Helper()
	return c.produceBy(c.one, node, topic, batch)
}

func (c *cluster) produceBy(cl *kgo.Client, node int32, topic string, batch []byte) string {
	c.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.TimeoutMillis = 10_000 // the client sets the acks
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, c.metadata(node, topic).TopicID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = batch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := c.askBy(cl, node, req).(*kmsg.ProduceResponse)
	got := resp.Topics[0].Partitions[0]
	out := fmt.Sprintf("%s base %d start %d", named(got.ErrorCode), got.BaseOffset, got.LogStartOffset)
	if got.CurrentLeader.LeaderID >= 0 {
		out += fmt.Sprintf(", led by %d in epoch %d", got.CurrentLeader.LeaderID, got.CurrentLeader.LeaderEpoch)
	}
	for _, b := range resp.Brokers {
		out += fmt.Sprintf(" at %s:%d", b.Host, b.Port)
	}
	return out
}

// code is the error code of what a client was told.
func code(said string) string {
	first, _, _ := strings.Cut(said, " ")
	return first
}

// fetching is a fetch of partition 0 of a topic.
type fetching struct {
	topic          string
	offset         int64
	epoch, fetched int32 // current leader epoch and that of the last record, -1 none
	committed      bool
}

// fetch reads on a node, and returns the answer in words.
func (c *cluster) fetch(node int32, f fetching) string {
	c.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 0, 1, 1<<20, -1
	if f.committed {
		req.IsolationLevel = 1
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = f.topic, c.metadata(node, f.topic).TopicID
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.PartitionMaxBytes = f.offset, f.epoch, f.fetched, 1<<20
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := c.ask(node, req).(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 || len(resp.Topics) == 0 {
		return named(resp.ErrorCode)
	}
	got := resp.Topics[0].Partitions[0]
	out := fmt.Sprintf("%s high %d stable %d start %d", named(got.ErrorCode), got.HighWatermark, got.LastStableOffset, got.LogStartOffset)
	if got.DivergingEpoch.Epoch >= 0 {
		out += fmt.Sprintf(", diverging: epoch %d ends at %d", got.DivergingEpoch.Epoch, got.DivergingEpoch.EndOffset)
	}
	if got.CurrentLeader.LeaderID >= 0 {
		out += fmt.Sprintf(", led by %d in epoch %d", got.CurrentLeader.LeaderID, got.CurrentLeader.LeaderEpoch)
	}
	if got.PreferredReadReplica >= 0 {
		out += fmt.Sprintf(", to be read from %d", got.PreferredReadReplica)
	}
	for _, b := range resp.Brokers {
		out += fmt.Sprintf(" at %s:%d", b.Host, b.Port)
	}
	return out + " " + values(got.RecordBatches)
}

// values lists the records of batches as offset:epoch:value.
func values(batches []byte) string {
	var out []string
	for len(batches) > 12 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return fmt.Sprint(out, " and ", err)
		}
		batches = rest
		if b.Attributes().Control() {
			out = append(out, fmt.Sprintf("%d:%d:marker", b.BaseOffset(), b.LeaderEpoch()))
			continue
		}
		it := b.Iterate(1 << 20)
		for it.Next() {
			out = append(out, fmt.Sprintf("%d:%d:%s", it.Offset(), b.LeaderEpoch(), it.Record().Value))
		}
		it.Close()
	}
	return fmt.Sprint(out)
}

// ends asks a node where a leader epoch ends.
func (c *cluster) ends(node int32, topic string, current, epoch int32) string {
	c.Helper()
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	t := kmsg.NewOffsetForLeaderEpochRequestTopic()
	t.Topic = topic
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LeaderEpoch = current, epoch
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	got := c.ask(node, req).(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	return fmt.Sprintf("%s epoch %d ends at %d", named(got.ErrorCode), got.LeaderEpoch, got.EndOffset)
}

// offset asks a node for an offset by timestamp (-1 the end, -2 the start).
func (c *cluster) offset(node int32, topic string, current int32, timestamp int64) string {
	c.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.CurrentLeaderEpoch, p.Timestamp = current, timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	got := c.ask(node, req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return fmt.Sprintf("%s offset %d timestamp %d epoch %d", named(got.ErrorCode), got.Offset, got.Timestamp, got.LeaderEpoch)
}

// elect asks for an election in partition 0 of a topic: the preferred leader, or an unclean one.
func (c *cluster) elect(unclean bool, topic string, partitions ...int32) string {
	c.Helper()
	req := kmsg.NewPtrElectLeadersRequest()
	req.TimeoutMillis = 10_000
	if unclean {
		req.ElectionType = 1
	}
	t := kmsg.NewElectLeadersRequestTopic()
	t.Topic, t.Partitions = topic, partitions
	req.Topics = append(req.Topics, t)
	resp := c.any(req).(*kmsg.ElectLeadersResponse)
	out := named(resp.ErrorCode)
	for _, t := range resp.Topics {
		slices.SortFunc(t.Partitions, func(a, b kmsg.ElectLeadersResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
		for _, p := range t.Partitions {
			out += fmt.Sprintf(", %s-%d: %s", t.Topic, p.Partition, said(p.ErrorCode, p.ErrorMessage))
		}
	}
	return out
}

// reassign asks for other replicas of partition 0 of a topic; nil cancels.
func (c *cluster) reassign(topic string, index int32, replicas []int32) string {
	c.Helper()
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	t.Topic = topic
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = index, replicas
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp := c.any(req).(*kmsg.AlterPartitionAssignmentsResponse)
	out := said(resp.ErrorCode, resp.ErrorMessage)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out += fmt.Sprintf(", %s-%d: %s", t.Topic, p.Partition, said(p.ErrorCode, p.ErrorMessage))
		}
	}
	return out
}

// moving lists the reassignments under way.
func (c *cluster) moving() string {
	c.Helper()
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	req.TimeoutMillis = 10_000
	resp := c.any(req).(*kmsg.ListPartitionReassignmentsResponse)
	out := said(resp.ErrorCode, resp.ErrorMessage)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out += fmt.Sprintf(", %s-%d on %v adds %v removes %v", t.Topic, p.Partition, p.Replicas, p.AddingReplicas, p.RemovingReplicas)
		}
	}
	return out
}

// remove deletes a topic.
func (c *cluster) remove(node int32, topic string) string {
	c.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10_000
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	req.TopicNames = []string{topic}
	return named(c.ask(node, req).(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
}

// configure sets keys of a topic; node is where it is asked.
func (c *cluster) configure(topic string, sets ...string) string {
	c.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	for _, kv := range sets {
		k, v, _ := strings.Cut(kv, "=")
		x := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		x.Name, x.Value, x.Op = k, &v, kmsg.IncrementalAlterConfigOpSet
		r.Configs = append(r.Configs, x)
	}
	req.Resources = append(req.Resources, r)
	got := c.any(req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]
	return said(got.ErrorCode, got.ErrorMessage)
}

// living waits until every node that runs knows so many brokers.
func (c *cluster) living(n int) {
	c.Helper()
	for i, p := range c.Nodes {
		if p == nil {
			continue
		}
		c.until(fmt.Sprintf("%d brokers on node %d", n, i+1), func() bool {
			return len(c.ask(int32(i+1), kmsg.NewPtrMetadataRequest()).(*kmsg.MetadataResponse).Brokers) == n
		})
	}
}

// kill ends a node at once, and waits until the others miss it.
func kill(node int32) func(c *cluster) {
	return func(c *cluster) {
		c.KillNode(int(node - 1))
		c.living(c.running())
	}
}

// stop asks a node to end, and waits until the others miss it.
func stop(node int32) func(c *cluster) {
	return func(c *cluster) {
		var died *exec.ExitError // the JVM ends by the signal
		if err := c.StopNode(int(node - 1)); err != nil && !(c.Name == "jvm" && errors.As(err, &died)) {
			c.Fatal(err)
		}
		c.living(c.running())
	}
}

// start starts a node, and waits until all know it.
func start(node int32) func(c *cluster) {
	return func(c *cluster) {
		if err := c.Start(int(node - 1)); err != nil {
			c.Fatal(err)
		}
		c.living(c.running())
	}
}

func (c *cluster) running() (n int) {
	for _, p := range c.Nodes {
		if p != nil {
			n++
		}
	}
	return n
}

// signal sends a signal to the process of a node.
func (c *cluster) signal(node int32, s syscall.Signal) {
	if err := syscall.Kill(c.Nodes[node-1].Pid, s); err != nil {
		c.Fatal(err)
	}
}

// heal starts what does not run, and waits until every replica that is to be in sync is.
func (c *cluster) heal() {
	for i, p := range c.Nodes {
		if p == nil {
			start(int32(i + 1))(c)
		}
	}
	c.living(nodes)
	c.until("all replicas in sync", func() bool {
		for _, t := range c.any(kmsg.NewPtrMetadataRequest()).(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				if len(p.ISR) != len(p.Replicas) {
					return false
				}
			}
		}
		return true
	})
}
