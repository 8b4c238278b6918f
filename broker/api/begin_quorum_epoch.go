package api

import (
	"fmt"
	"net"
	"slices"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What the versions of BeginQuorumEpoch add to version 0:
//
//	v1   request: VoterId, Topics.Partitions.VoterDirectoryId, LeaderEndpoints; response: NodeEndpoints; compact and tagged fields

// RaftStreams takes connections over on which raft is spoken.
type RaftStreams interface {
	Take(conn net.Conn, peer int32)
}

// raftTag is the unknown tagged field of BeginQuorumEpoch which says that the connection
// is to be handed over to raft. Its value is the version of what is spoken on it.
const (
	raftTag     = 10000
	raftVersion = 1
)

// RaftRequest returns the request with which node opens a connection to peer that raft
// can speak over, and its version.
func RaftRequest(clusterID string, node, peer int32) (*msg.BeginQuorumEpochRequest, int16) {
	return &msg.BeginQuorumEpochRequest{ClusterId: &clusterID, VoterId: peer, Tags: &prim.Tags{{ID: raftTag, Value: []byte{raftVersion}}},
		Topics: []msg.BeginQuorumEpochRequestTopicData{{TopicName: meta.MetadataTopic,
			Partitions: []msg.BeginQuorumEpochRequestPartitionData{{LeaderId: node}}}}}, 1
}

// beginQuorumEpoch answers BeginQuorumEpoch (key 53, v0-v1) of another node of klamm:
// raft is spoken on the connection from then on. KRaft's own are refused, since their
// raft is another one.
func (h *Handlers) beginQuorumEpoch(c *Call, body []byte) (Answer, error) {
	req, resp := new(msg.BeginQuorumEpochRequest), new(msg.BeginQuorumEpochResponse)
	if err := decode(req, body, c.Version()); err != nil {
		return Answer{}, malformed(c, err)
	}
	peer, err := h.raftPeer(req)
	if err != nil {
		h.Logger.Warn("refused a connection for raft", zap.String("peer", c.Session.RemoteHost), zap.Error(err))
		resp.ErrorCode = int16(h.code(err))
		return Answer{Response: resp}, nil
	}
	return Answer{Response: resp, Take: func(nc net.Conn) { h.Raft.Take(nc, peer) }}, nil
}

// raftPeer returns who wants to speak raft, or why it may not.
func (h *Handlers) raftPeer(req *msg.BeginQuorumEpochRequest) (int32, error) {
	switch {
	case req.ClusterId == nil || *req.ClusterId != h.ClusterID:
		return 0, fmt.Errorf("%w: it names cluster %q, and this is %q", kerr.InconsistentClusterId, name(req.ClusterId), h.ClusterID)
	case req.Tags == nil || len(*req.Tags) != 1 || (*req.Tags)[0].ID != raftTag || string((*req.Tags)[0].Value) != string([]byte{raftVersion}):
		return 0, fmt.Errorf("%w: raft version %d of klamm is spoken here", kerr.UnsupportedVersion, raftVersion)
	case req.VoterId != h.NodeID:
		return 0, fmt.Errorf("%w: it looks for node %d, and this is %d", kerr.InvalidVoterKey, req.VoterId, h.NodeID)
	case h.Raft == nil || len(req.Topics) != 1 || len(req.Topics[0].Partitions) != 1:
		return 0, kerr.InvalidRequest
	}
	peer := req.Topics[0].Partitions[0].LeaderId
	if peer == h.NodeID || !slices.ContainsFunc(h.Voters, func(v config.Voter) bool { return v.ID == peer }) {
		return 0, fmt.Errorf("%w: node %d is no other controller", kerr.InvalidVoterKey, peer)
	}
	return peer, nil
}
