package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What the versions of BeginQuorumEpoch add to version 0:
//
//	v1   request: VoterId, Topics.Partitions.VoterDirectoryId, LeaderEndpoints; response: NodeEndpoints; compact and tagged fields

// RaftStreams takes connections over on which raft is spoken.
type RaftStreams interface {
	// Take takes one over on which the peer speaks first.
	Take(conn net.Conn, peer int32)
	// TakeReverse takes one over on which this node speaks first.
	TakeReverse(conn net.Conn, peer quorum.Peer)
}

// Unknown tagged fields of BeginQuorumEpoch:
//
//	10000  request: the connection is to be handed over to raft; the version of what is spoken, a byte.
//	       response: the id of the node that answers, int32
//	10001  request: directory.id of the node that asks, 16 bytes
//	10002  request: the connection is a reverse stream: the node that answers speaks first. Empty
const (
	raftTag      = 10000
	directoryTag = 10001
	reverseTag   = 10002
	raftVersion  = 1
)

// RaftRequest returns the request with which a node opens a connection to another that raft
// can speak over, and its version. For a reverse stream the id of to may be -1: whoever is there.
func RaftRequest(clusterID string, from, to quorum.Peer, reverse bool) (*msg.BeginQuorumEpochRequest, int16) {
	tags := prim.Tags{{ID: raftTag, Value: []byte{raftVersion}}, {ID: directoryTag, Value: from.Directory[:]}}
	if reverse {
		tags = append(tags, prim.Tag{ID: reverseTag})
	}
	return &msg.BeginQuorumEpochRequest{ClusterId: &clusterID, VoterId: to.ID, Tags: &tags,
		Topics: []msg.BeginQuorumEpochRequestTopicData{{TopicName: meta.MetadataTopic,
			Partitions: []msg.BeginQuorumEpochRequestPartitionData{{LeaderId: from.ID, VoterDirectoryId: to.Directory}}}}}, 1
}

// RaftAnswerer returns the id of the node that has answered a RaftRequest.
func RaftAnswerer(resp *msg.BeginQuorumEpochResponse) (int32, error) {
	if value, ok := tag(resp.Tags, raftTag); ok && len(value) == 4 {
		return int32(binary.BigEndian.Uint32(value)), nil
	}
	return -1, errors.New("it does not say which node it is")
}

// tag returns the value of an unknown tagged field.
func tag(tags *prim.Tags, id uint32) ([]byte, bool) {
	if tags != nil {
		for _, t := range *tags {
			if t.ID == id {
				return t.Value, true
			}
		}
	}
	return nil, false
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
	resp.Tags = &prim.Tags{{ID: raftTag, Value: binary.BigEndian.AppendUint32(nil, uint32(h.NodeID))}}
	if _, reverse := tag(req.Tags, reverseTag); reverse {
		return Answer{Response: resp, Take: func(nc net.Conn) { h.Raft.TakeReverse(nc, peer) }}, nil
	}
	return Answer{Response: resp, Take: func(nc net.Conn) { h.Raft.Take(nc, peer.ID) }}, nil
}

// raftPeer returns who wants to speak raft, or why it may not.
func (h *Handlers) raftPeer(req *msg.BeginQuorumEpochRequest) (peer quorum.Peer, err error) {
	version, ok := tag(req.Tags, raftTag)
	_, reverse := tag(req.Tags, reverseTag)
	switch {
	case req.ClusterId == nil || *req.ClusterId != h.ClusterID:
		return peer, fmt.Errorf("%w: it names cluster %q, and this is %q", kerr.InconsistentClusterId, name(req.ClusterId), h.ClusterID)
	case !ok || string(version) != string([]byte{raftVersion}):
		return peer, fmt.Errorf("%w: raft version %d of klamm is spoken here", kerr.UnsupportedVersion, raftVersion)
	case req.VoterId != h.NodeID && !(reverse && req.VoterId == -1):
		return peer, fmt.Errorf("%w: it looks for node %d, and this is %d", kerr.InvalidVoterKey, req.VoterId, h.NodeID)
	case h.Raft == nil || len(req.Topics) != 1 || len(req.Topics[0].Partitions) != 1:
		return peer, kerr.InvalidRequest
	}
	if directory := req.Topics[0].Partitions[0].VoterDirectoryId; !directory.IsZero() && directory != h.Dirs[0].ID {
		return peer, fmt.Errorf("%w: it looks for the directory %s, and this is %s", kerr.InvalidVoterKey, directory, h.Dirs[0].ID)
	}
	peer.ID = req.Topics[0].Partitions[0].LeaderId
	if directory, ok := tag(req.Tags, directoryTag); ok {
		if copy(peer.Directory[:], directory) != len(peer.Directory) || len(directory) != len(peer.Directory) {
			return peer, fmt.Errorf("%w: a directory id of %d bytes", kerr.InvalidRequest, len(directory))
		}
	}
	// Voters of controller.quorum.voters are all there are, and can be dialled.
	configured := slices.ContainsFunc(h.Broker.QuorumVoters, func(v config.Voter) bool { return v.ID == peer.ID })
	if peer.ID < 0 || peer.ID == h.NodeID || len(h.Broker.QuorumVoters) > 0 && configured == reverse {
		return peer, fmt.Errorf("%w: node %d is no other controller", kerr.InvalidVoterKey, peer.ID)
	}
	return peer, h.sameDirectory(peer)
}

// sameDirectory refuses a voter that has another directory than the one it votes with: it may
// have given votes that it does not remember. It has to be removed, and added again. An
// observer has given none.
func (h *Handlers) sameDirectory(peer quorum.Peer) error {
	for _, m := range h.Controller.Members() {
		if m.ID == peer.ID && m.Voter && !m.Directory.IsZero() && !peer.Directory.IsZero() && m.Directory != peer.Directory {
			return fmt.Errorf("%w: node %d votes with the directory %s, and this one is %s", kerr.InvalidVoterKey, peer.ID, m.Directory, peer.Directory)
		}
	}
	return nil
}
