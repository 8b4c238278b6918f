package client

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// NewTopic describes a topic to be made.
type NewTopic struct {
	Name        string
	Partitions  int32             // 0 means the broker's num.partitions
	Replication int16             // 0 means the broker's default.replication.factor
	Assignment  map[int32][]int32 // partition to brokers, in place of both
	Configs     map[string]string
}

// CreateTopics makes topics and returns the error of each, nil for made ones.
// With validate nothing is made.
func (a *Admin) CreateTopics(ctx context.Context, topics []NewTopic, validate bool) (map[string]error, error) {
	req := new(msg.CreateTopicsRequest)
	req.SetDefaults()
	req.TimeoutMs, req.ValidateOnly = a.timeoutMs(), validate
	for _, t := range topics {
		c := msg.CreateTopicsRequestCreatableTopic{Name: t.Name, NumPartitions: orMinusOne(t.Partitions), ReplicationFactor: orMinusOne(t.Replication)}
		for i, brokers := range t.Assignment {
			c.NumPartitions, c.ReplicationFactor = -1, -1
			c.Assignments = append(c.Assignments, msg.CreateTopicsRequestCreatableReplicaAssignment{PartitionIndex: i, BrokerIds: brokers})
		}
		slices.SortFunc(c.Assignments, func(x, y msg.CreateTopicsRequestCreatableReplicaAssignment) int {
			return int(x.PartitionIndex - y.PartitionIndex)
		})
		for k, v := range t.Configs {
			c.Configs = append(c.Configs, msg.CreateTopicsRequestCreatableTopicConfig{Name: k, Value: &v})
		}
		slices.SortFunc(c.Configs, func(x, y msg.CreateTopicsRequestCreatableTopicConfig) int { return strings.Compare(x.Name, y.Name) })
		req.Topics = append(req.Topics, c)
	}
	out := make(map[string]error)
	err := a.onController(ctx, "CreateTopics", func(ctx context.Context, cn versioned) error {
		resp := new(msg.CreateTopicsResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			if kerr.Code(t.ErrorCode) == kerr.NotController {
				return kerr.NotController
			}
			out[t.Name] = because(t.ErrorCode, t.ErrorMessage)
		}
		return nil
	})
	return out, err
}

func orMinusOne[T ~int16 | ~int32](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// DeleteTopics deletes topics and returns the error of each.
func (a *Admin) DeleteTopics(ctx context.Context, names ...string) (map[string]error, error) {
	out := make(map[string]error)
	err := a.onController(ctx, "DeleteTopics", func(ctx context.Context, cn versioned) error {
		v, err := cn.Version(wire.DeleteTopics)
		if err != nil {
			return err
		}
		req, resp := &msg.DeleteTopicsRequest{TimeoutMs: a.timeoutMs()}, new(msg.DeleteTopicsResponse)
		for _, n := range names {
			if v >= 6 {
				req.Topics = append(req.Topics, msg.DeleteTopicsRequestDeleteTopicState{Name: &n})
			} else {
				req.TopicNames = append(req.TopicNames, n)
			}
		}
		if err := cn.DoVersion(ctx, req, resp, v, 0); err != nil {
			return err
		}
		for _, t := range resp.Responses {
			if kerr.Code(t.ErrorCode) == kerr.NotController {
				return kerr.NotController
			}
			out[text(t.Name)] = because(t.ErrorCode, t.ErrorMessage)
		}
		return nil
	})
	return out, err
}

// CreatePartitions raises the partition counts of topics and returns the error
// of each.
func (a *Admin) CreatePartitions(ctx context.Context, counts map[string]int32, validate bool) (map[string]error, error) {
	req := &msg.CreatePartitionsRequest{TimeoutMs: a.timeoutMs(), ValidateOnly: validate}
	for name, n := range counts {
		req.Topics = append(req.Topics, msg.CreatePartitionsRequestCreatePartitionsTopic{Name: name, Count: n})
	}
	slices.SortFunc(req.Topics, func(x, y msg.CreatePartitionsRequestCreatePartitionsTopic) int {
		return strings.Compare(x.Name, y.Name)
	})
	out := make(map[string]error)
	err := a.onController(ctx, "CreatePartitions", func(ctx context.Context, cn versioned) error {
		resp := new(msg.CreatePartitionsResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		for _, t := range resp.Results {
			if kerr.Code(t.ErrorCode) == kerr.NotController {
				return kerr.NotController
			}
			out[t.Name] = because(t.ErrorCode, t.ErrorMessage)
		}
		return nil
	})
	return out, err
}

// TopicInfo is what the metadata says of a topic.
type TopicInfo struct {
	Name       string
	ID         prim.UUID
	Internal   bool
	Err        error // nil if the topic exists and may be seen
	Partitions []PartitionInfo
}

// DescribeTopics returns topics by name; unknown ones have an error.
func (a *Admin) DescribeTopics(ctx context.Context, names ...string) ([]TopicInfo, error) {
	topics := make([]msg.MetadataRequestTopic, 0, len(names))
	for _, n := range names {
		topics = append(topics, msg.MetadataRequestTopic{Name: &n})
	}
	return a.describeTopics(ctx, topics)
}

// ListTopics returns all topics, sorted by name.
func (a *Admin) ListTopics(ctx context.Context) ([]TopicInfo, error) {
	return a.describeTopics(ctx, nil)
}

func (a *Admin) describeTopics(ctx context.Context, topics []msg.MetadataRequestTopic) (out []TopicInfo, err error) {
	err = a.call(ctx, "Metadata", func(ctx context.Context) error {
		req := new(msg.MetadataRequest)
		req.SetDefaults()
		req.Topics, req.AllowAutoTopicCreation = topics, false
		resp, err := a.cl.fetchMetadata(ctx, req)
		if err != nil {
			return err
		}
		out = nil
		for i := range resp.Topics {
			t := topicFrom(&resp.Topics[i])
			out = append(out, TopicInfo{t.name, t.id, t.internal, t.err.Err(), t.partitions})
		}
		slices.SortFunc(out, func(x, y TopicInfo) int { return strings.Compare(x.Name, y.Name) })
		return nil
	})
	return out, err
}

// DeleteRecords moves the log start of partitions up to offsets (-1 the high
// watermark) and returns the new ones.
func (a *Admin) DeleteRecords(ctx context.Context, before map[TopicPartition]int64) (map[TopicPartition]int64, error) {
	out := make(map[TopicPartition]int64)
	err := a.call(ctx, "DeleteRecords", func(ctx context.Context) error {
		byLeader, err := a.leaders(ctx, keys(before))
		if err != nil {
			return err
		}
		var again error
		for leader, tps := range byLeader {
			req := &msg.DeleteRecordsRequest{TimeoutMs: a.timeoutMs()}
			for _, t := range byTopic(tps) {
				rt := msg.DeleteRecordsRequestDeleteRecordsTopic{Name: t.topic}
				for _, i := range t.partitions {
					rt.Partitions = append(rt.Partitions, msg.DeleteRecordsRequestDeleteRecordsPartition{PartitionIndex: i, Offset: before[TopicPartition{t.topic, i}]})
				}
				req.Topics = append(req.Topics, rt)
			}
			resp := new(msg.DeleteRecordsResponse)
			if err := a.cl.do(ctx, leader, forAdmin, req, resp); err != nil {
				return err
			}
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					if err := codeOf(p.ErrorCode); err != nil {
						again = fmt.Errorf("delete records of %s-%d: %w", t.Name, p.PartitionIndex, err)
						continue
					}
					out[TopicPartition{t.Name, p.PartitionIndex}] = p.LowWatermark
				}
			}
		}
		return again
	})
	return out, err
}

func keys[V any](m map[TopicPartition]V) (tps []TopicPartition) {
	for tp := range m {
		tps = append(tps, tp)
	}
	return tps
}

// leaders groups partitions by leader, with fresh metadata.
func (a *Admin) leaders(ctx context.Context, tps []TopicPartition) (map[int32][]TopicPartition, error) {
	for _, tp := range tps {
		a.cl.want(tp.Topic)
	}
	if err := a.cl.fresh(ctx); err != nil {
		return nil, err
	}
	m := a.cl.now()
	out := make(map[int32][]TopicPartition)
	for _, tp := range tps {
		t := m.topics[tp.Topic]
		switch {
		case t == nil || t.err != kerr.None:
			err := error(kerr.UnknownTopicOrPartition)
			if t != nil {
				err = t.err
			}
			return nil, fmt.Errorf("topic %s: %w", tp.Topic, final(err))
		case tp.Partition < 0 || int(tp.Partition) >= len(t.partitions):
			return nil, fmt.Errorf("%v: %w", tp, final(kerr.UnknownTopicOrPartition))
		case t.partitions[tp.Partition].Leader < 0:
			return nil, fmt.Errorf("%v: %w", tp, kerr.LeaderNotAvailable)
		}
		l := t.partitions[tp.Partition].Leader
		out[l] = append(out[l], tp)
	}
	return out, nil
}

// ListOffsets returns the offsets of positions, each partition's.
func (a *Admin) ListOffsets(ctx context.Context, at map[TopicPartition]Position, readCommitted bool) (map[TopicPartition]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, a.o.APITimeout)
	defer cancel()
	if err := a.cl.retryFor(ctx, "ListOffsets", func() error { _, err := a.leaders(ctx, keys(at)); return err }); err != nil {
		return nil, err
	}
	isolation := int8(0)
	if readCommitted {
		isolation = 1
	}
	return a.cl.find(ctx, at, isolation)
}
