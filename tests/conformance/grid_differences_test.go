package conformance_test

// Reasons that several differences have.
const (
	fails   = "the JVM broker fails over it with an exception that has no code; klamm says what is wrong with the request, or ignores it"
	chance  = "which of several is told of first is chance in the JVM broker"
	words   = "klamm says what is wrong in words of its own"
	static4 = "the JVM broker cannot start without it, klamm has a default"
	toCome  = "transactions, KIP-848, share and streams groups are to come"
	sizes   = "how much stands in internal topics depends on what each broker writes there"
)

// gridDifferences are the differences of the grid that are known. One that has
// gone must be taken off, unless whether it shows is a matter of chance.
var gridDifferences = []gridDifference{
	{"ApiVersions", "*", "ApiKeys", toCome},
	{"ApiVersions", "*", "SupportedFeatures", toCome},
	{"ApiVersions", "*", "FinalizedFeatures", toCome},
	{"ApiVersions", "*", "FinalizedFeaturesEpoch", "it counts what the controller has written"},
	{"FindCoordinator", "KeyType 1", "*", toCome},
	{"FindCoordinator", "KeyType 2", "*ErrorMessage", toCome},
	{"FindCoordinator", "KeyType *", "*ErrorMessage", words},
	{"InitProducerId", "TransactionalId *", "*", toCome},
	{"DescribeTransactions", "TransactionalIds *", "TransactionStates.*", toCome},
	{"ListTransactions", "TransactionalIdPattern no UTF-8", "ErrorCode", "klamm does not take bytes that are no text for a regular expression"},
	{"ListConfigResources", "ResourceTypes *", "ConfigResources", toCome},
	{"DescribeLogDirs", "Topics null", "*", toCome},
	{"DescribeTopicPartitions", "Topics empty", "*", toCome},
	{"ElectLeaders", "TopicPartitions null", "ReplicaElectionResults", toCome},

	{"DescribeConfigs of a broker", "Resources.ConfigurationKeys *", "Results.Configs broker.id.*", static4},
	{"DescribeConfigs of a broker", "Resources.ConfigurationKeys *", "Results.Configs *", "how each broker was started"},

	{"Fetch*", "IsolationLevel *", "*", fails},
	{"Fetch*", "MaxBytes *", "*", fails},
	{"Fetch*", "Topics.Partitions.PartitionMaxBytes *", "*", fails},
	{"Fetch*", "SessionId the *", "*", fails},
	{"ListOffsets", "IsolationLevel *", "*", fails},
	{"JoinGroup*", "Protocols twice the same", "*", fails},
	{"JoinGroup*", "Protocols.Metadata garbage", "*", fails},
	{"Produce", "TopicData.PartitionData.Records null", "", "the JVM broker never answers"},
	{"*", "*of 32767 letters", "*", fails},
	{"DescribeTopicPartitions", "Topics.Name empty", "*", fails},
	{"DescribeTopicPartitions from a cursor", "Cursor.PartitionIndex the highest", "NextCursor", "the JVM broker counts over the end of the numbers"},
	{"JoinGroup*", "Protocols.Name empty", "ProtocolName", "klamm names the protocol that was chosen, though its name is empty"},

	{"*AlterConfigs*", "Resources.Configs many", "Responses.ErrorMessage", chance},
	{"CreateTopics", "Topics.Configs many", "Topics.ErrorMessage", chance},
	{"DescribeUserScramCredentials", "Users *", "Results.*", chance},
	{"UpdateFeatures", "FeatureUpdates many", "ErrorMessage", chance},
	{"UpdateFeatures", "FeatureUpdates twice the same", "Results", "klamm answers for a feature once"},
	{"IncrementalAlterConfigs that appends", "Resources.Configs.Value empty", "*", "klamm appends nothing, and refuses nothing"},

	{"DeleteTopics*", "Topics*", "Responses.ErrorMessage", words},
	{"DescribeProducers", "Topics*", "Topics.Partitions.ErrorMessage", words},
	{"Produce", "TopicData.*", "Responses.PartitionResponses.ErrorMessage", words},

	{"Metadata", "Topics*", "Topics.*", "a topic that a client named is ready when klamm answers"},

	{"*RaftVoter", "ClusterId *", "ErrorMessage", "each cluster has an id"},
	{"DescribeQuorum", "*", "Topics.Partitions.*", "what klamm counts in its metadata log is another log"},
	{"DescribeQuorum", "*", "Nodes.Listeners", "klamm's controller has no listener of Kafka's protocol"},
	{"DescribeLogDirs", "Topics.Topic the group topic", "Results.Topics.Partitions.PartitionSize", sizes},
	{"OffsetForLeaderEpoch", "Topics.Topic the group topic", "Topics.Partitions.EndOffset", sizes},
}
