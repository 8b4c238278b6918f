package api

import (
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DeleteRecords add to version 0:
//
//	v1   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v2   compact and tagged fields

// deleteRecords answers DeleteRecords (key 21, v0-v2).
func (h *Handlers) deleteRecords(c *Call, req *msg.DeleteRecordsRequest) (*msg.DeleteRecordsResponse, error) {
	resp := new(msg.DeleteRecordsResponse)
	type key struct {
		topic string
		index int32
	}
	last := make(map[key]int64) // of a partition that stands twice, what was said last counts
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			last[key{t.Name, p.PartitionIndex}] = p.Offset
		}
	}
	answered := make(map[key]bool)
	var all []replication.Deletion
	for _, t := range req.Topics {
		out := msg.DeleteRecordsResponseDeleteRecordsTopicResult{Name: t.Name}
		for _, p := range t.Partitions {
			this := key{t.Name, p.PartitionIndex}
			if answered[this] {
				continue
			}
			answered[this] = true
			p.Offset = last[this]
			r := msg.DeleteRecordsResponseDeleteRecordsPartitionResult{PartitionIndex: p.PartitionIndex, LowWatermark: -1}
			partition, err := h.deletable(t.Name, p.PartitionIndex)
			if r.ErrorCode = int16(h.code(err)); err == nil {
				all = append(all, replication.Deletion{Partition: partition, Offset: p.Offset})
			}
			out.Partitions = append(out.Partitions, r)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	h.Replicas.DeleteRecords(all)
	next := 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			r := &resp.Topics[i].Partitions[j]
			if r.ErrorCode != 0 {
				continue
			}
			if d := all[next]; d.Err == nil {
				r.LowWatermark = d.Low
			} else {
				r.ErrorCode = int16(h.code(d.Err))
			}
			next++
		}
	}
	return resp, nil
}

// deletable returns a partition whose records a client may delete.
func (h *Handlers) deletable(topic string, index int32) (*replication.Partition, error) {
	if meta.InternalTopic(topic) {
		return nil, kerr.InvalidTopicException
	}
	p, err := h.leader(topic, index, -1)
	if err != nil {
		return nil, err
	}
	conf, err := h.Replicas.TopicConfig(h.Controller.Image(), topic)
	if err != nil {
		return nil, err
	}
	if conf.Compact && !conf.Delete {
		return nil, kerr.PolicyViolation
	}
	return p, nil
}
