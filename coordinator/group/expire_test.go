package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// large returns a machine with a stable group of consumers that has committed offsets of
// so many topics.
func large(t *testing.T, members, topics int, at time.Time) *Machine {
	t.Helper()
	m := NewMachine(Config{Retention: time.Hour, RetentionChecks: time.Hour})
	v := &msg.GroupMetadataValue{ProtocolType: consumerProtocol, Generation: 1, Protocol: new(string)}
	*v.Protocol = "range"
	s := &msg.ConsumerProtocolSubscription{}
	for i := range 20 {
		s.Topics = append(s.Topics, fmt.Sprint("t", i))
	}
	b, err := s.AppendTo(prim.AppendInt16(nil, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range members {
		v.Members = append(v.Members, msg.GroupMetadataValueMemberMetadata{MemberId: fmt.Sprint(i), SessionTimeout: 1e6, RebalanceTimeout: 1e6, Subscription: b})
	}
	records := []coordinator.Record{{Key: appendKey(groupKey, &msg.GroupMetadataKey{Group: "g"}), Value: appendValue(groupVersion, v)}}
	for i := range topics {
		records = append(records, offsetRecord("g", fmt.Sprint("t", i), 0, committed{at: at}))
	}
	for _, r := range records {
		if err := m.Replay(r, coordinator.Origin{Producer: record.NoProducer}); err != nil {
			t.Fatal(err)
		}
	}
	m.Loaded(at)
	return m
}

// What looks at the subscriptions of a group reads them once, however many topics the
// group has offsets of or a request names: a shard does nothing else meanwhile.
func TestSubscriptionsAreReadOnce(t *testing.T) {
	const members, topics = 50, 200
	at := time.UnixMilli(1_700_000_000_000)
	m := large(t, members, topics, at)
	req := &msg.OffsetDeleteRequest{GroupId: "g"}
	for i := range topics {
		req.Topics = append(req.Topics, msg.OffsetDeleteRequestTopic{Name: fmt.Sprint("t", i), Partitions: []msg.OffsetDeleteRequestPartition{{}}})
	}
	for what, f := range map[string]func(){
		"expiry": func() {
			if got := len(m.expire(at.Add(2 * time.Hour))); got != topics-20 {
				t.Fatalf("%d records, want a tombstone for each topic that nobody has subscribed", got)
			}
		},
		"deletion": func() {
			d, codes, code := m.DeleteOffsets(req)
			if len(d.Records) != topics-20 || code != kerr.None || codes[0][0] != kerr.GroupSubscribedToTopic || codes[topics-1][0] != kerr.None {
				t.Fatalf("%d records, %v", len(d.Records), code)
			}
		},
	} {
		if n := testing.AllocsPerRun(3, f); n > 30*members+30*topics {
			t.Errorf("%s: %.0f allocations for %d members and %d topics", what, n, members, topics)
		}
	}
}
