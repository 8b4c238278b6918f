package broker

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// bubble runs f with a broker on virtual time.
func bubble(t *testing.T, overrides []string, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, overrides...)
		f(t, r)
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func TestFetchWaitsForRecords(t *testing.T) {
	bubble(t, []string{"num.io.threads=1"}, func(t *testing.T, r *rig) {
		p, consumer := r.dial(t), r.dial(t)
		p.create("orders", 2)
		consumer.send(consumer.request(fetchFrom("orders", 1, 30000, 0, 0), 12))
		synctest.Wait()
		began := time.Now()
		time.Sleep(time.Second)
		p.produce("orders", 1, "woken")
		var resp msg.FetchResponse
		consumer.answer(&resp, 12)
		if d := time.Since(began); d != time.Second {
			t.Errorf("answered after %v, want 1s", d)
		}
		parts := resp.Responses[0].Partitions
		if got := values(t, &parts[1]); len(parts) != 2 || !slices.Equal(got, []string{"woken"}) || parts[1].HighWatermark != 1 || parts[0].Records.Len() != 0 {
			t.Errorf("fetched %q, high watermark %d", got, parts[1].HighWatermark)
		}
	})
}

func TestFetchMaxWait(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 1)
		p.produce("orders", 0, "small")
		for _, c := range []struct {
			name      string
			min, wait int32
			offset    int64
			want      time.Duration
			records   int
		}{
			{"nothing to read", 1, 500, 1, 500 * time.Millisecond, 0},
			{"nothing to read and no wait", 1, 0, 1, 0, 0},
			{"no minimum", 0, 500, 1, 0, 0},
			{"enough", 1, 500, 0, 0, 1},
			{"less than the minimum", 10000, 700, 0, 700 * time.Millisecond, 1},
			{"an offset out of range answers at once", 1, 500, 7, 0, 0},
		} {
			began := time.Now()
			var resp msg.FetchResponse
			p.ask(fetchFrom("orders", c.min, c.wait, c.offset), 12, &resp)
			part := &resp.Responses[0].Partitions[0]
			if d := time.Since(began); d != c.want || len(values(t, part)) != c.records {
				t.Errorf("%s: %d records after %v, want %d after %v", c.name, len(values(t, part)), d, c.records, c.want)
			}
			want := kerr.None
			if c.offset > 1 {
				want = kerr.OffsetOutOfRange
			}
			if got := kerr.Code(part.ErrorCode); got != want {
				t.Errorf("%s: %v, want %v", c.name, got, want)
			}
		}
	})
}

// TestFetchMinBytesGather wakes a fetch several times before it has enough.
func TestFetchMinBytesGather(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p, consumer := r.dial(t), r.dial(t)
		p.create("orders", 1)
		one := len(batch(record.None, "0123456789"))
		consumer.send(consumer.request(fetchFrom("orders", int32(3*one), 60000, 0), 12))
		answered := make(chan []string, 1)
		go func() {
			var resp msg.FetchResponse
			consumer.answer(&resp, 12)
			answered <- values(t, &resp.Responses[0].Partitions[0])
		}()
		for range 2 {
			p.produce("orders", 0, "0123456789")
			synctest.Wait()
			if len(answered) != 0 {
				t.Fatal("answered with too little")
			}
		}
		p.produce("orders", 0, "0123456789")
		if got := <-answered; len(got) != 3 {
			t.Errorf("answered with %q", got)
		}
	})
}

// TestFetchLimits keeps to the bytes asked for, but always gets on.
func TestFetchLimits(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 3)
		big := string(make([]byte, 1000))
		one := len(batch(record.None, big))
		for i := range int32(3) {
			p.produce("orders", i, big)
			p.produce("orders", i, big)
		}
		for _, c := range []struct {
			name           string
			all, partition int
			want           []int // records of each partition
		}{
			{"room for all", 1 << 20, 1 << 20, []int{2, 2, 2}},
			{"one batch of a partition", 1 << 20, one, []int{1, 1, 1}},
			{"less than the first batch", 1, 1 << 20, []int{1, 0, 0}},
			{"less than a batch of a partition", 1 << 20, 1, []int{1, 0, 0}},
			{"three batches in all", 3 * one, 1 << 20, []int{2, 1, 0}},
		} {
			req := fetchFrom("orders", 1, 0, 0, 0, 0)
			req.MaxBytes = int32(c.all)
			for i := range req.Topics[0].Partitions {
				req.Topics[0].Partitions[i].PartitionMaxBytes = int32(c.partition)
			}
			var resp msg.FetchResponse
			p.ask(req, 12, &resp)
			var got []int
			for i := range resp.Responses[0].Partitions {
				n := 0
				for b := resp.Responses[0].Partitions[i].Records.B; len(b) >= one; b = b[one:] {
					n++
				}
				got = append(got, n)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %v batches, want %v", c.name, got, c.want)
			}
		}
	})
}

// session is a client of a fetch session.
type session struct {
	*peer
	id, epoch int32
}

// fetch sends parts and forgotten partitions and returns what the answer holds:
// "index:records" or "index!error" for each partition.
func (s *session) fetch(parts []msg.FetchRequestFetchPartition, forgotten ...int32) (kerr.Code, []string) {
	s.t.Helper()
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MaxBytes, req.SessionId, req.SessionEpoch = 1<<20, s.id, s.epoch
	if len(parts) > 0 {
		req.Topics = []msg.FetchRequestFetchTopic{{Topic: "orders", Partitions: parts}}
	}
	if len(forgotten) > 0 {
		req.ForgottenTopicsData = []msg.FetchRequestForgottenTopic{{Topic: "orders", Partitions: forgotten}}
	}
	var resp msg.FetchResponse
	s.ask(req, 12, &resp)
	s.id = resp.SessionId
	var out []string
	for i := range resp.Responses {
		for j := range resp.Responses[i].Partitions {
			p := &resp.Responses[i].Partitions[j]
			if p.ErrorCode != 0 {
				out = append(out, fmt.Sprintf("%d!%d", p.PartitionIndex, p.ErrorCode))
			} else {
				out = append(out, fmt.Sprintf("%d:%d", p.PartitionIndex, len(values(s.t, p))))
			}
		}
	}
	return kerr.Code(resp.ErrorCode), out
}

// TestFetchSessions is KIP-227, step by step.
func TestFetchSessions(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 4)
		s := &session{peer: r.dial(t)}
		check := func(what string, parts []msg.FetchRequestFetchPartition, forgotten []int32, want ...string) {
			t.Helper()
			code, got := s.fetch(parts, forgotten...)
			if code != kerr.None || !slices.Equal(got, want) {
				t.Fatalf("%s: %v, %v, want %v", what, code, got, want)
			}
			s.epoch++
		}
		type parts = []msg.FetchRequestFetchPartition
		check("a full fetch names every partition", parts{fetchPart(0, 0), fetchPart(1, 0), fetchPart(2, 0)}, nil, "0:0", "1:0", "2:0")
		id := s.id
		if id == 0 {
			t.Fatal("no session")
		}
		check("nothing has changed", nil, nil)
		p.produce("orders", 1, "a")
		check("only the partition with records", nil, nil, "1:1")
		check("again, since its offset stays", nil, nil, "1:1")
		check("moved on", parts{fetchPart(1, 1)}, nil)
		p.produce("orders", 0, "b")
		p.produce("orders", 2, "c", "d")
		check("one is forgotten", nil, []int32{0}, "2:2")
		check("one is added", parts{fetchPart(3, 0), fetchPart(2, 2)}, nil, "3:0")
		check("one that is not there is added", parts{fetchPart(9, 0)}, nil, "9!3")
		check("an error is told each time", nil, nil, "9!3")
		check("and forgotten", nil, []int32{9})
		check("forgotten and named at once is forgotten", parts{fetchPart(2, 0)}, []int32{2})
		check("added again", parts{fetchPart(2, 0)}, nil, "2:2")
		if s.id != id {
			t.Errorf("session %d became %d", id, s.id)
		}
		s.epoch--
		if code, _ := s.fetch(nil); code != kerr.InvalidFetchSessionEpoch || s.id != 0 {
			t.Errorf("an epoch twice: %v, session %d", code, s.id)
		}
		s.id = id + 1
		if code, _ := s.fetch(nil); code != kerr.FetchSessionIdNotFound {
			t.Errorf("another session: %v", code)
		}
		s.id, s.epoch = id, s.epoch+1
		check("the session goes on", parts{fetchPart(2, 2)}, nil)
		check("forgetting all ends it", nil, []int32{1, 2, 3})
		if s.id != 0 {
			t.Errorf("answered with session %d", s.id)
		}
		s.id = id
		if code, _ := s.fetch(nil); code != kerr.FetchSessionIdNotFound {
			t.Errorf("after its end: %v", code)
		}
		s.id, s.epoch = 0, 0
		check("a new one", parts{fetchPart(0, 1)}, nil, "0:0")
		again := s.id
		s.epoch = -1
		if code, got := s.fetch(parts{fetchPart(0, 0)}); code != kerr.None || !slices.Equal(got, []string{"0:1"}) || s.id != 0 {
			t.Errorf("the final epoch: %v, %v, session %d", code, got, s.id)
		}
		s.id, s.epoch = again, 1
		if code, _ := s.fetch(nil); code != kerr.FetchSessionIdNotFound {
			t.Errorf("after the final epoch: %v", code)
		}
	})
}

// TestFetchSessionRotates gives every partition its turn where an answer holds
// only one.
func TestFetchSessionRotates(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 4)
		for i := range int32(4) {
			p.produce("orders", i, "a")
		}
		req := fetchFrom("orders", 1, 0, 0, 0, 0, 0)
		req.MaxBytes, req.SessionEpoch = 1, 0
		sent := make(map[int32]int)
		for range 8 {
			var resp msg.FetchResponse
			p.ask(req, 12, &resp)
			for i := range resp.Responses {
				for _, part := range resp.Responses[i].Partitions {
					if part.Records.Len() > 0 {
						sent[part.PartitionIndex]++
					}
				}
			}
			req.SessionId, req.SessionEpoch, req.Topics = resp.SessionId, req.SessionEpoch+1, nil
		}
		if fmt.Sprint(sent) != "map[0:2 1:2 2:2 3:2]" {
			t.Errorf("partitions had their turn so often: %v", sent)
		}
	})
}

// TestFetchSessionEviction fills the cache of sessions.
func TestFetchSessionEviction(t *testing.T) {
	bubble(t, []string{"max.incremental.fetch.session.cache.slots=2"}, func(t *testing.T, r *rig) {
		r.dial(t).create("orders", 4)
		open := func(partitions int32) *session {
			t.Helper()
			s := &session{peer: r.dial(t)}
			var parts []msg.FetchRequestFetchPartition
			for i := range partitions {
				parts = append(parts, fetchPart(i, 0))
			}
			if code, _ := s.fetch(parts); code != kerr.None {
				t.Fatal(code)
			}
			s.epoch = 1
			return s
		}
		has := func(s *session) bool {
			t.Helper()
			id := s.id
			code, _ := s.fetch(nil)
			s.epoch++
			s.id = id
			return code == kerr.None
		}
		small, large := open(1), open(3)
		if s := open(4); s.id != 0 {
			t.Error("a session was made in the place of a young one")
		}
		time.Sleep(121 * time.Second)
		if !has(large) || !has(small) {
			t.Fatal("a session is gone")
		}
		if s := open(1); s.id != 0 {
			t.Error("a session was made in the place of one as large")
		}
		if s := open(2); s.id == 0 || has(small) || !has(large) {
			t.Error("a larger session did not take the place of the smallest")
		}
		time.Sleep(121 * time.Second)
		if s := open(1); s.id == 0 || !has(s) {
			t.Error("a session did not take the place of one that nobody uses")
		}
	})
}

// TestFetchByTopicID holds a session to one way of naming topics (KIP-516).
func TestFetchByTopicID(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 1)
		p.produce("orders", 0, "a")
		var meta msg.MetadataResponse
		p.ask(&msg.MetadataRequest{Topics: []msg.MetadataRequestTopic{{Name: new("orders")}}}, 12, &meta)
		req := fetchFrom("", 1, 0, 0)
		req.Topics[0].TopicId, req.SessionEpoch = meta.Topics[0].TopicId, 0
		var resp msg.FetchResponse
		p.ask(req, 13, &resp)
		if got := values(t, &resp.Responses[0].Partitions[0]); !slices.Equal(got, []string{"a"}) || resp.Responses[0].TopicId != meta.Topics[0].TopicId {
			t.Errorf("fetched %q of %s", got, resp.Responses[0].TopicId)
		}
		next := new(msg.FetchRequest)
		next.SetDefaults()
		next.MaxBytes, next.SessionId, next.SessionEpoch = 1<<20, resp.SessionId, 1
		p.ask(next, 12, &resp)
		if got := kerr.Code(resp.ErrorCode); got != kerr.FetchSessionTopicIdError {
			t.Errorf("by name in a session of ids: %v", got)
		}
		req.Topics[0].TopicId, req.SessionEpoch = prim.UUID{1}, -1
		p.ask(req, 13, &resp)
		if got := kerr.Code(resp.Responses[0].Partitions[0].ErrorCode); got != kerr.UnknownTopicId {
			t.Errorf("an id that is not there: %v", got)
		}
	})
}

// TestProduceWithoutAcks answers nothing, keeps the order, and closes the
// connection when something went wrong.
func TestProduceWithoutAcks(t *testing.T) {
	bubble(t, []string{"auto.create.topics.enable=false"}, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 1)
		p.send(p.request(produceTo("orders", 0, 0, batch(record.None, "a")), 9))
		p.send(p.request(produceTo("orders", 0, 0, batch(record.None, "b")), 9))
		if got := p.produce("orders", 0, "c"); got != 2 {
			t.Errorf("offset %d behind two produces without acks, want 2", got)
		}
		p.send(p.request(produceTo("nowhere", 0, 0, batch(record.None, "d")), 9))
		if err := p.closed(); err != nil {
			t.Error(err)
		}
	})
}

// TestStoppingBrokerAnswersFetches answers parked fetches with what there is.
func TestStoppingBrokerAnswersFetches(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p, q := r.dial(t), r.dial(t)
		p.create("orders", 1)
		p.produce("orders", 0, "a")
		q.send(q.request(fetchFrom("orders", 1000, 3600_000, 0), 12))
		synctest.Wait()
		began := time.Now()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > 50*time.Millisecond {
			t.Errorf("closing took %v", d)
		}
		var resp msg.FetchResponse
		if _, err := q.tryAnswer(&resp, 12); err != nil || !slices.Equal(values(t, &resp.Responses[0].Partitions[0]), []string{"a"}) {
			t.Errorf("the parked fetch: %v", err)
		}
		if _, err := p.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the other connection: %v", err)
		}
	})
}

// TestJoinHoldsNoSlot has a member wait for the other's rejoin on a broker of
// one thread: neither produces nor heartbeats wait behind it.
func TestJoinHoldsNoSlot(t *testing.T) {
	bubble(t, []string{"num.io.threads=1"}, func(t *testing.T, r *rig) {
		join := func(p *peer, member string) {
			p.send(p.request(&msg.JoinGroupRequest{GroupId: "g", MemberId: member, SessionTimeoutMs: 30000, RebalanceTimeoutMs: 60000, ProtocolType: "consumer",
				Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}}, 3))
		}
		first, second, other := r.dial(t), r.dial(t), r.dial(t)
		other.create("orders", 1)
		var found msg.FindCoordinatorResponse
		other.ask(&msg.FindCoordinatorRequest{Key: "g"}, 3, &found)
		var leader msg.JoinGroupResponse
		for tries := 0; ; tries++ {
			join(first, "")
			if first.answer(&leader, 3); leader.ErrorCode == 0 {
				break
			}
			if tries == 100 {
				t.Fatalf("join: %v", kerr.Code(leader.ErrorCode))
			}
			time.Sleep(10 * time.Millisecond) // the coordinator is loading
		}
		var sync msg.SyncGroupResponse
		first.ask(&msg.SyncGroupRequest{GroupId: "g", GenerationId: leader.GenerationId, MemberId: leader.MemberId}, 3, &sync)
		join(second, "")
		synctest.Wait()
		began := time.Now()
		if got := other.produce("orders", 0, "a"); got != 0 {
			t.Errorf("offset %d", got)
		}
		var beat msg.HeartbeatResponse
		first.ask(&msg.HeartbeatRequest{GroupId: "g", GenerationId: leader.GenerationId, MemberId: leader.MemberId}, 3, &beat)
		if got := kerr.Code(beat.ErrorCode); got != kerr.RebalanceInProgress || time.Since(began) != 0 {
			t.Errorf("heartbeat: %v after %v", got, time.Since(began))
		}
		join(first, leader.MemberId)
		var a, b msg.JoinGroupResponse
		first.answer(&a, 3)
		second.answer(&b, 3)
		if a.ErrorCode != 0 || b.ErrorCode != 0 || a.GenerationId != b.GenerationId || a.GenerationId != leader.GenerationId+1 {
			t.Errorf("generations %d and %d after %d, errors %d and %d", a.GenerationId, b.GenerationId, leader.GenerationId, a.ErrorCode, b.ErrorCode)
		}
	})
}
