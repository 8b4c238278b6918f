package client

import (
	"context"

	"github.com/klamm-io/klamm/wire/msg"
)

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
