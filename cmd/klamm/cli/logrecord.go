package cli

import (
	"encoding/base64"
	"encoding/binary"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// decodedRecord is a record as people read it. Key and value are text, nil, or
// an object.
type decodedRecord struct {
	kind       string // "" for a record of no known kind
	key, value any
}

// coordinatorRecords are the kinds of records in the topics of coordinators, by
// the int16 that their keys begin with. The messages are called so, with Key and
// Value behind.
var coordinatorRecords = map[string]map[int16]string{
	"__consumer_offsets": {
		0: "LegacyOffsetCommit", 1: "OffsetCommit", 2: "GroupMetadata", 3: "ConsumerGroupMetadata", 4: "ConsumerGroupPartitionMetadata",
		5: "ConsumerGroupMemberMetadata", 6: "ConsumerGroupTargetAssignmentMetadata", 7: "ConsumerGroupTargetAssignmentMember",
		8: "ConsumerGroupCurrentMemberAssignment", 10: "ShareGroupMemberMetadata", 11: "ShareGroupMetadata",
		12: "ShareGroupTargetAssignmentMetadata", 13: "ShareGroupTargetAssignmentMember", 14: "ShareGroupCurrentMemberAssignment",
		15: "ShareGroupStatePartitionMetadata", 16: "ConsumerGroupRegularExpression", 17: "StreamsGroupMetadata",
		19: "StreamsGroupMemberMetadata", 20: "StreamsGroupTargetAssignmentMetadata", 21: "StreamsGroupTargetAssignmentMember",
		22: "StreamsGroupCurrentMemberAssignment", 23: "StreamsGroupTopology",
	},
	"__transaction_state": {0: "TransactionLog"},
	"__share_group_state": {0: "ShareSnapshot", 1: "ShareUpdate"},
}

// controlRecords are the kinds of control records, by type, and the messages in
// their values.
var controlRecords = map[record.ControlType][2]string{
	record.ControlAbort: {"Abort", "EndTxnMarker"}, record.ControlCommit: {"Commit", "EndTxnMarker"},
	record.ControlLeaderChange: {"LeaderChange", "LeaderChangeMessage"}, record.ControlSnapshotHeader: {"SnapshotHeader", "SnapshotHeaderRecord"},
	record.ControlSnapshotFooter: {"SnapshotFooter", "SnapshotFooterRecord"}, record.ControlKRaftVersion: {"KRaftVersion", "KRaftVersionRecord"},
	record.ControlVoters: {"Voters", "VotersRecord"},
}

// decodeRecord decodes a record as the topic's owner wrote it. What does not
// decode is shown as it is.
func decodeRecord(topic string, control bool, r *record.Record) decodedRecord {
	plain := decodedRecord{key: bytesText(r.Key), value: bytesText(r.Value)}
	switch kinds := coordinatorRecords[topic]; {
	case control:
		return decodeControl(r, plain)
	case topic == meta.MetadataTopic:
		m, err := meta.ParseRecord(r.Value)
		if err != nil {
			return plain
		}
		return decodedRecord{strings.TrimSuffix(m.MessageName(), "Record"), nil, messageObject(m)}
	case kinds != nil && len(r.Key) >= 2:
		name, ok := kinds[int16(binary.BigEndian.Uint16(r.Key))]
		if !ok {
			return plain
		}
		plain.kind = name
		key, value := msg.NewByName(name+"Key"), msg.NewByName(name+"Value")
		if key.Decode(r.Key[2:], 0) != nil {
			return plain
		}
		plain.key = messageObject(key)
		if len(r.Value) >= 2 && value.Decode(r.Value[2:], int16(binary.BigEndian.Uint16(r.Value))) == nil {
			plain.value = messageObject(value)
		}
	}
	return plain
}

func decodeControl(r *record.Record, plain decodedRecord) decodedRecord {
	if len(r.Key) < 4 {
		return plain
	}
	names, ok := controlRecords[record.ControlType(binary.BigEndian.Uint16(r.Key[2:]))]
	if !ok {
		return plain
	}
	plain.kind, plain.key = names[0], nil
	m := msg.NewByName(names[1])
	body := r.Value
	version := int16(0)
	if len(body) >= 2 { // each of them begins with its version
		version = int16(binary.BigEndian.Uint16(body))
	}
	if names[1] == "EndTxnMarker" && len(body) >= 2 { // whose schema leaves it out
		body = body[2:]
	}
	if m.Decode(body, version) == nil {
		plain.value = messageObject(m)
	}
	return plain
}

// bytesText returns bytes as text where they are, and else in base64; nil for
// null.
func bytesText(b []byte) any {
	if b == nil {
		return nil
	}
	if utf8.Valid(b) {
		s := string(b)
		if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune("\t\r\n", r) }) < 0 {
			return s
		}
	}
	return "base64:" + base64.StdEncoding.EncodeToString(b)
}

// messageObject returns the fields of a message in their order.
func messageObject(m msg.Message) object {
	return structObject(reflect.ValueOf(m).Elem())
}

func structObject(v reflect.Value) object {
	o := object{}
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Tags" {
			if v.Field(i).IsNil() {
				continue
			}
			name = "UnknownTags"
		}
		x := plainValue(v.Field(i))
		if b, ok := v.Field(i).Interface().([]byte); ok {
			if p := consumerProtocol(name, b); p != nil {
				x = p
			}
		}
		o = append(o, field{strings.ToLower(name[:1]) + name[1:], x})
	}
	return o
}

func plainValue(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case []byte:
		return bytesText(x)
	case prim.UUID:
		return x.String()
	case prim.Records:
		return bytesText(x.B)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plainValue(v.Elem())
	case reflect.Struct:
		return structObject(v)
	case reflect.Slice:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			out = append(out, plainValue(v.Index(i)))
		}
		return out
	}
	return v.Interface()
}

// consumerProtocol decodes what consumers put into the metadata and the
// assignments of their groups; nil if it is something else.
func consumerProtocol(field string, b []byte) any {
	var m msg.Message
	switch field {
	case "Subscription":
		m = new(msg.ConsumerProtocolSubscription)
	case "Assignment":
		m = new(msg.ConsumerProtocolAssignment)
	default:
		return nil
	}
	if len(b) < 2 {
		return nil
	}
	_, newest := m.Versions()
	version := min(int16(binary.BigEndian.Uint16(b)), newest)
	if version < 0 || m.Decode(b[2:], version) != nil {
		return nil
	}
	return messageObject(m)
}
