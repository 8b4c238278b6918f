package client

import (
	"testing"
	"time"
)

func TestPreferenceSource(t *testing.T) {
	now := time.Unix(100, 0)
	brokers := map[int32]BrokerInfo{1: {}, 2: {}}
	for _, c := range []struct {
		name string
		from preference
		part PartitionInfo
		want int32
		gone bool
	}{
		{"the leader, without a preference", preference{}, PartitionInfo{Leader: 1, Replicas: []int32{1, 2}}, 1, false},
		{"the preferred replica", preference{2, now.Add(1)}, PartitionInfo{Leader: 1, Replicas: []int32{1, 2}}, 2, false},
		{"the leader, once it is over", preference{2, now}, PartitionInfo{Leader: 1, Replicas: []int32{1, 2}}, 1, false},
		{"one that is offline is gone", preference{2, now.Add(1)}, PartitionInfo{Leader: 1, Replicas: []int32{1, 2}, Offline: []int32{2}}, 2, true},
		{"one that is no replica any more is gone", preference{2, now.Add(1)}, PartitionInfo{Leader: 1, Replicas: []int32{1}}, 2, true},
		{"a broker that is not known is gone", preference{3, now.Add(1)}, PartitionInfo{Leader: 1, Replicas: []int32{1, 3}}, 3, true},
	} {
		id, gone := c.from.source(&c.part, brokers, now)
		if id != c.want || gone != c.gone {
			t.Errorf("%s: got %d, %v, want %d, %v", c.name, id, gone, c.want, c.gone)
		}
		if stays := id == 2 && !gone; c.from.holds(now) != stays || c.from.clear() != stays {
			t.Errorf("%s: is it remembered: %v, want %v", c.name, !stays, stays)
		}
	}
}
