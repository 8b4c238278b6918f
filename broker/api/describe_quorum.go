package api

import (
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
// nothing else. A lone voter has no listener for others to reach it by.
func (h *Handlers) describeQuorum(c *Call, req *msg.DescribeQuorumRequest) (*msg.DescribeQuorumResponse, error) {
	resp := new(msg.DescribeQuorumResponse)
	resp.ErrorMessage = new(string)
	if len(req.Topics) == 1 && req.Topics[0].TopicName == meta.MetadataTopic && len(req.Topics[0].Partitions) == 1 && req.Topics[0].Partitions[0].PartitionIndex == 0 {
		q := h.Controller.Quorum()
		now := h.Clock.Now().UnixMilli()
		p := msg.DescribeQuorumResponsePartitionData{ErrorMessage: new(string), LeaderId: q.Leader, LeaderEpoch: q.Epoch, HighWatermark: q.HighWatermark}
		p.CurrentVoters = []msg.DescribeQuorumResponseReplicaState{{ReplicaId: q.Leader, LogEndOffset: q.EndOffset, LastFetchTimestamp: now, LastCaughtUpTimestamp: now}}
		resp.Topics = []msg.DescribeQuorumResponseTopicData{{TopicName: meta.MetadataTopic, Partitions: []msg.DescribeQuorumResponsePartitionData{p}}}
		if c.Version() >= 2 {
			resp.Nodes = []msg.DescribeQuorumResponseNode{{NodeId: q.Leader}}
		}
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
