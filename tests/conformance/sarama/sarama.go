// Package sarama drives IBM/sarama.
package sarama

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// Driver drives sarama against one broker.
type Driver struct {
	addr    string
	admin   sarama.ClusterAdmin
	members map[string]*member
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.Retry.Max = 1
	c.Metadata.Retry.Backoff = 50 * time.Millisecond
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Heartbeat.Interval = 100 * time.Millisecond
	c.Consumer.Group.Rebalance.Retry.Backoff = 100 * time.Millisecond
	return c
}

// New returns a driver for the broker at addr.
func New(addr string) (*Driver, error) {
	admin, err := sarama.NewClusterAdmin([]string{addr}, config())
	return &Driver{addr: addr, admin: admin, members: make(map[string]*member)}, err
}

// Lacks returns what sarama cannot do.
func (d *Driver) Lacks() map[string]string {
	return map[string]string{
		"murmur2":       "sarama's partitioners hash keys with FNV-1a and CRC-32",
		"max_timestamp": "sarama sends ListOffsets v4, which does not know the special timestamp",
	}
}

// Close closes the clients that are still open.
func (d *Driver) Close() error {
	for _, m := range d.members {
		m.close()
	}
	return d.admin.Close()
}

func fail(err error) driver.Result {
	if err == nil {
		return driver.Result{}
	}
	var pe sarama.ProducerErrors
	if errors.As(err, &pe) && len(pe) > 0 {
		err = pe[0].Err
	}
	var code sarama.KError
	switch {
	case errors.As(err, &code) && code > 0:
		return driver.Fail(int16(code), err)
	case errors.Is(err, sarama.ErrOffsetOutOfRange):
		return driver.Fail(int16(sarama.ErrOffsetOutOfRange), err)
	}
	return driver.Fail(0, err)
}

// Do runs one operation.
func (d *Driver) Do(op driver.Op) driver.Result {
	switch op.Op {
	case "produce":
		return d.produce(op)
	case "consume":
		return d.consume(op)
	case "join":
		return d.join(op)
	case "poll":
		return d.members[op.Member].inbox.Poll(op.Count)
	case "assignment":
		return d.members[op.Member].inbox.Assignment(op.Count)
	case "commit":
		return d.members[op.Member].commit()
	case "leave":
		d.members[op.Member].close()
		delete(d.members, op.Member)
		return driver.Result{}
	case "describe_configs", "alter_configs":
		return d.configs(op)
	case "list_groups", "describe_group", "delete_group", "group_offsets", "set_offset", "delete_offset":
		return d.groups(op)
	}
	return d.topics(op)
}

// partitioner takes the partition that a message names, or hashes its key.
type partitioner struct{ keys sarama.Partitioner }

func (p partitioner) Partition(m *sarama.ProducerMessage, n int32) (int32, error) {
	if m.Metadata.(int32) >= 0 {
		return m.Metadata.(int32), nil
	}
	return p.keys.Partition(m, n)
}

func (partitioner) RequiresConsistency() bool { return true }

var codecs = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}

func (d *Driver) produce(op driver.Op) driver.Result {
	c := config()
	c.Metadata.AllowAutoTopicCreation = op.AutoCreate
	if op.AutoCreate {
		c.Metadata.Retry.Max = 40
	}
	c.Producer.Return.Successes = true
	c.Producer.Compression = codecs[op.Codec]
	c.Producer.Idempotent = op.Idempotent
	c.Producer.MaxMessageBytes = 8 << 20
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	c.Producer.RequiredAcks = map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll}[op.Acks]
	c.Producer.Partitioner = func(topic string) sarama.Partitioner {
		return partitioner{sarama.NewHashPartitioner(topic)}
	}
	if op.Idempotent {
		c.Net.MaxOpenRequests = 1
	}
	p, err := sarama.NewSyncProducer([]string{d.addr}, c)
	if err != nil {
		return fail(err)
	}
	defer p.Close()
	msgs := make([]*sarama.ProducerMessage, len(op.Records))
	for i, r := range op.Records {
		m := &sarama.ProducerMessage{Topic: op.Topic, Metadata: r.Partition}
		if r.Key != nil {
			m.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			m.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		if r.Timestamp >= 0 {
			m.Timestamp = time.UnixMilli(r.Timestamp)
		}
		msgs[i] = m
	}
	if err := p.SendMessages(msgs); err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, m := range msgs {
		out.Records = append(out.Records, driver.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset})
	}
	return driver.Normal(out)
}

func record(m *sarama.ConsumerMessage) driver.Record {
	out := driver.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Key: m.Key, Value: m.Value, Timestamp: m.Timestamp.UnixMilli()}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, driver.Header{Key: string(h.Key), Value: h.Value})
	}
	return out
}

func (d *Driver) consume(op driver.Op) driver.Result {
	c, err := sarama.NewConsumer([]string{d.addr}, config())
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	p, err := c.ConsumePartition(op.Topic, op.Partition, op.Offset) // its oldest is -2 too
	if err != nil {
		return fail(err)
	}
	defer p.Close()
	var out driver.Result
	limit := time.After(driver.Limit)
	for len(out.Records) < op.Count {
		select {
		case m := <-p.Messages():
			out.Records = append(out.Records, record(m))
		case err := <-p.Errors():
			return fail(err)
		case <-limit:
			return driver.Fail(0, fmt.Errorf("timed out after %d records", len(out.Records)))
		}
	}
	return driver.Normal(out)
}

// member is a group member whose goroutine keeps a session going.
type member struct {
	group   sarama.ConsumerGroup
	inbox   *driver.Inbox
	session chan sarama.ConsumerGroupSession // the current one, if any
	stop    context.CancelFunc
	done    chan struct{}
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	var parts []driver.TopicPart
	for t, ps := range s.Claims() {
		for _, p := range ps {
			parts = append(parts, driver.TopicPart{Topic: t, Partition: p})
		}
	}
	<-m.session
	m.session <- s
	m.inbox.Assigned(parts)
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.inbox.Assigned(nil)
	return nil
}

func (m *member) ConsumeClaim(_ sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for msg := range c.Messages() {
		m.inbox.Add(record(msg))
	}
	return nil
}

func (m *member) close() {
	m.stop()
	m.group.Close()
	<-m.done
}

func (m *member) commit() driver.Result {
	s := <-m.session
	defer func() { m.session <- s }()
	for p, o := range m.inbox.Next() {
		s.MarkOffset(p.Topic, p.Partition, o, "")
	}
	s.Commit()
	select {
	case err := <-m.group.Errors():
		return fail(err)
	default:
		return driver.Result{}
	}
}

func (d *Driver) join(op driver.Op) driver.Result {
	c := config()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	if op.Reset == "latest" {
		c.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	g, err := sarama.NewConsumerGroup([]string{d.addr}, op.Group, c)
	if err != nil {
		return fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{group: g, inbox: driver.NewInbox(), session: make(chan sarama.ConsumerGroupSession, 1), stop: stop, done: make(chan struct{})}
	m.session <- nil
	d.members[op.Member] = m
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, op.Topics(), m); err != nil && ctx.Err() == nil {
				m.inbox.Fail(err)
				return
			}
		}
	}()
	return driver.Result{}
}

func (d *Driver) topics(op driver.Op) driver.Result {
	switch op.Op {
	case "create_topic":
		configs := make(map[string]*string)
		for _, c := range op.Configs {
			configs[c.Name] = c.Value
		}
		return fail(d.admin.CreateTopic(op.Topic, &sarama.TopicDetail{NumPartitions: op.Partitions, ReplicationFactor: op.Replicas, ConfigEntries: configs}, op.ValidateOnly))
	case "delete_topic":
		return fail(d.admin.DeleteTopic(op.Topic))
	case "create_partitions":
		return fail(d.admin.CreatePartitions(op.Topic, op.Partitions, nil, op.ValidateOnly))
	case "describe_topic":
		ts, err := d.admin.DescribeTopics([]string{op.Topic})
		if err != nil {
			return fail(err)
		}
		if ts[0].Err != sarama.ErrNoError {
			return fail(ts[0].Err)
		}
		return driver.Result{Partitions: len(ts[0].Partitions), Replicas: len(ts[0].Partitions[0].Replicas)}
	case "list_topics":
		ts, err := d.admin.ListTopics()
		if err != nil {
			return fail(err)
		}
		var out driver.Result
		for t := range ts {
			out.Names = append(out.Names, t)
		}
		return driver.Normal(out)
	case "delete_records":
		// sarama keeps the low watermark of the response to itself, so what it
		// says is asked for.
		if err := d.admin.DeleteRecords(op.Topic, map[int32]int64{op.Partition: op.Offset}); err != nil {
			return fail(err)
		}
		op.Timestamp = driver.Earliest
		fallthrough
	case "list_offsets":
		rs, err := d.admin.ListOffsets(map[string]map[int32]int64{op.Topic: {op.Partition: op.Timestamp}}, nil)
		if err != nil {
			return fail(err)
		}
		r := rs[op.Topic][op.Partition]
		if r == nil {
			return driver.Fail(0, errors.New("no answer for the partition"))
		}
		if r.Err != nil && !errors.Is(r.Err, sarama.ErrNoError) {
			return fail(r.Err)
		}
		return driver.Result{Offset: r.Offset}
	}
	return driver.Unsupported(op)
}

func (d *Driver) configs(op driver.Op) driver.Result {
	kind := map[string]sarama.ConfigResourceType{"topic": sarama.TopicResource, "broker": sarama.BrokerResource}[op.Resource]
	if op.Op == "alter_configs" {
		ops := map[string]sarama.IncrementalAlterConfigsOperation{"set": sarama.IncrementalAlterConfigsOperationSet, "delete": sarama.IncrementalAlterConfigsOperationDelete, "append": sarama.IncrementalAlterConfigsOperationAppend, "subtract": sarama.IncrementalAlterConfigsOperationSubtract}
		entries := make(map[string]sarama.IncrementalAlterConfigsEntry)
		for _, c := range op.Configs {
			entries[c.Name] = sarama.IncrementalAlterConfigsEntry{Operation: ops[c.Op], Value: c.Value}
		}
		return fail(d.admin.IncrementalAlterConfig(kind, op.Name, entries, op.ValidateOnly))
	}
	rs, err := d.admin.DescribeConfigs([]*sarama.ConfigResource{{Type: kind, Name: op.Name}}, sarama.DescribeConfigsOptions{IncludeSynonyms: true})
	if err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, r := range rs {
		if r.ErrorCode != sarama.ErrNoError {
			return fail(r.ErrorCode)
		}
		for _, e := range r.Configs {
			if !op.Asks(e.Name) {
				continue
			}
			c := driver.Config{Name: e.Name, Value: &e.Value, Source: kmsg.ConfigSource(e.Source).String()}
			for _, s := range e.Synonyms {
				c.Synonyms = append(c.Synonyms, driver.Synonym(kmsg.ConfigSource(s.Source).String(), s.ConfigName, &s.ConfigValue))
			}
			out.Configs = append(out.Configs, c)
		}
	}
	return driver.Normal(out)
}

func (d *Driver) groups(op driver.Op) driver.Result {
	switch op.Op {
	case "list_groups":
		gs, err := d.admin.ListConsumerGroups()
		if err != nil {
			return fail(err)
		}
		var out driver.Result
		for g := range gs {
			out.Names = append(out.Names, g)
		}
		return driver.Normal(out)
	case "describe_group":
		gs, err := d.admin.DescribeConsumerGroups([]string{op.Group})
		if err != nil {
			return fail(err)
		}
		if gs[0].Err != sarama.ErrNoError {
			return fail(gs[0].Err)
		}
		return driver.Result{State: gs[0].State, Members: len(gs[0].Members)}
	case "delete_group":
		return fail(d.admin.DeleteConsumerGroup(op.Group))
	case "delete_offset":
		return fail(d.admin.DeleteConsumerGroupOffset(op.Group, op.Topic, op.Partition))
	case "set_offset":
		resp, err := d.admin.AlterConsumerGroupOffsets(op.Group, map[string]map[int32]sarama.OffsetAndMetadata{op.Topic: {op.Partition: {Offset: op.Offset, LeaderEpoch: -1}}}, nil)
		if err != nil {
			return fail(err)
		}
		for _, ps := range resp.Errors {
			for _, code := range ps {
				if code != sarama.ErrNoError {
					return fail(code)
				}
			}
		}
		return driver.Result{}
	}
	groups, err := d.admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{op.Group: nil})
	if err != nil {
		return fail(err)
	}
	g := groups[op.Group]
	if g == nil {
		return driver.Fail(0, errors.New("no answer for the group"))
	}
	if g.Err != sarama.ErrNoError {
		return fail(g.Err)
	}
	var out driver.Result
	for t, ps := range g.Blocks {
		for p, b := range ps {
			if b.Offset >= 0 {
				out.Offsets = append(out.Offsets, driver.Committed(t, p, b.Offset))
			}
		}
	}
	slices.Sort(out.Offsets)
	return out
}
