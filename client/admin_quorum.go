package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Quorum is what DescribeQuorum returns of the nodes that hold the metadata.
type Quorum struct {
	Leader        int32 // the active controller, -1 if there is none
	Epoch         int32
	HighWatermark int64           // offset of the metadata log below which all is committed
	Voters        []QuorumReplica // the controllers, in order of id
	Observers     []QuorumReplica // who else has the metadata: brokers that are no controllers, and controllers that do not vote
}

// QuorumReplica is a node that holds the metadata.
type QuorumReplica struct {
	ID        int32
	Directory string         // directory.id of its metadata, "" if it is not known
	EndOffset int64          // of its metadata log, -1 if it is not known
	LastFetch time.Time      // when it was heard of last; zero if that is not known
	CaughtUp  time.Time      // when it had all, last; zero if that is not known
	Listeners []RaftListener // where a voter is reached; nil if that is not known
}

// RaftListener is where a controller listens.
type RaftListener struct {
	Name, Host string
	Port       uint16
}

// String returns NAME://host:port.
func (l RaftListener) String() string {
	return l.Name + "://" + net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
}

// DescribeQuorum returns how the nodes stand that hold the metadata.
func (a *Admin) DescribeQuorum(ctx context.Context) (out Quorum, err error) {
	const metadataTopic = "__cluster_metadata"
	req := &msg.DescribeQuorumRequest{Topics: []msg.DescribeQuorumRequestTopicData{{TopicName: metadataTopic, Partitions: []msg.DescribeQuorumRequestPartitionData{{}}}}}
	err = a.call(ctx, "DescribeQuorum", func(ctx context.Context) error {
		resp := new(msg.DescribeQuorumResponse)
		if err := a.cl.doAny(ctx, req, resp); err != nil {
			return err
		}
		if err := because(resp.ErrorCode, resp.ErrorMessage); err != nil {
			return err
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return kerr.UnknownServerError
		}
		p := &resp.Topics[0].Partitions[0]
		if err := because(p.ErrorCode, p.ErrorMessage); err != nil {
			return err
		}
		out = Quorum{Leader: p.LeaderId, Epoch: p.LeaderEpoch, HighWatermark: p.HighWatermark,
			Voters: quorumReplicas(p.CurrentVoters, resp.Nodes), Observers: quorumReplicas(p.Observers, resp.Nodes)}
		return nil
	})
	return out, err
}

func quorumReplicas(all []msg.DescribeQuorumResponseReplicaState, nodes []msg.DescribeQuorumResponseNode) (out []QuorumReplica) {
	for _, v := range all {
		r := QuorumReplica{ID: v.ReplicaId, EndOffset: v.LogEndOffset, LastFetch: timeOf(v.LastFetchTimestamp), CaughtUp: timeOf(v.LastCaughtUpTimestamp)}
		if !v.ReplicaDirectoryId.IsZero() {
			r.Directory = v.ReplicaDirectoryId.String()
		}
		for _, n := range nodes {
			if n.NodeId != v.ReplicaId {
				continue
			}
			for _, l := range n.Listeners {
				r.Listeners = append(r.Listeners, RaftListener{l.Name, l.Host, l.Port})
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y QuorumReplica) int { return int(x.ID - y.ID) })
	return out
}

func timeOf(ms int64) time.Time {
	if ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// AddRaftVoter makes a voter on the metadata of a controller that runs, once it has all that is
// committed (KIP-853). directory is the directory.id of its metadata, and at is where it
// listens for other controllers. The error is kerr.RequestTimedOut if it has not got so far
// after patience; 0 means RequestTimeout.
func (a *Admin) AddRaftVoter(ctx context.Context, id int32, directory string, at []RaftListener, patience time.Duration) error {
	dir, err := prim.ParseUUID(directory)
	if err != nil {
		return err
	}
	req := new(msg.AddRaftVoterRequest)
	req.SetDefaults()
	req.ClusterId, req.TimeoutMs, req.VoterId, req.VoterDirectoryId = nil, a.timeoutMs(), id, dir
	if patience > 0 {
		req.TimeoutMs = min(req.TimeoutMs, int32(patience.Milliseconds()))
	}
	for _, l := range at {
		req.Listeners = append(req.Listeners, msg.AddRaftVoterRequestListener{Name: l.Name, Host: l.Host, Port: l.Port})
	}
	var late error // it would be waited for again
	err = a.onController(ctx, "AddRaftVoter", func(ctx context.Context, cn versioned) error {
		resp := new(msg.AddRaftVoterResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		err := because(resp.ErrorCode, resp.ErrorMessage)
		if errors.Is(err, kerr.RequestTimedOut) {
			late, err = err, nil
		}
		return err
	})
	return errors.Join(err, late)
}

// RemoveRaftVoter has a voter on the metadata not vote any more (KIP-853). directory is the
// directory.id of its metadata.
func (a *Admin) RemoveRaftVoter(ctx context.Context, id int32, directory string) error {
	dir, err := prim.ParseUUID(directory)
	if err != nil {
		return err
	}
	req := &msg.RemoveRaftVoterRequest{VoterId: id, VoterDirectoryId: dir}
	return a.onController(ctx, "RemoveRaftVoter", func(ctx context.Context, cn versioned) error {
		resp := new(msg.RemoveRaftVoterResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		return because(resp.ErrorCode, resp.ErrorMessage)
	})
}
