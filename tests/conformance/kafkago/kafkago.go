// Package kafkago drives segmentio/kafka-go.
package kafkago

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// Driver drives kafka-go against one broker.
type Driver struct {
	addr string
	// transport and client are made for each operation: kafka-go's keep what they
	// know of topics for a while and have no means to ask again.
	transport *kafka.Transport
	client    *kafka.Client
	members   map[string]*member
}

// New returns a driver for the broker at addr.
func New(addr string) (*Driver, error) {
	return &Driver{addr: addr, members: make(map[string]*member)}, nil
}

// Lacks returns what kafka-go cannot do.
func (d *Driver) Lacks() map[string]string {
	return map[string]string{
		"idempotent":     "kafka-go's Writer has no idempotent mode",
		"delete_records": "kafka-go's Client has no DeleteRecords",
		"max_timestamp":  "kafka-go sends ListOffsets v1, which knows only earliest and latest",
		"append_time":    "kafka-go shows the producer's timestamp",
		"null_headers":   "kafka-go reads a header without a value as one of no bytes",
	}
}

// Close closes the clients that are still open.
func (d *Driver) Close() error {
	for _, m := range d.members {
		m.close()
	}
	return nil
}

func fail(err error) driver.Result {
	if err == nil {
		return driver.Result{}
	}
	var we kafka.WriteErrors
	if errors.As(err, &we) {
		for _, e := range we {
			if e != nil {
				err = e
				break
			}
		}
	}
	var large kafka.MessageTooLargeError
	var code kafka.Error
	switch {
	case errors.As(err, &large):
		return driver.Fail(int16(kafka.MessageSizeTooLarge), err)
	case errors.As(err, &code) && code > 0:
		return driver.Fail(int16(code), err)
	}
	return driver.Fail(0, err)
}

// Do runs one operation.
func (d *Driver) Do(op driver.Op) driver.Result {
	ctx, cancel := context.WithTimeout(context.Background(), driver.Limit)
	defer cancel()
	d.transport = new(kafka.Transport)
	defer d.transport.CloseIdleConnections()
	d.client = &kafka.Client{Addr: kafka.TCP(d.addr), Timeout: driver.Limit, Transport: d.transport}
	switch op.Op {
	case "produce":
		return d.produce(ctx, op)
	case "consume":
		return d.consume(ctx, op)
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
		return d.configs(ctx, op)
	case "list_groups", "describe_group", "delete_group", "group_offsets", "set_offset", "delete_offset":
		return d.groups(ctx, op)
	}
	return d.topics(ctx, op)
}

var codecs = map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}

func (d *Driver) produce(ctx context.Context, op driver.Op) driver.Result {
	var mu sync.Mutex
	var out driver.Result
	hash := kafka.Murmur2Balancer{}
	w := &kafka.Writer{
		Addr: kafka.TCP(d.addr), Topic: op.Topic, Compression: codecs[op.Codec], BatchTimeout: 5 * time.Millisecond, BatchBytes: 8 << 20,
		RequiredAcks:           map[string]kafka.RequiredAcks{"0": kafka.RequireNone, "1": kafka.RequireOne, "all": kafka.RequireAll}[op.Acks],
		AllowAutoTopicCreation: op.AutoCreate, Transport: d.transport, MaxAttempts: 2,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, parts ...int) int {
			if p := m.WriterData.(int32); p >= 0 {
				return int(p)
			}
			return hash.Balance(m, parts...)
		}),
		Completion: func(ms []kafka.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range ms {
				if err == nil {
					out.Records = append(out.Records, driver.Record{Topic: op.Topic, Partition: int32(m.Partition), Offset: m.Offset})
				}
			}
		},
	}
	msgs := make([]kafka.Message, len(op.Records))
	for i, r := range op.Records {
		m := kafka.Message{Key: r.Key, Value: r.Value, WriterData: r.Partition}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		if r.Timestamp >= 0 {
			m.Time = time.UnixMilli(r.Timestamp)
		}
		msgs[i] = m
	}
	err := w.WriteMessages(ctx, msgs...)
	for op.AutoCreate && errors.Is(err, kafka.UnknownTopicOrPartition) && ctx.Err() == nil {
		err = w.WriteMessages(ctx, msgs...) // it does not wait for the topic that it asked for
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return fail(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return driver.Normal(out)
}

func record(m kafka.Message) driver.Record {
	out := driver.Record{Topic: m.Topic, Partition: int32(m.Partition), Offset: m.Offset, Key: m.Key, Value: m.Value, Timestamp: m.Time.UnixMilli()}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, driver.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// consume reads with the client's fetch, which tells null from empty and keeps
// the broker's error codes, as Reader does not.
func (d *Driver) consume(ctx context.Context, op driver.Op) driver.Result {
	at := op.Offset
	if at == driver.Earliest {
		at = kafka.FirstOffset
	}
	var out driver.Result
	for len(out.Records) < op.Count {
		resp, err := d.client.Fetch(ctx, &kafka.FetchRequest{Topic: op.Topic, Partition: int(op.Partition), Offset: at, MinBytes: 1, MaxBytes: 16 << 20, MaxWait: 200 * time.Millisecond})
		if err == nil {
			err = resp.Error
		}
		if err != nil {
			return fail(err)
		}
		for len(out.Records) < op.Count {
			r, err := resp.Records.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fail(err)
			}
			if r.Offset < at {
				continue
			}
			rec := driver.Record{Topic: op.Topic, Partition: op.Partition, Offset: r.Offset, Timestamp: r.Time.UnixMilli()}
			if rec.Key, err = all(r.Key); err != nil {
				return fail(err)
			}
			if rec.Value, err = all(r.Value); err != nil {
				return fail(err)
			}
			for _, h := range r.Headers {
				rec.Headers = append(rec.Headers, driver.Header{Key: h.Key, Value: h.Value})
			}
			out.Records = append(out.Records, rec)
			at = r.Offset + 1
		}
		if ctx.Err() != nil {
			return driver.Fail(0, fmt.Errorf("timed out after %d records", len(out.Records)))
		}
	}
	return driver.Normal(out)
}

func all(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	var buf bytes.Buffer
	_, err := buf.ReadFrom(b)
	return append([]byte{}, buf.Bytes()...), err
}

// member is a group member whose goroutine goes from generation to generation.
type member struct {
	group *kafka.ConsumerGroup
	inbox *driver.Inbox
	gen   chan *kafka.Generation // the current one, nil before the first
	stop  context.CancelFunc
	done  chan struct{}
}

func (m *member) close() {
	m.stop()
	m.group.Close()
	<-m.done
}

func (m *member) commit() driver.Result {
	gen := <-m.gen
	defer func() { m.gen <- gen }()
	offsets := make(map[string]map[int]int64)
	for p, o := range m.inbox.Next() {
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = make(map[int]int64)
		}
		offsets[p.Topic][int(p.Partition)] = o
	}
	return fail(gen.CommitOffsets(offsets))
}

func (d *Driver) join(op driver.Op) driver.Result {
	start := kafka.FirstOffset
	if op.Reset == "latest" {
		start = kafka.LastOffset
	}
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: op.Group, Brokers: []string{d.addr}, Topics: op.Topics(), StartOffset: start, GroupBalancers: []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval: 100 * time.Millisecond, JoinGroupBackoff: 100 * time.Millisecond, SessionTimeout: 10 * time.Second,
	})
	if err != nil {
		return fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{group: g, inbox: driver.NewInbox(), gen: make(chan *kafka.Generation, 1), stop: stop, done: make(chan struct{})}
	m.gen <- nil
	d.members[op.Member] = m
	go func() {
		defer close(m.done)
		for {
			gen, err := g.Next(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				m.inbox.Fail(err)
				return
			}
			var parts []driver.TopicPart
			for t, as := range gen.Assignments {
				for _, a := range as {
					parts = append(parts, driver.TopicPart{Topic: t, Partition: int32(a.ID)})
					gen.Start(func(ctx context.Context) { d.read(ctx, t, a, m.inbox) })
				}
			}
			<-m.gen
			m.gen <- gen
			m.inbox.Assigned(parts)
		}
	}()
	return driver.Result{}
}

// read reads a partition until its generation ends.
func (d *Driver) read(ctx context.Context, topic string, a kafka.PartitionAssignment, inbox *driver.Inbox) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{d.addr}, Topic: topic, Partition: a.ID, MaxWait: 200 * time.Millisecond})
	defer r.Close()
	if err := r.SetOffset(a.Offset); err != nil {
		inbox.Fail(err)
		return
	}
	for {
		m, err := r.FetchMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			inbox.Fail(err)
			return
		}
		inbox.Add(record(m))
	}
}

func (d *Driver) topics(ctx context.Context, op driver.Op) driver.Result {
	switch op.Op {
	case "create_topic":
		t := kafka.TopicConfig{Topic: op.Topic, NumPartitions: int(op.Partitions), ReplicationFactor: int(op.Replicas)}
		for _, c := range op.Configs {
			t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: c.Name, ConfigValue: *c.Value})
		}
		resp, err := d.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{t}, ValidateOnly: op.ValidateOnly})
		if err == nil {
			err = resp.Errors[op.Topic]
		}
		return fail(err)
	case "delete_topic":
		resp, err := d.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{op.Topic}})
		if err == nil {
			err = resp.Errors[op.Topic]
		}
		return fail(err)
	case "create_partitions":
		resp, err := d.client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: op.Topic, Count: op.Partitions}}, ValidateOnly: op.ValidateOnly})
		if err == nil {
			err = resp.Errors[op.Topic]
		}
		return fail(err)
	case "describe_topic", "list_topics":
		req := &kafka.MetadataRequest{}
		if op.Op == "describe_topic" {
			req.Topics = []string{op.Topic}
		}
		resp, err := d.client.Metadata(ctx, req)
		if err != nil {
			return fail(err)
		}
		if op.Op == "describe_topic" {
			t := resp.Topics[0]
			if t.Error != nil {
				return fail(t.Error)
			}
			return driver.Result{Partitions: len(t.Partitions), Replicas: len(t.Partitions[0].Replicas)}
		}
		var out driver.Result
		for _, t := range resp.Topics {
			out.Names = append(out.Names, t.Name)
		}
		return driver.Normal(out)
	case "list_offsets":
		resp, err := d.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{op.Topic: {{Partition: int(op.Partition), Timestamp: op.Timestamp}}}})
		if err != nil {
			return fail(err)
		}
		p := resp.Topics[op.Topic][0]
		if p.Error != nil {
			return fail(p.Error)
		}
		switch op.Timestamp {
		case driver.Latest:
			return driver.Result{Offset: p.LastOffset}
		case driver.Earliest:
			return driver.Result{Offset: p.FirstOffset}
		}
		for o := range p.Offsets {
			return driver.Result{Offset: o}
		}
		return driver.Result{Offset: -1}
	}
	return driver.Unsupported(op)
}

func (d *Driver) configs(ctx context.Context, op driver.Op) driver.Result {
	kind := map[string]kafka.ResourceType{"topic": kafka.ResourceTypeTopic, "broker": kafka.ResourceTypeBroker}[op.Resource]
	if op.Op == "alter_configs" {
		ops := map[string]kafka.ConfigOperation{"set": kafka.ConfigOperationSet, "delete": kafka.ConfigOperationDelete, "append": kafka.ConfigOperationAppend, "subtract": kafka.ConfigOperationSubtract}
		var changes []kafka.IncrementalAlterConfigsRequestConfig
		for _, c := range op.Configs {
			change := kafka.IncrementalAlterConfigsRequestConfig{Name: c.Name, ConfigOperation: ops[c.Op]}
			if c.Value != nil {
				change.Value = *c.Value
			}
			changes = append(changes, change)
		}
		resp, err := d.client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: op.Name, Configs: changes}}, ValidateOnly: op.ValidateOnly})
		if err == nil {
			err = resp.Resources[0].Error
		}
		return fail(err)
	}
	resp, err := d.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: op.Name}}, IncludeSynonyms: true})
	if err == nil {
		err = resp.Resources[0].Error
	}
	if err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, e := range resp.Resources[0].ConfigEntries {
		if !op.Asks(e.ConfigName) {
			continue
		}
		c := driver.Config{Name: e.ConfigName, Value: &e.ConfigValue, Source: kmsg.ConfigSource(e.ConfigSource).String()}
		for _, s := range e.ConfigSynonyms {
			c.Synonyms = append(c.Synonyms, driver.Synonym(kmsg.ConfigSource(s.ConfigSource).String(), s.ConfigName, &s.ConfigValue))
		}
		out.Configs = append(out.Configs, c)
	}
	return driver.Normal(out)
}

func (d *Driver) groups(ctx context.Context, op driver.Op) driver.Result {
	switch op.Op {
	case "list_groups":
		resp, err := d.client.ListGroups(ctx, &kafka.ListGroupsRequest{})
		if err == nil {
			err = resp.Error
		}
		if err != nil {
			return fail(err)
		}
		var out driver.Result
		for _, g := range resp.Groups {
			out.Names = append(out.Names, g.GroupID)
		}
		return driver.Normal(out)
	case "describe_group":
		resp, err := d.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{op.Group}})
		if err == nil {
			err = resp.Groups[0].Error
		}
		if err != nil {
			return fail(err)
		}
		return driver.Result{State: resp.Groups[0].GroupState, Members: len(resp.Groups[0].Members)}
	case "delete_group":
		resp, err := d.client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{op.Group}})
		if err == nil {
			err = resp.Errors[op.Group]
		}
		return fail(err)
	case "group_offsets":
		resp, err := d.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: op.Group})
		if err == nil {
			err = resp.Error
		}
		if err != nil {
			return fail(err)
		}
		var out driver.Result
		for t, ps := range resp.Topics {
			for _, p := range ps {
				if p.Error != nil {
					return fail(p.Error)
				}
				out.Offsets = append(out.Offsets, driver.Committed(t, int32(p.Partition), p.CommittedOffset))
			}
		}
		return driver.Normal(out)
	case "set_offset":
		resp, err := d.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: op.Group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{op.Topic: {{Partition: int(op.Partition), Offset: op.Offset}}}})
		if err == nil {
			err = resp.Topics[op.Topic][0].Error
		}
		return fail(err)
	}
	resp, err := d.client.OffsetDelete(ctx, &kafka.OffsetDeleteRequest{GroupID: op.Group, Topics: map[string][]int{op.Topic: {int(op.Partition)}}})
	if err == nil {
		err = resp.Error
	}
	if err == nil && len(resp.Topics[op.Topic]) > 0 {
		err = resp.Topics[op.Topic][0].Error
	}
	return fail(err)
}
