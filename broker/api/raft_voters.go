package api

import (
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of AddRaftVoter add to version 0:
//
//	v1   request: AckWhenCommitted
//
// RemoveRaftVoter and UpdateRaftVoter have one version, 0.

// addRaftVoter answers AddRaftVoter (key 80, v0-v1): an observer becomes a voter of the
// metadata quorum once it has what is committed (KIP-853). It is always answered after the
// change is committed, which AckWhenCommitted asks for.
func (h *Handlers) addRaftVoter(c *Call, req *msg.AddRaftVoterRequest) (*msg.AddRaftVoterResponse, error) {
	p := quorum.Peer{ID: req.VoterId, Directory: req.VoterDirectoryId}
	var at []control.EndPoint
	for _, l := range req.Listeners {
		at = append(at, control.EndPoint{Name: l.Name, Host: l.Host, Port: int32(l.Port)})
	}
	err := h.refuseVoter(voterChange{what: "Add", doing: "adding", clusterID: req.ClusterId, voter: p, at: at, listens: true})
	if err == nil {
		ctx, cancel := within(c, req.TimeoutMs)
		defer cancel()
		err = c.parked(func() error { return h.Controller.AddVoter(ctx, p, at) })
	}
	h.votersChanged(c, "added a voter of the metadata quorum", p, err)
	return &msg.AddRaftVoterResponse{ErrorCode: h.voterCode(err), ErrorMessage: text(err)}, nil
}

// removeRaftVoter answers RemoveRaftVoter (key 81, v0): a voter goes on as an observer.
func (h *Handlers) removeRaftVoter(c *Call, req *msg.RemoveRaftVoterRequest) (*msg.RemoveRaftVoterResponse, error) {
	p := quorum.Peer{ID: req.VoterId, Directory: req.VoterDirectoryId}
	err := h.refuseVoter(voterChange{what: "Remove", doing: "removing", clusterID: req.ClusterId, voter: p})
	if err == nil {
		ctx, cancel := h.controllerContext(c)
		defer cancel()
		err = c.parked(func() error { return h.Controller.RemoveVoter(ctx, p) })
	}
	h.votersChanged(c, "removed a voter of the metadata quorum", p, err)
	return &msg.RemoveRaftVoterResponse{ErrorCode: h.voterCode(err), ErrorMessage: text(err)}, nil
}

// updateRaftVoter answers UpdateRaftVoter (key 82, v0): a voter listens somewhere else.
func (h *Handlers) updateRaftVoter(c *Call, req *msg.UpdateRaftVoterRequest) (*msg.UpdateRaftVoterResponse, error) {
	resp := new(msg.UpdateRaftVoterResponse)
	resp.SetDefaults()
	p := quorum.Peer{ID: req.VoterId, Directory: req.VoterDirectoryId}
	var at []control.EndPoint
	for _, l := range req.Listeners {
		at = append(at, control.EndPoint{Name: l.Name, Host: l.Host, Port: int32(l.Port)})
	}
	q := h.Controller.Quorum()
	err := h.refuseVoter(voterChange{what: "Update", doing: "updating", clusterID: req.ClusterId, epoch: &req.CurrentLeaderEpoch, voter: p, at: at, listens: true})
	switch {
	case err != nil:
	case req.KRaftVersionFeature.MinSupportedVersion > 1 || req.KRaftVersionFeature.MaxSupportedVersion < 1:
		err = kerr.Refuse(kerr.InvalidRequest, "The voter knows the versions %d to %d of kraft.version, and the quorum has 1",
			req.KRaftVersionFeature.MinSupportedVersion, req.KRaftVersionFeature.MaxSupportedVersion)
	default:
		ctx, cancel := h.controllerContext(c)
		defer cancel()
		err = c.parked(func() error { return h.Controller.UpdateVoter(ctx, p, at) })
	}
	h.votersChanged(c, "a voter of the metadata quorum has moved", p, err)
	resp.ErrorCode = h.voterCode(err)
	resp.CurrentLeader.LeaderId, resp.CurrentLeader.LeaderEpoch = q.Leader, q.Epoch
	if h.ControllerAt != nil {
		if host, port, ok := h.ControllerAt(q.Leader); ok {
			resp.CurrentLeader.Host, resp.CurrentLeader.Port = host, port
		}
	}
	return resp, nil
}

// voterChange is what a request says of a change of the voters.
type voterChange struct {
	what, doing string // the change, as Kafka's messages name it
	clusterID   *string
	epoch       *int32 // of the leader that the request is for; nil for any
	voter       quorum.Peer
	at          []control.EndPoint // where the voter listens
	listens     bool               // at must say so
}

// refuseVoter returns why the voters cannot be changed so, as far as the request says. What is
// wrong first in KafkaRaftClient.handleAddVoterRequest and its kin is said.
func (h *Handlers) refuseVoter(v voterChange) error {
	leaderEpoch := h.Controller.Quorum().Epoch
	switch {
	case v.clusterID != nil && *v.clusterID != h.ClusterID:
		return kerr.Refuse(kerr.InconsistentClusterId, "The given id %q doesn't match the cluster id %q", *v.clusterID, h.ClusterID)
	case v.epoch != nil && *v.epoch < leaderEpoch:
		return kerr.FencedLeaderEpoch
	case v.epoch != nil && *v.epoch > leaderEpoch:
		return kerr.UnknownLeaderEpoch
	case !h.Controller.Active():
		return kerr.NotController
	case v.voter.ID < 0 || v.voter.Directory.IsZero():
		return kerr.Refuse(kerr.InvalidRequest, "%s voter request didn't include a valid voter", v.what)
	}
	name := h.Broker.ControllerListenerName()
	if v.listens && !slices.ContainsFunc(v.at, func(e control.EndPoint) bool { return strings.EqualFold(e.Name, name) && e.Host != "" && e.Port > 0 }) {
		return kerr.Refuse(kerr.InvalidRequest, "%s voter request didn't include the endpoint (%v) for the default listener %s", v.what, v.at, name)
	}
	if len(h.Broker.QuorumVoters) > 0 || h.Broker.Lone() {
		return kerr.Refuse(kerr.UnsupportedVersion, "Cluster doesn't support %s voter because the kraft.version feature is 0", v.doing)
	}
	return nil
}

// voterCode is code for the requests that change voters: a node that is not the active
// controller is no leader of the quorum.
func (h *Handlers) voterCode(err error) int16 {
	code := h.code(err)
	if code == kerr.NotController {
		code = kerr.NotLeaderOrFollower
	}
	return int16(code)
}

// votersChanged logs what became of a change of the voters.
func (h *Handlers) votersChanged(c *Call, what string, p quorum.Peer, err error) {
	if err != nil {
		h.Logger.Debug("refused to change the voters of the metadata quorum", zap.Int32("voter", p.ID), zap.String("directory", p.Directory.String()), zap.Error(err))
		return
	}
	h.changed(c, what, zap.Int32("voter", p.ID), zap.String("directory", p.Directory.String()))
}
