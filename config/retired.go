package config

// retired are keys that Kafka had before 4.0, by kind, and what stands in for
// them now. A key that begins with one ending in a dot is retired too.
var retired = map[Kind]map[string]string{
	KindBroker: {
		"advertised.host.name":                    "use advertised.listeners",
		"advertised.port":                         "use advertised.listeners",
		"auto.include.jmx.reporter":               "",
		"broker.id.generation.enable":             "set node.id",
		"control.plane.listener.name":             "use controller.listener.names",
		"controlled.shutdown.max.retries":         "",
		"controlled.shutdown.retry.backoff.ms":    "",
		"delegation.token.master.key":             "use delegation.token.secret.key",
		"eligible.leader.replicas.enable":         "",
		"group.coordinator.new.enable":            "",
		"group.share.enable":                      "",
		"group.share.max.groups":                  "",
		"host.name":                               "use listeners",
		"inter.broker.protocol.version":           "the feature metadata.version takes its place",
		"leader.imbalance.per.broker.percentage":  "",
		"log.message.downconversion.enable":       "",
		"log.message.format.version":              "",
		"log.message.timestamp.difference.max.ms": "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
		"metadata.log.segment.min.bytes":          "",
		"offsets.commit.required.acks":            "",
		"password.encoder.":                       "",
		"port":                                    "use listeners",
		"quota.consumer.default":                  "",
		"quota.producer.default":                  "",
		"reserved.broker.max.id":                  "set node.id",
		"zookeeper.":                              "there is no ZooKeeper; the broker is its own controller",
	},
	KindTopic: {
		"message.downconversion.enable":       "",
		"message.format.version":              "",
		"message.timestamp.difference.max.ms": "use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
	},
}

// Retired reports whether Kafka had a key before 4.0 and has it no more, and what
// to do instead, "" for nothing.
func Retired(kind Kind, name string) (instead string, ok bool) {
	if instead, ok := retired[kind][name]; ok {
		return instead, true
	}
	for i := range name {
		if name[i] == '.' {
			if instead, ok := retired[kind][name[:i+1]]; ok {
				return instead, true
			}
		}
	}
	return "", false
}
