// Package replication holds what a broker holds of the cluster: the replicas of
// its partitions, each a log with the leader's view of its followers, and the
// controller, which owns the metadata.
package replication
