package api

import (
	"context"
	"errors"
	"slices"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// createTopics answers CreateTopics (key 19, v2-v7).
func (h *Handlers) createTopics(c *Call, req *msg.CreateTopicsRequest) (*msg.CreateTopicsResponse, error) {
	specs := make([]replication.TopicSpec, 0, len(req.Topics))
	early := make(map[string]error) // refused before the controller is asked
	for _, t := range req.Topics {
		s := replication.TopicSpec{Name: t.Name, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor, Configs: make(map[string]*string)}
		for _, a := range t.Assignments {
			if s.Assignment == nil {
				s.Assignment = make(map[int32][]int32)
			}
			if _, twice := s.Assignment[a.PartitionIndex]; twice {
				early[t.Name] = replication.Refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.PartitionIndex)
			}
			s.Assignment[a.PartitionIndex] = slices.Clone(a.BrokerIds)
		}
		for _, cfg := range t.Configs {
			s.Configs[cfg.Name] = cfg.Value
		}
		specs = append(specs, s)
	}
	asked := slices.DeleteFunc(slices.Clone(specs), func(s replication.TopicSpec) bool { return early[s.Name] != nil })
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreateTopics(ctx, asked, h.defaults(), req.ValidateOnly)
	resp := new(msg.CreateTopicsResponse)
	said := make(map[string]bool)
	next := 0
	for _, s := range specs {
		result := replication.TopicResult{Name: s.Name, Err: early[s.Name]}
		if result.Err == nil {
			result = results[next]
			next++
			if err != nil {
				result = replication.TopicResult{Name: s.Name, Err: err}
			}
		}
		if said[s.Name] {
			continue // a name that stands twice is answered once
		}
		said[s.Name] = true
		resp.Topics = append(resp.Topics, h.created(c, s, result, req.ValidateOnly))
	}
	return resp, nil
}

func (h *Handlers) created(c *Call, s replication.TopicSpec, result replication.TopicResult, validateOnly bool) msg.CreateTopicsResponseCreatableTopicResult {
	r := msg.CreateTopicsResponseCreatableTopicResult{}
	r.SetDefaults()
	r.Name = s.Name
	if result.Err != nil {
		r.ErrorCode, r.ErrorMessage = int16(h.code(result.Err)), text(result.Err)
		r.Configs = []msg.CreateTopicsResponseCreatableTopicConfigs{}
		return r
	}
	r.ErrorMessage = nil
	r.TopicId, r.NumPartitions, r.ReplicationFactor = result.ID, result.Partitions, result.ReplicationFactor
	if validateOnly {
		r.TopicId = prim.UUID{}
	}
	if c.Version() < 5 {
		return r
	}
	own := make(map[string]string, len(s.Configs))
	for k, v := range s.Configs {
		if v != nil {
			own[k] = *v
		}
	}
	for _, d := range config.Describe(config.KindTopic, h.layers(own), nil) {
		r.Configs = append(r.Configs, msg.CreateTopicsResponseCreatableTopicConfigs{Name: d.Name, Value: d.Value, ReadOnly: d.ReadOnly, ConfigSource: int8(d.Source), IsSensitive: d.Sensitive})
	}
	return r
}

// deleteTopics answers DeleteTopics (key 20, v1-v6).
func (h *Handlers) deleteTopics(c *Call, req *msg.DeleteTopicsRequest) (*msg.DeleteTopicsResponse, error) {
	resp := new(msg.DeleteTopicsResponse)
	topics := req.Topics
	if c.Version() < 6 {
		topics = nil
		for i := range req.TopicNames {
			topics = append(topics, msg.DeleteTopicsRequestDeleteTopicState{Name: &req.TopicNames[i]})
		}
	}
	image := h.Controller.Image()
	seen := make(map[prim.UUID]int)
	var ids []prim.UUID
	var rows []int // of ids in the response
	for _, t := range topics {
		r := msg.DeleteTopicsResponseDeletableTopicResult{Name: t.Name, TopicId: t.TopicId}
		err := func() error {
			if t.Name != nil && !t.TopicId.IsZero() {
				return replication.Refuse(kerr.InvalidRequest, "You may not specify both topic name and topic id.")
			}
			if t.Name == nil && t.TopicId.IsZero() {
				return replication.Refuse(kerr.InvalidRequest, "Neither topic name nor id were specified.")
			}
			if !h.Broker.DeleteTopicEnable {
				if c.Version() < 3 {
					return kerr.InvalidRequest
				}
				return kerr.TopicDeletionDisabled
			}
			found, err := findTopic(image, t.Name, t.TopicId)
			if errors.Is(err, kerr.InvalidTopicException) {
				err = kerr.UnknownTopicOrPartition
			}
			if err != nil {
				return err
			}
			r.Name, r.TopicId = &found.Name, found.ID
			if seen[found.ID]++; seen[found.ID] > 1 {
				return replication.Refuse(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied.")
			}
			ids = append(ids, found.ID)
			rows = append(rows, len(resp.Responses))
			return nil
		}()
		r.ErrorCode, r.ErrorMessage = int16(h.code(err)), text(err)
		resp.Responses = append(resp.Responses, r)
	}
	if len(ids) == 0 {
		return resp, nil
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.DeleteTopics(ctx, ids)
	for i, at := range rows {
		e := err
		if e == nil {
			e = results[i].Err
		}
		resp.Responses[at].ErrorCode, resp.Responses[at].ErrorMessage = int16(h.code(e)), text(e)
		if e == nil && h.Groups != nil {
			h.Groups.TopicDeleted(results[i].Name)
		}
	}
	return resp, nil
}

// createPartitions answers CreatePartitions (key 37, v0-v3).
func (h *Handlers) createPartitions(c *Call, req *msg.CreatePartitionsRequest) (*msg.CreatePartitionsResponse, error) {
	resp := new(msg.CreatePartitionsResponse)
	count := make(map[string]int)
	for _, t := range req.Topics {
		count[t.Name]++
	}
	var specs []replication.PartitionsSpec
	for _, t := range req.Topics {
		if count[t.Name] > 1 {
			if count[t.Name] < 1<<16 {
				err := replication.Refuse(kerr.InvalidRequest, "Duplicate topic name.")
				resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: t.Name, ErrorCode: int16(kerr.InvalidRequest), ErrorMessage: text(err)})
				count[t.Name] = 1 << 16 // said
			}
			continue
		}
		s := replication.PartitionsSpec{Name: t.Name, Count: t.Count}
		if t.Assignments != nil {
			s.Assignment = make([][]int32, 0, len(t.Assignments))
			for _, a := range t.Assignments {
				s.Assignment = append(s.Assignment, slices.Clone(a.BrokerIds))
			}
		}
		specs = append(specs, s)
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreatePartitions(ctx, specs, req.ValidateOnly)
	for i, s := range specs {
		e := err
		if e == nil {
			e = results[i].Err
		}
		resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: s.Name, ErrorCode: int16(h.code(e)), ErrorMessage: text(e)})
	}
	return resp, nil
}

// deleteRecords answers DeleteRecords (key 21, v0-v2).
func (h *Handlers) deleteRecords(c *Call, req *msg.DeleteRecordsRequest) (*msg.DeleteRecordsResponse, error) {
	resp := new(msg.DeleteRecordsResponse)
	for _, t := range req.Topics {
		out := msg.DeleteRecordsResponseDeleteRecordsTopicResult{Name: t.Name}
		for _, p := range t.Partitions {
			low, err := h.deleteBelow(t.Name, p.PartitionIndex, p.Offset)
			if err != nil {
				low = -1
			}
			out.Partitions = append(out.Partitions, msg.DeleteRecordsResponseDeleteRecordsPartitionResult{PartitionIndex: p.PartitionIndex, LowWatermark: low, ErrorCode: int16(h.code(err))})
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp, nil
}

func (h *Handlers) deleteBelow(topic string, index int32, offset int64) (int64, error) {
	if meta.InternalTopic(topic) {
		return -1, kerr.InvalidTopicException
	}
	p, err := h.leader(topic, index, -1)
	if err != nil {
		return -1, err
	}
	conf, err := h.Replicas.TopicConfig(h.Controller.Image(), topic)
	if err != nil {
		return -1, err
	}
	if conf.Compact && !conf.Delete {
		return -1, kerr.PolicyViolation
	}
	return p.DeleteRecords(offset)
}

// describeTopicPartitions answers DescribeTopicPartitions (key 75, v0): topics a
// page at a time, in order of name.
func (h *Handlers) describeTopicPartitions(c *Call, req *msg.DescribeTopicPartitionsRequest) (*msg.DescribeTopicPartitionsResponse, error) {
	resp := new(msg.DescribeTopicPartitionsResponse)
	resp.SetDefaults()
	limit := max(min(int(req.ResponsePartitionLimit), h.Broker.RequestPartitionSizeLimit), 1)
	image := h.Controller.Image()
	from, first := "", int32(0)
	if req.Cursor != nil {
		from, first = req.Cursor.TopicName, req.Cursor.PartitionIndex
		if first < 0 {
			return nil, errors.Join(ErrMalformed, errors.New("negative partition in a cursor"))
		}
	}
	var names []string
	if len(req.Topics) == 0 {
		image.Topics(from, func(t *meta.Topic) bool {
			names = append(names, t.Name)
			return len(names) <= limit
		})
	} else {
		for _, t := range req.Topics {
			if t.Name >= from {
				names = append(names, t.Name)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, topic := range names {
		if limit <= 0 {
			resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic}
			break
		}
		out := msg.DescribeTopicPartitionsResponseTopic{}
		out.SetDefaults()
		out.Name = &topic
		t, err := findTopic(image, &topic, prim.UUID{})
		if err != nil {
			out.ErrorCode = int16(h.code(err))
			out.TopicAuthorizedOperations = topicOperations
			resp.Topics = append(resp.Topics, out)
			continue
		}
		out.TopicId, out.IsInternal, out.TopicAuthorizedOperations = t.ID, t.Internal(), topicOperations
		start := int32(0)
		if topic == from {
			start = first
		}
		for i := int(start); i < len(t.Partitions) && limit > 0; i++ {
			p := t.Partitions[i]
			leader, code := h.leaderOf(c, image, p)
			d := msg.DescribeTopicPartitionsResponsePartition{}
			d.SetDefaults()
			d.ErrorCode, d.PartitionIndex, d.LeaderId, d.LeaderEpoch = int16(code), int32(i), leader, p.LeaderEpoch
			d.ReplicaNodes, d.IsrNodes, d.OfflineReplicas = p.Replicas, p.InSync, offline(image, p)
			// Null is allowed on the wire and breaks the Java client.
			d.EligibleLeaderReplicas = append([]int32{}, p.EligibleLeader...)
			d.LastKnownElr = append([]int32{}, p.LastKnownELR...)
			out.Partitions = append(out.Partitions, d)
			limit--
			if limit == 0 && i+1 < len(t.Partitions) {
				resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic, PartitionIndex: int32(i + 1)}
			}
		}
		resp.Topics = append(resp.Topics, out)
		if resp.NextCursor != nil {
			break
		}
	}
	return resp, nil
}

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
			if p.Log().Err() != nil {
				out.ErrorCode = int16(kerr.KafkaStorageError)
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
