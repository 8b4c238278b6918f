package client

import (
	"testing"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
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

// An answer decides where a partition is read next, and an error of a follower moves no
// position: the leader is asked, at once the first time and later the second.
func TestPreferenceFollowsAnswers(t *testing.T) {
	const leader, follower = 1, 2
	none := func(*msg.FetchResponsePartitionData) {}
	for _, c := range []struct {
		name   string
		broker int32 // that answers
		answer func(r *msg.FetchResponsePartitionData)
		want   int32 // 0: the leader
		fails  bool  // the error is handled as a leader's
	}{
		{"the leader names a replica", leader, func(r *msg.FetchResponsePartitionData) { r.PreferredReadReplica = follower }, follower, false},
		{"the leader names itself", leader, func(r *msg.FetchResponsePartitionData) { r.PreferredReadReplica = leader }, 0, false},
		{"the leader names nobody", leader, none, 0, false},
		{"a follower answers", follower, none, follower, false},
		{"a follower does not have the offset", follower, func(r *msg.FetchResponsePartitionData) { r.ErrorCode = int16(kerr.OffsetOutOfRange) }, 0, false},
		{"a follower is none any more", follower, func(r *msg.FetchResponsePartitionData) { r.ErrorCode = int16(kerr.NotLeaderOrFollower) }, 0, false},
		{"a follower has another log", follower, func(r *msg.FetchResponsePartitionData) { r.DivergingEpoch.Epoch, r.DivergingEpoch.EndOffset = 1, 3 }, 0, false},
		{"a follower does not know the epoch yet", follower, func(r *msg.FetchResponsePartitionData) { r.ErrorCode = int16(kerr.UnknownLeaderEpoch) }, follower, true},
	} {
		o := ConsumerOptions{Options: Options{BootstrapServers: []string{"h:1"}}, Rack: "a", Reset: ResetEarliest}
		r, err := NewConsumer(o)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		p := newPosition(TopicPartition{Topic: "t"}, AtOffset(7))
		if c.broker == follower {
			p.from.set(follower, now.Add(time.Hour))
		}
		var d msg.FetchResponsePartitionData
		d.SetDefaults()
		c.answer(&d)
		r.mu.Lock()
		err = r.arrived(c.broker, p, &d, now)
		r.mu.Unlock()
		if (err != nil) != c.fails || p.from.id != c.want || p.next != 7 || !p.known {
			t.Errorf("%s: error %v, preferred %d at offset %d (known: %v), want %d at offset 7", c.name, err, p.from.id, p.next, p.known, c.want)
		}
		if back := c.broker == follower && c.want == 0; back {
			first := p.notBefore
			p.from.set(follower, now.Add(time.Hour))
			r.mu.Lock()
			err = r.arrived(c.broker, p, &d, now)
			r.mu.Unlock()
			if err != nil || first.After(now) || !p.notBefore.After(now) {
				t.Errorf("%s: the leader is asked after %v, and the second time after %v (%v)", c.name, first.Sub(now), p.notBefore.Sub(now), err)
			}
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
