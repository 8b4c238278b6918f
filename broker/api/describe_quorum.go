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
// metadata, who else has them, and how far each has come. It must ask for that one partition
// and nothing else. A voter that is alone has no listener for others to reach it by.
func (h *Handlers) describeQuorum(c *Call, req *msg.DescribeQuorumRequest) (*msg.DescribeQuorumResponse, error) {
	resp := new(msg.DescribeQuorumResponse)
	resp.ErrorMessage = new(string)
	if len(req.Topics) == 1 && req.Topics[0].TopicName == meta.MetadataTopic && len(req.Topics[0].Partitions) == 1 && req.Topics[0].Partitions[0].PartitionIndex == 0 {
		q := h.Controller.Quorum()
		p := msg.DescribeQuorumResponsePartitionData{ErrorMessage: new(string), LeaderId: q.Leader, LeaderEpoch: q.Epoch, HighWatermark: q.HighWatermark}
		for _, m := range h.Controller.Members() {
			state := msg.DescribeQuorumResponseReplicaState{ReplicaId: m.ID, ReplicaDirectoryId: m.Directory, LogEndOffset: m.EndOffset,
				LastFetchTimestamp: millis(m.Heard), LastCaughtUpTimestamp: millis(m.CaughtUp)}
			if !m.Voter {
				p.Observers = append(p.Observers, state)
				continue
			}
			p.CurrentVoters = append(p.CurrentVoters, state)
			if c.Version() >= 2 {
				resp.Nodes = append(resp.Nodes, h.quorumNode(m.ID))
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

// QuorumRequest returns the request for who the voters are.
func QuorumRequest() *msg.DescribeQuorumRequest {
	return &msg.DescribeQuorumRequest{Topics: []msg.DescribeQuorumRequestTopicData{{TopicName: meta.MetadataTopic, Partitions: []msg.DescribeQuorumRequestPartitionData{{}}}}}
}

// quorumNode returns where a voter listens for the others.
func (h *Handlers) quorumNode(id int32) msg.DescribeQuorumResponseNode {
	out := msg.DescribeQuorumResponseNode{NodeId: id}
	if c := h.Controller.Image().Controller(id); c != nil && len(h.Broker.QuorumVoters) == 0 {
		for _, e := range c.EndPoints {
			out.Listeners = append(out.Listeners, msg.DescribeQuorumResponseListener{Name: e.Name, Host: e.Host, Port: e.Port})
		}
		return out
	}
	if h.ControllerAt != nil {
		if host, port, ok := h.ControllerAt(id); ok {
			out.Listeners = []msg.DescribeQuorumResponseListener{{Name: h.Broker.ControllerListenerName(), Host: host, Port: uint16(port)}}
		}
	}
	return out
}
