package config

import "strings"

// The lists say which keys klamm acts on. A change that makes a key work moves it
// here; one that begins a feature adds its keys to planned.
const (
	brokerActed = `
advertised.listeners auto.create.topics.enable auto.leader.rebalance.enable background.threads
broker.heartbeat.interval.ms broker.id broker.rack broker.session.timeout.ms compression.gzip.level
compression.lz4.level compression.type compression.zstd.level connections.max.idle.ms controlled.shutdown.enable
controller.listener.names controller.quorum.bootstrap.servers controller.quorum.election.timeout.ms
controller.quorum.fetch.timeout.ms controller.quorum.request.timeout.ms controller.quorum.voters
default.replication.factor delete.topic.enable fetch.max.bytes group.initial.rebalance.delay.ms
group.max.session.timeout.ms group.max.size group.min.session.timeout.ms initial.broker.registration.timeout.ms
inter.broker.listener.name leader.imbalance.check.interval.seconds listener.security.protocol.map listeners
log.cleaner.backoff.ms log.cleaner.dedupe.buffer.size log.cleaner.delete.retention.ms log.cleaner.enable
log.cleaner.io.max.bytes.per.second log.cleaner.max.compaction.lag.ms log.cleaner.min.cleanable.ratio
log.cleaner.min.compaction.lag.ms log.cleaner.threads log.cleanup.policy log.dir log.dirs log.flush.interval.messages
log.flush.interval.ms log.flush.offset.checkpoint.interval.ms log.flush.scheduler.interval.ms
log.flush.start.offset.checkpoint.interval.ms log.index.interval.bytes log.index.size.max.bytes
log.message.timestamp.after.max.ms log.message.timestamp.before.max.ms log.message.timestamp.type log.preallocate
log.retention.bytes log.retention.check.interval.ms log.retention.hours log.retention.minutes log.retention.ms
log.roll.hours log.roll.jitter.hours log.roll.jitter.ms log.roll.ms log.segment.bytes log.segment.delete.delay.ms
max.connections max.connections.per.ip max.connections.per.ip.overrides max.incremental.fetch.session.cache.slots
max.request.partition.size.limit message.max.bytes min.insync.replicas node.id num.io.threads num.network.threads
num.partitions num.recovery.threads.per.data.dir num.replica.fetchers offset.metadata.max.bytes
offsets.commit.timeout.ms offsets.retention.check.interval.ms offsets.retention.minutes
offsets.topic.compression.codec offsets.topic.num.partitions offsets.topic.replication.factor
offsets.topic.segment.bytes process.roles producer.id.expiration.check.interval.ms producer.id.expiration.ms
queued.max.request.bytes queued.max.requests replication.quota.window.num replication.quota.window.size.seconds
follower.replication.throttled.rate leader.replication.throttled.rate replica.fetch.backoff.ms replica.fetch.max.bytes replica.fetch.min.bytes
replica.fetch.response.max.bytes replica.fetch.wait.max.ms replica.high.watermark.checkpoint.interval.ms
replica.lag.time.max.ms replica.selector.class replica.socket.timeout.ms request.timeout.ms
security.inter.broker.protocol socket.receive.buffer.bytes socket.request.max.bytes socket.send.buffer.bytes
unclean.leader.election.interval.ms`

	brokerPlanned = `
alter.config.policy.class.name authorizer.class.name connection.failed.authentication.delay.ms
connections.max.reauth.ms controller. delegation.token. group. log.cleaner.io.buffer. log.local.retention.
max.connection.creation.rate metadata. num.replica. quota. replica. replication.quota. sasl. security. share. ssl.
transaction. transactional. unclean.`

	topicActed = `
cleanup.policy compression.gzip.level compression.lz4.level compression.type compression.zstd.level
delete.retention.ms file.delete.delay.ms flush.messages flush.ms follower.replication.throttled.replicas
leader.replication.throttled.replicas index.interval.bytes max.compaction.lag.ms
max.message.bytes message.timestamp.after.max.ms message.timestamp.before.max.ms message.timestamp.type
min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate retention.bytes
retention.ms segment.bytes segment.index.bytes segment.jitter.ms segment.ms`

	topicPlanned = `
local.retention.bytes local.retention.ms unclean.leader.election.enable`

	producerActed = `
acks batch.size bootstrap.servers buffer.memory client.id compression.gzip.level
compression.lz4.level compression.type compression.zstd.level connections.max.idle.ms
delivery.timeout.ms enable.idempotence linger.ms max.block.ms
max.in.flight.requests.per.connection max.request.size metadata.max.age.ms metadata.max.idle.ms
partitioner.adaptive.partitioning.enable partitioner.availability.timeout.ms partitioner.ignore.keys
reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retries retry.backoff.max.ms
retry.backoff.ms socket.connection.setup.timeout.ms`

	consumerActed = `
allow.auto.create.topics auto.commit.interval.ms auto.offset.reset bootstrap.servers check.crcs
client.id client.rack enable.auto.commit fetch.max.bytes fetch.max.wait.ms fetch.min.bytes
group.id group.instance.id heartbeat.interval.ms isolation.level max.partition.fetch.bytes
max.poll.interval.ms max.poll.records metadata.max.age.ms partition.assignment.strategy
reconnect.backoff.max.ms reconnect.backoff.ms request.timeout.ms retry.backoff.max.ms
retry.backoff.ms session.timeout.ms socket.connection.setup.timeout.ms`

	adminActed = `
bootstrap.servers client.id default.api.timeout.ms metadata.max.age.ms reconnect.backoff.max.ms
reconnect.backoff.ms request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms
socket.connection.setup.timeout.ms`

	clientPlanned = `
enable.metrics.push interceptor.classes partitioner.class sasl. security.protocol ssl.
transaction.timeout.ms transactional.id group.protocol group.remote.assignor share.`
)

// words makes a set of a list.
func words(list string) map[string]bool {
	set := make(map[string]bool)
	for w := range strings.FieldsSeq(list) {
		set[w] = true
	}
	return set
}

// actedOn fills in Key.Acted for the keys of a kind.
func actedOn(kind Kind, keys []Key) {
	var yes, planned string
	switch kind {
	case KindBroker:
		yes, planned = brokerActed, brokerPlanned
	case KindTopic:
		yes, planned = topicActed, topicPlanned
	case KindProducer:
		yes, planned = producerActed, clientPlanned
	case KindConsumer:
		yes, planned = consumerActed, clientPlanned
	case KindAdmin:
		yes, planned = adminActed, clientPlanned
	}
	now, later := words(yes), words(planned)
	for i := range keys {
		k := &keys[i]
		switch {
		case now[k.Name]:
			k.Acted = ActedYes
		case planned == "" || later[k.Name] || prefixIn(later, k.Name):
			k.Acted = ActedPlanned
		}
	}
}

// prefixIn reports whether set holds a prefix of name that ends in a dot.
func prefixIn(set map[string]bool, name string) bool {
	for i := range len(name) {
		if name[i] == '.' && set[name[:i+1]] {
			return true
		}
	}
	return false
}
