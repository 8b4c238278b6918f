package broker

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// A transactional batch that names no transaction would stay open for ever. The
// whole request is refused, whichever batch it is, and nothing is appended.
func TestTransactionalBatchesNeedAnID(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 2)
		b := record.NewBuilder(record.None, 0)
		b.Append(1, nil, []byte("open"), nil)
		open, err := b.Finish(record.Producer{ID: 5, Transactional: true})
		if err != nil {
			t.Fatal(err)
		}
		plain := batch(record.None, "plain")
		for _, req := range []*msg.ProduceRequest{produceTo("orders", 1, -1, open), produceTo("orders", 1, -1, append(append([]byte{}, plain...), open...))} {
			first := produceTo("orders", 0, -1, plain).TopicData[0].PartitionData
			req.TopicData[0].PartitionData = append(first, req.TopicData[0].PartitionData...)
			var resp msg.ProduceResponse
			p.ask(req, 9, &resp)
			for _, x := range resp.Responses[0].PartitionResponses {
				if kerr.Code(x.ErrorCode) != kerr.TransactionalIdAuthorizationFailed || x.BaseOffset != -1 {
					t.Errorf("partition %d: %v at %d", x.Index, kerr.Code(x.ErrorCode), x.BaseOffset)
				}
			}
		}
		id := "txn"
		req := produceTo("orders", 0, -1, plain)
		req.TransactionalId = &id
		var resp msg.ProduceResponse
		if p.ask(req, 9, &resp); resp.Responses[0].PartitionResponses[0].ErrorCode != 0 {
			t.Errorf("a plain batch of a transactional producer: %+v", resp)
		}
		for i := range int32(2) {
			if end := r.replicas.Get("orders", i).Log().EndOffset(); end != 1-int64(i) {
				t.Errorf("partition %d ends at %d", i, end)
			}
		}
	})
}

// Nothing but FindCoordinator makes __consumer_offsets.
func TestGroupsBeforeTheirTopic(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		p.create("orders", 1)
		var fetched msg.OffsetFetchResponse
		p.ask(&msg.OffsetFetchRequest{GroupId: "g"}, 7, &fetched)
		var committed msg.OffsetCommitResponse
		p.ask(&msg.OffsetCommitRequest{GroupId: "g", GenerationIdOrMemberEpoch: -1, Topics: []msg.OffsetCommitRequestTopic{{Name: "orders", Partitions: []msg.OffsetCommitRequestPartition{{}}}}}, 8, &committed)
		var joined msg.JoinGroupResponse
		p.ask(&msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 10000}, 7, &joined)
		for what, code := range map[string]int16{"fetch": fetched.ErrorCode, "commit": committed.Topics[0].Partitions[0].ErrorCode, "join": joined.ErrorCode} {
			if kerr.Code(code) != kerr.NotCoordinator {
				t.Errorf("%s: %v", what, kerr.Code(code))
			}
		}
		if r.controller.Image().Topic(meta.GroupTopic) != nil {
			t.Error("the topic was made")
		}
	})
}

// groupPeer is a client after FindCoordinator.
func groupPeer(t *testing.T, r *rig) *peer {
	p := r.dial(t)
	p.create("orders", 2)
	var found msg.FindCoordinatorResponse
	p.ask(&msg.FindCoordinatorRequest{Key: "g"}, 2, &found)
	if found.ErrorCode != 0 {
		t.Fatalf("find coordinator: %v", kerr.Code(found.ErrorCode))
	}
	synctest.Wait() // it is loaded
	return p
}

// Some clients commit a negative offset that means something to them: kafkajs
// commits -2 for the beginning.
func TestNegativeOffsetsAreKept(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := groupPeer(t, r)
		var committed msg.OffsetCommitResponse
		p.ask(&msg.OffsetCommitRequest{GroupId: "g", GenerationIdOrMemberEpoch: -1, Topics: []msg.OffsetCommitRequestTopic{{Name: "orders",
			Partitions: []msg.OffsetCommitRequestPartition{{CommittedOffset: -2, CommittedLeaderEpoch: -1}}}}}, 8, &committed)
		for _, topics := range [][]msg.OffsetFetchRequestTopic{nil, {{Name: "orders", PartitionIndexes: []int32{0}}}} {
			var resp msg.OffsetFetchResponse
			p.ask(&msg.OffsetFetchRequest{GroupId: "g", Topics: topics}, 7, &resp)
			if resp.ErrorCode != 0 || len(resp.Topics) != 1 || resp.Topics[0].Partitions[0].CommittedOffset != -2 {
				t.Errorf("fetched %+v", resp)
			}
		}
		// A group of no name is one like any other.
		var nameless msg.OffsetCommitResponse
		for _, generation := range []int32{-1, 3} {
			nameless = msg.OffsetCommitResponse{}
			p.ask(&msg.OffsetCommitRequest{GenerationIdOrMemberEpoch: generation, Topics: []msg.OffsetCommitRequestTopic{{Name: "orders",
				Partitions: []msg.OffsetCommitRequestPartition{{}}}}}, 8, &nameless)
		}
		if got := kerr.Code(nameless.Topics[0].Partitions[0].ErrorCode); got != kerr.UnknownMemberId {
			t.Errorf("commit in a generation of a group without name: %v", got)
		}
	})
}

// A member id is made of the client's id or its instance id. One that is too long
// to be written down is refused at the door: no other member, and no shard, has
// to do with it.
func TestLongStringsOfMembers(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := groupPeer(t, r)
		long := strings.Repeat("x", 32767)
		join := func(q *peer, clientID string, instance *string, member string) *msg.JoinGroupResponse {
			req := &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 10000, MemberId: member, GroupInstanceId: instance,
				Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}
			body, err := req.AppendTo(nil, 7)
			if err != nil {
				t.Fatal(err)
			}
			q.id++
			b, err := wire.AppendRequestHeader(make([]byte, 4), wire.RequestHeader{Key: wire.JoinGroup, Version: 7, CorrelationID: q.id, ClientID: clientID})
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, body...)
			b[2], b[3] = byte((len(b)-4)>>8), byte(len(b)-4)
			b[1] = byte((len(b) - 4) >> 16)
			q.send(b)
			resp := new(msg.JoinGroupResponse)
			q.answer(resp, 7)
			return resp
		}
		if got := kerr.Code(join(p, long, nil, "").ErrorCode); got != kerr.UnknownServerError {
			t.Errorf("a client id of %d bytes: %v", len(long), got)
		}
		if got := kerr.Code(join(p, "c", &long, "").ErrorCode); got != kerr.UnknownServerError {
			t.Errorf("an instance id of %d bytes: %v", len(long), got)
		}
		// One that just fits works to the end.
		fits := long[:32767-1-36]
		first := join(p, fits, nil, "")
		if kerr.Code(first.ErrorCode) != kerr.MemberIdRequired || len(first.MemberId) != 32767 {
			t.Fatalf("the longest client id: %v", kerr.Code(first.ErrorCode))
		}
		joined := join(p, fits, nil, first.MemberId)
		var synced msg.SyncGroupResponse
		p.ask(&msg.SyncGroupRequest{GroupId: "g", GenerationId: joined.GenerationId, MemberId: joined.MemberId,
			Assignments: []msg.SyncGroupRequestAssignment{{MemberId: joined.MemberId, Assignment: []byte("all")}}}, 3, &synced)
		if joined.ErrorCode != 0 || synced.ErrorCode != 0 || string(synced.Assignment) != "all" {
			t.Errorf("joined %v, synced %v", kerr.Code(joined.ErrorCode), kerr.Code(synced.ErrorCode))
		}
	})
}

// A group is listed, and written down, from its first join on, also if that only
// got a member id.
func TestAGroupIsThereFromItsFirstJoin(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := groupPeer(t, r)
		var joined msg.JoinGroupResponse
		p.ask(&msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 10000, Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}, 7, &joined)
		if kerr.Code(joined.ErrorCode) != kerr.MemberIdRequired {
			t.Fatalf("join: %v", kerr.Code(joined.ErrorCode))
		}
		var listed msg.ListGroupsResponse
		p.ask(new(msg.ListGroupsRequest), 4, &listed)
		if len(listed.Groups) != 1 || listed.Groups[0].GroupState != "Empty" || listed.Groups[0].ProtocolType != "" {
			t.Errorf("listed %+v", listed.Groups)
		}
		records := int64(0)
		for i := range int32(50) {
			records += r.replicas.Get(meta.GroupTopic, i).Log().EndOffset()
		}
		if records != 1 {
			t.Errorf("%d records are written", records)
		}
	})
}

// An id without an epoch, or an epoch without an id, is no producer.
func TestInitProducerIDOfHalfAProducer(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		p := r.dial(t)
		for _, c := range []struct {
			id    int64
			epoch int16
			want  kerr.Code
		}{{5, -1, kerr.InvalidRequest}, {-1, 0, kerr.InvalidRequest}, {-1, -1, 0}, {5, 0, 0}} {
			var resp msg.InitProducerIdResponse
			p.ask(&msg.InitProducerIdRequest{ProducerId: c.id, ProducerEpoch: c.epoch, TransactionTimeoutMs: 1000}, 4, &resp)
			if got := kerr.Code(resp.ErrorCode); got != c.want {
				t.Errorf("id %d, epoch %d: %v, want %v", c.id, c.epoch, got, c.want)
			}
		}
	})
}
