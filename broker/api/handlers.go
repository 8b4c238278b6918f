package api

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/config/levels"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
)

// Handlers answer requests. The fields are set once, before the first request.
type Handlers struct {
	NodeID     int32
	ClusterID  string
	Controller *replication.Controller
	Replicas   *replication.Replicas
	Dirs       []*dirs.Dir
	Broker     *config.Broker
	Static     *config.Static
	Clock      clock.Clock
	Logger     *zap.Logger
	Groups     Groups
	Raft       RaftStreams // nil where this node has no others to speak raft with
	// ControllerAt returns where a controller listens for others, as far as that is known. It is
	// nil where this node is alone.
	ControllerAt func(node int32) (host string, port int32, ok bool)
	// ToController returns a connection to the active controller on another node. Its error
	// is kerr.NotController. It is nil where there is no other node.
	ToController func(ctx context.Context) (*conn.Conn, error)
	Levels       *levels.Registry // of the broker's loggers
	Loggers      []string         // their names

	changes    changeLog
	sessions   *fetchSessions
	fetchReads atomic.Int64 // partitions that fetches have read, each time counted
	repeats    *Repeats
	ids        producerIDs
	tables     *Tables
}

// Table is the table of APIs that a kind of listener serves, by key.
type Table []*Row

// Tables has the table of each kind of listener.
type Tables [kinds]Table

// Lookup returns the row of an API, or nil if it is not served.
func (t Table) Lookup(key wire.Key) *Row {
	if key < 0 || int(key) >= len(t) {
		return nil
	}
	return t[key]
}

// Tables returns the rows of every API that is served, on the listeners that Kafka
// serves it on. ApiVersions advertises just the rows of its listener, but for those that
// are hidden.
func (h *Handlers) Tables() *Tables {
	if h.tables != nil {
		return h.tables
	}
	h.tables = new(Tables)
	h.changes.lg, h.changes.clock = h.Logger.Named("api"), h.Clock
	h.sessions = newFetchSessions(h.Broker.FetchSessionSlots, h.Clock)
	h.repeats = NewRepeats(h.Clock, 1)
	for _, r := range []Row{
		{API: api(wire.Produce), Handle: h.produce},
		{API: api(wire.Fetch), Handle: h.fetch},
		row(wire.ListOffsets, h.listOffsets),
		row(wire.Metadata, h.metadata),
		row(wire.OffsetCommit, h.offsetCommit),
		row(wire.OffsetFetch, h.offsetFetch),
		row(wire.FindCoordinator, h.findCoordinator),
		row(wire.JoinGroup, h.joinGroup),
		row(wire.Heartbeat, h.heartbeat),
		row(wire.LeaveGroup, h.leaveGroup),
		row(wire.SyncGroup, h.syncGroup),
		row(wire.DescribeGroups, h.describeGroups),
		row(wire.ListGroups, h.listGroups),
		row(wire.SaslHandshake, h.saslHandshake),
		row(wire.ApiVersions, h.apiVersions),
		row(wire.CreateTopics, h.createTopics),
		row(wire.DeleteTopics, h.deleteTopics),
		row(wire.DeleteRecords, h.deleteRecords),
		row(wire.InitProducerId, h.initProducerID),
		row(wire.OffsetForLeaderEpoch, h.offsetForLeaderEpoch),
		row(wire.DescribeAcls, h.describeAcls),
		row(wire.CreateAcls, h.createAcls),
		row(wire.DeleteAcls, h.deleteAcls),
		row(wire.DescribeConfigs, h.describeConfigs),
		row(wire.AlterConfigs, h.alterConfigs),
		row(wire.AlterReplicaLogDirs, h.alterReplicaLogDirs),
		row(wire.DescribeLogDirs, h.describeLogDirs),
		row(wire.SaslAuthenticate, h.saslAuthenticate),
		row(wire.CreatePartitions, h.createPartitions),
		row(wire.DeleteGroups, h.deleteGroups),
		row(wire.ElectLeaders, h.electLeaders),
		row(wire.IncrementalAlterConfigs, h.incrementalAlterConfigs),
		row(wire.AlterPartitionReassignments, h.alterPartitionReassignments),
		row(wire.ListPartitionReassignments, h.listPartitionReassignments),
		row(wire.OffsetDelete, h.offsetDelete),
		row(wire.DescribeClientQuotas, h.describeClientQuotas),
		row(wire.DescribeUserScramCredentials, h.describeUserScramCredentials),
		row(wire.DescribeQuorum, h.describeQuorum),
		row(wire.UpdateFeatures, h.updateFeatures),
		row(wire.DescribeCluster, h.describeCluster),
		row(wire.DescribeProducers, h.describeProducers),
		row(wire.UnregisterBroker, h.unregisterBroker),
		row(wire.DescribeTransactions, h.describeTransactions),
		row(wire.ListTransactions, h.listTransactions),
		hidden(row(wire.GetTelemetrySubscriptions, h.getTelemetrySubscriptions)),
		row(wire.ListConfigResources, h.listConfigResources),
		row(wire.DescribeTopicPartitions, h.describeTopicPartitions),
		row(wire.AddRaftVoter, h.addRaftVoter),
		row(wire.RemoveRaftVoter, h.removeRaftVoter),
	} {
		own := r
		if r.API.Forwardable {
			own = h.forwarded(r)
		}
		h.tables[Broker].put(&own)
		// The log of the metadata is not replicated by Fetch.
		if r.API.Controller && r.API.Key != wire.Fetch {
			h.tables[Controller].put(&r)
		}
	}
	for _, r := range []Row{
		row(wire.AlterPartition, h.alterPartition),
		row(wire.Envelope, h.envelope),
		row(wire.BrokerRegistration, h.brokerRegistration),
		row(wire.BrokerHeartbeat, h.brokerHeartbeat),
		row(wire.AllocateProducerIds, h.allocateProducerIDs),
		row(wire.ControllerRegistration, h.controllerRegistration),
		row(wire.UpdateRaftVoter, h.updateRaftVoter),
		row(wire.AssignReplicasToDirs, h.assignReplicasToDirs),
		hidden(Row{API: api(wire.BeginQuorumEpoch), Handle: h.beginQuorumEpoch}),
	} {
		h.tables[Controller].put(&r)
	}
	return h.tables
}

func (t *Table) put(r *Row) {
	for int(r.API.Key) >= len(*t) {
		*t = append(*t, nil)
	}
	(*t)[r.API.Key] = r
}

func api(key wire.Key) *wire.API {
	a, _ := wire.Lookup(key)
	return a
}

// noOperations stands for authorized operations that were not asked for.
const noOperations = -2147483648

// Sets of AclOperation codes, as bits, that each kind of resource has. Without
// an authorizer every client may do them all.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	groupOperations   = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

func operations(asked bool, all int32) int32 {
	if asked {
		return all
	}
	return noOperations
}

// partition returns a partition that this broker holds, or why it does not.
func (h *Handlers) partition(topic string, index int32) (*replication.Partition, error) {
	if p := h.Replicas.Get(topic, index); p != nil {
		return p, nil
	}
	return nil, h.Replicas.Missing(h.Controller.Image(), topic, index)
}

// leader returns a partition that this broker leads in the epoch that the client
// knows, -1 for any.
func (h *Handlers) leader(topic string, index, epoch int32) (*replication.Partition, error) {
	p, err := h.partition(topic, index)
	if err != nil {
		return nil, err
	}
	return p, p.CheckLeader(epoch)
}

// endpoint returns where a client of a session reaches a broker: for this one
// the address that it advertises, or else the one that the client dialled.
func (h *Handlers) endpoint(s *Session, b *meta.Broker) (host string, port int32, ok bool) {
	if b.ID == h.NodeID {
		host, port = h.here(s)
		return host, port, true
	}
	for _, e := range b.Endpoints {
		if e.Name == s.Listener {
			return e.Host, int32(e.Port), true
		}
	}
	return "", 0, false
}

// here returns where a client of a session reaches this node: at the address that the
// listener advertises, or else the one that the client dialled.
func (h *Handlers) here(s *Session) (host string, port int32) {
	for _, l := range h.Broker.Advertised {
		if l.Name == s.Listener {
			return l.Host, int32(l.Port)
		}
	}
	return s.LocalHost, s.LocalPort
}

// controllerID is the broker that clients send admin requests to. Every broker
// forwards them, so it names the one asked.
func (h *Handlers) controllerID() int32 { return h.NodeID }

// defaults are what topics get that ask for no numbers of their own.
func (h *Handlers) defaults() control.Defaults {
	return control.Defaults{Partitions: int32(h.Broker.NumPartitions), ReplicationFactor: int16(h.Broker.DefaultReplicationFactor), Static: h.Static}
}

// change bounds a change of the metadata by the timeout of a request.
func change(c *Call, timeoutMs int32) (context.Context, context.CancelFunc) {
	if timeoutMs <= 0 {
		return context.WithTimeout(c.Context, time.Millisecond)
	}
	return within(c, timeoutMs)
}

// refuseAll returns the same error for every one of n.
func refuseAll(n int, err error) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}
