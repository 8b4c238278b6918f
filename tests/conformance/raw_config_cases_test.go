package conformance_test

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	loggerRes  = kmsg.ConfigResourceTypeBrokerLogger
	metricsRes = kmsg.ConfigResourceTypeClientMetrics
	groupRes   = kmsg.ConfigResourceTypeGroupConfig
)

// configDifferences are those that are known.
var configDifferences = []difference{
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/broker.id/*", "the JVM broker cannot start without it, klamm has a default"},
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/controller.*/Source", "the same"},
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/controller.*/*/*/Source", "the same"},
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/process.roles/Source", "the same"},
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/process.roles/*/*/Source", "the same"},
	{"DescribeConfigs of a broker with an unknown key", "/Resources/1/Configs/log.initial.task.delay.ms", "it is internal, and given to the JVM broker only"},
	{"IncrementalAlterConfigs of a logger by a bad operation", "/Resources/1/*", "the JVM broker fails over it without a code of its own"},
}

// configCases ask for configs and change them; those that change something ask
// what they have changed. The words of errors are compared too.
var configCases = []rawCase{
	{"CreateTopics of 10,001 partitions", manyTopics(1, 10001, nil)},
	{"CreateTopics of 10,001 partitions in two", manyTopics(2, 5001, nil)},
	{"CreateTopics of very many partitions", manyTopics(1, 1<<31-1, nil)},
	{"CreateTopics of 10,002 topics of none", manyTopics(3, 0, nil)},
	{"CreateTopics of 10,001 with a bad name", manyTopics(1, 10001, func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = "raw bad" })},
	{"CreateTopics of 10,001 of a topic that exists", manyTopics(1, 10001, func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = "raw" })},
	{"CreateTopics of 10,001 and the same name twice", func(w world, v int16) kmsg.Request {
		r := manyTopics(4, 5001, nil)(w, v).(*kmsg.CreateTopicsRequest)
		r.Topics[1].Topic = r.Topics[0].Topic
		return r
	}},
	{"CreateTopics of 10,001 by the same name twice", func(w world, v int16) kmsg.Request {
		r := manyTopics(3, 5001, nil)(w, v).(*kmsg.CreateTopicsRequest)
		r.Topics[1].Topic = r.Topics[0].Topic
		return r
	}},
	{"CreateTopics of 10,001 and the metadata", func(w world, v int16) kmsg.Request {
		r := manyTopics(3, 5001, nil)(w, v).(*kmsg.CreateTopicsRequest)
		r.Topics[1].Topic = "__cluster_metadata"
		return r
	}},
	{"CreateTopics of 10,001 assignments", manyTopics(1, -1, func(t *kmsg.CreateTopicsRequestTopic) {
		t.ReplicationFactor = -1
		for i := range int32(10001) {
			t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: i, Replicas: []int32{1}})
		}
	})},
	{"CreateTopics of 10,000 partitions", manyTopics(1, 10000, nil)},
	{"CreateTopics of 9,999 partitions", manyTopics(1, 9999, nil)},
	{"CreateTopics of 10,000 partitions in two", manyTopics(2, 5000, nil)},
	{"CreatePartitions to 10,002", createPartitions("raw", 10002)},
	{"CreatePartitions of too many and a few", of(kmsg.NewPtrCreatePartitionsRequest, func(r *kmsg.CreatePartitionsRequest) {
		r.TimeoutMillis, r.ValidateOnly = 10000, true
		r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "raw", Count: 20000}, {Topic: "__consumer_offsets", Count: 60}}
	})},
	{"CreatePartitions to 10,001", createPartitions("raw", 10001)},
	{"CreatePartitions to 10,003", createPartitions("raw", 10003)},
	{"CreatePartitions to very many", createPartitions("raw", 1<<31-1)},
	{"CreatePartitions to a negative number", createPartitions("raw", -5)},
	{"CreatePartitions of 10,001 in two", of(kmsg.NewPtrCreatePartitionsRequest, func(r *kmsg.CreatePartitionsRequest) {
		r.TimeoutMillis, r.ValidateOnly = 10000, true
		r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "raw", Count: 6000}, {Topic: "__consumer_offsets", Count: 6000}, {Topic: "raw.missing", Count: 20000}}
	})},
	{"CreatePartitions of a missing topic to very many", createPartitions("raw.missing", 20000)},

	{"CreateTopics with remote storage", createTopic("raw.bad", 1, 1, topicConfig("remote.storage.enable", ptr("true")))},
	{"CreateTopics without remote storage", createTopic("raw.local.%v", 1, 1, topicConfig("remote.storage.enable", ptr("false")))},
	{"CreateTopics with remote copies disabled", createTopic("raw.copy.%v", 1, 1, topicConfig("remote.log.copy.disable", ptr("true")))},
	{"CreateTopics with remote deletes", createTopic("raw.delete.%v", 1, 1, topicConfig("remote.log.delete.on.disable", ptr("true")))},
	{"CreateTopics with a small config", createTopic("raw.bad", 1, 1, topicConfig("segment.bytes", ptr("1")))},
	{"CreateTopics with a bad policy", createTopic("raw.bad", 1, 1, topicConfig("cleanup.policy", ptr("shred")))},
	{"CreateTopics with lags that clash", createTopic("raw.bad", 1, 1, topicConfig("min.compaction.lag.ms", ptr("10")), topicConfig("max.compaction.lag.ms", ptr("5")))},
	{"CreateTopics with two null configs", createTopic("raw.bad", 1, 1, topicConfig("retention.ms", nil), topicConfig("segment.ms", nil))},
	{"CreateTopics with two unknown configs", createTopic("raw.bad", 1, 1, topicConfig("no.such", ptr("1")), topicConfig("nor.such", ptr("1")))},
	{"CreateTopics with small segments", createTopic("raw.small.%v", 1, 1, topicConfig("internal.segment.bytes", ptr("2000")))},
	{"CreateTopics with a bad timestamp type", createTopic("raw.bad", 1, 1, topicConfig("message.timestamp.type", ptr("Never")))},
	{"CreateTopics with a bad compression", createTopic("raw.bad", 1, 1, topicConfig("compression.type", ptr("rar")))},
	{"CreateTopics with a bad boolean", createTopic("raw.bad", 1, 1, topicConfig("preallocate", ptr("maybe")))},
	{"CreateTopics with a bad double", createTopic("raw.bad", 1, 1, topicConfig("min.cleanable.dirty.ratio", ptr("x")))},
	{"CreateTopics with a high double", createTopic("raw.bad", 1, 1, topicConfig("min.cleanable.dirty.ratio", ptr("1.5")))},
	{"CreateTopics with a low integer", createTopic("raw.bad", 1, 1, topicConfig("max.message.bytes", ptr("-1")))},
	{"CreateTopics with a high level", createTopic("raw.bad", 1, 1, topicConfig("compression.zstd.level", ptr("99")))},
	{"CreateTopics with bad replicas", createTopic("raw.bad", 1, 1, topicConfig("leader.replication.throttled.replicas", ptr("x")))},
	{"CreateTopics with no policy", createTopic("raw.empty.%v", 1, 1, topicConfig("cleanup.policy", ptr("")))},
	{"CreateTopics with blanks", createTopic("raw.blank.%v", 1, 1, topicConfig("retention.ms", ptr(" 5000 ")))},
	{"IncrementalAlterConfigs appends to an unknown key", alterConfigs(topicRes, "raw", "no.such", appendOp, ptr("1"))},
	{"IncrementalAlterConfigs appends a bad item", alterConfigs(topicRes, "raw", "cleanup.policy", appendOp, ptr("shred"))},
	{"IncrementalAlterConfigs appends to a number of a broker", alterConfigs(brokerRes, "1", "log.retention.ms", appendOp, ptr("1"))},
	{"IncrementalAlterConfigs appends to a group", alterConfigs(groupRes, "raw.group", "share.auto.offset.reset", appendOp, ptr("1"))},
	{"IncrementalAlterConfigs of a broker by a bad operation", alterConfigs(brokerRes, "1", "log.retention.ms", 9, ptr("1"))},
	{"IncrementalAlterConfigs enables remote storage", alterConfigs(topicRes, "raw", "remote.storage.enable", setOp, ptr("true"))},
	{"IncrementalAlterConfigs sets internal segments", commitConfigs(topicRes, "raw", "internal.segment.bytes", setOp, ptr("3000000"))},
	{"DescribeConfigs of internal segments", describeConfigs(topicRes, "raw", "internal.segment.bytes")},
	{"DescribeConfigs of a topic with internal segments", describeConfigs(topicRes, "raw")},
	{"IncrementalAlterConfigs deletes internal segments", commitConfigs(topicRes, "raw", "internal.segment.bytes", deleteOp, nil)},
	{"DescribeConfigs of no key", describeConfigs(topicRes, "raw", []string{}...)},

	{"IncrementalAlterConfigs of another broker", alterConfigs(brokerRes, "9", "log.retention.ms", setOp, ptr("5000"))},
	{"IncrementalAlterConfigs of a negative broker", alterConfigs(brokerRes, "-1", "log.retention.ms", setOp, ptr("5000"))},
	{"IncrementalAlterConfigs of a broker by 01", alterConfigs(brokerRes, "01", "log.retention.ms", setOp, ptr("5000"))},
	{"AlterConfigs of another broker", replaceConfigs(brokerRes, "9", "log.retention.ms", ptr("5000"))},
	{"AlterConfigs of no broker", replaceConfigs(brokerRes, "x", "log.retention.ms", ptr("5000"))},
	{"AlterConfigs of a broker", replaceConfigs(brokerRes, "1", "log.retention.ms", ptr("5000"))},
	{"AlterConfigs of a broker that is read-only", replaceConfigs(brokerRes, "1", "num.partitions", ptr("5"))},
	{"IncrementalAlterConfigs of threads to 16", alterConfigs(brokerRes, "1", "num.io.threads", setOp, ptr("16"))},
	{"IncrementalAlterConfigs of threads to 17", alterConfigs(brokerRes, "1", "num.io.threads", setOp, ptr("17"))},
	{"IncrementalAlterConfigs of threads to 4", alterConfigs(brokerRes, "1", "num.io.threads", setOp, ptr("4"))},
	{"IncrementalAlterConfigs of threads to 3", alterConfigs(brokerRes, "1", "num.io.threads", setOp, ptr("3"))},
	{"IncrementalAlterConfigs of threads to 0", alterConfigs(brokerRes, "1", "num.io.threads", setOp, ptr("0"))},
	{"IncrementalAlterConfigs of threads of all", alterConfigs(brokerRes, "", "num.io.threads", setOp, ptr("17"))},
	{"IncrementalAlterConfigs of network threads to 7", alterConfigs(brokerRes, "1", "num.network.threads", setOp, ptr("7"))},
	{"IncrementalAlterConfigs of fetchers to 3", alterConfigs(brokerRes, "1", "num.replica.fetchers", setOp, ptr("3"))},
	{"IncrementalAlterConfigs of cleaners to 3", alterConfigs(brokerRes, "1", "log.cleaner.threads", setOp, ptr("3"))},
	{"IncrementalAlterConfigs of cleaners of all to 3", alterConfigs(brokerRes, "", "log.cleaner.threads", setOp, ptr("3"))},
	{"IncrementalAlterConfigs of recovery threads to 5", alterConfigs(brokerRes, "1", "num.recovery.threads.per.data.dir", setOp, ptr("5"))},
	{"IncrementalAlterConfigs of background threads to 21", alterConfigs(brokerRes, "1", "background.threads", setOp, ptr("21"))},
	{"AlterConfigs of threads to 17", replaceConfigs(brokerRes, "1", "num.io.threads", ptr("17"))},
	{"IncrementalAlterConfigs of a truststore", alterConfigs(brokerRes, "1", "ssl.truststore.location", setOp, ptr("/tmp/x"))},
	{"IncrementalAlterConfigs of a truststore's type", alterConfigs(brokerRes, "1", "ssl.truststore.type", setOp, ptr("JKS"))},
	{"IncrementalAlterConfigs of a truststore's password", alterConfigs(brokerRes, "1", "ssl.truststore.password", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of a truststore of all", alterConfigs(brokerRes, "", "ssl.truststore.location", setOp, ptr("/tmp/x"))},
	{"IncrementalAlterConfigs of a keystore", alterConfigs(brokerRes, "1", "ssl.keystore.location", setOp, ptr("/tmp/x"))},
	{"IncrementalAlterConfigs of a login module", alterConfigs(brokerRes, "1", "sasl.jaas.config", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of a listener's truststore of all", alterConfigs(brokerRes, "", "listener.name.plaintext.ssl.truststore.location", setOp, ptr("/tmp/x"))},
	{"IncrementalAlterConfigs of the leader's rate", alterConfigs(brokerRes, "1", "leader.replication.throttled.rate", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of the leaders' rate", alterConfigs(brokerRes, "", "leader.replication.throttled.rate", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of the follower's rate", alterConfigs(brokerRes, "1", "follower.replication.throttled.rate", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of the moves' rate", alterConfigs(brokerRes, "1", "replica.alter.log.dirs.io.max.bytes.per.second", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of a bad rate", alterConfigs(brokerRes, "1", "leader.replication.throttled.rate", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of a negative rate", alterConfigs(brokerRes, "1", "leader.replication.throttled.rate", setOp, ptr("-1"))},
	{"IncrementalAlterConfigs of an unknown broker key", commitConfigs(brokerRes, "1", "no.such.broker.key", setOp, ptr("v"))},
	{"DescribeConfigs of an unknown broker key", describeConfigs(brokerRes, "1", "no.such.broker.key", "log.retention.ms")},
	{"DescribeConfigs of a broker with an unknown key", describeConfigs(brokerRes, "1")},
	{"IncrementalAlterConfigs appends to an unknown broker key", alterConfigs(brokerRes, "1", "no.such.broker.key", appendOp, ptr("w"))},
	{"IncrementalAlterConfigs subtracts from an unknown broker key", alterConfigs(brokerRes, "1", "nor.such", subtractOp, ptr("w"))},
	{"IncrementalAlterConfigs deletes an unknown broker key", commitConfigs(brokerRes, "1", "no.such.broker.key", deleteOp, nil)},
	{"IncrementalAlterConfigs of an unknown key of all brokers", commitConfigs(brokerRes, "", "no.such.broker.key", setOp, ptr("v"))},
	{"DescribeConfigs of an unknown key of all brokers", describeConfigs(brokerRes, "")},
	{"DescribeConfigs of an unknown key of all brokers by one", describeConfigs(brokerRes, "1", "no.such.broker.key")},
	{"IncrementalAlterConfigs deletes an unknown key of all brokers", commitConfigs(brokerRes, "", "no.such.broker.key", deleteOp, nil)},
	{"IncrementalAlterConfigs sets the rates", of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: brokerRes, ResourceName: "1", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{
			{Name: "leader.replication.throttled.rate", Value: ptr("1000")}, {Name: "follower.replication.throttled.rate", Value: ptr("1000")}, {Name: "replica.alter.log.dirs.io.max.bytes.per.second", Value: ptr("1000")}}}}
	})},
	{"DescribeConfigs of the rates", describeConfigs(brokerRes, "1", "leader.replication.throttled.rate", "follower.replication.throttled.rate", "replica.alter.log.dirs.io.max.bytes.per.second")},
	{"IncrementalAlterConfigs deletes the rates", of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: brokerRes, ResourceName: "1", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{
			{Name: "leader.replication.throttled.rate", Op: deleteOp}, {Name: "follower.replication.throttled.rate", Op: deleteOp}, {Name: "replica.alter.log.dirs.io.max.bytes.per.second", Op: deleteOp}}}}
	})},
	{"IncrementalAlterConfigs of 10,000 keys", manyKeys(10000)},
	{"IncrementalAlterConfigs of 10,001 keys", manyKeys(10001)},
	{"DescribeConfigs by a key twice", describeConfigs(topicRes, "raw", "retention.ms", "retention.ms")},
	{"IncrementalAlterConfigs twice", of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		one := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: topicRes, ResourceName: "raw", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: ptr("1")}}}
		r.ValidateOnly, r.Resources = true, []kmsg.IncrementalAlterConfigsRequestResource{one, one}
	})},
	{"IncrementalAlterConfigs of a key twice", of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		c := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: "retention.ms", Value: ptr("1")}
		r.ValidateOnly, r.Resources = true, []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: topicRes, ResourceName: "raw", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{c, c}}}
	})},
	{"IncrementalAlterConfigs of two nulls", of(kmsg.NewPtrIncrementalAlterConfigsRequest, func(r *kmsg.IncrementalAlterConfigsRequest) {
		r.ValidateOnly, r.Resources = true, []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: topicRes, ResourceName: "raw", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms"}, {Name: "segment.ms"}}}}
	})},

	{"IncrementalAlterConfigs of a group's session", alterConfigs(groupRes, "raw.group", "consumer.session.timeout.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a group's long session", alterConfigs(groupRes, "raw.group", "consumer.session.timeout.ms", setOp, ptr("60001"))},
	{"IncrementalAlterConfigs of a group's session that is well", alterConfigs(groupRes, "raw.group", "consumer.session.timeout.ms", setOp, ptr("50000"))},
	{"IncrementalAlterConfigs of a group's heartbeat", alterConfigs(groupRes, "raw.group", "consumer.heartbeat.interval.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a group's long heartbeat", alterConfigs(groupRes, "raw.group", "consumer.heartbeat.interval.ms", setOp, ptr("15001"))},
	{"IncrementalAlterConfigs of a group's assignments", alterConfigs(groupRes, "raw.group", "consumer.assignment.interval.ms", setOp, ptr("100000"))},
	{"IncrementalAlterConfigs of a share group's session", alterConfigs(groupRes, "raw.group", "share.session.timeout.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a share group's heartbeat", alterConfigs(groupRes, "raw.group", "share.heartbeat.interval.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a share group's lock", alterConfigs(groupRes, "raw.group", "share.record.lock.duration.ms", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of a share group's long lock", alterConfigs(groupRes, "raw.group", "share.record.lock.duration.ms", setOp, ptr("3600001"))},
	{"IncrementalAlterConfigs of a share group's locks", alterConfigs(groupRes, "raw.group", "share.partition.max.record.locks", setOp, ptr("20000"))},
	{"IncrementalAlterConfigs of a share group's deliveries", alterConfigs(groupRes, "raw.group", "share.delivery.count.limit", setOp, ptr("100"))},
	{"IncrementalAlterConfigs of a streams group's session", alterConfigs(groupRes, "raw.group", "streams.session.timeout.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a streams group's heartbeat", alterConfigs(groupRes, "raw.group", "streams.heartbeat.interval.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a streams group's standbys", alterConfigs(groupRes, "raw.group", "streams.num.standby.replicas", setOp, ptr("100"))},
	{"IncrementalAlterConfigs of a group's unknown key", alterConfigs(groupRes, "raw.group", "no.such", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a group to a bad value", alterConfigs(groupRes, "raw.group", "consumer.session.timeout.ms", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of no group", alterConfigs(groupRes, "", "consumer.session.timeout.ms", setOp, ptr("50000"))},
	{"IncrementalAlterConfigs of a group", commitConfigs(groupRes, "raw.other", "consumer.session.timeout.ms", setOp, ptr("50000"))},
	{"ListConfigResources of a group", listResources(32)},
	{"IncrementalAlterConfigs of a share group", commitConfigs(groupRes, "raw.other", "share.auto.offset.reset", setOp, ptr("earliest"))},
	{"DescribeConfigs of a group that has some", describeConfigs(groupRes, "raw.other")},
	{"DescribeConfigs of no group", describeConfigs(groupRes, "")},
	{"DescribeConfigs of a group's keys", describeConfigs(groupRes, "raw.group", "share.record.lock.duration.ms", "no.such")},

	{"IncrementalAlterConfigs of client metrics", alterConfigs(metricsRes, "raw.metrics", "interval.ms", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of client metrics to a short interval", alterConfigs(metricsRes, "raw.metrics", "interval.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of client metrics to a long interval", alterConfigs(metricsRes, "raw.metrics", "interval.ms", setOp, ptr("3600001"))},
	{"IncrementalAlterConfigs of client metrics to a bad interval", alterConfigs(metricsRes, "raw.metrics", "interval.ms", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of client metrics of an unknown key", alterConfigs(metricsRes, "raw.metrics", "no.such", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of client metrics of no name", alterConfigs(metricsRes, "", "interval.ms", setOp, ptr("1000"))},
	{"IncrementalAlterConfigs of client metrics to a bad match", alterConfigs(metricsRes, "raw.metrics", "match", setOp, ptr("planet=x"))},
	{"IncrementalAlterConfigs of client metrics to a bad pattern", alterConfigs(metricsRes, "raw.metrics", "match", setOp, ptr("client_id=["))},
	{"IncrementalAlterConfigs of client metrics to a match without a key", alterConfigs(metricsRes, "raw.metrics", "match", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of client metrics to a match", alterConfigs(metricsRes, "raw.metrics", "match", setOp, ptr("client_id=a.*"))},
	{"IncrementalAlterConfigs of client metrics appends", alterConfigs(metricsRes, "raw.metrics", "metrics", appendOp, ptr("a.b"))},
	{"DescribeConfigs of missing client metrics", describeConfigs(metricsRes, "raw.missing")},
	{"DescribeConfigs of client metrics of no name", describeConfigs(metricsRes, "")},
	{"IncrementalAlterConfigs makes client metrics", commitConfigs(metricsRes, "raw.metrics", "interval.ms", setOp, ptr("1000"))},
	{"ListConfigResources of client metrics that are there", listResources(16)},
	{"ListConfigResources of client metrics in version 0", listResources()},
	{"DescribeConfigs of client metrics", describeConfigs(metricsRes, "raw.metrics")},
	{"DescribeConfigs of client metrics by key", describeConfigs(metricsRes, "raw.metrics", "interval.ms", "no.such")},
	{"AlterConfigs of client metrics", replaceConfigs(metricsRes, "raw.metrics", "interval.ms", ptr("1"))},
	{"AlterConfigs of a group", replaceConfigs(groupRes, "raw.group", "consumer.session.timeout.ms", ptr("1"))},

	{"DescribeConfigs of the loggers of no broker", describeConfigs(loggerRes, "")},
	{"DescribeConfigs of the loggers of another broker", describeConfigs(loggerRes, "9")},
	{"DescribeConfigs of the loggers of x", describeConfigs(loggerRes, "x")},
	{"IncrementalAlterConfigs of an unknown logger", alterConfigs(loggerRes, "1", "no.such", setOp, ptr("INFO"))},
	{"IncrementalAlterConfigs of a logger to a bad level", alterConfigs(loggerRes, "1", "root", setOp, ptr("LOUD"))},
	{"IncrementalAlterConfigs of the loggers of another broker", alterConfigs(loggerRes, "9", "root", setOp, ptr("INFO"))},
	{"IncrementalAlterConfigs of the loggers of no broker", alterConfigs(loggerRes, "", "root", setOp, ptr("INFO"))},
	{"IncrementalAlterConfigs of the loggers of x", alterConfigs(loggerRes, "x", "root", setOp, ptr("INFO"))},
	{"IncrementalAlterConfigs appends to a logger", alterConfigs(loggerRes, "1", "root", appendOp, ptr("INFO"))},
	{"IncrementalAlterConfigs subtracts from a logger", alterConfigs(loggerRes, "1", "root", subtractOp, ptr("INFO"))},
	{"IncrementalAlterConfigs of a logger by a bad operation", alterConfigs(loggerRes, "1", "root", 9, ptr("INFO"))},
	{"IncrementalAlterConfigs deletes the root logger's level", alterConfigs(loggerRes, "1", "root", deleteOp, nil)},
	{"IncrementalAlterConfigs deletes an unknown logger's level", alterConfigs(loggerRes, "1", "no.such", deleteOp, nil)},
	{"IncrementalAlterConfigs of a logger to a null", alterConfigs(loggerRes, "1", "root", setOp, nil)},
	{"AlterConfigs of loggers", replaceConfigs(loggerRes, "1", "root", ptr("INFO"))},
	{"AlterConfigs of a kind that is none", replaceConfigs(99, "1", "root", ptr("INFO"))},
	{"DescribeConfigs of the unknown kind", describeConfigs(0, "x")},

	{"Metadata of many missing topics", func(_ world, v int16) kmsg.Request {
		r := kmsg.NewPtrMetadataRequest()
		if v < 4 {
			return nil
		}
		r.AllowAutoTopicCreation = false
		for range 3 {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = ptr("raw." + strings.Repeat("y", 200))
			r.Topics = append(r.Topics, t)
		}
		return r
	}},
}

// commitConfigs is alterConfigs, and not only to see what would happen.
func commitConfigs(kind kmsg.ConfigResourceType, name, key string, op kmsg.IncrementalAlterConfigOp, value *string) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := alterConfigs(kind, name, key, op, value)(w, v).(*kmsg.IncrementalAlterConfigsRequest)
		r.ValidateOnly = false
		return r
	}
}

// manyKeys sets so many unknown keys of a broker, and a topic's beside them.
func manyKeys(n int) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		r := alterConfigs(brokerRes, "1", "no.such.0", setOp, ptr("v"))(w, v).(*kmsg.IncrementalAlterConfigsRequest)
		for i := 1; i < n; i++ {
			r.Resources[0].Configs = append(r.Resources[0].Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: fmt.Sprintf("no.such.%d", i), Value: ptr("v")})
		}
		r.Resources = append(r.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: topicRes, ResourceName: "raw.missing", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: ptr("1")}}})
		return r
	}
}
