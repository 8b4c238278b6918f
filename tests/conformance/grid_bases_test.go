package conformance_test

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// gridBase is a request that succeeds. The grid changes one field of it at a
// time.
type gridBase struct {
	key     int16
	variant string
	topics  bool           // each case has a topic of its own
	records bool           // with ten records in its partition 0
	prepare func(s *scene) // makes what else a case needs
	request func(s *scene, v int16) object
	from    int16              // the lowest version that can say it
	after   func(s *scene) any // what can be seen afterwards
	few     bool               // the request is asked as it is only
	skip    []string           // edges that would take more with them than the case
	extra   []edge             // further ones, where the field is there
}

func group(s *scene) { s.join(nil) }

func static(s *scene) { s.join("instance") }

// named returns what names a topic: its id where the version goes by ids.
func (s *scene) named(v, ids int16, field, topic string, more object) object {
	o := object{field: topic, "TopicId": s.ids[topic]}
	for k, e := range more {
		o[k] = e
	}
	if v < ids {
		delete(o, "TopicId")
	} else {
		delete(o, field)
	}
	return o
}

func ints(n ...int64) (out list) {
	for _, v := range n {
		out = append(out, v)
	}
	return out
}

func fetchBase(topic func(s *scene) string) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		return object{"MaxWaitMs": int64(0), "MinBytes": int64(1), "MaxBytes": int64(1 << 20), "Topics": list{
			s.named(v, 13, "Topic", topic(s), object{"Partitions": list{object{"Partition": int64(0), "FetchOffset": int64(0), "PartitionMaxBytes": int64(1 << 20)}}})}}
	}
}

// nextFetch is what a session is asked for after its first answer.
func nextFetch(s *scene, _ int16) object {
	return object{"MaxWaitMs": int64(0), "MinBytes": int64(1), "MaxBytes": int64(1 << 20), "SessionId": s.session, "SessionEpoch": int64(1)}
}

func shared(*scene) string { return "shared" }

func commitBase(member bool) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		o := object{"GroupId": s.name, "GenerationIdOrMemberEpoch": int64(-1), "MemberId": "", "Topics": list{
			s.named(v, 10, "Name", "shared", object{"Partitions": list{object{"PartitionIndex": int64(0), "CommittedOffset": int64(5), "CommittedLeaderEpoch": int64(0), "CommittedMetadata": "meta"}}})}}
		if member {
			o["GenerationIdOrMemberEpoch"], o["MemberId"] = int64(1), s.member
		}
		return o
	}
}

func joinBase(member func(s *scene) string, instance any) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		return object{"GroupId": s.name, "SessionTimeoutMs": int64(30_000), "RebalanceTimeoutMs": int64(1000), "MemberId": member(s), "GroupInstanceId": instance,
			"ProtocolType": "consumer", "Protocols": list{object{"Name": "range", "Metadata": subscription}}}
	}
}

func noMember(*scene) string { return "" }

func theMember(s *scene) string { return s.member }

func configsBase(kind int64, name func(s *scene) string, key, value string) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		c := object{"Name": key, "Value": value}
		return object{"Resources": list{object{"ResourceType": kind, "ResourceName": name(s), "Configs": list{c}}}}
	}
}

// incremental makes the request of IncrementalAlterConfigs of that of
// AlterConfigs.
func incremental(op int64, base func(s *scene, v int16) object) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		o := base(s, v)
		o["Resources"].(list)[0].(object)["Configs"].(list)[0].(object)["ConfigOperation"] = op
		return o
	}
}

func own(s *scene) string { return s.name }

func word(w string) func(*scene) string { return func(*scene) string { return w } }

// change is an edge of a field at which a base has a value.
func change(field, what string, v any) edge {
	steps := strings.Split(field, ".")
	return edge{field, what, func(o object, _ *scene) {
		for _, s := range steps[:len(steps)-1] {
			switch inner := o[s].(type) {
			case object:
				o = inner
			case list:
				o = inner[0].(object)
			}
		}
		o[steps[len(steps)-1]] = v
	}}
}

// gridBases are the requests that the grid starts from.
var gridBases = []gridBase{
	{key: 0, topics: true, after: (*scene).records, request: func(s *scene, v int16) object {
		return object{"Acks": int64(-1), "TimeoutMs": int64(5000), "TopicData": list{
			s.named(v, 13, "Name", s.name, object{"PartitionData": list{object{"Index": int64(0), "Records": batch(2, false, 1, -1)}}})}}
	}, extra: batches()},
	{key: 0, variant: "with more in-sync replicas asked for than there are", few: true, topics: true, prepare: (*scene).askForReplicas, after: (*scene).records, request: func(s *scene, v int16) object {
		return object{"Acks": int64(-1), "TimeoutMs": int64(5000), "TopicData": list{
			s.named(v, 13, "Name", s.name, object{"PartitionData": list{object{"Index": int64(0), "Records": batch(2, false, 1, -1)}}})}}
	}},
	{key: 1, request: fetchBase(shared)},
	{key: 1, variant: "in a session", from: 7, prepare: func(s *scene) {
		o := fetchBase(shared)(s, s.version)
		o["SessionEpoch"] = int64(0)
		o["Topics"].(list)[0].(object)["Partitions"] = append(o["Topics"].(list)[0].(object)["Partitions"].(list), object{"Partition": int64(1)})
		s.session = s.must(1, s.version, o)["SessionId"].(int64)
	}, request: func(s *scene, v int16) object {
		o := fetchBase(shared)(s, v)
		o["SessionId"], o["SessionEpoch"] = s.session, int64(1)
		o["ForgottenTopicsData"] = list{s.named(v, 13, "Topic", "shared", object{"Partitions": ints(1)})}
		return o
	}},
	{key: 1, variant: "of an unknown topic beside an idle one", few: true, request: func(s *scene, v int16) object {
		o := fetchBase(shared)(s, v)
		o["MaxWaitMs"] = int64(300)
		o["Topics"].(list)[0].(object)["Partitions"].(list)[0].(object)["FetchOffset"] = int64(10)
		unknown := object{"Topic": s.name, "TopicId": unknownID, "Partitions": list{object{"Partition": int64(0), "PartitionMaxBytes": int64(1 << 20)}}}
		o["Topics"] = append(o["Topics"].(list), unknown)
		return o
	}},
	{key: 1, variant: "in a session of a topic that was deleted", from: 7, few: true, topics: true, prepare: func(s *scene) {
		s.session = s.openSession()
		s.drop()
	}, request: nextFetch},
	{key: 1, variant: "in a session of a topic that was made again", from: 7, few: true, topics: true, prepare: func(s *scene) {
		s.session = s.openSession()
		s.drop()
		s.makeAgain()
	}, request: nextFetch},
	{key: 2, request: func(s *scene, v int16) object {
		return object{"ReplicaId": int64(-1), "Topics": list{object{"Name": "shared", "Partitions": list{object{"PartitionIndex": int64(0), "Timestamp": int64(-1)}}}}}
	}},
	{key: 3, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": "shared"}}, "AllowAutoTopicCreation": false}
	}},
	{key: 3, variant: "by id", from: 10, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": nil, "TopicId": s.ids["shared"]}}, "AllowAutoTopicCreation": false}
	}},
	{key: 8, variant: "without members", request: commitBase(false), after: (*scene).offsets},
	{key: 8, variant: "of a member", prepare: group, request: commitBase(true), after: (*scene).offsets},
	{key: 8, variant: "of no group in a generation", few: true, request: func(s *scene, v int16) object {
		o := commitBase(false)(s, v)
		o["GroupId"], o["GenerationIdOrMemberEpoch"] = "", int64(3)
		return o
	}},
	{key: 9, prepare: func(s *scene) { s.commit() }, request: func(s *scene, v int16) object {
		if v < 8 {
			return object{"GroupId": s.name, "Topics": list{object{"Name": "shared", "PartitionIndexes": ints(0, 1)}}}
		}
		return object{"Groups": list{object{"GroupId": s.name, "Topics": list{s.named(v, 10, "Name", "shared", object{"PartitionIndexes": ints(0, 1)})}}}}
	}},
	{key: 9, variant: "of a member", from: 9, prepare: func(s *scene) { group(s); s.commit() }, request: func(s *scene, v int16) object {
		return object{"Groups": list{object{"GroupId": s.name, "MemberId": s.member, "MemberEpoch": int64(1), "Topics": list{s.named(v, 10, "Name", "shared", object{"PartitionIndexes": ints(0)})}}}}
	}},
	{key: 10, request: func(s *scene, v int16) object {
		return object{"Key": s.name, "KeyType": int64(0), "CoordinatorKeys": list{s.name}}
	}},
	{key: 11, request: joinBase(noMember, nil), after: (*scene).group},
	{key: 11, variant: "again", prepare: group, request: joinBase(theMember, nil), after: (*scene).group},
	{key: 11, variant: "of a static member", from: 5, request: joinBase(noMember, "instance"), after: (*scene).group},
	{key: 11, variant: "of a static member again", from: 5, prepare: static, request: joinBase(theMember, "instance"), after: (*scene).group},
	{key: 12, prepare: group, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "GenerationId": int64(1), "MemberId": s.member}
	}},
	{key: 12, variant: "of a static member", from: 3, prepare: static, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "GenerationId": int64(1), "MemberId": s.member, "GroupInstanceId": "instance"}
	}},
	{key: 13, prepare: group, after: (*scene).group, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "MemberId": s.member, "Members": list{object{"MemberId": s.member}}}
	}},
	{key: 13, variant: "of a static member", from: 3, prepare: static, after: (*scene).group, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "Members": list{object{"MemberId": "", "GroupInstanceId": "instance"}}}
	}},
	{key: 14, prepare: group, after: (*scene).group, request: syncBase(nil)},
	{key: 14, variant: "of a static member", from: 3, prepare: static, after: (*scene).group, request: syncBase("instance")},
	{key: 15, prepare: group, request: func(s *scene, v int16) object { return object{"Groups": list{s.name}} }},
	{key: 16, prepare: group, request: func(s *scene, v int16) object {
		return object{"StatesFilter": list{"Stable"}, "TypesFilter": list{"classic"}}
	}},
	{key: 18, request: func(s *scene, v int16) object {
		return object{"ClientSoftwareName": "grid", "ClientSoftwareVersion": "1"}
	}},
	{key: 19, skip: []string{"Topics.NumPartitions 99"}, after: func(s *scene) any { return list{s.topic(), s.configs()} }, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name, "NumPartitions": int64(2), "ReplicationFactor": int64(1), "Configs": list{object{"Name": "retention.ms", "Value": "5000000"}}}}, "TimeoutMs": int64(5000)}
	}},
	{key: 19, variant: "with an assignment", after: (*scene).topic, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name, "NumPartitions": int64(-1), "ReplicationFactor": int64(-1), "Assignments": list{object{"PartitionIndex": int64(0), "BrokerIds": ints(1)}}}}, "TimeoutMs": int64(5000)}
	}},
	{key: 20, topics: true, skip: []string{"the group topic"}, after: (*scene).topic, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name}}, "TopicNames": list{s.name}, "TimeoutMs": int64(5000)}
	}},
	{key: 20, variant: "by id", topics: true, from: 6, skip: []string{"the group topic"}, after: (*scene).topic, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": nil, "TopicId": s.ids[s.name]}}, "TimeoutMs": int64(5000)}
	}},
	{key: 21, topics: true, records: true, after: (*scene).records, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name, "Partitions": list{object{"PartitionIndex": int64(0), "Offset": int64(1)}}}}, "TimeoutMs": int64(5000)}
	}},
	{key: 22, request: func(s *scene, v int16) object {
		return object{"TransactionalId": nil, "TransactionTimeoutMs": int64(60000)}
	}},
	{key: 23, request: func(s *scene, v int16) object {
		return object{"ReplicaId": int64(-1), "Topics": list{object{"Topic": "shared", "Partitions": list{object{"Partition": int64(0), "LeaderEpoch": int64(0)}}}}}
	}},
	{key: 32, request: func(s *scene, v int16) object {
		return object{"Resources": list{object{"ResourceType": int64(2), "ResourceName": "shared", "ConfigurationKeys": list{"retention.ms", "cleanup.policy"}}}}
	}},
	{key: 32, variant: "of a broker", request: func(s *scene, v int16) object {
		return object{"Resources": list{object{"ResourceType": int64(4), "ResourceName": "1", "ConfigurationKeys": list{"log.retention.ms", "num.partitions"}}}, "IncludeSynonyms": true}
	}},
	{key: 32, variant: "of a group", request: func(s *scene, v int16) object {
		return object{"Resources": list{object{"ResourceType": int64(32), "ResourceName": s.name, "ConfigurationKeys": list{"consumer.session.timeout.ms"}}}}
	}},
	// A resource that stands there twice is never answered by the JVM broker's
	// controller, and whatever is forwarded behind it waits.
	{key: 33, topics: true, skip: []string{"Resources twice the same"}, after: (*scene).configs, request: configsBase(2, own, "retention.ms", "5000000")},
	{key: 33, variant: "of a group", skip: []string{"Resources twice the same"}, request: configsBase(32, own, "consumer.session.timeout.ms", "50000")},
	{key: 44, topics: true, after: (*scene).configs, request: incremental(0, configsBase(2, own, "retention.ms", "5000000"))},
	{key: 44, variant: "that appends", topics: true, after: (*scene).configs, request: incremental(2, configsBase(2, own, "cleanup.policy", "compact"))},
	{key: 44, variant: "of a broker", request: incremental(0, func(s *scene, v int16) object {
		o := configsBase(4, word("1"), "log.retention.ms", "604800000")(s, v)
		o["ValidateOnly"] = true
		return o
	}), skip: []string{"false"}},
	{key: 44, variant: "of a group", request: incremental(0, configsBase(32, own, "consumer.session.timeout.ms", "50000"))},
	{key: 35, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Topic": "shared", "Partitions": ints(0, 1)}}}
	}},
	{key: 37, topics: true, skip: []string{"the group topic", "Topics.Count 99", "Topics.Count the highest"}, after: (*scene).topic, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name, "Count": int64(3), "Assignments": nil}}, "TimeoutMs": int64(5000)}
	}},
	{key: 37, variant: "with an assignment", topics: true, skip: []string{"the group topic", "Topics.Count 99", "Topics.Count the highest"}, after: (*scene).topic, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": s.name, "Count": int64(2), "Assignments": list{object{"BrokerIds": ints(1)}}}}, "TimeoutMs": int64(5000)}
	}},
	{key: 42, prepare: func(s *scene) { s.commit() }, after: func(s *scene) any { return list{s.group(), s.offsets()} }, request: func(s *scene, v int16) object {
		return object{"GroupsNames": list{s.name}}
	}},
	{key: 43, request: func(s *scene, v int16) object {
		return object{"ElectionType": int64(0), "TopicPartitions": list{object{"Topic": "shared", "Partitions": ints(0)}}, "TimeoutMs": int64(5000)}
	}},
	{key: 45, request: func(s *scene, v int16) object {
		return object{"TimeoutMs": int64(5000), "Topics": list{object{"Name": "shared", "Partitions": list{object{"PartitionIndex": int64(0), "Replicas": ints(1)}}}}}
	}},
	{key: 46, request: func(s *scene, v int16) object {
		return object{"TimeoutMs": int64(5000), "Topics": list{object{"Name": "shared", "PartitionIndexes": ints(0)}}}
	}},
	{key: 47, prepare: func(s *scene) { s.commit() }, after: (*scene).offsets, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "Topics": list{object{"Name": "shared", "Partitions": list{object{"PartitionIndex": int64(0)}}}}}
	}},
	{key: 47, variant: "of a member", prepare: func(s *scene) { group(s); s.commit() }, after: (*scene).offsets, request: func(s *scene, v int16) object {
		return object{"GroupId": s.name, "Topics": list{object{"Name": "shared", "Partitions": list{object{"PartitionIndex": int64(0)}}}}}
	}},
	{key: 55, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"TopicName": "__cluster_metadata", "Partitions": list{object{"PartitionIndex": int64(0)}}}}}
	}},
	{key: 57, request: func(s *scene, v int16) object {
		return object{"TimeoutMs": int64(5000), "ValidateOnly": true, "FeatureUpdates": list{object{"Feature": "metadata.version", "MaxVersionLevel": int64(30), "UpgradeType": int64(1)}}}
	}, skip: []string{"false"}},
	{key: 60, request: func(s *scene, v int16) object { return object{"EndpointType": int64(1)} }},
	{key: 61, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": "shared", "PartitionIndexes": ints(0)}}}
	}},
	{key: 80, request: func(s *scene, v int16) object {
		return object{"ClusterId": nil, "TimeoutMs": int64(1000), "VoterId": int64(98), "Listeners": list{object{"Name": "CONTROLLER", "Host": "127.0.0.1", "Port": int64(9)}}}
	}},
	{key: 81, request: func(s *scene, v int16) object { return object{"ClusterId": nil, "VoterId": int64(98)} }},
	{key: 64, request: func(s *scene, v int16) object { return object{"BrokerId": int64(98)} }, skip: []string{"1"}},
	{key: 17, request: func(s *scene, v int16) object { return object{"Mechanism": "PLAIN"} }},
	{key: 29, request: func(s *scene, v int16) object {
		return object{"ResourceTypeFilter": int64(1), "ResourceNameFilter": nil, "PatternTypeFilter": int64(1), "PrincipalFilter": nil, "HostFilter": nil, "Operation": int64(1), "PermissionType": int64(1)}
	}},
	{key: 30, request: func(s *scene, v int16) object {
		return object{"Creations": list{object{"ResourceType": int64(2), "ResourceName": s.name, "Principal": "User:a", "Host": "*", "Operation": int64(3), "PermissionType": int64(3)}}}
	}},
	{key: 31, request: func(s *scene, v int16) object {
		return object{"Filters": list{object{"ResourceTypeFilter": int64(2), "ResourceNameFilter": s.name, "PrincipalFilter": "User:a", "HostFilter": "*", "Operation": int64(3), "PermissionType": int64(3)}}}
	}},
	{key: 34, request: func(s *scene, v int16) object {
		return object{"Dirs": list{object{"Path": "/nowhere", "Topics": list{object{"Name": "shared", "Partitions": ints(0)}}}}}
	}},
	{key: 36, request: func(s *scene, v int16) object { return object{"AuthBytes": []byte("secret")} }},
	{key: 48, request: func(s *scene, v int16) object {
		return object{"Components": list{object{"EntityType": "user", "MatchType": int64(0), "Match": "a"}}}
	}},
	{key: 50, request: func(s *scene, v int16) object { return object{"Users": list{object{"Name": "a"}}} }},
	{key: 65, request: func(s *scene, v int16) object { return object{"TransactionalIds": list{s.name}} }},
	{key: 66, request: func(s *scene, v int16) object {
		return object{"StateFilters": list{"Ongoing"}, "ProducerIdFilters": ints(987654)}
	}},
	{key: 74, request: func(s *scene, v int16) object { return object{"ResourceTypes": ints(4)} }},
	{key: 75, request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": "shared"}}, "ResponsePartitionLimit": int64(2000)}
	}},
	{key: 75, variant: "from a cursor", request: func(s *scene, v int16) object {
		return object{"Topics": list{object{"Name": "shared"}}, "ResponsePartitionLimit": int64(1), "Cursor": object{"TopicName": "shared", "PartitionIndex": int64(0)}}
	}},
}

func syncBase(instance any) func(s *scene, v int16) object {
	return func(s *scene, v int16) object {
		return object{"GroupId": s.name, "GenerationId": int64(1), "MemberId": s.member, "GroupInstanceId": instance, "ProtocolType": "consumer", "ProtocolName": "range",
			"Assignments": list{object{"MemberId": s.member, "Assignment": []byte("assignment")}}}
	}
}

// transactionalBatch is a batch that says that it is part of a transaction.
func transactionalBatch() []byte {
	b := batch(2, false, 1, 7)
	b[22] |= 0x10
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// batches are records that are wrong in their own way.
func batches() (out []edge) {
	for _, r := range []struct {
		what string
		b    []byte
	}{
		{"with a wrong sum", batch(2, true, 1, -1)},
		{"of a transaction", transactionalBatch()},
		{"of magic 1", batch(1, false, 1, -1)},
		{"of a wrong count", batch(2, false, 3, -1)},
		{"of a producer out of order", batch(2, false, 1, 7)},
		{"cut short", batch(2, false, 1, -1)[:40]},
		{"of two batches", append(batch(2, false, 1, -1), batch(2, false, 1, -1)...)},
		{"with bytes behind", append(batch(2, false, 1, -1), 1, 2, 3)},
	} {
		out = append(out, change("TopicData.PartitionData.Records", r.what, r.b))
	}
	return out
}

// subscription is what a consumer of topic shared joins with. The JVM broker
// reads it.
var subscription = []byte("\x00\x00\x00\x00\x00\x01\x00\x06shared\xff\xff\xff\xff")
