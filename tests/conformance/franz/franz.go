// Package franz drives franz-go.
package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// Driver drives franz-go against one broker.
type Driver struct {
	addr    string
	cl      *kgo.Client
	admin   *kadm.Client
	members map[string]*member
}

type member struct {
	cl    *kgo.Client
	inbox *driver.Inbox
	stop  context.CancelFunc
	done  chan struct{}
}

// New returns a driver for the broker at addr.
func New(addr string) (*Driver, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	return &Driver{addr: addr, cl: cl, admin: kadm.NewClient(cl), members: make(map[string]*member)}, nil
}

// Lacks returns nothing: franz-go does it all.
func (d *Driver) Lacks() map[string]string { return nil }

// Close closes the clients that are still open.
func (d *Driver) Close() error {
	for _, m := range d.members {
		m.close()
	}
	d.admin.Close()
	return nil
}

func (m *member) close() {
	m.stop()
	<-m.done
	m.cl.Close()
}

func fail(err error) driver.Result {
	if err == nil {
		return driver.Result{}
	}
	var ke *kerr.Error
	if errors.As(err, &ke) {
		return driver.Fail(ke.Code, err)
	}
	return driver.Fail(0, err)
}

// Do runs one operation.
func (d *Driver) Do(op driver.Op) driver.Result {
	ctx, cancel := context.WithTimeout(context.Background(), driver.Limit)
	defer cancel()
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
		return d.commit(ctx, op)
	case "leave":
		d.members[op.Member].close()
		delete(d.members, op.Member)
		return driver.Result{}
	case "create_topic", "delete_topic", "describe_topic", "list_topics", "create_partitions", "delete_records", "list_offsets":
		return d.topics(ctx, op)
	case "describe_configs", "alter_configs":
		return d.configs(ctx, op)
	case "list_groups", "describe_group", "delete_group", "group_offsets", "set_offset", "delete_offset":
		return d.groups(ctx, op)
	}
	return driver.Unsupported(op)
}

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// partitioner takes the partition that a record names, or hashes its key as the
// Java client does.
type partitioner struct{ keys kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.keys.ForTopic(topic)}
}

type topicPartitioner struct{ keys kgo.TopicPartitioner }

func (topicPartitioner) RequiresConsistency(*kgo.Record) bool { return true }

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition)
	}
	return p.keys.Partition(r, n)
}

func (d *Driver) produce(ctx context.Context, op driver.Op) driver.Result {
	opts := []kgo.Opt{
		kgo.SeedBrokers(d.addr), kgo.MetadataMinAge(10 * time.Millisecond), kgo.ProducerBatchCompression(codecs[op.Codec]), kgo.ProducerLinger(5 * time.Millisecond),
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}), kgo.ProducerBatchMaxBytes(8 << 20), kgo.UnknownTopicRetries(0),
	}
	if op.AutoCreate {
		opts = append(opts, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(20))
	}
	if !op.Idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	switch op.Acks {
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()))
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return fail(err)
	}
	defer cl.Close()
	recs := make([]*kgo.Record, len(op.Records))
	for i, r := range op.Records {
		kr := &kgo.Record{Topic: op.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			kr.Headers = append(kr.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if r.Timestamp >= 0 {
			kr.Timestamp = time.UnixMilli(r.Timestamp)
		}
		recs[i] = kr
	}
	results := cl.ProduceSync(ctx, recs...)
	if err := results.FirstErr(); err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, r := range recs {
		out.Records = append(out.Records, record(r))
	}
	return driver.Normal(out)
}

func record(r *kgo.Record) driver.Record {
	out := driver.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli()}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, driver.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

func (d *Driver) consume(ctx context.Context, op driver.Op) driver.Result {
	at := kgo.NewOffset().At(op.Offset)
	if op.Offset == driver.Earliest {
		at = kgo.NewOffset().AtStart()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.addr), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{op.Topic: {op.Partition: at}}))
	if err != nil {
		return fail(err)
	}
	defer cl.Close()
	var out driver.Result
	for len(out.Records) < op.Count {
		fs := cl.PollRecords(ctx, op.Count-len(out.Records))
		if err := fs.Err(); err != nil {
			return fail(err)
		}
		fs.EachRecord(func(r *kgo.Record) { out.Records = append(out.Records, record(r)) })
	}
	return driver.Normal(out)
}

func (d *Driver) join(op driver.Op) driver.Result {
	inbox := driver.NewInbox()
	parts := func(m map[string][]int32) (out []driver.TopicPart) {
		for t, ps := range m {
			for _, p := range ps {
				out = append(out, driver.TopicPart{Topic: t, Partition: p})
			}
		}
		return out
	}
	reset := kgo.NewOffset().AtStart()
	if op.Reset == "latest" {
		reset = kgo.NewOffset().AtEnd()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.addr), kgo.ConsumerGroup(op.Group), kgo.ConsumeTopics(op.Topics()...), kgo.ConsumeResetOffset(reset),
		kgo.DisableAutoCommit(), kgo.HeartbeatInterval(100*time.Millisecond), kgo.Balancers(kgo.RangeBalancer()), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { inbox.Change(parts(m), nil) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { inbox.Change(nil, parts(m)) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { inbox.Change(nil, parts(m)) }))
	if err != nil {
		return fail(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &member{cl: cl, inbox: inbox, stop: stop, done: make(chan struct{})}
	d.members[op.Member] = m
	go func() {
		defer close(m.done)
		for {
			fs := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			if err := fs.Err(); err != nil {
				inbox.Fail(err)
				return
			}
			fs.EachRecord(func(r *kgo.Record) { inbox.Add(record(r)) })
		}
	}()
	return driver.Result{}
}

func (d *Driver) commit(ctx context.Context, op driver.Op) driver.Result {
	m := d.members[op.Member]
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	for p, o := range m.inbox.Next() {
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = make(map[int32]kgo.EpochOffset)
		}
		offsets[p.Topic][p.Partition] = kgo.EpochOffset{Epoch: -1, Offset: o}
	}
	var failed error
	m.cl.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if resp == nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				failed = errors.Join(failed, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	return fail(failed)
}

func (d *Driver) topics(ctx context.Context, op driver.Op) driver.Result {
	switch op.Op {
	case "create_topic":
		configs := make(map[string]*string)
		for _, c := range op.Configs {
			configs[c.Name] = c.Value
		}
		create := d.admin.CreateTopic
		if op.ValidateOnly {
			create = func(ctx context.Context, p int32, r int16, c map[string]*string, topic string) (kadm.CreateTopicResponse, error) {
				rs, err := d.admin.ValidateCreateTopics(ctx, p, r, c, topic)
				return rs[topic], errors.Join(err, rs[topic].Err)
			}
		}
		_, err := create(ctx, op.Partitions, op.Replicas, configs, op.Topic)
		return fail(err)
	case "delete_topic":
		_, err := d.admin.DeleteTopic(ctx, op.Topic)
		return fail(err)
	case "create_partitions":
		update := d.admin.UpdatePartitions
		if op.ValidateOnly {
			update = d.admin.ValidateUpdatePartitions
		}
		rs, err := update(ctx, int(op.Partitions), op.Topic)
		return fail(errors.Join(err, rs[op.Topic].Err))
	case "describe_topic", "list_topics":
		return d.describe(ctx, op)
	case "delete_records":
		os := make(kadm.Offsets)
		os.AddOffset(op.Topic, op.Partition, op.Offset, -1)
		rs, err := d.admin.DeleteRecords(ctx, os)
		if err != nil {
			return fail(err)
		}
		r, _ := rs.Lookup(op.Topic, op.Partition)
		if r.Err != nil {
			return fail(r.Err)
		}
		return driver.Result{Offset: r.LowWatermark}
	}
	var ls kadm.ListedOffsets
	var err error
	switch op.Timestamp {
	case driver.Latest:
		ls, err = d.admin.ListEndOffsets(ctx, op.Topic)
	case driver.Earliest:
		ls, err = d.admin.ListStartOffsets(ctx, op.Topic)
	case driver.MaxTimestamp:
		ls, err = d.admin.ListMaxTimestampOffsets(ctx, op.Topic)
	default:
		return d.offsetAfter(ctx, op)
	}
	l, ok := ls.Lookup(op.Topic, op.Partition)
	if err == nil && !ok {
		err = fmt.Errorf("no offset of partition %d", op.Partition)
	}
	if err = errors.Join(err, l.Err); err != nil {
		return fail(err)
	}
	return driver.Result{Offset: l.Offset}
}

// describe asks with a request of its own: kadm may answer with what the client
// learned before.
func (d *Driver) describe(ctx context.Context, op driver.Op) driver.Result {
	req := kmsg.NewPtrMetadataRequest()
	if op.Op == "describe_topic" {
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &op.Topic}}
	}
	resp, err := req.RequestWith(ctx, d.cl)
	if err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 && op.Op == "describe_topic" {
			return fail(kerr.ErrorForCode(t.ErrorCode))
		}
		out.Names = append(out.Names, *t.Topic)
		out.Partitions = len(t.Partitions)
		if len(t.Partitions) > 0 {
			out.Replicas = len(t.Partitions[0].Replicas)
		}
	}
	if op.Op == "describe_topic" {
		out.Names = nil
	} else {
		out.Partitions, out.Replicas = 0, 0
	}
	return driver.Normal(out)
}

// offsetAfter asks with a request of its own: kadm puts the end offset in the
// place of the -1 that means there is no such record.
func (d *Driver) offsetAfter(ctx context.Context, op driver.Op) driver.Result {
	req := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	p := kmsg.NewListOffsetsRequestTopicPartition()
	t.Topic, p.Partition, p.Timestamp = op.Topic, op.Partition, op.Timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, d.cl)
	if err != nil {
		return fail(err)
	}
	got := resp.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		return fail(kerr.ErrorForCode(got.ErrorCode))
	}
	return driver.Result{Offset: got.Offset}
}

func (d *Driver) configs(ctx context.Context, op driver.Op) driver.Result {
	var broker int32
	if op.Resource == "broker" {
		fmt.Sscan(op.Name, &broker)
	}
	if op.Op == "alter_configs" {
		var changes []kadm.AlterConfig
		for _, c := range op.Configs {
			changes = append(changes, kadm.AlterConfig{Op: map[string]kadm.IncrementalOp{"set": kadm.SetConfig, "delete": kadm.DeleteConfig, "append": kadm.AppendConfig, "subtract": kadm.SubtractConfig}[c.Op], Name: c.Name, Value: c.Value})
		}
		var rs kadm.AlterConfigsResponses
		var err error
		switch {
		case op.Resource == "broker" && op.ValidateOnly:
			rs, err = d.admin.ValidateAlterBrokerConfigs(ctx, changes, broker)
		case op.Resource == "broker":
			rs, err = d.admin.AlterBrokerConfigs(ctx, changes, broker)
		case op.ValidateOnly:
			rs, err = d.admin.ValidateAlterTopicConfigs(ctx, changes, op.Name)
		default:
			rs, err = d.admin.AlterTopicConfigs(ctx, changes, op.Name)
		}
		for _, r := range rs {
			err = errors.Join(err, r.Err)
		}
		return fail(err)
	}
	var rs kadm.ResourceConfigs
	var err error
	if op.Resource == "broker" {
		rs, err = d.admin.DescribeBrokerConfigs(ctx, broker)
	} else {
		rs, err = d.admin.DescribeTopicConfigs(ctx, op.Name)
	}
	if err != nil {
		return fail(err)
	}
	var out driver.Result
	for _, r := range rs {
		if r.Err != nil {
			return fail(r.Err)
		}
		for _, c := range r.Configs {
			if !op.Asks(c.Key) {
				continue
			}
			dc := driver.Config{Name: c.Key, Value: c.Value, Source: c.Source.String()}
			for _, s := range c.Synonyms {
				dc.Synonyms = append(dc.Synonyms, driver.Synonym(s.Source.String(), s.Key, s.Value))
			}
			out.Configs = append(out.Configs, dc)
		}
	}
	return driver.Normal(out)
}

func (d *Driver) groups(ctx context.Context, op driver.Op) driver.Result {
	switch op.Op {
	case "list_groups":
		ls, err := d.admin.ListGroups(ctx)
		if err != nil {
			return fail(err)
		}
		return driver.Normal(driver.Result{Names: ls.Groups()})
	case "describe_group":
		gs, err := d.admin.DescribeGroups(ctx, op.Group)
		g := gs[op.Group]
		if err = errors.Join(err, g.Err); err != nil {
			return fail(err)
		}
		return driver.Result{State: g.State, Members: len(g.Members)}
	case "delete_group":
		_, err := d.admin.DeleteGroup(ctx, op.Group)
		return fail(err)
	case "group_offsets":
		os, err := d.admin.FetchOffsets(ctx, op.Group)
		if err != nil {
			return fail(err)
		}
		var out driver.Result
		os.Each(func(o kadm.OffsetResponse) {
			err = errors.Join(err, o.Err)
			out.Offsets = append(out.Offsets, driver.Committed(o.Topic, o.Partition, o.At))
		})
		if err != nil {
			return fail(err)
		}
		return driver.Normal(out)
	case "delete_offset":
		rs, err := d.admin.DeleteOffsets(ctx, op.Group, kadm.TopicsSet{op.Topic: {op.Partition: {}}})
		if perr, ok := rs.Lookup(op.Topic, op.Partition); ok {
			err = errors.Join(err, perr)
		}
		return fail(err)
	}
	os := make(kadm.Offsets)
	os.AddOffset(op.Topic, op.Partition, op.Offset, -1)
	rs, err := d.admin.CommitOffsets(ctx, op.Group, os)
	return fail(errors.Join(err, rs.Error()))
}
