package crash_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func createTopics() *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, 1
	// Small segments, so that the kill finds some just rolled.
	small := "1048576"
	c := kmsg.NewCreateTopicsRequestTopicConfig()
	c.Name, c.Value = "segment.bytes", &small
	t.Configs = append(t.Configs, c)
	req.Topics = append(req.Topics, t)
	return req
}

// endOffsets returns where each partition ends.
func endOffsets(ctx context.Context, cl *kgo.Client) (ends [partitions]int64, err error) {
	req := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for p := range int32(partitions) {
		part := kmsg.NewListOffsetsRequestTopicPartition()
		part.Partition, part.Timestamp = p, -1
		t.Partitions = append(t.Partitions, part)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return ends, err
	}
	for _, p := range resp.Topics[0].Partitions {
		if perr := kerr.ErrorForCode(p.ErrorCode); perr != nil {
			return ends, fmt.Errorf("partition %d: %w", p.Partition, perr)
		}
		ends[p.Partition] = p.Offset
	}
	return ends, nil
}
