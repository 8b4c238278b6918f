package main

import (
	"fmt"
	"strings"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// growth is a piece of work of a size: what a client asks for once, or as many
// times as the size says.
type growth struct {
	name string
	n    int // the smaller size; the larger one is four times that
	// prepare is not measured. It returns what is.
	prepare   func(w *world, n int) (run func() error, err error)
	overrides []string
}

// partitions prepares a topic of n partitions.
func partitions(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		return func() error { return run(w, n) }, w.create(1, n)
	}
}

// topics prepares n topics.
func topics(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		return func() error { return run(w, n) }, w.create(n, 1)
	}
}

// nothing prepares nothing.
func nothing(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		return func() error { return run(w, n) }, nil
	}
}

// written prepares a topic of n partitions with a record each.
func written(run func(w *world, n int) error) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		if err := w.create(1, n); err != nil {
			return nil, err
		}
		return func() error { return run(w, n) }, w.produced(produce(w.topics[0], n, batch(record.None, record.NoProducer, 1)))
	}
}

// recordsOf is a produce of one batch of n records.
func recordsOf(codec record.Codec) func(w *world, n int) (func() error, error) {
	return func(w *world, n int) (func() error, error) {
		b := batch(codec, record.NoProducer, n)
		return func() error { return w.produced(produce(w.topics[0], 1, b)) }, w.create(1, 1, "max.message.bytes", "100000000")
	}
}

// producerOf is the k-th producer.
func producerOf(k int, transactional bool) record.Producer {
	return record.Producer{ID: int64(1000 + k), Transactional: transactional}
}

// records are the cases of the record path.
var records = []growth{
	{name: "produce to partitions", n: 500, prepare: partitions(func(w *world, n int) error {
		return w.produced(produce(w.topics[0], n, batch(record.None, record.NoProducer, 1)))
	})},
	{name: "produce to partitions that do not exist", n: 500, prepare: partitions(func(w *world, n int) error {
		var resp msg.ProduceResponse
		return w.ask(9, produce("none", n, batch(record.None, record.NoProducer, 1)), &resp)
	})},
	{name: "produce a batch of records", n: 5000, prepare: recordsOf(record.None)},
	{name: "produce a batch of records, zstd", n: 5000, prepare: recordsOf(record.Zstd)},
	{name: "produce a batch of records to another codec", n: 5000, prepare: func(w *world, n int) (func() error, error) {
		b := batch(record.None, record.NoProducer, n)
		return func() error { return w.produced(produce(w.topics[0], 1, b)) }, w.create(1, 1, "compression.type", "lz4", "max.message.bytes", "100000000")
	}},
	{name: "produces of as many producers", n: 300, prepare: partitions(func(w *world, n int) error {
		for k := range n {
			if err := w.produced(produce(w.topics[0], 1, batch(record.None, producerOf(k, false), 1))); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "produces that wait for the disk", n: 200, prepare: func(w *world, n int) (func() error, error) {
		if err := w.create(1, 1, "flush.messages", "1"); err != nil {
			return nil, err
		}
		if err := w.produced(produce(w.topics[0], 1, batch(record.None, record.NoProducer, 1))); err != nil {
			return nil, err
		}
		return func() error {
			gate := make(chan struct{})
			w.gate.Store(&gate)
			for range n {
				if err := w.send(9, produce(w.topics[0], 1, batch(record.None, record.NoProducer, 1))); err != nil {
					return err
				}
			}
			w.gate.Store(nil)
			close(gate)
			for range n {
				if err := w.receive(9, new(msg.ProduceResponse)); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}},
	{name: "produces that time out", n: 200, prepare: func(w *world, n int) (func() error, error) {
		if err := w.create(1, 1, "flush.messages", "1"); err != nil {
			return nil, err
		}
		if err := w.produced(produce(w.topics[0], 1, batch(record.None, record.NoProducer, 1))); err != nil {
			return nil, err
		}
		return func() error {
			gate := make(chan struct{})
			w.gate.Store(&gate)
			defer close(gate)
			defer w.gate.Store(nil)
			for range n {
				req := produce(w.topics[0], 1, batch(record.None, record.NoProducer, 1))
				req.TimeoutMs = 100
				if err := w.send(9, req); err != nil {
					return err
				}
			}
			for range n {
				var resp msg.ProduceResponse
				if err := w.receive(9, &resp); err != nil {
					return err
				}
				if err := want("produce", resp.Responses[0].PartitionResponses[0].ErrorCode, 7); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}},
	{name: "fetch of partitions", n: 500, prepare: written(func(w *world, n int) error {
		var resp msg.FetchResponse
		if err := w.ask(12, fetch(w.topics[0], n), &resp); err != nil {
			return err
		}
		if got := len(resp.Responses[0].Partitions); got != n || resp.Responses[0].Partitions[n-1].Records.Len() == 0 {
			return fmt.Errorf("%d partitions", got)
		}
		return nil
	})},
	{name: "fetch of topics", n: 500, prepare: topics(func(w *world, n int) error {
		req := fetch("", 1)
		one := req.Topics[0]
		req.Topics = nil
		for _, name := range w.topics {
			t := one
			t.Topic = name
			req.Topics = append(req.Topics, t)
		}
		return w.ask(12, req, new(msg.FetchResponse))
	})},
	{name: "fetch of topics that do not exist", n: 2000, prepare: nothing(func(w *world, n int) error {
		req := fetch("", 1)
		one := req.Topics[0]
		req.Topics = nil
		for i := range n {
			t := one
			t.Topic = topicName(i)
			req.Topics = append(req.Topics, t)
		}
		return w.ask(12, req, new(msg.FetchResponse))
	})},
	{name: "fetch session: open, forget, close", n: 500, prepare: written(func(w *world, n int) error {
		req := fetch(w.topics[0], n)
		req.SessionEpoch = 0
		var opened msg.FetchResponse
		if err := w.ask(12, req, &opened); err != nil {
			return err
		}
		next := fetch("", 0)
		next.Topics, next.SessionId, next.SessionEpoch = nil, opened.SessionId, 1
		forgotten := msg.FetchRequestForgottenTopic{Topic: w.topics[0]}
		for i := range n - 1 {
			forgotten.Partitions = append(forgotten.Partitions, int32(i))
		}
		next.ForgottenTopicsData = []msg.FetchRequestForgottenTopic{forgotten}
		var resp msg.FetchResponse
		if err := w.ask(12, next, &resp); err != nil {
			return err
		}
		return want("fetch", resp.ErrorCode, 0)
	})},
	{name: "fetches that wait for one partition", n: 100, prepare: func(w *world, n int) (func() error, error) {
		if err := w.create(1, 1); err != nil {
			return nil, err
		}
		for range n {
			if _, err := w.another(); err != nil {
				return nil, err
			}
		}
		return func() error {
			for _, c := range w.extra {
				req := fetch(w.topics[0], 1)
				req.MinBytes, req.MaxWaitMs = 1, 60000
				if err := c.send(12, req); err != nil {
					return err
				}
			}
			if err := w.produced(produce(w.topics[0], 1, batch(record.None, record.NoProducer, 1))); err != nil {
				return err
			}
			for _, c := range w.extra {
				if err := c.receive(12, new(msg.FetchResponse)); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}},
	{name: "list offsets of partitions", n: 500, prepare: written(func(w *world, n int) error {
		req := &msg.ListOffsetsRequest{ReplicaId: -1, Topics: []msg.ListOffsetsRequestListOffsetsTopic{{Name: w.topics[0]}}}
		for i := range n {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.ListOffsetsRequestListOffsetsPartition{PartitionIndex: int32(i), CurrentLeaderEpoch: -1, Timestamp: 1})
		}
		return w.ask(7, req, new(msg.ListOffsetsResponse))
	})},
	{name: "leader epochs of partitions", n: 500, prepare: written(func(w *world, n int) error {
		req := &msg.OffsetForLeaderEpochRequest{ReplicaId: -1, Topics: []msg.OffsetForLeaderEpochRequestOffsetForLeaderTopic{{Topic: w.topics[0]}}}
		for i := range n {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.OffsetForLeaderEpochRequestOffsetForLeaderPartition{Partition: int32(i), CurrentLeaderEpoch: -1})
		}
		return w.ask(4, req, new(msg.OffsetForLeaderEpochResponse))
	})},
	{name: "delete records of partitions", n: 500, prepare: written(func(w *world, n int) error {
		req := &msg.DeleteRecordsRequest{TimeoutMs: 60000, Topics: []msg.DeleteRecordsRequestDeleteRecordsTopic{{Name: w.topics[0]}}}
		for i := range n {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.DeleteRecordsRequestDeleteRecordsPartition{PartitionIndex: int32(i), Offset: -1})
		}
		return w.ask(2, req, new(msg.DeleteRecordsResponse))
	})},
	{name: "describe producers of partitions", n: 500, prepare: written(func(w *world, n int) error {
		req := &msg.DescribeProducersRequest{Topics: []msg.DescribeProducersRequestTopicRequest{{Name: w.topics[0]}}}
		for i := range n {
			req.Topics[0].PartitionIndexes = append(req.Topics[0].PartitionIndexes, int32(i))
		}
		return w.ask(0, req, new(msg.DescribeProducersResponse))
	})},
	{name: "describe log dirs", n: 1000, prepare: written(func(w *world, n int) error {
		return w.ask(4, new(msg.DescribeLogDirsRequest), new(msg.DescribeLogDirsResponse))
	})},
	{name: "init producer id", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			req := &msg.InitProducerIdRequest{ProducerId: -1, ProducerEpoch: -1, TransactionTimeoutMs: 1000}
			if err := w.ask(4, req, new(msg.InitProducerIdResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
}

// metadata are the cases of topics, configs and what describes the cluster.
var metadata = []growth{
	{name: "create topics", n: 200, prepare: nothing(func(w *world, n int) error { return w.create(n, 1) })},
	{name: "create a topic of partitions", n: 200, prepare: nothing(func(w *world, n int) error { return w.create(1, n) })},
	{name: "create the same topic", n: 2000, prepare: nothing(func(w *world, n int) error {
		req := &msg.CreateTopicsRequest{TimeoutMs: 60000}
		for range n {
			req.Topics = append(req.Topics, msg.CreateTopicsRequestCreatableTopic{Name: "twice", NumPartitions: 1, ReplicationFactor: 1})
		}
		return w.ask(7, req, new(msg.CreateTopicsResponse))
	})},
	{name: "create partitions", n: 200, prepare: topics(func(w *world, n int) error {
		req := &msg.CreatePartitionsRequest{TimeoutMs: 60000}
		for _, name := range w.topics {
			req.Topics = append(req.Topics, msg.CreatePartitionsRequestCreatePartitionsTopic{Name: name, Count: 2})
		}
		return w.ask(3, req, new(msg.CreatePartitionsResponse))
	})},
	{name: "delete topics", n: 200, prepare: topics(func(w *world, n int) error {
		return w.ask(5, &msg.DeleteTopicsRequest{TimeoutMs: 60000, TopicNames: w.topics}, new(msg.DeleteTopicsResponse))
	})},
	{name: "make deleted topics again", n: 100, prepare: func(w *world, n int) (func() error, error) {
		if err := w.create(n, 1); err != nil {
			return nil, err
		}
		err := w.ask(5, &msg.DeleteTopicsRequest{TimeoutMs: 60000, TopicNames: w.topics}, new(msg.DeleteTopicsResponse))
		return func() error { return w.create(n, 1) }, err
	}},
	{name: "metadata of topics", n: 500, prepare: topics(func(w *world, n int) error {
		return w.ask(12, &msg.MetadataRequest{Topics: nil}, new(msg.MetadataResponse))
	})},
	{name: "metadata of unknown topics", n: 2000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.MetadataRequest)
		for i := range n {
			req.Topics = append(req.Topics, msg.MetadataRequestTopic{Name: new(topicName(i))})
		}
		return w.ask(12, req, new(msg.MetadataResponse))
	})},
	{name: "describe partitions of topics", n: 500, prepare: topics(func(w *world, n int) error {
		req := &msg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 2000}
		for _, name := range w.topics {
			req.Topics = append(req.Topics, msg.DescribeTopicPartitionsRequestTopicRequest{Name: name})
		}
		return w.ask(0, req, new(msg.DescribeTopicPartitionsResponse))
	})},
	{name: "describe configs of topics", n: 200, prepare: topics(func(w *world, n int) error {
		req := new(msg.DescribeConfigsRequest)
		for _, name := range w.topics {
			req.Resources = append(req.Resources, msg.DescribeConfigsRequestDescribeConfigsResource{ResourceType: 2, ResourceName: name})
		}
		return w.ask(4, req, new(msg.DescribeConfigsResponse))
	})},
	{name: "alter configs of topics", n: 200, prepare: topics(func(w *world, n int) error {
		req := new(msg.AlterConfigsRequest)
		for _, name := range w.topics {
			req.Resources = append(req.Resources, msg.AlterConfigsRequestAlterConfigsResource{ResourceType: 2, ResourceName: name,
				Configs: []msg.AlterConfigsRequestAlterableConfig{{Name: "retention.ms", Value: new("1000")}}})
		}
		return w.ask(2, req, new(msg.AlterConfigsResponse))
	})},
	{name: "alter configs incrementally", n: 200, prepare: topics(func(w *world, n int) error {
		req := new(msg.IncrementalAlterConfigsRequest)
		for _, name := range w.topics {
			req.Resources = append(req.Resources, msg.IncrementalAlterConfigsRequestAlterConfigsResource{ResourceType: 2, ResourceName: name,
				Configs: []msg.IncrementalAlterConfigsRequestAlterableConfig{{Name: "retention.ms", Value: new("1000")}}})
		}
		return w.ask(1, req, new(msg.IncrementalAlterConfigsResponse))
	})},
	{name: "append to one list", n: 500, prepare: topics(func(w *world, n int) error {
		r := msg.IncrementalAlterConfigsRequestAlterConfigsResource{ResourceType: 2, ResourceName: w.topics[0]}
		var list strings.Builder
		for i := range n {
			fmt.Fprint(&list, i, ":", i, ",")
		}
		value := list.String()
		r.Configs = append(r.Configs, msg.IncrementalAlterConfigsRequestAlterableConfig{Name: "leader.replication.throttled.replicas", ConfigOperation: 2, Value: &value})
		return w.ask(1, &msg.IncrementalAlterConfigsRequest{Resources: []msg.IncrementalAlterConfigsRequestAlterConfigsResource{r}}, new(msg.IncrementalAlterConfigsResponse))
	})},
	{name: "describe the cluster", n: 100, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(1, &msg.DescribeClusterRequest{EndpointType: 1}, new(msg.DescribeClusterResponse)); err != nil {
				return err
			}
			if err := w.ask(3, &msg.ApiVersionsRequest{ClientSoftwareName: "growth", ClientSoftwareVersion: "1"}, new(msg.ApiVersionsResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
}
