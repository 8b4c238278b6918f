package api

import (
	"time"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeQuorum add to version 0:
//
//	v1   response: struct.LastFetchTimestamp, struct.LastCaughtUpTimestamp
//	v2   response: ErrorMessage, Topics.Partitions.ErrorMessage, Nodes, struct.ReplicaDirectoryId

// describeQuorum answers DescribeQuorum (key 55, v0-v2): who votes on the
// metadata, and how far each has come. It must ask for that one partition and
// nothing else. A voter that is alone has no listener for others to reach it by.
func (h *Handlers) describeQuorum(c *Call, req *msg.DescribeQuorumRequest) (*msg.DescribeQuorumResponse, error) {
	resp := new(msg.DescribeQuorumResponse)
	resp.ErrorMessage = new(string)
	if len(req.Topics) == 1 && req.Topics[0].TopicName == meta.MetadataTopic && len(req.Topics[0].Partitions) == 1 && req.Topics[0].Partitions[0].PartitionIndex == 0 {
		q := h.Controller.Quorum()
		p := msg.DescribeQuorumResponsePartitionData{ErrorMessage: new(string), LeaderId: q.Leader, LeaderEpoch: q.Epoch, HighWatermark: q.HighWatermark}
		for _, v := range h.Controller.Voters() {
			p.CurrentVoters = append(p.CurrentVoters, msg.DescribeQuorumResponseReplicaState{ReplicaId: v.ID, LogEndOffset: v.EndOffset,
				LastFetchTimestamp: millis(v.Heard), LastCaughtUpTimestamp: millis(v.CaughtUp)})
			if c.Version() >= 2 {
				resp.Nodes = append(resp.Nodes, h.quorumNode(v.ID))
			}
		}
		resp.Topics = []msg.DescribeQuorumResponseTopicData{{TopicName: meta.MetadataTopic, Partitions: []msg.DescribeQuorumResponsePartitionData{p}}}
		return resp, nil
	}
	err := kerr.Refuse(kerr.UnknownTopicOrPartition, "This server does not host this topic-partition.")
	for _, t := range req.Topics {
		out := msg.DescribeQuorumResponseTopicData{TopicName: t.TopicName}
		for _, p := range t.Partitions {
			out.Partitions = append(out.Partitions, msg.DescribeQuorumResponsePartitionData{PartitionIndex: p.PartitionIndex, ErrorCode: int16(h.code(err)), ErrorMessage: text(err)})
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

// millis returns a time in milliseconds of Unix time, -1 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}

// quorumNode returns where a voter listens for the others.
func (h *Handlers) quorumNode(id int32) msg.DescribeQuorumResponseNode {
	out := msg.DescribeQuorumResponseNode{NodeId: id}
	for _, v := range h.Voters {
		if v.ID == id && len(h.Broker.ControllerListenerNames) > 0 {
			out.Listeners = []msg.DescribeQuorumResponseListener{{Name: h.Broker.ControllerListenerNames[0], Host: v.Host, Port: uint16(v.Port)}}
		}
	}
	return out
}
