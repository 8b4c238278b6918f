package client

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// groupMember is what the leader of a group knows of a member.
type groupMember struct {
	id, instance string
	topics       []string
	owned        []TopicPartition // sticky: before this rebalance
	generation   int32            // sticky: when it owned them
}

// order sorts members as the Java client does: static ones by instance id, and
// before the others.
func order(a, b *groupMember) int {
	switch {
	case a.instance != "" && b.instance != "":
		return cmp.Compare(a.instance, b.instance)
	case a.instance != "":
		return -1
	case b.instance != "":
		return 1
	}
	return cmp.Compare(a.id, b.id)
}

// subscribers returns who subscribes to each topic that has partitions, in the
// order of members.
func subscribers(members []*groupMember, partitions map[string]int32) map[string][]int {
	takers := make(map[string][]int, len(partitions))
	for i, m := range members {
		for _, topic := range m.topics {
			have := takers[topic]
			if _, exists := partitions[topic]; !exists || len(have) > 0 && have[len(have)-1] == i { // named twice
				continue
			}
			takers[topic] = append(have, i)
		}
	}
	return takers
}

// assignRange gives each member a run of each topic it subscribes to; the first
// ones get one more where the number does not divide.
func assignRange(members []*groupMember, partitions map[string]int32) map[string][]TopicPartition {
	out := make(map[string][]TopicPartition)
	slices.SortFunc(members, order)
	subscribed := subscribers(members, partitions)
	for _, topic := range sortedTopics(partitions) {
		takers := subscribed[topic]
		next := int32(0)
		for i, taker := range takers {
			id := members[taker].id
			n := partitions[topic] / int32(len(takers))
			if int32(i) < partitions[topic]%int32(len(takers)) {
				n++
			}
			for ; n > 0; n-- {
				out[id] = append(out[id], TopicPartition{topic, next})
				next++
			}
		}
	}
	return out
}

func sortedTopics(partitions map[string]int32) (topics []string) {
	for t := range partitions {
		topics = append(topics, t)
	}
	slices.Sort(topics)
	return topics
}

// stickyUserData is what a member sends to the leader for the sticky assignor: an
// array of topic and array of partitions, and int32 the generation.
func stickyUserData(owned []TopicPartition, generation int32) []byte {
	var e prim.Encoder
	topics := byTopic(owned)
	b := prim.AppendInt32(nil, int32(len(topics)))
	for _, t := range topics {
		b = prim.AppendString(b, t.topic, false, &e)
		b = prim.AppendInt32(b, int32(len(t.partitions)))
		for _, p := range t.partitions {
			b = prim.AppendInt32(b, p)
		}
	}
	return prim.AppendInt32(b, generation)
}

func parseStickyUserData(b []byte) (owned []TopicPartition, generation int32) {
	r := prim.NewReader(b)
	for range r.ArrayLenNotNull(false, 6) {
		topic := r.String(false, "")
		for range r.ArrayLenNotNull(false, 4) {
			owned = append(owned, TopicPartition{topic, r.Int32()})
		}
	}
	generation = -1
	if r.Len() > 0 { // version 0 had none
		generation = r.Int32()
	}
	if r.Err() != nil { // a member of another kind: it owned nothing that counts
		return nil, -1
	}
	return owned, generation
}

type topicPartitions struct {
	topic      string
	partitions []int32
}

// byTopic groups partitions, both sorted.
func byTopic(tps []TopicPartition) (out []topicPartitions) {
	tps = slices.Clone(tps)
	slices.SortFunc(tps, compareTopicPartitions)
	for _, tp := range tps {
		if n := len(out); n == 0 || out[n-1].topic != tp.Topic {
			out = append(out, topicPartitions{topic: tp.Topic})
		}
		last := &out[len(out)-1]
		last.partitions = append(last.partitions, tp.Partition)
	}
	return out
}

// subscriptionVersion is the version of the consumer protocol that is written;
// any is read.
const subscriptionVersion = 3

// encodeSubscription makes the metadata of a JoinGroup: int16 version, body.
func encodeSubscription(topics []string, userData []byte, generation int32, rack string) ([]byte, error) {
	s := new(msg.ConsumerProtocolSubscription)
	s.SetDefaults()
	s.Topics, s.UserData, s.GenerationId = topics, userData, generation
	if rack != "" {
		s.RackId = &rack
	}
	return s.AppendTo(prim.AppendInt16(nil, subscriptionVersion), subscriptionVersion)
}

// parseVersioned reads int16 version and the body in the newest version known,
// ignoring what a newer one has behind it.
func parseVersioned(b []byte, m msg.Message) error {
	r := prim.NewReader(b)
	v := r.Int16()
	if r.Err() != nil || v < 0 {
		return fmt.Errorf("consumer protocol: version %d: %w", v, r.Err())
	}
	_, newest := m.Versions()
	m.DecodeFrom(&r, min(v, newest))
	return r.Err()
}

func encodeAssignment(tps []TopicPartition) ([]byte, error) {
	a := new(msg.ConsumerProtocolAssignment)
	a.SetDefaults()
	for _, t := range byTopic(tps) {
		a.AssignedPartitions = append(a.AssignedPartitions, msg.ConsumerProtocolAssignmentTopicPartition{Topic: t.topic, Partitions: t.partitions})
	}
	return a.AppendTo(prim.AppendInt16(nil, subscriptionVersion), subscriptionVersion)
}

func parseAssignment(b []byte) (tps []TopicPartition, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	var a msg.ConsumerProtocolAssignment
	if err := parseVersioned(b, &a); err != nil {
		return nil, err
	}
	for _, t := range a.AssignedPartitions {
		for _, p := range t.Partitions {
			tps = append(tps, TopicPartition{t.Topic, p})
		}
	}
	return tps, nil
}
