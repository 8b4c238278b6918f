package log

// Files of a log directory, as Kafka names them.
const (
	LockFile          = ".lock"
	PropertiesFile    = "meta.properties"
	NewPropertiesFile = PropertiesFile + ".new" // the same, while a first start is under way
	CleanFile         = ".kafka_cleanshutdown"
	RecoveryPointFile = "recovery-point-offset-checkpoint"
	HighWatermarkFile = "replication-offset-checkpoint"
	LogStartFile      = "log-start-offset-checkpoint"
	CleanerFile       = "cleaner-offset-checkpoint"
	// BootstrapFile is a snapshot of the metadata that formatting makes. Only the
	// JVM broker does, which begins an empty metadata log with it.
	BootstrapFile = "bootstrap.checkpoint"
)

// Files of a partition's directory, beside those of its segments.
const (
	EpochFile    = "leader-epoch-checkpoint"
	MetadataFile = "partition.metadata"

	// Only the metadata log has these.
	QuorumStateFile      = "quorum-state"
	QuorumSnapshotSuffix = ".checkpoint" // behind END-EPOCH
)
