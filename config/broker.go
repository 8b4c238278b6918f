package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Broker is what a broker is started with, from its static configuration. Kafka
// keys stand beside the fields.
type Broker struct {
	NodeID       int32    // node.id, else broker.id
	Rack         string   // broker.rack; "" for none
	ProcessRoles []string // process.roles
	LogDirs      []string // log.dirs, else log.dir

	Listeners           []Listener        // listeners, without those of the controller
	ControllerListeners []Listener        // listeners named in controller.listener.names
	Advertised          []Listener        // advertised.listeners; empty: tell a client the host it dialled
	SecurityProtocols   map[string]string // listener.security.protocol.map
	InterBroker         string            // name of the listener that brokers use among themselves: inter.broker.listener.name, security.inter.broker.protocol; "" unless IsBroker

	ControllerListenerNames []string // controller.listener.names; the first one is what a node connects to
	QuorumVoters            []Voter  // controller.quorum.voters
	QuorumBootstrap         []string // controller.quorum.bootstrap.servers, as host:port

	BrokerSessionTimeout       time.Duration // broker.session.timeout.ms
	BrokerHeartbeatInterval    time.Duration // broker.heartbeat.interval.ms
	InitialRegistrationTimeout time.Duration // initial.broker.registration.timeout.ms
	ControlledShutdown         bool          // controlled.shutdown.enable
	QuorumElectionTimeout      time.Duration // controller.quorum.election.timeout.ms
	QuorumFetchTimeout         time.Duration // controller.quorum.fetch.timeout.ms
	QuorumRequestTimeout       time.Duration // controller.quorum.request.timeout.ms
	AutoLeaderRebalance        bool          // auto.leader.rebalance.enable
	LeaderImbalanceInterval    time.Duration // leader.imbalance.check.interval.seconds
	UncleanElectionInterval    time.Duration // unclean.leader.election.interval.ms

	ReplicaFetchers              int           // num.replica.fetchers: threads for each leader
	ReplicaFetchMinBytes         int           // replica.fetch.min.bytes
	ReplicaFetchMaxBytes         int           // replica.fetch.max.bytes, of one partition
	ReplicaFetchResponseMaxBytes int           // replica.fetch.response.max.bytes
	ReplicaFetchWait             time.Duration // replica.fetch.wait.max.ms
	ReplicaFetchBackoff          time.Duration // replica.fetch.backoff.ms
	ReplicationQuotaSamples      int           // replication.quota.window.num
	ReplicationQuotaSample       time.Duration // replication.quota.window.size.seconds
	ReplicaLagTimeMax            time.Duration // replica.lag.time.max.ms
	ReplicaSocketTimeout         time.Duration // replica.socket.timeout.ms
	ReplicaSelector              string        // replica.selector.class: LeaderSelector or RackAwareSelector

	NetworkThreads        int            // num.network.threads
	IOThreads             int            // num.io.threads
	QueuedMaxRequests     int            // queued.max.requests
	QueuedMaxRequestBytes int64          // queued.max.request.bytes; -1 means no limit
	RequestTimeout        time.Duration  // request.timeout.ms
	SocketReceiveBuffer   int            // socket.receive.buffer.bytes; -1 leaves it to the system
	SocketSendBuffer      int            // socket.send.buffer.bytes; -1 leaves it to the system
	SocketRequestMaxBytes int            // socket.request.max.bytes
	SocketBacklog         int            // socket.listen.backlog.size
	ConnectionsMaxIdle    time.Duration  // connections.max.idle.ms; negative means never
	MaxConnections        int            // max.connections
	MaxConnectionsPerIP   int            // max.connections.per.ip
	MaxConnectionsByIP    map[string]int // max.connections.per.ip.overrides

	AutoCreateTopics         bool // auto.create.topics.enable
	DeleteTopicEnable        bool // delete.topic.enable
	NumPartitions            int  // num.partitions
	DefaultReplicationFactor int  // default.replication.factor
	MinInsyncReplicas        int  // min.insync.replicas
	MessageMaxBytes          int  // message.max.bytes

	FetchMaxBytes             int // fetch.max.bytes
	FetchSessionSlots         int // max.incremental.fetch.session.cache.slots
	RequestPartitionSizeLimit int // max.request.partition.size.limit

	GroupInitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms
	GroupMinSessionTimeout     time.Duration // group.min.session.timeout.ms
	GroupMaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	GroupMaxSize               int           // group.max.size

	OffsetMetadataMaxBytes        int           // offset.metadata.max.bytes
	OffsetsCommitTimeout          time.Duration // offsets.commit.timeout.ms
	OffsetsRetention              time.Duration // offsets.retention.minutes
	OffsetsRetentionCheckInterval time.Duration // offsets.retention.check.interval.ms
	OffsetsTopicPartitions        int           // offsets.topic.num.partitions
	OffsetsTopicReplicationFactor int           // offsets.topic.replication.factor
	OffsetsTopicSegmentBytes      int           // offsets.topic.segment.bytes
	OffsetsTopicCodec             int           // offsets.topic.compression.codec, as batch attributes number it

	ProducerIDExpiration              time.Duration // producer.id.expiration.ms
	ProducerIDExpirationCheckInterval time.Duration // producer.id.expiration.check.interval.ms

	LogRetentionCheckInterval     time.Duration // log.retention.check.interval.ms
	LogCleanerEnable              bool          // log.cleaner.enable
	FlushOffsetCheckpointInterval time.Duration // log.flush.offset.checkpoint.interval.ms
	FlushStartCheckpointInterval  time.Duration // log.flush.start.offset.checkpoint.interval.ms
	HighWatermarkCheckpoint       time.Duration // replica.high.watermark.checkpoint.interval.ms
	RecoveryThreads               int           // num.recovery.threads.per.data.dir
	BackgroundThreads             int           // background.threads

	Log Topic // what a topic without keys of its own gets
}

// Broker makes the plain struct and checks what concerns several keys.
func (s *Static) Broker() (*Broker, error) {
	b := &Broker{
		Rack:                  s.Str("broker.rack"),
		ProcessRoles:          s.List("process.roles"),
		NetworkThreads:        s.Int("num.network.threads"),
		IOThreads:             s.Int("num.io.threads"),
		QueuedMaxRequests:     s.Int("queued.max.requests"),
		QueuedMaxRequestBytes: s.Long("queued.max.request.bytes"),
		RequestTimeout:        s.Duration("request.timeout.ms"),
		SocketReceiveBuffer:   s.Int("socket.receive.buffer.bytes"),
		SocketSendBuffer:      s.Int("socket.send.buffer.bytes"),
		SocketRequestMaxBytes: s.Int("socket.request.max.bytes"),
		SocketBacklog:         s.Int("socket.listen.backlog.size"),
		ConnectionsMaxIdle:    s.Duration("connections.max.idle.ms"),
		MaxConnections:        s.Int("max.connections"),
		MaxConnectionsPerIP:   s.Int("max.connections.per.ip"),

		AutoCreateTopics:         s.Bool("auto.create.topics.enable"),
		DeleteTopicEnable:        s.Bool("delete.topic.enable"),
		NumPartitions:            s.Int("num.partitions"),
		DefaultReplicationFactor: s.Int("default.replication.factor"),
		MinInsyncReplicas:        s.Int("min.insync.replicas"),
		MessageMaxBytes:          s.Int("message.max.bytes"),

		FetchMaxBytes:             s.Int("fetch.max.bytes"),
		FetchSessionSlots:         s.Int("max.incremental.fetch.session.cache.slots"),
		RequestPartitionSizeLimit: s.Int("max.request.partition.size.limit"),

		GroupInitialRebalanceDelay: s.Duration("group.initial.rebalance.delay.ms"),
		GroupMinSessionTimeout:     s.Duration("group.min.session.timeout.ms"),
		GroupMaxSessionTimeout:     s.Duration("group.max.session.timeout.ms"),
		GroupMaxSize:               s.Int("group.max.size"),

		OffsetMetadataMaxBytes:        s.Int("offset.metadata.max.bytes"),
		OffsetsCommitTimeout:          s.Duration("offsets.commit.timeout.ms"),
		OffsetsRetention:              millis(s.Long("offsets.retention.minutes") * 60_000),
		OffsetsRetentionCheckInterval: s.Duration("offsets.retention.check.interval.ms"),
		OffsetsTopicPartitions:        s.Int("offsets.topic.num.partitions"),
		OffsetsTopicReplicationFactor: s.Int("offsets.topic.replication.factor"),
		OffsetsTopicSegmentBytes:      s.Int("offsets.topic.segment.bytes"),
		OffsetsTopicCodec:             s.Int("offsets.topic.compression.codec"),

		ProducerIDExpiration:              s.Duration("producer.id.expiration.ms"),
		ProducerIDExpirationCheckInterval: s.Duration("producer.id.expiration.check.interval.ms"),

		LogRetentionCheckInterval:     s.Duration("log.retention.check.interval.ms"),
		LogCleanerEnable:              s.Bool("log.cleaner.enable"),
		FlushOffsetCheckpointInterval: s.Duration("log.flush.offset.checkpoint.interval.ms"),
		FlushStartCheckpointInterval:  s.Duration("log.flush.start.offset.checkpoint.interval.ms"),
		HighWatermarkCheckpoint:       s.Duration("replica.high.watermark.checkpoint.interval.ms"),
		RecoveryThreads:               s.Int("num.recovery.threads.per.data.dir"),
		BackgroundThreads:             s.Int("background.threads"),
	}
	var err error
	if b.Log, err = TopicFrom(nil, nil, nil, s); err != nil {
		return nil, err
	}
	if err := errors.Join(s.identity(b), s.addresses(b), s.limits(b)); err != nil {
		return nil, err
	}
	return b, s.cluster(b)
}

// identity fills in who the node is and where its data lies.
func (s *Static) identity(b *Broker) error {
	id, _, _ := s.Get("node.id")
	if old, _, ok := s.Get("broker.id"); ok && s.Explicit("broker.id") {
		if s.Explicit("node.id") && old != id {
			return fmt.Errorf("%w: broker.id %s and node.id %s differ", ErrInvalid, old, id)
		}
		id = old
	}
	n, err := strconv.ParseInt(id, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%w %q for node.id: must be at least 0", ErrInvalid, id)
	}
	b.NodeID = int32(n)
	if b.LogDirs = s.List("log.dirs"); len(b.LogDirs) == 0 {
		b.LogDirs = s.List("log.dir")
	}
	return nil
}

// addresses fills in the listeners.
func (s *Static) addresses(b *Broker) (err error) {
	const protocolMap = "listener.security.protocol.map"
	if b.SecurityProtocols, err = parseProtocolMap(s.Str(protocolMap), s.Explicit(protocolMap), s.List("controller.listener.names")); err != nil {
		return err
	}
	all, err := parseListeners("listeners", s.List("listeners"), b.SecurityProtocols, true)
	if err != nil {
		return err
	}
	controllers := s.List("controller.listener.names")
	for _, l := range all {
		if slices.ContainsFunc(controllers, func(n string) bool { return strings.EqualFold(n, l.Name) }) {
			b.ControllerListeners = append(b.ControllerListeners, l)
		} else {
			b.Listeners = append(b.Listeners, l)
		}
	}
	if len(b.Listeners) == 0 && b.IsBroker() {
		return fmt.Errorf("listeners: %w: none is for clients", ErrInvalid)
	}
	b.Advertised, err = parseListeners("advertised.listeners", s.List("advertised.listeners"), b.SecurityProtocols, false)
	if err != nil {
		return err
	}
	for _, a := range b.Advertised {
		if !slices.ContainsFunc(all, func(l Listener) bool { return l.Name == a.Name }) {
			return fmt.Errorf("advertised.listeners: %w: %s is not among the listeners", ErrInvalid, a.Name)
		}
	}
	return nil
}

// limits checks what single keys cannot.
func (s *Static) limits(b *Broker) error {
	if b.QueuedMaxRequestBytes > 0 && b.QueuedMaxRequestBytes < int64(b.SocketRequestMaxBytes) {
		return fmt.Errorf("queued.max.request.bytes: %w %d: less than socket.request.max.bytes %d", ErrInvalid, b.QueuedMaxRequestBytes, b.SocketRequestMaxBytes)
	}
	if b.GroupMinSessionTimeout > b.GroupMaxSessionTimeout {
		return fmt.Errorf("group.min.session.timeout.ms: %w %v: more than group.max.session.timeout.ms %v", ErrInvalid, b.GroupMinSessionTimeout, b.GroupMaxSessionTimeout)
	}
	if b.OffsetsTopicCodec < 0 || b.OffsetsTopicCodec > 4 {
		return fmt.Errorf("offsets.topic.compression.codec: %w %d: must be 0 to 4", ErrInvalid, b.OffsetsTopicCodec)
	}
	if b.DefaultReplicationFactor < 1 || b.DefaultReplicationFactor > math.MaxInt16 {
		return fmt.Errorf("default.replication.factor: %w %d", ErrInvalid, b.DefaultReplicationFactor)
	}
	b.MaxConnectionsByIP = make(map[string]int)
	for _, item := range s.List("max.connections.per.ip.overrides") {
		i := strings.LastIndexByte(item, ':') // the address may be IPv6
		n, err := strconv.Atoi(item[i+1:])
		if i < 1 || err != nil || n < 0 {
			return fmt.Errorf("max.connections.per.ip.overrides: %w %q: want address:count", ErrInvalid, item)
		}
		b.MaxConnectionsByIP[strings.Trim(item[:i], "[]")] = n
	}
	return nil
}
