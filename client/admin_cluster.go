package client

import (
	"context"
	"slices"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Quorum is what DescribeQuorum returns of the controllers.
type Quorum struct {
	Leader        int32 // the active controller, -1 if there is none
	Epoch         int32
	HighWatermark int64 // offset of the metadata log below which all is committed
	Voters        []QuorumVoter
}

// QuorumVoter is one controller.
type QuorumVoter struct {
	ID        int32
	EndOffset int64     // of its metadata log, -1 if it is not known
	LastFetch time.Time // when it was heard of last; zero if that is not known
	CaughtUp  time.Time // when it had all, last; zero if that is not known
}

// DescribeQuorum returns how the controllers stand.
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
		out = Quorum{Leader: p.LeaderId, Epoch: p.LeaderEpoch, HighWatermark: p.HighWatermark}
		for _, v := range p.CurrentVoters {
			out.Voters = append(out.Voters, QuorumVoter{v.ReplicaId, v.LogEndOffset, timeOf(v.LastFetchTimestamp), timeOf(v.LastCaughtUpTimestamp)})
		}
		slices.SortFunc(out.Voters, func(x, y QuorumVoter) int { return int(x.ID - y.ID) })
		return nil
	})
	return out, err
}

// UnregisterBroker takes a broker that has stopped for good out of the metadata. It does
// not move the replicas that the broker has.
func (a *Admin) UnregisterBroker(ctx context.Context, id int32) error {
	return a.onController(ctx, "UnregisterBroker", func(ctx context.Context, cn versioned) error {
		resp := new(msg.UnregisterBrokerResponse)
		if err := cn.Do(ctx, &msg.UnregisterBrokerRequest{BrokerId: id}, resp); err != nil {
			return err
		}
		return because(resp.ErrorCode, resp.ErrorMessage)
	})
}

func timeOf(ms int64) time.Time {
	if ms < 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// ElectLeaders has the first replica of partitions lead where it is in sync, or with
// unclean any replica that lives where there is no leader, at the price of records that
// only others have. It returns the error of each partition; kerr.ElectionNotNeeded says
// that there is nothing to do.
func (a *Admin) ElectLeaders(ctx context.Context, unclean bool, tps ...TopicPartition) (map[TopicPartition]error, error) {
	req := &msg.ElectLeadersRequest{TimeoutMs: a.timeoutMs()}
	if unclean {
		req.ElectionType = 1
	}
	at := make(map[string]int)
	for _, tp := range tps {
		i, ok := at[tp.Topic]
		if !ok {
			i = len(req.TopicPartitions)
			at[tp.Topic] = i
			req.TopicPartitions = append(req.TopicPartitions, msg.ElectLeadersRequestTopicPartitions{Topic: tp.Topic})
		}
		req.TopicPartitions[i].Partitions = append(req.TopicPartitions[i].Partitions, tp.Partition)
	}
	out := make(map[TopicPartition]error)
	err := a.onController(ctx, "ElectLeaders", func(ctx context.Context, cn versioned) error {
		resp := new(msg.ElectLeadersResponse)
		if err := cn.Do(ctx, req, resp); err != nil {
			return err
		}
		if err := codeOf(resp.ErrorCode); err != nil {
			return err
		}
		for _, t := range resp.ReplicaElectionResults {
			for _, p := range t.PartitionResult {
				out[TopicPartition{t.Topic, p.PartitionId}] = because(p.ErrorCode, p.ErrorMessage)
			}
		}
		return nil
	})
	return out, err
}
