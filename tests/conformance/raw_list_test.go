package conformance_test

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// hostKeys are broker configs whose values tell where a broker runs and how it
// was started.
var hostKeys = map[string]bool{"listeners": true, "advertised.listeners": true, "controller.quorum.voters": true, "node.id": true, "broker.id": true}

const (
	topicRes   = kmsg.ConfigResourceTypeTopic
	brokerRes  = kmsg.ConfigResourceTypeBroker
	setOp      = kmsg.IncrementalAlterConfigOpSet
	deleteOp   = kmsg.IncrementalAlterConfigOpDelete
	appendOp   = kmsg.IncrementalAlterConfigOpAppend
	subtractOp = kmsg.IncrementalAlterConfigOpSubtract
)

var rawCases = []rawCase{
	{"ApiVersions", of(kmsg.NewPtrApiVersionsRequest, func(r *kmsg.ApiVersionsRequest) {
		r.ClientSoftwareName, r.ClientSoftwareVersion = "raw", "1"
	})},
	{"ApiVersions of a bad name", of(kmsg.NewPtrApiVersionsRequest, func(r *kmsg.ApiVersionsRequest) {
		r.ClientSoftwareName, r.ClientSoftwareVersion = "raw software", ""
	})},

	{"Metadata", metadata(false, "raw")},
	{"Metadata of none", metadata(true)},
	{"Metadata of a missing topic", metadata(false, "raw.missing")},
	{"Metadata of a bad name", metadata(true, "raw/bad")},
	{"Metadata of an empty name", metadata(false, "")},
	{"Metadata twice", metadata(false, "raw", "raw")},
	{"Metadata by id", func(w world, v int16) kmsg.Request {
		if v < 12 {
			return nil
		}
		r := kmsg.NewPtrMetadataRequest()
		r.Topics = []kmsg.MetadataRequestTopic{{TopicID: w.topic}}
		return r
	}},
	{"Metadata by an unknown id", func(_ world, v int16) kmsg.Request {
		if v < 12 {
			return nil
		}
		r := kmsg.NewPtrMetadataRequest()
		r.Topics = []kmsg.MetadataRequestTopic{{TopicID: [16]byte{1: 9}}}
		return r
	}},

	{"CreateTopics", createTopic("raw.created.%v", 2, 1, topicConfig("retention.ms", ptr("5000")))},
	{"CreateTopics with an assignment", createTopic("raw.assigned.%v", -1, -1, assign(0, 1), assign(1, 1))},
	{"CreateTopics that exists", createTopic("raw", 2, 1)},
	{"CreateTopics of a bad name", createTopic("raw bad", 1, 1)},
	{"CreateTopics of an empty name", createTopic("", 1, 1)},
	{"CreateTopics of .", createTopic(".", 1, 1)},
	{"CreateTopics of ..", createTopic("..", 1, 1)},
	{"CreateTopics of 250 letters", createTopic(strings.Repeat("x", 250), 1, 1)},
	{"CreateTopics that collides", createTopic("raw_created.2", 1, 1)},
	{"CreateTopics of no partitions", createTopic("raw.x", 0, 1)},
	{"CreateTopics of -2 partitions", createTopic("raw.x", -2, 1)},
	{"CreateTopics of no replicas", createTopic("raw.x", 1, 0)},
	{"CreateTopics of -2 replicas", createTopic("raw.x", 1, -2)},
	{"CreateTopics of two replicas", createTopic("raw.x", 1, 2)},
	{"CreateTopics with an unknown config", createTopic("raw.x", 1, 1, topicConfig("no.such", ptr("1")))},
	{"CreateTopics with a null config", createTopic("raw.x", 1, 1, topicConfig("retention.ms", nil))},
	{"CreateTopics with a bad config", createTopic("raw.x", 1, 1, topicConfig("retention.ms", ptr("x")))},
	{"CreateTopics with configs that clash", createTopic("raw.x", 1, 1, topicConfig("local.retention.ms", ptr("5000")), topicConfig("retention.ms", ptr("10")))},
	{"CreateTopics with both numbers and assignment", createTopic("raw.x", 1, 1, assign(0, 1))},
	{"CreateTopics assigned twice to one broker", createTopic("raw.x", -1, -1, assign(0, 1, 1))},
	{"CreateTopics assigned to an unknown broker", createTopic("raw.x", -1, -1, assign(0, 9))},
	{"CreateTopics assigned to none", createTopic("raw.x", -1, -1, assign(0))},
	{"CreateTopics assigned from 1", createTopic("raw.x", -1, -1, assign(1, 1))},
	{"CreateTopics twice", of(kmsg.NewPtrCreateTopicsRequest, func(r *kmsg.CreateTopicsRequest) {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = "raw.x", 1, 1
		r.Topics = append(r.Topics, t, t)
	})},

	{"DeleteTopics that is missing", of(kmsg.NewPtrDeleteTopicsRequest, func(r *kmsg.DeleteTopicsRequest) {
		r.TimeoutMillis, r.TopicNames = 10000, []string{"raw.missing"}
		r.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: ptr("raw.missing")}}
	})},
	{"DeleteTopics twice", of(kmsg.NewPtrDeleteTopicsRequest, func(r *kmsg.DeleteTopicsRequest) {
		r.TimeoutMillis, r.TopicNames = 10000, []string{"raw.missing", "raw.missing"}
		r.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: ptr("raw.missing")}, {Topic: ptr("raw.missing")}}
	})},
	{"DeleteTopics twice that exists", of(kmsg.NewPtrDeleteTopicsRequest, func(r *kmsg.DeleteTopicsRequest) {
		r.TimeoutMillis, r.TopicNames = 10000, []string{"raw", "raw"}
		r.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: ptr("raw")}, {Topic: ptr("raw")}}
	})},
	{"DeleteTopics by an id twice", func(w world, v int16) kmsg.Request {
		if v < 6 {
			return nil
		}
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis, r.Topics = 10000, []kmsg.DeleteTopicsRequestTopic{{TopicID: w.topic}, {TopicID: w.topic}}
		return r
	}},
	{"DeleteTopics by name, and by id", func(w world, v int16) kmsg.Request {
		if v < 6 {
			return nil
		}
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis, r.Topics = 10000, []kmsg.DeleteTopicsRequestTopic{{TopicID: w.topic}, {Topic: ptr("raw")}}
		return r
	}},
	{"DeleteTopics by an unknown id", func(_ world, v int16) kmsg.Request {
		if v < 6 {
			return nil
		}
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis, r.Topics = 10000, []kmsg.DeleteTopicsRequestTopic{{TopicID: [16]byte{1: 9}}}
		return r
	}},
	{"DeleteTopics by name and id", func(w world, v int16) kmsg.Request {
		if v < 6 {
			return nil
		}
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis, r.Topics = 10000, []kmsg.DeleteTopicsRequestTopic{{Topic: ptr("raw"), TopicID: w.topic}}
		return r
	}},

	{"CreatePartitions of a missing topic", createPartitions("raw.missing", 3)},
	{"CreatePartitions to fewer", createPartitions("raw", 1)},
	{"CreatePartitions to as many", createPartitions("raw", 2)},
	{"CreatePartitions to none", createPartitions("raw", 0)},
	{"CreatePartitions", createPartitions("raw", 4)},
	{"CreatePartitions assigned short", createPartitions("raw", 4, []int32{1})},
	{"CreatePartitions assigned to an unknown broker", createPartitions("raw", 3, []int32{9})},

	{"ListOffsets of the end", listOffsets("raw", 0, -1, -1)},
	{"ListOffsets of the start", listOffsets("raw", 0, -2, -1)},
	{"ListOffsets of the largest timestamp", listOffsets("raw", 0, -3, -1)},
	{"ListOffsets of the local start", listOffsets("raw", 0, -4, -1)},
	{"ListOffsets of the last tiered", listOffsets("raw", 0, -5, -1)},
	{"ListOffsets of the pending upload", listOffsets("raw", 0, -6, -1)},
	{"ListOffsets of -7", listOffsets("raw", 0, -7, -1)},
	{"ListOffsets by time", listOffsets("raw", 0, past+4, -1)},
	{"ListOffsets by a later time", listOffsets("raw", 0, past+400, -1)},
	{"ListOffsets of an empty partition", listOffsets("raw", 1, -3, -1)},
	{"ListOffsets of a missing topic", listOffsets("raw.missing", 0, -1, -1)},
	{"ListOffsets of a missing partition", listOffsets("raw", 5, -1, -1)},
	{"ListOffsets in this epoch", listOffsets("raw", 0, -1, 0)},
	{"ListOffsets in a later epoch", listOffsets("raw", 0, -1, 5)},
	{"ListOffsets twice", of(kmsg.NewPtrListOffsetsRequest, func(r *kmsg.ListOffsetsRequest) {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Timestamp = -1
		r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "raw", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p, p}}}
	})},

	{"DescribeConfigs of a topic", describeConfigs(topicRes, "raw")},
	{"DescribeConfigs by key", describeConfigs(topicRes, "raw", "retention.ms", "no.such")},
	{"DescribeConfigs of a missing topic", describeConfigs(topicRes, "raw.missing")},
	{"DescribeConfigs of a bad name", describeConfigs(topicRes, "raw bad")},
	{"DescribeConfigs of a broker", describeConfigs(brokerRes, "1")},
	{"DescribeConfigs of all brokers", describeConfigs(brokerRes, "")},
	{"DescribeConfigs of another broker", describeConfigs(brokerRes, "9")},
	{"DescribeConfigs of no broker", describeConfigs(brokerRes, "x")},
	{"DescribeConfigs of a kind that is none", describeConfigs(99, "x")},
	{"DescribeConfigs of a group", describeConfigs(kmsg.ConfigResourceTypeGroupConfig, "raw.group")},

	{"IncrementalAlterConfigs", alterConfigs(topicRes, "raw", "retention.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs to a null", alterConfigs(topicRes, "raw", "retention.ms", setOp, nil)},
	{"IncrementalAlterConfigs to a bad value", alterConfigs(topicRes, "raw", "retention.ms", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of an unknown key", alterConfigs(topicRes, "raw", "no.such", setOp, ptr("1"))},
	{"IncrementalAlterConfigs deletes an unknown key", alterConfigs(topicRes, "raw", "no.such", deleteOp, nil)},
	{"IncrementalAlterConfigs of no key", alterConfigs(topicRes, "raw", "", setOp, ptr("1"))},
	{"IncrementalAlterConfigs appends to a number", alterConfigs(topicRes, "raw", "retention.ms", appendOp, ptr("1"))},
	{"IncrementalAlterConfigs subtracts what is not there", alterConfigs(topicRes, "raw", "cleanup.policy", subtractOp, ptr("compact"))},
	{"IncrementalAlterConfigs by a bad operation", alterConfigs(topicRes, "raw", "retention.ms", 9, ptr("1"))},
	{"IncrementalAlterConfigs of a missing topic", alterConfigs(topicRes, "raw.missing", "retention.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a bad name", alterConfigs(topicRes, "raw bad", "retention.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a kind that is none", alterConfigs(99, "raw", "retention.ms", setOp, ptr("1"))},
	{"IncrementalAlterConfigs of a broker", alterConfigs(brokerRes, "1", "log.retention.ms", setOp, ptr("5000"))},
	{"IncrementalAlterConfigs of a broker to a bad value", alterConfigs(brokerRes, "1", "log.retention.ms", setOp, ptr("x"))},
	{"IncrementalAlterConfigs of a broker that is read-only", alterConfigs(brokerRes, "1", "num.partitions", setOp, ptr("5"))},
	{"IncrementalAlterConfigs of all brokers", alterConfigs(brokerRes, "", "log.retention.ms", setOp, ptr("5000"))},
	{"IncrementalAlterConfigs of no broker", alterConfigs(brokerRes, "x", "log.retention.ms", setOp, ptr("5000"))},
	{"AlterConfigs", replaceConfigs(topicRes, "raw", "retention.ms", ptr("1"))},
	{"AlterConfigs to a null", replaceConfigs(topicRes, "raw", "retention.ms", nil)},
	{"AlterConfigs to a bad value", replaceConfigs(topicRes, "raw", "retention.ms", ptr("x"))},
	{"AlterConfigs of a missing topic", replaceConfigs(topicRes, "raw.missing", "retention.ms", ptr("1"))},
	{"AlterConfigs of an unknown key", replaceConfigs(topicRes, "raw", "no.such", ptr("1"))},

	{"FindCoordinator", findCoordinator(0, "raw.group")},
	{"FindCoordinator of no group", findCoordinator(0, "")},
	{"FindCoordinator of a kind that is none", findCoordinator(9, "raw.group")},

	{"OffsetFetch", fetchOffsets("raw.group", "raw")},
	{"OffsetFetch of all", fetchOffsets("raw.group")},
	{"OffsetFetch of a missing topic", fetchOffsets("raw.group", "raw.missing")},
	{"OffsetFetch of a missing group", fetchOffsets("raw.nobody", "raw")},
	{"OffsetFetch of no group", fetchOffsets("", "raw")},
	{"OffsetCommit", commit("raw.group", "", -1, "raw", 0, "meta")},
	{"OffsetCommit of no group", commit("", "", -1, "raw", 0, "")},
	{"OffsetCommit of an unknown member", commit("raw.group", "who", 1, "raw", 0, "")},
	{"OffsetCommit of a missing group's member", commit("raw.nobody", "who", 1, "raw", 0, "")},
	{"OffsetCommit to a missing topic", commit("raw.group", "", -1, "raw.missing", 0, "")},
	{"OffsetCommit to a missing partition", commit("raw.group", "", -1, "raw", 7, "")},
	{"OffsetCommit with much metadata", commit("raw.group", "", -1, "raw", 0, strings.Repeat("x", 5000))},

	{"JoinGroup without a group", joinGroup(func(r *kmsg.JoinGroupRequest) { r.Group = "" })},
	{"JoinGroup with a short session", joinGroup(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 })},
	{"JoinGroup with a long session", joinGroup(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 << 30 })},
	{"JoinGroup without protocols", joinGroup(func(r *kmsg.JoinGroupRequest) { r.Protocols = nil })},
	{"JoinGroup without a type", joinGroup(func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" })},
	{"JoinGroup of an unknown member", joinGroup(func(r *kmsg.JoinGroupRequest) { r.MemberID = "who" })},
	{"JoinGroup for a member id", func(w world, v int16) kmsg.Request {
		if v < 4 {
			return nil
		}
		return joinGroup(func(*kmsg.JoinGroupRequest) {})(w, v)
	}},
	{"SyncGroup of an unknown member", of(kmsg.NewPtrSyncGroupRequest, func(r *kmsg.SyncGroupRequest) {
		r.Group, r.MemberID, r.Generation, r.ProtocolType, r.Protocol = "raw.group", "who", 1, ptr("consumer"), ptr("range")
	})},
	{"SyncGroup of a missing group", of(kmsg.NewPtrSyncGroupRequest, func(r *kmsg.SyncGroupRequest) { r.Group, r.MemberID = "raw.nobody", "who" })},
	{"Heartbeat of an unknown member", of(kmsg.NewPtrHeartbeatRequest, func(r *kmsg.HeartbeatRequest) { r.Group, r.MemberID = "raw.group", "who" })},
	{"Heartbeat of a missing group", of(kmsg.NewPtrHeartbeatRequest, func(r *kmsg.HeartbeatRequest) { r.Group, r.MemberID = "raw.nobody", "who" })},
	{"Heartbeat of no group", of(kmsg.NewPtrHeartbeatRequest, func(r *kmsg.HeartbeatRequest) { r.MemberID = "who" })},
	{"LeaveGroup of an unknown member", leaveGroup("raw.group")},
	{"LeaveGroup of a missing group", leaveGroup("raw.nobody")},
	{"LeaveGroup of no group", leaveGroup("")},
	{"DescribeGroups", of(kmsg.NewPtrDescribeGroupsRequest, func(r *kmsg.DescribeGroupsRequest) {
		r.Groups, r.IncludeAuthorizedOperations = []string{"raw.group", "raw.nobody", ""}, true
	})},
	{"ListGroups of a state", of(kmsg.NewPtrListGroupsRequest, func(r *kmsg.ListGroupsRequest) {
		r.StatesFilter, r.TypesFilter = []string{"Dead"}, []string{"classic"}
	})},
	{"DeleteGroups", of(kmsg.NewPtrDeleteGroupsRequest, func(r *kmsg.DeleteGroupsRequest) { r.Groups = []string{"raw.nobody", ""} })},
	{"OffsetDelete of a missing group", offsetDelete("raw.nobody", "raw")},
	{"OffsetDelete of a missing topic", offsetDelete("raw.group", "raw.missing")},
	{"OffsetDelete of what is not committed", offsetDelete("raw.group", "raw")},

	{"DescribeTopicPartitions", describePartitions(2000, nil, "raw", "raw.missing", "raw bad")},
	{"DescribeTopicPartitions of one", describePartitions(1, nil, "raw")},
	{"DescribeTopicPartitions from a cursor", describePartitions(10, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "raw", Partition: 1}, "raw")},
	{"DescribeTopicPartitions from a cursor elsewhere", describePartitions(10, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "a"}, "raw", "raw.missing")},
	{"DescribeTopicPartitions from a bad cursor", describePartitions(10, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "raw", Partition: -1}, "raw")},
	{"DescribeCluster", of(kmsg.NewPtrDescribeClusterRequest, func(r *kmsg.DescribeClusterRequest) { r.IncludeClusterAuthorizedOperations = true })},
	{"DescribeProducers", of(kmsg.NewPtrDescribeProducersRequest, func(r *kmsg.DescribeProducersRequest) {
		r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "raw", Partitions: []int32{1, 9}}, {Topic: "raw.missing", Partitions: []int32{0}}}
	})},
	{"OffsetForLeaderEpoch", leaderEpoch("raw", 0, 0, -1)},
	{"OffsetForLeaderEpoch of a later one", leaderEpoch("raw", 0, 5, -1)},
	{"OffsetForLeaderEpoch of none", leaderEpoch("raw", 0, -1, -1)},
	{"OffsetForLeaderEpoch in a later one", leaderEpoch("raw", 0, 0, 5)},
	{"OffsetForLeaderEpoch of a missing topic", leaderEpoch("raw.missing", 0, 0, -1)},
	{"DeleteRecords beyond the end", deleteRecords("raw", 0, 100)},
	{"DeleteRecords before the start", deleteRecords("raw", 0, -2)},
	{"DeleteRecords up to the start", deleteRecords("raw", 0, 0)},
	{"DeleteRecords of a missing topic", deleteRecords("raw.missing", 0, 0)},
	{"DeleteRecords of a missing partition", deleteRecords("raw", 9, 0)},
	{"InitProducerId", of(kmsg.NewPtrInitProducerIDRequest, func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = 1000 })},

	{"Produce of a wrong sum", produce("raw", 0, -1, batch(2, true, 1, -1))},
	{"Produce of a wrong magic", produce("raw", 0, -1, batch(1, false, 1, -1))},
	{"Produce of a wrong count", produce("raw", 0, -1, batch(2, false, 3, -1))},
	{"Produce of an empty set", produce("raw", 0, -1, []byte{})},
	{"Produce with acks 5", produce("raw", 0, 5, batch(2, false, 1, -1))},
	{"Produce to a missing topic", produce("raw.missing", 0, -1, batch(2, false, 1, -1))},
	{"Produce to a missing partition", produce("raw", 9, 1, batch(2, false, 1, -1))},

	{"Fetch", fetch("raw", 0, 0)},
	{"Fetch from the middle", fetch("raw", 0, 6)},
	{"Fetch from the end", fetch("raw", 0, 10)},
	{"Fetch beyond the end", fetch("raw", 0, 11)},
	{"Fetch before the start", fetch("raw", 0, -1)},
	{"Fetch of a missing topic", fetch("raw.missing", 0, 0)},
	{"Fetch of a missing partition", fetch("raw", 9, 0)},
	{"Fetch in a later epoch", fetch("raw", 0, 0, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = 5 })},
	{"Fetch in an unknown session", fetch("raw", 0, 0, func(r *kmsg.FetchRequest) { r.SessionID, r.SessionEpoch = 77, 1 })},
	{"Fetch of few bytes", fetch("raw", 0, 0, func(r *kmsg.FetchRequest) { r.Topics[0].Partitions[0].PartitionMaxBytes = 100 })},
	{"Fetch as a follower", fetch("raw", 0, 0, func(r *kmsg.FetchRequest) { r.ReplicaID = 7; r.ReplicaState.ID = 7 })},
}

func createPartitions(topic string, count int32, assignments ...[]int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrCreatePartitionsRequest, func(r *kmsg.CreatePartitionsRequest) {
		r.TimeoutMillis, r.ValidateOnly = 10000, true
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = topic, count
		for _, a := range assignments {
			t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: a})
		}
		r.Topics = append(r.Topics, t)
	})
}

func leaveGroup(group string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrLeaveGroupRequest, func(r *kmsg.LeaveGroupRequest) {
		r.Group, r.MemberID = group, "who"
		r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: "who"}}
	})
}

func offsetDelete(group, topic string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrOffsetDeleteRequest, func(r *kmsg.OffsetDeleteRequest) {
		r.Group = group
		r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}}}}
	})
}

func describePartitions(limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, topics ...string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDescribeTopicPartitionsRequest, func(r *kmsg.DescribeTopicPartitionsRequest) {
		r.ResponsePartitionLimit, r.Cursor = limit, cursor
		for _, t := range topics {
			r.Topics = append(r.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: t})
		}
	})
}

func leaderEpoch(topic string, partition, epoch, current int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrOffsetForLeaderEpochRequest, func(r *kmsg.OffsetForLeaderEpochRequest) {
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = partition, epoch, current
		r.ReplicaID = -1
		r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
	})
}

func deleteRecords(topic string, partition int32, offset int64) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDeleteRecordsRequest, func(r *kmsg.DeleteRecordsRequest) {
		r.TimeoutMillis = 10000
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}}}
	})
}
