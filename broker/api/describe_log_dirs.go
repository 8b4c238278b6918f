package api

import (
	"context"
	"errors"

	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeLogDirs add to version 1:
//
//	v2   compact and tagged fields
//	v3   response: ErrorCode
//	v4   response: Results.TotalBytes, Results.UsableBytes
//	v5   response: Results.IsCordoned

// describeLogDirs answers DescribeLogDirs (key 35, v1-v5): what lies in each log
// directory.
func (h *Handlers) describeLogDirs(c *Call, req *msg.DescribeLogDirsRequest) (*msg.DescribeLogDirsResponse, error) {
	resp := new(msg.DescribeLogDirsResponse)
	type key struct {
		topic string
		index int32
	}
	var want map[key]bool
	if req.Topics != nil {
		want = make(map[key]bool)
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				want[key{t.Topic, p}] = true
			}
		}
	}
	for _, dir := range h.Dirs {
		out := msg.DescribeLogDirsResponseDescribeLogDirsResult{}
		out.SetDefaults()
		out.LogDir = dir.Path
		if dir.Err() != nil { // what is in it is unknown
			out.ErrorCode = int16(kerr.KafkaStorageError)
			resp.Results = append(resp.Results, out)
			continue
		}
		out.TotalBytes, out.UsableBytes = dir.Space()
		topics := make(map[string]int)
		h.Replicas.Each(func(p *replication.Partition) bool {
			if p.Dir != dir || want != nil && !want[key{p.Topic, p.Index}] {
				return true
			}
			at, ok := topics[p.Topic]
			if !ok {
				at = len(out.Topics)
				topics[p.Topic] = at
				out.Topics = append(out.Topics, msg.DescribeLogDirsResponseDescribeLogDirsTopic{Name: p.Topic})
			}
			lag := max(p.HighWatermark()-p.Log().EndOffset(), 0)
			out.Topics[at].Partitions = append(out.Topics[at].Partitions, msg.DescribeLogDirsResponseDescribeLogDirsPartition{PartitionIndex: p.Index, PartitionSize: p.Log().Size(), OffsetLag: lag})
			return true
		})
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

func codeOf(err error) kerr.Code {
	var c kerr.Code
	if errors.As(err, &c) {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return kerr.RequestTimedOut
	}
	return kerr.UnknownServerError
}
