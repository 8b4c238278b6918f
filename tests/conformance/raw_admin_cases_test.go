package conformance_test

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// adminDifferences are those that are known.
var adminDifferences = []difference{
	{"*RaftVoter of another cluster", "/ErrorMessage", "each cluster has an id"},
	{"DescribeQuorum", "/Topics/__cluster_metadata/Partitions/0/HighWatermark", "it counts what the controller has written"},
	{"DescribeQuorum", "/Topics/__cluster_metadata/Partitions/0/LeaderEpoch", "the same"},
	{"DescribeQuorum", "/Topics/__cluster_metadata/Partitions/0/CurrentVoters/0/LogEndOffset", "the same"},
	{"DescribeQuorum", "/Nodes/0/Listeners", "klamm's lone voter listens for no other"},
	{"UpdateFeatures of the quorum", "/ErrorMessage", "klamm does not know the feature, for it has nothing of it"},
	{"UpdateFeatures of groups beyond what is supported", "/ErrorMessage", "the same"},
	{"DescribeTransactions", "/TransactionStates/*/ErrorCode", "the JVM broker has no topic of transactions yet, and says that it is no coordinator"},
}

// adminCases are requests of tools and dashboards. The words of their errors are
// compared too.
var adminCases = []rawCase{
	{"ListConfigResources of all", listResources()},
	{"ListConfigResources of topics", listResources(2)},
	{"ListConfigResources of brokers", listResources(4)},
	{"ListConfigResources of loggers", listResources(8)},
	{"ListConfigResources of client metrics", listResources(16)},
	{"ListConfigResources of groups", listResources(32)},
	{"ListConfigResources of the unknown kind", listResources(0)},
	{"ListConfigResources of a kind that is none", listResources(99)},
	{"ListConfigResources of a negative kind", listResources(-1)},
	{"ListConfigResources of a kind and one that is none", listResources(4, 99)},
	{"ListConfigResources twice", listResources(4, 16, 4)},

	{"AlterPartitionReassignments to where it is", reassign("raw", 0, []int32{1})},
	{"AlterPartitionReassignments to an unknown broker", reassign("raw", 0, []int32{9})},
	{"AlterPartitionReassignments to an unknown broker too", reassign("raw", 0, []int32{1, 9})},
	{"AlterPartitionReassignments to a negative broker", reassign("raw", 0, []int32{-1})},
	{"AlterPartitionReassignments to none", reassign("raw", 0, []int32{})},
	{"AlterPartitionReassignments to one twice", reassign("raw", 0, []int32{1, 1})},
	{"AlterPartitionReassignments cancels nothing", reassign("raw", 0, nil)},
	{"AlterPartitionReassignments of a missing topic", reassign("raw.missing", 0, []int32{1})},
	{"AlterPartitionReassignments cancels a missing topic", reassign("raw.missing", 0, nil)},
	{"AlterPartitionReassignments of no topic", reassign("", 0, []int32{1})},
	{"AlterPartitionReassignments of a missing partition", reassign("raw", 9, []int32{1})},
	{"AlterPartitionReassignments of a negative partition", reassign("raw", -1, []int32{1})},
	{"AlterPartitionReassignments of nothing", of(kmsg.NewPtrAlterPartitionAssignmentsRequest, func(*kmsg.AlterPartitionAssignmentsRequest) {})},
	{"AlterPartitionReassignments twice", of(kmsg.NewPtrAlterPartitionAssignmentsRequest, func(r *kmsg.AlterPartitionAssignmentsRequest) {
		p := kmsg.AlterPartitionAssignmentsRequestTopicPartition{Partition: 0, Replicas: []int32{1}}
		t := kmsg.AlterPartitionAssignmentsRequestTopic{Topic: "raw", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{p, p, {Partition: 1}}}
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{t, t, {Topic: "raw.missing"}}
	})},
	{"AlterPartitionReassignments that keeps the factor", func(_ world, v int16) kmsg.Request {
		if v < 1 {
			return nil
		}
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.AllowReplicationFactorChange = false
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "raw", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
			{Partition: 0, Replicas: []int32{1}}, {Partition: 1, Replicas: []int32{1, 1}}, {Partition: 0, Replicas: []int32{}}, {Partition: 1, Replicas: []int32{1, 9}}, {Partition: 9, Replicas: []int32{1, 9}}, {Partition: 0}}}}
		return r
	}},

	{"ListPartitionReassignments", of(kmsg.NewPtrListPartitionReassignmentsRequest, func(*kmsg.ListPartitionReassignmentsRequest) {})},
	{"ListPartitionReassignments of none", of(kmsg.NewPtrListPartitionReassignmentsRequest, func(r *kmsg.ListPartitionReassignmentsRequest) {
		r.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{}
	})},
	{"ListPartitionReassignments of some", of(kmsg.NewPtrListPartitionReassignmentsRequest, func(r *kmsg.ListPartitionReassignmentsRequest) {
		r.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: "raw", Partitions: []int32{0, 1, 9, -1, 0}}, {Topic: "raw.missing", Partitions: []int32{0}}, {Topic: "raw"}, {Topic: ""}}
	})},

	{"ElectLeaders", electLeaders(0, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{0, 1}})},
	{"ElectLeaders uncleanly", electLeaders(1, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{0, 1}})},
	{"ElectLeaders of a kind that is none", electLeaders(9, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{0}})},
	{"ElectLeaders of a negative kind", electLeaders(-1, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{0}})},
	{"ElectLeaders of all", electLeaders(0)},
	{"ElectLeaders of all uncleanly", electLeaders(1)},
	{"ElectLeaders of none", of(kmsg.NewPtrElectLeadersRequest, func(r *kmsg.ElectLeadersRequest) { r.Topics = []kmsg.ElectLeadersRequestTopic{} })},
	{"ElectLeaders of what is missing", electLeaders(0, kmsg.ElectLeadersRequestTopic{Topic: "raw.missing", Partitions: []int32{0}},
		kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{9, -1, 0, 0}}, kmsg.ElectLeadersRequestTopic{Topic: "", Partitions: []int32{0}}, kmsg.ElectLeadersRequestTopic{Topic: "raw.none"})},
	{"ElectLeaders uncleanly of what is missing", electLeaders(1, kmsg.ElectLeadersRequestTopic{Topic: "raw.missing", Partitions: []int32{0}})},
	{"ElectLeaders twice", electLeaders(0, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{0}}, kmsg.ElectLeadersRequestTopic{Topic: "raw", Partitions: []int32{1}})},

	{"DescribeQuorum", describeQuorum("__cluster_metadata", 0)},
	{"DescribeQuorum of a missing partition", describeQuorum("__cluster_metadata", 1)},
	{"DescribeQuorum of two partitions", describeQuorum("__cluster_metadata", 0, 1)},
	{"DescribeQuorum of another topic", describeQuorum("raw", 0)},
	{"DescribeQuorum of no topic", describeQuorum("", 0)},
	{"DescribeQuorum of no partition", describeQuorum("__cluster_metadata")},
	{"DescribeQuorum of nothing", of(kmsg.NewPtrDescribeQuorumRequest, func(*kmsg.DescribeQuorumRequest) {})},
	{"DescribeQuorum of two topics", of(kmsg.NewPtrDescribeQuorumRequest, func(r *kmsg.DescribeQuorumRequest) {
		p := []kmsg.DescribeQuorumRequestTopicPartition{{}}
		r.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: p}, {Topic: "raw", Partitions: p}}
	})},

	{"UpdateFeatures of nothing", updateFeatures()},
	{"UpdateFeatures of an unknown one", updateFeatures(feature("no.such", 1, 1))},
	{"UpdateFeatures of no name", updateFeatures(feature("", 1, 1))},
	{"UpdateFeatures to the level it has", updateFeatures(feature("metadata.version", 30, 1))},
	{"UpdateFeatures beyond what is supported", updateFeatures(feature("metadata.version", 99, 1))},
	{"UpdateFeatures to a test level", updateFeatures(feature("metadata.version", 31, 1))},
	{"UpdateFeatures to a negative level", updateFeatures(feature("metadata.version", -1, 1))},
	{"UpdateFeatures to 0", updateFeatures(feature("metadata.version", 0, 1))},
	{"UpdateFeatures to 0 safely", updateFeatures(feature("metadata.version", 0, 2))},
	{"UpdateFeatures below what is supported", updateFeatures(feature("metadata.version", 6, 2))},
	{"UpdateFeatures down by an upgrade", updateFeatures(feature("metadata.version", 29, 1))},
	{"UpdateFeatures down safely", updateFeatures(feature("metadata.version", 29, 2))},
	{"UpdateFeatures down unsafely", updateFeatures(feature("metadata.version", 29, 3))},
	{"UpdateFeatures far down safely", updateFeatures(feature("metadata.version", 7, 2))},
	{"UpdateFeatures far down unsafely", updateFeatures(feature("metadata.version", 7, 3))},
	{"UpdateFeatures by a kind that is none", updateFeatures(feature("metadata.version", 29, 9))},
	{"UpdateFeatures by the unknown kind", updateFeatures(feature("metadata.version", 29, 0))},
	{"UpdateFeatures down to the level it has", updateFeatures(feature("metadata.version", 30, 2))},
	{"UpdateFeatures unsafely to the level it has", updateFeatures(feature("metadata.version", 30, 3))},
	{"UpdateFeatures of an unknown one down", updateFeatures(feature("no.such", 0, 2))},
	{"UpdateFeatures of the quorum", updateFeatures(feature("kraft.version", 9, 1))},
	{"UpdateFeatures of the quorum down", updateFeatures(feature("kraft.version", -1, 2))},
	{"UpdateFeatures of groups beyond what is supported", updateFeatures(feature("group.version", 9, 1))},
	{"UpdateFeatures of groups to a negative level", updateFeatures(feature("group.version", -1, 2))},
	{"UpdateFeatures of two", updateFeatures(feature("metadata.version", 30, 1), feature("no.such", 1, 1))},
	{"UpdateFeatures of an unknown one to 0", updateFeatures(feature("no.such", 0, 1))},
	{"UpdateFeatures twice", updateFeatures(feature("metadata.version", 30, 1), feature("metadata.version", 29, 1))},

	{"ListTransactions", of(kmsg.NewPtrListTransactionsRequest, func(*kmsg.ListTransactionsRequest) {})},
	{"ListTransactions of states", of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) {
		r.StateFilters, r.ProducerIDFilters = []string{"Ongoing", "bogus", "ongoing", "", "bogus"}, []int64{1, -1}
	})},
	{"ListTransactions of every state", of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) {
		r.StateFilters = []string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}
	})},
	{"ListTransactions that last", atLeast(1, of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = -5 }))},
	{"ListTransactions by a pattern", atLeast(2, of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = ptr("a.*") }))},
	{"ListTransactions by an empty pattern", atLeast(2, of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = ptr("") }))},
	{"ListTransactions by a bad pattern", atLeast(2, of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) { r.TransactionalIDPattern = ptr("[") }))},
	{"ListTransactions by a bad pattern and states", atLeast(2, of(kmsg.NewPtrListTransactionsRequest, func(r *kmsg.ListTransactionsRequest) {
		r.TransactionalIDPattern, r.StateFilters = ptr("(a"), []string{"bogus"}
	}))},
	{"DescribeTransactions", of(kmsg.NewPtrDescribeTransactionsRequest, func(r *kmsg.DescribeTransactionsRequest) {
		r.TransactionalIDs = []string{"raw.txn", "raw.other", "raw.txn"}
	})},
	{"DescribeTransactions of no id", of(kmsg.NewPtrDescribeTransactionsRequest, func(r *kmsg.DescribeTransactionsRequest) { r.TransactionalIDs = []string{""} })},
	{"DescribeTransactions of none", of(kmsg.NewPtrDescribeTransactionsRequest, func(*kmsg.DescribeTransactionsRequest) {})},

	{"AlterReplicaLogDirs to where it is", moveDir(ownDir, "raw", 0, 1)},
	{"AlterReplicaLogDirs to an unknown directory", moveDir("/no/such", "raw", 0)},
	{"AlterReplicaLogDirs to a relative directory", moveDir("data", "raw", 0)},
	{"AlterReplicaLogDirs to no directory", moveDir("", "raw", 0)},
	{"AlterReplicaLogDirs of a missing topic", moveDir(ownDir, "raw.missing", 0)},
	{"AlterReplicaLogDirs of a missing topic to an unknown directory", moveDir("/no/such", "raw.missing", 0)},
	{"AlterReplicaLogDirs of a missing partition", moveDir(ownDir, "raw", 9, -1)},
	{"AlterReplicaLogDirs of a topic of 250 letters", moveDir(ownDir, strings.Repeat("x", 250), 0)},
	{"AlterReplicaLogDirs of a topic of 212 letters", moveDir(ownDir, strings.Repeat("x", 212), 0)},
	{"AlterReplicaLogDirs of a topic of 213 letters", moveDir(ownDir, strings.Repeat("x", 213), 0)},
	{"AlterReplicaLogDirs of a topic of 250 letters to an unknown directory", moveDir("/no/such", strings.Repeat("x", 250), 0)},
	{"AlterReplicaLogDirs of no topic", moveDir(ownDir, "", 0)},
	{"AlterReplicaLogDirs of nothing", of(kmsg.NewPtrAlterReplicaLogDirsRequest, func(*kmsg.AlterReplicaLogDirsRequest) {})},
	{"AlterReplicaLogDirs to two", func(w world, _ int16) kmsg.Request {
		r := kmsg.NewPtrAlterReplicaLogDirsRequest()
		raw := []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "raw", Partitions: []int32{0, 0}}}
		r.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: w.dir, Topics: raw}, {Dir: "/no/such", Topics: raw}, {Dir: "/nor/such", Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "raw", Partitions: []int32{1}}}}}
		return r
	}},

	{"UnregisterBroker of an unknown one", unregister(9)},
	{"UnregisterBroker of a negative one", unregister(-1)},

	{"AddRaftVoter where voters do not change", of(kmsg.NewPtrAddRaftVoterRequest, func(r *kmsg.AddRaftVoterRequest) {
		r.TimeoutMillis, r.VoterID, r.VoterDirectoryID = 1000, 9, [16]byte{1: 9}
		r.Listeners = []kmsg.AddRaftVoterRequestListener{{Name: "CONTROLLER", Host: "127.0.0.1", Port: 9}}
	})},
	{"AddRaftVoter of another cluster", of(kmsg.NewPtrAddRaftVoterRequest, func(r *kmsg.AddRaftVoterRequest) {
		r.ClusterID, r.TimeoutMillis, r.VoterID = ptr("another"), 1000, 9
	})},
	{"RemoveRaftVoter where voters do not change", of(kmsg.NewPtrRemoveRaftVoterRequest, func(r *kmsg.RemoveRaftVoterRequest) {
		r.VoterID, r.VoterDirectoryID = 9, [16]byte{1: 9}
	})},
	{"RemoveRaftVoter of another cluster", of(kmsg.NewPtrRemoveRaftVoterRequest, func(r *kmsg.RemoveRaftVoterRequest) {
		r.ClusterID, r.VoterID = ptr("another"), 9
	})},

	{"DescribeClientQuotas", quotas(false)},
	{"DescribeClientQuotas strictly", quotas(true)},
	{"DescribeClientQuotas of a user", quotas(false, quota("user", 0, ptr("alice")))},
	{"DescribeClientQuotas of a user and a client", quotas(true, quota("user", 0, ptr("alice")), quota("client-id", 2, nil))},
	{"DescribeClientQuotas of the default", quotas(false, quota("client-id", 1, nil))},
	{"DescribeClientQuotas of any", quotas(false, quota("ip", 2, nil))},
	{"DescribeClientQuotas of a kind that is none", quotas(false, quota("planet", 2, nil))},
	{"DescribeClientQuotas of no kind", quotas(false, quota("", 2, nil))},
	{"DescribeClientQuotas of users twice", quotas(false, quota("user", 0, ptr("a")), quota("user", 0, ptr("b")))},
	{"DescribeClientQuotas of users and addresses", quotas(false, quota("user", 0, ptr("a")), quota("ip", 0, ptr("b")))},
	{"DescribeClientQuotas of a null", quotas(false, quota("user", 0, nil))},
	{"DescribeClientQuotas of an empty name", quotas(false, quota("user", 0, ptr("")))},
	{"DescribeClientQuotas of the default with a name", quotas(false, quota("user", 1, ptr("a")))},
	{"DescribeClientQuotas of any with a name", quotas(false, quota("user", 2, ptr("a")))},
	{"DescribeClientQuotas of a bad address", quotas(false, quota("ip", 0, ptr("no address")))},

	{"DescribeUserScramCredentials", of(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest, func(*kmsg.DescribeUserSCRAMCredentialsRequest) {})},
	{"DescribeUserScramCredentials of none", of(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest, func(r *kmsg.DescribeUserSCRAMCredentialsRequest) {
		r.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{}
	})},
	{"DescribeUserScramCredentials of some", of(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest, func(r *kmsg.DescribeUserSCRAMCredentialsRequest) {
		r.Users = []kmsg.DescribeUserSCRAMCredentialsRequestUser{{Name: "alice"}, {Name: "bob"}, {Name: "alice"}, {Name: ""}, {Name: "bob"}, {Name: "bob"}}
	})},

	{"DescribeAcls", describeACLs(1, nil, 1, 1, 1)},
	{"DescribeAcls of a topic", describeACLs(2, ptr("raw"), 3, 3, 3)},
	{"DescribeAcls of an unknown kind", describeACLs(0, nil, 1, 1, 1)},
	{"DescribeAcls of a kind that is none", describeACLs(99, nil, 1, 1, 1)},
	{"DescribeAcls by an unknown pattern", describeACLs(2, nil, 0, 1, 1)},
	{"DescribeAcls by a pattern that is none", describeACLs(2, nil, 77, 1, 1)},
	{"DescribeAcls of an unknown operation", describeACLs(2, nil, 1, 0, 1)},
	{"DescribeAcls of a permission that is none", describeACLs(2, nil, 1, 1, 77)},
	{"DescribeAcls of a prefix", describeACLs(2, ptr("a"), 4, 1, 1)},
	{"CreateAcls of none", of(kmsg.NewPtrCreateACLsRequest, func(*kmsg.CreateACLsRequest) {})},
	{"CreateAcls", createACLs(acl(2, "raw", 3, "User:a", "*", 3, 3), acl(2, "raw", 4, "User:b", "*", 4, 2))},
	{"CreateAcls of an unknown kind", createACLs(acl(0, "raw", 3, "User:a", "*", 3, 3))},
	{"CreateAcls of any kind", createACLs(acl(1, "raw", 3, "User:a", "*", 3, 3))},
	{"CreateAcls of an unknown pattern", createACLs(acl(2, "raw", 0, "User:a", "*", 3, 3))},
	{"CreateAcls of any pattern", createACLs(acl(2, "raw", 1, "User:a", "*", 3, 3))},
	{"CreateAcls of an unknown operation", createACLs(acl(2, "raw", 3, "User:a", "*", 0, 3))},
	{"CreateAcls of an unknown permission", createACLs(acl(2, "raw", 3, "User:a", "*", 3, 0))},
	{"CreateAcls of a bad principal", createACLs(acl(2, "raw", 3, "nobody", "*", 3, 3))},
	{"CreateAcls of a prefix", createACLs(acl(2, "raw", 4, "User:a", "*", 3, 3))},
	{"DeleteAcls of none", of(kmsg.NewPtrDeleteACLsRequest, func(*kmsg.DeleteACLsRequest) {})},
	{"DeleteAcls", deleteACLs(filter(1, nil, 1, 1, 1), filter(2, ptr("raw"), 3, 3, 3))},
	{"DeleteAcls of an unknown kind", deleteACLs(filter(0, nil, 1, 1, 1))},
	{"DeleteAcls of an unknown pattern", deleteACLs(filter(2, nil, 0, 1, 1))},
	{"DeleteAcls of a prefix", deleteACLs(filter(2, nil, 4, 1, 1))},
	{"DeleteAcls of an unknown operation", deleteACLs(filter(2, nil, 1, 0, 1))},

	{"SaslHandshake", sasl("PLAIN")},
	{"SaslHandshake of no mechanism", sasl("")},
	{"SaslAuthenticate", of(kmsg.NewPtrSASLAuthenticateRequest, func(r *kmsg.SASLAuthenticateRequest) { r.SASLAuthBytes = []byte("\x00a\x00b") })},

	{"DescribeCluster of controllers", cluster(2)},
	{"DescribeCluster of a kind that is none", cluster(9)},
	{"DescribeCluster of kind 0", cluster(0)},
}

// ownDir stands for a log directory that the broker has.
const ownDir = "\x00own"

func atLeast(version int16, build func(world, int16) kmsg.Request) func(world, int16) kmsg.Request {
	return func(w world, v int16) kmsg.Request {
		if v < version {
			return nil
		}
		return build(w, v)
	}
}

func listResources(kinds ...int8) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		if v == 0 && len(kinds) > 0 {
			return nil
		}
		r := kmsg.NewPtrListConfigResourcesRequest()
		r.ResourceTypes = kinds
		return r
	}
}

func reassign(topic string, partition int32, replicas []int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrAlterPartitionAssignmentsRequest, func(r *kmsg.AlterPartitionAssignmentsRequest) {
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: partition, Replicas: replicas}}}}
	})
}

func electLeaders(kind int8, topics ...kmsg.ElectLeadersRequestTopic) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		if v == 0 && kind != 0 {
			return nil
		}
		r := kmsg.NewPtrElectLeadersRequest()
		r.ElectionType, r.Topics = kind, topics
		return r
	}
}

func describeQuorum(topic string, partitions ...int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDescribeQuorumRequest, func(r *kmsg.DescribeQuorumRequest) {
		t := kmsg.DescribeQuorumRequestTopic{Topic: topic}
		for _, p := range partitions {
			t.Partitions = append(t.Partitions, kmsg.DescribeQuorumRequestTopicPartition{Partition: p})
		}
		r.Topics = append(r.Topics, t)
	})
}

// feature is one change of a feature; kinds of change are 1 upgrade, 2 safe and
// 3 unsafe downgrade.
func feature(name string, level int16, kind int8) kmsg.UpdateFeaturesRequestFeatureUpdate {
	return kmsg.UpdateFeaturesRequestFeatureUpdate{Feature: name, MaxVersionLevel: level, UpgradeType: kind, AllowDowngrade: kind == 2}
}

// updateFeatures only asks what would happen, where it can.
func updateFeatures(updates ...kmsg.UpdateFeaturesRequestFeatureUpdate) func(world, int16) kmsg.Request {
	return func(_ world, v int16) kmsg.Request {
		r := kmsg.NewPtrUpdateFeaturesRequest()
		r.ValidateOnly, r.FeatureUpdates = true, updates
		return r
	}
}

func moveDir(dir, topic string, partitions ...int32) func(world, int16) kmsg.Request {
	return func(w world, _ int16) kmsg.Request {
		r := kmsg.NewPtrAlterReplicaLogDirsRequest()
		d := dir
		if d == ownDir {
			d = w.dir
		}
		r.Dirs = []kmsg.AlterReplicaLogDirsRequestDir{{Dir: d, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: topic, Partitions: partitions}}}}
		return r
	}
}

func unregister(id int32) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrUnregisterBrokerRequest, func(r *kmsg.UnregisterBrokerRequest) { r.BrokerID = id })
}

func quota(entity string, match int8, name *string) kmsg.DescribeClientQuotasRequestComponent {
	return kmsg.DescribeClientQuotasRequestComponent{EntityType: entity, MatchType: kmsg.QuotasMatchType(match), Match: name}
}

func quotas(strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDescribeClientQuotasRequest, func(r *kmsg.DescribeClientQuotasRequest) {
		r.Strict, r.Components = strict, components
	})
}

func describeACLs(kind int8, name *string, pattern, operation, permission int8) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDescribeACLsRequest, func(r *kmsg.DescribeACLsRequest) {
		r.ResourceType, r.ResourceName, r.ResourcePatternType = kmsg.ACLResourceType(kind), name, kmsg.ACLResourcePatternType(pattern)
		r.Operation, r.PermissionType = kmsg.ACLOperation(operation), kmsg.ACLPermissionType(permission)
	})
}

func acl(kind int8, name string, pattern int8, principal, host string, operation, permission int8) kmsg.CreateACLsRequestCreation {
	return kmsg.CreateACLsRequestCreation{ResourceType: kmsg.ACLResourceType(kind), ResourceName: name, ResourcePatternType: kmsg.ACLResourcePatternType(pattern),
		Principal: principal, Host: host, Operation: kmsg.ACLOperation(operation), PermissionType: kmsg.ACLPermissionType(permission)}
}

func createACLs(all ...kmsg.CreateACLsRequestCreation) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrCreateACLsRequest, func(r *kmsg.CreateACLsRequest) { r.Creations = all })
}

func filter(kind int8, name *string, pattern, operation, permission int8) kmsg.DeleteACLsRequestFilter {
	return kmsg.DeleteACLsRequestFilter{ResourceType: kmsg.ACLResourceType(kind), ResourceName: name, ResourcePatternType: kmsg.ACLResourcePatternType(pattern),
		Operation: kmsg.ACLOperation(operation), PermissionType: kmsg.ACLPermissionType(permission)}
}

func deleteACLs(all ...kmsg.DeleteACLsRequestFilter) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrDeleteACLsRequest, func(r *kmsg.DeleteACLsRequest) { r.Filters = all })
}

func sasl(mechanism string) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrSASLHandshakeRequest, func(r *kmsg.SASLHandshakeRequest) { r.Mechanism = mechanism })
}

func cluster(endpoint int8) func(world, int16) kmsg.Request {
	return atLeast(1, of(kmsg.NewPtrDescribeClusterRequest, func(r *kmsg.DescribeClusterRequest) {
		r.IncludeClusterAuthorizedOperations, r.EndpointType = true, endpoint
	}))
}

// manyTopics asks for count topics of so many partitions each.
func manyTopics(count int, partitions int32, change func(*kmsg.CreateTopicsRequestTopic)) func(world, int16) kmsg.Request {
	return of(kmsg.NewPtrCreateTopicsRequest, func(r *kmsg.CreateTopicsRequest) {
		r.TimeoutMillis, r.ValidateOnly = 30000, true
		for i := range count {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("raw.many.%d", i), partitions, 1
			if change != nil {
				change(&t)
			}
			r.Topics = append(r.Topics, t)
		}
	})
}
