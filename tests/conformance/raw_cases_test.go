package conformance_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
)

// build makes the topic and the group that requests refer to: raw with two
// partitions, ten records in the first, and raw.group with an offset committed.
func build(t *testing.T, b *systems.Process) world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	value := "7200000"
	if _, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &value}, "raw"); err != nil {
		t.Fatal(err)
	}
	if err := awaitTopic(ctx, b, "raw", 2); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		r := &kgo.Record{Topic: "raw", Value: fmt.Appendf(nil, "value-%d", i), Timestamp: time.UnixMilli(past + int64(i))}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	os := make(kadm.Offsets)
	os.Add(kadm.Offset{Topic: "raw", Partition: 0, At: 3, LeaderEpoch: 0, Metadata: "meta"})
	// The JVM broker makes the topic of the offsets now, and asks to come again.
	for {
		_, err := admin.CommitOffsets(ctx, "raw.group", os)
		if err == nil {
			break
		}
		if !kerr.IsRetriable(err) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	md, err := admin.Metadata(ctx, "raw")
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := world{broker: b, topic: md.Topics["raw"].ID}
	dirs.Each(func(d kadm.DescribedLogDir) { w.dir = d.Dir })
	return w
}

// differences are those that come of what klamm does not do yet, or does in its
// own way. One that has gone must be taken off.
var differences = []difference{
	{"ApiVersions*", "/FinalizedFeaturesEpoch", "it counts what the controller has written"},
	{"ApiVersions*", "/*Features/*", "transactions, KIP-848, share and streams groups, ELR and dynamic quorums are to come"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/broker.id/*", "the JVM broker cannot start without it, klamm has a default"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/controller.*/Source", "the same"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/controller.*/*/*/Source", "the same"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/process.roles/Source", "the same"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/process.roles/*/*/Source", "the same"},
	{"DescribeConfigs of a broker", "/Resources/1/Configs/log.initial.task.delay.ms", "it is internal, and given to the JVM broker only"},
	{"DescribeProducers", "/Topics/*/Partitions/*/ErrorMessage", "klamm has words for it"},
	{"Produce of*", "/Topics/*/Partitions/0/ErrorMessage", "klamm has words for it"},
	{"IncrementalAlterConfigs by a bad operation", "/Resources/raw/*", "the JVM broker fails over it without a code of its own"},
	{"Fetch as a follower", "*", "followers come with several brokers"},
}

// notYet are the APIs that the JVM broker serves and klamm does not, with what
// they wait for.
var notYet = later(map[string][]kmsg.Key{
	"transactions":   {kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn, kmsg.WriteTxnMarkers, kmsg.TxnOffsetCommit},
	"KIP-848 groups": {kmsg.ConsumerGroupHeartbeat, kmsg.ConsumerGroupDescribe},
	"streams groups": {kmsg.StreamsGroupHeartbeat, kmsg.StreamsGroupDescribe},
	"share groups":   {kmsg.ShareGroupHeartbeat, kmsg.ShareGroupDescribe, kmsg.ShareFetch, kmsg.ShareAcknowledge, kmsg.InitializeShareGroupState, kmsg.ReadShareGroupState, kmsg.WriteShareGroupState, kmsg.DeleteShareGroupState, kmsg.ReadShareGroupStateSummary, kmsg.DescribeShareGroupOffsets, kmsg.AlterShareGroupOffsets, kmsg.DeleteShareGroupOffsets},
	"security":       {kmsg.CreateDelegationToken, kmsg.RenewDelegationToken, kmsg.ExpireDelegationToken, kmsg.DescribeDelegationToken, kmsg.AlterUserSCRAMCredentials},
	"quotas":         {kmsg.AlterClientQuotas},
})

func later(whys map[string][]kmsg.Key) map[int16]string {
	out := make(map[int16]string)
	for why, keys := range whys {
		for _, k := range keys {
			out[int16(k)] = why
		}
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// of returns a request with its defaults, changed by f.
func of[T any](make func() T, f func(T)) func(world, int16) kmsg.Request {
	return func(world, int16) kmsg.Request {
		r := make()
		f(r)
		return any(r).(kmsg.Request)
	}
}

func createTopic(name string, partitions int32, replicas int16, more ...func(*kmsg.CreateTopicsRequestTopic)) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		r := kmsg.NewPtrCreateTopicsRequest()
		r.TimeoutMillis = 10000
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = strings.ReplaceAll(name, "%v", fmt.Sprint(v)), partitions, replicas
		for _, f := range more {
			f(&t)
		}
		r.Topics = append(r.Topics, t)
		return r
	}
}

func topicConfig(name string, value *string) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, value
		t.Configs = append(t.Configs, c)
	}
}

func assign(partition int32, replicas ...int32) func(*kmsg.CreateTopicsRequestTopic) {
	return func(t *kmsg.CreateTopicsRequestTopic) {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = partition, replicas
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
}

func listOffsets(topic string, partition int32, timestamp int64, epoch int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrListOffsetsRequest, func(r *kmsg.ListOffsetsRequest) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, timestamp, epoch
		r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	})
}

func metadata(auto bool, names ...string) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		r := kmsg.NewPtrMetadataRequest()
		if v < 4 && !auto {
			return nil // creates topics by asking for them
		}
		r.AllowAutoTopicCreation, r.IncludeTopicAuthorizedOperations, r.IncludeClusterAuthorizedOperations = auto, v >= 8, v >= 8 && v <= 10
		r.Topics = []kmsg.MetadataRequestTopic{}
		for _, n := range names {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = ptr(n)
			r.Topics = append(r.Topics, t)
		}
		return r
	}
}

func describeConfigs(kind kmsg.ConfigResourceType, name string, keys ...string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDescribeConfigsRequest, func(r *kmsg.DescribeConfigsRequest) {
		r.IncludeSynonyms, r.IncludeDocumentation = true, true
		r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}}
	})
}

func alterConfigs(kind kmsg.ConfigResourceType, name, key string, op kmsg.IncrementalAlterConfigOp, value *string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		r.ValidateOnly = true
		r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Op: op, Value: value}}}}
	})
}

func replaceConfigs(kind kmsg.ConfigResourceType, name, key string, value *string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrAlterConfigsRequest, func(r *kmsg.AlterConfigsRequest) {
		r.ValidateOnly = true
		r.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: key, Value: value}}}}
	})
}

func findCoordinator(kind int8, key string) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		if v < 1 && kind != 0 {
			return nil
		}
		r := kmsg.NewPtrFindCoordinatorRequest()
		r.CoordinatorType, r.CoordinatorKey = kind, key
		if v >= 4 {
			r.CoordinatorKeys = []string{key}
		}
		return r
	}
}

func commit(group, member string, generation int32, topic string, partition int32, meta string) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Group, r.MemberID, r.Generation = group, member, generation
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = partition, 3, &meta
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.Partitions = topic, []kmsg.OffsetCommitRequestTopicPartition{p}
		if v >= 10 && topic == "raw" {
			t.TopicID = w.topic
		}
		r.Topics = append(r.Topics, t)
		return r
	}
}

func fetchOffsets(group string, topics ...string) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := kmsg.NewPtrOffsetFetchRequest()
		if v < 2 && topics == nil {
			return nil
		}
		if v < 8 {
			r.Group = group
			for _, n := range topics {
				r.Topics = append(r.Topics, kmsg.OffsetFetchRequestTopic{Topic: n, Partitions: []int32{0, 1, 7}})
			}
			return r
		}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = group
		for _, n := range topics {
			t := kmsg.NewOffsetFetchRequestGroupTopic()
			t.Topic, t.Partitions = n, []int32{0, 1, 7}
			if n == "raw" {
				t.TopicID = w.topic
			}
			g.Topics = append(g.Topics, t)
		}
		r.Groups = append(r.Groups, g)
		return r
	}
}

func joinGroup(f func(*kmsg.JoinGroupRequest)) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrJoinGroupRequest, func(r *kmsg.JoinGroupRequest) {
		r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = "raw.join", 10000, 10000, "consumer"
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}
		f(r)
	})
}

// batch returns the bytes of a record batch with one record.
func batch(magic int8, breakCRC bool, count int32, producerID int64) []byte {
	rec := kmsg.Record{Key: []byte("k"), Value: []byte("v")}
	body := rec.AppendTo(nil)[1:]
	rec.Length = int32(len(body))
	rb := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: magic, LastOffsetDelta: count - 1, FirstTimestamp: past, MaxTimestamp: past, ProducerID: producerID, ProducerEpoch: -1, FirstSequence: -1, NumRecords: count, Records: rec.AppendTo(nil)}
	if producerID >= 0 {
		rb.ProducerEpoch, rb.FirstSequence = 0, 5
	}
	raw := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	sum := crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli))
	if breakCRC {
		sum++
	}
	binary.BigEndian.PutUint32(raw[17:], sum)
	return raw
}

func produce(topic string, partition int32, acks int16, records []byte) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = acks, 10000
		t := kmsg.NewProduceRequestTopic()
		t.Topic = topic
		if v >= 13 && topic == "raw" {
			t.TopicID = w.topic
		}
		t.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: records}}
		r.Topics = append(r.Topics, t)
		return r
	}
}

func fetch(topic string, partition int32, offset int64, more ...func(*kmsg.FetchRequest)) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := kmsg.NewPtrFetchRequest()
		r.MaxBytes, r.MinBytes, r.SessionEpoch = 1<<20, 0, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topic
		if v >= 13 && topic == "raw" {
			t.TopicID = w.topic
		} else if v >= 13 {
			t.TopicID = [16]byte{1: 9}
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 1<<20
		t.Partitions = append(t.Partitions, p)
		r.Topics = append(r.Topics, t)
		for _, f := range more {
			f(r)
		}
		return r
	}
}

// TestMalformed sends both brokers frames that are no requests, or not ones that
// they serve, and expects the same of both: the connection closed, or the same
// answer.
func TestMalformed(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		sizes int64 // the size to claim; 0 means the true one
	}{
		{"an api that does not exist", header(999, 0, 1, false), 0},
		{"a negative api", header(-1, 0, 1, false), 0},
		{"a version that does not exist", append(header(3, 99, 1, true), 0, 0, 0), 0},
		{"a version below the lowest", append(header(1, 0, 1, false), make([]byte, 12)...), 0},
		{"a header that ends early", []byte{0, 3, 0}, 0},
		{"a client id longer than the frame", []byte{0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 'a'}, 0},
		{"a negative client id", []byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xfe, 0, 0, 0, 0}, 0},
		{"a body that ends early", append(header(3, 1, 1, false), 0, 0, 0, 9), 0},
		{"an array of two thousand million", append(header(3, 1, 1, false), 0x7f, 0xff, 0xff, 0xff), 0},
		{"a string of negative length", append(header(3, 1, 1, false), 0, 0, 0, 1, 0xff, 0xf0), 0},
		{"an api without its plug-in", append(header(71, 0, 1, true), make([]byte, 17)...), 0},
		{"bytes behind the body", append(header(3, 1, 1, false), 0, 0, 0, 0, 1, 2, 3), 0},
		{"an empty frame", nil, 0},
		{"a negative size", []byte{1}, -1},
		{"a size beyond the limit", []byte{1}, 0x7fffffff},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got [2]string
			for i, b := range brokers() {
				conn, err := dialRaw(b)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				var out []byte
				if c.sizes == 0 {
					out, err = conn.exchange(c.frame)
				} else {
					conn.SetDeadline(time.Now().Add(20 * time.Second))
					if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(c.sizes)), c.frame...)); err != nil {
						t.Fatal(err)
					}
					out, err = conn.read()
				}
				if err != nil && !errors.Is(err, errClosed) {
					t.Fatalf("%s: %v", b.Name, err)
				}
				// Ports and hosts differ; whether there is an answer does not.
				got[i] = fmt.Sprintf("%d bytes, %v", len(out), err)
			}
			if got[0] != got[1] {
				t.Errorf("klamm: %s, the JVM broker: %s", got[0], got[1])
			}
		})
	}
}
