package api

import (
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ListOffsets add to version 1:
//
//	v2   request: IsolationLevel; response: ThrottleTimeMs
//	v3   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v4   request: Topics.Partitions.CurrentLeaderEpoch; response: Topics.Partitions.LeaderEpoch
//	v5   the same fields
//	v6   compact and tagged fields
//	v7   the same fields
//	v8   the same fields
//	v9   the same fields
//	v10  request: TimeoutMs
//	v11  the same fields

// listOffsets answers ListOffsets (key 2, v1-v11): for each partition, the first
// offset at or after a timestamp in Unix milliseconds. Negative timestamps name
// positions (KIP-79, KIP-98, KIP-734, KIP-405, KIP-1005).
func (h *Handlers) listOffsets(c *Call, req *msg.ListOffsetsRequest) (*msg.ListOffsetsResponse, error) {
	resp := new(msg.ListOffsetsResponse)
	type key struct {
		topic string
		index int32
	}
	count, answered := make(map[key]int), make(map[key]bool)
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			count[key{t.Name, p.PartitionIndex}]++
		}
	}
	for _, t := range req.Topics {
		out := msg.ListOffsetsResponseListOffsetsTopicResponse{Name: t.Name}
		for _, p := range t.Partitions {
			this := key{t.Name, p.PartitionIndex}
			if answered[this] {
				continue // one that stands twice is refused once
			}
			answered[this] = true
			r := msg.ListOffsetsResponseListOffsetsPartitionResponse{}
			r.SetDefaults()
			r.PartitionIndex = p.PartitionIndex
			var err error = kerr.InvalidRequest
			if count[this] == 1 {
				var at log.TimestampOffset
				if at, err = h.offsetAt(c, t.Name, p, req); err == nil {
					r.Offset, r.Timestamp = at.Offset, at.Timestamp
					if c.Version() >= 4 {
						r.LeaderEpoch = at.LeaderEpoch
					}
				}
			}
			r.ErrorCode = int16(h.code(err))
			out.Partitions = append(out.Partitions, r)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp, nil
}

// Timestamps that name a position.
const (
	latest         = -1
	earliest       = -2
	maxTimestamp   = -3
	earliestLocal  = -4
	latestTiered   = -5
	earliestRemote = -6
)

// offsetAt returns the offset that a timestamp stands for, -1 for none.
func (h *Handlers) offsetAt(c *Call, topic string, req msg.ListOffsetsRequestListOffsetsPartition, all *msg.ListOffsetsRequest) (log.TimestampOffset, error) {
	none := log.TimestampOffset{Offset: -1, Timestamp: -1, LeaderEpoch: -1}
	since := map[int64]int16{maxTimestamp: 7, earliestLocal: 8, latestTiered: 9, earliestRemote: 11}
	if v, special := since[req.Timestamp]; req.Timestamp < earliestRemote || special && c.Version() < v {
		return none, kerr.UnsupportedVersion
	}
	p, err := h.leader(topic, req.PartitionIndex, req.CurrentLeaderEpoch)
	if err != nil {
		return none, err
	}
	l := p.Log()
	limit := l.EndOffset()
	if consumer := all.ReplicaId == -1; consumer {
		limit = l.HighWatermark()
		if all.IsolationLevel == 1 {
			limit = l.LastStableOffset()
		}
		if !p.Settled() && (req.Timestamp == latest || req.Timestamp >= 0 || req.Timestamp == maxTimestamp) {
			if c.Version() >= 5 {
				return none, kerr.OffsetNotAvailable
			}
			return none, kerr.LeaderNotAvailable
		}
	}
	epochAt := func(offset int64) int32 {
		if c.Version() < 4 {
			return -1
		}
		return l.EpochAt(offset)
	}
	switch req.Timestamp {
	case latest:
		return log.TimestampOffset{Offset: limit, Timestamp: -1, LeaderEpoch: p.LeaderEpoch()}, nil
	case earliest, earliestLocal:
		return log.TimestampOffset{Offset: l.StartOffset(), Timestamp: -1, LeaderEpoch: epochAt(l.StartOffset())}, nil
	case latestTiered, earliestRemote: // nothing is in remote storage
		return none, nil
	case maxTimestamp:
		at, ok, err := l.MaxTimestampOffset(limit)
		if err != nil || !ok {
			return none, err
		}
		return at, nil
	}
	at, ok, err := l.OffsetForTime(req.Timestamp, limit)
	if err != nil || !ok {
		return none, err
	}
	return at, nil
}
