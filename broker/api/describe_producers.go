package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/msg"
)

// DescribeProducers has one version, 0.

// describeProducers answers DescribeProducers (key 61, v0).
func (h *Handlers) describeProducers(c *Call, req *msg.DescribeProducersRequest) (*msg.DescribeProducersResponse, error) {
	resp := new(msg.DescribeProducersResponse)
	for _, t := range req.Topics {
		out := msg.DescribeProducersResponseTopicResponse{Name: t.Name}
		for _, index := range t.PartitionIndexes {
			r := msg.DescribeProducersResponsePartitionResponse{}
			r.SetDefaults()
			r.PartitionIndex = index
			p, err := h.partition(t.Name, index) // a follower knows them too
			if bad := control.CheckTopicName(t.Name); bad != nil {
				err = bad
			}
			if err != nil {
				r.ErrorCode, r.ErrorMessage = int16(h.code(err)), text(err)
			} else {
				for _, s := range p.Log().Producers() {
					r.ActiveProducers = append(r.ActiveProducers, msg.DescribeProducersResponseProducerState{
						ProducerId: s.ProducerID, ProducerEpoch: int32(s.Epoch), LastSequence: s.LastSequence, LastTimestamp: s.LastTimestamp,
						CoordinatorEpoch: s.CoordinatorEpoch, CurrentTxnStartOffset: s.CurrentTxnStartOffset})
				}
			}
			out.Partitions = append(out.Partitions, r)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}
