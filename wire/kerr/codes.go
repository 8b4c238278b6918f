package kerr

// The codes of Kafka 4.3.1, in the order of their numbers.
const (
	UnknownServerError                 Code = -1  // broker hit a fault it has no code for
	None                               Code = 0   // success
	OffsetOutOfRange                   Code = 1   // fetch position lies outside log start..log end
	CorruptMessage                     Code = 2   // bad CRC, size, or key rule broken in the data
	UnknownTopicOrPartition            Code = 3   // partition (or topic) is not hosted here or does not exist
	InvalidFetchSize                   Code = 4   // fetch size value is unacceptable
	LeaderNotAvailable                 Code = 5   // partition has no elected leader now
	NotLeaderOrFollower                Code = 6   // broker is not leader (or not even a replica) of the partition
	RequestTimedOut                    Code = 7   // not finished within the request's timeout
	BrokerNotAvailable                 Code = 8   // target broker is down
	ReplicaNotAvailable                Code = 9   // replica for the partition is not usable here yet
	MessageTooLarge                    Code = 10  // batch is larger than max.message.bytes
	StaleControllerEpoch               Code = 11  // sender's controller epoch is old
	OffsetMetadataTooLarge             Code = 12  // commit metadata string longer than offset.metadata.max.bytes
	NetworkException                   Code = 13  // connection lost before the response came (client side)
	CoordinatorLoadInProgress          Code = 14  // coordinator is still replaying its log
	CoordinatorNotAvailable            Code = 15  // coordinator partition missing or not ready
	NotCoordinator                     Code = 16  // ask FindCoordinator again: this broker is not the coordinator
	InvalidTopicException              Code = 17  // topic name illegal, or operation not permitted on that topic
	RecordListTooLarge                 Code = 18  // whole append is larger than a segment may be
	NotEnoughReplicas                  Code = 19  // ISR smaller than min.insync.replicas; nothing appended
	NotEnoughReplicasAfterAppend       Code = 20  // appended, but ISR shrank below min.insync.replicas before the acknowledgement
	InvalidRequiredAcks                Code = 21  // acks is none of -1, 0, 1
	IllegalGeneration                  Code = 22  // group generation in the request is not the current one
	InconsistentGroupProtocol          Code = 23  // no common protocol type/name with the group
	InvalidGroupId                     Code = 24  // group id is empty or malformed
	UnknownMemberId                    Code = 25  // member id is not in the group
	InvalidSessionTimeout              Code = 26  // session timeout outside the broker's min/max
	RebalanceInProgress                Code = 27  // group is rebalancing: rejoin
	InvalidCommitOffsetSize            Code = 28  // commit record would be too large to store
	TopicAuthorizationFailed           Code = 29  // no right on a named topic
	GroupAuthorizationFailed           Code = 30  // no right on the group
	ClusterAuthorizationFailed         Code = 31  // no right on the cluster
	InvalidTimestamp                   Code = 32  // record timestamp too far from broker time
	UnsupportedSaslMechanism           Code = 33  // SASL mechanism not enabled
	IllegalSaslState                   Code = 34  // SASL message not permitted at this point
	UnsupportedVersion                 Code = 35  // API version not known to this broker
	TopicAlreadyExists                 Code = 36  // a topic of that name is already there
	InvalidPartitions                  Code = 37  // partition count not usable
	InvalidReplicationFactor           Code = 38  // replication factor not between 1 and live brokers
	InvalidReplicaAssignment           Code = 39  // manual assignment has wrong brokers, counts or duplicates
	InvalidConfig                      Code = 40  // config key or value refused
	NotController                      Code = 41  // not the active controller
	InvalidRequest                     Code = 42  // request breaks a protocol rule
	UnsupportedForMessageFormat        Code = 43  // stored message format cannot serve this
	PolicyViolation                    Code = 44  // a configured policy plug-in refused it
	OutOfOrderSequenceNumber           Code = 45  // idempotent sequence is not the next one expected
	DuplicateSequenceNumber            Code = 46  // batch already appended earlier (older than the cached five)
	InvalidProducerEpoch               Code = 47  // producer epoch is older than the one on the log
	InvalidTxnState                    Code = 48  // transaction state does not allow the step
	InvalidProducerIdMapping           Code = 49  // producer id does not belong to this transactional id
	InvalidTransactionTimeout          Code = 50  // requested transaction timeout exceeds transaction.max.timeout.ms
	ConcurrentTransactions             Code = 51  // previous transaction step still running: back off and retry
	TransactionCoordinatorFenced       Code = 52  // markers came from a coordinator of an older epoch
	TransactionalIdAuthorizationFailed Code = 53  // no right on the transactional id
	SecurityDisabled                   Code = 54  // no authorizer configured, so ACL calls are off
	OperationNotAttempted              Code = 55  // left untouched because another part of the batch failed
	KafkaStorageError                  Code = 56  // log directory failed (disk error)
	LogDirNotFound                     Code = 57  // named log directory does not exist on the broker
	SaslAuthenticationFailed           Code = 58  // credentials refused
	UnknownProducerId                  Code = 59  // partition holds no state for the producer id
	ReassignmentInProgress             Code = 60  // partition is being reassigned already
	DelegationTokenAuthDisabled        Code = 61  // delegation tokens not enabled (no secret key)
	DelegationTokenNotFound            Code = 62  // no such delegation token
	DelegationTokenOwnerMismatch       Code = 63  // principal may not own or renew that token
	DelegationTokenRequestNotAllowed   Code = 64  // token request over a channel that cannot carry it
	DelegationTokenAuthorizationFailed Code = 65  // no right on the delegation token
	DelegationTokenExpired             Code = 66  // delegation token past its lifetime
	InvalidPrincipalType               Code = 67  // principal type not usable here
	NonEmptyGroup                      Code = 68  // group still has members
	GroupIdNotFound                    Code = 69  // no such group
	FetchSessionIdNotFound             Code = 70  // fetch session evicted or never existed
	InvalidFetchSessionEpoch           Code = 71  // fetch session epoch is not the next expected
	ListenerNotFound                   Code = 72  // leader has no endpoint on the listener the client used
	TopicDeletionDisabled              Code = 73  // delete.topic.enable is false
	FencedLeaderEpoch                  Code = 74  // client's leader epoch is older than the broker's
	UnknownLeaderEpoch                 Code = 75  // client's leader epoch is newer than the broker's
	UnsupportedCompressionType         Code = 76  // codec cannot be served to this request version
	StaleBrokerEpoch                   Code = 77  // broker registered again since (old broker epoch)
	OffsetNotAvailable                 Code = 78  // new leader's high watermark not yet trustworthy
	MemberIdRequired                   Code = 79  // first join answered with an id: join again with it
	PreferredLeaderNotAvailable        Code = 80  // preferred replica cannot lead now
	GroupMaxSizeReached                Code = 81  // group.max.size reached
	FencedInstanceId                   Code = 82  // another member took over this group.instance.id
	EligibleLeadersNotAvailable        Code = 83  // no replica eligible to lead
	ElectionNotNeeded                  Code = 84  // leader is already the wanted one
	NoReassignmentInProgress           Code = 85  // nothing to cancel for the partition
	GroupSubscribedToTopic             Code = 86  // group still consumes the topic
	InvalidRecord                      Code = 87  // a record failed validation, see per-record errors
	UnstableOffsetCommit               Code = 88  // pending transactional commits exist for the partition
	ThrottlingQuotaExceeded            Code = 89  // mutation quota exhausted: wait throttle time
	ProducerFenced                     Code = 90  // newer producer instance owns the transactional id
	ResourceNotFound                   Code = 91  // named resource unknown
	DuplicateResource                  Code = 92  // same resource named twice in the request
	UnacceptableCredential             Code = 93  // SCRAM credential parameters refused
	InconsistentVoterSet               Code = 94  // sender or receiver is not in the voter set
	InvalidUpdateVersion               Code = 95  // feature level change not allowed
	FeatureUpdateFailed                Code = 96  // feature change failed at the controller
	PrincipalDeserializationFailure    Code = 97  // forwarded principal could not be read
	SnapshotNotFound                   Code = 98  // no such snapshot
	PositionOutOfRange                 Code = 99  // byte position outside the snapshot
	UnknownTopicId                     Code = 100 // no topic with that id here
	DuplicateBrokerRegistration        Code = 101 // broker id is in use by a live broker
	BrokerIdNotRegistered              Code = 102 // broker id never registered
	InconsistentTopicId                Code = 103 // topic id differs from the one in the log
	InconsistentClusterId              Code = 104 // cluster id differs
	TransactionalIdNotFound            Code = 105 // no state for that transactional id
	FetchSessionTopicIdError           Code = 106 // session mixed topic ids and names
	IneligibleReplica                  Code = 107 // proposed ISR holds a fenced or shutting-down replica
	NewLeaderElected                   Code = 108 // change applied, and leadership moved with it
	OffsetMovedToTieredStorage         Code = 109 // data at that offset is only in remote storage
	FencedMemberEpoch                  Code = 110 // member epoch refused: drop partitions and rejoin
	UnreleasedInstanceId               Code = 111 // previous holder of the instance id must leave first
	UnsupportedAssignor                Code = 112 // server assignor name not configured
	StaleMemberEpoch                   Code = 113 // member epoch is behind: take the newer one from a heartbeat
	MismatchedEndpointType             Code = 114 // broker endpoint asked for controller data or the reverse
	UnsupportedEndpointType            Code = 115 // endpoint type value not implemented
	UnknownControllerId                Code = 116 // no such controller
	UnknownSubscriptionId              Code = 117 // telemetry subscription id is out of date
	TelemetryTooLarge                  Code = 118 // telemetry payload above telemetry.max.bytes
	InvalidRegistration                Code = 119 // controller refused the broker's registration
	TransactionAbortable               Code = 120 // transaction must be aborted, producer may then go on
	InvalidRecordState                 Code = 121 // record is not in a state that takes this acknowledgement
	ShareSessionNotFound               Code = 122 // share session unknown
	InvalidShareSessionEpoch           Code = 123 // share session epoch is not the next expected
	FencedStateEpoch                   Code = 124 // share state written with an old state epoch
	InvalidVoterKey                    Code = 125 // voter id and directory id do not match this replica
	DuplicateVoter                     Code = 126 // voter is already in the set
	VoterNotFound                      Code = 127 // voter is not in the set
	InvalidRegularExpression           Code = 128 // subscription pattern does not compile (RE2 syntax)
	RebootstrapRequired                Code = 129 // client must start over from bootstrap servers
	StreamsInvalidTopology             Code = 130 // streams topology refused
	StreamsInvalidTopologyEpoch        Code = 131 // streams topology epoch not usable
	StreamsTopologyFenced              Code = 132 // streams topology epoch is behind the group's
	ShareSessionLimitReached           Code = 133 // broker has no room for another share session
)

// table holds the facts of code c at index c+1. It is checked against the protocol
// table in testdata.
var table = [...]fact{
	UnknownServerError + 1:                 {"UNKNOWN_SERVER_ERROR", "broker hit a fault it has no code for", false, RefreshNone},
	None + 1:                               {"NONE", "success", false, RefreshNone},
	OffsetOutOfRange + 1:                   {"OFFSET_OUT_OF_RANGE", "fetch position lies outside log start..log end", false, RefreshNone},
	CorruptMessage + 1:                     {"CORRUPT_MESSAGE", "bad CRC, size, or key rule broken in the data", true, RefreshNone},
	UnknownTopicOrPartition + 1:            {"UNKNOWN_TOPIC_OR_PARTITION", "partition (or topic) is not hosted here or does not exist", true, RefreshMetadata},
	InvalidFetchSize + 1:                   {"INVALID_FETCH_SIZE", "fetch size value is unacceptable", false, RefreshNone},
	LeaderNotAvailable + 1:                 {"LEADER_NOT_AVAILABLE", "partition has no elected leader now", true, RefreshMetadata},
	NotLeaderOrFollower + 1:                {"NOT_LEADER_OR_FOLLOWER", "broker is not leader (or not even a replica) of the partition", true, RefreshMetadata},
	RequestTimedOut + 1:                    {"REQUEST_TIMED_OUT", "not finished within the request's timeout", true, RefreshNone},
	BrokerNotAvailable + 1:                 {"BROKER_NOT_AVAILABLE", "target broker is down", false, RefreshNone},
	ReplicaNotAvailable + 1:                {"REPLICA_NOT_AVAILABLE", "replica for the partition is not usable here yet", true, RefreshMetadata},
	MessageTooLarge + 1:                    {"MESSAGE_TOO_LARGE", "batch is larger than max.message.bytes", false, RefreshNone},
	StaleControllerEpoch + 1:               {"STALE_CONTROLLER_EPOCH", "sender's controller epoch is old", false, RefreshNone},
	OffsetMetadataTooLarge + 1:             {"OFFSET_METADATA_TOO_LARGE", "commit metadata string longer than offset.metadata.max.bytes", false, RefreshNone},
	NetworkException + 1:                   {"NETWORK_EXCEPTION", "connection lost before the response came (client side)", true, RefreshMetadata},
	CoordinatorLoadInProgress + 1:          {"COORDINATOR_LOAD_IN_PROGRESS", "coordinator is still replaying its log", true, RefreshNone},
	CoordinatorNotAvailable + 1:            {"COORDINATOR_NOT_AVAILABLE", "coordinator partition missing or not ready", true, RefreshCoordinator},
	NotCoordinator + 1:                     {"NOT_COORDINATOR", "ask FindCoordinator again: this broker is not the coordinator", true, RefreshCoordinator},
	InvalidTopicException + 1:              {"INVALID_TOPIC_EXCEPTION", "topic name illegal, or operation not permitted on that topic", false, RefreshNone},
	RecordListTooLarge + 1:                 {"RECORD_LIST_TOO_LARGE", "whole append is larger than a segment may be", false, RefreshNone},
	NotEnoughReplicas + 1:                  {"NOT_ENOUGH_REPLICAS", "ISR smaller than min.insync.replicas; nothing appended", true, RefreshNone},
	NotEnoughReplicasAfterAppend + 1:       {"NOT_ENOUGH_REPLICAS_AFTER_APPEND", "appended, but ISR shrank below min.insync.replicas before the acknowledgement", true, RefreshNone},
	InvalidRequiredAcks + 1:                {"INVALID_REQUIRED_ACKS", "acks is none of -1, 0, 1", false, RefreshNone},
	IllegalGeneration + 1:                  {"ILLEGAL_GENERATION", "group generation in the request is not the current one", false, RefreshNone},
	InconsistentGroupProtocol + 1:          {"INCONSISTENT_GROUP_PROTOCOL", "no common protocol type/name with the group", false, RefreshNone},
	InvalidGroupId + 1:                     {"INVALID_GROUP_ID", "group id is empty or malformed", false, RefreshNone},
	UnknownMemberId + 1:                    {"UNKNOWN_MEMBER_ID", "member id is not in the group", false, RefreshNone},
	InvalidSessionTimeout + 1:              {"INVALID_SESSION_TIMEOUT", "session timeout outside the broker's min/max", false, RefreshNone},
	RebalanceInProgress + 1:                {"REBALANCE_IN_PROGRESS", "group is rebalancing: rejoin", false, RefreshNone},
	InvalidCommitOffsetSize + 1:            {"INVALID_COMMIT_OFFSET_SIZE", "commit record would be too large to store", false, RefreshNone},
	TopicAuthorizationFailed + 1:           {"TOPIC_AUTHORIZATION_FAILED", "no right on a named topic", false, RefreshNone},
	GroupAuthorizationFailed + 1:           {"GROUP_AUTHORIZATION_FAILED", "no right on the group", false, RefreshNone},
	ClusterAuthorizationFailed + 1:         {"CLUSTER_AUTHORIZATION_FAILED", "no right on the cluster", false, RefreshNone},
	InvalidTimestamp + 1:                   {"INVALID_TIMESTAMP", "record timestamp too far from broker time", false, RefreshNone},
	UnsupportedSaslMechanism + 1:           {"UNSUPPORTED_SASL_MECHANISM", "SASL mechanism not enabled", false, RefreshNone},
	IllegalSaslState + 1:                   {"ILLEGAL_SASL_STATE", "SASL message not permitted at this point", false, RefreshNone},
	UnsupportedVersion + 1:                 {"UNSUPPORTED_VERSION", "API version not known to this broker", false, RefreshNone},
	TopicAlreadyExists + 1:                 {"TOPIC_ALREADY_EXISTS", "a topic of that name is already there", false, RefreshNone},
	InvalidPartitions + 1:                  {"INVALID_PARTITIONS", "partition count not usable", false, RefreshNone},
	InvalidReplicationFactor + 1:           {"INVALID_REPLICATION_FACTOR", "replication factor not between 1 and live brokers", false, RefreshNone},
	InvalidReplicaAssignment + 1:           {"INVALID_REPLICA_ASSIGNMENT", "manual assignment has wrong brokers, counts or duplicates", false, RefreshNone},
	InvalidConfig + 1:                      {"INVALID_CONFIG", "config key or value refused", false, RefreshNone},
	NotController + 1:                      {"NOT_CONTROLLER", "not the active controller", true, RefreshNone},
	InvalidRequest + 1:                     {"INVALID_REQUEST", "request breaks a protocol rule", false, RefreshNone},
	UnsupportedForMessageFormat + 1:        {"UNSUPPORTED_FOR_MESSAGE_FORMAT", "stored message format cannot serve this", false, RefreshNone},
	PolicyViolation + 1:                    {"POLICY_VIOLATION", "a configured policy plug-in refused it", false, RefreshNone},
	OutOfOrderSequenceNumber + 1:           {"OUT_OF_ORDER_SEQUENCE_NUMBER", "idempotent sequence is not the next one expected", false, RefreshNone},
	DuplicateSequenceNumber + 1:            {"DUPLICATE_SEQUENCE_NUMBER", "batch already appended earlier (older than the cached five)", false, RefreshNone},
	InvalidProducerEpoch + 1:               {"INVALID_PRODUCER_EPOCH", "producer epoch is older than the one on the log", false, RefreshNone},
	InvalidTxnState + 1:                    {"INVALID_TXN_STATE", "transaction state does not allow the step", false, RefreshNone},
	InvalidProducerIdMapping + 1:           {"INVALID_PRODUCER_ID_MAPPING", "producer id does not belong to this transactional id", false, RefreshNone},
	InvalidTransactionTimeout + 1:          {"INVALID_TRANSACTION_TIMEOUT", "requested transaction timeout exceeds transaction.max.timeout.ms", false, RefreshNone},
	ConcurrentTransactions + 1:             {"CONCURRENT_TRANSACTIONS", "previous transaction step still running: back off and retry", true, RefreshNone},
	TransactionCoordinatorFenced + 1:       {"TRANSACTION_COORDINATOR_FENCED", "markers came from a coordinator of an older epoch", false, RefreshNone},
	TransactionalIdAuthorizationFailed + 1: {"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "no right on the transactional id", false, RefreshNone},
	SecurityDisabled + 1:                   {"SECURITY_DISABLED", "no authorizer configured, so ACL calls are off", false, RefreshNone},
	OperationNotAttempted + 1:              {"OPERATION_NOT_ATTEMPTED", "left untouched because another part of the batch failed", false, RefreshNone},
	KafkaStorageError + 1:                  {"KAFKA_STORAGE_ERROR", "log directory failed (disk error)", true, RefreshMetadata},
	LogDirNotFound + 1:                     {"LOG_DIR_NOT_FOUND", "named log directory does not exist on the broker", false, RefreshNone},
	SaslAuthenticationFailed + 1:           {"SASL_AUTHENTICATION_FAILED", "credentials refused", false, RefreshNone},
	UnknownProducerId + 1:                  {"UNKNOWN_PRODUCER_ID", "partition holds no state for the producer id", false, RefreshNone},
	ReassignmentInProgress + 1:             {"REASSIGNMENT_IN_PROGRESS", "partition is being reassigned already", false, RefreshNone},
	DelegationTokenAuthDisabled + 1:        {"DELEGATION_TOKEN_AUTH_DISABLED", "delegation tokens not enabled (no secret key)", false, RefreshNone},
	DelegationTokenNotFound + 1:            {"DELEGATION_TOKEN_NOT_FOUND", "no such delegation token", false, RefreshNone},
	DelegationTokenOwnerMismatch + 1:       {"DELEGATION_TOKEN_OWNER_MISMATCH", "principal may not own or renew that token", false, RefreshNone},
	DelegationTokenRequestNotAllowed + 1:   {"DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", "token request over a channel that cannot carry it", false, RefreshNone},
	DelegationTokenAuthorizationFailed + 1: {"DELEGATION_TOKEN_AUTHORIZATION_FAILED", "no right on the delegation token", false, RefreshNone},
	DelegationTokenExpired + 1:             {"DELEGATION_TOKEN_EXPIRED", "delegation token past its lifetime", false, RefreshNone},
	InvalidPrincipalType + 1:               {"INVALID_PRINCIPAL_TYPE", "principal type not usable here", false, RefreshNone},
	NonEmptyGroup + 1:                      {"NON_EMPTY_GROUP", "group still has members", false, RefreshNone},
	GroupIdNotFound + 1:                    {"GROUP_ID_NOT_FOUND", "no such group", false, RefreshNone},
	FetchSessionIdNotFound + 1:             {"FETCH_SESSION_ID_NOT_FOUND", "fetch session evicted or never existed", true, RefreshNone},
	InvalidFetchSessionEpoch + 1:           {"INVALID_FETCH_SESSION_EPOCH", "fetch session epoch is not the next expected", true, RefreshNone},
	ListenerNotFound + 1:                   {"LISTENER_NOT_FOUND", "leader has no endpoint on the listener the client used", true, RefreshMetadata},
	TopicDeletionDisabled + 1:              {"TOPIC_DELETION_DISABLED", "delete.topic.enable is false", false, RefreshNone},
	FencedLeaderEpoch + 1:                  {"FENCED_LEADER_EPOCH", "client's leader epoch is older than the broker's", true, RefreshMetadata},
	UnknownLeaderEpoch + 1:                 {"UNKNOWN_LEADER_EPOCH", "client's leader epoch is newer than the broker's", true, RefreshNone},
	UnsupportedCompressionType + 1:         {"UNSUPPORTED_COMPRESSION_TYPE", "codec cannot be served to this request version", false, RefreshNone},
	StaleBrokerEpoch + 1:                   {"STALE_BROKER_EPOCH", "broker registered again since (old broker epoch)", false, RefreshNone},
	OffsetNotAvailable + 1:                 {"OFFSET_NOT_AVAILABLE", "new leader's high watermark not yet trustworthy", true, RefreshNone},
	MemberIdRequired + 1:                   {"MEMBER_ID_REQUIRED", "first join answered with an id: join again with it", false, RefreshNone},
	PreferredLeaderNotAvailable + 1:        {"PREFERRED_LEADER_NOT_AVAILABLE", "preferred replica cannot lead now", true, RefreshMetadata},
	GroupMaxSizeReached + 1:                {"GROUP_MAX_SIZE_REACHED", "group.max.size reached", false, RefreshNone},
	FencedInstanceId + 1:                   {"FENCED_INSTANCE_ID", "another member took over this group.instance.id", false, RefreshNone},
	EligibleLeadersNotAvailable + 1:        {"ELIGIBLE_LEADERS_NOT_AVAILABLE", "no replica eligible to lead", true, RefreshMetadata},
	ElectionNotNeeded + 1:                  {"ELECTION_NOT_NEEDED", "leader is already the wanted one", true, RefreshMetadata},
	NoReassignmentInProgress + 1:           {"NO_REASSIGNMENT_IN_PROGRESS", "nothing to cancel for the partition", false, RefreshNone},
	GroupSubscribedToTopic + 1:             {"GROUP_SUBSCRIBED_TO_TOPIC", "group still consumes the topic", false, RefreshNone},
	InvalidRecord + 1:                      {"INVALID_RECORD", "a record failed validation, see per-record errors", false, RefreshNone},
	UnstableOffsetCommit + 1:               {"UNSTABLE_OFFSET_COMMIT", "pending transactional commits exist for the partition", true, RefreshNone},
	ThrottlingQuotaExceeded + 1:            {"THROTTLING_QUOTA_EXCEEDED", "mutation quota exhausted: wait throttle time", true, RefreshNone},
	ProducerFenced + 1:                     {"PRODUCER_FENCED", "newer producer instance owns the transactional id", false, RefreshNone},
	ResourceNotFound + 1:                   {"RESOURCE_NOT_FOUND", "named resource unknown", false, RefreshNone},
	DuplicateResource + 1:                  {"DUPLICATE_RESOURCE", "same resource named twice in the request", false, RefreshNone},
	UnacceptableCredential + 1:             {"UNACCEPTABLE_CREDENTIAL", "SCRAM credential parameters refused", false, RefreshNone},
	InconsistentVoterSet + 1:               {"INCONSISTENT_VOTER_SET", "sender or receiver is not in the voter set", false, RefreshNone},
	InvalidUpdateVersion + 1:               {"INVALID_UPDATE_VERSION", "feature level change not allowed", false, RefreshNone},
	FeatureUpdateFailed + 1:                {"FEATURE_UPDATE_FAILED", "feature change failed at the controller", false, RefreshNone},
	PrincipalDeserializationFailure + 1:    {"PRINCIPAL_DESERIALIZATION_FAILURE", "forwarded principal could not be read", false, RefreshNone},
	SnapshotNotFound + 1:                   {"SNAPSHOT_NOT_FOUND", "no such snapshot", false, RefreshNone},
	PositionOutOfRange + 1:                 {"POSITION_OUT_OF_RANGE", "byte position outside the snapshot", false, RefreshNone},
	UnknownTopicId + 1:                     {"UNKNOWN_TOPIC_ID", "no topic with that id here", true, RefreshMetadata},
	DuplicateBrokerRegistration + 1:        {"DUPLICATE_BROKER_REGISTRATION", "broker id is in use by a live broker", false, RefreshNone},
	BrokerIdNotRegistered + 1:              {"BROKER_ID_NOT_REGISTERED", "broker id never registered", false, RefreshNone},
	InconsistentTopicId + 1:                {"INCONSISTENT_TOPIC_ID", "topic id differs from the one in the log", true, RefreshMetadata},
	InconsistentClusterId + 1:              {"INCONSISTENT_CLUSTER_ID", "cluster id differs", false, RefreshNone},
	TransactionalIdNotFound + 1:            {"TRANSACTIONAL_ID_NOT_FOUND", "no state for that transactional id", false, RefreshNone},
	FetchSessionTopicIdError + 1:           {"FETCH_SESSION_TOPIC_ID_ERROR", "session mixed topic ids and names", true, RefreshNone},
	IneligibleReplica + 1:                  {"INELIGIBLE_REPLICA", "proposed ISR holds a fenced or shutting-down replica", false, RefreshNone},
	NewLeaderElected + 1:                   {"NEW_LEADER_ELECTED", "change applied, and leadership moved with it", false, RefreshNone},
	OffsetMovedToTieredStorage + 1:         {"OFFSET_MOVED_TO_TIERED_STORAGE", "data at that offset is only in remote storage", false, RefreshNone},
	FencedMemberEpoch + 1:                  {"FENCED_MEMBER_EPOCH", "member epoch refused: drop partitions and join anew", false, RefreshNone},
	UnreleasedInstanceId + 1:               {"UNRELEASED_INSTANCE_ID", "previous holder of the instance id must leave first", false, RefreshNone},
	UnsupportedAssignor + 1:                {"UNSUPPORTED_ASSIGNOR", "server assignor name not configured", false, RefreshNone},
	StaleMemberEpoch + 1:                   {"STALE_MEMBER_EPOCH", "member epoch is behind: take the newer one from a heartbeat", false, RefreshNone},
	MismatchedEndpointType + 1:             {"MISMATCHED_ENDPOINT_TYPE", "broker endpoint asked for controller data or the reverse", false, RefreshNone},
	UnsupportedEndpointType + 1:            {"UNSUPPORTED_ENDPOINT_TYPE", "endpoint type value not implemented", false, RefreshNone},
	UnknownControllerId + 1:                {"UNKNOWN_CONTROLLER_ID", "no such controller", false, RefreshNone},
	UnknownSubscriptionId + 1:              {"UNKNOWN_SUBSCRIPTION_ID", "telemetry subscription id is out of date", false, RefreshNone},
	TelemetryTooLarge + 1:                  {"TELEMETRY_TOO_LARGE", "telemetry payload above telemetry.max.bytes", false, RefreshNone},
	InvalidRegistration + 1:                {"INVALID_REGISTRATION", "controller refused the broker's registration", false, RefreshNone},
	TransactionAbortable + 1:               {"TRANSACTION_ABORTABLE", "transaction must be aborted, producer may then go on", false, RefreshNone},
	InvalidRecordState + 1:                 {"INVALID_RECORD_STATE", "record is not in a state that takes this acknowledgement", false, RefreshNone},
	ShareSessionNotFound + 1:               {"SHARE_SESSION_NOT_FOUND", "share session unknown", true, RefreshNone},
	InvalidShareSessionEpoch + 1:           {"INVALID_SHARE_SESSION_EPOCH", "share session epoch is not the next expected", true, RefreshNone},
	FencedStateEpoch + 1:                   {"FENCED_STATE_EPOCH", "share state written with an old state epoch", false, RefreshNone},
	InvalidVoterKey + 1:                    {"INVALID_VOTER_KEY", "voter id and directory id do not match this replica", false, RefreshNone},
	DuplicateVoter + 1:                     {"DUPLICATE_VOTER", "voter is already in the set", false, RefreshNone},
	VoterNotFound + 1:                      {"VOTER_NOT_FOUND", "voter is not in the set", false, RefreshNone},
	InvalidRegularExpression + 1:           {"INVALID_REGULAR_EXPRESSION", "subscription pattern does not compile (RE2 syntax)", false, RefreshNone},
	RebootstrapRequired + 1:                {"REBOOTSTRAP_REQUIRED", "client must start over from bootstrap servers", false, RefreshNone},
	StreamsInvalidTopology + 1:             {"STREAMS_INVALID_TOPOLOGY", "streams topology refused", false, RefreshNone},
	StreamsInvalidTopologyEpoch + 1:        {"STREAMS_INVALID_TOPOLOGY_EPOCH", "streams topology epoch not usable", false, RefreshNone},
	StreamsTopologyFenced + 1:              {"STREAMS_TOPOLOGY_FENCED", "streams topology epoch is behind the group's", false, RefreshNone},
	ShareSessionLimitReached + 1:           {"SHARE_SESSION_LIMIT_REACHED", "broker has no room for another share session", true, RefreshNone},
}
